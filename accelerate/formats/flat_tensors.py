"""Tensors as Viam's ML model service sends them: the message ``viam.service.mlmodel.v1.FlatTensors`` and NumPy arrays.

The wire has the values of a tensor as one packed field, which is the array's own memory in little-endian order: nothing
is to be done value by value. The message is described in viamrobotics/api, proto/viam/service/mlmodel/v1/mlmodel.proto:

::

    FlatTensors { map<string, FlatTensor> tensors = 1; }
    FlatTensor  { repeated fixed64 shape = 1;  oneof tensor { each { data = 1; } int8_tensor = 2; ... } }

Values of 16 bits are the exception. The comment in that file, and Viam's C++ SDK, put two of them into each fixed32;
the SDKs for Python and Go put one, with its sign extended. Written is the latter, read are both: the shape tells.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError, TensorError
from .protobuf import BYTES, Message, varint

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["DTYPES", "LIMIT", "decode", "encode"]

#: The dtypes of the protocol, each with the number of its field in FlatTensor.
DTYPES: Mapping[str, int] = {
    "int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8, "uint64": 9, "float32": 10,
    "float64": 11,
}  # fmt: skip
#: The most bytes of a message, either way: viam-server takes no larger one, and Viam's SDKs check nothing.
LIMIT = 32 << 20
_MOST_TENSORS = 4096  # an array costs some hundred bytes, a tensor of a hostile message ten
_MOST_FIELDS = 32  # of one of the small messages: with those of later versions
_NUMBERS = range(1, 1 << 29)  # of fields, as protobuf has them
_MOST_DIMENSIONS = 32  # NumPy's limit before 2.0
_NAMES = {number: name for name, number in DTYPES.items()}
_WIDE = {"int16": "<i4", "uint16": "<u4"}  # on the wire; the sign is extended
_TENSORS, _KEY, _VALUE, _SHAPE, _DATA = 1, 1, 2, 1, 1
_TOO_LARGE = f"Viam takes {LIMIT >> 20} MiB a message"


def encode(tensors: Mapping[str, Array]) -> bytes:
    """Return arrays as a serialised FlatTensors, in the order of the mapping.

    Parameters
    ----------
    tensors : mapping of str to numpy.ndarray
        Of any shape and memory layout, and of a dtype of `DTYPES` in any byte order.

    Raises
    ------
    TensorError
        The protocol has no such dtype, or the message would be larger than `LIMIT`.
    """
    parts: list[Any] = []
    total = 0
    for name, array in tensors.items():
        number = DTYPES.get(array.dtype.name)
        if number is None:
            raise TensorError(f"tensor {name!r} is {array.dtype.name}; Viam's protocol has {', '.join(DTYPES)}")
        values = np.asarray(array, _WIDE.get(array.dtype.name) or array.dtype.newbyteorder("<"), order="C")
        data = b"" if not values.size else b"\x0a" + varint(values.nbytes)
        shape = b"" if not values.ndim else b"\x0a" + varint(8 * array.ndim) + np.array(array.shape, "<u8").tobytes()
        head = shape + bytes((number << 3 | BYTES,)) + varint(len(data) + values.nbytes) + data
        try:
            key = name.encode()
        except UnicodeEncodeError as error:  # a part of a surrogate pair
            raise TensorError(f"tensor {name!r} has a name that is no text: {error}") from error
        head = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(head) + values.nbytes) + head
        size = varint(len(head) + values.nbytes)
        total += 1 + len(size) + len(head) + values.nbytes
        if total > LIMIT:
            raise TensorError(
                f"the tensors up to {name!r} have {total} bytes; {_TOO_LARGE}", "give smaller ones, or uint8"
            )
        parts += (b"\x0a", size, head, values)
    return b"".join(parts)


def decode(data: bytes, where: str, *, copy: bool = False) -> dict[str, Array]:
    """Return the arrays of a serialised FlatTensors, in its order.

    Nothing is believed: what is allocated is never larger than the message.

    Parameters
    ----------
    data : bytes
    where : str
        What the message is called in errors: "the answer of the server".
    copy : bool
        Whether every array has memory of its own, to be written to. Without, an array is a read-only view of `data`
        where its values lie there as the machine wants them: aligned, and not two in the place of one.

    Raises
    ------
    TensorError
        The message is no FlatTensors, its values are not as many as its shapes say, or it is larger than `LIMIT`.
    """
    if len(data) > LIMIT:
        raise TensorError(f"{where} has {len(data)} bytes; {_TOO_LARGE}")
    message = Message(data, where)
    arrays: dict[str, Array] = {}
    try:
        for position, (number, wire, span) in enumerate(message.fields()):
            if position >= _MOST_TENSORS or number not in _NUMBERS:
                what = f"over {_MOST_TENSORS} tensors" if number in _NUMBERS else f"a field {number}"
                raise TensorError(f"{where} has {what}; it is damaged or hostile")
            if number != _TENSORS:  # of a later version of the protocol
                continue
            entry = _fields(message, wire, span, where)
            if not entry.keys() <= {_KEY, _VALUE}:  # no version may add to a map's entries
                raise TensorError(f"{where} has a tensor with the fields {sorted(entry)}; wanted 1 and 2")
            try:
                name = message.bytes(_span(entry, _KEY, where)).decode()
            except UnicodeDecodeError as error:
                raise TensorError(f"{where} has a tensor whose name is no UTF-8") from error
            if name in arrays:
                raise TensorError(f"{where} has the tensor {name!r} twice")
            what = f"{where}: tensor {name!r}"
            arrays[name] = _tensor(message, data, _fields(message, BYTES, _span(entry, _VALUE, what), what), what, copy)
    except ModelError as error:
        raise TensorError(error.reason) from error
    return arrays


Fields = dict[int, tuple[int, tuple[int, int]]]


def _tensor(message: Message, data: bytes, fields: Fields, what: str, copy: bool) -> Array:
    present = [number for number in fields if number in _NAMES]
    if len(present) != 1:
        dtypes = " and ".join(_NAMES[number] for number in present)
        raise TensorError(f"{what} has {f'values of {dtypes}' if dtypes else 'no values'}; wanted those of one dtype")
    (number,) = present
    shape = _shape(data, _span(fields, _SHAPE, what), what)
    name = _NAMES[number]
    dtype = np.dtype(name).newbyteorder("<")
    start, end = _span(_fields(message, BYTES, _span(fields, number, what), what), _DATA, what)
    stride = np.dtype(_WIDE.get(name, dtype)).itemsize
    values, rest = divmod(end - start, stride)
    count = math.prod(shape)  # of Python's numbers, which do not overflow
    packed = name in _WIDE and values != count and values == -(-count // 2)
    if rest or (values != count and not packed):
        raise TensorError(
            f"{what} is {name}{list(shape)} and has {end - start} bytes of values; wanted {count * stride}"
            + (f", or {-(-count // 2) * stride} with two values in four bytes" if name in _WIDE else "")
        )
    try:
        if packed or name not in _WIDE:
            array = np.frombuffer(data, dtype, count, start)
        else:
            array = _narrowed(np.frombuffer(data, _WIDE[name], count, start), name, what)
        if copy or not (array.flags.aligned and array.flags.c_contiguous) or sys.byteorder != "little":
            array = array.astype(name, order="C")
        return array.reshape(shape)
    except ValueError as error:  # with an empty dimension the others may be of any size
        raise TensorError(f"{what} has the impossible shape {list(shape)} ({error})") from error


def _narrowed(words: Array, name: str, what: str) -> Array:
    """Return values of 16 bits that have four bytes each; those of int16 with the sign extended or without."""
    limits = np.iinfo(name)
    if words.size and not (limits.min <= words.min() and words.max() <= 0xFFFF):
        raise TensorError(f"{what} is {name} and has values from {words.min()} to {words.max()}")
    return words.astype(name)


def _shape(data: bytes, span: tuple[int, int], what: str) -> tuple[int, ...]:
    rank, rest = divmod(span[1] - span[0], 8)
    if rest or rank > _MOST_DIMENSIONS:
        raise TensorError(
            f"{what} has a shape of {span[1] - span[0]} bytes; wanted 8 for each of at most 32 dimensions"
        )
    shape = tuple(np.frombuffer(data, "<u8", rank, span[0]).tolist())
    if any(n >> 63 for n in shape):
        raise TensorError(f"{what} has the impossible shape {[n - (n >> 63 << 64) for n in shape]}")
    return shape


def _fields(message: Message, wire: int, span: tuple[int, int], what: str) -> Fields:
    """Return the fields of a message in it, by number, each at most once."""
    if wire != BYTES:
        raise TensorError(f"{what} is no message; it is damaged, or none of this protocol")
    found: Fields = {}
    for number, kind, value in message.message(span).fields():
        if number in found:
            raise TensorError(f"{what} has its field {number} twice")
        if number not in _NUMBERS or len(found) >= _MOST_FIELDS:
            has = f"over {_MOST_FIELDS} fields" if number in _NUMBERS else f"a field {number}"
            raise TensorError(f"{what} has {has}; it is damaged or hostile")
        found[number] = kind, value
    return found


def _span(fields: Fields, number: int, what: str) -> tuple[int, int]:
    """Return where a field's bytes are; a field that is left out is an empty one."""
    wire, span = fields.get(number, (BYTES, (0, 0)))
    if wire != BYTES:  # numbers one by one, which no SDK writes
        raise TensorError(f"{what} has the wire type {wire} in its field {number}; wanted {BYTES}")
    return span
