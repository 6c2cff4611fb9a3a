"""From a request's tensors to arrays, and from a model's arrays to an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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


class _Feed(NamedTuple):
    """An input of a request, found to be one of the model's."""

    given: Given
    dtype: np.dtype[Any]  # strings are objects
    size: int  # bytes; of strings it is not known beforehand


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
    feeds = request.remembered.get("feeds")
    if feeds is None:
        feeds = request.remembered["feeds"] = _feeds(request, inputs)
    if raw and len(raw) != (count := sum(feed.given.place is None for feed in feeds)):
        raise invalid(f"the request has {len(raw)} raw contents for {count} inputs in the message")
    contents = iter(raw)
    found = {}
    for feed in feeds:
        name, place = feed.given.name, feed.given.place
        if place is not None:
            found[name] = _shared(feed, regions[place.region], rooms, taken)
        elif raw:
            found[name] = _raw(feed, next(contents))
        else:
            found[name] = _typed(feed)
    return found


def _feeds(request: Request, inputs: Mapping[str, TensorInfo]) -> list[_Feed]:
    """Compare what a request says of its inputs with the model."""
    feeds = []
    for given in request.given:
        info = inputs.get(given.name)
        if info is None:
            known = ", ".join(dict.fromkeys(repr(t.name) for t in inputs.values()))
            raise invalid(f"unexpected inference input {given.name!r}; the model's inputs: {known}")
        if given.datatype != (wanted := DATATYPES[info.data_type]):
            raise invalid(f"input {given.name!r} has the datatype {given.datatype!r}; the model wants {wanted!r}")
        feed = _Feed(given, dtype_of(info), math.prod(given.shape) * dtype_of(info).itemsize)
        if given.place is not None and not feed.dtype.hasobject and given.place.size != feed.size:
            raise _misfit(feed, given.place.size)
        feeds.append(feed)
    return feeds


def _raw(feed: _Feed, content: memoryview) -> Array:
    given = feed.given
    if given.contents is not None:
        raise invalid(f"input {given.name!r} has contents, and the request raw contents; wanted one of them")
    if feed.dtype.hasobject:
        return _words(given, content)
    if len(content) != feed.size:
        raise _misfit(feed, len(content))
    return _as(feed, np.frombuffer(content, np.uint8))


def _shared(feed: _Feed, region: Region, rooms: Rooms, taken: list[Array]) -> Array:
    name, place = feed.given.name, feed.given.place
    assert place is not None
    region.check(name, place.offset, place.size)  # before room is made for it
    content = rooms.take(place.size)
    taken.append(content)
    region.read(name, place.offset, content)
    return _words(feed.given, content.data) if feed.dtype.hasobject else _as(feed, content)


def _as(feed: _Feed, content: Array) -> Array:
    """Return bytes as an array of the shape; a copy where the runtime could not read them where they lie."""
    if feed.dtype == np.bool_:
        array: Array = content != 0  # another byte than 0 and 1 would be a value that NumPy does not know
    else:
        array = content.view(feed.dtype)
        if not array.flags.aligned:
            array = array.copy()
    return _shaped(feed.given, array)


def _words(given: Given, content: memoryview) -> Array:
    try:
        return _shaped(given, unpack_strings(content, given.shape))
    except ValueError as error:
        raise invalid(f"input {given.name!r} {error}") from error


def _typed(feed: _Feed) -> Array:
    given = feed.given
    name = _FIELDS.get(given.datatype)
    if name is None or given.contents is None:
        if not math.prod(given.shape):
            return _shaped(given, np.empty(0, feed.dtype))
        raise invalid(f"input {given.name!r} has no contents that {given.datatype} can have; send raw_input_contents")
    values = list(getattr(given.contents, name))
    if len(values) != math.prod(given.shape):
        raise invalid(f"input {given.name!r} has {len(values)} elements; wanted {math.prod(given.shape)}")
    try:
        if given.datatype == "BYTES":
            array = np.empty(len(values), object)
            array[:] = values
        else:
            array = np.array(values, feed.dtype)
    except OverflowError as error:
        raise invalid(f"input {given.name!r} has a value that {given.datatype} cannot hold: {error}") from error
    return _shaped(given, array)


def _shaped(given: Given, array: Array) -> Array:
    try:
        return array.reshape(given.shape)
    except ValueError as error:
        raise invalid(f"input {given.name!r} has the impossible shape {list(given.shape)}") from error


def _misfit(feed: _Feed, size: int) -> RefusalError:
    name, type_and_shape = feed.given.name, f"{feed.given.datatype}{list(feed.given.shape)}"
    return invalid(f"input {name!r} has {size} bytes; its type and shape, {type_and_shape}, make {feed.size}")


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
    head = request.remembered.get(key)
    if head is None:
        head = _head(request, tensors, sizes)
        if len(request.remembered) < _MOST_ANSWERS:
            request.remembered[key] = head
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
    region.write(wanted.name, wanted.place.offset, content)


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
    """Return the largest values as Triton's classification extension writes them: "value:index:label".

    As there, they are those of the whole tensor where nothing tells that it has rows; labels for each of a row do.
    """
    if array.dtype.hasobject:
        raise invalid(f"output {wanted.name!r} is of strings; classification takes numbers")
    several = bool(labels) and array.shape[-1:] == (len(labels),) and array.size > len(labels)
    rows = array.reshape(-1, len(labels)) if several else array.reshape(1, -1)
    best = np.argsort(-rows.astype(np.float64), kind="stable")[:, : wanted.classes]
    words = np.empty(best.shape, object)
    for row, indices, named in zip(rows, best, words, strict=True):
        named[:] = [text.encode() for text in _classes(row, indices, labels)]
    return words.reshape(*array.shape[:-1], -1) if several else words[0]


def _classes(values: Array, indices: Array, labels: Sequence[str]) -> Iterator[str]:
    for index in indices.tolist():
        label = labels[index] if index < len(labels) else ""
        yield f"{float(values[index]):f}:{index}{f':{label}' if label else ''}"
