"""The conformance suite over edgetpu, on a stand-in for the Edge TPU's library and with each engine."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import edgetpu_stand_in as stand_in
import engines
import pytest

from accelerate.testing import BackendConformance, Case


@functools.cache
def _cases(engine: str) -> Mapping[str, Case]:
    option = {"engine": engine}
    slow = {**option, "delegate_options": {"StandIn.DelayUs": "300000"}}
    return {
        "plain": Case(stand_in.floats([3]), lambda x: {"y": 2 * x["x"]}, option),
        "several": Case(stand_in.two_inputs(), lambda x: {"sum": x["a"] + x["b"]}, option),
        "quantized": Case(stand_in.bits(), lambda x: {"y": ~x["x"]}, option),
        "image": Case(stand_in.floats([1, 2, 2, 3]), lambda x: {"y": 2 * x["x"]}, option),
        "dynamic": Case(stand_in.floats([-1, 3]), lambda x: {"y": 2 * x["x"]}, option),
        "integers": Case(stand_in.integers(), lambda x: {"y": 2 * x["x"]}, option),
        "strings": Case(stand_in.with_strings(), lambda x: {"y": x["x"][::-1], "g": 2 * x["f"]}, option),
        "batched": Case(stand_in.floats([1, 2, 2, 3]), lambda x: {"y": 2 * x["x"]}, option),
        "slow": Case(stand_in.floats([1]), lambda x: {"y": 2 * x["x"]}, slow),
    }


class _OnStandIn(BackendConformance):
    backend = "edgetpu"

    @pytest.fixture(autouse=True)
    def _library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGE_ACCELERATE_EDGETPU_LIBRARY", stand_in.library())


if "litert" in engines.INSTALLED:

    class TestStandInLiteRT(_OnStandIn):
        def cases(self) -> Mapping[str, Case]:
            return _cases("litert")


if "tflite-runtime" in engines.INSTALLED:

    class TestStandInTFLiteRuntime(_OnStandIn):
        def cases(self) -> Mapping[str, Case]:
            return _cases("tflite-runtime")
