"""Memory that a program shares with its child: nameless, of a fixed size, and gone with the last who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...calls.conversion import Array
from ...errors import InferenceError

__all__ = ["Region", "new_region", "room_for", "sealed_file"]

#: Where a tensor begins: what vector instructions like, and no two tensors in one line of a cache.
ALIGNMENT = 64
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL if hasattr(fcntl, "F_SEAL_SEAL") else 0
_FIXED = 0x10  # MAP_FIXED of mman.h, on every architecture that Python has a wheel for


def room_for(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Return where each of several tensors begins, by their sizes in bytes, and what all of them take."""
    places, end = [], 0
    for size in sizes:
        places.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return places, end


def sealed_file(size: int) -> int:
    """Return the descriptor of new memory, whose size nobody can change: a smaller file would end its readers.

    Raises
    ------
    OSError
        There is no descriptor left, or no such size.
    """
    descriptor = os.memfd_create("accelerate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OverflowError):  # 2 ** 63 bytes, from a model that says so
            raise OSError(12, os.strerror(12)) from error
        raise
    return descriptor


class Region:
    """Shared memory, mapped for as long as there is an array over it.

    Parameters
    ----------
    size : int
    descriptor : int, optional
        Of memory that somebody else has made, which is closed once it is mapped.

    Attributes
    ----------
    size : int
    descriptor : int
        To be sent to a child; -1 once it is closed.
    """

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        self.size = max(size, ALIGNMENT)
        self.descriptor = sealed_file(self.size) if descriptor is None else descriptor
        try:
            self._memory = mmap.mmap(self.descriptor, self.size)
        except (OSError, ValueError) as error:
            os.close(self.descriptor)
            raise error if isinstance(error, OSError) else OSError(12, str(error)) from error
        if descriptor is not None:
            os.close(descriptor)
            self.descriptor = -1
        else:
            self._closer = weakref.finalize(self, _close, self.descriptor)

    def array(self, place: int, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
        """Return the array at a place; ValueError where it would not lie within the region."""
        if place < 0 or min(shape, default=0) < 0:
            raise ValueError(f"no tensor begins at {place} with the shape {list(shape)}")
        size = dtype.itemsize
        for side in shape:
            size *= side
        if place + size > self.size:
            raise ValueError(f"{size} bytes from {place} on are more than the {self.size} of the region")
        found: Array = np.ndarray(tuple(shape), dtype, self._memory, place if size else 0)
        return found

    def close(self) -> None:
        """Close the descriptor; arrays keep the memory."""
        if self.descriptor >= 0:
            self._closer()
            self.descriptor = -1

    def part_from_parent(self) -> None:
        """In a forked child: put memory of its own, with the same content, under the arrays.

        Raises
        ------
        OSError
            There is no descriptor or memory left; the arrays are private then, and there is nothing to share.
        """
        import ctypes

        content = self._memory[:]
        address = np.frombuffer(self._memory, np.uint8).ctypes.data
        self.close()
        library = ctypes.CDLL(None, use_errno=True)
        library.mmap.restype = ctypes.c_void_p
        library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]

        def put(flags: int, descriptor: int) -> None:
            found = library.mmap(address, self.size, mmap.PROT_READ | mmap.PROT_WRITE, flags | _FIXED, descriptor, 0)
            if found != address:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            self._memory[:] = content

        try:
            descriptor = sealed_file(self.size)
        except OSError:
            put(mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
            raise
        put(mmap.MAP_SHARED, descriptor)
        self.descriptor = descriptor
        self._closer = weakref.finalize(self, _close, descriptor)


def new_region(size: int) -> Region:
    """Return new memory for a call.

    Raises
    ------
    InferenceError
        There is none left, or no descriptor.
    """
    try:
        return Region(size)
    except OSError as error:
        raise InferenceError(
            f"there is no memory to share with the child process: {error.strerror or error}",
            "close files, or raise the limit (ulimit -n); or give smaller inputs",
        ) from error


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)
