"""Tells the meaning of an .onnx model's tensors and properties in the terms of `accelerate.metadata`."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from ...metadata import Metadata, TensorInfo

__all__ = ["class_names", "describe"]

_TYPES_BY_TASK = {"classify": "onnx_classifier", "detect": "onnx_detector", "segment": "onnx_segmenter"}
_NAMES_LIMIT = 1 << 20


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
        inputs=tuple(inputs),
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
