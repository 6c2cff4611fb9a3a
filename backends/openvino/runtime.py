"""OpenVINO itself: its import without telemetry, and the one Core of this process."""

from __future__ import annotations

import functools
import os
import re
import sys
from typing import Any

from accelerate.contract import held_back

__all__ = ["LINES", "core", "import_runtime", "inherited", "settings", "version"]

#: What it writes to stderr while it tries its readers, one after another, on a file.
LINES = re.compile(rb"WARNING: All log messages before absl|[EWI]\d{4} [\d:.]+ +\d+ \S+\.cc:")
_TELEMETRY = "openvino_telemetry"
_started_in: int | None = None  # the process that has made the Core


@functools.cache
def import_runtime() -> Any:
    """Return the module ``openvino``, imported without its telemetry.

    That sends an event at each import and writes ~/intel/openvino_ga_cid and stats, unless the user has declined.
    Without the module openvino takes a stand-in of its own that does nothing.
    """
    absent = _TELEMETRY not in sys.modules and "openvino" not in sys.modules  # else it is too late to forbid anything
    if absent:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # to Python a module that is not there
    try:
        with held_back(LINES):
            import openvino
    finally:
        if absent:
            sys.modules.pop(_TELEMETRY, None)
    return openvino


@functools.cache
def core() -> Any:
    """Return a Core of our own: what a program sets on its own concerns neither."""
    made = import_runtime().Core()
    # weights that are mapped change with their file, and one that is cut short ends the process (SIGBUS)
    made.set_property({"ENABLE_MMAP": False})
    global _started_in
    _started_in = os.getpid()
    return made


def inherited() -> bool:
    """Return whether the Core is that of a process which this one was forked from."""
    return _started_in not in (None, os.getpid())


def version() -> str:
    """Return the version without the build: "2026.4.1"."""
    return str(import_runtime().__version__).partition("-")[0]


def settings(device: str, threads: int | None, streams: int = 1) -> dict[str, Any]:
    """Return the properties of a model that nobody has other wishes for.

    Unless told to be accurate, a CPU that has bfloat16 computes float32 models in it: scores differ by up to 0.08.
    """
    chosen: dict[str, Any] = {"EXECUTION_MODE_HINT": "ACCURACY", "PERFORMANCE_HINT": "LATENCY"}
    of_cpu = {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    if streams > 1:
        of_cpu["NUM_STREAMS"] = streams
    if device == "CPU":  # others refuse them
        chosen |= of_cpu
    elif device == "AUTO" and of_cpu:  # which takes them for the CPU, should it choose that
        chosen["DEVICE_PROPERTIES"] = {"CPU": of_cpu}
    return chosen
