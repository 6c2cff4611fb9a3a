"""Whether OpenVINO computes what is known, told in a child process: on a Cortex-A72 it was seen to end the program."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import platform
from pathlib import Path

import numpy as np

from accelerate.contract import Array, ChildError, __version__, folder, held_back, try_digits, verdict, verdicts
from accelerate.errors import BackendNotAvailableError

from .runtime import LINES, core, settings

__all__ = ["check_crash", "known_answers", "try_known_answers"]

_TOPIC = "openvino-trials"
_KEY = "digits"
_TIMEOUT = 60.0
#: A line of the kernel's with the model and the features of the CPU: a card moves from one board to another.
_CPU = Path("/sys/devices/system/cpu/modalias")


@functools.cache  # what is wrong is not remembered on the disk
def known_answers() -> dict[str, tuple[str, str]]:
    """Let OpenVINO compute what is known in a child, unless that is known to be right or to crash it.

    Returns
    -------
    dict
        What is wrong by data type, as `try_digits` has it.

    Raises
    ------
    BackendNotAvailableError
        It crashes.
    ChildError
        It has neither answered nor crashed.
    """
    found = verdict(_TOPIC, _versions(), f"{__name__}:try_known_answers", bytes, _TIMEOUT, key=_KEY)
    if found.crash:
        raise _crashed(found.crash)
    return dict(found.wrong or {})


def check_crash() -> None:
    """Refuse an OpenVINO that is known to crash here; on ARM, where it was seen to, it is tried the first time.

    Raises
    ------
    BackendNotAvailableError
    """
    known = verdicts(_TOPIC, _versions()).get(_KEY)
    if known is not None and known.crash:
        raise _crashed(known.crash)
    if known is None and platform.machine() == "aarch64":
        with contextlib.suppress(ChildError):  # nothing is known then, as elsewhere
            known_answers()


def _crashed(how: str) -> BackendNotAvailableError:
    return BackendNotAvailableError(
        f"OpenVINO crashes on this machine: it was to compute a known answer in a child process, and {how}",
        "pip install --upgrade openvino, or run the model by the backend of its own format; a crash is remembered: to "
        f"try it again, delete {folder() / _TOPIC}",
    )


def _versions() -> str:
    """Return all that the outcome depends on, without the runtime."""
    spec = importlib.util.find_spec("openvino")
    where = Path(spec.origin) if spec is not None and spec.origin is not None else Path()
    cpu = ""
    with contextlib.suppress(OSError):  # another system than Linux
        cpu = _CPU.read_text("ascii", "replace")
    return (
        f"edge-accelerate {__version__} {where} {where.stat().st_mtime} numpy {np.__version__} "
        f"python {platform.python_version()} {platform.machine()} {cpu}"
    )


def try_known_answers(_: bytes) -> dict[str, tuple[str, str]]:
    """Run the project's digit models on the CPU (the child's side); return what is wrong, as `try_digits` does."""

    def run(path: Path, pixels: Array) -> Array:
        with held_back(LINES):
            model = core().read_model(str(path))
            request = core().compile_model(model, "CPU", settings("CPU", 1)).create_infer_request()
        request.get_input_tensor(0).data[...] = pixels.reshape(request.get_input_tensor(0).shape)
        request.infer(share_outputs=True)
        answer: Array = request.get_output_tensor(0).data.copy()
        return answer

    return try_digits(run, ".tflite")
