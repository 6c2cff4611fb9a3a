"""Messages with raw contents, of which all but these is the same from one call to the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..protobuf import BYTES
from .raw import split

__all__ = ["HeadReader"]

_KEPT, _LARGEST_KEPT = 64, 4096  # heads that are remembered, and the bytes of one

Head = TypeVar("Head")


class HeadReader(Generic[Head]):
    """Reads messages of one kind. Any thread may use it.

    A client sends the same request again and again, and a server the same answer, but for the raw contents: what has
    been read of the rest, the head, is remembered. Reading it with the generated classes takes as long as all else that
    Python does for a call.

    Parameters
    ----------
    number : int
        Of the field of raw contents.
    what : str
        The message in errors.
    parse : callable
        Makes of a serialised head what it says.
    lasting : callable
        Tells whether that is worth to be remembered: not where tensors are a part of it.
    """

    def __init__(self, number: int, what: str, parse: Callable[[bytes], Head], lasting: Callable[[Head], bool]) -> None:
        self._number, self._what, self._parse, self._lasting = number, what, parse, lasting
        self._tag = bytes([number << 3 | BYTES])
        self._known: dict[bytes, Head] = {}
        self._lengths: tuple[int, ...] = ()
        self._lock = threading.Lock()

    def read(self, message: bytes) -> tuple[Head, list[memoryview]]:
        """Return what a message's head says, and its raw contents as views of it.

        Raises
        ------
        ModelError
            It is no message.
        """
        head = self._known.get(message) if len(message) <= _LARGEST_KEPT else None
        if head is not None:  # all of its tensors are elsewhere
            return head, []
        for length in self._lengths:
            if message[length : length + 1] == self._tag and (head := self._known.get(message[:length])) is not None:
                rest, raw = split(message, self._number, self._what, length)
                if not rest:
                    return head, raw
        start, raw = split(message, self._number, self._what)
        head = self._known.get(start)
        if head is None:
            head = self._parse(start)
            if len(start) <= _LARGEST_KEPT and self._lasting(head):
                self._keep(start, head)
        return head, raw

    def _keep(self, start: bytes, head: Head) -> None:
        with self._lock:
            if len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[start] = head
            self._lengths = tuple(dict.fromkeys(map(len, self._known)))
