"""The conformance suite over ONNX Runtime on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from accelerate.contract import Array
from accelerate.testing import BackendConformance, Case

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # builds the models

import odd_onnx
import onnxruntime
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
        "dynamic_output": Case(odd_onnx.nonzero(), lambda x: {"y": np.argwhere(x["x"]).T}),
        "passthrough": Case(odd_onnx.aliased_outputs(), _aliased),
        "labels": Case(
            odd_onnx.with_properties({"names": "{0: 'cat', 1: 'dog', 2: 'bird'}"}),
            lambda x: {"y": x["x"] + x["x"]},
            labels=("cat", "dog", "bird"),
        ),
        "failing": Case(odd_onnx.failing(), lambda _: {"y": np.full(3, 5, "f")}, fails_on={"x": np.ones(3, "f") * 9}),
        "existing": Case(onnxruntime.InferenceSession(odd_onnx.double()), lambda x: {"y": x["x"] + x["x"]}),
        # one thread, so that it is slow on a large machine, too
        "slow": Case(odd_onnx.slow(0.3), lambda x: {"y": x["x"]}, {"num_threads": 1}, rtol=1e-3, cancels=True),
    }


def _aliased(x: dict[str, Array]) -> dict[str, Array]:
    return {"x": x["x"], "one": x["x"], "two": x["x"], "constant": np.array([1, 2, 3, 4], np.float32)}


class TestONNXRuntime(BackendConformance):
    backend = "onnxruntime"
    more_arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "providers: the CPU": {"providers": ["CPUExecutionProvider"]},
        "providers: with options": {"providers": [("CPUExecutionProvider", {})]},
        "providers: unknown": {"providers": ["WarpExecutionProvider"]},
        "providers: not in this build": {"providers": ["ROCMExecutionProvider"]},
        "providers: empty": {"providers": []},
        "providers: a name": {"providers": "CPUExecutionProvider"},
        "providers: beside a device": {"providers": ["CPUExecutionProvider"], "device": "cpu"},
        "device: a GPU": {"device": "cuda:0"},
        "device: a second GPU": {"device": "cuda:1"},
        "device: TensorRT": {"device": "tensorrt"},
        "device: a wrong number": {"device": "cuda:x"},
        "full_delegation": {"full_delegation": True},
        "full_delegation: a number": {"full_delegation": 1},
    }

    def cases(self) -> Mapping[str, Case]:
        return _cases()
