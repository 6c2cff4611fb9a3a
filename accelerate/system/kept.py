"""Engines that a runtime has built for a model, kept in the cache folder: what takes minutes is done once.

Each engine has a folder of its own, whose name stands for all that the engine depends on: where any of it changes,
another folder is looked for. A file in it, ``about``, is there before all others and empty until the engine is
finished; then it says what the engine depends on, and the digest of each file: what has changed since is damaged.
Nothing is removed that has not such a name and such a file, nor what a symbolic link leads to: it may be a user's.

Who uses an engine holds a lock on its folder, so that no other process removes it. What changes such a lock, or goes by
one, does so alone: a lock that is changed from one kind to another is lost in between. Locks are given back before
their descriptor is closed, of which a forked child may have a copy that lives on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

from .cache import folder, write

fcntl: Any = None
with contextlib.suppress(ImportError):  # not on Windows
    import fcntl

__all__ = ["MOST_BYTES", "KeptEngine", "kept_engine"]

_log = logging.getLogger("accelerate")
#: How much all engines together may take; what was not used for longest goes first.
MOST_BYTES = 2 << 30
_ABOUT = "about"
_NAME = re.compile("[0-9a-f]{32}")  # of an engine's folder
_PATIENCE = 5.0  # seconds; who is alone is so for milliseconds, unless the process is stopped
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
        Nothing can be kept: the cache folder cannot be used, or (`BlockingIOError`) somebody builds this engine now,
        or uses it though it is damaged.
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
        for each in (path.parent, path):
            if each.is_symlink():
                raise OSError(f"{each} is a symbolic link")
        engine = KeptEngine(path, about)
    if engine.found and not engine.is_whole():  # which takes a while for a large one
        _log.warning("the engine in %s is damaged and built again", path)
        try:
            engine.renew()
        except BaseException:
            engine.close()
            raise
    return engine


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
        self._process = os.getpid()
        try:
            self._lock = _open(path)
            self._enter()
        except BaseException:
            self.close()
            raise

    def _enter(self) -> None:
        self.found = self._is_finished()
        if not _locked(self._lock, exclusive=not self.found):
            raise BlockingIOError("another load builds this engine now")
        if self.found:
            with contextlib.suppress(OSError):  # a folder that is only read from
                os.utime(self.path / _ABOUT)
            return
        self._empty()

    def keep(self) -> bool:
        """Let later loads find what was built; return whether anything was, and else `discard` it.

        Raises
        ------
        OSError
        """
        if self.found:
            return True
        content = _digests(self.path)
        if not content:
            return False
        with self._alone():
            write(self.path / _ABOUT, self._about + content)
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
        if not self.found and not self._closed and self._process == os.getpid():
            with contextlib.suppress(OSError), self._alone():
                if _locked(self._lock, exclusive=True):
                    _remove_engine(self.path)
        self.close()

    def _alone(self) -> AbstractContextManager[None]:
        return _alone(self.path.parents[1])

    def close(self) -> None:
        """Be done with the engine: it stays for later loads, but may be removed to make room."""
        lock, self._lock, self._closed = self._lock, None, True
        # a forked child may go on with an engine that was found, but not build one
        ours = not self.found and self._process == os.getpid()
        _close(lock, give_back=ours)

    def __del__(self) -> None:
        self.close()

    def is_whole(self) -> bool:
        """Return whether all files are as they were when the engine was finished."""
        try:
            return (self.path / _ABOUT).read_bytes() == self._about + _digests(self.path)
        except OSError:
            return False

    def _is_finished(self) -> bool:
        about = self.path / _ABOUT
        try:
            return stat.S_ISREG(about.lstat().st_mode) and about.read_bytes().startswith(self._about)
        except OSError:
            return False

    def _empty(self) -> None:
        """Remove all but the file that shows whose folder it is."""
        for path in self.path.iterdir():
            if path.name != _ABOUT or path.is_symlink() or not path.is_file():
                _remove(path)
        write(self.path / _ABOUT, b"")  # whether this can be written to shows now, and not after minutes


def _open(path: Path) -> int | None:
    """Return a descriptor of a folder that a lock can be had on; None where folders have none."""
    return None if fcntl is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _close(lock: int | None, *, give_back: bool) -> None:
    if lock is None:
        return
    try:
        if give_back:
            fcntl.flock(lock, fcntl.LOCK_UN)
    finally:
        os.close(lock)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Wait until nobody else opens, finishes or removes an engine; none of that takes long."""
    lock = _open(root)
    try:
        until = monotonic() + _PATIENCE
        while not _locked(lock, exclusive=True):
            if monotonic() > until:
                raise BlockingIOError(f"another process holds the lock on {root}, and may be stopped")
            sleep(0.002)
        yield
    finally:
        _close(lock, give_back=True)


def _locked(lock: int | None, *, exclusive: bool) -> bool:
    """Try to take a lock, or to change it; where that fails there is none."""
    if lock is None:
        return True
    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _digests(folder: Path) -> bytes:
    """Return a line for each file that an engine consists of."""
    lines = sorted(f"{_digest(path)} {path.relative_to(folder).as_posix()!r}\n" for path in _files(folder))
    return "".join(lines).encode("utf-8", "backslashreplace")


def _files(folder: Path) -> Iterator[Path]:
    """Yield all but folders and what describes the engine."""
    for path in folder.rglob("*"):
        if path != folder / _ABOUT and (path.is_symlink() or not path.is_dir()):
            yield path


def _digest(path: Path) -> str:
    from hashlib import sha256

    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(f"{path} is no regular file")
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_engine(path: Path) -> None:
    """Remove an engine's folder, and last in it what shows that it is one."""
    for each in sorted(path.iterdir(), key=lambda each: each.name == _ABOUT):
        _remove(each)
    path.rmdir()


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
            about = path / _ABOUT
            if not _is_ours(path):
                continue
            told = about.lstat()
            size = told.st_size + sum(file.lstat().st_size for file in _files(path))
            yield told.st_mtime, size, told.st_size > 0, path


def _is_ours(path: Path) -> bool:
    """Tell whether a folder is one that `kept_engine` has made: a user may have others there."""
    links = path.is_symlink() or path.parent.is_symlink()
    return not links and bool(_NAME.fullmatch(path.name)) and stat.S_ISREG((path / _ABOUT).lstat().st_mode)


def _remove_unused(path: Path) -> bool:
    """Remove a folder that nobody uses; return whether it is gone."""
    if fcntl is None and path.stat().st_mtime > time() - _RECENT:
        return False
    lock = _open(path)
    free = False
    try:
        free = _locked(lock, exclusive=True)
        if free:
            _remove_engine(path)
        return free
    finally:
        _close(lock, give_back=free)
