"""The description that a user writes beside a model: ``model.tflite.json`` beside ``model.tflite``.

It is a JSON object whose key "edge-accelerate" is 1; other files of such a name are somebody else's, and ignored::

    {"edge-accelerate": 1,
     "labels": ["cat", "dog"],
     "normalization": [0, 255],
     "color": "BGR",
     "resize": "letterbox", "anchor": "top-left", "fill": 114,
     "layout": {"kind": "dense", ...}}

It says what `load` and `vision` would have to be told; their arguments go before it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._records import record
from ..calls.names import suggestion
from ..calls.normalization import mean_and_std, parse_normalization
from ..errors import OptionError
from ..metadata import LabelFile, Metadata, Normalization
from .exporters import INDEX_LIMIT, names_by_index

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Beside", "path_beside", "read_beside", "with_described"]

_log = logging.getLogger("accelerate")
_MARK, _VERSION = "edge-accelerate", 1
_SIZE_LIMIT = 16 << 20
_CHOICES: Mapping[str, Sequence[str]] = {
    "color": ("RGB", "BGR"),
    "resize": ("stretch", "letterbox", "crop"),
    "anchor": ("center", "top-left"),
}
_KEYS = (_MARK, "labels", "normalization", *_CHOICES, "fill", "layout")


@record(frozen=True)
class Beside:
    """What the file says.

    Attributes
    ----------
    labels : LabelFile or None
    normalization : Normalization or None
        As the user's.
    vision : mapping
        Its "color", "resize", "anchor", "fill" and "layout", as far as it has them, and "file": what it is called.
    """

    labels: LabelFile | None
    normalization: Normalization | None
    vision: Mapping[str, Any]


def path_beside(path: Path) -> Path:
    """Return the path of a model's description."""
    return path.with_name(f"{path.name}.json")


def read_beside(path: Path) -> Beside | None:
    """Read the description of the model with this path; None where there is none.

    Raises
    ------
    OptionError
        It is one, and something in it is wrong.
    """
    path = path_beside(path)
    try:
        if not path.is_file():  # to open a pipe would wait for somebody who writes to it
            return None
        with path.open("rb") as file:
            data = file.read(_SIZE_LIMIT + 1)
    except ValueError:  # no path at all
        return None
    except OSError as error:
        _log.warning("%s, which may be a description of the model, cannot be read: %s", path, error.strerror)
        return None
    if f'"{_MARK}"'.encode() not in data:
        return None
    if len(data) > _SIZE_LIMIT:
        raise OptionError(f"the description {path} has more than {_SIZE_LIMIT >> 20} MiB", "shorten it, or remove it")
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"the description {path} is no JSON: {error}", "correct it, or remove it") from error
    if not isinstance(said, dict) or _MARK not in said:  # the words stand somewhere in it
        return None
    if said[_MARK] != _VERSION:
        raise OptionError(
            f"the description {path} is of version {said[_MARK]!r:.20}; known is {_VERSION}", "update edge-accelerate"
        )
    return _checked(said, path)


def _checked(said: Mapping[str, Any], path: Path) -> Beside:
    for key, value in said.items():
        if key not in _KEYS:
            raise _wrong(path, f"has the key {key!r}{suggestion(key, _KEYS)}; known: {', '.join(_KEYS[1:])}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise _wrong(path, f"says {key} {value!r:.60}; wanted one of {', '.join(map(repr, _CHOICES[key]))}")
    if not isinstance(said.get("layout", {}), dict):
        raise _wrong(path, f"says layout {said['layout']!r:.60}; wanted an object, see accelerate.vision.Layout")
    fill = said.get("fill", 0)
    levels = fill if isinstance(fill, list) else [fill]
    if len(levels) not in (1, 3) or not all(type(n) is int and 0 <= n <= 255 for n in levels):
        raise _wrong(path, f"says fill {fill!r:.60}; wanted a level from 0 to 255, or three: red, green and blue")
    try:
        normalization = parse_normalization(mean_and_std(said.get("normalization")))
    except OptionError as error:
        raise _wrong(path, f"says {error.reason}") from error
    if isinstance(normalization, Mapping):
        raise _wrong(path, "says the normalization of inputs by name; wanted [mean, std]")
    vision = {key: said[key] for key in (*_CHOICES, "fill", "layout") if key in said}
    return Beside(_labels(said, path), normalization, {**vision, "file": str(path)})


def _labels(said: Mapping[str, Any], path: Path) -> LabelFile | None:
    if "labels" not in said:
        return None
    names = names_by_index(said["labels"])
    if names is None or max(names) > INDEX_LIMIT:
        raise _wrong(path, f"says labels {said['labels']!r:.60}; wanted a list of names, or an object {{index: name}}")
    return LabelFile((tuple(names.get(index, "") for index in range(max(names) + 1)),))


def _wrong(path: Path, what: str) -> OptionError:
    return OptionError(f"the description {path} {what}", "correct it, or remove it")


def with_described(metadata: Metadata, vision: Mapping[str, Any]) -> Metadata:
    """Return a model's metadata with what a description says of its picture and its outputs, as ``extra["vision"]``.

    Raises
    ------
    OptionError
        It speaks of a picture, and the model takes none.
    """
    if not vision:
        return metadata
    inputs = list(metadata.inputs)
    pictures = [i for i, info in enumerate(inputs) if info.layout]
    if "color" in vision:
        if len(pictures) != 1:
            raise OptionError(
                f"the description {vision['file']} says color {vision['color']!r}, and the model has "
                f"{len(pictures)} pictures among its inputs",
                "take it out, or say by the file's normalization that an input is a picture",
            )
        inputs[pictures[0]] = replace(inputs[pictures[0]], color=vision["color"])
    return replace(metadata, inputs=tuple(inputs), extra={**metadata.extra, "vision": dict(vision)})
