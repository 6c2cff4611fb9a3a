"""The conformance suite over models in child processes: what holds in process holds there; all of it as `long`."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import replace

import engines
import pytest

from accelerate.testing import BackendConformance, Case
from accelerate.testing.conformance.calling import CallingTests
from accelerate.testing.conformance.ending import EndingTests
from accelerate.testing.conformance.memory import MemoryTests
from accelerate.testing.conformance.values import ValueTests

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="isolation is for Linux")]


@functools.cache
def _isolated(runtime: str) -> Mapping[str, Case]:
    """Return a runtime's cases with the argument; an existing object cannot leave the process."""
    if runtime == "onnxruntime":
        import test_conformance_onnxruntime

        cases = test_conformance_onnxruntime._cases()
    elif runtime == "openvino":
        import test_conformance_openvino

        cases = test_conformance_openvino._tflite()
    else:
        import test_conformance_tflite

        cases = test_conformance_tflite._cases(runtime)
    return {
        role: replace(case, options={**case.options, "isolation": "process"})
        for role, case in cases.items()
        if role != "existing"
    }


if "litert" in engines.INSTALLED:

    class TestLiteRT(ValueTests, MemoryTests, CallingTests, EndingTests):
        backend = "tflite_cpu"

        def cases(self) -> Mapping[str, Case]:
            return _isolated("litert")

    @pytest.mark.long
    class TestAllOfLiteRT(BackendConformance):
        backend = "tflite_cpu"

        def cases(self) -> Mapping[str, Case]:
            return _isolated("litert")


if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):

    class TestONNXRuntime(ValueTests):
        backend = "onnxruntime"

        def cases(self) -> Mapping[str, Case]:
            return _isolated("onnxruntime")

    @pytest.mark.long
    class TestAllOfONNXRuntime(BackendConformance):
        backend = "onnxruntime"

        def cases(self) -> Mapping[str, Case]:
            return _isolated("onnxruntime")


if all(map(importlib.util.find_spec, ("ai_edge_litert", "onnx", "openvino"))):

    class TestOpenVINO(ValueTests):
        backend = "openvino"

        def cases(self) -> Mapping[str, Case]:
            return _isolated("openvino")

    @pytest.mark.long
    class TestAllOfOpenVINO(BackendConformance):
        backend = "openvino"

        def cases(self) -> Mapping[str, Case]:
            return _isolated("openvino")


# pytest collects what a module holds
del BackendConformance, CallingTests, EndingTests, MemoryTests, ValueTests
