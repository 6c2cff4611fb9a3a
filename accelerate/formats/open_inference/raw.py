"""The raw contents of tensors in a message, as views of it, and strings in such contents.

The generated classes copy every tensor into and out of their messages. They are given only the small part here: the
raw contents stay where they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..protobuf import BYTES, Message

__all__ = ["pack_strings", "split", "unpack_strings"]


def split(message: bytes, number: int, what: str, start: int = 0) -> tuple[bytes, list[memoryview]]:
    """Separate the contents of one field of bytes from the rest of a message, which `what` names in errors.

    It is read from `start` on, where a field begins.

    Raises
    ------
    ModelError
        It is no message.
    """
    view, end = memoryview(message), start
    raw: list[memoryview] = []
    rest: list[memoryview] = []
    for field, wire, value in Message(message, what, (start, len(message))).fields():
        start, end = end, value[1]
        if field == number and wire == BYTES:
            raw.append(view[value[0] : end])
        else:
            rest.append(view[start:end])
    return b"".join(rest), raw


def pack_strings(words: np.ndarray[Any, Any]) -> bytes:
    """Return the raw contents of a BYTES tensor: each element behind its length (little-endian, 4 bytes)."""
    parts: list[bytes] = []
    for word in words.ravel().tolist():
        parts += (len(word).to_bytes(4, "little"), word)
    return b"".join(parts)


def unpack_strings(content: memoryview, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Read the raw contents of a BYTES tensor.

    Returns
    -------
    numpy.ndarray
        Flat, of bytes objects.

    Raises
    ------
    ValueError
        There are more strings in it, or fewer, than the shape has.
    """
    count = math.prod(shape)
    if count * 4 > len(content):
        raise ValueError(f"has {len(content)} bytes for {count} strings")
    words = np.empty(count, object)
    at = 0
    for i in range(count):
        length = int.from_bytes(content[at : at + 4], "little")
        end = at + 4 + length
        if end > len(content):
            raise ValueError(f"ends within string {i} of {count}")
        words[i] = bytes(content[at + 4 : end])
        at = end
    if at != len(content):
        raise ValueError(f"has {len(content) - at} bytes after the last of {count} strings")
    return words
