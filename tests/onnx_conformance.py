"""What the conformance suite is given of ONNX, whatever runtime reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import odd_onnx
from onnx import TensorProto

from accelerate.contract import Array
from accelerate.testing import Case

__all__ = ["doubled", "onnx_cases"]


def doubled(x: dict[str, Array]) -> dict[str, Array]:
    """Return what `odd_onnx.double` computes."""
    return {"y": x["x"] + x["x"]}


def onnx_cases(*, cancels: bool) -> Mapping[str, Case]:
    """Return a model for each role that every runtime for ONNX can play; `cancels` tells of the slow one, a loop.

    There is no "quantized" one: the inputs of an .onnx carry no scale and zero point.
    """
    same: Callable[[dict[str, Array]], dict[str, Array]] = lambda x: {"y": x["x"]}  # noqa: E731
    return {
        "plain": Case(odd_onnx.double(), doubled),
        "several": Case(odd_onnx.add((2, 3)), lambda x: {"sum": x["a"] + x["b"]}),
        "image": Case(odd_onnx.image(), same),
        "dynamic": Case(odd_onnx.double(("batch", 3)), doubled),
        "integers": Case(odd_onnx.identity(TensorProto.INT32), same),
        "batched": Case(odd_onnx.image(), same),
        "dynamic_output": Case(odd_onnx.nonzero(), lambda x: {"y": np.argwhere(x["x"]).T}),
        "passthrough": Case(odd_onnx.aliased_outputs(), _aliased),
        "labels": Case(
            odd_onnx.with_properties({"names": "{0: 'cat', 1: 'dog', 2: 'bird'}"}),
            doubled,
            labels=("cat", "dog", "bird"),
        ),
        # one thread, so that it is slow on a large machine, too
        "slow": Case(odd_onnx.slow(0.3), same, {"num_threads": 1}, rtol=1e-3, cancels=cancels),
    }


def _aliased(x: dict[str, Array]) -> dict[str, Array]:
    return {"x": x["x"], "one": x["x"], "two": x["x"], "constant": np.array([1, 2, 3, 4], np.float32)}
