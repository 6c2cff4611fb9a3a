"""Triton's extension for system shared memory: regions that clients register, read from and written to by requests.

A region is read by preadv and written by pwritev, never mapped: access to a mapping whose file its owner has made
shorter would end this process. The copy is one that a message would make as well.
See https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_shared_memory.md.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np

from ...calls.conversion import Array
from ...formats.open_inference import owners
from .refusals import RefusalError

__all__ = ["Region", "Regions", "Rooms"]

_FOLDER = "/dev/shm/"
_MOST = 256  # each has a descriptor of this process
_LONGEST_NAME = 255
_MOST_KEPT = 4
_EVERY = 1.0  # seconds between two looks whether owners live


class Region:
    """A part of a file in /dev/shm that a client has registered."""

    def __init__(self, name: str, key: str, offset: int, size: int) -> None:
        self.name, self.key, self.offset, self.size = name, key, offset, size
        self.users = 0  # requests that work on it
        self._handle = _opened(name, key, offset + size)
        self._finalizer = weakref.finalize(self, os.close, self._handle)

    def read(self, tensor: str, offset: int, into: Array) -> None:
        """Fill an array of uint8, which is not larger than what `check` has allowed.

        Raises
        ------
        RefusalError
        """
        if self._move(os.preadv, into.data, offset) < len(into):
            raise self._shrunk(tensor)

    def write(self, tensor: str, offset: int, content: Any) -> None:
        """Write bytes, or an array of uint8.

        Raises
        ------
        RefusalError
        """
        size = len(content)
        self.check(tensor, offset, size)
        done = 0
        try:
            # to write behind its end would make the file as long again, in which there is no harm but no sense either
            if os.fstat(self._handle).st_size >= self.offset + offset + size:
                done = self._move(os.pwritev, memoryview(content), offset)
        except OSError as error:
            raise RefusalError(
                grpc.StatusCode.INTERNAL,
                f"output '{tensor}' cannot be written to shared memory region '{self.name}': {error.strerror}",
            ) from error
        if done < size:
            raise self._shrunk(tensor)

    def _move(self, move: Callable[[int, list[memoryview], int], int], view: memoryview, offset: int) -> int:
        """Read or write bytes; return how many, which are fewer where the file ends."""
        done, at = 0, self.offset + offset
        while done < len(view) and (moved := move(self._handle, [view[done:]], at + done)):  # 2 GiB at most
            done += moved
        return done

    def check(self, tensor: str, offset: int, size: int) -> None:
        """Refuse what does not lie within the region."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise RefusalError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"tensor '{tensor}' would take bytes {offset} to {offset + size} of shared memory region "
                f"'{self.name}', which has {self.size}",
            )

    def _shrunk(self, tensor: str) -> RefusalError:
        return RefusalError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"shared memory region '{self.name}' has been made shorter, and tensor '{tensor}' is not all there; "
            "register it again",
        )

    def close(self) -> None:
        """Let go of the file."""
        self._finalizer()

    def remove_if_left(self) -> bool:
        """Take the file away where the client that made it is known to be dead; return whether that is so."""
        file = self.key.lstrip("/")
        if not owners.is_locked(file) or not owners.is_left(self._handle):
            return False
        with contextlib.suppress(OSError):
            os.unlink(_FOLDER + file)
        return True


