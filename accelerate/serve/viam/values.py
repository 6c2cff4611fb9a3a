"""Values of Viam's protocol, which are JSON's: what goes out is made of these, and whole numbers come back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["plain", "whole"]

_EXACT = 1 << 53  # floats beyond it are no counts


def plain(value: Any) -> Any:
    """Return a value as numbers, texts, lists and mappings; what has no such form as its text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, (Sequence, set, frozenset)):
        return [plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def whole(value: Any) -> Any:
    """Return a value whose whole numbers are integers: the protocol knows only floats."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, (list, tuple)) else value
