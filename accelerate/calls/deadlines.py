"""One caller at a time, a thread for native calls whose caller may leave at a deadline, and the end of such calls."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from ..errors import ClosedError, InferenceError, InferenceTimeoutError, OptionError

if TYPE_CHECKING:
    import queue

__all__ = [
    "Job", "Turn", "Worker", "check_left", "deadline", "guarded", "in_words", "left", "refuse_reentry", "seconds",
]  # fmt: skip

Result = TypeVar("Result")


def seconds(timeout: float) -> float:
    """Check a ``timeout`` given by a caller and return it as seconds that a lock accepts.

    Raises
    ------
    OptionError
        When it is negative or no number.
    """
    try:
        if isinstance(timeout, (str, bytes)):
            raise TypeError(type(timeout))  # noqa: TRY301
        value = float(timeout)
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"timeout is {timeout!r:.60}; wanted seconds as a number, or None") from error
    if math.isnan(value) or value < 0:
        raise OptionError(f"timeout is {timeout!r}; wanted 0 or more seconds, or None for no deadline")
    return min(value, threading.TIMEOUT_MAX)


def deadline(timeout: float | None) -> float | None:
    """Return the moment of `time.monotonic` at which a caller's ``timeout`` is over, None where there is none.

    Raises
    ------
    OptionError
        As `seconds`.
    """
    return None if timeout is None else monotonic() + seconds(timeout)


def left(until: float | None) -> float | None:
    """Return the seconds that are left until a moment of `time.monotonic`, None where there is no deadline."""
    return None if until is None else max(0.0, until - monotonic())


def check_left(until: float | None, timeout: float | None, what: str, remedy: str) -> None:
    """Raise where something has taken all of a call's time; a timeout of 0 says nothing about that.

    Raises
    ------
    InferenceTimeoutError
    """
    if until is not None and timeout and monotonic() >= until:
        raise InferenceTimeoutError(f"no answer within {in_words(timeout)}: {what} took all of it", remedy)


def in_words(timeout: float) -> str:
    """Return a timeout for a message, to the millisecond: what is left of one is no round number."""
    return f"{round(timeout, 3):g} s" if timeout >= 0.001 or not timeout else f"{timeout:.2g} s"


class Runnable(Protocol):
    """What a `Worker` runs. It lets no exception out."""

    def run(self) -> None:
        """Do it."""


class Job:
    """A call handed to a `Worker`, which takes the turn for it.

    The turn never passes from one thread to another: a caller that leaves, at its deadline or by Ctrl-C at whatever
    moment, has nothing to give back.
    """

    def __init__(self, call: Callable[[], Any], turn: threading.RLock | None = None) -> None:
        self._call: Callable[[], Any] | None = call
        self._turn = turn
        self._claim = threading.Lock()  # whoever gets it decides: the worker begins, or the caller calls it off
        self._done = threading.Lock()
        self._done.acquire()
        self._result: Any = None
        self._error: BaseException | None = None
        self._left = False

    def run(self) -> None:
        """Do the call and note its outcome (worker's side)."""
        with self._turn or contextlib.nullcontext():
            if self._claim.acquire(blocking=False):
                try:
                    self._result = self._call()  # type: ignore[misc]
                except BaseException as error:  # handed to the caller, whatever it is
                    if not self._left:  # else its traceback would keep this job, its arrays and the model
                        self._error = error
        self._call = None
        self._done.release()

    def call_off(self) -> bool:
        """Return whether the call had not begun; it never will, and lets go of its arrays (caller's side)."""
        if not self._claim.acquire(blocking=False):
            return False
        self._call = None
        return True

    def leave(self) -> None:
        """Let what comes of the call go: nobody waits for it any more (caller's side)."""
        self._left = True
        self._result = self._error = None

    def wait(self, timeout: float) -> bool:
        """Return whether the call ended within `timeout` seconds, -1 for ever (caller's side)."""
        return self._done.acquire(timeout=timeout)

    def result(self) -> Any:
        """Return what the call returned, or raise what it raised."""
        try:
            if self._error is not None:
                raise self._error
            return self._result
        finally:
            self._error = None  # breaks the cycle error -> traceback -> this frame


class Worker:
    """Long-lived daemon threads, one unless said otherwise, that run jobs in order. They end when it is collected."""

    def __init__(self, threads: int = 1) -> None:
        import queue  # most programs give no timeout

        self._pid = os.getpid()
        self._threads = threads
        self._inbox: queue.SimpleQueue[Runnable | None] = queue.SimpleQueue()
        # the threads hold only their inbox: a forgotten Model is collected though a thread once worked for it
        for _ in range(threads):
            threading.Thread(target=_serve, args=(self._inbox,), name="accelerate-worker", daemon=True).start()

    @property
    def usable(self) -> bool:
        """False in a forked child, where the thread does not exist."""
        return self._pid == os.getpid()

    def submit(self, job: Runnable) -> None:
        """Run a job as soon as the earlier ones have ended."""
        self._inbox.put(job)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # Ctrl-C came while it was being made
            for _ in range(self._threads):
                self._inbox.put(None)


def _serve(inbox: queue.SimpleQueue[Runnable | None]) -> None:
    while (job := inbox.get()) is not None:
        job.run()
        del job  # the thread must not keep the last call's arrays alive while it waits


class _Signal:
    """Tells somebody that the jobs before it have ended."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.run = callback


def refuse_reentry() -> NoReturn:
    """Raise the error of a call from within a call of the same object, by the same thread.

    Raises
    ------
    InferenceError
    """
    raise InferenceError(
        "this was called while the same thread was calling it: from a signal handler, or an object's end",
        "note it there, and call once the first call has returned",
    )


class Turn:
    """Who may use a runtime's object that takes one call at a time, and whether it is still open.

    Parameters
    ----------
    what, remedy : str
        For `ClosedError`: "this Binding", "call bind() again".

    Attributes
    ----------
    lock : threading.RLock
        Held while the runtime works. A plain call takes it itself: in a ``try`` whose ``finally`` releases it, which
        fails where it is another thread's. In Python 3.14, what a signal's handler raises may come between a lock's
        ``__enter__`` and the block of ``with``, and between ``acquire`` and a ``try`` behind it in every version.
    closed : bool
    """

    def __init__(self, what: str, remedy: str) -> None:
        self._what = what
        self._why = "is closed"
        self._remedy = remedy
        self.lock = threading.RLock()
        self.closed = False
        self._closing = threading.Lock()
        self._worker: Worker | None = None

    def check_open(self) -> None:
        """Raise ClosedError once `close` has been called."""
        if self.closed:
            raise ClosedError(f"{self._what} {self._why}", self._remedy)

    def call_within(self, call: Callable[[], Any], cancel: Callable[[], None] | None, timeout: float) -> Any:
        """Make a call on the worker thread and give up at the deadline; the turn is the worker's until the call ends.

        Parameters
        ----------
        call : callable
        cancel : callable or None
            Asks the call to end early, at the deadline and at the end of the program, which then waits for the call.
            Without one both leave it alone.
        timeout : float
            Seconds, the wait for the turn included.

        Raises
        ------
        InferenceTimeoutError, ClosedError, and what the call raises
        """
        self.check_open()
        worker = self._worker
        if worker is None or not worker.usable:
            worker = self._worker = Worker()
        job = Job(call if cancel is None else guarded(call, cancel), self.lock)
        worker.submit(job)
        try:
            ended = job.wait(timeout)
        except BaseException:  # Ctrl-C, or what a signal handler of the program's raises
            if not job.call_off() and cancel is not None:
                cancel()
            job.leave()
            raise
        if ended:
            return job.result()
        if job.call_off():
            self.check_open()
            raise InferenceTimeoutError(
                f"no answer within {in_words(timeout)}: the model was busy with earlier calls all that time",
                "give a longer timeout, call it less often, or load(..., replicas=n)",
            )
        job.leave()
        if cancel is not None:
            cancel()
        raise InferenceTimeoutError(
            f"no answer within {in_words(timeout)}; the runtime is still computing and later calls wait for it"
        )

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call something once the calls that have been left at their deadlines have ended; at once without any."""
        worker = self._worker
        if worker is None or not worker.usable:
            callback()
        else:
            worker.submit(_Signal(callback))

    def forked(self, *, busy: bool = False) -> None:
        """In a forked child: close it if another thread was using it, for that call will never end here."""
        if self.lock.acquire(blocking=False):
            self.lock.release()
        else:
            self.lock = threading.RLock()  # and whoever shares the old one finds it as it was
            busy = True
        if busy:
            self._why, self.closed = "was at work for another thread when this process was forked", True

    def close(self) -> bool:
        """Refuse further calls, and let the worker thread end once it is idle; return whether it was open until now."""
        with self._closing:
            was_open, self.closed = not self.closed, True
        self._worker = None
        return was_open


# The calls that are being made, each with what cancels it. Until Python 3.14, a thread that returns from a runtime into
# an interpreter that is being finalised is ended on the spot. A runtime whose code does not stand that (pybind11's
# gil_scoped_release does not) aborts the process: "terminate called without an active exception".
_running: dict[object, Callable[[], None]] = {}
_ending = False
_PATIENCE = 10.0  # seconds


def guarded(call: Callable[[], Result], cancel: Callable[[], None]) -> Callable[[], Result]:
    """Return a call that the end of the program cancels and waits for, though its caller has left it.

    Parameters
    ----------
    call : callable
    cancel : callable
        Asks a running call to end early.

    Returns
    -------
    callable
        Raises ClosedError where the program is ending already.
    """

    def run() -> Result:
        ticket = object()
        _running[ticket] = cancel
        try:
            if _ending:
                raise ClosedError("the program is ending")
            return call()
        finally:
            _running.pop(ticket, None)  # a forked child has none

    return run


def _end_calls() -> None:
    global _ending
    _ending = True
    for cancel in tuple(_running.values()):
        with contextlib.suppress(Exception):  # whatever a stranger's raises: the others are cancelled too
            cancel()
    end = monotonic() + _PATIENCE
    while _running and monotonic() < end:
        sleep(0.001)


atexit.register(_end_calls)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)  # the threads are the parent's
