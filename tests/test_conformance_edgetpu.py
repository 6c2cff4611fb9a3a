"""The conformance suite over edgetpu, on a stand-in for the Edge TPU's library and with each engine."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import edgetpu_stand_in as stand_in
import engines
import numpy as np
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
        "dynamic_output": Case(stand_in.found(), lambda x: {"y": np.argwhere(x["x"] > 0), "g": 2 * x["x"]}, option),
        "passthrough": Case(stand_in.passed_through(), lambda x: {"x": x["x"], "y": 2 * x["x"]}, option),
        "signatures": Case(
            stand_in.two_signatures(),
            lambda x: {"y": 2 * x["x"]},
            {"signature": "double", **option},
            signatures={"double": lambda x: {"y": 2 * x["x"]}, "add": lambda x: {"sum": x["a"] + x["b"]}},
        ),
        "labels": Case(stand_in.labelled(), lambda x: {"scores": 2 * x["x"]}, option, labels=("red", "green", "blue")),
        "failing": Case(
            stand_in.failing(),
            lambda x: {"y": np.full(3, 5, np.float32), "g": 2 * x["x"]},
            option,
            fails_on={"x": np.full(3, 9, np.float32)},
        ),
        "existing": Case(_interpreter(engine), lambda x: {"y": 2 * x["x"]}),
        "slow": Case(stand_in.floats([1]), lambda x: {"y": 2 * x["x"]}, slow),
    }


def _interpreter(engine: str) -> Any:
    module = importlib.import_module(f"{engines.PACKAGES[engine]}.interpreter")
    delegate = module.load_delegate(stand_in.library())
    return module.Interpreter(model_content=stand_in.floats([3]), experimental_delegates=[delegate])


class _OnStandIn(BackendConformance):
    backend = "edgetpu"
    more_arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "device: the first": {"device": ":0"},
        "device: the first on USB": {"device": "usb"},
        "device: a second": {"device": "usb:1"},
        "device: on PCIe": {"device": "pci"},
        "engine: unknown": {"engine": "tensorflow"},
        "library: missing": {"library": "/nope/libedgetpu.so.1"},
        "library: a number": {"library": 5},
        "library: no library": {"library": __file__},
        "delegate_options": {"delegate_options": {"Performance": "Max"}},
        "delegate_options: a number": {"delegate_options": 5},
        "delegate_options: the device": {"delegate_options": {"device": "usb:0"}},
    }

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


del _OnStandIn, BackendConformance  # pytest collects what a module holds
