"""What a compiled model needs of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelerate.errors import ModelError
from accelerate.formats.flatbuffer import INT32, Reader, Table

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
    reader = Reader(model, "the compiled part")
    try:
        package = Table(reader, reader.follow(start, "its package"), "its package")
        return package.number(0, INT32) if package.has(0) else None
    except ModelError:
        return None
