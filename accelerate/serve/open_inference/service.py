"""The protocol's methods, over the models that are served."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from ..._version import __version__
from ...errors import AccelerateError
from ...formats.open_inference import messages
from .peers import Peers
from .places import Shares
from .refusals import RefusalError, refusal_of
from .regions import Regions
from .requests import RequestReader
from .served import Served

__all__ = ["MOST_CALLS", "Service"]

#: Inferences that run or wait at once.
MOST_CALLS = 64
_EXTENSIONS = ("classification", "model_configuration", "statistics", "system_shared_memory")
_log = logging.getLogger("accelerate")


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers the protocol's methods.

    Parameters
    ----------
    models : mapping of str to Served or AccelerateError
        An error is of a model that could not be loaded.

    Attributes
    ----------
    ready : bool
    """

    def __init__(self, models: Mapping[str, Served | AccelerateError]) -> None:
        self._models = models
        self.ready = False
        self.regions = Regions()
        self.peers = Peers()
        self._requests = RequestReader()
        self._shares = Shares(MOST_CALLS, models)
        self._handlers = {
            f"/{messages.SERVICE}/{name}": self._handler(name, getattr(self, f"_{_snake(name)}"))
            for name in (
                "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig",
                "ModelStatistics", "RepositoryIndex", "SystemSharedMemoryStatus", "SystemSharedMemoryRegister",
                "SystemSharedMemoryUnregister",
            )
        }  # fmt: skip
        # bytes in, bytes out: the generated classes would copy every tensor
        infer = grpc.unary_unary_rpc_method_handler(self._guarded(self._model_infer))
        self._handlers[f"/{messages.SERVICE}/ModelInfer"] = infer

    @property
    def running(self) -> int:
        """Inferences that run or wait."""
        return self._shares.taken

    def service(self, handler_call_details: Any) -> Any:
        """Return what answers a method, None for one that there is not."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, name: str, method: Callable[[Any, Any], Any]) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            self._guarded(method),
            request_deserializer=getattr(messages, f"{name}Request").FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _guarded(self, method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def call(request: Any, context: Any) -> Any:
            try:
                return method(request, context)
            except Exception as error:
                refusal = refusal_of(error)
                if refusal.status is grpc.StatusCode.INTERNAL and not isinstance(
                    error, (RefusalError, AccelerateError)
                ):
                    _log.exception("a request has failed in a way that is a mistake of this package")
            return context.abort(refusal.status, refusal.details)  # it raises, without a word in the log

        return call

    # Inference

    def _model_infer(self, message: bytes, context: Any) -> bytes:
        request, raw = self._requests.read(message)
        served = self._served(request.model, request.version)
        if not self._shares.take(request.model):
            raise RefusalError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self.running} inferences run or wait, and no more of '{request.model}' may; call again later",
            )
        try:
            if request.regions:
                self.peers.check(context.peer())
            return served.infer(request, raw, self.regions, context)
        finally:
            self._shares.give(request.model)

    def _served(self, name: str, version: str) -> Served:
        served = self._models.get(name)
        if served is None:
            known = ", ".join(map(repr, self._models))
            raise RefusalError(
                grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name:.200}' is not found; served: {known}"
            )
        if version not in ("", "1"):
            raise RefusalError(
                grpc.StatusCode.NOT_FOUND,
                f"Request for unknown model: '{name}' version {version:.20} is not found; its only version is 1",
            )
        if isinstance(served, AccelerateError):
            raise RefusalError(grpc.StatusCode.UNAVAILABLE, f"the model '{name}' is not ready: {served}")
        return served

    # What there is

    def _server_live(self, _: Any, __: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    def _server_ready(self, _: Any, __: Any) -> Any:
        return messages.ServerReadyResponse(ready=self.ready)

    def _model_ready(self, request: Any, _: Any) -> Any:
        try:
            self._served(request.name, request.version)
        except RefusalError as refusal:
            if refusal.status is grpc.StatusCode.UNAVAILABLE:
                return messages.ModelReadyResponse(ready=False)
            raise
        return messages.ModelReadyResponse(ready=self.ready)

    def _server_metadata(self, _: Any, __: Any) -> Any:
        return messages.ServerMetadataResponse(name="edge-accelerate", version=__version__, extensions=_EXTENSIONS)

    def _model_metadata(self, request: Any, _: Any) -> Any:
        return self._served(request.name, request.version).described()

    def _model_config(self, request: Any, _: Any) -> Any:
        return messages.ModelConfigResponse(config=self._served(request.name, request.version).configured())

    def _model_statistics(self, request: Any, _: Any) -> Any:
        if request.name:
            chosen = [self._served(request.name, request.version)]
        else:
            chosen = [one for one in self._models.values() if isinstance(one, Served)]
        return messages.ModelStatisticsResponse(model_stats=[one.statistics.message(one.name) for one in chosen])

    def _repository_index(self, request: Any, _: Any) -> Any:
        said = messages.RepositoryIndexResponse()
        for name, served in self._models.items():
            if isinstance(served, Served):
                said.models.add(name=name, version="1", state="READY")
            elif not request.ready:
                said.models.add(name=name, version="1", state="UNAVAILABLE", reason=str(served))
        return said

    # Shared memory

    def _system_shared_memory_status(self, request: Any, context: Any) -> Any:
        self.peers.check(context.peer())
        said = messages.SystemSharedMemoryStatusResponse()
        self.regions.sweep()
        for region in self.regions.listed(request.name):
            status = said.regions[region.name]
            status.name, status.key = region.name, region.key
            status.offset, status.byte_size = region.offset, region.size
        return said

    def _system_shared_memory_register(self, request: Any, context: Any) -> Any:
        self.peers.check(context.peer())
        self.regions.register(request.name, request.key, request.offset, request.byte_size)
        return messages.SystemSharedMemoryRegisterResponse()

    def _system_shared_memory_unregister(self, request: Any, context: Any) -> Any:
        self.peers.check(context.peer())
        self.regions.unregister(request.name)
        return messages.SystemSharedMemoryUnregisterResponse()


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
