"""The delegates of an interpreter that exists already."""

from __future__ import annotations

from typing import Any

__all__ = ["libraries_of"]


def libraries_of(interpreter: Any) -> list[Any]:
    """Return the loaded library (of `ctypes`) of each delegate that an interpreter was made with.

    The engines' ``load_delegate`` keeps it; of a delegate that came another way there is None.
    """
    return [getattr(delegate, "_library", None) for delegate in getattr(interpreter, "_delegates", None) or ()]