def _opened(name: str, key: str, end: int) -> int:
    """Open the file of a region, and refuse what is no file of shared memory of this user's."""
    file = key[1:] if key.startswith("/") else key
    if not file or "/" in file or "\0" in file or file in (".", ".."):
        raise RefusalError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"shared memory region '{name:.80}' has the key {key!r:.80}; wanted the name of a file in /dev/shm",
        )

    def refused(why: str) -> RefusalError:
        # INTERNAL is what Triton says here
        return RefusalError(
            grpc.StatusCode.INTERNAL, f"Unable to open shared memory region: '{name}', key {key!r:.255}: {why}"
        )

    try:
        handle = os.open(_FOLDER + file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise refused(getattr(error, "strerror", None) or str(error)) from error
    try:
        why = _why_not(os.fstat(handle), end)
    except BaseException:
        os.close(handle)
        raise
    if why:
        os.close(handle)
        raise refused(why)
    return handle


def _why_not(status: os.stat_result, end: int) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, and the server runs as {os.geteuid()}"
    return f"it has {status.st_size} bytes, and the region would end at {end}" if status.st_size < end else ""


class Rooms:
    """Memory that regions are read into, kept for the next request: its page faults take longer than the copy."""

    def __init__(self) -> None:
        self._kept: deque[Array] = deque(maxlen=_MOST_KEPT)

    def take(self, size: int) -> Array:
        """Return uint8 [size]."""
        try:
            room = self._kept.pop()
        except IndexError:
            return np.empty(size, np.uint8)
        return room if room.size == size else np.empty(size, np.uint8)

    def give(self, room: Array) -> None:
        """Keep memory that nobody uses any more."""
        self._kept.append(room)


class Regions:
    """The regions of all clients. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Region] = {}
        self._watching = False
        self._closed = threading.Event()

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Add a region.

        Raises
        ------
        RefusalError
        """
        if not 0 < len(name) <= _LONGEST_NAME:
            raise RefusalError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the name of a shared memory region has {len(name)} characters; wanted 1 to {_LONGEST_NAME}",
            )
        if offset < 0 or size <= 0 or offset + size >= 1 << 63:
            raise RefusalError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"shared memory region '{name}' of {size} bytes from {offset} cannot be",
            )
        region = Region(name, key, offset, size)
        try:
            with self._lock:
                self._check_room(name)
                self._all[name] = region
                watch = not self._watching
                self._watching = True
        except BaseException:
            region.close()
            raise
        if watch:
            threading.Thread(target=self._watch, name="accelerate-regions", daemon=True).start()

    def _check_room(self, name: str) -> None:
        if name in self._all:
            raise RefusalError(grpc.StatusCode.ALREADY_EXISTS, f"shared memory region '{name}' already in manager")
        if len(self._all) >= _MOST:
            raise RefusalError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{_MOST} shared memory regions are registered, and there is no room for more; unregister some",
            )

    def unregister(self, name: str) -> None:
        """Remove a region, of no name all of them. One that is not there is removed already.

        Raises
        ------
        RefusalError
            A request works on it.
        """
        with self._lock:
            named = [self._all[name]] if name in self._all else [] if name else [*self._all.values()]
            used = [region for region in named if region.users]
            for region in named:
                if region not in used:
                    del self._all[region.name]
                    region.close()
        if used:
            raise RefusalError(
                grpc.StatusCode.INTERNAL,
                f"Cannot unregister shared memory region '{used[0].name}', it is currently in use.",
            )

    def listed(self, name: str) -> list[Region]:
        """Return a region, of no name all of them.

        Raises
        ------
        RefusalError
        """
        with self._lock:
            if name and name not in self._all:
                raise _unknown(name)
            return [self._all[name]] if name else [*self._all.values()]

    def lend(self, names: frozenset[str]) -> dict[str, Region]:
        """Return the regions of these names, which a request uses until it gives them back.

        Raises
        ------
        RefusalError
        """
        if not names:
            return {}
        with self._lock:
            missing = [name for name in names if name not in self._all]
            if missing:
                raise _unknown(missing[0])
            regions = {name: self._all[name] for name in names}
            for region in regions.values():
                region.users += 1
        return regions

    def give_back(self, regions: dict[str, Region]) -> None:
        """End a request's use of regions."""
        if regions:
            with self._lock:
                for region in regions.values():
                    region.users -= 1

    def close(self) -> None:
        """Let go of all; of one that a request works on when that has ended."""
        self._closed.set()
        with self._lock:
            for region in self._all.values():
                if not region.users:
                    region.close()
            self._all.clear()

    def sweep(self) -> None:
        """Remove the regions whose clients are dead, and their files."""
        with self._lock:
            for region in [region for region in self._all.values() if not region.users and region.remove_if_left()]:
                del self._all[region.name]
                region.close()

    def _watch(self) -> None:
        while not self._closed.wait(_EVERY):
            self.sweep()
            with self._lock:
                if not self._all:
                    self._watching = False
                    return


def _unknown(name: str) -> RefusalError:
    return RefusalError(grpc.StatusCode.NOT_FOUND, f"Unable to find shared memory region: '{name:.255}'")
