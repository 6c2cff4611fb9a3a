"""The conformance suite over tflite_cpu, with each engine that is installed here."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import engines
import numpy as np
import odd_models

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
        "slow": Case(odd_models.slow(0.3), lambda x: {"y": x["x"]}, option, rtol=1e-3),
    }


def _uint8_double(x: dict[str, Array]) -> dict[str, Array]:
    """x (scale 0.5, zero 100) -> x + x (scale 1, zero 120)."""
    return {"y": np.clip(x["x"].astype(int) + 20, 0, 255).astype(np.uint8)}


if "litert" in engines.INSTALLED:

    class TestLiteRT(BackendConformance):
        backend = "tflite_cpu"

        def cases(self) -> Mapping[str, Case]:
            return _cases("litert")


if "tflite-runtime" in engines.INSTALLED:  # in an environment of its own: it needs numpy < 2

    class TestTFLiteRuntime(BackendConformance):
        backend = "tflite_cpu"

        def cases(self) -> Mapping[str, Case]:
            return _cases("tflite-runtime")
