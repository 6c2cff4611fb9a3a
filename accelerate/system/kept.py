"""Engines that a runtime has built for a model, kept in the cache folder: what takes minutes is done once.

Each engine has a folder of its own, whose name stands for all that the engine depends on: where any of it changes,
another folder is looked for. A file in it, ``about``, says what that is, and is written last: a folder without it holds
what somebody has not finished. Who uses an engine holds a lock on its folder, so that no other process removes it. What
changes such a lock, or goes by one, does so alone: a lock that is changed from one kind to another is lost in between.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from time import time
from typing import Any

from .cache import folder, write

fcntl: Any = None
with contextlib.suppress(ImportError):  # not on Windows
    import fcntl

__all__ = ["MOST_BYTES", "KeptEngine", "kept_engine"]

#: How much all engines together may take; what was not used for longest goes first.
MOST_BYTES = 2 << 30
_ABOUT = "about"
_RECENT = 86400.0  # seconds; where folders have no locks, what was used since is taken to be in use


def kept_engine(runtime: str, key: Mapping[str, object]) -> KeptEngine:
    """Open the folder of an engine, which is empty where none is kept.

    Parameters
    ----------
    runtime : str
        The backend's name.
    key : Mapping of str to object
        All that the engine depends on, by name: the model's digest, device, driver, versions and options. What is equal
        has the same text.

    Raises
    ------
    OSError
        Nothing can be kept: the cache folder cannot be used, or (`BlockingIOError`) somebody builds this engine now.
    """
    from hashlib import sha256

    about = "".join(f"{name}={value!r}\n" for name, value in sorted(key.items())).encode("utf-8", "backslashreplace")

    try:
        root = folder() / "engines"
    except RuntimeError as error:  # a user without a home folder
        raise OSError(str(error)) from error
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root / runtime / sha256(about).hexdigest()[:32]
    with _alone(root):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return KeptEngine(path, about)


class KeptEngine:
    """The folder of an engine. It is in use until `close`, or until nobody refers to this object.

    Attributes
    ----------
    path : Path
        The runtime may write to it.
    found : bool
        Whether an engine is there from before.
    """

    def __init__(self, path: Path, about: bytes) -> None:
        self.path = path
        self.found = False
        self._about = about
        self._closed = False
        self._lock: int | None = None
        try:
            self._lock = _open(path)
            self._enter()
        except BaseException:
            self.close()
            raise

    def _enter(self) -> None:
        self.found = self._is_whole()
        if not _locked(self._lock, exclusive=not self.found):
            raise BlockingIOError("another load builds this engine now")
        if self.found:
            with contextlib.suppress(OSError):  # a folder that is only read from
                os.utime(self.path / _ABOUT)
            return
        self._empty()
        write(self.path / _ABOUT, b"")  # whether this can be written to shows now, and not after minutes

    def keep(self) -> bool:
        """Let later loads find what was built; return whether anything was, and else `discard` it.

        Raises
        ------
        OSError
        """
        with self._alone():
            if self.found:
                return True
            if not any(path.name != _ABOUT for path in self.path.iterdir()):
                return False
            write(self.path / _ABOUT, self._about)
            self.found = _locked(self._lock, exclusive=False)
            _prune(self.path.parents[1], MOST_BYTES)
        return True

    def renew(self) -> None:
        """Empty the folder, whose engine is of no use.

        Raises
        ------
        OSError
            It is in use elsewhere, or cannot be written to.
        """
        self.found = False
        with self._alone():
            if not _locked(self._lock, exclusive=True):
                raise BlockingIOError(f"the engine in {self.path} is in use")
            self._empty()

    def discard(self) -> None:
        """Leave nothing behind of what was not built to its end; close."""
        if not self.found and not self._closed:
            with contextlib.suppress(OSError), self._alone():
                if _locked(self._lock, exclusive=True):
                    _remove(self.path)
        self.close()

    def _alone(self) -> AbstractContextManager[None]:
        return _alone(self.path.parents[1])

    def close(self) -> None:
        """Be done with the engine: it stays for later loads, but may be removed to make room."""
        lock, self._lock, self._closed = self._lock, None, True
        _close(lock)

    def __del__(self) -> None:
        self.close()

    def _is_whole(self) -> bool:
        try:
            return (self.path / _ABOUT).read_bytes() == self._about
        except OSError:
            return False

    def _empty(self) -> None:
        for path in self.path.iterdir():
            _remove(path)


def _open(path: Path) -> int | None:
    """Return a descriptor of a folder that a lock can be had on; None where folders have none."""
    return None if fcntl is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _close(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Wait until nobody else opens, finishes or removes an engine; none of that takes long."""
    lock = _open(root)
    try:
        if lock is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        _close(lock)


def _locked(lock: int | None, *, exclusive: bool) -> bool:
    """Try to take a lock, or to change it; where that fails there is none."""
    if lock is None:
        return True
    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _prune(root: Path, most: int) -> None:
    """Remove what nobody has finished, and the longest unused until all engines take no more than `most` bytes."""
    engines = sorted(_engines(root))
    total = sum(size for _, size, _, _ in engines)
    for _, size, finished, path in engines:
        if total > most or not finished:
            with contextlib.suppress(OSError):
                if _remove_unused(path):
                    total -= size


def _engines(root: Path) -> Iterator[tuple[float, int, bool, Path]]:
    """Yield when an engine was last used, its bytes, whether it was finished, and its folder."""
    for path in root.glob("*/*"):
        with contextlib.suppress(OSError):
            sizes = {file.name: file.stat().st_size for file in path.rglob("*") if file.is_file()}
            about = path / _ABOUT
            used = (about if _ABOUT in sizes else path).stat().st_mtime
            yield used, sum(sizes.values()), sizes.get(_ABOUT, 0) > 0, path


def _remove_unused(path: Path) -> bool:
    """Remove a folder that nobody uses; return whether it is gone."""
    if fcntl is None and path.stat().st_mtime > time() - _RECENT:
        return False
    lock = _open(path)
    try:
        free = _locked(lock, exclusive=True)
        if free:
            _remove(path)
        return free
    finally:
        _close(lock)
