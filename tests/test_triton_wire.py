"""Requests and answers on the wire, against the generated protobuf classes. An answer is untrusted."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("tritonclient.grpc")

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from accelerate.backends.triton.calls.answer import Answered, pair, read_answer, read_output, unpack_strings
from accelerate.backends.triton.calls.request import Span, bytes_of, join, request_head
from accelerate.backends.triton.description import TensorSpec
from accelerate.errors import InferenceError
from accelerate.formats.open_inference.raw import pack_strings

names = st.text(max_size=8)
shapes = st.lists(st.integers(0, 2**40), max_size=4)


def answered(shape: tuple[int, ...]) -> Answered:
    return Answered("y", "FP32", shape, None)


@given(
    model=names,
    version=names,
    inputs=st.lists(st.tuples(names, names, shapes, st.binary(max_size=300)), max_size=4),
    outputs=st.lists(names, max_size=3),
)
@example("m", "", [("x", "UINT8", [200], bytes(200))], ["y"])
def test_a_request_is_what_protobuf_makes_of_it(
    model: str, version: str, inputs: list[tuple[str, str, list[int], bytes]], outputs: list[str]
) -> None:
    wanted = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for name, datatype, shape, content in inputs:
        wanted.inputs.add(name=name, datatype=datatype, shape=shape)
        wanted.raw_input_contents.append(content)
    for name in outputs:
        wanted.outputs.add(name=name)
    head = request_head(model, version, [(*one[:3], None) for one in inputs], [(name, None) for name in outputs])
    request = join(head, [np.frombuffer(content, np.uint8) for *_, content in inputs])
    assert service_pb2.ModelInferRequest.FromString(request) == wanted


def test_a_request_for_a_region() -> None:
    head = request_head("m", "3", [("x", "FP32", (2, 3), Span(64, 24, (2, 3)))], [("y", Span(128, 8, (2,)))], "r")
    request = service_pb2.ModelInferRequest.FromString(head)
    for tensor, offset, size in ((request.inputs[0], 64, 24), (request.outputs[0], 128, 8)):
        assert {k: v.WhichOneof("parameter_choice") for k, v in tensor.parameters.items()} == {
            "shared_memory_region": "string_param",
            "shared_memory_offset": "int64_param",
            "shared_memory_byte_size": "int64_param",
        }
        assert tensor.parameters["shared_memory_offset"].int64_param == offset
        assert tensor.parameters["shared_memory_byte_size"].int64_param == size


def response(outputs: list[tuple[str, str, list[int], bytes]]) -> bytes:
    made = service_pb2.ModelInferResponse(model_name="m", model_version="1", id="7")
    made.parameters["triton_final_response"].bool_param = True
    for name, datatype, shape, content in outputs:
        made.outputs.add(name=name, datatype=datatype, shape=shape)
        made.raw_output_contents.append(content)
    serialised: bytes = made.SerializeToString()
    return serialised


@given(st.lists(st.tuples(names, names, shapes, st.binary(max_size=300)), max_size=4))
def test_an_answer_is_what_protobuf_reads(outputs: list[tuple[str, str, list[int], bytes]]) -> None:
    answers, raw = read_answer(response(outputs))
    assert [(a.name, a.datatype, list(a.shape), bytes(r)) for a, r in zip(answers, raw, strict=True)] == outputs


@given(
    st.lists(st.tuples(names, names, shapes), min_size=1, max_size=3),
    st.lists(st.lists(st.binary(max_size=300), max_size=4), min_size=2, max_size=4),
    st.binary(max_size=12),
    st.integers(-2, 2),
)
def test_answers_with_one_head(
    outputs: list[tuple[str, str, list[int]]], every: list[list[bytes]], rest: bytes, more: int
) -> None:
    head = service_pb2.ModelInferResponse(model_name="m")
    for name, datatype, shape in outputs:
        head.outputs.add(name=name, datatype=datatype, shape=shape)
    for contents in every:  # the first of them is remembered
        made = service_pb2.ModelInferResponse(raw_output_contents=contents)
        made.MergeFrom(head)
        answers, raw = read_answer(made.SerializeToString())
        assert [(a.name, a.datatype, list(a.shape)) for a in answers] == outputs
        assert [bytes(r) for r in raw] == contents
    damaged = head.SerializeToString() + b"\x32" + bytes([max(0, len(rest) + more)]) + rest
    try:
        answers, raw = read_answer(damaged)
    except InferenceError:
        return
    theirs = service_pb2.ModelInferResponse.FromString(damaged)
    assert [a.name for a in answers] == [o.name for o in theirs.outputs]
    assert [bytes(r) for r in raw] == list(theirs.raw_output_contents)


_SPEC = TensorSpec("y", "FP32", np.dtype(np.float32), (-1,))


def _read_all(message: bytes) -> None:
    """Do all that is done with an answer."""
    answers, raw = read_answer(message)
    contents = pair(answers, raw, ())
    for answer in answers:
        for spec in (_SPEC, TensorSpec("y", "BYTES", np.dtype(object), (-1,))):
            array = read_output(spec, answer, contents.get(answer.name), None)
            array.copy()


_ANSWER = response([("y", "FP32", [3], bytes(range(12))), ("z", "BYTES", [2], b"\1\0\0\0a\2\0\0\0bc")])


@settings(max_examples=500)
@given(st.data())
def test_damaged_answers_are_read_or_refused(data: st.DataObject) -> None:
    message = bytearray(_ANSWER)
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(message[: data.draw(st.integers(0, len(message)))])
    try:
        ours = read_answer(damaged)
    except InferenceError:
        pass
    else:
        theirs = service_pb2.ModelInferResponse.FromString(damaged)  # whatever we read, protobuf reads the same
        assert [(a.name, a.datatype, tuple(a.shape)) for a in ours[0]] == [
            (o.name, o.datatype, tuple(o.shape)) for o in theirs.outputs
        ]
        assert [bytes(r) for r in ours[1]] == list(theirs.raw_output_contents)
    with contextlib.suppress(InferenceError):
        _read_all(damaged)


@given(st.binary(max_size=60))
def test_noise_is_read_or_refused(noise: bytes) -> None:
    try:
        theirs = service_pb2.ModelInferResponse.FromString(noise)
    except DecodeError:
        theirs = None
    try:
        ours = read_answer(noise)
    except InferenceError:
        return
    assert theirs is not None
    assert len(ours[0]) == len(theirs.outputs)


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_strings_there_and_back(words: list[bytes]) -> None:
    array = np.empty(len(words), object)
    array[:] = words
    assert unpack_strings(memoryview(pack_strings(array)), [len(words)]).tolist() == words


@given(st.binary(max_size=40), st.lists(st.integers(0, 2**62), max_size=3))
def test_damaged_strings_are_refused(content: bytes, shape: list[int]) -> None:
    with contextlib.suppress(InferenceError):
        assert unpack_strings(memoryview(content), shape).shape == tuple(shape)


@pytest.mark.parametrize("shape", [(2**62, 4), (0, 2**62, 2**62), (-1,), (4,), (2, -2)])
def test_shapes_that_do_not_fit_the_content(shape: tuple[int, ...]) -> None:
    with pytest.raises(InferenceError, match=r"shape|bytes"):
        read_output(_SPEC, answered(shape), memoryview(bytes(12)), None)


def test_an_output_larger_than_its_view_is_refused() -> None:
    view = np.zeros(3, np.float32)
    assert read_output(_SPEC, answered((3,)), memoryview(b""), view) is view
    assert read_output(_SPEC, answered((2,)), None, view).shape == (2,)
    with pytest.raises(InferenceError, match="12 bytes"):
        read_output(_SPEC, answered((4,)), memoryview(b""), view)


def test_typed_contents() -> None:
    made = service_pb2.ModelInferResponse()
    made.outputs.add(name="y", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1.5, 2.5])
    answers, _ = read_answer(made.SerializeToString())
    np.testing.assert_array_equal(read_output(_SPEC, answers[0], None, None), [1.5, 2.5])
    made.outputs[0].shape[0] = 3
    answers, _ = read_answer(made.SerializeToString())
    with pytest.raises(InferenceError, match="does not fit"):
        read_output(_SPEC, answers[0], None, None)


def test_more_contents_than_outputs() -> None:
    with pytest.raises(InferenceError, match="2 contents for 1"):
        pair([answered((1,))], [memoryview(b""), memoryview(b"")], ())


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3)])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "float64", "bfloat16"])
def test_the_bytes_of_any_array(shape: tuple[int, ...], dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    array = np.ones(shape, dtype)
    assert bytes(bytes_of(array)) == array.tobytes()
