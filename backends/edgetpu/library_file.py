"""What the Edge TPU's runtime library is called, and the unrelated package that has taken PyCoral's name."""

from __future__ import annotations

import sys
from pathlib import Path

from accelerate.backends.tflite.delegates.library_file import LibraryKind, find_file, wanted_file

__all__ = ["KIND", "about_namesake", "file_of", "name_on_this_platform"]

KIND = LibraryKind(
    topic="edgetpu",
    title="the Edge TPU's runtime library",
    variable="EDGE_ACCELERATE_EDGETPU_LIBRARY",
    install="install the package libedgetpu1-std (docs/coral.md, 'Where is PyCoral?' says from where); "
    "`pip install pycoral` is another program",
    fitting="install a build of the library for this runtime (docs/coral.md, 'Where is PyCoral?')",
)


def name_on_this_platform() -> str:
    """Return the name under which the library is installed."""
    return {"darwin": "libedgetpu.1.dylib", "win32": "edgetpu.dll"}.get(sys.platform, "libedgetpu.so.1")


def file_of(option: object) -> str:
    """Return the library's file: the one that is named, else the system's."""
    return find_file(wanted_file(KIND, option) or name_on_this_platform())


def about_namesake() -> str:
    """Return a remark on the unrelated package that is called pycoral, "" where it is not installed."""
    for folder in map(Path, sys.path):
        if any(folder.glob("pycoral-*.dist-info")) and not (folder / "pycoral/utils/edgetpu.py").is_file():
            return f" (the package pycoral in {folder} is an unrelated program: pip uninstall pycoral)"
    return ""
