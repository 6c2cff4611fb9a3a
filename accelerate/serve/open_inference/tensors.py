"""From a request's tensors to arrays, and from a model's arrays to an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from ...calls.conversion import Array, dtype_of
from ...formats.open_inference import messages
from ...formats.open_inference.datatypes import DTYPES
from ...formats.open_inference.raw import pack_strings, unpack_strings
from ...formats.protobuf import varint
from ...metadata import TensorInfo
from .refusals import RefusalError
from .regions import Region, Rooms
from .requests import Given, Request, Wanted, invalid

__all__ = ["DATATYPES", "answer", "arrays"]

#: The protocol's words by ours.
DATATYPES = {ours: theirs for theirs, ours in DTYPES.items()}
#: The field of InferTensorContents for a datatype; half precision has none.
_FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_RAW_OUTPUT = b"\x32"  # ModelInferResponse.raw_output_contents: field 6, length-delimited
_MOST_ANSWERS = 8  # kept with a request: one for each shape that outputs of dynamic shape have had


def arrays(
    request: Request,
    raw: Sequence[memoryview],
    inputs: Mapping[str, TensorInfo],
    regions: Mapping[str, Region],
    rooms: Rooms,
    taken: list[Array],
) -> dict[str, Array]:
    """Return the inputs of a request by the names that it gives them.

    Those in the message are views of it where that is possible; those in shared memory are copied into `rooms`, and
    what was `taken` of these is to be given back.

    Raises
    ------
    RefusalError
    """
    in_message = [given for given in request.given if given.place is None]
    if raw and len(raw) != len(in_message):
        raise invalid(f"the request has {len(raw)} raw contents for {len(in_message)} inputs in the message")
    contents = iter(raw)
    found = {}
    for given in request.given:
        info = inputs.get(given.name)
        if info is None:
            known = ", ".join(dict.fromkeys(repr(t.name) for t in inputs.values()))
            raise invalid(f"unexpected inference input {given.name!r}; the model's inputs: {known}")
        if given.datatype != (wanted := DATATYPES[info.data_type]):
            raise invalid(f"input {given.name!r} has the datatype {given.datatype!r}; the model wants {wanted!r}")
        if given.place is not None:
            found[given.name] = _shared(given, info, regions[given.place.region], rooms, taken)
        elif raw:
            if given.contents is not None:
                raise invalid(f"input {given.name!r} has contents, and the request raw contents; wanted one of them")
            found[given.name] = _raw(given, info, next(contents))
        else:
            found[given.name] = _typed(given, info)
    return found


def _raw(given: Given, info: TensorInfo, content: memoryview) -> Array:
    dtype = dtype_of(info)
    if dtype.hasobject:
        return _words(given, content)
    if len(content) != math.prod(given.shape) * dtype.itemsize:
        raise _misfit(given, len(content), dtype)
    return _as(given, np.frombuffer(content, np.uint8), dtype)


def _shared(given: Given, info: TensorInfo, region: Region, rooms: Rooms, taken: list[Array]) -> Array:
    assert given.place is not None
    dtype, size = dtype_of(info), given.place.size
    if not dtype.hasobject and size != math.prod(given.shape) * dtype.itemsize:
        raise _misfit(given, size, dtype)
    region.check(given.name, given.place.offset, size)  # before room is made for it
    content = rooms.take(size)
    taken.append(content)
    region.read(given.name, given.place.offset, content)
    return _words(given, content.data) if dtype.hasobject else _as(given, content, dtype)


def _as(given: Given, content: Array, dtype: np.dtype[Any]) -> Array:
    """Return bytes as an array of the shape; a copy where the runtime could not read them where they lie."""
    if dtype == np.bool_:
        array: Array = content != 0  # another byte than 0 and 1 would be a value that NumPy does not know
    else:
        array = content.view(dtype)
        if not array.flags.aligned:
            array = array.copy()
    return _shaped(given, array)


def _words(given: Given, content: memoryview) -> Array:
    try:
        return _shaped(given, unpack_strings(content, given.shape))
    except ValueError as error:
        raise invalid(f"input {given.name!r} {error}") from error


def _typed(given: Given, info: TensorInfo) -> Array:
    name = _FIELDS.get(given.datatype)
    if name is None or given.contents is None:
        if not math.prod(given.shape):
            return _shaped(given, np.empty(0, dtype_of(info)))
        raise invalid(f"input {given.name!r} has no contents that {given.datatype} can have; send raw_input_contents")
    values = list(getattr(given.contents, name))
    if len(values) != math.prod(given.shape):
        raise invalid(f"input {given.name!r} has {len(values)} elements; wanted {math.prod(given.shape)}")
    try:
        if given.datatype == "BYTES":
            array = np.empty(len(values), object)
            array[:] = values
        else:
            array = np.array(values, dtype_of(info))
    except OverflowError as error:
        raise invalid(f"input {given.name!r} has a value that {given.datatype} cannot hold: {error}") from error
    return _shaped(given, array)


def _shaped(given: Given, array: Array) -> Array:
    try:
        return array.reshape(given.shape)
    except ValueError as error:
        raise invalid(f"input {given.name!r} has the impossible shape {list(given.shape)}") from error


def _misfit(given: Given, size: int, dtype: np.dtype[Any]) -> RefusalError:
    wanted = math.prod(given.shape) * dtype.itemsize
    return invalid(
        f"input {given.name!r} has {size} bytes; its type and shape, {given.datatype}{list(given.shape)}, make {wanted}"
    )


# The answer


def answer(
    request: Request,
    wanted: Sequence[Wanted],
    outputs: Mapping[str, Array],
    infos: Mapping[str, TensorInfo],
    labels: Mapping[str, Sequence[str]],
    regions: Mapping[str, Region],
) -> bytes:
    """Return a serialised ModelInferResponse; outputs that are wanted in shared memory have been written there.

    Raises
    ------
    RefusalError
    """
    tensors: list[tuple[Wanted, str, Array]] = []
    for one in wanted:
        array, datatype = outputs[one.name], DATATYPES[infos[one.name].data_type]
        if one.classes:
            array, datatype = _ranked(one, array, labels[one.name]), "BYTES"
        tensors.append((one, datatype, array))
    raw: list[Any] = []
    sizes: list[int] = []
    for one, datatype, array in tensors:
        content = _content(datatype, array)
        sizes.append(len(content))
        if one.place is None:
            raw += (_RAW_OUTPUT, varint(len(content)), content)
        else:
            _write(one, content, regions[one.place.region])
            raw.append(_RAW_OUTPUT + b"\0")  # Triton's clients count on an empty one
    key = tuple((array.shape, size) for (_, _, array), size in zip(tensors, sizes, strict=True))
    head = request.answers.get(key)
    if head is None:
        head = _head(request, tensors, sizes)
        if len(request.answers) < _MOST_ANSWERS:
            request.answers[key] = head
    return b"".join((head, *raw))


def _content(datatype: str, array: Array) -> Any:
    if datatype == "BYTES":
        return pack_strings(array)
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8) if flat.size else b""


def _write(wanted: Wanted, content: Any, region: Region) -> None:
    assert wanted.place is not None
    if len(content) > wanted.place.size:
        raise RefusalError(
            grpc.StatusCode.INTERNAL,
            f"shared memory size specified with the request for output '{wanted.name}' ({wanted.place.size} bytes) "
            f"should be at least {len(content)} bytes to hold the results",
        )
    region.write(wanted.name, wanted.place.offset, np.frombuffer(content, np.uint8))


def _head(request: Request, tensors: Sequence[tuple[Wanted, str, Array]], sizes: Sequence[int]) -> bytes:
    response = messages.ModelInferResponse(model_name=request.model, model_version="1", id=request.id)
    for (one, datatype, array), size in zip(tensors, sizes, strict=True):
        output = response.outputs.add(name=one.name, datatype=datatype, shape=array.shape)
        if one.place is not None:
            output.parameters["shared_memory_region"].string_param = one.place.region
            output.parameters["shared_memory_byte_size"].int64_param = size
            if one.place.offset:
                output.parameters["shared_memory_offset"].int64_param = one.place.offset
    head: bytes = response.SerializeToString()
    return head


def _ranked(wanted: Wanted, array: Array, labels: Sequence[str]) -> Array:
    """Return the largest values as Triton's classification extension writes them: "value:index:label"."""
    if array.dtype.kind not in "iufb":
        raise invalid(f"output {wanted.name!r} is {array.dtype}; classification takes numbers")
    flat = array.reshape(-1)
    best = np.argsort(-flat.astype(np.float64), kind="stable")[: wanted.classes]
    words = np.empty(len(best), object)
    words[:] = [text.encode() for text in _classes(flat, best, labels)]
    return words


def _classes(values: Array, indices: Array, labels: Sequence[str]) -> Iterator[str]:
    for index in indices.tolist():
        label = labels[index] if index < len(labels) else ""
        yield f"{float(values[index]):f}:{index}{f':{label}' if label else ''}"
