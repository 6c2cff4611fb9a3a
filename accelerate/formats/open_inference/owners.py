"""Whose a file of shared memory is: a client keeps its own locked (flock) for as long as it lives."""

from __future__ import annotations

import fcntl
import re

__all__ = ["PREFIX", "is_left", "is_locked"]

#: How the names of files begin whose owner locks them; the machine, the process and a random number follow.
PREFIX = "edge-accelerate-"
_NAME = re.compile(re.escape(PREFIX) + r"[0-9a-f]{12}-[0-9]+-[0-9a-f]{32}")


def is_locked(name: str) -> bool:
    """Return whether a file of this name is one that its owner locks. Strangers' names may begin like ours."""
    return _NAME.fullmatch(name) is not None


def is_left(handle: int) -> bool:
    """Return whether nobody holds the lock on such a file, which is so once its owner is dead; it is locked then."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
