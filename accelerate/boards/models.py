"""The project's own models, which every board has with the package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DIGITS"]

_DATA = Path(__file__).parents[1] / "data"
#: The twins of one network, the reference of `bench` first.
DIGITS = tuple(
    _DATA / name
    for name in (
        "digits_float.tflite",
        "digits_uint8.tflite",
        "digits_int8.tflite",
        "digits.onnx",
        "digits_uint8.onnx",
        "digits_int8.onnx",
    )
)
