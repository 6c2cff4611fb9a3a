"""ModelInferRequest and ModelInferResponse on the wire, without copies of the tensors.

The generated classes copy every tensor into and out of their messages. Here they only make and read the small part;
the raw contents, which are the last field of both messages, are put behind it and taken from it by hand. See
https://protobuf.dev/programming-guides/encoding and grpc_service.proto of the Open Inference Protocol.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelerate.errors import InferenceError
from accelerate.tensors import Array

__all__ = [
    "Answer",
    "Place",
    "bytes_of",
    "join",
    "pack_strings",
    "read_answer",
    "request_head",
    "shaped",
    "unpack_strings",
]

_RAW_INPUT = b"\x3a"  # ModelInferRequest.raw_input_contents: field 7, length-delimited
_RAW_OUTPUT = 6 << 3 | 2  # ModelInferResponse.raw_output_contents: field 6, length-delimited
_LARGEST_KEPT = (32 << 20) - (64 << 10)  # glibc's limit, and a margin for its own bookkeeping
_kept = 128 << 10  # what glibc keeps without being shown
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Place:
    """Where in a shared memory region a tensor lies, in bytes."""

    region: str
    offset: int
    size: int


def request_head(
    model: str,
    version: str,
    inputs: Sequence[tuple[str, str, Sequence[int], Place | None]],
    outputs: Sequence[tuple[str, Place | None]],
    classes: int = 0,
) -> bytes:
    """Return a request without raw contents.

    Parameters
    ----------
    model, version : str
    inputs : sequence of (name, datatype, shape, Place or None)
        Those without a Place follow as raw contents, in this order.
    outputs : sequence of (name, Place or None)
        Those without a Place come back in the message.
    classes : int
        Ask for so many of each output's largest values with their labels, instead of the tensor (Triton's
        classification extension).
    """
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for name, datatype, shape, place in inputs:
        _put(request.inputs.add(name=name, datatype=datatype, shape=shape), place)
    for name, place in outputs:
        output = request.outputs.add(name=name)
        _put(output, place)
        if classes:
            output.parameters["classification"].int64_param = classes
    head: bytes = request.SerializeToString()
    return head


def _put(tensor: Any, place: Place | None) -> None:
    if place is not None:
        tensor.parameters["shared_memory_region"].string_param = place.region
        tensor.parameters["shared_memory_offset"].int64_param = place.offset
        tensor.parameters["shared_memory_byte_size"].int64_param = place.size


def join(head: bytes, contents: Sequence[Any]) -> bytes:
    """Return a whole request: the head, and the raw contents (bytes or uint8 arrays) behind it."""
    parts: list[Any] = [head]
    size = 0
    for content in contents:
        parts += (_RAW_INPUT, _varint(len(content)), content)
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


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def pack_strings(words: Array) -> bytes:
    """Return the raw contents of a BYTES tensor: each element behind its length (little-endian, 4 bytes)."""
    parts: list[bytes] = []
    for word in words.ravel().tolist():
        parts += (len(word).to_bytes(4, "little"), word)
    return b"".join(parts)


def unpack_strings(content: memoryview, shape: Sequence[int]) -> Array:
    """Read the raw contents of a BYTES tensor.

    Raises
    ------
    InferenceError
        The lengths do not fit the content or the shape.
    """
    count = math.prod(shape)
    if count * 4 > len(content):
        raise InferenceError(f"the server's answer has {len(content)} bytes for {count} strings")
    words = np.empty(count, object)
    at = 0
    for i in range(count):
        length = int.from_bytes(content[at : at + 4], "little")
        end = at + 4 + length
        if end > len(content):
            raise InferenceError(f"the server's answer ends within string {i} of {count}")
        words[i] = bytes(content[at + 4 : end])
        at = end
    if at != len(content):
        raise InferenceError(f"the server's answer has {len(content) - at} bytes after the last of {count} strings")
    return shaped(words, shape)


def shaped(array: Array, shape: Sequence[int]) -> Array:
    """Return the array in a shape that a server has given it.

    Raises
    ------
    InferenceError
        NumPy has no such shape: with an empty dimension the others may be of any size.
    """
    try:
        return array.reshape(tuple(shape))
    except ValueError as error:
        raise InferenceError(f"the server's answer has the impossible shape {list(shape)} ({error})") from error


@dataclass(frozen=True)
class Answer:
    """One output of an answer.

    Attributes
    ----------
    name, datatype : str
    shape : tuple of int
    typed : object
        The InferTensorContents of a server that does not send raw contents, or None.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    typed: Any


def read_answer(message: bytes) -> tuple[list[Answer], list[memoryview]]:
    """Return the outputs of a serialised ModelInferResponse, and the raw contents in it as views of it.

    Raises
    ------
    InferenceError
        It is no ModelInferResponse: a server's answer is untrusted.
    """
    head, raw = _split(message)
    return _parse(head), raw


def _parse(head: bytes) -> list[Answer]:
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2

    try:
        response = service_pb2.ModelInferResponse.FromString(head)
    except DecodeError as error:
        raise InferenceError(f"the server's answer is no ModelInferResponse ({error})") from error
    return [
        Answer(
            output.name,
            output.datatype,
            tuple(output.shape),
            output.contents if output.HasField("contents") else None,
        )
        for output in response.outputs
    ]


def _split(message: bytes) -> tuple[bytes, list[memoryview]]:
    """Separate the raw contents from the rest of a ModelInferResponse."""
    view, end, at = memoryview(message), len(message), 0
    raw: list[memoryview] = []
    rest: list[memoryview] = []
    while at < end:
        start = at
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _read_varint(message, at)
            if length > end - at:
                raise InferenceError(f"the server's answer is cut off: {length} bytes announced, {end - at} there")
            at += length
            if tag == _RAW_OUTPUT:
                raw.append(view[at - length : at])
                continue
        elif kind == _VARINT:
            _, at = _read_varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:  # groups, which no version of this message has, or nonsense
            raise InferenceError(f"the server's answer has a field of the unknown kind {kind}")
        rest.append(view[start:at])
    return b"".join(rest), raw


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for byte in message[at : at + 10]:
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise InferenceError("the server's answer is cut off or malformed within a number")
