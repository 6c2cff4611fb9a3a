"""From a model file to a Triton model: its configuration and its files.

The configuration is Triton's ModelConfig in its JSON form
(https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.contract import Source, with_image_meaning
from accelerate.errors import DeviceNotFoundError, OptionError, UnsupportedModelError
from accelerate.formats.description import describe_source, interface_of
from accelerate.formats.open_inference.datatypes import DTYPES
from accelerate.formats.tflite.compiled import COMPILED_OPERATOR, compiled_for_edgetpu
from accelerate.formats.tflite.file import ModelFile as TFLiteFile
from accelerate.formats.tflite.interface import choose_signature
from accelerate.metadata import Metadata, TensorInfo

from .formats import Format, files_of, format_of, users_config

__all__ = ["Package", "check_shippable", "describe", "pack"]

_SHIM = Path(__file__).with_name("shim") / "model.py"
# requests that meet in the server's queue share a run of the model; more of them than this share two
_MAX_BATCH = 64
_BATCH_NAMES = re.compile(r"(?i)n|b|.*batch.*")
_NATIVE_FORMATS = "convert the model to ONNX or to a TensorRT plan, which Triton runs on the GPU"

_DATA_TYPES = {ours: f"TYPE_{'STRING' if name == 'BYTES' else name}" for name, ours in DTYPES.items()}


@dataclass(frozen=True)
class Package:
    """A Triton model, ready for a server or a model repository."""

    name: str  # from the file's name
    origin: str  # the file, for messages
    config: Mapping[str, Any]  # ModelConfig without its name
    files: Mapping[str, bytes]  # by path below the model's folder, such as "1/model.onnx"
    pbtxt: str = ""  # a configuration that the user wrote, used instead of `config`; "" without

    @property
    def backend(self) -> str:
        """The Triton backend that runs it."""
        return str(self.config["backend"])

    def unique_name(self) -> str:
        """Return the name with a digest of all that is in the package: another file or setting is another model."""
        digest = hashlib.sha256(json.dumps([self.config, self.pbtxt]).encode())
        for path, content in sorted(self.files.items()):
            digest.update(f"{path} {len(content)} ".encode())
            digest.update(content)
        return f"{self.name}-{digest.hexdigest()[:12]}"


def describe(source: Source, signature: str | None = None) -> Metadata | None:
    """Return what the file says about itself, with tensors in its own order; None for a format that is not read here.

    `signature` tells which of a TFLite model's signatures runs.
    """
    if source.format == "tflite":
        source.opened(TFLiteFile).check_graphs()
    return describe_source(source, signature)


def check_shippable(source: Source, device: str | None, signature: str | None) -> None:
    """Refuse what no server would be given, without asking one."""
    kind = format_of(source)
    if kind.name == "tflite":
        source.opened(TFLiteFile).check_graphs()
        _check_state(source)
    _check_device(source, kind, device, by_shim=not kind.backend)
    if signature is not None and interface_of(source, signature) is None:
        raise OptionError(f"{source} is {source.likeness}, which has no signatures", "leave signature out")


def pack(
    source: Source,
    about: Metadata | None,
    device: str | None = None,
    *,
    num_threads: int | None = None,
    signature: str | None = None,
    by_shim: bool = False,
    joined: bool = True,
) -> Package:
    """Make a Triton model of a model file.

    Parameters
    ----------
    about : Metadata or None
        What `describe` has returned for the source and the signature.
    device : str, optional
        "cpu" or "gpu"; by default Triton takes a GPU if there is one. What its Python backend runs, it runs on the CPU.
    num_threads : int, optional
        CPU threads, for ONNX and TFLite models; default: every CPU that the server may use.
    by_shim : bool
        An ONNX model by Triton's Python backend, too, for a server without the backend for it.
    joined : bool
        Whether Triton may join requests where the file speaks of a batch. It then refuses larger batches than its
        configuration says.

    Raises
    ------
    UnsupportedModelError
        Of no format that Triton takes, or one that does not run on this device.
    """
    if device not in (None, "cpu", "gpu"):
        raise DeviceNotFoundError(f"triton has no device {device!r}; wanted 'cpu', 'gpu' or None")
    kind = format_of(source)
    if num_threads is not None and not kind.by_shim:
        raise OptionError(
            f"num_threads is for ONNX and TFLite models; {source} is {kind.title}", "leave num_threads out"
        )
    by_shim = by_shim or not kind.backend
    if kind.name == "tflite":
        _check_state(source)
    _check_device(source, kind, device, by_shim=by_shim)
    files = files_of(source, kind)
    config: dict[str, Any] = {"backend": "python" if by_shim else kind.backend}
    if about is not None:
        _check_tensors(source, about, by_shim=by_shim)
        # the shim runs one request after the other: joining them gains nothing there
        batched = joined and kind.name == "onnx" and not by_shim and _batched(about)
        config.update(_tensors_of(about, batched, complete=by_shim))
        _attach_labels(about, config, files)
    if by_shim:
        files["1/model.py"] = _SHIM.read_bytes()
    if by_shim or device is not None:
        config["instance_group"] = [{"kind": "KIND_GPU" if device == "gpu" else "KIND_CPU", "count": 1}]
    parameters = {}
    if num_threads is not None:
        parameters["num_threads" if by_shim else "intra_op_thread_count"] = str(num_threads)
    if signature is not None:
        parameters["signature"] = _signature_for_shim(source, signature)
    if parameters:
        config["parameters"] = {key: {"string_value": value} for key, value in parameters.items()}
    return Package(_model_name(source), str(source), config, files, users_config(source, kind))


def _check_state(source: Source) -> None:
    if source.opened(TFLiteFile).state:
        raise UnsupportedModelError(
            f"{source} keeps state from one call to the next, which the callers of a server would share",
            "load it here: backend='tflite_cpu'",
        )


def _check_device(source: Source, kind: Format, device: str | None, *, by_shim: bool) -> None:
    if kind.name == "tflite" and COMPILED_OPERATOR in source.opened(TFLiteFile).custom_operators:
        reason, remedy = compiled_for_edgetpu(source.path)
        raise UnsupportedModelError(f"{source}: {reason}", remedy)
    if by_shim and not kind.by_shim:
        raise UnsupportedModelError(
            f"{source} is {kind.title}; Triton's Python backend is given ONNX and TFLite models only",
            "leave --python-backend out",
        )
    if device == "gpu" and by_shim:
        raise UnsupportedModelError(
            f"{source} is {kind.title}, which this server runs in its Python backend, on the CPU", _NATIVE_FORMATS
        )
    if device is not None and device not in kind.devices:
        raise UnsupportedModelError(
            f"{source} is {kind.title}, which Triton runs on the {kind.devices[0]} only",
            f"leave device={device!r} out, or "
            + (_NATIVE_FORMATS if device == "gpu" else "ship the ONNX model that it was built from"),
        )


def _signature_for_shim(source: Source, key: str) -> str:
    """Return which position each name of a signature has among the tensors of its graph, as the shim wants it."""
    file = source.opened(TFLiteFile)
    chosen = choose_signature(file.signatures, key)
    graph = file.subgraph(chosen.subgraph)
    positions = []
    for tensors, names in ((graph.inputs, chosen.inputs), (graph.outputs, chosen.outputs)):
        by_index = {tensor.index: position for position, tensor in enumerate(tensors)}
        if set(names.values()) != set(by_index) or len(by_index) < len(tensors):
            raise UnsupportedModelError(
                f"{source}: signature {key!r} names other tensors than its graph takes and gives, which the Python "
                "backend of Triton cannot run",
                "use backend='tflite_cpu'",
            )
        positions.append({name: by_index[index] for name, index in names.items()})
    return json.dumps({"key": key, "inputs": positions[0], "outputs": positions[1]})


def _check_tensors(source: Source, about: Metadata, *, by_shim: bool) -> None:
    if by_shim and (unranked := [tensor.name for tensor in about.inputs if "rank" in tensor.extra]):
        raise UnsupportedModelError(
            f"{source}: the file does not give the shape of input {unranked[0]!r}, which the Python backend of "
            "Triton must be told",
            "export the model with the shapes of its inputs",
        )
    for tensor in (*about.inputs, *about.outputs):
        if tensor.data_type not in _DATA_TYPES or (by_shim and tensor.data_type == "bfloat16"):
            raise UnsupportedModelError(
                f"{source}: tensor {tensor.name!r} is {tensor.data_type}, which "
                f"{'the Python backend of ' if by_shim else ''}Triton cannot pass on",
                "convert the model without it",
            )
    if not about.inputs or not about.outputs:
        raise UnsupportedModelError(f"{source} has no {'outputs' if about.inputs else 'inputs'}, which Triton requires")


def _batched(about: Metadata) -> bool:
    """Whether the file itself calls the first dimension of every tensor a batch.

    That it is dynamic is not enough: Triton would join the requests of several callers along it.
    """
    tensors = (*about.inputs, *about.outputs)
    # ONNX Runtime's backend takes no optional input where it makes batches
    if any(len(t.shape) < 2 or t.shape[0] != -1 or t.optional for t in tensors):
        return False
    names = {t.extra.get("dimensions", ("",))[0] for t in tensors}
    return len(names) == 1 and bool(_BATCH_NAMES.fullmatch(names.pop()))


def _tensors_of(about: Metadata, batched: bool, *, complete: bool) -> dict[str, Any]:
    """Return the part of the configuration that describes the tensors."""
    if not complete and any(not t.shape for t in (*about.inputs, *about.outputs)):
        return {}  # a scalar, or a shape that the file leaves open: the backend asks its runtime
    config: dict[str, Any] = {
        "max_batch_size": _MAX_BATCH if batched else 0,
        # Triton takes no scalars: they are sent as [1]
        "input": [_input(t, t.shape[batched:] or (1,)) for t in about.inputs],
        # an output without a shape is a scalar, or one that the file leaves open: nothing checks these
        "output": [_tensor(t, t.shape[batched:] or (-1,)) for t in about.outputs],
    }
    if batched:
        config["dynamic_batching"] = {}
    return config


def _tensor(tensor: TensorInfo, dims: Sequence[int]) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": _DATA_TYPES[tensor.data_type], "dims": list(dims)}


def _input(tensor: TensorInfo, dims: Sequence[int]) -> dict[str, Any]:
    config = _tensor(tensor, dims)
    layout = with_image_meaning(tensor, None, None).layout[-3:]
    # which clients for pictures insist on; Triton refuses it where a batch is one of the dimensions
    if layout in ("HWC", "CHW") and len(dims) == 3:
        config["format"] = f"FORMAT_N{layout}"
    if tensor.optional:
        config["optional"] = True
    return config


def _attach_labels(about: Metadata, config: dict[str, Any], files: dict[str, bytes]) -> None:
    """Give the labels to Triton's classification extension."""
    outputs = config.get("output", ())
    for n, (output, told) in enumerate(zip(outputs, about.outputs, strict=False)):
        if labels := about.labels if len(outputs) == 1 else told.labels:
            output["label_filename"] = name = f"labels_{n}.txt" if n else "labels.txt"
            files[name] = "".join(f"{' '.join(label.split())}\n" for label in labels).encode()


def _model_name(source: Source) -> str:
    """Return a name that is safe as a folder, in a URL, and as the Python module that Triton makes of it."""
    stem = source.path.stem if source.path is not None else "model"
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")[:80] or "model"
