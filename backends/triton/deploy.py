"""Ships a model file to a running Triton server through its load API, and takes it away again.

::

    deployment = deploy(connection, source, device="gpu")
    ...                                        # triton://host:8001/{deployment.name}
    undeploy(connection, deployment)

The server must run with ``--model-control-mode=explicit``. It keeps the files for as long as the model is loaded, so a
server that was restarted has lost it: `redeploy` brings it back.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from ...errors import DeviceNotFoundError, ModelError, ServerError, UnsupportedModelError
from ...metadata import Metadata
from ...source import Source
from .errors import translate
from .repository import Package, describe, package, to_pbtxt

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Deployment", "deploy", "redeploy", "undeploy"]

_log = logging.getLogger("accelerate")
_LOAD_TIMEOUT = 300.0  # ONNX Runtime's TensorRT provider builds an engine meanwhile
_ASK_TIMEOUT = 10.0
# what one gRPC message holds, less room for names
_SIZE_LIMIT = (1 << 31) - (1 << 20)
_EXTENSION = "model_repository"
_RUNTIMES = {"ai_edge_litert": "ai-edge-litert", "onnxruntime": "onnxruntime"}

_NO_BACKEND = re.compile(r"unable to find backend library for backend '([^']+)'")
_NO_GPU = re.compile(r"has kind KIND_GPU but no GPUs are available")
_NUMPY = re.compile(r"RuntimeError: (numpy .* does not fit this Triton release.*?)\s*At:", re.DOTALL)
_NO_OPERATOR = re.compile(r"unresolved custom op: ([^.]+)")
_NO_MODULE = re.compile(r"No module named '([^'.]+)")
_REASON = re.compile(r"is at UNAVAILABLE state: (.*?);?\s*$", re.DOTALL)


@dataclass(frozen=True)
class Deployment:
    """A model on a server.

    Attributes
    ----------
    name : str
        By which the server knows it. It follows from the file and the configuration, so the same model is shipped once.
    backend : str
        The Triton backend that runs it: "onnxruntime", "tensorrt", "pytorch", "openvino", or "python" for the shim.
    loaded : bool
        Whether this process has loaded it; what was there before is left alone.
    metadata : Metadata or None
        What the file says about itself, which the server does not tell: quantisation, normalisation, labels, aliases.
        Its tensors are in the order of the server's. None for a format that is not read here.
    """

    name: str
    backend: str
    loaded: bool
    metadata: Metadata | None


class _BackendMissingError(Exception):
    """The server has not the Triton backend that a package asks for."""


_Place = tuple[str, str]  # server and model
# how many Deployments of this process want a model there, and who ships it or takes it away
_users: Counter[_Place] = Counter()
_busy: defaultdict[_Place, threading.Lock] = defaultdict(threading.Lock)
_told: set[_Place] = set()  # of which it was said that they run on the CPU; replicas need not repeat it


def deploy(
    connection: Connection, source: Source, *, device: str | None = None, num_threads: int | None = None
) -> Deployment:
    """Load a model file into a server, unless it is there already, and wait until it is ready.

    A .onnx file goes to Triton's ONNX Runtime backend. Where the server has none, it goes with a small shim to its
    Python backend like a .tflite file, and runs on the CPU there, unless `device` is "gpu".

    Parameters
    ----------
    connection : Connection
    source : Source
        An ONNX or TFLite model, a TensorRT plan, a TorchScript model (with a config.pbtxt beside it) or the .xml of an
        OpenVINO model.
    device : str, optional
        "cpu" or "gpu" makes sure of it; by default Triton takes a GPU if there is one.
    num_threads : int, optional
        CPU threads of an ONNX or TFLite model; default: every CPU that the server may use.

    Raises
    ------
    UnsupportedModelError
        Of no format that this server runs, or not on this device.
    DeviceNotFoundError
        `device` is "gpu", and the server has none.
    ServerError
        It does not take models, or cannot be reached.
    ModelError, OptionError
    """
    described = describe(source)
    made = package(source, device, num_threads=num_threads, described=described)
    _check_server(connection)
    try:
        return _deploy(connection, source, made, described)
    except _BackendMissingError as missing:
        if source.format != "onnx":
            raise UnsupportedModelError(
                f"{source}: the server at {_at(connection)} has no {missing} backend, which this format needs; start a "
                "server that has it (the image nvcr.io/nvidia/tritonserver:YY.MM-py3), or deploy the ONNX model"
            ) from missing.__cause__
        if device == "gpu":
            raise UnsupportedModelError(
                f"{source}: the server at {_at(connection)} has no {missing} backend, and its Python backend runs ONNX "
                "models on the CPU only; start a server that has it (the image nvcr.io/nvidia/tritonserver:YY.MM-py3), "
                "or deploy a TensorRT plan"
            ) from missing.__cause__
        shim = _by_shim(source, device, num_threads, described)
        place = (connection.target.name, _name(shim))
        if device is None and place not in _told:
            _told.add(place)
            _log.warning(
                "the server at %s has no %s backend: its Python backend runs %s, on the CPU",
                _at(connection),
                missing,
                source,
            )
    return _deploy(connection, source, shim, described)


def redeploy(connection: Connection, source: Source, deployment: Deployment, **how: Any) -> None:
    """Bring a model back to a server that was restarted; nothing happens where it is ready.

    Parameters
    ----------
    connection : Connection
    source : Source
    deployment : Deployment
        What `deploy` has returned for this source.
    **how
        `device` and `num_threads` as given to `deploy`.

    Raises
    ------
    The errors of `deploy`.
    """
    device, threads = how.get("device"), how.get("num_threads")
    native = deployment.backend != "python"
    made = package(source, device, num_threads=threads, native=native, described=deployment.metadata)
    if not _is_ready(connection, deployment.name):
        try:
            _load(connection, source, deployment.name, made)
        except _BackendMissingError as missing:
            raise UnsupportedModelError(
                f"{source}: the server at {_at(connection)} has lost its {missing} backend; load the model again"
            ) from missing.__cause__


def undeploy(connection: Connection, deployment: Deployment) -> None:
    """Unload a model that this process has loaded and nothing else in it uses.

    Raises
    ------
    ServerError, ModelError
    """
    if not deployment.loaded:
        return
    place = (connection.target.name, deployment.name)
    with _busy[place]:
        _users[place] -= 1
        if _users[place] > 0:
            return
        del _users[place]
        from tritonclient.grpc import service_pb2

        request = service_pb2.RepositoryModelUnloadRequest(model_name=deployment.name)
        _ask(connection, "RepositoryModelUnload", request, _ASK_TIMEOUT, "unload")


def _by_shim(source: Source, device: str | None, num_threads: int | None, described: Metadata | None) -> Package:
    return package(source, device, num_threads=num_threads, native=False, described=described)


def _deploy(connection: Connection, source: Source, made: Package, described: Metadata | None) -> Deployment:
    name = _name(made)
    place = (connection.target.name, name)
    with _busy[place]:  # another thread that wants the same model finds it there
        ready = _is_ready(connection, name)
        if not ready:
            _load(connection, source, name, made)
        ours = not ready or place in _users
        if ours:
            _users[place] += 1
    return Deployment(name, made.backend, ours, described)


def _name(made: Package) -> str:
    """Return the package's name with a digest of all that is in it: another file or setting is another model."""
    digest = hashlib.sha256(json.dumps([made.config, made.pbtxt]).encode())
    for path, content in sorted(made.files.items()):
        digest.update(f"{path} {len(content)} ".encode())
        digest.update(content)
    return f"{made.name}-{digest.hexdigest()[:12]}"


