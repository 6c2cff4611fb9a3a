"""Ships a package to a running Triton server through its load API, and takes it away again.

::

    shipment = ship(connection, package)
    ...                                        # triton://host:8001/{shipment.name}
    withdraw(connection, shipment)

The server must run with ``--model-control-mode=explicit``. It keeps the files for as long as the model is loaded, so a
server that was restarted has lost it: `restore` brings it back.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

from accelerate.errors import AccelerateError, DeviceNotFoundError, ModelError, ServerError, UnsupportedModelError
from accelerate.formats.open_inference import messages

from ..connection import Connection, Deadline
from ..errors import translate
from .configuration import to_json
from .package import Package
from .residents import Resident, resident_of

__all__ = ["BackendMissingError", "Shipment", "explain", "restore", "ship", "withdraw"]

_LOAD_TIMEOUT = 300.0  # ONNX Runtime's TensorRT provider builds an engine meanwhile
_ASK_TIMEOUT = 10.0
_GOODBYE = 0.25  # seconds that taking a model away may take; a server that answers needs some milliseconds
# what one gRPC message holds, less room for names
_SIZE_LIMIT = (1 << 31) - (1 << 20)
_EXTENSION = "model_repository"


@dataclass(frozen=True)
class Shipment:
    """A model on a server."""

    #: by which the server knows it. It follows from the file and the configuration, so the same model is shipped once
    name: str
    #: the Triton backend that runs it: "onnxruntime", "tensorrt", "pytorch", "openvino", or "python" for the shim
    backend: str
    resident: Resident = field(repr=False)  # what this process has to do with it


class BackendMissingError(UnsupportedModelError):
    """The server has not the Triton backend that a package asks for."""


def ship(connection: Connection, package: Package) -> Shipment:
    """Load a package into a server, unless it is there already, and wait until it is ready.

    Raises
    ------
    BackendMissingError
        The server does not run this format.
    UnsupportedModelError
        It lacks something else that the model needs.
    DeviceNotFoundError
        The package asks for a GPU, and the server has none.
    ServerError
        It does not take models, or cannot be reached.
    ModelError
    """
    _check_server(connection)
    name = package.unique_name()
    shipment = Shipment(name, package.backend, resident_of(connection, name))
    shipment.resident.enter()
    try:
        _bring(connection, shipment, lambda: package)
    except BaseException:
        with contextlib.suppress(AccelerateError):  # the first error tells more
            withdraw(connection, shipment)
        raise
    return shipment


def restore(connection: Connection, shipment: Shipment, pack: Callable[[], Package], deadline: Deadline) -> None:
    """Bring a model back to a server that was restarted; nothing happens where it is ready.

    Its package is made again by `pack`: to keep that would take the memory of a second model for as long as this one is
    open, which on a Jetson is the GPU's memory, too. The server goes on loading the model where the deadline passes.

    Raises
    ------
    InferenceTimeoutError
        The deadline has passed.
    ModelError
        The file is gone, or holds another model than it did. And the errors of `ship`.
    """

    def again() -> Package:
        package = pack()
        if package.unique_name() != shipment.name:
            raise ModelError(
                f"the server at {connection.server} has lost the model, and {package.origin} was written to after it "
                "was loaded",
                "load it again",
            )
        return package

    def bring() -> None:
        with connection.held():  # what is shipped for a model that is closed meanwhile must be taken away
            try:
                _bring(connection, shipment, again)
            except BackendMissingError as missing:
                raise UnsupportedModelError(
                    f"the server at {connection.server} has lost the model, and its {shipment.backend} backend",
                    "load the model again",
                ) from missing
            if not shipment.resident.wanted:
                _take_away(connection, shipment)

    shipment.resident.restore(bring, f"{connection.address}", deadline)


def withdraw(connection: Connection, shipment: Shipment) -> None:
    """Unload a model that this process has loaded and nothing else in it uses, without waiting for a hung server."""
    shipment.resident.leave()
    if not shipment.resident.wanted:
        _take_away(connection, shipment)


def _take_away(connection: Connection, shipment: Shipment) -> None:
    resident = shipment.resident
    if not resident.lock.acquire(timeout=_GOODBYE):
        return  # whoever ships it there finds that nobody wants it
    try:
        if resident.ours and not resident.wanted:
            request = messages.RepositoryModelUnloadRequest(model_name=shipment.name)
            connection.answer("RepositoryModelUnload", request, _GOODBYE, connection.server, "unload")
            resident.ours = False  # else the next one who leaves tries again
    finally:
        resident.lock.release()


def _bring(connection: Connection, shipment: Shipment, pack: Callable[[], Package]) -> None:
    with shipment.resident.lock:  # another thread that wants the same model finds it there
        if not _is_ready(connection, shipment.name):
            _load(connection, shipment.name, pack())
            shipment.resident.ours = True


def _check_server(connection: Connection) -> None:
    import grpc

    try:
        answer = connection.server_metadata(_ASK_TIMEOUT)
    except grpc.RpcError as error:
        raise translate(error, connection.server, "load", timeout=_ASK_TIMEOUT) from error
    if _EXTENSION not in answer.extensions:
        name = f"{answer.name} {answer.version}".strip() or "one that does not tell its name"
        raise ServerError(
            f"the server at {connection.server} is {name}, which is not given models over the network",
            "set the model up there, and load it as triton://host:port/model",
        )


def _is_ready(connection: Connection, name: str) -> bool:
    import grpc

    try:
        return bool(connection.ask("ModelReady", messages.ModelReadyRequest(name=name), _ASK_TIMEOUT).ready)
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
            return False
        raise translate(error, connection.server, "load") from error


def _load(connection: Connection, name: str, package: Package) -> None:
    import grpc

    size = sum(map(len, package.files.values()))
    if size > _SIZE_LIMIT:
        raise UnsupportedModelError(
            f"{package.origin}: {size} bytes are more than a message holds",
            "put the model on the server's disk: edge-accelerate sidecar export MODEL --repository DIR",
        )
    request = messages.RepositoryModelLoadRequest(model_name=name)
    request.parameters["config"].string_param = to_json(name, package)
    for path, content in package.files.items():
        request.parameters[f"file:{path}"].bytes_param = content
    deadline = monotonic() + _LOAD_TIMEOUT
    try:
        connection.ask("RepositoryModelLoad", request, _LOAD_TIMEOUT)
    except grpc.RpcError as error:
        raise explain(error, connection.server, package) from error
    while not _is_ready(connection, name):  # the server answers once it is, unless another client unloads it meanwhile
        if monotonic() > deadline:
            raise ServerError(f"the server at {connection.server} has loaded {name!r}, which does not become ready")
        sleep(0.05)


# What keeps a server from loading a package, from the words in which it says so

_RUNTIMES = {"ai_edge_litert": "ai-edge-litert", "onnxruntime": "onnxruntime"}
_NO_BACKEND = re.compile(r"unable to find backend library for backend '([^']+)'")
_NO_GPU = re.compile(r"has kind KIND_GPU but no GPUs are available")
_NUMPY = re.compile(r"RuntimeError: (numpy .* does not fit this Triton release.*?)(?:; (there: .*?))?\s*At:", re.DOTALL)
_NO_OPERATOR = re.compile(r"unresolved custom op: ([^.]+)")
_NO_MODULE = re.compile(r"No module named '([^'.]+)")
_REASON = re.compile(r"is at UNAVAILABLE state: (.*?);?\s*$", re.DOTALL)


def explain(error: Any, server: str, package: Package) -> AccelerateError:
    """Say what keeps the server from loading a package."""
    said, origin = str(error.details() or ""), package.origin
    if match := _NO_BACKEND.search(said):
        return BackendMissingError(
            f"{origin}: the server at {server} has no {match[1]} backend, which this format needs",
            "start a server that has it (the image nvcr.io/nvidia/tritonserver:YY.MM-py3), or ship the ONNX model",
        )
    if _NO_GPU.search(said):
        return DeviceNotFoundError(
            f"{origin}: device='gpu' was asked for, and the server at {server} sees no GPU",
            "start it where it does (docker run --gpus=all, on a Jetson --runtime=nvidia), or leave device out",
        )
    match = _NO_MODULE.search(said)
    if package.backend == "python" and match and match[1] in _RUNTIMES:
        return UnsupportedModelError(
            f"{origin}: the Python of the server at {server} has no {match[1]}, which runs this model in Triton's "
            "Python backend",
            f"there: pip install {_RUNTIMES[match[1]]}",
        )
    if match := _NUMPY.search(said):
        return ServerError(f"{origin}: the server at {server} cannot run the model: {match[1]}", match[2] or "")
    if match := _NO_OPERATOR.search(said):
        return UnsupportedModelError(
            f"{origin} uses the custom operator {match[1]!r}, which the TFLite interpreter of the server at {server} "
            "does not have",
            "convert the model without it",
        )
    if reason := _REASON.search(said):
        lines = " ".join(reason[1].partition("\n\nAt:")[0].split())
        return ModelError(f"{origin}: the server at {server} cannot load the model: {lines}")
    return translate(error, server, "load")
