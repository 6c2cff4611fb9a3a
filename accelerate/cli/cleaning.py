"""Text from files and their names made harmless for a terminal. Needs nothing but the standard library."""

from __future__ import annotations

import logging

from .terms import as_options

__all__ = ["CleanFormatter", "clean", "clean_line"]


def clean_line(text: str) -> str:
    """Return text on one line in which nothing steers the terminal: names and labels come from untrusted files."""
    return clean(" ".join(text.split()))


def clean(text: str) -> str:
    """Return text with its lines and blanks as they are, in which nothing steers the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class CleanFormatter(logging.Formatter):
    """Writes log records in the terms of commands, whose text cannot steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line; a format may have the level in small letters, as ``level``."""
        record.level = record.levelname.lower()
        return clean(as_options(super().format(record)))
