"""From a server's answer to arrays, without copies of the tensors. An answer is untrusted: every size is checked.

The generated classes copy every tensor out of their messages. Here they only read the small part of a
ModelInferResponse; the raw contents, which are its last field, stay where they are, and arrays are views of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from accelerate.contract import Array
from accelerate.errors import InferenceError, ModelError
from accelerate.formats.open_inference import messages
from accelerate.formats.open_inference.heads import HeadReader
from accelerate.formats.open_inference.raw import unpack_strings as raw_strings

from ..description import TensorSpec

__all__ = ["Answered", "pair", "read_answer", "read_output", "unpack_strings"]

#: The field of InferTensorContents for a datatype, used by servers that do not answer with raw contents.
_TYPED = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


class Answered(NamedTuple):
    """An output of an answer, without raw contents."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    contents: Any  # the InferTensorContents, where it has such a thing; the usual way are raw contents


def read_answer(message: bytes) -> tuple[Sequence[Answered], list[memoryview]]:
    """Return the outputs of a serialised ModelInferResponse, and the raw contents in it as views of it."""
    try:
        return _answers.read(message)
    except ModelError as error:
        raise InferenceError(error.reason) from error


def _outputs(head: bytes) -> Sequence[Answered]:
    from google.protobuf.message import DecodeError

    try:
        said = messages.ModelInferResponse.FromString(head).outputs
    except DecodeError as error:
        raise InferenceError(f"the server's answer is no ModelInferResponse ({error})") from error
    return [
        Answered(one.name, one.datatype, tuple(one.shape), one.contents if one.HasField("contents") else None)
        for one in said
    ]


def _are_raw(outputs: Sequence[Answered]) -> bool:
    return all(output.contents is None for output in outputs)


_answers = HeadReader(6, "the server's answer", _outputs, _are_raw)  # field 6: raw_output_contents


def pair(answers: Sequence[Answered], raw: Sequence[memoryview], shared: Collection[str]) -> dict[str, memoryview]:
    """Find the raw contents of each output that is in the message, by name.

    Triton sends empty contents for an output in a region (`shared`); the protocol does not say whether others do.
    """
    if not raw:
        return {}
    named = [a for a in answers if len(raw) == len(answers) or a.name not in shared]
    if len(raw) != len(named):
        raise InferenceError(f"the server's answer has {len(raw)} contents for {len(named)} outputs")
    return {answer.name: content for answer, content in zip(named, raw, strict=True)}


def read_output(spec: TensorSpec, answer: Answered, content: memoryview | None, view: Array | None) -> Array:
    """Return an output: `view`, its place in a region, where the server has filled it, else an array over `content`."""
    shape = answer.shape
    if min(shape, default=0) < 0:
        raise InferenceError(f"the server answered output {spec.name!r} of the impossible shape {list(shape)}")
    if view is not None and not content:
        return _in_region(spec, shape, view)
    if content is None:
        return _typed(spec, answer)
    if spec.is_text:
        return unpack_strings(content, shape)
    if len(content) != spec.size(shape):
        raise _misfit(spec, shape, len(content))
    return _shaped(np.frombuffer(content, np.uint8).view(spec.dtype), shape)


def _in_region(spec: TensorSpec, shape: tuple[int, ...], view: Array) -> Array:
    if shape == view.shape:
        return view
    count = math.prod(shape)
    if count > view.size:
        raise _misfit(spec, shape, view.nbytes)
    # less than the configuration announces: what lies behind is left of earlier calls
    return _shaped(view.reshape(-1)[:count], shape)


def _typed(spec: TensorSpec, answer: Answered) -> Array:
    field = _TYPED.get(spec.datatype)
    if field is None or answer.contents is None:
        raise InferenceError(f"the server's answer has no contents for output {spec.name!r}")
    try:
        given = list(getattr(answer.contents, field))
        if spec.is_text:
            values = np.empty(len(given), object)
            values[:] = given
        else:
            values = np.array(given, spec.dtype)
        return values.reshape(answer.shape)
    except (ValueError, OverflowError) as error:
        raise InferenceError(f"the server's answer for output {spec.name!r} does not fit its shape or type") from error


def _misfit(spec: TensorSpec, shape: tuple[int, ...], size: int) -> InferenceError:
    return InferenceError(
        f"the server answered output {spec.name!r} as {spec.datatype}{list(shape)} with {size} bytes; "
        f"wanted {spec.size(shape)}"
    )


def unpack_strings(content: memoryview, shape: Sequence[int]) -> Array:
    """Read the raw contents of a BYTES tensor."""
    try:
        return _shaped(raw_strings(content, shape), shape)
    except ValueError as error:
        raise InferenceError(f"the server's answer {error}") from error


def _shaped(array: Array, shape: Sequence[int]) -> Array:
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
