"""What a forked child has of its parent's runtimes: objects whose threads it has not.

Destroying such an object waits for its threads for ever, or crashes, and so does the end of the interpreter, which
destroys what is left. A child therefore keeps them for good.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["keep_in_children"]


class _Owner(Protocol):
    def forked(self) -> None:
        """Get ready for what a child may do with it."""


_owners: weakref.WeakSet[_Owner] = weakref.WeakSet()


def keep_in_children(owner: _Owner) -> None:
    """Have a child that is forked off never destroy an object, nor what it refers to, and call its `forked` there."""
    _owners.add(owner)


def _in_child() -> None:
    owners = tuple(_owners)
    if owners:
        import ctypes

        for owner in owners:
            # a list of ours would be emptied when the interpreter ends
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
            owner.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
