"""The RPC services that this module puts in the place of the SDK's: tensors as bytes, errors with their status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpclib import GRPCError, Status
from viam.errors import DuplicateResourceError, ViamGRPCError
from viam.media.video import CameraMimeType, ViamImage
from viam.proto.service.mlmodel import InferResponse
from viam.proto.service.vision import GetClassificationsResponse, GetDetectionsResponse
from viam.resource.registry import Registry
from viam.services.mlmodel import MLModel
from viam.services.mlmodel.service import MLModelRPCService
from viam.services.vision import Vision
from viam.services.vision.service import VisionRPCService
from viam.utils import struct_to_dict

from ...errors import (
    AccelerateError,
    BackendNotAvailableError,
    ClosedError,
    DeviceLostError,
    DeviceNotFoundError,
    InferenceError,
    InferenceTimeoutError,
    ModelError,
    ModelNotFoundError,
    NoBackendError,
    OptionError,
    ServerError,
    TensorError,
)
from ...formats.flat_tensors import decode, encode

__all__ = ["answering", "replace_services"]

#: The status of each error; of several that fit, the first.
_STATUSES: tuple[tuple[type[Exception], Status], ...] = (
    (ModelNotFoundError, Status.NOT_FOUND),
    (OptionError, Status.INVALID_ARGUMENT),
    (TensorError, Status.INVALID_ARGUMENT),
    (InferenceTimeoutError, Status.DEADLINE_EXCEEDED),
    (ModelError, Status.FAILED_PRECONDITION),
    (BackendNotAvailableError, Status.FAILED_PRECONDITION),
    (DeviceNotFoundError, Status.FAILED_PRECONDITION),
    (NoBackendError, Status.FAILED_PRECONDITION),
    (ClosedError, Status.UNAVAILABLE),
    (DeviceLostError, Status.UNAVAILABLE),
    (ServerError, Status.UNAVAILABLE),
    (InferenceError, Status.INTERNAL),
    (AccelerateError, Status.INTERNAL),
    (NotImplementedError, Status.UNIMPLEMENTED),
    (DuplicateResourceError, Status.ALREADY_EXISTS),
)


@contextmanager
def answering() -> Iterator[None]:
    """Give errors the status that says what they are; the text is the error's own."""
    try:
        yield
    except (GRPCError, ViamGRPCError):
        raise
    except Exception as error:
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
        if status is None:
            raise  # the SDK says where it comes from
        raise GRPCError(status, str(error) or type(error).__name__) from error


class _MLModelService(MLModelRPCService):
    """The SDK's, but for tensors: it makes a Python object of each value."""

    async def Infer(self, stream: Any) -> None:
        request = await stream.recv_message()
        with answering():
            mlmodel = self.get_resource(request.name)
            outputs = await mlmodel.infer(
                decode(request.input_tensors.SerializeToString(), "the request"),
                extra=struct_to_dict(request.extra),
                timeout=_timeout(stream),
            )
            response = InferResponse()
            response.output_tensors.SetInParent()
            response.output_tensors.MergeFromString(encode(outputs))
        await stream.send_message(response)

    async def Metadata(self, stream: Any) -> None:
        with answering():
            await super().Metadata(stream)

    async def GetStatus(self, stream: Any) -> None:
        with answering():
            await super().GetStatus(stream)


class _VisionService(VisionRPCService):
    """The SDK's, which for its own sizes of a picture trusts a MIME type that its client makes up."""

    async def GetDetections(self, stream: Any) -> None:
        request = await stream.recv_message()
        with answering():
            vision = self.get_resource(request.name)
            found = await vision.get_detections(
                _picture(request.image), extra=struct_to_dict(request.extra), timeout=_timeout(stream)
            )
        await stream.send_message(GetDetectionsResponse(detections=found))

    async def GetClassifications(self, stream: Any) -> None:
        request = await stream.recv_message()
        with answering():
            vision = self.get_resource(request.name)
            found = await vision.get_classifications(
                _picture(request.image), request.n, extra=struct_to_dict(request.extra), timeout=_timeout(stream)
            )
        await stream.send_message(GetClassificationsResponse(classifications=found))


def replace_services() -> None:
    """Have the servers that this process makes from now on use these services."""
    Registry.lookup_api(MLModel.API).rpc_service = _MLModelService
    Registry.lookup_api(Vision.API).rpc_service = _VisionService


def _timeout(stream: Any) -> float | None:
    return max(0.0, stream.deadline.time_remaining()) if stream.deadline else None


def _picture(data: bytes) -> ViamImage:
    return ViamImage(data, CameraMimeType.CUSTOM("application/octet-stream"))
