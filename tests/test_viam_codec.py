"""Tensors of Viam's ML model service: our codec against the SDK's own, both ways, and hostile messages."""

from __future__ import annotations

import resource
import struct
import sys
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from accelerate.contract import Array
from accelerate.errors import TensorError
from accelerate.formats import flat_tensors
from accelerate.formats.flat_tensors import DTYPES, LIMIT, decode, encode

pytest.importorskip("viam", reason="needs the extra: viam")
pytest.importorskip("hypothesis", reason="needs the dev group")
import hypothesis.extra.numpy as arrays_of
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from viam.proto.service.mlmodel import FlatTensors
from viam.services.mlmodel.utils import flat_tensors_to_ndarrays, ndarrays_to_flat_tensors

WHERE = "the message"
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5)
ANY_ARRAY = st.sampled_from(sorted(DTYPES)).flatmap(lambda dtype: arrays_of.arrays(dtype, SHAPES))
ANY_TENSORS = st.dictionaries(st.text(max_size=8), ANY_ARRAY, max_size=4)


def theirs(tensors: dict[str, Array]) -> bytes:
    """Encode by the SDK; the order of a map's entries is protobuf's affair."""
    message: bytes = ndarrays_to_flat_tensors(tensors).SerializeToString()
    return message


def equal(one: dict[str, Array], other: dict[str, Array]) -> bool:
    """Compare bit by bit: NaNs have payloads, and zeros signs."""
    return one.keys() == other.keys() and all(
        a.dtype == (b := other[name]).dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for name, a in one.items()
    )


# Against the SDK


@given(ANY_TENSORS)
@settings(max_examples=300, deadline=None)
def test_the_sdk_writes_the_same_bytes_and_reads_ours(tensors: dict[str, Array]) -> None:
    written = theirs(tensors)
    ours = encode({name: tensors[name] for name in decode(written, WHERE)})
    assert ours == written
    assert equal(flat_tensors_to_ndarrays(FlatTensors.FromString(ours)), tensors)


@given(ANY_TENSORS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_we_read_what_the_sdk_writes(tensors: dict[str, Array], copy: bool) -> None:
    read = decode(theirs(tensors), WHERE, copy=copy)
    assert equal(read, tensors)
    assert all(a.flags.aligned and a.flags.c_contiguous and a.dtype.isnative for a in read.values())
    if copy:
        assert all(a.flags.writeable for a in read.values())


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_extremes_of_every_dtype(dtype: str) -> None:
    if dtype.startswith("float"):
        info = np.finfo(dtype)
        values = [info.min, info.max, info.smallest_subnormal, -0.0, np.inf, -np.inf, np.nan]
    else:
        limits = np.iinfo(dtype)
        values = [limits.min, limits.max, 0, limits.max // 2]
    tensors = {"x": np.array(values, dtype)}
    assert encode(tensors) == theirs(tensors)
    assert equal(decode(theirs(tensors), WHERE), tensors)
    assert equal(flat_tensors_to_ndarrays(FlatTensors.FromString(encode(tensors))), tensors)


@pytest.mark.parametrize("bits", [0x7F800001, 0xFFC00123])
def test_every_bit_of_a_nan_is_kept(bits: int) -> None:
    tensors = {"x": np.array([bits], np.uint32).view(np.float32)}
    assert decode(encode(tensors), WHERE)["x"].view(np.uint32).tolist() == [bits]


def test_any_memory_layout_and_byte_order() -> None:
    plain = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for given_array in (np.asfortranarray(plain), np.repeat(plain, 2, 1)[:, ::2], plain.astype(">f4")):
        assert encode({"x": given_array}) == theirs({"x": plain})


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7])
def test_two_values_of_16_bits_in_four_bytes_are_read(dtype: str, count: int) -> None:
    """The C++ SDK copies the array as it lies in memory, up to a whole number of fixed32."""
    limits = np.iinfo(dtype)
    values = np.linspace(limits.min, limits.max, count).astype(dtype)
    words = np.append(values, np.zeros(count % 2, dtype)).view(np.uint32)
    message = FlatTensors()
    message.tensors["x"].shape.append(count)
    getattr(message.tensors["x"], f"{dtype}_tensor").data.extend(words.tolist())
    assert equal(decode(message.SerializeToString(), WHERE), {"x": values})


def test_a_value_of_16_bits_without_its_sign_extended_is_read() -> None:
    message = FlatTensors()
    message.tensors["x"].shape.append(3)
    message.tensors["x"].int16_tensor.data.extend([0xFFFF, 0x8000, 7])
    assert decode(message.SerializeToString(), WHERE)["x"].tolist() == [-1, -32768, 7]


