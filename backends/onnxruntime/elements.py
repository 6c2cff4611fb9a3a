"""Tensors whose element type ONNX Runtime's Python interface does not take or give as a plain NumPy array."""

from __future__ import annotations

import ctypes
import math
import re
from typing import Any

import numpy as np

from ...errors import TensorError, UnsupportedModelError
from ...tensors import Array

__all__ = ["data_type", "from_value", "needs_value", "strings_in", "strings_out", "to_value"]

_TYPES = {
    "float": "float32", "double": "float64", "float8e4m3fn": "float8_e4m3fn", "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2", "float8e5m2fnuz": "float8_e5m2fnuz",
}  # fmt: skip
# TensorProto.DataType of the types that come from ml_dtypes (onnx/onnx.proto)
_ML_DTYPES = {"bfloat16": 16, "float8_e4m3fn": 17, "float8_e4m3fnuz": 18, "float8_e5m2": 19, "float8_e5m2fnuz": 20}


def data_type(kind: str, name: str) -> str:
    """Return the NumPy or ml_dtypes name for ONNX Runtime's "tensor(float)".

    Raises
    ------
    UnsupportedModelError
        For a sequence, map or optional, and for an element type that NumPy and ml_dtypes lack.
    """
    found = re.fullmatch(r"tensor\((\w+)\)", kind)
    if not found:
        raise UnsupportedModelError(
            f"{name!r} is a {kind}; only tensors can be given and returned. Export the model so that it takes and "
            "returns tensors (classifiers of scikit-learn: zipmap=False)"
        )
    element = _TYPES.get(found[1], found[1])
    if element == "string":
        return element
    if element in _ML_DTYPES:
        _register_ml_dtypes(element, name)
    try:
        return str(np.dtype(element).name)
    except TypeError as error:
        raise UnsupportedModelError(f"{name!r} is a {kind}, for which NumPy has no type") from error


def _register_ml_dtypes(element: str, name: str) -> None:
    try:
        import ml_dtypes  # makes np.dtype("bfloat16") and the like known
    except ImportError as error:
        raise UnsupportedModelError(
            f"{name!r} is of {element}, which needs ml_dtypes: pip install ml_dtypes"
        ) from error
    del ml_dtypes


def needs_value(element: str) -> bool:
    """Return whether arrays of this type travel as an OrtValue."""
    return element in _ML_DTYPES


def to_value(array: Array) -> Any:
    """Return an OrtValue over the memory of an ml_dtypes array."""
    import onnxruntime

    bits = array.view(f"u{array.dtype.itemsize}")
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _ML_DTYPES[array.dtype.name])


def from_value(value: Any, element: str) -> Array:
    """Copy an OrtValue on the CPU out into an array."""
    dtype, shape = np.dtype(element), tuple(value.shape())
    size = math.prod(shape) * dtype.itemsize
    content = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(bytearray(content), dtype).reshape(shape)


def strings_in(array: Array, name: str) -> Array:
    """Return bytes as the text that ONNX Runtime wants (it would write them as "b'...'")."""
    text = np.empty(array.shape, object)
    try:
        text.ravel()[:] = [word.decode() for word in array.ravel()]
    except UnicodeDecodeError as error:
        raise TensorError(
            f"input {name!r} holds bytes that are no UTF-8 ({error.reason}); ONNX strings are text"
        ) from error
    return text


def strings_out(array: Array) -> Array:
    """Return text as bytes, the form that strings have in every backend."""
    encoded = np.empty(array.shape, object)
    encoded.ravel()[:] = [word.encode() for word in array.ravel()]
    return encoded