def _check_server(connection: Connection) -> None:
    from tritonclient.grpc import service_pb2

    answer = _ask(connection, "ServerMetadata", service_pb2.ServerMetadataRequest(), _ASK_TIMEOUT, "load")
    if _EXTENSION not in answer.extensions:
        raise ServerError(
            f"the server at {_at(connection)} is {answer.name} {answer.version}, which is not given models over the "
            "network; set the model up there, and load it as triton://host:port/model"
        )


def _is_ready(connection: Connection, name: str) -> bool:
    import grpc
    from tritonclient.grpc import service_pb2

    try:
        return bool(connection.ask("ModelReady", service_pb2.ModelReadyRequest(name=name), _ASK_TIMEOUT).ready)
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
            return False
        raise translate(error, _at(connection), "load") from error


def _load(connection: Connection, source: Source, name: str, made: Package) -> None:
    import grpc
    from tritonclient.grpc import service_pb2

    size = sum(map(len, made.files.values()))
    if size > _SIZE_LIMIT:
        raise UnsupportedModelError(
            f"{source}: {size} bytes are more than a message holds; put the model on the server's disk: "
            "edge-accelerate sidecar export MODEL --repository DIR"
        )
    request = service_pb2.RepositoryModelLoadRequest(model_name=name)
    request.parameters["config"].string_param = _as_json(source, name, made)
    for path, content in made.files.items():
        request.parameters[f"file:{path}"].bytes_param = content
    deadline = monotonic() + _LOAD_TIMEOUT
    try:
        connection.ask("RepositoryModelLoad", request, _LOAD_TIMEOUT)
    except grpc.RpcError as error:
        raise _explain(error, connection, source, made) from error
    while not _is_ready(connection, name):  # the server answers once it is, unless another client unloads it meanwhile
        if monotonic() > deadline:
            raise ServerError(f"the server at {_at(connection)} has loaded {name!r}, which does not become ready")
        sleep(0.05)


