"""A checked reader of protobuf messages, for files that are read without the classes generated for them.

The wire format is that of https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

from ..errors import ModelError
from . import REFETCH

__all__ = ["Message"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10
#: More fields than this in one file are not read: a hostile file could make millions of two bytes each.
FIELD_LIMIT = 2_000_000


class _Budget:
    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = FIELD_LIMIT


class Message:
    """One message: a span of the file, whose fields are read when they are asked for.

    Parameters
    ----------
    buffer : bytes or mmap
    where : str
        What it is, to begin error messages with.
    """

    __slots__ = ("_budget", "_buffer", "_end", "_start", "where")

    def __init__(
        self, buffer: bytes | mmap, where: str, span: tuple[int, int] | None = None, budget: _Budget | None = None
    ) -> None:
        self._buffer = buffer
        self.where = where
        self._start, self._end = span or (0, len(buffer))
        self._budget = budget or _Budget()

    @property
    def size(self) -> int:
        """The message's length in bytes."""
        return self._end - self._start

    def fields(self) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Yield (field number, wire type, value) for each field; the value is a span, or (number, 0) for a varint.

        Raises
        ------
        ModelError
            Where a field does not fit into the message.
        """
        position = self._start
        while position < self._end:
            self._budget.left -= 1
            if self._budget.left < 0:
                raise ModelError(f"{self.where}: it has over {FIELD_LIMIT} fields; the file is hostile or no model")
            at = position
            tag, position = self._varint(position)
            number, wire = tag >> 3, tag & 7
            if wire == VARINT:
                value, position = self._varint(position)
                yield number, wire, (value, 0)
                continue
            if wire == BYTES:
                length, position = self._varint(position)
            elif wire in (FIXED32, FIXED64):
                length = 4 if wire == FIXED32 else 8
            else:
                raise self._damaged(f"field {number} has the wire type {wire}", at)
            if number == 0 or length > self._end - position:
                raise self._damaged(f"field {number} would take {length} bytes", at)
            yield number, wire, (position, position + length)
            position += length

    def message(self, span: tuple[int, int]) -> Message:
        """Return the message in a span."""
        return Message(self._buffer, self.where, span, self._budget)

    def messages(self, number: int) -> Iterator[Message]:
        """Yield the messages of a repeated field."""
        for field, wire, span in self.fields():
            if field == number and wire == BYTES:
                yield self.message(span)

    def contains(self, content: bytes) -> bool:
        """Return whether these bytes occur anywhere in the message."""
        return self._buffer.find(content, self._start, self._end) >= 0

    def texts(self) -> dict[int, str]:
        """Return the last string of every length-delimited field that is valid UTF-8 and at most 64 KiB."""
        found = {}
        for number, wire, span in self.fields():
            if wire == BYTES and span[1] - span[0] <= 1 << 16:
                try:
                    found[number] = self.bytes(span).decode()
                except UnicodeDecodeError:
                    continue
        return found

    def numbers(self) -> dict[int, int]:
        """Return the last value of every varint field, as a signed 64-bit number."""
        return {n: v[0] - (v[0] >> 63 << 64) for n, wire, v in self.fields() if wire == VARINT}

    def bytes(self, span: tuple[int, int]) -> bytes:
        """Return the content of a span."""
        return bytes(self._buffer[span[0] : span[1]])

    def _varint(self, position: int) -> tuple[int, int]:
        value = shift = 0
        for at in range(position, min(position + _VARINT_BYTES, self._end)):
            byte = self._buffer[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at + 1
            shift += 7
        raise self._damaged("a number does not end", position)

    def _damaged(self, what: str, position: int) -> ModelError:
        return ModelError(f"{self.where}: {what} at byte {position}; the file is damaged or cut short", REFETCH)
