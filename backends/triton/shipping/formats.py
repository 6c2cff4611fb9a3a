"""The model formats that Triton takes, told by their content."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from io import BytesIO

from accelerate.errors import UnsupportedModelError
from accelerate.source import Source

__all__ = ["KINDS", "Kind", "kind_of"]


@dataclass(frozen=True)
class Kind:
    """A model format.

    Attributes
    ----------
    title : str
    backend : str
        The Triton backend that runs it; "" where there is none.
    file : str
        What that backend calls the model file.
    devices : tuple of str
        Where it runs it.
    """

    title: str
    backend: str
    file: str
    devices: tuple[str, ...] = ("cpu", "gpu")


KINDS = {
    "onnx": Kind("an ONNX model", "onnxruntime", "model.onnx"),
    "tensorrt": Kind("a TensorRT plan", "tensorrt", "model.plan", ("gpu",)),
    "torchscript": Kind("a TorchScript model", "pytorch", "model.pt"),
    "openvino": Kind("an OpenVINO model", "openvino", "model.xml", ("cpu",)),
    "tflite": Kind("a TFLite model", "", "model.tflite", ("cpu",)),
}


def kind_of(source: Source) -> str:
    """Return "onnx", "tflite", "tensorrt", "torchscript" or "openvino", judged by the content.

    Raises
    ------
    UnsupportedModelError, ModelError
    """
    if source.format in ("onnx", "tflite"):
        return source.format
    if source.format:
        raise UnsupportedModelError(f"{source} is {source.likeness}; Triton is given a model file")
    buffer = source.buffer()
    head = bytes(buffer[:4096])
    if head[:4] in (b"ptrt", b"ftrt"):
        return "tensorrt"
    if head[3:5] == b"\0{" and buffer[(start := 4 + int.from_bytes(head[:4], "little")) : start + 4] in _PLAN_MAGIC:
        raise UnsupportedModelError(
            f"{source} is a TensorRT plan behind a header of Ultralytics' own, which Triton does not know: "
            f"write the file without its first {start} bytes"
        )
    if re.search(rb"<net\b[^>]*\bversion=", head):
        return "openvino"
    if head[:2] == b"PK" and _is_torchscript(buffer[:]):
        return "torchscript"
    raise UnsupportedModelError(
        f"{source} is {source.likeness}; Triton takes ONNX, TensorRT plans, TorchScript, OpenVINO IR and TFLite"
    )


_PLAN_MAGIC = (b"ptrt", b"ftrt")


def _is_torchscript(content: bytes) -> bool:
    try:
        names = zipfile.ZipFile(BytesIO(content)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return any(name.endswith("/constants.pkl") for name in names)
