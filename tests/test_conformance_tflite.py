"""The conformance suite over tflite_cpu, with each engine that is installed here."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import engines
import numpy as np
import odd_models
from test_metadata import labelled

from accelerate.calls.conversion import Array
from accelerate.testing import BackendConformance, Case


@functools.cache
def _cases(engine: str) -> Mapping[str, Case]:
    option = {"engine": engine}
    return {
        "plain": Case(odd_models.add3(), lambda x: {"y": x["x"] + x["x"]}, option),
        "several": Case(odd_models.two_inputs(), lambda x: {"sum": x["a"] + x["b"]}, option),
        "quantized": Case(odd_models.uint8_quantised(), _uint8_double, option),
        "image": Case(odd_models.image_float(), lambda x: {"y": x["x"]}, option),
        "dynamic": Case(odd_models.dynamic(), lambda x: {"y": x["x"] + x["x"]}, option),
        "integers": Case(odd_models.integers("int32"), lambda x: {"y": x["x"].reshape(3, 2)}, option),
        "strings": Case(odd_models.strings(), lambda x: {"y": x["x"][::-1]}, option),
        "batched": Case(odd_models.image_float(), lambda x: {"y": x["x"]}, option),
        "dynamic_output": Case(odd_models.dynamic_output(), lambda x: {"y": np.argwhere(x["x"] > 0)}, option),
        "passthrough": Case(odd_models.passed_through(), lambda x: {"same": x["in"], "double": 2 * x["in"]}, option),
        "signatures": Case(
            odd_models.two_signatures(),
            _SIGNATURES["subtract"],
            {"signature": "subtract", **option},
            signatures=_SIGNATURES,
        ),
        "labels": Case(labelled(), lambda x: {"scores": x["image"][0, 0]}, option, labels=("red", "green", "blue")),
        "failing": Case(
            odd_models.failing(), lambda _: {"y": np.full(3, 5, "f")}, option, fails_on={"x": np.ones(3, "f") * 9}
        ),
        "existing": Case(_interpreter(engine), lambda x: {"y": x["x"] + x["x"]}),
        "slow": Case(odd_models.slow(0.2), lambda x: {"y": x["x"]}, option, rtol=1e-3),
    }


_SIGNATURES: Mapping[str, Callable[[dict[str, Array]], dict[str, Array]]] = {
    "subtract": lambda x: {"rest": x["start"] - x["amount"]},
    "multiply": lambda x: {"product": x["factor"] * x["values"]},
}


def _interpreter(engine: str) -> Any:
    module = importlib.import_module(f"{engines.PACKAGES[engine]}.interpreter")
    return module.Interpreter(model_content=odd_models.add3())


def _uint8_double(x: dict[str, Array]) -> dict[str, Array]:
    """x (scale 0.5, zero 100) -> x + x (scale 1, zero 120)."""
    return {"y": np.clip(x["x"].astype(int) + 20, 0, 255).astype(np.uint8)}


class _OverTFLite(BackendConformance):
    backend = "tflite_cpu"
    more_arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "engine: unknown": {"engine": "tensorflow"},
        "engine: a misspelling": {"engine": "lite-rt"},
        "engine: a number": {"engine": 5},
        "engine: by itself": {"engine": None},
        "engine: not for this backend": {"providers": ["CPUExecutionProvider"]},
    }


if "litert" in engines.INSTALLED:

    class TestLiteRT(_OverTFLite):
        def cases(self) -> Mapping[str, Case]:
            return _cases("litert")


if "tflite-runtime" in engines.INSTALLED:  # in an environment of its own: it needs numpy < 2

    class TestTFLiteRuntime(_OverTFLite):
        def cases(self) -> Mapping[str, Case]:
            return _cases("tflite-runtime")


del _OverTFLite, BackendConformance  # pytest collects what a module holds
