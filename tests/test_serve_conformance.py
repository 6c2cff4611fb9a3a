"""The conformance suite over models that `edge-accelerate serve` serves, with tensors in shared memory and in messages.

The models are those that the suite asks of tflite_cpu and onnxruntime on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from accelerate.testing import BackendConformance, Case

pytest.importorskip("tritonclient.grpc", reason="needs the extra: serve")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

import odd_models
from serving import Serving
from test_metadata import labelled

pytestmark = pytest.mark.slow

_TFLITE: Mapping[str, Case] = {
    "plain": Case(odd_models.add3(), lambda x: {"y": x["x"] + x["x"]}),
    "several": Case(odd_models.two_inputs(), lambda x: {"sum": x["a"] + x["b"]}),
    "quantized": Case(
        odd_models.uint8_quantised(),
        lambda x: {"y": np.clip(x["x"].astype(int) + 20, 0, 255).astype(np.uint8)},
    ),
    "image": Case(odd_models.image_float(), lambda x: {"y": x["x"]}),
    "dynamic": Case(odd_models.dynamic(), lambda x: {"y": x["x"] + x["x"]}),
    "integers": Case(odd_models.integers("int32"), lambda x: {"y": x["x"].reshape(3, 2)}),
    "strings": Case(odd_models.strings(), lambda x: {"y": x["x"][::-1]}),
    "batched": Case(odd_models.image_float(), lambda x: {"y": x["x"]}),
    "dynamic_output": Case(odd_models.dynamic_output(), lambda x: {"y": np.argwhere(x["x"] > 0)}),
    "passthrough": Case(odd_models.passed_through(), lambda x: {"same": x["in"], "double": 2 * x["in"]}),
    "labels": Case(labelled(), lambda x: {"scores": x["image"][0, 0]}, labels=("red", "green", "blue")),
    "failing": Case(odd_models.failing(), lambda _: {"y": np.full(3, 5, "f")}, fails_on={"x": np.ones(3, "f") * 9}),
    "slow": Case(odd_models.slow(0.2), lambda x: {"y": x["x"]}, rtol=1e-3),
}
_THE_SERVERS_WORD = "the names and shapes are the server's, which plan does not ask"


def _onnx() -> Mapping[str, Case]:
    pytest.importorskip("onnxruntime", reason="needs the extra: onnxruntime")
    pytest.importorskip("onnx", reason="builds the models")
    import odd_onnx
    from onnx_conformance import onnx_cases

    return {
        **onnx_cases(cancels=True),
        "optional": Case(
            odd_onnx.default_input(), lambda x: {"y": x["x"] + x.get("offset", np.array([10, 20, 30], np.float32))}
        ),
        "strings": Case(odd_onnx.reversed_strings(), lambda x: {"y": x["x"][::-1]}),
        "failing": Case(odd_onnx.failing(), lambda _: {"y": np.full(3, 5, "f")}, fails_on={"x": np.ones(3, "f") * 9}),
    }


@pytest.fixture(scope="module")
def tflite() -> Iterator[tuple[Serving, Mapping[str, Case]]]:
    with _serving(_TFLITE) as server:
        yield server, _TFLITE


@pytest.fixture(scope="module")
def onnx() -> Iterator[tuple[Serving, Mapping[str, Case]]]:
    cases = _onnx()
    with _serving(cases) as server:
        yield server, cases


def _serving(cases: Mapping[str, Case]) -> Serving:
    # one thread, so that the slow one is slow on a large machine, too
    return Serving({role: case.source for role, case in cases.items()}, "--option", "num_threads=1")


class _Served(BackendConformance):
    backend = "triton"
    known_when_loaded: ClassVar[Mapping[str, str]] = {
        "tensor_names: an unknown input": _THE_SERVERS_WORD,
        "tensor_names: an unknown output": _THE_SERVERS_WORD,
        "normalization: of no input": _THE_SERVERS_WORD,
        "shapes: of no input": _THE_SERVERS_WORD,
        "shapes: of one input twice": _THE_SERVERS_WORD,
        "shapes: another rank": _THE_SERVERS_WORD,
        "shapes: other sizes": _THE_SERVERS_WORD,
    }
    memory: ClassVar[str]
    served: tuple[Serving, Mapping[str, Case]]

    def cases(self) -> Mapping[str, Case]:
        server, cases = self.served
        options: Mapping[str, Any] = {"shared_memory": self.memory}
        return {role: replace(case, source=server.url(role), options=options) for role, case in cases.items()}


class _TFLiteServed(_Served):
    @pytest.fixture(autouse=True)
    def _with_server(self, tflite: tuple[Serving, Mapping[str, Case]]) -> None:
        self.served = tflite


class _ONNXServed(_Served):
    @pytest.fixture(autouse=True)
    def _with_server(self, onnx: tuple[Serving, Mapping[str, Case]]) -> None:
        self.served = onnx


class TestTFLiteInSharedMemory(_TFLiteServed):
    memory = "system"


class TestONNXInMessages(_ONNXServed):
    memory = "none"


@pytest.mark.long
class TestTFLiteInMessages(_TFLiteServed):
    memory = "none"


@pytest.mark.long
class TestONNXInSharedMemory(_ONNXServed):
    memory = "system"


del _Served, _TFLiteServed, _ONNXServed, BackendConformance  # pytest collects what a module holds