def _as_json(source: Source, name: str, made: Package) -> str:
    if not made.pbtxt:
        return json.dumps({"name": name, **made.config})
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    try:
        theirs = text_format.Parse(made.pbtxt, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ModelError(f"{source}: the config.pbtxt beside it is no model configuration: {error}") from error
    complete = text_format.Parse(to_pbtxt(name, made.config), model_config_pb2.ModelConfig())
    if theirs.instance_group and "instance_group" not in made.config:
        complete.ClearField("instance_group")
    complete.MergeFrom(theirs)
    complete.name = name
    return str(json_format.MessageToJson(complete, preserving_proto_field_name=True))


def _explain(error: Any, connection: Connection, source: Source, made: Package) -> Exception:
    """Say what keeps the server from loading a model."""
    said = str(error.details() or "")
    where = _at(connection)
    if match := _NO_BACKEND.search(said):
        missing = _BackendMissingError(match[1])
        missing.__cause__ = error
        return missing
    if _NO_GPU.search(said):
        return DeviceNotFoundError(
            f"{source}: device='gpu' was asked for, and the server at {where} sees no GPU; start it where it does "
            "(docker run --gpus=all, on a Jetson --runtime=nvidia), or leave device out"
        )
    match = _NO_MODULE.search(said)
    if made.backend == "python" and match and match[1] in _RUNTIMES:
        return UnsupportedModelError(
            f"{source}: the Python of the server at {where} has no {match[1]}, which runs this model in Triton's "
            f"Python backend; there: pip install {_RUNTIMES[match[1]]}"
        )
    if match := _NUMPY.search(said):
        return ServerError(f"{source}: the server at {where} cannot run the model: {match[1]}")
    if match := _NO_OPERATOR.search(said):
        return UnsupportedModelError(
            f"{source} uses the custom operator {match[1]!r}, which the TFLite interpreter of the server at {where} "
            "does not have; convert the model without it"
        )
    if reason := _REASON.search(said):
        lines = " ".join(reason[1].partition("\n\nAt:")[0].split())
        return ModelError(f"{source}: the server at {where} cannot load the model: {lines}")
    return translate(error, where, "load")


def _ask(connection: Connection, method: str, request: Any, timeout: float, doing: str) -> Any:
    import grpc

    try:
        return connection.ask(method, request, timeout)
    except grpc.RpcError as error:
        raise translate(error, _at(connection), doing) from error


def _at(connection: Connection) -> str:
    return ", ".join(f"{host}:{port}" for host, port in connection.address.hosts)
