"""The conformance suite over tflite_delegate: on a stand-in for a delegate's library, and on XNNPACK, a real one.

XNNPACK is that of tflite-runtime's wheel, which exports it; a library of twenty lines gives it the two functions of an
external delegate (xnnpack_delegate.c).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import delegate_models as models
import edgetpu_stand_in as stand_in
import engines
import numpy as np
import odd_models
import pytest

import accelerate
from accelerate.testing import BackendConformance, Case
from accelerate.testing.inputs import random_inputs


@functools.cache
def _on_stand_in(engine: str) -> Mapping[str, Case]:
    option = {"engine": engine}
    slow = {**option, "delegate_options": {"StandIn.DelayUs": 300_000}}
    added = stand_in.addition
    return {
        "plain": Case(models.chain(), lambda x: {"y": 3 * x["x"] * x["x"]}, option),
        "several": Case(stand_in.two_inputs(added), lambda x: {"sum": x["a"] + x["b"]}, option),
        "quantized": Case(models.greater(), lambda x: {"y": np.maximum(x["x"], models.CONSTANT)}, option),
        "image": Case(models.doubled([1, 2, 2, 3]), lambda x: {"y": 2 * x["x"]}, option),
        "dynamic": Case(models.chain([-1, 3]), lambda x: {"y": 3 * x["x"] * x["x"]}, option),
        "integers": Case(models.doubled([3], "int32"), lambda x: {"y": 2 * x["x"]}, option),
        "strings": Case(stand_in.with_strings(added), lambda x: {"y": x["x"][::-1], "g": 2 * x["f"]}, option),
        "batched": Case(models.doubled([1, 2, 2, 3]), lambda x: {"y": 2 * x["x"]}, option),
        "dynamic_output": Case(
            stand_in.found(added), lambda x: {"y": np.argwhere(x["x"] > 0), "g": 2 * x["x"]}, option
        ),
        "passthrough": Case(stand_in.passed_through(added), lambda x: {"x": x["x"], "y": 2 * x["x"]}, option),
        "signatures": Case(
            stand_in.two_signatures(added),
            lambda x: {"y": 2 * x["x"]},
            {"signature": "double", **option},
            signatures={"double": lambda x: {"y": 2 * x["x"]}, "add": lambda x: {"sum": x["a"] + x["b"]}},
        ),
        "labels": Case(
            stand_in.labelled(added), lambda x: {"scores": 2 * x["x"]}, option, labels=("red", "green", "blue")
        ),
        "failing": Case(
            stand_in.failing(added),
            lambda x: {"y": np.full(3, 5, np.float32), "g": 2 * x["x"]},
            option,
            fails_on={"x": np.full(3, 9, np.float32)},
        ),
        "existing": Case(_interpreter(engine), lambda x: {"y": 3 * x["x"] * x["x"]}),
        "slow": Case(models.doubled([1]), lambda x: {"y": 2 * x["x"]}, slow),
    }


def _interpreter(engine: str) -> Any:
    module = importlib.import_module(f"{engines.PACKAGES[engine]}.interpreter")
    delegate = module.load_delegate(stand_in.generic_library())
    return module.Interpreter(model_content=models.chain(), experimental_delegates=[delegate])


@functools.cache
def _on_xnnpack(engine: str) -> Mapping[str, Case]:
    option = {"engine": engine}
    return {
        "plain": Case(models.partly(), lambda x: {"y": (2 * x["x"] - x["x"] ** 2) ** 2}, option, rtol=1e-5),
        "several": Case(stand_in.two_inputs(stand_in.addition), lambda x: {"sum": x["a"] + x["b"]}, option),
        "quantized": Case(odd_models.int8_quantised(), _int8_double, option),
        "image": Case(models.doubled([1, 2, 2, 3]), lambda x: {"y": 2 * x["x"]}, option),
        "dynamic": Case(models.chain([-1, 3]), lambda x: {"y": 3 * x["x"] * x["x"]}, option, rtol=1e-5),
        "slow": Case(odd_models.slow(0.2), lambda x: {"y": x["x"]}, option, rtol=1e-3),
    }


def _int8_double(x: dict[str, Any]) -> dict[str, Any]:
    """x (scale 0.5, zero -3) -> x + x (scale 1, zero 5)."""
    return {"y": np.clip(x["x"].astype(int) + 8, -128, 127).astype(np.int8)}


def _xnnpack() -> str:
    """Return the path of the library around XNNPACK."""
    spec = importlib.util.find_spec("tflite_runtime")
    if spec is None or spec.origin is None:
        pytest.skip("XNNPACK as a delegate's library is that of tflite-runtime's wheel (make test-tflite-runtime)")
    wrapper = Path(spec.origin).with_name("_pywrap_tensorflow_interpreter_wrapper.so")
    source = Path(__file__).with_name("xnnpack_delegate.c")
    return stand_in.compiled(source, "xnnpack_delegate.so", f'-DWRAPPER="{wrapper}"', "-ldl")


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant.tflite", "vww_96_float.tflite", "vww_96_int8.tflite"])
def test_real_models_on_xnnpack(models_dir: Path, name: str) -> None:
    """The same delegate, as LiteRT's own and as a library of another version: the answers are the same."""
    path = models_dir / name
    with (
        accelerate.load(path, backend="tflite_delegate", library=_xnnpack()) as delegated,
        accelerate.load(path, backend="tflite_cpu") as plain,
    ):
        assert delegated.runtime.delegated is not None
        assert delegated.runtime.total is not None
        assert delegated.runtime.total - 2 <= delegated.runtime.delegated <= delegated.runtime.total
        feeds = random_inputs(plain)
        wanted = plain.infer(feeds)
        for output, answer in delegated.infer(feeds).items():
            np.testing.assert_allclose(answer.astype(float), wanted[output].astype(float), rtol=1e-4, atol=1e-5)


