"""Reads small files that the system or somebody else has written, whatever they are."""

from __future__ import annotations

import os
import stat

__all__ = ["read_bytes", "read_text"]

_MOST = 1 << 20


def read_text(path: str, most: int = _MOST) -> str:
    """Return the text of a file, without white space and zero bytes at its ends; "" for what is no readable file.

    What is no text becomes replacement characters.
    """
    return read_bytes(path, most).decode("utf-8", "replace").strip("\0 \t\r\n")


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a file, at most so many bytes; nothing for what is no readable file.

    A pipe or a device is not opened: nobody may ever write to it.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            content = b""
            while len(content) < most and (more := file.read(most - len(content))):
                content += more
    except (OSError, ValueError):  # ValueError: a zero byte in a name
        return b""
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # where a pipe has taken the file's place meanwhile
