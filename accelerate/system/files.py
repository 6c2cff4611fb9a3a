"""Reads small files that the system or somebody else has written, whatever they are."""

from __future__ import annotations

import os
import stat

__all__ = ["read_text"]

_MOST = 1 << 20


def read_text(path: str, most: int = _MOST) -> str:
    """Return the text of a file, without white space and zero bytes at its ends; "" for what is no readable file.

    At most so many bytes are read, and what is no text becomes replacement characters. A pipe or a device is not
    opened: nobody may ever write to it.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ""
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            content = b""
            while len(content) < most and (more := file.read(most - len(content))):
                content += more
    except (OSError, ValueError):  # ValueError: a zero byte in a name
        return ""
    return content.decode("utf-8", "replace").strip("\0 \t\r\n")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # where a pipe has taken the file's place meanwhile
