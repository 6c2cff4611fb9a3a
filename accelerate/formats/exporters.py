"""What exporters write into models of any format: the classes' names, the task, the picture's size.

Ultralytics' exporters began it and others follow: ONNX models have it as properties, each a text; TFLite models as a
file packed behind them, a JSON object or, from older versions, a Python dict as `str` writes it. Either is read as data
and within bounds: nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..calls.conversion import image_layout
from ..metadata import TensorInfo

__all__ = [
    "INDEX_LIMIT", "TEXT_LIMIT", "class_names", "export_properties", "is_index", "literal", "names_by_index",
    "pictures", "type_of",
]  # fmt: skip

#: The largest index of a class that is believed, several times the largest label sets in use.
INDEX_LIMIT = 100_000

#: Of a literal: parsing takes a hundred times this in memory, for a moment. ImageNet's 21,000 classes take half of it.
TEXT_LIMIT = 1 << 20
_KINDS = {"classify": "classifier", "detect": "detector", "segment": "segmenter"}
_LOOKS_AT_PICTURES = frozenset({*_KINDS, "pose", "obb"})


def literal(text: str) -> Any:
    """Read JSON or a Python literal; None for anything else, and for a text above 1 MiB."""
    if len(text) > TEXT_LIMIT:
        return None
    import ast
    import json

    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            pass
    return None


def names_by_index(value: object) -> dict[int, str] | None:
    """Return the names in a list, in a mapping from index to name, or in one from name to index.

    A class without a name is "", or not there. None where it is nothing of the kind.
    """
    if isinstance(value, dict):
        if all(type(index) is int for index in value.values()) and not any(map(is_index, value)):
            value = {index: name for name, index in value.items()}
        if not all(map(is_index, value)):
            return None
        found = {int(index): name for index, name in value.items()}
    elif isinstance(value, (list, tuple)):
        found = dict(enumerate(value))
    else:
        return None
    if not all(isinstance(name, (str, int, float, type(None))) for name in found.values()):
        return None
    names = {index: "" if name is None else str(name).strip() for index, name in found.items()}
    return names if any(names.values()) else None


def is_index(key: object) -> bool:
    """Return whether a key or text is the index of a class."""
    text = str(key) if type(key) in (int, str) else ""
    return text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= INDEX_LIMIT


def class_names(text: str) -> tuple[str, ...]:
    """Read the property ``names``: a Python or JSON dict or list of class names.

    Returns
    -------
    tuple of str
        By class index; a gap is "". Empty where the text is of another form.
    """
    names = names_by_index(literal(text)) or {}
    return tuple(names.get(index, "") for index in range(max(names, default=-1) + 1))


def export_properties(text: str) -> dict[str, str] | None:
    """Return what a packed file says as properties of the form that ONNX has, or None where it is no such file."""
    said = literal(text)
    if not isinstance(said, dict) or "names" not in said or said.keys().isdisjoint(("task", "stride", "imgsz")):
        return None
    try:
        return {str(key): str(value) for key, value in said.items()}
    except (RecursionError, ValueError):  # nested, or with numbers of more digits than Python writes
        return None


def type_of(properties: Mapping[str, str], family: str) -> str:
    """Return the type of a model in Viam's words, such as "onnx_detector"; "" without a task."""
    task = properties.get("task", "")
    return f"{family}_{_KINDS.get(task, task)}" if task else ""


def pictures(properties: Mapping[str, str], inputs: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    """Return the inputs, with the layout of the one input where the task says that it is a picture."""
    if len(inputs) != 1 or inputs[0].layout or properties.get("task") not in _LOOKS_AT_PICTURES:
        return tuple(inputs)
    return (replace(inputs[0], layout=image_layout(inputs[0].shape, known=True)),)
