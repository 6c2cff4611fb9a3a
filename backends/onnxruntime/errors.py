"""What ONNX Runtime raises, in the terms of this package."""

from __future__ import annotations

import re

from accelerate.errors import (
    AccelerateError,
    DeviceLostError,
    InferenceError,
    ModelError,
    ModelNotFoundError,
    OptionError,
    TensorError,
    UnsupportedModelError,
    one_line,
)

__all__ = ["left_behind", "while_loading", "while_running", "without_noise"]

# by the name of the class: each of them derives from Exception directly, and some versions lack some
_LOADING: dict[str, type[AccelerateError]] = {
    "NoSuchFile": ModelNotFoundError,
    "NotImplemented": UnsupportedModelError,
}
_RUNNING: dict[str, type[AccelerateError]] = {
    "InvalidArgument": TensorError,
    "EPFail": DeviceLostError,
    "DeviceReset": DeviceLostError,
}
_CUSTOM = (
    "register the library of this operator (options.register_custom_ops_library(path), then load(..., "
    "session_options=options)), or export the model without it"
)
# (what the message says, what to do)
_UNSUPPORTED = (
    ("Unsupported model IR version", "update onnxruntime, or export the model with an older onnx"),
    ("No Op registered", _CUSTOM),
    ("is not a registered function/op", _CUSTOM),
    ("No opset import for domain", "export the model again: it uses an operator set that it does not declare"),
    ("is not currently registered", "export the model without tensors of this type"),
    ("Could not find an implementation", "update onnxruntime, or export the model without this operator or type"),
    ("fallback to CPU EP", "leave full_delegation out, or use another device"),
    ("opset", "update onnxruntime, or export the model with an older opset"),
)
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |\[OpenVINO-EP\] \S+:\d+ - |Exception from \S+:\d+: "
    r"|/onnxruntime_src/\S+:\d+ .*?\)(?: const)? (?=\S)"
)  # "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 a C++ signature) "
_PROPERTY = re.compile("Unsupported property|Wrong value for property", re.I)
_EXTERNAL_DATA = "keep the files with the model's weights beside it, under the names that it gives them"


def while_loading(error: Exception, where: str) -> AccelerateError:
    """Return the error for what building a session has raised."""
    text = without_noise(error)
    for mark, remedy in _UNSUPPORTED:
        if mark.lower() in text.lower():
            return UnsupportedModelError(f"{where}: ONNX Runtime cannot run the model: {text}", remedy)
    if _PROPERTY.search(text):
        return OptionError(f"providers: OpenVINO refuses a property in load_config: {text}")
    if type(error).__name__ == "EPFail":
        other = " or backend='openvino'" if "openvino" in text.lower() else ""
        return UnsupportedModelError(f"{where}: the device cannot run the model: {text}", f"use device='cpu'{other}")
    kind = _LOADING.get(type(error).__name__, ModelError)
    if "external data" in text.lower():
        return ModelError(f"{where}: its external data cannot be used: {text}", _EXTERNAL_DATA)
    return kind(f"{where}: ONNX Runtime refuses the model: {text}")


def while_running(error: Exception) -> AccelerateError:
    """Return the error for what a run has raised."""
    return _RUNNING.get(type(error).__name__, InferenceError)(f"ONNX Runtime failed: {without_noise(error)}")


def left_behind(device: str) -> InferenceError:
    """Return the error for a call in a forked child that would wait for its parent's threads."""
    return InferenceError(
        f"this model on {device} does not run in a forked child: the threads that would run it are the parent's",
        "load it in the child alone, or start the child without a fork (multiprocessing's 'spawn')",
    )


def without_noise(error: Exception) -> str:
    """Return the message without ONNX Runtime's prefixes and the C++ functions that it names."""
    return _NOISE.sub("", one_line(error, 1000))[:400]
