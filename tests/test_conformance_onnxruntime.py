"""The conformance suite over ONNX Runtime on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import pytest

from accelerate.testing import BackendConformance, Case

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # builds the models

import odd_onnx
from onnx import TensorProto


@functools.cache
def _cases() -> Mapping[str, Case]:
    # there is no "quantized" one: the inputs of an .onnx carry no scale and zero point
    return {
        "plain": Case(odd_onnx.double(), lambda x: {"y": x["x"] + x["x"]}),
        "several": Case(odd_onnx.add((2, 3)), lambda x: {"sum": x["a"] + x["b"]}),
        "image": Case(odd_onnx.image(), lambda x: {"y": x["x"]}),
        "dynamic": Case(odd_onnx.double(("batch", 3)), lambda x: {"y": x["x"] + x["x"]}),
        "integers": Case(odd_onnx.identity(TensorProto.INT32), lambda x: {"y": x["x"]}),
        "strings": Case(odd_onnx.reversed_strings(), lambda x: {"y": x["x"][::-1]}),
        "batched": Case(odd_onnx.image(), lambda x: {"y": x["x"]}),
        # one thread, so that it is slow on a large machine, too
        "slow": Case(odd_onnx.slow(0.3), lambda x: {"y": x["x"]}, {"num_threads": 1}, rtol=1e-3),
    }


class TestONNXRuntime(BackendConformance):
    backend = "onnxruntime"

    def cases(self) -> Mapping[str, Case]:
        return _cases()
