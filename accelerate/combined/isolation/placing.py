"""Where a call's tensors lie in shared memory.

A tensor of numbers whose size is known has a place for good, and nothing is said of it from call to call. All others,
strings, dynamic ones and inputs that may be left out, are laid one behind the other in a region that grows, each with
an entry in a table of 64-bit integers: its place, its bytes, its rank (-1 where it was left out) and its sides. Strings
are their lengths, and behind these all their bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...calls.conversion import Array, dtype_of
from ...errors import InferenceError, TensorError
from ...metadata import TensorInfo
from .memory import Region, room_for

__all__ = ["Loose", "Place", "fixed_places", "read_loose"]

#: Position of a tensor on its side, where it begins in the region, and its shape.
Place = tuple[int, int, tuple[int, ...]]
_MOST_DIMENSIONS = 64  # NumPy's


def fixed_places(sides: Sequence[Sequence[tuple[TensorInfo, Sequence[int] | None]]]) -> tuple[list[list[Place]], int]:
    """Give the tensors whose size is known their places, those of both sides in one region; None is an unknown shape.

    Returns
    -------
    places : list of list of Place
        Of each side.
    size : int
        Of the region.
    """
    found: list[tuple[int, int, tuple[int, ...], int]] = []
    for number, side in enumerate(sides):
        for position, (info, shape) in enumerate(side):
            if shape is None or info.data_type == "string" or min(shape, default=1) <= 0 or "rank" in info.extra:
                continue
            found.append((number, position, tuple(shape), math.prod(shape) * dtype_of(info).itemsize))
    starts, size = room_for([each for *_, each in found])
    places: list[list[Place]] = [[] for _ in sides]
    for start, (number, position, shape, _) in zip(starts, found, strict=True):
        places[number].append((position, start, shape))
    return places, size


class Loose:
    """Tensors that have no place of their own, ready to be laid into a region of `size` bytes or more.

    Parameters
    ----------
    tensors : sequence of (TensorInfo, numpy.ndarray or None)

    Raises
    ------
    TensorError
        There is something else than text in an array of strings.
    InferenceError
        An array has another dtype than its tensor.
    """

    def __init__(self, tensors: Sequence[tuple[TensorInfo, Array | None]]) -> None:
        self._parts: list[Array] = []
        self._entries: list[tuple[int, int, tuple[int, ...]]] = []  # the number of parts, all bytes, the shape
        for info, array in tensors:
            if array is None:
                self._entries.append((0, 0, (-1,)))
                continue
            if info.data_type == "string":
                lengths, content = _as_bytes(info, array)
                parts = [lengths, content]
            else:
                if array.dtype != dtype_of(info):
                    raise InferenceError(f"tensor {info.name!r} came as {array.dtype}, wanted {info.data_type}")
                parts = [array]
            self._parts += parts
            self._entries.append((len(parts), sum(part.nbytes for part in parts), array.shape))
        self._places, self.size = room_for([size for _, size, _ in self._entries])

    def lay(self, region: Region) -> bytes:
        """Copy the tensors into a region and return their table."""
        table: list[int] = []
        parts = iter(self._parts)
        for place, (count, size, shape) in zip(self._places, self._entries, strict=True):
            if not count:
                table += (0, 0, -1)
                continue
            table += (place, size, len(shape), *shape)
            for _ in range(count):
                part = next(parts)
                np.copyto(region.array(place, part.dtype, part.shape), part)
                place += part.nbytes
        return np.array(table, np.int64).tobytes()


def read_loose(table: bytes, infos: Sequence[TensorInfo], region: Region | None) -> list[Array | None]:
    """Copy the tensors of a table out of a region.

    Raises
    ------
    ValueError
        The table says what cannot be: nothing beyond the region is read, whatever stands in it.
    """
    numbers: list[int] = np.frombuffer(table, np.int64).tolist()
    found: list[Array | None] = []
    at = 0
    for info in infos:
        place, size, rank = numbers[at : at + 3]
        shape = numbers[at + 3 : at + 3 + max(0, rank)]
        at += 3 + max(0, rank)
        if rank == -1:
            found.append(None)
            continue
        if not 0 <= rank <= _MOST_DIMENSIONS or len(shape) != rank or region is None:
            raise ValueError(f"the table says {rank} dimensions of {info.name!r}")
        if info.data_type == "string":
            found.append(_strings(region, place, size, shape))
        else:
            found.append(region.array(place, dtype_of(info), shape).copy())
    if at != len(numbers):
        raise ValueError("the table is longer than its tensors")
    return found


def _as_bytes(info: TensorInfo, array: Array) -> tuple[Array, Array]:
    words: list[bytes] = []
    for word in array.ravel().tolist():
        if isinstance(word, str):
            try:
                words.append(word.encode())
            except UnicodeEncodeError as error:
                raise TensorError(f"{info.name!r} holds text that has no UTF-8 form ({error.reason})") from error
        elif isinstance(word, bytes):
            words.append(word)
        else:
            raise TensorError(f"{info.name!r} holds {word!r:.60} ({type(word).__name__}); wanted str or bytes")
    return np.fromiter(map(len, words), np.int64, len(words)), np.frombuffer(b"".join(words), np.uint8)


def _strings(region: Region, place: int, size: int, shape: Sequence[int]) -> Array:
    count = math.prod(shape)
    if min(shape, default=0) < 0 or not 8 * count <= size:
        raise ValueError(f"{size} bytes cannot hold {count} strings")
    lengths = region.array(place, np.dtype(np.int64), (count,)).tolist()
    content = region.array(place + 8 * count, np.dtype(np.uint8), (size - 8 * count,)).tobytes()
    if min(lengths, default=0) < 0 or sum(lengths) != len(content):
        raise ValueError("the strings are longer or shorter than their bytes")
    found = np.empty(count, object)
    at = 0
    for number, length in enumerate(lengths):
        found[number] = content[at : at + length]
        at += length
    return found.reshape(shape)
