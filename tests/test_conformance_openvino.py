"""The conformance suite over OpenVINO on the CPU: models of each format that it reads."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from accelerate.testing import BackendConformance, Case

pytest.importorskip("openvino")
pytest.importorskip("ai_edge_litert", reason="its schema builds the TFLite models")
pytest.importorskip("onnx")  # builds the others

import odd_models
import odd_onnx
from onnx_conformance import doubled, onnx_cases
from openvino_models import compiled, written
from test_metadata import labelled

from accelerate.contract import Array

_MORE: Mapping[str, Mapping[str, Any]] = {
    "config: a property": {"config": {"PERFORMANCE_HINT": "THROUGHPUT"}},
    "config: faster": {"config": {"EXECUTION_MODE_HINT": "PERFORMANCE"}},
    "config: no mapping": {"config": ["PERFORMANCE_HINT"]},
    "config: no property": {"config": {"NO_SUCH_PROPERTY": 1}},
    "config: a wrong value": {"config": {"PERFORMANCE_HINT": "WARP"}},
    "config: an object": {"config": {"PERFORMANCE_HINT": object()}},
    "config: threads": {"config": {"INFERENCE_NUM_THREADS": 1}},
    "config: other threads": {"config": {"INFERENCE_NUM_THREADS": 1}, "num_threads": 2},
    "device: a GPU": {"device": "gpu:0"},
    "device: its own choice": {"device": "auto"},
    "device: as OpenVINO calls it": {"device": "CPU"},
}


@functools.cache
def _tflite() -> Mapping[str, Case]:
    return {
        "plain": Case(odd_models.add3(), lambda x: {"y": x["x"] + x["x"]}),
        "several": Case(odd_models.two_inputs(), lambda x: {"sum": x["a"] + x["b"]}),
        "quantized": Case(odd_models.uint8_quantised(), _uint8_double),
        "image": Case(odd_models.image_float(), lambda x: {"y": x["x"]}),
        "dynamic": Case(odd_models.dynamic(), lambda x: {"y": x["x"] + x["x"]}),
        "integers": Case(odd_models.integers("int32"), lambda x: {"y": x["x"].reshape(3, 2)}),
        "batched": Case(odd_models.image_float(), lambda x: {"y": x["x"]}),
        "dynamic_output": Case(odd_models.dynamic_output(), lambda x: {"y": np.argwhere(x["x"] > 0)}),
        "passthrough": Case(odd_models.passed_through(), lambda x: {"same": x["in"], "double": 2 * x["in"]}),
        "labels": Case(labelled(), lambda x: {"scores": x["image"][0, 0]}, labels=("red", "green", "blue")),
        "slow": Case(odd_models.slow(1), lambda x: {"y": x["x"]}, {"num_threads": 1}, rtol=1e-3, cancels=True),
    }


def _uint8_double(x: dict[str, Array]) -> dict[str, Array]:
    """x (scale 0.5, zero 100) -> x + x (scale 1, zero 120)."""
    return {"y": np.clip(x["x"].astype(int) + 20, 0, 255).astype(np.uint8)}


@functools.cache
def _onnx() -> Mapping[str, Case]:
    return {
        **onnx_cases(cancels=False),  # the whole loop is one operator, and OpenVINO ends a call between two
        "strings": Case(odd_onnx.reversed_strings(), lambda x: {"y": x["x"][::-1]}),
        "existing": Case(compiled(odd_onnx.double()), doubled),
    }


class TestOpenVINOOverTFLite(BackendConformance):
    backend = "openvino"
    more_arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = _MORE

    def cases(self) -> Mapping[str, Case]:
        return _tflite()


class TestOpenVINOOverONNX(BackendConformance):
    backend = "openvino"

    def cases(self) -> Mapping[str, Case]:
        return _onnx()


@pytest.fixture(scope="module")
def ir_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ir")
    for role, case in _of_ir().items():
        written(case.source, folder / f"{role}.xml", labels=case.labels)
    return folder


@functools.cache
def _of_ir() -> Mapping[str, Case]:
    of_onnx = {role: _onnx()[role] for role in ("several", "dynamic", "dynamic_output", "strings", "integers", "image")}
    return {**of_onnx, "plain": _tflite()["plain"], "labels": _onnx()["labels"], "passthrough": _onnx()["passthrough"]}


class TestOpenVINOOverIR(BackendConformance):
    backend = "openvino"

    @pytest.fixture(autouse=True)
    def _folder(self, ir_folder: Path) -> None:
        self.folder = ir_folder

    def cases(self) -> Mapping[str, Case]:
        return {
            role: Case(self.folder / f"{role}.xml", case.reference, case.options, case.rtol, labels=case.labels)
            for role, case in _of_ir().items()
        }
