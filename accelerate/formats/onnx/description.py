"""Tells what the tensors of an .onnx model are called, and what they and its properties mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...calls.names import name_tensors
from ...calls.shapes import exported_for
from ...metadata import Metadata, TensorInfo
from ..exporters import class_names, pictures, type_of
from ..interface import Interface
from .file import ModelFile, ValueInfo

__all__ = ["describe", "interface", "name_values", "with_producers"]


def interface(file: ModelFile) -> Interface:
    """Return the tensors that the graph takes and gives, as the file describes them."""
    return Interface("", 0, name_values(file.inputs), name_values(file.outputs))


def name_values(values: Sequence[ValueInfo]) -> tuple[TensorInfo, ...]:
    """Describe the inputs, or the outputs, of a graph; outputs may be of one name.

    What is no tensor has its kind as `data_type`. ``extra`` has the names of symbolic ``dimensions``, ``rank`` is
    "unknown" where nobody gives a shape, and ``optional`` is True for an input with a value of its own.
    """
    named = name_tensors([(value.name,) for value in values])
    return tuple(_described(value, name) for value, (name, _) in zip(values, named, strict=True))


def _described(value: ValueInfo, name: str) -> TensorInfo:
    extra: dict[str, Any] = {"dimensions": value.dimensions} if any(value.dimensions) else {}
    if value.kind == "tensor" and not value.ranked:
        extra["rank"] = "unknown"
    if value.optional:
        extra["optional"] = True
    data_type = value.data_type if value.kind == "tensor" else value.kind
    shape = tuple(n if n >= 0 else -1 for n in value.shape)
    return TensorInfo(name, (), value.description, data_type, shape, extra=extra)


def with_producers(
    outputs: Sequence[TensorInfo], names: Sequence[str], producers: Mapping[str, tuple[str, int]]
) -> tuple[TensorInfo, ...]:
    """Return the outputs with the ``operator`` that makes each, and its ``port``; `names` are the file's own."""
    return tuple(
        replace(info, extra={**info.extra, "operator": producers[name][0], "port": producers[name][1]})
        if name in producers
        else info
        for info, name in zip(outputs, names, strict=True)
    )


def describe(
    name: str,
    description: str,
    properties: Mapping[str, str],
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
) -> Metadata:
    """Read the properties (the custom metadata map) as the common exporters write them.

    ``names`` become the labels and ``task`` the type; all of them are in ``extra``.
    """
    return Metadata(
        name=properties.get("name") or name,
        type=type_of(properties, "onnx"),
        description=description or properties.get("description", ""),
        inputs=exported_for(pictures(properties, inputs), properties.get("imgsz")),
        outputs=tuple(outputs),
        labels=class_names(properties.get("names", "")),
        extra=dict(properties),
    )
