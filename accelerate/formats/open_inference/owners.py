"""Whose a file of shared memory is: a client keeps its own locked (flock) for as long as it lives."""

from __future__ import annotations

import fcntl

__all__ = ["PREFIX", "is_left"]

#: How the names of files begin whose owner locks them.
PREFIX = "edge-accelerate-"


def is_left(handle: int) -> bool:
    """Return whether nobody holds the lock on such a file, which is so once its owner is dead; it is locked then."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
