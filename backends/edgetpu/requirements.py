"""What a compiled model needs of the library."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["needed_runtime"]

# The compiler puts a flatbuffer of its own into the custom operator's options: a Package (executable.fbs of
# google-coral/libedgetpu, file identifier "DWN1"), whose first field is min_runtime_version.
_IDENTIFIER = b"DWN1"


def needed_runtime(model: bytes | mmap) -> int | None:
    """Return the runtime version that a compiled model needs at least, None where it does not say."""
    start = model.find(_IDENTIFIER) - 4
    if start < 0:
        return None
    try:
        table = start + struct.unpack_from("<I", model, start)[0]
        fields = table - struct.unpack_from("<i", model, table)[0]
        size, _, first = struct.unpack_from("<HHH", model, fields)
        if size < 6 or not first:
            return None
        version: int = struct.unpack_from("<i", model, table + first)[0]
    except struct.error:
        return None
    return version
