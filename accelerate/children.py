"""Tries in a child process what may crash or hang a process: a native library, or a file it does not verify."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

__all__ = ["ChildError", "run_in_child"]

# the child's working folder: before Python 3.11, which brought PYTHONSAFEPATH, -m imports from it first
_SITE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class ChildError(Exception):
    """The child crashed or ran out of time; it never answered.

    Attributes
    ----------
    timed_out : bool
        Which says as much about the machine's load as about what was tried.
    crashed : bool
        By a fault of its own, which will come again; else it failed like any program, at an import for one, or
        something from outside has killed it, where memory is short for one.
    """

    def __init__(self, message: str, *, timed_out: bool = False, crashed: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.crashed = crashed


def run_in_child(task: str, payload: bytes, timeout: float, **arguments: Any) -> Any:
    """Call a function in a fresh interpreter and return its JSON result.

    Parameters
    ----------
    task : str
        ``module:function``, the module relative to this package. The function is called with the payload and the
        arguments, and returns what JSON can hold.
    payload : bytes
    timeout : float
        Seconds until the child is killed.

    Raises
    ------
    ChildError
    """
    # never multiprocessing: it runs a user's unguarded script again
    import json
    import subprocess  # 8 ms that most programs never need

    command = [sys.executable, "-m", f"{__package__}._child", task, json.dumps(arguments), str(math.ceil(timeout) + 5)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        "PYTHONSAFEPATH": "1",
    }
    try:
        done = subprocess.run(
            command, input=payload, capture_output=True, timeout=timeout, env=environment, cwd=_SITE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"no answer within {timeout:g} s", timed_out=True) from error
    if done.returncode != 0:
        raise ChildError(_death(done.returncode, done.stderr), crashed=_is_fault(done.returncode))
    return json.loads(done.stdout)


def _is_fault(code: int) -> bool:
    if code < 0:
        import signal

        return signal.Signals(-code).name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
    return code >= 0xC0000000  # Windows' severity "error" of a status (winerror.h, NTSTATUS)


def _death(code: int, stderr: bytes) -> str:
    if code < 0:
        import signal

        return f"the process was killed by {signal.Signals(-code).name}"
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return f"the process ended with status {code}: {lines[-1] if lines else 'no message'}"
