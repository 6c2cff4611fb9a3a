"""What the environment says where a program does not: ``EDGE_ACCELERATE_BACKEND``, ``_DEVICE``, ``_TUNED``, ``_LOG``.

They take the place of ``backend="auto"`` and of None only. ``_CACHE`` is read by `system.cache`, and a backend's own
variables by the backend.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from .errors import OptionError

__all__ = ["VARIABLES", "check", "in_place_of", "start_log", "tuned"]

_BACKEND = "EDGE_ACCELERATE_BACKEND"
_DEVICE = "EDGE_ACCELERATE_DEVICE"
_TUNED = "EDGE_ACCELERATE_TUNED"
_CACHE = "EDGE_ACCELERATE_CACHE"
_LOG = "EDGE_ACCELERATE_LOG"
#: All that are no backend's own.
VARIABLES = (_BACKEND, _DEVICE, _TUNED, _CACHE, _LOG)
_LEVELS = ("debug", "info", "warning", "error")


def in_place_of(backend: str | Sequence[str], device: str | None) -> tuple[str | Sequence[str], str | None, str]:
    """Return a backend and a device in the place of those that a program leaves open, and which variables say so."""
    said = []
    if backend == "auto" and (value := _value(_BACKEND)) not in ("", "auto"):
        names = [name.strip() for name in value.split(",")]
        backend = names[0] if len(names) == 1 else names
        said.append(f"{_BACKEND}={value}")
    if device is None and (value := _value(_DEVICE)):
        device = value
        said.append(f"{_DEVICE}={value}")
    return backend, device, ", ".join(said)


def tuned() -> bool:
    """Return whether `auto` goes by what `tune` has stored: unless ``EDGE_ACCELERATE_TUNED`` is 0.

    Raises
    ------
    OptionError
    """
    value = _value(_TUNED)
    if value not in ("", "0", "1"):
        raise OptionError(
            f"{_TUNED} is {value!r:.60}; wanted 0 to leave out what tune has stored, or 1",
            "correct it, or unset it",
        )
    return value != "0"


def check() -> None:
    """Refuse wrong values, naming the variable.

    Raises
    ------
    OptionError
    """
    tuned()
    level, cache = _value(_LOG), _value(_CACHE)
    if level and level.lower() not in _LEVELS:
        raise OptionError(f"{_LOG} is {level!r:.60}; wanted one of {', '.join(_LEVELS)}", "correct it, or unset it")
    if cache and os.path.exists(cache) and not os.path.isdir(cache):
        raise OptionError(f"{_CACHE} is {cache!r}, which is no folder", "give a folder, or unset it")


def start_log() -> None:
    """Write the log to stderr, from the level that ``EDGE_ACCELERATE_LOG`` names; a wrong value waits for `check`."""
    level = _value(_LOG).lower()
    if level in _LEVELS:
        handler = _OnlyOutput()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        logger = logging.getLogger("accelerate")
        logger.addHandler(handler)
        logger.setLevel(level.upper())


class _OnlyOutput(logging.StreamHandler):  # type: ignore[type-arg]  # its stream is whatever stderr is
    """Keeps quiet in a program that shows its log itself, where each line would come twice."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            super().emit(record)


def _value(name: str) -> str:
    return os.environ.get(name, "").strip()
