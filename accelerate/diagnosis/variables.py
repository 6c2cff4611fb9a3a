"""The environment variables of this project that are set, and the cache folder that one of them names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from .._records import record
from ..calls.names import suggestion
from ..source import without_secrets
from ..system.cache import folder

__all__ = ["CacheFolder", "find_cache", "set_variables", "unknown_variables"]

_PREFIX = "EDGE_ACCELERATE_"


def set_variables() -> Mapping[str, str]:
    """Return the variables that are set and not empty, with their values: of a URL what is no secret."""
    return {
        name: without_secrets(value) if "://" in value else value
        for name, value in sorted(os.environ.items())
        if name.startswith(_PREFIX) and value
    }


def unknown_variables(known: Collection[str]) -> Mapping[str, str]:
    """Return those among them that nobody reads, each with what it may have been meant for."""
    return {name: suggestion(name, known) for name in set_variables() if name not in known}


@record(frozen=True)
class CacheFolder:
    """Where something is remembered.

    Attributes
    ----------
    path : str
        "" where there is no such folder: a user without a home.
    problem : str
        Why nothing can be written there; "" where it can.
    """

    path: str
    problem: str = ""


def find_cache() -> CacheFolder:
    """Find the cache folder, and try to write there."""
    try:
        path = folder()
    except RuntimeError as error:  # no home folder
        return CacheFolder("", str(error))
    return CacheFolder(str(path), _try_to_write(path))


def _try_to_write(path: Path) -> str:
    import tempfile

    made = []
    try:
        for each in (path, *path.parents):  # a trial leaves no folder behind
            if each.exists():
                break
            made.append(each)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            return ""
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    finally:
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()
