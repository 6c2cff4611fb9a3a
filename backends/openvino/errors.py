"""What OpenVINO raises, in the terms of this package."""

from __future__ import annotations

import re

from accelerate.errors import (
    AccelerateError,
    DeviceLostError,
    InferenceError,
    ModelError,
    OptionError,
    TensorError,
    UnsupportedModelError,
    one_line,
)

__all__ = ["text_of", "while_loading", "while_running"]

_CHANGE = "run it by the backend of its own format"
# (what the message says, what it means, what to do). Nearly all that it raises is a RuntimeError
_LOADING: tuple[tuple[str, type[AccelerateError], str], ...] = (
    ("No translator found", UnsupportedModelError, _CHANGE),
    ("No conversion rule found", UnsupportedModelError, _CHANGE),
    ("does not support the following ONNX operations", UnsupportedModelError, _CHANGE),
    ("Unexpected type", UnsupportedModelError, _CHANGE),
    ("Memory has not been allocated", UnsupportedModelError, _CHANGE),  # strings and complex numbers in TFLite
    ("should be already produced by previous operators", UnsupportedModelError, _CHANGE),  # variables in TFLite
    ("is not supported", UnsupportedModelError, _CHANGE),
    ("is not implemented", UnsupportedModelError, _CHANGE),
    ("Not Implemented", UnsupportedModelError, _CHANGE),
    ("Cannot create", UnsupportedModelError, _CHANGE),
    ("out of memory", InferenceError, ""),
)
_OPTIONS = ("Unsupported property", "NotFound: Option", "Wrong value", "for property key", "property key")
# "Exception from src/inference/src/cpp/core.cpp:84: Check 'x' failed at src/frontends/...:221: FrontEnd API failed with
# OpConversionFailure: " before what a person can read
_NOISE = re.compile(
    r"Exception from \S+:\d+:?\s*|Check '.*?' failed at \S+:\d+:?\s*|FrontEnd API failed with \w+:\s*"
    r"|To facilitate the conversion .*|-- (?=No )|Summary: |\[ ?[A-Z]+ ?\]\s*|\[ ?(?:NOT_FOUND|GENERAL_ERROR) ?\]\s*"
)
_MOST = 400


def while_loading(error: Exception, where: str) -> AccelerateError:
    """Return the error for what reading or compiling a model has raised."""
    text = text_of(error)
    if isinstance(error, UnicodeError):
        return ModelError(f"{where}: a name in it is no UTF-8 text; the file is damaged", "fetch or convert it again")
    if any(mark in str(error) for mark in _OPTIONS):
        return OptionError(f"config: OpenVINO refuses a property: {text}", "correct it, or leave it out")
    for mark, kind, remedy in _LOADING:
        if mark.lower() in str(error).lower():
            return kind(f"{where}: OpenVINO cannot run the model: {text}", remedy)
    return ModelError(f"{where}: OpenVINO refuses the model: {text}")


def while_running(error: Exception) -> AccelerateError:
    """Return the error for what a run has raised."""
    text = text_of(error)
    if "shape" in text.lower() and "input" in text.lower():
        return TensorError(f"OpenVINO refuses an input: {text}")
    if "device lost" in text.lower() or "DEVICE_LOST" in text:
        return DeviceLostError(f"OpenVINO lost the device: {text}")
    return InferenceError(f"OpenVINO failed: {text}")


def text_of(error: Exception) -> str:
    """Return the message without the places in OpenVINO's source that it names."""
    text = " ".join(_NOISE.sub("", str(error)).split())
    return text[:_MOST] or one_line(error, _MOST)
