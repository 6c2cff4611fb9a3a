"""Tensors whose element type ONNX Runtime's Python interface does not take or give as a plain NumPy array."""

from __future__ import annotations

import ctypes
import math
import re
from typing import Any

import numpy as np

from accelerate.contract import Array, encoded_texts
from accelerate.errors import TensorError, UnsupportedModelError

__all__ = ["data_type", "from_value", "needs_value", "strings_in", "strings_out", "to_value"]

_TYPES = {
    "float": "float32", "double": "float64", "float8e4m3fn": "float8_e4m3fn", "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2", "float8e5m2fnuz": "float8_e5m2fnuz", "float8e8m0": "float8_e8m0fnu",
    "float4e2m1": "float4_e2m1fn",
}  # fmt: skip
# TensorProto.DataType of the types that come from ml_dtypes, and the bits that one value takes (onnx/onnx.proto)
_ML_DTYPES = {
    "bfloat16": (16, 16),
    "float8_e4m3fn": (17, 8),
    "float8_e4m3fnuz": (18, 8),
    "float8_e5m2": (19, 8),
    "float8_e5m2fnuz": (20, 8),
    "uint4": (21, 4),
    "int4": (22, 4),
    "float4_e2m1fn": (23, 4),
    "float8_e8m0fnu": (24, 8),
    "uint2": (25, 2),
    "int2": (26, 2),
}


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
            f"{name!r} is a {kind}; only tensors can be given and returned",
            "export the model so that it takes and returns tensors (classifiers of scikit-learn: zipmap=False)",
        )
    element = _TYPES.get(found[1], found[1])
    if element == "string":
        return element
    if element in _ML_DTYPES:
        _register_ml_dtypes(element, name)
    try:
        return str(np.dtype(element).name)
    except TypeError as error:
        raise UnsupportedModelError(
            f"{name!r} is a {kind}, for which neither NumPy nor this ml_dtypes has a type",
            "update ml_dtypes, or export the model without tensors of this type",
        ) from error


def _register_ml_dtypes(element: str, name: str) -> None:
    try:
        import ml_dtypes  # makes np.dtype("bfloat16") and the like known
    except ImportError as error:
        raise UnsupportedModelError(
            f"{name!r} is of {element}, which needs ml_dtypes", "pip install ml_dtypes"
        ) from error
    del ml_dtypes
    import onnxruntime

    if not hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type"):
        raise UnsupportedModelError(
            f"{name!r} is of {element}, which onnxruntime {onnxruntime.__version__} cannot take from Python",
            "update onnxruntime",
        )


def needs_value(element: str) -> bool:
    """Return whether arrays of this type travel as an OrtValue."""
    return element in _ML_DTYPES


def to_value(array: Array) -> Any:
    """Return an OrtValue over an ml_dtypes array; over a packed copy where values are smaller than a byte."""
    import onnxruntime

    number, bits = _ML_DTYPES[array.dtype.name]
    content = array.view(f"u{array.dtype.itemsize}")
    if bits < 8:
        content = _packed(content, bits)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(content, number)


def from_value(value: Any, element: str) -> Array:
    """Copy an OrtValue on the CPU out into an array."""
    dtype, shape = np.dtype(element), tuple(value.shape())
    count, bits = math.prod(shape), _ML_DTYPES[element][1]
    size = -(-count * bits // 8)
    content = bytearray(ctypes.string_at(value.data_ptr(), size) if size else b"")
    if bits >= 8:
        return np.frombuffer(content, dtype).reshape(shape)
    values = _unpacked(np.frombuffer(content, np.uint8), bits)[:count]
    if element.startswith("int"):
        sign = 1 << (bits - 1)
        return ((values ^ sign).astype(np.int8) - sign).astype(dtype).reshape(shape)
    return values.view(dtype).reshape(shape)


def _packed(values: Array, bits: int) -> Array:
    """Pack values of less than a byte, the first one lowest (onnx.proto, TensorProto.raw_data).

    The array has the shape of `values`, which ONNX Runtime goes by, and the content at its beginning.
    """
    each = 8 // bits
    flat = np.zeros(-(-values.size // each) * each, np.uint8)
    flat[: values.size] = values.reshape(-1) & ((1 << bits) - 1)
    packed = np.zeros(values.shape, np.uint8)
    packed.reshape(-1)[: flat.size // each] = np.bitwise_or.reduce(flat.reshape(-1, each) << _shifts(bits), axis=1)
    return packed


def _unpacked(content: Array, bits: int) -> Array:
    """Return every value of packed bytes in a byte of its own."""
    values: Array = content[:, np.newaxis] >> _shifts(bits) & np.uint8((1 << bits) - 1)
    return values.reshape(-1)


def _shifts(bits: int) -> Array:
    return np.arange(0, 8, bits, dtype=np.uint8)


def strings_in(array: Array, name: str) -> Array:
    """Return the text that ONNX Runtime wants (it would write bytes as "b'...'").

    Raises
    ------
    TensorError
        For what is neither str nor bytes, which a Binding's array may hold, and for what has no UTF-8 form.
    """
    text = np.empty(array.shape, object)
    try:
        text.reshape(-1)[:] = [word.decode() for word in encoded_texts(array, name)]
    except UnicodeDecodeError as error:
        raise TensorError(f"input {name!r} holds bytes that are no UTF-8 ({error}); ONNX strings are text") from error
    return text


def strings_out(array: Array) -> Array:
    """Return text as bytes, the form that strings have in every backend."""
    encoded = np.empty(array.shape, object)
    encoded.reshape(-1)[:] = [word.encode() for word in array.ravel()]
    return encoded
