"""Runs a native call that cannot be interrupted on a thread of its own: its caller can leave at the deadline."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import OptionError

if TYPE_CHECKING:
    import queue

__all__ = ["Job", "Worker", "seconds"]


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
        """Return whether the call ended within `timeout` seconds (caller's side)."""
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
    """One long-lived daemon thread that runs jobs in order. It ends when the Worker is collected."""

    def __init__(self) -> None:
        import queue  # most programs give no timeout

        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._pid = os.getpid()
        # the thread holds only its inbox: a forgotten Model is collected though a thread once worked for it
        threading.Thread(target=_serve, args=(self._inbox,), name="accelerate-worker", daemon=True).start()

    @property
    def usable(self) -> bool:
        """False in a forked child, where the thread does not exist."""
        return self._pid == os.getpid()

    def submit(self, job: Job) -> None:
        """Run a job as soon as the earlier ones have ended."""
        self._inbox.put(job)

    def __del__(self) -> None:
        self._inbox.put(None)


def _serve(inbox: queue.SimpleQueue[Job | None]) -> None:
    while (job := inbox.get()) is not None:
        job.run()
        del job  # the thread must not keep the last call's arrays alive while it waits
