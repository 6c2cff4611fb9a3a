"""Which file runs, a model compiled for the Edge TPU or the one that it was compiled from, and what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.contract import Source
from accelerate.errors import ModelError
from accelerate.formats.flatbuffer import INT32, Reader, Table
from accelerate.formats.tflite.compiled import COMPILED_OPERATOR
from accelerate.formats.tflite.file import ModelFile
from accelerate.formats.tflite.interface import interface
from accelerate.metadata import TensorInfo

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["compiled_twin", "is_compiled", "needed_runtime"]

# The compiler puts a flatbuffer of its own into the custom operator's options: a Package (executable.fbs of
# google-coral/libedgetpu, file identifier "DWN1"), whose first field is min_runtime_version.
_IDENTIFIER = b"DWN1"


def is_compiled(source: Source) -> bool:
    """Tell whether a .tflite file is compiled for the Edge TPU."""
    return COMPILED_OPERATOR in source.opened(ModelFile).custom_operators


def compiled_twin(source: Source) -> tuple[Path | None, str, str]:
    """Find the compiled model that lies beside a plain one, ``net_edgetpu.tflite`` beside ``net.tflite``.

    It may run in the place of the plain one if it is not older and has equal inputs, outputs and labels; else None.
    With it comes the reason why, or why not and what to do.
    """
    path = source.path
    plain = "the model is not compiled for the Edge TPU"
    compiling = f"compile it: edgetpu_compiler {path or 'model.tflite'}"
    if path is None:
        return None, plain, compiling
    twin = path.with_name(f"{path.stem}_edgetpu{path.suffix}")
    try:
        if twin.stat().st_mtime_ns < path.stat().st_mtime_ns:
            return None, f"{plain}, and its compiled twin {twin} is older than it", compiling
    except OSError:
        return None, plain, compiling
    try:
        other = Source(twin)
        if other.format != "tflite" or not is_compiled(other):
            return None, f"{plain}, nor is {twin}, in spite of its name", compiling
        difference = _difference(source.opened(ModelFile), other.opened(ModelFile))
    except ModelError as error:
        return None, f"{plain}, and its compiled twin cannot be read: {error}", compiling
    if difference:
        return (
            None,
            f"{plain}, and its compiled twin {twin} has other {difference}",
            f"{compiling}, or load {twin.name} itself",
        )
    return twin, f"its compiled twin {twin} has equal inputs, outputs and labels", ""


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


def _difference(plain: ModelFile, compiled: ModelFile) -> str:
    theirs, others = interface(plain), interface(compiled)
    if _noticed(theirs.inputs) != _noticed(others.inputs):
        return "inputs"
    if _noticed(theirs.outputs) != _noticed(others.outputs):
        return "outputs"
    return "" if _labels(plain) == _labels(compiled) else "labels"


def _labels(file: ModelFile) -> list[object]:
    return [file.exported.properties.get("names"), *(reading.labels for reading in file.packed_labels())]


def _noticed(tensors: Sequence[TensorInfo]) -> list[object]:
    """Return all that a caller notices of inputs or outputs."""
    return [(t.name, t.data_type, t.shape, t.quantization) for t in tensors]
