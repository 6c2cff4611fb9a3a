"""A checked reader of protobuf messages, for what is read or written without the classes generated for it.

The wire format is that of https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

from ..errors import ModelError
from . import REFETCH

__all__ = ["Message", "varint"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10
#: More fields than this in one file are not read: a hostile file could make millions of two bytes each.
FIELD_LIMIT = 2_000_000


class _Budget:
    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = FIELD_LIMIT


class Message:
    """One message, called `where` in errors: a span of the file, whose fields are read when they are asked for."""

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
        """Yield (field number, wire type, value) for each field, one behind the other.

        The value is a span, for a varint the number and the position behind it.
        """
        buffer, position, end, budget = self._buffer, self._start, self._end, self._budget
        while position < end:
            budget.left -= 1
            if budget.left < 0:
                raise ModelError(f"{self.where}: it has over {FIELD_LIMIT} fields; the file is hostile or no model")
            at = position
            tag, position = buffer[at], at + 1
            if tag > 0x7F:
                tag, position = self._varint(at)
            number, wire = tag >> 3, tag & 7
            if wire == BYTES:
                length, position = self._varint(position)
            elif wire == VARINT:
                yield number, wire, (value := self._varint(position))
                position = value[1]
                continue
            elif wire in (FIXED32, FIXED64):
                length = 4 if wire == FIXED32 else 8
            else:
                raise self._damaged(f"field {number} has the wire type {wire}", at)
            if number == 0 or length > end - position:
                raise self._damaged(f"field {number} would take {length} bytes", at)
            start, position = position, position + length
            yield number, wire, (start, position)

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

    def texts(self, *numbers: int) -> dict[int, str]:
        """Return the last string of each of these fields that is there; what is no UTF-8 in it becomes U+FFFD."""
        spans = {number: span for number, wire, span in self.fields() if wire == BYTES and number in numbers}
        return {number: self.bytes(span).decode(errors="replace") for number, span in spans.items()}

    def numbers(self) -> dict[int, int]:
        """Return the last value of every varint field, as a signed 64-bit number."""
        return {n: v[0] - (v[0] >> 63 << 64) for n, wire, v in self.fields() if wire == VARINT}

    def bytes(self, span: tuple[int, int]) -> bytes:
        """Return the content of a span."""
        return bytes(self._buffer[span[0] : span[1]])

    def _varint(self, position: int) -> tuple[int, int]:
        buffer, end = self._buffer, self._end
        # most numbers take one byte
        if position < end and buffer[position] < 0x80:
            return buffer[position], position + 1
        value = shift = 0
        for at in range(position, min(position + _VARINT_BYTES, end)):
            byte = buffer[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at + 1
            shift += 7
        raise self._damaged("a number does not end", position)

    def _damaged(self, what: str, position: int) -> ModelError:
        return ModelError(f"{self.where}: {what} at byte {position}; it is damaged or cut short", REFETCH)


def varint(value: int) -> bytes:
    """Return a number from 0 as it stands in a message."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
