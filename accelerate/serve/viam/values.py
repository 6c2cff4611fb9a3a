"""Values of Viam's protocol, which are JSON's: what goes out is made of these."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["plain"]


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
