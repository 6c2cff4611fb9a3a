"""Remembers verdicts that are expensive to reach, as small JSON files in the user's cache folder."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from threading import get_ident
from typing import Any

__all__ = ["folder", "recall", "remember", "write"]


def folder() -> Path:
    """Return the cache folder: ``EDGE_ACCELERATE_CACHE``, else the platform's own place for caches."""
    if given := os.environ.get("EDGE_ACCELERATE_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "edge-accelerate"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/edge-accelerate"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-accelerate"


def recall(topic: str, key: str) -> Any:
    """Return what was remembered under a topic and key, or None."""
    import json  # with hashlib 5 ms, and only an engine that verifies nothing needs them

    try:
        return json.loads(_file(topic, key).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a user without a home folder
        return None


def remember(topic: str, key: str, value: Any) -> None:
    """Write a JSON value; where the folder cannot be written, nothing is remembered."""
    import json

    with contextlib.suppress(OSError, RuntimeError):
        write(_file(topic, key), json.dumps(value).encode())


def write(path: Path, content: bytes) -> None:
    """Write a file of the cache, of which a reader sees all or nothing.

    Raises
    ------
    OSError
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}-{get_ident()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except BaseException:  # the disk is full, or somebody has pressed Ctrl-C
        draft.unlink(missing_ok=True)
        raise


def _file(topic: str, key: str) -> Path:
    import hashlib

    return folder() / topic / (hashlib.sha256(key.encode()).hexdigest() + ".json")
