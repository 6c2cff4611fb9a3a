"""Libraries that a plugin and another package both bring: of one name and version the first that is loaded serves all.

onnxruntime-ep-openvino brings OpenVINO without most of its readers. Loaded first it would serve the package openvino,
too, which then could read no .tflite file ("Available frontends: onnx ir"); the package's copy serves both. Copies of
different versions stay apart (tried with openvino 2026.3.0 beside the plugin's 2026.4.1).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["fuller_copies", "load_fuller_copies"]


def fuller_copies(folder: str | os.PathLike[str]) -> Sequence[Path]:
    """Return what is to be loaded in the place of libraries in a plugin's folder, without an import."""
    spec = importlib.util.find_spec("openvino")
    if spec is None or spec.origin is None:
        return ()
    own = Path(spec.origin).parent / "libs"
    return [own / path.name for path in sorted(Path(folder).glob("libopenvino.so.*")) if (own / path.name).is_file()]


def load_fuller_copies(folder: str | os.PathLike[str]) -> None:
    """Load them for the rest of the process; where one cannot be loaded the plugin's own serves it."""
    for path in fuller_copies(folder):
        with contextlib.suppress(OSError):
            ctypes.CDLL(os.fspath(path))
