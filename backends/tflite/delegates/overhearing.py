"""What native code writes to stderr: often the only reason that a library or the interpreter gives."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator

__all__ = ["overheard"]

_STDERR = 2
_MOST = 300  # characters, of a message
_IDLE = re.compile(rb"(INFO|VERBOSE): |WARNING: All log messages")  # how the engines begin what explains nothing


@contextlib.contextmanager
def overheard() -> Iterator[Callable[[], str]]:
    """Take what is written to stderr, for a child process that answers with its reason.

    What it yields returns the lines until then, in one. Nothing is held back meanwhile.
    """
    log = logging.getLogger("accelerate")
    level = log.level
    with tempfile.TemporaryFile() as file:

        def said() -> str:
            written = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
            lines = [line for line in written.splitlines() if not _IDLE.match(line)]
            return " ".join(b" ".join(lines).decode("utf-8", "replace").split())[-_MOST:]

        real = os.dup(_STDERR)
        os.dup2(file.fileno(), _STDERR)
        log.setLevel(logging.DEBUG)  # at which runtimes' lines are let through
        try:
            yield said
        finally:
            log.setLevel(level)
            os.dup2(real, _STDERR)
            os.close(real)
