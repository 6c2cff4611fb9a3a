"""ONNX Runtime itself: its import, and runs that their caller may leave at a deadline."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from accelerate.contract import Array, held_back

__all__ = ["ERROR", "IN_BUILDS", "LINES", "answer_of", "cancellable", "import_runtime", "run_options"]

Result = TypeVar("Result")

#: How ONNX Runtime begins its lines ("<time> [W:onnxruntime:..."), and what it says of a CPU that it does not know, as
#: on most ARM boards: "onnxruntime cpuid_info warning: Unknown CPU vendor. cpuinfo_vendor value: 0".
LINES = re.compile(
    rb"\x1b\[[\d;]*m\d{4}-\d\d-\d\d [\d:.]+ \[[VIWEF]:onnxruntime[^\x1b]*\x1b\[m"  # of several lines, in a colour
    rb"|(\x1b\[[\d;]*m)?\d{4}-\d\d-\d\d [\d:.]+ \[[VIWEF]:onnxruntime"
    rb"|onnxruntime (cpuid_info )?warning: |Unknown CPU vendor|(Warning|Error|Fatal error) in cpuinfo: "
)
#: Providers that are part of a build though it lists their devices as it lists those of plugins.
IN_BUILDS = frozenset({"CPUExecutionProvider", "CUDAExecutionProvider", "DmlExecutionProvider"})
_TELEMETRY = "ORT_DISABLE_TELEMETRY"
ERROR = 3  # log_severity_level of a session: errors of a provider that does not start say why
_FATAL = 4  # of a run: what goes wrong arrives as an exception anyway


@functools.cache
def import_runtime() -> Any:
    """Return the module ``onnxruntime``, imported without what it writes to stderr meanwhile.

    Since 1.32 it starts a thread that sends telemetry and keeps files in ~/.cache, unless the environment forbids it;
    a forked child hangs at its end for want of that thread.
    """
    if "onnxruntime" in sys.modules and hasattr(os, "register_at_fork"):  # it is too late to forbid anything
        os.register_at_fork(after_in_child=_leave_early)
    with held_back(LINES), _without(_TELEMETRY):
        import onnxruntime
    return onnxruntime


def _leave_early() -> None:
    """In a forked child: let the process end, once Python has, before what its parent has registered with `exit`."""
    import ctypes

    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):  # of glibc; what is registered last comes first
        library.on_exit(library._exit, None)
        library.__cxa_atexit(library.fflush, None, None)


@contextlib.contextmanager
def _without(variable: str) -> Iterator[None]:
    """Forbid something by a variable of the environment that the user has not set."""
    if variable in os.environ:
        yield
        return
    os.environ[variable] = "1"
    try:
        yield
    finally:
        os.environ.pop(variable, None)


def run_options() -> Any:
    """Return RunOptions for a run that writes nothing to stderr."""
    options = import_runtime().RunOptions()
    options.log_severity_level = _FATAL
    # the default; run_with_iobinding asks for it in every run, and where it is unset an exception costs 50 us
    options.add_run_config_entry("gpu_graph_id", "0")
    return options


def answer_of(session: Any, values: Array) -> Array:
    """Return the first output of a session with one input, whose dimensions are 1 where they are not settled."""
    entry = session.get_inputs()[0]
    shape = [n if isinstance(n, int) else 1 for n in entry.shape]
    answer: Array = session.run(None, {entry.name: values.reshape(shape)})[0]
    return answer


def cancellable(call: Callable[[Any], Result]) -> tuple[Callable[[], Result], Callable[[], None]]:
    """Return `call` with RunOptions of its own, and what makes ONNX Runtime end it before its next node."""
    options = run_options()

    def cancel() -> None:
        options.terminate = True

    return lambda: call(options), cancel