class _OnADelegate(BackendConformance):
    backend = "tflite_delegate"
    more_arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "device: of its kind": {"device": "npu"},
        "device: the CPU": {"device": "cpu"},
        "engine: unknown": {"engine": "tensorflow"},
        "library: missing": {"library": "/nope/libteflon.so"},
        "library: a number": {"library": 5},
        "library: no library": {"library": __file__},
        "delegate_options: unknown": {"delegate_options": {"backend_type": "htp"}},
        "delegate_options: a number": {"delegate_options": 5},
        "delegate_options: a list in it": {"delegate_options": {"backends": ["CpuAcc"]}},
    }


class _OnStandIn(_OnADelegate):
    @pytest.fixture(autouse=True)
    def _library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGE_ACCELERATE_TFLITE_DELEGATE", stand_in.generic_library())


class _OnXNNPACK(_OnADelegate):
    @pytest.fixture(autouse=True)
    def _library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGE_ACCELERATE_TFLITE_DELEGATE", _xnnpack())


if "litert" in engines.INSTALLED:

    class TestStandInLiteRT(_OnStandIn):
        def cases(self) -> Mapping[str, Case]:
            return _on_stand_in("litert")


if "tflite-runtime" in engines.INSTALLED:

    class TestStandInTFLiteRuntime(_OnStandIn):
        def cases(self) -> Mapping[str, Case]:
            return _on_stand_in("tflite-runtime")

    class TestXNNPACKLiteRT(_OnXNNPACK):
        def cases(self) -> Mapping[str, Case]:
            return _on_xnnpack("litert")

    class TestXNNPACKTFLiteRuntime(_OnXNNPACK):
        def cases(self) -> Mapping[str, Case]:
            return _on_xnnpack("tflite-runtime")


del _OnADelegate, _OnStandIn, _OnXNNPACK, BackendConformance  # pytest collects what a module holds
