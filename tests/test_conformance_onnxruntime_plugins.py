"""The conformance suite over a plugin provider of ONNX Runtime: OpenVINO's, on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import pytest

from accelerate.testing import BackendConformance, Case

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # builds the models
pytest.importorskip("onnxruntime_ep_openvino", reason="the plugin has wheels for Linux and Windows on x86-64 only")

from onnx_conformance import onnx_cases

DEVICE = "openvino:cpu"


@functools.cache
def _cases() -> Mapping[str, Case]:
    return {
        role: replace(case, options={**case.options, "device": DEVICE})
        for role, case in onnx_cases(cancels=False).items()
    }


@pytest.mark.long
class TestOpenVINOPlugin(BackendConformance):
    backend = "onnxruntime"

    def cases(self) -> Mapping[str, Case]:
        return _cases()
