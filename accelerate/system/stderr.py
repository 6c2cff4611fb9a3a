"""Holds back what native runtimes write to the process's stderr while they are imported and load a model."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence

__all__ = ["held_back"]

_log = logging.getLogger("accelerate")
_STDERR = 2
_lock = threading.Lock()
_depth = 0
_dropped: set[re.Pattern[bytes]] = set()  # of all that take part
_capture: tuple[int, int] | None = None  # (the real stderr, the file that stands in for it)


@contextlib.contextmanager
def held_back(pattern: re.Pattern[bytes]) -> Iterator[None]:
    """Drop a runtime's lines; every other line reaches stderr late. With the logger at DEBUG nothing is held back.

    The redirection is of the whole process (native code writes to the file descriptor), so it lasts only as long as a
    runtime is imported or a model is built, and threads that do so at the same time share one.

    Parameters
    ----------
    pattern : re.Pattern of bytes
        Matches the beginning of every line to be dropped, or lines to their end.
    """
    if _log.isEnabledFor(logging.DEBUG):  # somebody wants to see it, and a crash's last words
        yield
        return
    _enter(pattern)
    try:
        yield
    finally:
        _leave()


def _enter(pattern: re.Pattern[bytes]) -> None:
    global _depth, _capture
    with _lock:
        _dropped.add(pattern)
        _depth += 1
        if _depth == 1:
            with contextlib.suppress(OSError):  # no stderr at all, or no descriptor left: nothing is held back
                stand_in = _anonymous_file()
                try:
                    _capture = (os.dup(_STDERR), stand_in)
                    os.dup2(stand_in, _STDERR)
                except OSError:
                    os.close(stand_in)
                    raise


def _leave() -> None:
    global _depth, _capture
    with _lock:
        _depth = max(0, _depth - 1)  # a child forked inside begins at 0
        if _depth:
            return
        patterns = tuple(_dropped)
        _dropped.clear()
        if _capture is None:
            return
        real, stand_in = _capture
        _capture = None
        os.dup2(real, _STDERR)
        size = os.fstat(stand_in).st_size
        os.lseek(stand_in, 0, os.SEEK_SET)
        written = os.read(stand_in, size) if size else b""
        os.close(real)
        os.close(stand_in)
    late = memoryview(_without(patterns, written))
    with contextlib.suppress(OSError):  # nobody reads stderr any more: no reason to fail a load
        while late:
            late = late[os.write(_STDERR, late) :]


def _without(patterns: Sequence[re.Pattern[bytes]], written: bytes) -> bytes:
    kept, at = [], 0
    while at < len(written):
        match = next(filter(None, (pattern.match(written, at) for pattern in patterns)), None)
        end = written.find(b"\n", at if match is None else max(at, match.end() - 1)) + 1 or len(written)
        if match is None:
            kept.append(written[at:end])
        at = end
    return b"".join(kept)


def _after_fork() -> None:
    """Give a child that was forked while another thread loads a model its stderr back; that thread is not in it."""
    global _lock, _depth, _capture
    _lock, _depth = threading.Lock(), 0
    _dropped.clear()
    if _capture is not None:
        (real, stand_in), _capture = _capture, None
        os.dup2(real, _STDERR)
        os.close(real)
        os.close(stand_in)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("accelerate-stderr")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
