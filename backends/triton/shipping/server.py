"""Ships a model file to a running Triton server through its load API, and takes it away again.

::

    deployment = deploy(connection, source, device="gpu")
    ...                                        # triton://host:8001/{deployment.name}
    undeploy(connection, deployment)

The server must run with ``--model-control-mode=explicit``. It keeps the files for as long as the model is loaded, so a
server that was restarted has lost it: `redeploy` brings it back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from accelerate.errors import AccelerateError, ModelError, ServerError, UnsupportedModelError
from accelerate.metadata import Metadata
from accelerate.source import Source

from ..errors import translate
from .configuration import to_pbtxt
from .package import Package, describe, package
from .refusals import BackendMissingError, at, explain
from .residents import Place, place_of

if TYPE_CHECKING:
    from ..connection import Connection, Deadline

__all__ = ["Deployment", "deploy", "redeploy", "undeploy"]

_log = logging.getLogger("accelerate")
_LOAD_TIMEOUT = 300.0  # ONNX Runtime's TensorRT provider builds an engine meanwhile
_ASK_TIMEOUT = 10.0
_GOODBYE = 0.25  # seconds that taking a model away may take; a server that answers needs some milliseconds
# what one gRPC message holds, less room for names
_SIZE_LIMIT = (1 << 31) - (1 << 20)
_EXTENSION = "model_repository"
_told: set[tuple[str, str]] = set()  # of which it was said that they run on the CPU; replicas need not repeat it


@dataclass(frozen=True)
class Deployment:
    """A model on a server.

    Attributes
    ----------
    name : str
        By which the server knows it. It follows from the file and the configuration, so the same model is shipped once.
    backend : str
        The Triton backend that runs it: "onnxruntime", "tensorrt", "pytorch", "openvino", or "python" for the shim.
    metadata : Metadata or None
        What the file says about itself, which the server does not tell: quantisation, normalisation, labels, aliases.
        Its tensors are in the order of the server's. None for a format that is not read here.
    how : Mapping
        What `deploy` was asked for.
    place : Place
        Where it is, with all who use it there.
    """

    name: str
    backend: str
    metadata: Metadata | None
    how: Mapping[str, Any] = field(repr=False)
    place: Place = field(repr=False)

    @property
    def loaded(self) -> bool:
        """Whether this process has loaded it; what was there before is left alone."""
        return self.place.ours


def deploy(
    connection: Connection,
    source: Source,
    *,
    device: str | None = None,
    num_threads: int | None = None,
    signature: str | None = None,
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
    signature : str, optional
        Which of a TFLite model's signatures runs.

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
    how = {"device": device, "num_threads": num_threads, "signature": signature}
    described = describe(source, signature)
    made = _package(source, how, described)
    _check_server(connection)
    try:
        return _deploy(connection, source, made, described, how)
    except BackendMissingError as missing:
        if source.format != "onnx":
            raise UnsupportedModelError(
                f"{source}: the server at {at(connection)} has no {missing} backend, which this format needs; start a "
                "server that has it (the image nvcr.io/nvidia/tritonserver:YY.MM-py3), or deploy the ONNX model"
            ) from missing.__cause__
        if device == "gpu":
            raise UnsupportedModelError(
                f"{source}: the server at {at(connection)} has no {missing} backend, and its Python backend runs ONNX "
                "models on the CPU only; start a server that has it (the image nvcr.io/nvidia/tritonserver:YY.MM-py3), "
                "or deploy a TensorRT plan"
            ) from missing.__cause__
        shim = _package(source, how, described, native=False)
        where = (connection.target.name, _name(shim))
        if device is None and where not in _told:
            _told.add(where)
            _log.warning(
                "the server at %s has no %s backend: its Python backend runs %s, on the CPU",
                at(connection),
                missing,
                source,
            )
    return _deploy(connection, source, shim, described, how)


def redeploy(connection: Connection, source: Source, deployment: Deployment, deadline: Deadline) -> None:
    """Bring a model back to a server that was restarted; nothing happens where it is ready.

    Its file is read again: to keep its content would take the memory of a second model for as long as this one is
    open, which on a Jetson is the GPU's memory, too.

    Parameters
    ----------
    connection : Connection
    source : Source
    deployment : Deployment
        What `deploy` has returned for this source.
    deadline : Deadline
        The server goes on loading the model where it passes.

    Raises
    ------
    InferenceTimeoutError
        The deadline has passed.
    ModelError
        The file is gone, or holds another model than it did. And the errors of `deploy`.
    """

    def ship() -> None:
        with connection.held():  # what is shipped for a model that is closed meanwhile must be taken away
            _restore(connection, source, deployment)
            if not deployment.place.wanted:
                _take_away(connection, deployment)

    deployment.place.restore(ship, f"{connection.address}", deadline)


def undeploy(connection: Connection, deployment: Deployment) -> None:
    """Unload a model that this process has loaded and nothing else in it uses. Does not wait for a server that hangs.

    Raises
    ------
    ServerError, ModelError, InferenceTimeoutError
    """
    deployment.place.leave()
    if not deployment.place.wanted:
        _take_away(connection, deployment)


def _take_away(connection: Connection, deployment: Deployment) -> None:
    from tritonclient.grpc import service_pb2

    place = deployment.place
    if not place.lock.acquire(timeout=_GOODBYE):
        return  # whoever ships it there finds that nobody wants it
    try:
        if place.ours and not place.wanted:
            request = service_pb2.RepositoryModelUnloadRequest(model_name=deployment.name)
            _ask(connection, "RepositoryModelUnload", request, _GOODBYE, "unload")
            place.ours = False  # else the next one who leaves tries again
    finally:
        place.lock.release()


def _package(source: Source, how: Mapping[str, Any], described: Metadata | None, *, native: bool = True) -> Package:
    # requests that Triton has joined are limited in size, which would set the model apart from one that is loaded here
    return package(source, **how, native=native, joined=False, described=described)


def _deploy(
    connection: Connection, source: Source, made: Package, described: Metadata | None, how: Mapping[str, Any]
) -> Deployment:
    deployment = Deployment(_name(made), made.backend, described, how, place_of(connection, _name(made)))
    place = deployment.place
    place.enter()
    try:
        with place.lock:  # another thread that wants the same model finds it there
            if not _is_ready(connection, deployment.name):
                _load(connection, source, deployment.name, made)
                place.ours = True
    except BaseException:
        with contextlib.suppress(AccelerateError):  # the first error tells more
            undeploy(connection, deployment)
        raise
    return deployment


def _restore(connection: Connection, source: Source, deployment: Deployment) -> None:
    with deployment.place.lock:
        if _is_ready(connection, deployment.name):
            return
        made = _package(source, deployment.how, deployment.metadata, native=deployment.backend != "python")
        if _name(made) != deployment.name:
            raise ModelError(
                f"the server at {at(connection)} has lost the model, and {source} was written to after it was loaded: "
                "load it again"
            )
        try:
            _load(connection, source, deployment.name, made)
        except BackendMissingError as missing:
            raise UnsupportedModelError(
                f"{source}: the server at {at(connection)} has lost its {missing} backend; load the model again"
            ) from missing.__cause__
        deployment.place.ours = True


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
            f"the server at {at(connection)} is {answer.name} {answer.version}, which is not given models over the "
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
        raise translate(error, at(connection), "load") from error


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
        raise explain(error, connection, source, made) from error
    while not _is_ready(connection, name):  # the server answers once it is, unless another client unloads it meanwhile
        if monotonic() > deadline:
            raise ServerError(f"the server at {at(connection)} has loaded {name!r}, which does not become ready")
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


def _ask(connection: Connection, method: str, request: Any, timeout: float, doing: str) -> Any:
    import grpc

    try:
        return connection.ask(method, request, timeout)
    except grpc.RpcError as error:
        raise translate(error, at(connection), doing) from error
