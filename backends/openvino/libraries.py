"""Whose copy of OpenVINO's library serves this process: of one name and version the first that is loaded serves all.

ONNX Runtime's plugin for OpenVINO brings a copy that reads ONNX and IR alone (onnxruntime-ep-openvino 1.8.1).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .runtime import import_runtime

__all__ = ["lacks_reader"]

#: What the reader of a format is called in its file's name.
_READERS = {"tflite": "tensorflow_lite", "onnx": "onnx", "openvino": "ir"}


def lacks_reader(form: str) -> tuple[str, str] | None:
    """Return reason and remedy where a foreign copy serves that cannot read a format; None where all is well."""
    copy = _foreign_copy()
    if copy is None or form not in _READERS or any(copy.parent.glob(f"libopenvino_{_READERS[form]}_frontend.*")):
        return None
    return (
        f"another package has loaded its own copy of OpenVINO into this program, {copy}, which serves the package "
        "openvino, too, and does not read such files",
        "load(..., isolation='process'), or load a model by backend='openvino' before that package loads its copy",
    )


def _foreign_copy() -> Path | None:
    """Return the library that the package openvino has found loaded in the place of its own, if so."""
    own = os.path.realpath(os.path.join(os.path.dirname(import_runtime().__file__), "libs"))
    loaded: list[Path] = []
    with (
        contextlib.suppress(OSError),  # another system than Linux
        open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps,
    ):
        names = (line.split(maxsplit=5)[5].strip() for line in maps if "/libopenvino.so" in line)
        loaded.extend(Path(name.removesuffix(" (deleted)")) for name in names)
    if any(str(path.parent) == own for path in loaded):
        return None
    return next((path for path in loaded if os.path.exists(os.path.join(own, path.name))), None)
