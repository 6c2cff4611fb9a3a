"""The conformance suite over ONNX Runtime on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from accelerate.testing import BackendConformance, Case

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # builds the models

import odd_onnx
import onnxruntime
from onnx_conformance import doubled, onnx_cases


@functools.cache
def _cases() -> Mapping[str, Case]:
    return {
        **onnx_cases(cancels=True),
        "optional": Case(
            odd_onnx.default_input(), lambda x: {"y": x["x"] + x.get("offset", np.array([10, 20, 30], np.float32))}
        ),
        "strings": Case(odd_onnx.reversed_strings(), lambda x: {"y": x["x"][::-1]}),
        "failing": Case(odd_onnx.failing(), lambda _: {"y": np.full(3, 5, "f")}, fails_on={"x": np.ones(3, "f") * 9}),
        "existing": Case(onnxruntime.InferenceSession(odd_onnx.double()), doubled),
    }


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
        "session_options: a mapping": {"session_options": {"intra_op_num_threads": 1}},
        "full_delegation": {"full_delegation": True},
        "full_delegation: a number": {"full_delegation": 1},
    }

    def cases(self) -> Mapping[str, Case]:
        return _cases()
