"""Which file runs: a model compiled for the Edge TPU, or the one that it was compiled from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import ModelError
from ...formats.tflite import ModelFile
from ...formats.tflite_compiled import COMPILED_OPERATOR
from ...formats.tflite_graph import Tensor
from ...names import name_tensors
from ...source import Source

__all__ = ["compiled_twin", "is_compiled"]


def is_compiled(source: Source) -> bool:
    """Tell whether a .tflite file is compiled for the Edge TPU.

    Raises
    ------
    ModelError
        The file is damaged.
    """
    return COMPILED_OPERATOR in ModelFile(source.buffer(), str(source)).custom_operators


def compiled_twin(source: Source) -> tuple[Path | None, str, str]:
    """Find the compiled model that lies beside a plain one, ``net_edgetpu.tflite`` beside ``net.tflite``.

    Returns
    -------
    twin : pathlib.Path or None
        A file that may run in the place of the plain one: not older, with equal inputs, outputs and labels.
    reason, remedy : str
        Why, or why not and what to do.
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
        difference = _difference(ModelFile(source.buffer(), str(path)), ModelFile(other.buffer(), str(twin)))
    except ModelError as error:
        return None, f"{plain}, and its compiled twin cannot be read: {error}", compiling
    if difference:
        return (
            None,
            f"{plain}, and its compiled twin {twin} has other {difference}",
            f"{compiling}, or load {twin.name} itself",
        )
    return twin, f"its compiled twin {twin} has equal inputs, outputs and labels", ""


def _difference(plain: ModelFile, compiled: ModelFile) -> str:
    for side in ("inputs", "outputs"):
        if _tensors(plain, side) != _tensors(compiled, side):
            return side
    return "" if plain.packed_labels().labels == compiled.packed_labels().labels else "labels"


def _tensors(file: ModelFile, side: str) -> list[object]:
    """Return all that a caller notices of the main graph's inputs or outputs, by the names that they will have."""
    tensors: tuple[Tensor, ...] = getattr(file.subgraphs[0], side)
    named: tuple[str, ...] = getattr(file.metadata_names(0), side)
    keys: Mapping[int, str] = {}
    for signature in file.signatures:
        if signature.subgraph == 0:
            keys = {index: name for name, index in getattr(signature, side).items()}
    names = name_tensors([(n, keys.get(t.index, ""), t.name) for t, n in zip(tensors, named, strict=True)])
    return [(name, t.data_type, t.shape, t.quantization) for t, (name, _) in zip(tensors, names, strict=True)]
