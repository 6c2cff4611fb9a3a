"""Tells what the tensors of an .onnx model are called, and what they and its properties mean."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from ...calls.names import name_tensors
from ...calls.shapes import exported_for
from ...metadata import Metadata, TensorInfo
from ..interface import Interface
from .file import ModelFile, ValueInfo

__all__ = ["class_names", "describe", "interface", "name_values"]

_TYPES_BY_TASK = {"classify": "onnx_classifier", "detect": "onnx_detector", "segment": "onnx_segmenter"}
_NAMES_LIMIT = 1 << 20


def interface(file: ModelFile) -> Interface:
    """Return the tensors that the graph takes and gives, as the file describes them."""
    return Interface("", 0, name_values(file.inputs), name_values(file.outputs))


def name_values(values: Sequence[ValueInfo]) -> tuple[TensorInfo, ...]:
    """Describe the inputs, or the outputs, of a graph; outputs may be of one name.

    What is no tensor has its kind as `data_type`. ``extra`` has the names of symbolic ``dimensions``, and ``rank`` is
    "unknown" where nobody gives a shape.
    """
    named = name_tensors([(value.name,) for value in values])
    return tuple(_described(value, name) for value, (name, _) in zip(values, named, strict=True))


def _described(value: ValueInfo, name: str) -> TensorInfo:
    extra: dict[str, Any] = {"dimensions": value.dimensions} if any(value.dimensions) else {}
    if value.kind == "tensor" and not value.ranked:
        extra["rank"] = "unknown"
    data_type = value.data_type if value.kind == "tensor" else value.kind
    shape = tuple(n if n >= 0 else -1 for n in value.shape)
    return TensorInfo(name, (), value.description, data_type, shape, extra=extra)


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
    task = properties.get("task", "")
    return Metadata(
        name=properties.get("name") or name,
        type=_TYPES_BY_TASK.get(task, f"onnx_{task}" if task else ""),
        description=description or properties.get("description", ""),
        inputs=exported_for(inputs, properties.get("imgsz")),
        outputs=tuple(outputs),
        labels=class_names(properties.get("names", "")),
        extra=dict(properties),
    )


def class_names(text: str) -> tuple[str, ...]:
    """Read the property ``names``: a Python or JSON dict or list of class names.

    Returns
    -------
    tuple of str
        By class index; a gap reads as its index. Empty where the text is of another form.
    """
    if len(text) > _NAMES_LIMIT:
        return ()
    try:
        names = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ()
    if isinstance(names, dict):
        by_index = {int(k): v for k, v in names.items() if str(k).isascii() and str(k).isdigit() and len(str(k)) < 6}
        if not names or len(by_index) < len(names):
            return ()
        return tuple(str(by_index.get(i, i)) for i in range(max(by_index) + 1))
    if isinstance(names, (list, tuple)):
        return tuple(map(str, names))
    return ()
