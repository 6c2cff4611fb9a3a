"""Regions of POSIX shared memory: private, unguessable, and provably somebody's.

A region is a file in /dev/shm that its owner keeps locked (flock) for as long as it lives. The kernel lets go of the
lock when the owner's last process ends, however that happens, and in whichever container it was: a region whose lock
is free was left by a dead owner, and `sweep` removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import secrets
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from accelerate.contract import Array
from accelerate.formats.open_inference import owners

__all__ = ["Region", "own_prefix", "sweep"]

FOLDER = Path("/dev/shm")


def own_prefix() -> str:
    """Return how this machine's regions' names begin: another machine's, or another container's /dev/shm, differ."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    return f"{owners.PREFIX}{hashlib.sha256(boot + str(FOLDER.stat().st_dev).encode()).hexdigest()[:12]}-"


class Region:
    """A file in /dev/shm of so many bytes, all of them reserved at once, mapped and locked.

    Attributes
    ----------
    name : str
        The file's name.
    memory : numpy.ndarray
        uint8 [size]. Views of it keep the mapping alive, also after `remove`.

    Raises
    ------
    OSError
        There is no shared memory here, or too little.
    """

    def __init__(self, size: int) -> None:
        self.size = max(size, 1)
        self.name, handle = _create(own_prefix())
        try:
            # without it, writing to a file system that is full ends the process with SIGBUS
            os.posix_fallocate(handle, 0, self.size)
            self._mapping = mmap.mmap(handle, self.size)
        except BaseException:
            _remove(self.name, handle, os.getpid())
            raise
        # through the mapping, and not through an address: whoever has a view keeps it mapped
        self.memory: Array = np.frombuffer(self._mapping, np.uint8)
        # also where nobody calls `remove`: the owner is collected, or the program ends
        self._finalizer = weakref.finalize(self, _remove, self.name, handle, os.getpid())

    def remove(self) -> None:
        """Take the file away, once. Nobody can find the memory any more; it is freed with its last view."""
        self._finalizer()


def _create(prefix: str) -> tuple[str, int]:
    """Create and lock a file with a new name."""
    while True:
        name = f"{prefix}{os.getpid()}-{secrets.token_hex(16)}"
        handle = os.open(FOLDER / name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_nlink:
                return name, handle
        except BlockingIOError:
            pass
        except BaseException:
            os.unlink(FOLDER / name)
            os.close(handle)
            raise
        # another process swept it away before the lock was ours
        os.close(handle)


def _remove(name: str, handle: int, pid: int) -> None:
    if pid == os.getpid():  # a forked child has the parent's objects, and no say over the parent's regions
        with contextlib.suppress(FileNotFoundError):
            os.unlink(FOLDER / name)
    os.close(handle)


def sweep(registered: Iterator[str] | list[str]) -> list[str]:
    """Remove the regions of this machine whose owners are dead.

    `registered` are the names of the regions that a server knows: a file's name, a dot, and a number. Returned are
    those of them that are dead owners' (this machine's, and nobody's file or lock): to be unregistered.
    """
    prefix = own_prefix()
    dead = {name for name in os.listdir(FOLDER) if name.startswith(prefix) and _unlink_if_dead(name)}
    files = {name: name.partition(".")[0] for name in registered if name.startswith(prefix)}
    return [name for name, file in files.items() if file in dead or not (FOLDER / file).exists()]


def _unlink_if_dead(name: str) -> bool:
    try:
        handle = os.open(FOLDER / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:  # another user's, or just gone
        return error.errno == errno.ENOENT
    try:
        if not owners.is_left(handle):
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(FOLDER / name)
    except OSError:  # not ours to take away
        return False
    finally:
        os.close(handle)
    return True
