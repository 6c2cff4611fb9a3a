"""One caller at a time, and a thread for native calls whose caller may leave at a deadline."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from .errors import InferenceTimeoutError, OptionError

if TYPE_CHECKING:
    import queue

__all__ = ["Job", "Turn", "Worker", "seconds"]


def seconds(timeout: float) -> float:
    """Check a ``timeout`` given by a caller and return it as seconds that a lock accepts.

    Raises
    ------
    OptionError
        When it is negative or no number.
    """
    try:
        value = float(timeout)
    except (TypeError, ValueError) as error:
        raise OptionError(f"timeout is {timeout!r}; wanted seconds as a number, or None") from error
    if math.isnan(value) or value < 0:
        raise OptionError(f"timeout is {timeout!r}; wanted 0 or more seconds, or None for no deadline")
    return min(value, threading.TIMEOUT_MAX)


class Runnable(Protocol):
    """What a `Worker` runs. It lets no exception out."""

    def run(self) -> None:
        """Do it."""


class Job:
    """A call handed to a `Worker`."""

    def __init__(self, call: Callable[[], Any], finished: Callable[[], None]) -> None:
        self._call = call
        self._finished = finished
        self._done = threading.Lock()
        self._done.acquire()
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the call and note its outcome (worker's side)."""
        try:
            self._result = self._call()
        except BaseException as error:  # handed to the caller, whatever it is
            self._error = error
        finally:
            self._finished()
            self._done.release()

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

        self._inbox: queue.SimpleQueue[Runnable | None] = queue.SimpleQueue()
        self._pid = os.getpid()
        self._threads = threads
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
        for _ in range(self._threads):
            self._inbox.put(None)


def _serve(inbox: queue.SimpleQueue[Runnable | None]) -> None:
    while (job := inbox.get()) is not None:
        job.run()
        del job  # the thread must not keep the last call's arrays alive while it waits


class Turn:
    """Who may use a runtime's object that takes one call at a time.

    Attributes
    ----------
    lock : threading.Lock
        Held while the runtime works. A plain call takes it itself.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()  # a plain one: the worker releases what the caller has acquired
        self._worker: Worker | None = None

    def call_within(
        self,
        call: Callable[[], Any],
        cancel: Callable[[], None],
        timeout: float,
        check_open: Callable[[], None],
        ended: Callable[[], None] | None = None,
    ) -> Any:
        """Make a call on the worker thread and give up at the deadline; the turn is the worker's until the call ends.

        Parameters
        ----------
        call : callable
        cancel : callable
            Asks the call to end early, at the deadline.
        timeout : float
            Seconds, the wait for the turn included.
        check_open : callable
            Raises ClosedError where the turn has come too late.
        ended : callable, optional
            Called once, when the call has ended or was never made.

        Raises
        ------
        InferenceTimeoutError, ClosedError, and what the call raises
        """
        deadline = monotonic() + timeout
        submitted = acquired = False
        try:
            acquired = self.lock.acquire(timeout=timeout)
            check_open()
            if not acquired:
                raise InferenceTimeoutError(
                    f"no answer within {timeout:g} s: the model was busy with earlier calls all that time; "
                    "give a longer timeout, call it less often, or load(..., replicas=n)"
                )
            if self._worker is None or not self._worker.usable:
                self._worker = Worker()
            job = Job(call, lambda: self._end(ended))
            self._worker.submit(job)
            submitted = True
        finally:
            if not submitted:
                if acquired:
                    self.lock.release()
                if ended is not None:
                    ended()
        if not job.wait(max(0.0, deadline - monotonic())):
            cancel()
            raise InferenceTimeoutError(
                f"no answer within {timeout:g} s; the runtime is still computing and later calls wait for it"
            )
        return job.result()

    def stop(self) -> None:
        """Let the worker thread end once it is idle."""
        self._worker = None

    def _end(self, ended: Callable[[], None] | None) -> None:
        self.lock.release()
        if ended is not None:
            ended()
