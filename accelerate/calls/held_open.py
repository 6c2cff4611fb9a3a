"""What calls share, and what is let go when the last of them has ended."""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ClosedError

__all__ = ["HeldOpen"]


class HeldOpen(abc.ABC):
    """Something that calls from any thread use, such as a channel to a server: closed, it stays open for them.

    Parameters
    ----------
    called : str
        What a call is told is closed.
    """

    def __init__(self, called: str) -> None:
        self._called = called
        self._lock = threading.Lock()
        self._in_flight = 0
        self._closed = False

    @abc.abstractmethod
    def let_go(self) -> None:
        """Release it. Called once it is closed and no call uses it."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep it open, for a call and for what follows from it.

        Raises
        ------
        ClosedError
        """
        with self._lock:
            if self._closed and not self._in_flight:
                raise ClosedError(f"{self._called} is closed", "load it again")
            self._in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1
                last = self._closed and self._in_flight == 0
            if last:
                self.let_go()

    def close(self) -> None:
        """Release it, at once or as soon as no call uses it."""
        with self._lock:
            self._closed = True
            idle = self._in_flight == 0
        if idle:
            self.let_go()
