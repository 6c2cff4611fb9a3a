"""Runs that their caller may leave at a deadline."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any, TypeVar

from ...errors import ClosedError

__all__ = ["cancellable", "run_options"]

Result = TypeVar("Result")

_FATAL = 4  # log_severity_level; what goes wrong arrives as an exception anyway
_PATIENCE = 10.0  # seconds
_running: set[Any] = set()  # the RunOptions of calls that are being made
_ending = False


def run_options() -> Any:
    """Return RunOptions for a run that writes nothing to stderr."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = _FATAL
    # the default; run_with_iobinding asks for it in every run, and where it is unset an exception costs 50 us
    options.add_run_config_entry("gpu_graph_id", "0")
    return options


def cancellable(call: Callable[[Any], Result]) -> tuple[Callable[[], Result], Callable[[], None]]:
    """Return `call` with RunOptions of its own, and what makes ONNX Runtime end it before its next node."""
    options = run_options()

    def run() -> Result:
        if _ending:
            raise ClosedError("the process is ending")
        _running.add(options)
        try:
            return call(options)
        finally:
            _running.discard(options)

    return run, lambda: setattr(options, "terminate", True)


def _end_runs() -> None:
    """Cancel what a caller has left and wait for it.

    A thread that returns from ONNX Runtime into an interpreter that is being finalised would abort the process
    ("terminate called without an active exception"), until Python 3.14.
    """
    global _ending
    _ending = True
    for options in tuple(_running):
        options.terminate = True
    end = monotonic() + _PATIENCE
    while _running and monotonic() < end:
        sleep(0.001)


atexit.register(_end_runs)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)  # the threads are the parent's