def test_values_that_lie_as_the_machine_wants_them_are_not_copied() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    data = encode({"image": frame})
    (read,) = decode(data, WHERE).values()
    assert np.shares_memory(read, np.frombuffer(data, np.uint8))
    assert not read.flags.writeable
    aligned = []
    for length in range(8):  # of the name, which moves the values
        data = encode({"n" * length: frame.astype(np.float32)})
        (read,) = decode(data, WHERE).values()
        aligned.append(np.shares_memory(read, np.frombuffer(data, np.uint8)))
    assert aligned.count(True) == 2


def test_what_the_protocol_has_not_is_refused_by_name() -> None:
    for array in (np.zeros(2, np.float16), np.zeros(2, bool), np.zeros(2, complex), np.array([b"a"], object)):
        with pytest.raises(TensorError, match=rf"'camera'.*{array.dtype.name}.*float32"):
            encode({"camera": array})
    with pytest.raises(TensorError, match="no text"):
        encode({"\ud800": np.zeros(2, np.uint8)})


def test_a_message_over_the_limit_is_refused_both_ways() -> None:
    with pytest.raises(TensorError, match="32 MiB"):
        encode({"x": np.broadcast_to(np.uint8(0), LIMIT // 2), "y": np.zeros(LIMIT // 2 + 1, np.uint8)})
    with pytest.raises(TensorError, match="32 MiB"):
        decode(bytes(LIMIT + 1), WHERE)
    with pytest.raises(TensorError, match="32 MiB"):  # with its name and shape, which no reader would take
        encode({"x": np.zeros(LIMIT, np.uint8)})
    most = np.zeros(LIMIT - 64, np.uint8)
    assert decode(encode({"x": most}), WHERE)["x"].size == most.size


# Hostile messages


def varint(value: int) -> bytes:
    digits = b""
    while value > 0x7F:
        digits, value = digits + bytes([value & 0x7F | 0x80]), value >> 7
    return digits + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(shape: Sequence[int], *fields: bytes, name: bytes = b"x") -> bytes:
    packed = struct.pack(f"<{len(shape)}Q", *shape)
    return field(1, field(1, name) + field(2, (field(1, packed) if shape else b"") + b"".join(fields)))


def floats(count: int, number: int = 10) -> bytes:
    return field(number, field(1, bytes(4 * count)))


ONE = tensor([2], floats(2))
HOSTILE = {
    "a shape larger than the values": (tensor([3], floats(2)), "wanted 12"),
    "a shape smaller than the values": (tensor([1], floats(2)), "wanted 4"),
    "no shape with several values": (tensor([], floats(2)), "wanted 4"),
    "a huge shape": (tensor([1 << 40], floats(2)), "wanted"),
    "a count that overflows 64 bits to what is there": (tensor([1 << 32, 1 << 32, 1], floats(0)), "wanted"),
    "a count that overflows to the right number": (tensor([(1 << 62) + 1, 4], floats(4)), "wanted"),
    "a negative shape": (tensor([(1 << 64) - 2], floats(2)), r"impossible shape \[-2\]"),
    "two negative shapes": (tensor([(1 << 64) - 2, (1 << 64) - 1], floats(2)), r"impossible shape \[-2, -1\]"),
    "an empty dimension beside a huge one": (tensor([0, (1 << 63) - 1, (1 << 63) - 1], floats(0)), "impossible shape"),
    "more dimensions than arrays have": (tensor([1] * 33, floats(1)), "at most 32"),
    "a shape that is cut off": (field(1, field(1, b"x") + field(2, field(1, bytes(7)) + floats(1))), "8 for each"),
    "values that are cut off": (tensor([2], field(10, field(1, bytes(7)))), "wanted 8"),
    "half a value of 16 bits": (tensor([2], field(4, field(1, bytes(6)))), "wanted 8"),
    "values of 16 bits, a third of them": (tensor([6], field(4, field(1, bytes(8)))), "wanted 24, or 12"),
    "values of two dtypes": (tensor([2], floats(2), field(6, field(1, bytes(8)))), "int32|float32"),
    "no values": (tensor([2]), "no values"),
    "no tensor": (field(1, field(1, b"x")), "no values"),
    "values twice in the oneof": (tensor([2], floats(2), floats(2)), "field 10 twice"),
    "values twice": (tensor([2], field(10, field(1, bytes(4)) * 2)), "field 1 twice"),
    "two shapes": (field(1, field(1, b"x") + field(2, field(1, bytes(8)) * 2 + floats(1))), "field 1 twice"),
    "a name twice": (field(1, field(1, b"x") * 2 + field(2, floats(1))), "field 1 twice"),
    "a tensor twice": (ONE + ONE, "'x' twice"),
    "a name that is no text": (tensor([2], floats(2), name=b"\xff\xfe"), "no UTF-8"),
    "a number where a message is wanted": (b"\x08\x05", "no message"),
    "a number where a name is wanted": (field(1, b"\x08\x05" + field(2, floats(1))), "wire type 0"),
    "a number where a tensor is wanted": (field(1, field(1, b"x") + b"\x10\x05"), "wire type 0"),
    "a number where values are wanted": (tensor([1], b"\x50\x05"), "wire type 0"),
    "values one by one": (tensor([1], field(10, b"\x0d" + bytes(4))), "wire type 5"),
    "a length beyond the end": (b"\x0a\xff\xff\xff\xff\x07", "would take"),
    "a length that does not end": (b"\x0a" + b"\xff" * 12, "does not end"),
    "values of 16 bits that have more": (tensor([2], field(5, field(1, b"\0\0\1\0" + bytes(4)))), "0 to 65536"),
    "a tensor without its key": (field(1, field(9, b"x") + field(2, field(1, bytes(8)) + floats(1))), "wanted 1 and 2"),
    "a field 0": (b"\0\0", "field 0"),
    "a field 0 in a tensor": (tensor([2], floats(2), b"\0\0"), "field 0"),
    "a wire type that is none": (b"\x0f", "wire type 7"),
    "a great many tensors": (b"".join(tensor([0], floats(0), name=b"%d" % i) for i in range(5000)), "over 4096"),
    "a great many unknown fields": (b"\x78\x01" * 100_000, "over 4096"),
    "a great many fields in a tensor": (tensor([1], *(field(n, b"") for n in range(20, 2000))), "hostile"),
}


@pytest.mark.parametrize(("message", "says"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_messages_are_refused_before_memory_is_taken(message: bytes, says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TensorError, match=says) as caught:
            decode(message, WHERE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert WHERE in str(caught.value)
    assert peak < 6 << 20


def test_what_is_cut_off_anywhere_is_refused_or_a_whole_message() -> None:
    whole = encode({"a": np.arange(6, dtype=np.float32), "b": np.arange(3, dtype=np.int16)})
    first = len(encode({"a": np.arange(6, dtype=np.float32)}))
    for end in range(len(whole)):
        if end in (0, first):
            assert len(decode(whole[:end], WHERE)) == bool(end)
        else:
            with pytest.raises(TensorError):
                decode(whole[:end], WHERE)


def test_later_versions_of_the_protocol_may_say_more() -> None:
    message = field(7, b"later") + tensor([2], floats(2), field(30, b"later")) + b"\x40\x01"
    assert decode(message, WHERE)["x"].tolist() == [0, 0]


@given(st.binary(max_size=200) | st.tuples(ANY_TENSORS, st.integers(0), st.integers(0, 255)))
@settings(max_examples=500, deadline=None)
def test_damaged_messages_are_refused_or_read_as_the_sdk_reads_them(given_bytes: Any) -> None:
    if isinstance(given_bytes, bytes):
        message = given_bytes
    else:
        tensors, position, value = given_bytes
        whole = bytearray(encode(tensors)) or bytearray(b"\x0a")
        whole[position % len(whole)] = value
        message = bytes(whole)
    try:
        read = decode(message, WHERE)
    except TensorError:
        return
    try:
        message_of_theirs = FlatTensors.FromString(message)
    except DecodeError:  # a number in more bytes than it needs, say
        return
    theirs_read = flat_tensors_to_ndarrays(message_of_theirs)
    assert theirs_read.keys() == read.keys()
    for name, array in read.items():  # of a signalling NaN the SDK makes a quiet one, as it makes a Python float of it
        np.testing.assert_array_equal(array, theirs_read[name], strict=True)


def test_the_limits_are_what_the_module_says() -> None:
    assert LIMIT == 32 << 20
    assert set(flat_tensors.__all__) == {"DTYPES", "LIMIT", "decode", "encode"}


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_a_large_message_takes_its_own_size_at_most() -> None:
    data = encode({"x": np.zeros(LIMIT // 8, np.float32)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decode(data, WHERE, copy=True)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2 * len(data)
