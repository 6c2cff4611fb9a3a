"""Reading of untrusted flatbuffers, with every offset checked before it is followed.

The ``flatbuffers`` package reads a file that its writer meant well: a wrong offset makes it read
from elsewhere, from before the start, or 4 GiB at once. Here a :class:`Table` looks the same to its
reader, but whatever leads outside the buffer is a :class:`~accelerate.errors.ModelError` that says
what was read and where.

Offsets may also point many times at the same bytes, so that a small file unfolds into gigabytes.
Against that each :class:`Reader` has an allowance: what is read is charged with the memory that its
Python form takes, and the reading stops when the allowance is used up.

The layout of tables, vtables, vectors and strings is that of
https://flatbuffers.dev/internals/ (read 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, unpack_from
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from . import REFETCH

if TYPE_CHECKING:
    from mmap import mmap

__all__ = [
    "FLOAT32", "INT8", "INT32", "INT64", "UINT8", "UINT32", "UINT64", "Reader", "Table", "TableVector"
]  # fmt: skip

# The numbers of a schema; the package's own take 3 ms to import.
INT8, UINT8 = Struct("<b"), Struct("<B")
INT32, UINT32, INT64, UINT64, FLOAT32 = Struct("<i"), Struct("<I"), Struct("<q"), Struct("<Q"), Struct("<f")
OFFSET, VTABLE_OFFSET, TABLE_OFFSET = UINT32, Struct("<H"), INT32

ALLOWANCE = 16 << 20

# What each thing costs in Python, rounded up, in bytes: a table with the record made of it, a
# string (up to four bytes a character once it holds one emoji), and a number in a tuple.
TABLE_COST = 256
STRING_COST = 64
CHARACTER_COST = 4
NUMBER_COST = 40

OFFSET_SIZE = OFFSET.size
VTABLE_HEADER_SIZE = 2 * VTABLE_OFFSET.size
IDENTIFIER_SIZE = 4


class Reader:
    """The bytes of one flatbuffer, called `where` in errors, and how much may still be read from them.

    No view of the buffer is kept, so that an mmap can be closed. The allowance is in bytes of the memory that what is
    read takes.
    """

    __slots__ = ("_allowance", "_left", "buffer", "size", "where")

    def __init__(self, buffer: bytes | mmap, where: str, allowance: int = ALLOWANCE) -> None:
        self.buffer = buffer
        self.size = len(buffer)
        self.where = where
        self._allowance = self._left = allowance

    def root(self, name: str) -> Table:
        """Return the root table, called `name` in errors."""
        return Table(self, self.follow(0, name), name)

    def identifier(self) -> bytes:
        """Return the file identifier, four bytes, or fewer when the file is shorter than that."""
        return bytes(self.buffer[OFFSET_SIZE : OFFSET_SIZE + IDENTIFIER_SIZE])

    def spend(self, cost: int, position: int, what: str) -> None:
        """Charge for something that is about to be read."""
        self._left -= cost
        if self._left < 0:
            raise ModelError(
                f"{self.where}: {what} at byte {position} is more than this reader takes from one file "
                f"(about {self._allowance >> 20} MiB once read); the file is damaged or hostile",
                REFETCH,
            )

    def number(self, kind: Struct, position: int, what: str) -> Any:
        """Read one number, such as a `UINT32`."""
        self.check(position, kind.size, what)
        return kind.unpack_from(self.buffer, position)[0]

    def follow(self, position: int, what: str) -> int:
        """Return the position that the offset at `position` leads to."""
        target: int = position + self.number(OFFSET, position, what)
        if target == position or target >= self.size:
            raise self.damaged(f"the offset of {what} leads to byte {target}", position)
        return target

    def check(self, position: int, length: int, what: str) -> None:
        """Raise unless `length` bytes at `position` lie in the buffer."""
        if position < 0 or position + length > self.size:
            raise self.damaged(f"{what} would take {length} bytes", position)

    def damaged(self, what: str, position: int) -> ModelError:
        """Return the error for something at `position` that does not fit into the buffer."""
        return ModelError(
            f"{self.where}: {what} at byte {position}, which leaves its {self.size} bytes; "
            "the file is damaged or cut short",
            REFETCH,
        )


class Table:
    """One table of a flatbuffer.

    A field is named by its slot: its position in the schema, counted from 0, where a union takes two.
    A field that the file leaves out, as an older writer's file does, has its default.
    """

    __slots__ = ("_name", "_position", "_reader", "_vtable", "_vtable_size")

    def __init__(self, reader: Reader, position: int, name: str) -> None:
        reader.spend(TABLE_COST, position, name)
        self._reader = reader
        self._position = position
        self._name = name
        self._vtable = position - reader.number(TABLE_OFFSET, position, name)
        self._vtable_size = reader.number(VTABLE_OFFSET, self._vtable, f"the vtable of {name}")
        if self._vtable_size < VTABLE_HEADER_SIZE:
            raise reader.damaged(f"the vtable of {name} has {self._vtable_size} bytes", self._vtable)
        reader.check(self._vtable, self._vtable_size, f"the vtable of {name}")

    def _field(self, slot: int) -> int:
        """Return the position of a field, 0 for one that the file leaves out."""
        entry = VTABLE_HEADER_SIZE + VTABLE_OFFSET.size * slot
        if entry + VTABLE_OFFSET.size > self._vtable_size:
            return 0
        offset: int = VTABLE_OFFSET.unpack_from(self._reader.buffer, self._vtable + entry)[0]
        return self._position + offset if offset else 0

    def _what(self, slot: int) -> str:
        return f"field {slot} of {self._name}"

    def _vector(self, slot: int, width: int) -> tuple[int, int]:
        """Return where the items of a vector begin and how many they are."""
        field = self._field(slot)
        if not field:
            return 0, 0
        what = self._what(slot)
        start = self._reader.follow(field, what)
        count: int = self._reader.number(OFFSET, start, what)
        self._reader.check(start + OFFSET_SIZE, count * width, what)
        return start + OFFSET_SIZE, count

    def number(self, slot: int, kind: Struct, default: float = 0) -> Any:
        """Read a number, as the int, float or bool that its `kind` says."""
        field = self._field(slot)
        return self._reader.number(kind, field, self._what(slot)) if field else default

    def numbers(self, slot: int, kind: Struct) -> tuple[Any, ...]:
        """Read a vector of numbers."""
        start, count = self._vector(slot, kind.size)
        self._reader.spend(NUMBER_COST * count, start, self._what(slot))
        return unpack_from(f"<{count}{kind.format[-1]}", self._reader.buffer, start) if count else ()

    def span(self, slot: int) -> tuple[int, int]:
        """Return the position and length of a vector of bytes, without reading it."""
        return self._vector(slot, 1)

    def check_fields(self) -> None:
        """Raise unless every field, of whatever schema, lies within the table and the table within the buffer."""
        what = f"a field of {self._name}"
        size_at = self._vtable + VTABLE_OFFSET.size
        size = self._reader.number(VTABLE_OFFSET, size_at, what)
        self._reader.check(self._position, size, self._name)
        for slot in range((self._vtable_size - VTABLE_HEADER_SIZE) // VTABLE_OFFSET.size):
            if self._field(slot) >= self._position + max(size, 1):
                raise self._reader.damaged(f"{self._what(slot)} lies behind its {size} bytes", self._position)

    def has(self, slot: int) -> bool:
        """Return whether the file has a field."""
        return self._field(slot) != 0

    def check_text(self, slot: int) -> None:
        """Raise unless a string lies in the buffer and ends with the NUL on which C and C++ readers rely."""
        start, length = self._vector(slot, 1)
        if start and self._reader.number(UINT8, start + length, self._what(slot)):
            raise self._reader.damaged(f"{self._what(slot)} does not end with NUL", start)

    def text(self, slot: int) -> str:
        r"""Read a string, "" for none; bytes that are not UTF-8 are written as ``\xff``."""
        start, length = self._vector(slot, 1)
        return self._decode(slot, start, length)

    def texts(self, slot: int) -> tuple[str, ...]:
        """Read a vector of strings."""
        first, count = self._vector(slot, OFFSET_SIZE)
        what = self._what(slot)
        result = []
        for position in range(first, first + OFFSET_SIZE * count, OFFSET_SIZE):
            start = self._reader.follow(position, what)
            length = self._reader.number(OFFSET, start, what)
            result.append(self._decode(slot, start + OFFSET_SIZE, length))
        return tuple(result)

    def _decode(self, slot: int, start: int, length: int) -> str:
        what = self._what(slot)
        self._reader.check(start, length, what)
        self._reader.spend(STRING_COST + CHARACTER_COST * length, start, what)
        return bytes(self._reader.buffer[start : start + length]).decode(errors="backslashreplace")

    def table(self, slot: int, name: str) -> Table | None:
        """Return the table that a field leads to."""
        field = self._field(slot)
        if not field:
            return None
        return Table(self._reader, self._reader.follow(field, self._what(slot)), name)

    def tables(self, slot: int, name: str) -> TableVector:
        """Return a vector of tables, of which each is read when it is asked for."""
        start, count = self._vector(slot, OFFSET_SIZE)
        return TableVector(self._reader, start, count, name)


class TableVector:
    """A vector of tables, each read when it is asked for."""

    __slots__ = ("_count", "_name", "_reader", "_start")

    def __init__(self, reader: Reader, start: int, count: int, name: str) -> None:
        self._reader = reader
        self._start = start
        self._count = count
        self._name = name

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Table:
        name = f"{self._name} {index}"
        if not 0 <= index < self._count:
            raise ModelError(
                f"{self._reader.where}: {name} is asked for, but there are {self._count}; the file is damaged", REFETCH
            )
        return Table(self._reader, self._reader.follow(self._start + OFFSET_SIZE * index, name), name)

    def __iter__(self) -> Iterator[Table]:
        return (self[index] for index in range(self._count))
