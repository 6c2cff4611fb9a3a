"""Who may call a model: so many at once, the others in the order in which they came, until they leave.

How many may be there at all, is bounded: each has a thread, and its request in memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic

from ...calls.deadlines import in_words
from ...errors import InferenceTimeoutError

__all__ = ["CancelledError", "Places", "Shares"]


class CancelledError(Exception):
    """The caller left while it waited."""


class _Waiting:
    """A caller that waits; its lock is released when it has a place, or has left."""

    __slots__ = ("placed", "wake")

    def __init__(self) -> None:
        self.placed = False
        self.wake = threading.Lock()
        self.wake.acquire()


class Places:
    """See the module. A call that is given up while it waits costs the others nothing.

    Parameters
    ----------
    count : int
        How many calls the model should have in work.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[_Waiting] = deque()
        self._lock = threading.Lock()

    def enter(self, timeout: float | None, when_cancelled: Callable[[Callable[[], None]], bool]) -> None:
        """Take a place, to be given back by `leave`.

        Parameters
        ----------
        timeout : float, optional
            Seconds.
        when_cancelled : callable
            Takes what is to be called when the caller leaves; False where it has left.

        Raises
        ------
        InferenceTimeoutError, CancelledError
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return
            waiting = _Waiting()
            self._queue.append(waiting)
        until = None if timeout is None else monotonic() + timeout
        there = when_cancelled(lambda: self._give_up(waiting))
        ended = there and waiting.wake.acquire(timeout=-1 if until is None else max(0.0, until - monotonic()))
        if not ended:
            self._give_up(waiting)
        if waiting.placed:  # perhaps just now; then the call finds out for itself how late it is
            return
        if not there or ended:
            raise CancelledError
        assert timeout is not None, "without one it waits"
        raise InferenceTimeoutError(
            f"no answer within {in_words(timeout)}: the model was busy with earlier calls all that time",
            "give a longer timeout, call it less often, or serve it with --option replicas=2",
        )

    def leave(self) -> None:
        """Give the place to who has waited longest."""
        with self._lock:
            if self._queue:
                waiting = self._queue.popleft()
                waiting.placed = True
                waiting.wake.release()
            else:
                self._free += 1

    def _give_up(self, waiting: _Waiting) -> None:
        with self._lock:
            if waiting in self._queue:
                self._queue.remove(waiting)
                waiting.wake.release()


class Shares:
    """Bounds how many calls run or wait. Half of them are shared out, so that one model's callers stop no other's.

    Parameters
    ----------
    most : int
    models : iterable of str

    Attributes
    ----------
    taken : int
    """

    def __init__(self, most: int, models: Iterable[str]) -> None:
        self.taken = 0
        self._most = most
        self._of = dict.fromkeys(models, 0)
        self._own = most // (2 * max(1, len(self._of)))  # of each model
        self._kept = self._own * len(self._of)  # for those that have not taken their own yet
        self._lock = threading.Lock()

    def take(self, model: str) -> bool:
        """Return whether there is room for one more call of a model, which `give` ends."""
        with self._lock:
            of = self._of[model]
            if of < self._own:
                self._kept -= 1
            elif self.taken + self._kept >= self._most:
                return False
            self._of[model] = of + 1
            self.taken += 1
        return True

    def give(self, model: str) -> None:
        """End a call."""
        with self._lock:
            of = self._of[model] = self._of[model] - 1
            self._kept += of < self._own
            self.taken -= 1
