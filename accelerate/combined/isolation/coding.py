"""What crosses between a program and its child, as JSON that comes back as exactly what it was. Nothing is pickled.

JSON has no tuples, bytes, paths or records: what is neither text, a number, a truth value nor None goes as a list whose
first item says what it is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ... import errors
from ...errors import AccelerateError, InferenceError, one_line
from ...metadata import AssociatedFile, LabelFile, Metadata, Normalization, Quantization, TensorInfo
from ...reports import LoadOptions, RuntimeInfo

__all__ = ["RuntimesError", "decode", "decode_error", "encode", "encode_error"]

_RECORDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        AssociatedFile, LabelFile, LoadOptions, Metadata, Normalization, Quantization, RuntimeInfo, TensorInfo,
    )
}  # fmt: skip


class RuntimesError(Exception):
    """The class and the text of what a runtime has raised in a child."""


def encode(value: Any) -> bytes:
    """Return a value as JSON.

    Raises
    ------
    TypeError
        There is something in it that has no such form; its text says what.
    """
    try:
        return json.dumps(_plain(value), separators=(",", ":")).encode()
    except RecursionError as error:
        raise TypeError("it is nested without an end") from error


def decode(text: bytes | bytearray | memoryview) -> Any:
    """Return the value that `encode` was given; ValueError for all that it does not write."""
    try:
        return _value(json.loads(bytes(text)))
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"this is none of our messages: {one_line(error)}") from error


def encode_error(error: BaseException) -> dict[str, Any]:
    """Return an exception as what `encode` takes: ours by class, reason and remedy, others by class and text."""
    cause = error.__cause__
    if isinstance(error, AccelerateError):
        ours = next(k.__name__ for k in type(error).__mro__ if getattr(errors, k.__name__, None) is k)
        behind = "" if cause is None else _in_words(cause)
        return {"class": ours, "reason": error.reason or str(error), "remedy": error.remedy, "cause": behind}
    return {"class": type(error).__name__, "reason": str(error), "remedy": "", "cause": _in_words(error)}


def decode_error(told: Mapping[str, Any]) -> Exception:
    """Return the exception to raise for one of a child's: of the same class where it is ours or Python's own."""
    name, reason, remedy = str(told["class"]), str(told["reason"]), str(told["remedy"])
    kind = getattr(errors, name, None)
    found: Exception
    if isinstance(kind, type) and issubclass(kind, AccelerateError) and kind is not errors.NoBackendError:
        found = kind(reason, remedy)
    else:
        kind = getattr(__import__("builtins"), name, None)
        plain = isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError)
        found = InferenceError(f"{name}: {reason}")
        if plain and isinstance(kind, type):
            with contextlib.suppress(TypeError):  # an ExceptionGroup wants more
                found = kind(reason)
    if told["cause"]:
        found.__cause__ = RuntimesError(str(told["cause"]))
    return found


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value if type(value) in (bool, str, type(None)) else str(value)
    if isinstance(value, (int, float)):  # NumPy's float64 is one
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, np.generic) and isinstance(value.item(), (bool, int, float)):
        return _plain(value.item())
    if isinstance(value, tuple):
        return ["tuple", *map(_plain, value)]
    if isinstance(value, list):
        return ["list", *map(_plain, value)]
    if isinstance(value, Mapping):
        return ["dict", *([_plain(key), _plain(item)] for key, item in value.items())]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", value.decode("latin-1")]
    if isinstance(value, PurePath):
        return ["path", str(value)]
    if isinstance(value, (set, frozenset)):
        return [type(value).__name__, *map(_plain, value)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return ["array", value.dtype.str, list(value.shape), value.tobytes().decode("latin-1")]
    if type(value).__name__ in _RECORDS and type(value) is _RECORDS[type(value).__name__]:
        return [type(value).__name__, {name: _plain(item) for name, item in vars(value).items()}]
    raise TypeError(f"{value!r:.80} of the class {type(value).__qualname__}")


def _value(told: Any) -> Any:
    if not isinstance(told, list):
        if isinstance(told, dict):
            raise TypeError("a mapping")
        return told
    kind, *parts = told
    if kind in _RECORDS:
        return _RECORDS[kind](**{name: _value(item) for name, item in parts[0].items()})
    return _READERS[kind](parts)


def _array(parts: list[Any]) -> np.ndarray[Any, Any]:
    dtype, shape, content = parts
    return np.frombuffer(bytearray(content.encode("latin-1")), np.dtype(dtype)).reshape(shape)


_READERS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": lambda parts: tuple(map(_value, parts)),
    "list": lambda parts: list(map(_value, parts)),
    "dict": lambda parts: {_value(key): _value(item) for key, item in parts},
    "set": lambda parts: set(map(_value, parts)),
    "frozenset": lambda parts: frozenset(map(_value, parts)),
    "bytes": lambda parts: parts[0].encode("latin-1"),
    "path": lambda parts: Path(parts[0]),
    "array": _array,
}
