"""Which of OpenVINO's ports is which tensor of the file, and what the arrays are like that go there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accelerate.contract import Source, dtype_of, name_tensors
from accelerate.errors import UnsupportedModelError
from accelerate.formats.onnx.file import ModelFile as ONNXFile
from accelerate.formats.tflite.file import ModelFile as TFLiteFile
from accelerate.metadata import Metadata, TensorInfo

__all__ = ["arranged", "described_ports", "is_viewed", "own_names", "restore_unread", "settled"]

#: Its names of types that NumPy has.
_TYPES = {
    "boolean": "bool", "f16": "float16", "f32": "float32", "f64": "float64", "i8": "int8", "i16": "int16",
    "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
    "string": "string",
}  # fmt: skip
#: Types of ml_dtypes, which it gives as float16 and uint8: the bits are right.
_VIEWED = {"bf16": "bfloat16", "f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2", "f8e8m0": "float8_e8m0fnu"}


def own_names(source: Source, told: Metadata) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    """Return the names that the file itself gives its inputs and outputs, by which OpenVINO knows them."""
    if source.format == "tflite":
        graph = source.opened(TFLiteFile).subgraph(0)
        return [(t.name,) for t in graph.inputs], [(t.name,) for t in graph.outputs]
    if source.format == "onnx":
        file = source.opened(ONNXFile)
        return [(v.name,) for v in file.inputs if not v.optional], [(v.name,) for v in file.outputs]
    return [(t.name, *t.aliases) for t in told.required_inputs], [(t.name, *t.aliases) for t in told.outputs]


def arranged(ports: Sequence[Any], names: Sequence[Sequence[str]], side: str) -> list[int]:
    """Return the place among the ports of each tensor of a file, known by its own names.

    Raises
    ------
    UnsupportedModelError
        OpenVINO has taken the file for another model than it is.
    """
    known = [port.get_names() for port in ports]
    places: list[int] = []
    for position, wanted in enumerate(names):
        found = [i for i, one in enumerate(known) if not one.isdisjoint(wanted)]
        if not found and len(ports) == len(names) and not known[position]:
            found = [position]  # a tensor without a name
        free = [i for i in found if i not in places] or (found if side == "output" else [])  # an output listed twice
        if not free:
            raise UnsupportedModelError(
                f"OpenVINO has no {side} {wanted[0]!r} of this model; it has "
                + (", ".join(repr(min(one, default="")) for one in known)[:200] or "none"),
                "run it by the backend of its own format",
            )
        places.append(position if position in free else free[0])
    if side == "input" and len(places) != len(ports):
        raise UnsupportedModelError(
            f"OpenVINO wants {len(ports)} inputs of this model, which has {len(places)}",
            "run it by the backend of its own format",
        )
    return places


def restore_unread(model: Any, source: Source, told: Metadata) -> None:
    """Give a model the inputs that nothing reads: OpenVINO drops them of ONNX in bytes, and keeps them of a file."""
    from openvino import PartialShape, Type, opset8

    known = set().union(*(port.get_names() for port in model.inputs))
    kinds = {ours: theirs for theirs, ours in (_TYPES | _VIEWED).items()}
    for (name, *_), info in zip(own_names(source, told)[0], told.required_inputs, strict=True):
        if name in known or info.data_type not in kinds:
            continue
        shape = PartialShape.dynamic() if "rank" in info.extra else PartialShape([*info.shape])
        parameter = opset8.parameter(shape, getattr(Type, kinds[info.data_type]), name=name)
        parameter.output(0).get_tensor().set_names({name})
        model.add_parameters([parameter])


def settled(port: Any, told: TensorInfo) -> TensorInfo:
    """Return what a file says of a tensor with the type and the shape that OpenVINO has worked out.

    Raises
    ------
    UnsupportedModelError
        NumPy has no such type.
    """
    kind, shape = port.get_element_type().get_type_name(), port.get_partial_shape()
    if kind not in _TYPES and kind not in _VIEWED:
        raise UnsupportedModelError(
            f"OpenVINO gives tensor {told.name!r} as {kind}, which no array holds",
            "export the model without tensors of this type",
        )
    info = replace(told, data_type=_VIEWED.get(kind) or _TYPES[kind])
    _learn(info)
    if shape.rank.is_dynamic:
        return replace(info, extra={**told.extra, "rank": "unknown"})
    extra = {key: value for key, value in told.extra.items() if key != "rank"}
    return replace(info, shape=tuple(n.get_length() if n.is_static else -1 for n in shape), extra=extra)


def _learn(info: TensorInfo) -> None:
    try:
        dtype_of(info)
    except TypeError as error:
        raise UnsupportedModelError(
            f"tensor {info.name!r} is of {info.data_type}, which needs ml_dtypes", "pip install --upgrade ml_dtypes"
        ) from error


def is_viewed(info: TensorInfo) -> bool:
    """Return whether its arrays have another type in OpenVINO's hands, of the same size."""
    return info.data_type in _VIEWED.values()


def described_ports(compiled: Any) -> Metadata:
    """Return what a compiled model says of its tensors, without a file."""
    return Metadata("", "", "", _described(compiled.inputs), _described(compiled.outputs))


def _described(ports: Sequence[Any]) -> tuple[TensorInfo, ...]:
    # the names of results' nodes are others at each load
    named = name_tensors([(*sorted(port.get_names()), _node_name(port)) for port in ports])
    return tuple(settled(port, TensorInfo(*one)) for port, one in zip(ports, named, strict=True))


def _node_name(port: Any) -> str:
    """Return the name of an input's node."""
    node = port.get_node()
    return str(node.get_friendly_name()) if node.get_type_name() == "Parameter" else ""
