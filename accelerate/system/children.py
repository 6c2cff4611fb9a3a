"""Tries in a child process what may crash or hang a process: a native library, or a file it does not verify.

A task is a function of any module that can be imported, ``package.module:function``. It is called with a payload of
bytes and the arguments, and returns what JSON can hold.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any

from .._records import record
from .cache import folder, recall, remember

if TYPE_CHECKING:
    import subprocess

__all__ = [
    "ChildError",
    "Verdict",
    "how_to_start",
    "run_in_child",
    "signal_name",
    "start_of_python",
    "verdict",
    "verdicts",
    "why_impossible",
]

# Where this package comes from, which an editable install has not on sys.path. It is the child's working folder too:
# before Python 3.11, which brought PYTHONSAFEPATH, -m imports from there first.
_SITE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
#: Seconds: how often it is looked whether a child has ended whose pipes are open, and what is then given to their rest.
_LOOK, _REST = 0.2, 0.2


class ChildError(Exception):
    """There is no answer: the child crashed or ran out of time, or there can be no child.

    Attributes
    ----------
    timed_out : bool
        Which says as much about the machine's load as about what was tried.
    crashed : bool
        By a fault of its own, which will come again; else it failed like any program, at an import for one, or
        something from outside has killed it, where memory is short for one.
    impossible : bool
        This program's executable is no Python, and would start the program again.
    remedy : str
        What helps where it is impossible, else "".
    """

    def __init__(
        self, message: str, *, timed_out: bool = False, crashed: bool = False, impossible: bool = False
    ) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.crashed = crashed
        self.impossible = impossible
        self.remedy = ""
        if impossible:
            self.remedy = (
                f"load the model in a plain Python with the same versions once: the outcome is kept in {folder()}"
            )


@record(frozen=True)
class Verdict:
    """What trying something in a child has shown.

    Attributes
    ----------
    name : str
        What was tried, for messages.
    crash : str
        How the child crashed, "" if it did not.
    wrong : object
        What the task returned: what is wrong with what it tried, None where nothing is.
    """

    name: str
    crash: str = ""
    wrong: Any = None


def verdict(
    topic: str,
    versions: str,
    task: str,
    payload: Callable[[], bytes],
    timeout: float,
    *,
    key: str = "",
    name: str = "",
    **arguments: Any,
) -> Verdict:
    """Try something in a child, unless it is known to crash it or to be sound.

    Only that is remembered: what else may be wrong is about the moment.

    Parameters
    ----------
    topic : str
        The folder of the cache.
    versions : str
        All that the outcome depends on and that changes for everything tried with it, such as a runtime's version.
    task : str
        Called as by `run_in_child`. Returns what is wrong, falsy where nothing is.
    payload : callable
        Returns the child's payload; called only if there is a child.
    timeout : float
    key, name : str
        What is tried with these versions, where that is not all; the name is for messages.
    **arguments
        For the task.

    Raises
    ------
    ChildError
        Where the child neither answered nor crashed.
    """
    found = verdicts(topic, versions).get(key)
    if found is not None:
        return found
    try:
        found = Verdict(name, "", run_in_child(task, payload(), timeout, **arguments) or None)
    except ChildError as error:
        if not error.crashed:
            raise
        found = Verdict(name, str(error))
    if not found.wrong:
        known = verdicts(topic, versions)  # read again: another process may have added to them meanwhile
        remember(topic, versions, {k: (v.name, v.crash) for k, v in {**known, key: found}.items()})
    return found


def verdicts(topic: str, versions: str) -> Mapping[str, Verdict]:
    """Return what is remembered of all that was tried with these versions, the latest last."""
    try:
        return {key: Verdict(str(name), str(crash)) for key, (name, crash) in recall(topic, versions).items()}
    except (AttributeError, TypeError, ValueError):  # nothing, or a file that somebody else has written
        return {}


def run_in_child(task: str, payload: bytes, timeout: float, **arguments: Any) -> Any:
    """Call a task in a fresh interpreter and return its JSON result.

    Parameters
    ----------
    task : str
        ``package.module:function``.
    payload : bytes
    timeout : float
        Seconds until the child is killed.

    Raises
    ------
    ChildError
    """
    if reason := why_impossible():
        raise ChildError(f"nothing can be tried in a child process: {reason}", impossible=True)
    import json
    import subprocess  # 8 ms that most programs never need

    told = how_to_start(task, json.dumps(arguments), math.ceil(timeout) + 5)
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(**told, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
    except OSError as error:
        raise ChildError(f"the child process does not start: {error}") from error
    try:
        answer, said = _until_its_end(child, payload, timeout)
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"no answer within {timeout:g} s", timed_out=True) from error
    finally:  # Ctrl-C included
        child.kill()  # which does nothing to one that has ended
        child.wait()
    if child.returncode != 0:
        raise ChildError(_death(child.returncode, said), crashed=_is_fault(child.returncode))
    try:
        return json.loads(answer)
    except ValueError as error:  # a native library may end a process as it likes, or close what is not its own
        raise ChildError(f"{_death(0, said)}; there is no answer of it") from error


def _until_its_end(child: subprocess.Popen[bytes], payload: bytes, timeout: float) -> tuple[bytes, bytes]:
    """Return what a child has written to stdout and stderr when it has ended.

    Its pipes may stay open after that: a process that a library has started in it, as some drivers do, has them, too.
    The thread that reads such a one is left behind.
    """
    end = time.monotonic() + timeout
    answer, said = bytearray(), bytearray()
    readers = [_start(_read, child.stdout, answer), _start(_read, child.stderr, said)]
    _start(_write, child.stdin, payload)
    for reader in readers:
        while reader.is_alive() and child.poll() is None and (left := end - time.monotonic()) > 0:
            reader.join(min(left, _LOOK))
    child.wait(max(0, end - time.monotonic()))
    for reader in readers:
        reader.join(_REST)
    return bytes(answer), bytes(said)


def _start(work: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, name="accelerate-child", daemon=True)
    thread.start()
    return thread


def _read(pipe: IO[bytes], into: bytearray) -> None:
    with pipe:
        while piece := pipe.read(1 << 16):
            into += piece


def _write(pipe: IO[bytes], payload: bytes) -> None:
    rest = memoryview(payload)
    with contextlib.suppress(BrokenPipeError), pipe:  # it has ended, or wants no more
        while rest:
            rest = rest[pipe.write(rest) :]


def how_to_start(task: str, arguments: str, limit: int) -> dict[str, Any]:
    """Return what `subprocess` is given to start an interpreter that calls a task, as `start_of_python` has it.

    Never multiprocessing: it runs a user's unguarded script again.

    Parameters
    ----------
    task : str
        ``package.module:function``.
    arguments : str
        JSON.
    limit : int
        Seconds after which the child ends itself; 0 for none.
    """
    return start_of_python("-m", f"{__package__.partition('.')[0]}._child", task, arguments, str(limit))


def start_of_python(*arguments: str) -> dict[str, Any]:
    """Return ``args``, ``env`` and ``cwd`` for an interpreter that imports what this one does."""
    return {
        "args": [sys.executable, *arguments],
        "env": {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, [*sys.path, _SITE])),
            "PYTHONSAFEPATH": "1",
        },
        "cwd": _SITE,
    }


def why_impossible() -> str:
    """Return why this program's executable cannot run a task, "" where it is a Python."""
    if getattr(sys, "frozen", False):
        return "this program is frozen, and its executable would start it again"
    if not os.path.basename(sys.executable or "").lower().startswith(("python", "pypy")):
        return f"Python is embedded in this program, whose executable ({sys.executable or 'unknown'}) is no Python"
    return ""


def signal_name(number: int) -> str:
    """Return what a signal is called; those for real-time use have no names."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _is_fault(code: int) -> bool:
    if code < 0:
        return signal_name(-code) in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
    return code >= 0xC0000000  # Windows' severity "error" of a status (winerror.h, NTSTATUS)


def _death(code: int, stderr: bytes) -> str:
    if code < 0:
        return f"the process was killed by {signal_name(-code)}"
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return f"the process ended with status {code}: {lines[-1] if lines else 'no message'}"
