"""From one output of a server's answer to an array. An answer is untrusted: every size is checked against the shape."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from accelerate.errors import InferenceError
from accelerate.tensors import Array

from ..description import TensorSpec
from .wire import Answer, shaped, unpack_strings

__all__ = ["pair", "read_output"]

#: The field of InferTensorContents for a datatype, used by servers that do not answer with raw contents.
_TYPED = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def pair(answers: Sequence[Answer], raw: Sequence[memoryview], shared: Collection[str]) -> dict[str, memoryview]:
    """Find the raw contents of each output that is in the message, by name.

    Triton sends empty contents for an output in a region (`shared`); the protocol does not say whether others do.

    Raises
    ------
    InferenceError
        There are more or fewer contents than outputs.
    """
    if not raw:
        return {}
    named = [a for a in answers if len(raw) == len(answers) or a.name not in shared]
    if len(raw) != len(named):
        raise InferenceError(f"the server's answer has {len(raw)} contents for {len(named)} outputs")
    return {answer.name: content for answer, content in zip(named, raw, strict=True)}


def read_output(spec: TensorSpec, answer: Answer, content: memoryview | None, view: Array | None) -> Array:
    """Return an output: `view` itself where the server has filled it, else an array over `content`.

    Parameters
    ----------
    spec : TensorSpec
    answer : Answer
    content : memoryview or None
        What the message holds for it.
    view : numpy.ndarray or None
        Its place in a region.

    Raises
    ------
    InferenceError
        Sizes and shape do not fit one another.
    """
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
    return shaped(np.frombuffer(content, np.uint8).view(spec.dtype), shape)


def _in_region(spec: TensorSpec, shape: tuple[int, ...], view: Array) -> Array:
    if shape == view.shape:
        return view
    count = math.prod(shape)
    if count > view.size:
        raise _misfit(spec, shape, view.nbytes)
    # less than the configuration announces: what lies behind is left of earlier calls
    return shaped(view.reshape(-1)[:count], shape)


def _typed(spec: TensorSpec, answer: Answer) -> Array:
    field = _TYPED.get(spec.datatype)
    if answer.typed is None or field is None:
        raise InferenceError(f"the server's answer has no contents for output {spec.name!r}")
    try:
        values = np.empty(0, spec.dtype)
        given = list(getattr(answer.typed, field))
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
