"""What this package knows of a model, as text that goes with the model's configuration, and back.

The protocol tells names, types and shapes. A server of this package adds its whole `Metadata` as a parameter of the
configuration, so that a model reads the same here and there. The text is a server's, and so untrusted: whatever it
does not write itself is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ...metadata import AssociatedFile, Metadata, Normalization, Quantization, TensorInfo

__all__ = ["PARAMETER", "from_text", "to_text"]

#: The configuration's parameter that holds the text.
PARAMETER = "edge_accelerate.metadata"

_MOST_BYTES = 64 << 20
_MOST_RANK = 64
Value = TypeVar("Value")


def to_text(metadata: Metadata) -> str:
    """Return a Metadata as JSON; what has no such form in the `extra` of a tensor or of the model is left out."""
    return json.dumps(_plain(metadata), separators=(",", ":"))


def from_text(text: str) -> Metadata:
    """Return the Metadata that `to_text` was given.

    Raises
    ------
    ValueError
        It is another text.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"it has {len(text)} characters")
    try:
        return _metadata(json.loads(text))
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _plain(value: Any) -> Any:
    """Return records as mappings of their fields; `extra` as `_coded`."""
    if isinstance(value, (AssociatedFile, Metadata, Normalization, Quantization, TensorInfo)):
        return {
            name: {str(key): found for key, item in one.items() if (found := _coded(item)) is not _NOTHING}
            if name == "extra"
            else _plain(one)
            for name, one in vars(value).items()
        }
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


_NOTHING = object()


def _coded(value: Any) -> Any:
    """Return what JSON takes: tuples and mappings are told apart from lists, for they come back as what they were."""
    value = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        pairs = [(_coded(key), _coded(item)) for key, item in value.items()]
        return {"mapping": [pair for pair in pairs if _NOTHING not in pair]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        coded = [_coded(one) for one in value]
        return _NOTHING if _NOTHING in coded else {kind: coded}
    return _NOTHING


def _decoded(told: Any) -> Any:
    if told is None or isinstance(told, (bool, int, float, str)):
        return told
    ((kind, items),) = told.items()
    if kind == "mapping":
        return {_decoded(key): _decoded(item) for key, item in items}
    return {"tuple": tuple, "list": list}[kind](map(_decoded, items))


# Each part of the text by what it has to be


def _metadata(told: Any) -> Metadata:
    return Metadata(
        name=_text(told["name"]),
        type=_text(told["type"]),
        description=_text(told["description"]),
        inputs=_several(_tensor, told["inputs"]),
        outputs=_several(_tensor, told["outputs"]),
        labels=_several(_text, told["labels"]),
        stateful=_one(bool, told["stateful"]),
        extra=_extra(told["extra"]),
    )


def _tensor(told: Any) -> TensorInfo:
    shape = _several(_whole, told["shape"])
    if len(shape) > _MOST_RANK or min(shape, default=0) < -1:
        raise ValueError(f"the shape {list(shape)!r:.80}")
    return TensorInfo(
        _text(told["name"]),
        aliases=_several(_text, told["aliases"]),
        description=_text(told["description"]),
        data_type=_text(told["data_type"]),
        shape=shape,
        quantization=None if told["quantization"] is None else _quantization(told["quantization"], shape),
        normalization=None if told["normalization"] is None else _normalization(told["normalization"]),
        layout=_text(told["layout"]),
        color=_text(told["color"]),
        associated_files=_several(_file, told["associated_files"]),
        labels=_several(_text, told["labels"]),
        extra=_extra(told["extra"]),
    )


def _quantization(told: Any, shape: Sequence[int]) -> Quantization:
    scale, zero_point = _several(_number, told["scale"]), _several(_whole, told["zero_point"])
    axis = None if told["axis"] is None else _whole(told["axis"])
    wanted = 1 if axis is None else shape[axis]
    if len(scale) != len(zero_point) or wanted not in (-1, len(scale)) or (axis is not None and axis < 0):
        raise ValueError(f"{len(scale)} scales and {len(zero_point)} zero points for {wanted} along {axis}")
    return Quantization(scale, zero_point, axis)


def _normalization(told: Any) -> Normalization:
    mean, std = _several(_number, told["mean"]), _several(_number, told["std"])
    if not mean or len(mean) != len(std) or 0.0 in std:
        raise ValueError(f"a normalization by {mean!r:.40} and {std!r:.40}")
    return Normalization(mean, std, _text(told["source"]))


def _file(told: Any) -> AssociatedFile:
    return AssociatedFile(_text(told["name"]), _text(told["description"]), _text(told["label_type"]))


def _extra(told: Any) -> dict[str, Any]:
    return {_text(key): _decoded(item) for key, item in told.items()}


def _several(kind: Callable[[Any], Value], told: Any) -> tuple[Value, ...]:
    return tuple(map(kind, _one(list, told)))


def _one(kind: type[Value], told: Any) -> Value:
    if not isinstance(told, kind):
        raise TypeError(f"{told!r:.40} is no {kind.__name__}")
    return told


def _text(told: Any) -> str:
    return _one(str, told)


def _whole(told: Any) -> int:
    if isinstance(told, bool):
        raise TypeError("a truth value is no number")
    return _one(int, told)


def _number(told: Any) -> float:
    return float(told) if isinstance(told, int) and not isinstance(told, bool) else _one(float, told)
