"""The request of a call: where its tensors lie, in a shared memory region or in the message, and the bytes that say so.

The generated classes copy every tensor into their messages. Here they only make the small part of a ModelInferRequest;
the raw contents, which are its last field, are put behind it by hand. See
https://protobuf.dev/programming-guides/encoding and grpc_service.proto of the Open Inference Protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelerate.contract import Array
from accelerate.errors import TensorError
from accelerate.formats.open_inference import messages
from accelerate.formats.protobuf import varint

from ..connection import Parameter
from ..description import ModelDescription, TensorSpec

__all__ = ["Layout", "Span", "bytes_of", "join", "pack_parameters", "request_head"]

_ALIGNMENT = 64  # a cache line, and more than any vector instruction asks for
_RAW_INPUT = b"\x3a"  # ModelInferRequest.raw_input_contents: field 7, length-delimited
# the field of an InferParameter for a value; a bool is an int, too
_PARAMETERS = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
_LARGEST_KEPT = (32 << 20) - (64 << 10)  # glibc's limit, and a margin for its own bookkeeping
_kept = 128 << 10  # what glibc keeps without being shown


@dataclass(frozen=True)
class Span:
    """Where a tensor lies in a shared memory region, in bytes, and its shape."""

    offset: int
    size: int
    shape: tuple[int, ...]


class Layout:
    """The layout of a call with inputs of certain shapes, None for an optional input that is left out.

    Strings have no size before they are written, and an output with a dynamic dimension none before the model has run:
    they travel in the message.

    Attributes
    ----------
    size : int
        Of the region, in bytes; 0 where nothing can be shared.
    head : bytes
        The request without a region.

    Raises
    ------
    TensorError
        The batch is larger than the server takes, or not the same for every input.
    """

    def __init__(
        self,
        description: ModelDescription,
        version: str,
        shapes: Sequence[tuple[int, ...] | None],
        parameters: bytes = b"",
    ) -> None:
        self._description, self._version, self._shapes, self._parameters = description, version, shapes, parameters
        self._batch = self._checked_batch(description.most_at_once) if description.most_at_once else -1
        self.size = 0
        self._inputs = [self._reserve(t, shape) for t, shape in zip(description.inputs, shapes, strict=True)]
        self._outputs = [self._reserve(t, self._output_shape(t)) for t in description.outputs]
        self.head = self.request()

    def views(self, memory: Array) -> tuple[list[Array | None], list[Array | None]]:
        """Return the tensors in a region's memory; None for those in the message, or nowhere."""
        every = zip(
            (*self._description.inputs, *self._description.outputs), (*self._inputs, *self._outputs), strict=True
        )
        arrays = [
            None if span is None else memory[span.offset :][: span.size].view(spec.dtype).reshape(span.shape)
            for spec, span in every
        ]
        count = len(self._inputs)
        return arrays[:count], arrays[count:]

    def request(self, region: str = "") -> bytes:
        """Return the request for tensors in the region of that name, without one for tensors in the message."""
        d = self._description
        head = request_head(
            d.name,
            self._version,
            [
                (t.name, t.datatype, (1,) if t.scalar else shape, span)
                for t, shape, span in zip(d.inputs, self._shapes, self._inputs, strict=True)
                if shape is not None
            ],
            [(t.name, span) for t, span in zip(d.outputs, self._outputs, strict=True)],
            region,
        )
        return head + self._parameters

    def _checked_batch(self, most: int) -> int:
        sizes = {shape[0] for shape in self._shapes if shape}
        if len(sizes) != 1 or not 0 < max(sizes) <= most:
            every = zip(self._description.inputs, self._shapes, strict=True)
            given = ", ".join(f"{t.name!r}: {list(shape)}" for t, shape in every if shape is not None)
            raise TensorError(
                f"the inputs have the shapes {given}; wanted one batch, of 1 to {most} (the model's max_batch_size), "
                "as the first dimension of each",
                "split it, or raise max_batch_size on the server",
            )
        return sizes.pop()

    def _reserve(self, spec: TensorSpec, shape: tuple[int, ...] | None) -> Span | None:
        if shape is None or spec.is_text:
            return None
        offset, size = self.size, spec.size(shape)
        self.size = -(-(offset + size) // _ALIGNMENT) * _ALIGNMENT
        return Span(offset, size, shape)

    def _output_shape(self, spec: TensorSpec) -> tuple[int, ...] | None:
        shape = spec.shape
        if self._description.most_at_once and shape[:1] == (-1,):
            shape = (self._batch, *shape[1:])
        return None if min(shape, default=0) < 0 else shape


def request_head(
    model: str,
    version: str,
    inputs: Sequence[tuple[str, str, Sequence[int], Span | None]],
    outputs: Sequence[tuple[str, Span | None]],
    region: str = "",
    *,
    classes: int = 0,
) -> bytes:
    """Return a request without raw contents.

    Inputs are (name, datatype, shape, Span): those without a Span follow as raw contents, in this order. Outputs
    without one come back in the message. The spans are in the region of this name; "" leaves all tensors to the
    message. With `classes`, so many of each output's largest values are asked for with their labels, instead of the
    tensor (Triton's classification extension).
    """
    request = messages.ModelInferRequest(model_name=model, model_version=version)
    for name, datatype, shape, span in inputs:
        _put(request.inputs.add(name=name, datatype=datatype, shape=shape), region, span)
    for name, span in outputs:
        output = request.outputs.add(name=name)
        _put(output, region, span)
        if classes:
            output.parameters["classification"].int64_param = classes
    head: bytes = request.SerializeToString()
    return head


def pack_parameters(parameters: Mapping[str, Parameter]) -> bytes:
    """Return the parameters of a request, to be put behind its head."""
    request = messages.ModelInferRequest()
    for name, value in parameters.items():
        kind = next(kind for kind in _PARAMETERS if isinstance(value, kind))
        setattr(request.parameters[name], _PARAMETERS[kind], value)
    packed: bytes = request.SerializeToString()
    return packed


def _put(tensor: Any, region: str, span: Span | None) -> None:
    if region and span is not None:
        tensor.parameters["shared_memory_region"].string_param = region
        tensor.parameters["shared_memory_offset"].int64_param = span.offset
        tensor.parameters["shared_memory_byte_size"].int64_param = span.size


def join(head: bytes, contents: Sequence[Any]) -> bytes:
    """Return a whole request: the head, and the raw contents (bytes or uint8 arrays) behind it."""
    parts: list[Any] = [head]
    size = 0
    for content in contents:
        parts += (_RAW_INPUT, varint(len(content)), content)
        size += len(content)
    if size > _kept:
        _keep(size)
    return b"".join(parts)


def _keep(size: int) -> None:
    """Make malloc keep the memory of messages of this size from one call to the next.

    The request is in memory twice, here and in gRPC. glibc gives blocks as large as a frame back to the system when
    they are freed, and the page faults of getting them again, 3,000 for each frame of 1080p, take longer than all the
    copying. But it learns: having freed a mapped block, it keeps blocks up to that size from then on, and twice that
    in all (mallopt(3), M_MMAP_THRESHOLD). So it is shown one, untouched; other C libraries do not mind.
    """
    global _kept
    _kept = size
    if size < _LARGEST_KEPT:
        bytes(min(2 * size, _LARGEST_KEPT))


def bytes_of(array: Array) -> Array:
    """Return the memory of a C-contiguous array as uint8."""
    flat: Array = array.reshape(-1).view(np.uint8)
    return flat
