"""The model formats that Triton takes, told by their content, and the files that belong to a model of each."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from io import BytesIO

from accelerate.contract import Source
from accelerate.errors import ModelError, UnsupportedModelError
from accelerate.formats.onnx.file import ModelFile as ONNXFile

__all__ = ["CONFIG", "Format", "files_of", "format_of", "users_config"]

CONFIG = "config.pbtxt"
_PLAN_MAGIC = (b"ptrt", b"ftrt")


@dataclass(frozen=True)
class Format:
    """A model format."""

    name: str
    title: str
    backend: str  # the Triton backend that runs it; "" where there is none
    file: str  # what that backend calls the model file
    devices: tuple[str, ...] = ("cpu", "gpu")  # where it runs it
    by_shim: bool = False  # whether the shim runs it, too, in Triton's Python backend


_FORMATS = {
    one.name: one
    for one in (
        Format("onnx", "an ONNX model", "onnxruntime", "model.onnx", by_shim=True),
        Format("tensorrt", "a TensorRT plan", "tensorrt", "model.plan", ("gpu",)),
        Format("torchscript", "a TorchScript model", "pytorch", "model.pt"),
        Format("openvino", "an OpenVINO model", "openvino", "model.xml", ("cpu",)),
        Format("tflite", "a TFLite model", "", "model.tflite", ("cpu",), by_shim=True),
    )
}


def format_of(source: Source) -> Format:
    """Return the format of a model file, judged by the content."""
    return _FORMATS[_name(source)]


def _name(source: Source) -> str:
    if source.format in ("onnx", "openvino", "tflite"):
        return source.format
    if source.format:
        if source.path is None or source.format == "directory":
            raise UnsupportedModelError(f"{source} is {source.likeness}; Triton is given a model file", "give the file")
        reason = f"{source} is {source.likeness}, for which Triton has no backend"
        raise UnsupportedModelError(reason, source.remedy or "convert it to ONNX or TFLite")
    buffer = source.buffer()
    head = bytes(buffer[:4096])
    if head[:4] in _PLAN_MAGIC:
        return "tensorrt"
    if head[3:5] == b"\0{" and buffer[(start := 4 + int.from_bytes(head[:4], "little")) : start + 4] in _PLAN_MAGIC:
        raise UnsupportedModelError(
            f"{source} is a TensorRT plan behind a header of Ultralytics' own, which Triton does not know",
            f"write the file without its first {start} bytes",
        )
    if head[:2] == b"PK" and _is_torchscript(buffer[:]):
        return "torchscript"
    raise UnsupportedModelError(
        f"{source} is {source.likeness}; Triton takes ONNX, TensorRT plans, TorchScript, OpenVINO IR and TFLite",
        "convert the model to one of these",
    )


def _is_torchscript(content: bytes) -> bool:
    try:
        names = zipfile.ZipFile(BytesIO(content)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return any(name.endswith("/constants.pkl") for name in names)


def files_of(source: Source, kind: Format) -> dict[str, bytes]:
    """Return a model's file, and the others that belong to it, by path below the model's folder on the server."""
    if kind.name == "onnx" and (outside := source.opened(ONNXFile).external_files):
        raise UnsupportedModelError(
            f"{source} keeps weights in other files ({', '.join(outside[:3])}), which are not followed",
            "write it as one: onnx.save(onnx.load(path), new_path, save_as_external_data=False)",
        )
    files = {f"1/{kind.file}": source.read()}
    if kind.name == "openvino":
        weights = None if source.path is None else source.path.with_suffix(".bin")
        if weights is None or not weights.is_file():
            raise ModelError(
                f"{source} is the .xml of an OpenVINO model, without its weights",
                f"put them beside it: {weights or '.bin'}",
            )
        files["1/model.bin"] = weights.read_bytes()
    return files


def users_config(source: Source, kind: Format) -> str:
    """Return the text of the config.pbtxt beside a model file that does not describe its tensors, "" without."""
    if kind.name not in ("torchscript", "openvino"):
        return ""
    beside = None if source.path is None else source.path.with_name(CONFIG)
    if beside is not None and beside.is_file():
        return beside.read_text(encoding="utf-8")
    if kind.name == "torchscript":
        raise UnsupportedModelError(
            f"{source}: a TorchScript file does not say the names, types and shapes of its tensors",
            f'write them into {beside or f"a {CONFIG} beside the file"}: input [{{ name: "INPUT__0", '
            'data_type: TYPE_FP32, dims: [1, 3, 224, 224] }] output [{ name: "OUTPUT__0", ... }]',
        )
    return ""
