"""The conformance suite over models in child processes: what holds in process holds there."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import engines
import pytest
import test_conformance_tflite

from accelerate.testing import BackendConformance, Case

pytestmark = pytest.mark.slow


def _isolated(cases: Mapping[str, Case]) -> Mapping[str, Case]:
    """Return the cases with the argument; an existing object cannot leave the process."""
    return {
        role: replace(case, options={**case.options, "isolation": "process"})
        for role, case in cases.items()
        if role != "existing"
    }


if "litert" in engines.INSTALLED:

    class TestLiteRT(BackendConformance):
        backend = "tflite_cpu"

        @functools.cached_property
        def _cases(self) -> Mapping[str, Case]:
            return _isolated(test_conformance_tflite._cases("litert"))

        def cases(self) -> Mapping[str, Case]:
            return self._cases


if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
    import test_conformance_onnxruntime

    class TestONNXRuntime(BackendConformance):
        backend = "onnxruntime"
        more_arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

        def cases(self) -> Mapping[str, Case]:
            return _isolated(test_conformance_onnxruntime._cases())


del BackendConformance  # pytest collects what a module holds
