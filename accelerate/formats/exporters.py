"""What exporters write into models of any format: the classes' names, the task, the picture's size.

Ultralytics' exporters began it and others follow: ONNX models have it as properties, each a text; TFLite models as a
file packed behind them, a JSON object or, from older versions, a Python dict as `str` writes it. Either is read as data
and within bounds: nothing is evaluated.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..calls.conversion import image_layout
from ..metadata import Normalization, TensorInfo

__all__ = [
    "INDEX_LIMIT", "TEXT_LIMIT", "class_names", "export_properties", "is_index", "label_text", "literal",
    "names_by_index", "pictures", "type_of",
]  # fmt: skip

_log = logging.getLogger("accelerate")

#: The largest index of a class that is believed, several times the largest label sets in use.
INDEX_LIMIT = 100_000

#: Of JSON: ImageNet's 21,000 classes take half of it.
TEXT_LIMIT = 1 << 20
# Of a Python literal: parsing takes up to 400 times this in memory, for a moment. A thousand classes take 30 KB.
_LITERAL_LIMIT = 128 << 10
_KINDS = {"classify": "classifier", "detect": "detector", "segment": "segmenter"}
_LOOKS_AT_PICTURES = frozenset({*_KINDS, "pose", "obb"})


def literal(text: str) -> Any:
    """Read JSON of up to 1 MiB or a Python literal of up to 128 KiB; None for anything else."""
    import ast
    import json

    for parse, limit in ((json.loads, TEXT_LIMIT), (ast.literal_eval, _LITERAL_LIMIT)):
        with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            if len(text) <= limit:
                return parse(text)
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
    names = {index: "" if name is None else label_text(str(name)) for index, name in found.items()}
    return names if any(names.values()) else None


def label_text(text: str) -> str:
    """Return a label without surrounding blanks, and without what cannot be written: half of a surrogate pair."""
    return text.strip().encode("utf-8", "replace").decode()


def is_index(key: object) -> bool:
    """Return whether a key or text is the index of a class."""
    text = str(key) if type(key) in (int, str) else ""
    return text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= INDEX_LIMIT


def class_names(text: str) -> tuple[str, ...]:
    """Read the property ``names``: a Python or JSON dict or list of class names.

    Returns
    -------
    tuple of str
        By class index; a gap is "". Empty where the text is of another form, which is said, or too long.
    """
    names = (names_by_index(literal(text)) if text else None) or {}
    if text and not names:
        _log.warning(
            "the model's property 'names' (%d characters: %.40s...) is no list or mapping of class names that can be "
            "read; label_path= gives them",
            len(text),
            ascii(text[:40]),
        )
    return tuple(names.get(index, "") for index in range(max(names, default=-1) + 1))


def export_properties(text: str) -> dict[str, str] | None:
    """Return what a packed file says as properties of the form that ONNX has, or None where it is no such file.

    The names become JSON, which may be longer.
    """
    import json

    said = literal(text)
    if not isinstance(said, dict) or "names" not in said or said.keys().isdisjoint(("task", "stride", "imgsz")):
        return None
    try:
        return {str(key): str(value) for key, value in said.items()} | {"names": json.dumps(said["names"])}
    except (RecursionError, TypeError, ValueError):  # nested, no names, or with numbers of more digits than are written
        return None


def type_of(properties: Mapping[str, str], family: str) -> str:
    """Return the type of a model in Viam's words, such as "onnx_detector"; "" without a task."""
    task = properties.get("task", "")
    return f"{family}_{_KINDS.get(task, task)}" if task else ""


def pictures(properties: Mapping[str, str], inputs: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    """Return the inputs, with what the task says of the one that is a picture.

    Ultralytics' models take red, green and blue from 0 to 1 (docs.ultralytics.com, "Export").
    """
    if len(inputs) != 1 or properties.get("task") not in _LOOKS_AT_PICTURES:
        return tuple(inputs)
    (info,) = inputs
    info = replace(info, layout=info.layout or image_layout(info.shape, known=True))
    if properties.get("author") == "Ultralytics" and info.layout:
        normalization = info.normalization or Normalization((0.0,), (255.0,), "metadata")
        info = replace(info, color=info.color or "RGB", normalization=normalization)
    return (info,)
