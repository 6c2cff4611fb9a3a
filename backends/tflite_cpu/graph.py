"""What an interpreter says of the graph that is to run: its signature, and its tensors' names, dtypes and shapes."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..._records import record
from ...errors import ModelError, OptionError
from ...formats.tflite import ModelFile
from ...metadata import Quantization, TensorInfo
from ...names import name_tensors, suggestion
from .calls import Calls

__all__ = ["Signature", "describe_tensors", "find_signature", "learn_dtypes", "metadata_names", "tensor_indices"]

_log = logging.getLogger("accelerate")


@record(frozen=True)
class Signature:
    """What the caller asked to run: a subgraph, and the names that a signature gives its inputs and outputs.

    Names go by the tensor's index. A tensor may have several, and be an input and an output under different ones.
    """

    key: str
    subgraph: int
    inputs: Mapping[int, Sequence[str]]
    outputs: Mapping[int, Sequence[str]]


def find_signature(interpreter: Any, wanted: str | None) -> Signature:
    """Find the signature to run: the one named, else the main subgraph's ("serving_default" first)."""
    known = interpreter._get_full_signature_list() if hasattr(interpreter, "_get_full_signature_list") else {}
    subgraphs = {key: _subgraph_of(interpreter, key) for key in known}
    if wanted is None:
        main = sorted((key for key, subgraph in subgraphs.items() if subgraph == 0), key="serving_default".__ne__)
        if not main:
            return Signature("", 0, {}, {})
        wanted = main[0]
    if wanted not in known:
        raise OptionError(
            f"the model has no signature {wanted!r}{suggestion(str(wanted), known)}; "
            f"its signatures: {', '.join(map(repr, sorted(known))) or 'none'}",
            "" if known else "leave the option out",
        )
    return Signature(wanted, subgraphs[wanted], _by_index(known[wanted]["inputs"]), _by_index(known[wanted]["outputs"]))


def _by_index(named: Mapping[str, int]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, index in named.items():
        names.setdefault(index, []).append(name)
    return names


def _subgraph_of(interpreter: Any, key: str) -> int:
    return int(interpreter._interpreter.GetSubgraphIndexFromSignature(key))


def tensor_indices(interpreter: Any, signature: Signature, file: ModelFile | None) -> tuple[list[int], list[int]]:
    """Return the indices of the subgraph's inputs and outputs in the model's order."""
    if signature.subgraph == 0 or file is None:
        return (
            [int(d["index"]) for d in interpreter.get_input_details()],
            [int(d["index"]) for d in interpreter.get_output_details()],
        )
    graph = file.subgraphs[signature.subgraph]
    return [t.index for t in graph.inputs], [t.index for t in graph.outputs]


def metadata_names(file: ModelFile | None, subgraph: int) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names that the file's metadata gives to a subgraph's inputs and outputs, none where it has none."""
    if file is None:
        return (), ()
    try:
        names = file.metadata_names(subgraph)
    except ModelError as error:  # the engine reads it: only the better names are lost
        _log.warning("%s; its tensors go by the names of the graph", error.reason)
        return (), ()
    if names.problem:
        _log.warning("%s", names.problem)
    return names.inputs, names.outputs


def describe_tensors(
    calls: Calls, indices: Sequence[int], signature_names: Mapping[int, Sequence[str]], metadata_names: Sequence[str]
) -> list[TensorInfo]:
    """Describe tensors of a subgraph: the metadata's name goes before the signature's, and that before its own."""
    details = [calls.details(i) for i in indices]
    candidates = []
    for n, (index, d) in enumerate(zip(indices, details, strict=True)):
        described = metadata_names[n] if len(metadata_names) == len(indices) else ""
        before, again = indices[:n].count(index), index in indices[n + 1 :]
        # a tensor that is listed again goes by its next name; what names are left are aliases
        signed = signature_names.get(index, ())[before : before + 1 if again else None]
        candidates.append((described, *signed, str(d["name"])))
    return [
        TensorInfo(
            name=name,
            aliases=aliases,
            data_type=_data_type(d["dtype"]),
            shape=tuple(int(n) for n in d["shape_signature"])
            if len(d["shape_signature"])
            else tuple(map(int, d["shape"])),
            quantization=_quantization(d["quantization_parameters"]),
        )
        for (name, aliases), d in zip(name_tensors(candidates), details, strict=True)
    ]


def learn_dtypes() -> bool:
    """Teach NumPy the types of ml_dtypes, such as bfloat16; return whether it did not know them before."""
    if "ml_dtypes" in sys.modules or importlib.util.find_spec("ml_dtypes") is None:
        return False
    importlib.import_module("ml_dtypes")  # takes as long as a load, so only a model that needs it pays
    return True


def _data_type(dtype: Any) -> str:
    kind = np.dtype(dtype)
    return "string" if kind.kind == "S" else kind.name


def _quantization(parameters: dict[str, Any]) -> Quantization | None:
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    if len(scales) == 0 or not np.any(scales):
        return None
    axis = int(parameters["quantized_dimension"]) if len(scales) > 1 else None
    return Quantization(tuple(map(float, scales)), tuple(map(int, zero_points)), axis)
