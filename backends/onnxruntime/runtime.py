"""ONNX Runtime itself: its import, and runs that their caller may leave at a deadline."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

from accelerate.contract import held_back

__all__ = ["LINES", "cancellable", "import_runtime", "run_options"]

Result = TypeVar("Result")

#: How ONNX Runtime begins its lines ("<time> [W:onnxruntime:..."), and what it says of a CPU that it does not know.
LINES = re.compile(
    rb"(\x1b\[[\d;]*m)?\d{4}-\d\d-\d\d [\d:.]+ \[[VIWEF]:onnxruntime"
    rb"|onnxruntime cpuid_info warning: |Unknown CPU vendor|(Warning|Error) in cpuinfo: "
)
_FATAL = 4  # log_severity_level; what goes wrong arrives as an exception anyway


@functools.cache
def import_runtime() -> Any:
    """Return the module ``onnxruntime``, imported without what it writes to stderr meanwhile."""
    with held_back(LINES):
        import onnxruntime
    return onnxruntime


def run_options() -> Any:
    """Return RunOptions for a run that writes nothing to stderr."""
    options = import_runtime().RunOptions()
    options.log_severity_level = _FATAL
    # the default; run_with_iobinding asks for it in every run, and where it is unset an exception costs 50 us
    options.add_run_config_entry("gpu_graph_id", "0")
    return options


def cancellable(call: Callable[[Any], Result]) -> tuple[Callable[[], Result], Callable[[], None]]:
    """Return `call` with RunOptions of its own, and what makes ONNX Runtime end it before its next node."""
    options = run_options()

    def cancel() -> None:
        options.terminate = True

    return lambda: call(options), cancel
