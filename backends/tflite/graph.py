"""What an interpreter says of the graph that is to run, where no file does or the file leaves it open."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from accelerate.contract import Source, dtype_of
from accelerate.errors import UnsupportedModelError
from accelerate.formats.interface import Interface
from accelerate.formats.tflite.graph import Signature, Tensor
from accelerate.formats.tflite.interface import choose_signature, name_graph
from accelerate.metadata import Metadata, Quantization, TensorInfo

from .calls import Calls
from .state import state_of_interpreter

__all__ = [
    "as_allocated",
    "describe_interpreter",
    "interface_of_interpreter",
    "is_one_delegate",
    "learn_dtypes",
    "signatures_of",
]


def signatures_of(interpreter: Any) -> list[Signature]:
    """Return the signatures of an interpreter's model."""
    subgraph_of = interpreter._interpreter.GetSubgraphIndexFromSignature
    return [
        Signature(key, int(subgraph_of(key)), names["inputs"], names["outputs"])
        for key, names in interpreter._get_full_signature_list().items()
    ]


def interface_of_interpreter(interpreter: Any, wanted: str | None) -> Interface:
    """Return the tensors of an interpreter's main graph, or of the signature that is wanted."""
    signature = choose_signature(signatures_of(interpreter), wanted)
    number = signature.subgraph
    if number:  # of other graphs it tells what their signatures name
        details = [
            [interpreter._get_tensor_details(index, number) for index in sorted(set(side.values()))]
            for side in (signature.inputs, signature.outputs)
        ]
    else:
        details = [interpreter.get_input_details(), interpreter.get_output_details()]
    inputs, outputs = ([_tensor(d) for d in side] for side in details)
    return Interface(
        signature.key,
        number,
        name_graph(inputs, signature.inputs),
        name_graph(outputs, signature.outputs),
        tuple(tensor.index for tensor in inputs),
        tuple(tensor.index for tensor in outputs),
    )


def describe_interpreter(source: Source, signature: str | None) -> Metadata | None:
    """Return what an existing interpreter says of its model; None for a source of another kind."""
    if source.format != "object":
        return None
    told = interface_of_interpreter(source.object, signature)
    return Metadata("", "", "", told.inputs, told.outputs, (), bool(state_of_interpreter(source.object)))


def as_allocated(
    infos: Sequence[TensorInfo], indices: Sequence[int], calls: Calls, *, settled: bool
) -> tuple[TensorInfo, ...]:
    """Return outputs with the shapes that the interpreter has worked out: older converters leave them out.

    Where the inputs are `settled`, dynamic ones have theirs, too, but for those that have no place before a run.
    """
    return tuple(
        info
        if min(info.shape, default=0) < 0 and not (settled and calls.placed(index))
        else _as_allocated(info, calls.shape(index))
        for info, index in zip(infos, indices, strict=True)
    )


def _as_allocated(info: TensorInfo, shape: tuple[int, ...]) -> TensorInfo:
    if shape == info.shape:
        return info
    return replace(info, shape=shape, extra={key: value for key, value in info.extra.items() if key != "rank"})


def is_one_delegate(interpreter: Any, computed: Collection[int], outputs: Collection[int]) -> bool:
    """Return whether a single operator of a delegate computes all outputs from nothing but the main graph's inputs."""
    native = interpreter._interpreter
    nodes = [node for node in range(native.NumNodes()) if native.NodeName(node) == "DELEGATE"]
    if len(nodes) != 1 or not set(outputs) <= set(map(int, native.NodeOutputs(nodes[0]))):
        return False
    return set(computed).isdisjoint(map(int, native.NodeInputs(nodes[0])))


def learn_dtypes(tensors: Sequence[TensorInfo]) -> None:
    """Teach NumPy the types that come from ml_dtypes, such as bfloat16, where a tensor is of one."""
    for tensor in tensors:
        try:
            dtype_of(tensor)
        except TypeError as error:
            raise UnsupportedModelError(
                f"tensor {tensor.name!r} is {tensor.data_type}, which neither NumPy nor ml_dtypes has here",
                "install or update it: pip install --upgrade ml_dtypes",
            ) from error


def _tensor(details: dict[str, Any]) -> Tensor:
    shape = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    kind = np.dtype(details["dtype"])
    return Tensor(
        int(details["index"]),
        str(details["name"]),
        "string" if kind.kind == "S" else kind.name,
        tuple(map(int, shape)),
        _quantization(details["quantization_parameters"]),
        default_shape=tuple(map(int, details["shape"])),
    )


def _quantization(parameters: dict[str, Any]) -> Quantization | None:
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    if len(scales) == 0 or not np.any(scales):
        return None
    axis = int(parameters["quantized_dimension"]) if len(scales) > 1 else None
    return Quantization(tuple(map(float, scales)), tuple(map(int, zero_points)), axis)
