"""Every real model by every backend that takes it, against its own engine, within what docs/programs.md states.

`compare_answers` is what `bench` and `tune` judge by, so that what is beyond the table they say, too.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, find_models

import accelerate
from accelerate import UnsupportedModelError
from accelerate.bench.agreement import compare_answers, random_answers

OWN: Mapping[str, Mapping[str, Any]] = {
    ".tflite": {"backend": "tflite_cpu", "engine": "litert"},
    ".onnx": {"backend": "onnxruntime", "device": "cpu"},
}
#: In the order of the table's columns.
WAYS: Mapping[str, Mapping[str, Any]] = {
    "openvino": {"backend": "openvino"},
    "OpenVINO's plugin": {"backend": "onnxruntime", "device": "openvino:cpu"},
    "tflite-runtime": {"backend": "tflite_cpu", "engine": "tflite-runtime"},
    "XNNPACK as a delegate": {"backend": "tflite_delegate"},
}
NEEDS = {
    "openvino": "openvino", "OpenVINO's plugin": "onnxruntime_ep_openvino",
    "tflite-runtime": "tflite_runtime", "XNNPACK as a delegate": "tflite_runtime",
}  # fmt: skip
FORMATS = {
    ".tflite": {"openvino", "tflite-runtime", "XNNPACK as a delegate"},
    ".onnx": {"openvino", "OpenVINO's plugin"},
}
#: What the file's own engine does not run either.
UNRUNNABLE = frozenset(
    {"mobilenet_v1_0.25_128_quant_edgetpu.tflite", "model_invoking_error.tflite", "posenet_custom_op.tflite"}
)
_ROUNDING = 0.0001  # of a range, where nothing else is stated
_FOLDER = find_models()
MODELS = () if _FOLDER is None else sorted(p.name for p in _FOLDER.iterdir() if p.suffix in OWN)
EACH = [(name, way) for name in MODELS if name not in UNRUNNABLE for way in WAYS if way in FORMATS[Path(name).suffix]]


@functools.cache
def stated() -> Mapping[tuple[str, str], str]:
    """Return the cells of the table: a model and a way -> a share in per cent, "refused" or "differs"."""
    page = (ROOT / "docs" / "programs.md").read_text("utf-8")
    section = page.partition("## How far answers are apart")[2].partition("\n## ")[0]
    header, _, *lines = re.findall(r"^\|.*\|$", section, re.M)
    columns = [cell.strip() for cell in header.strip("|").split("|")][1:]
    assert columns == list(WAYS)
    cells: dict[tuple[str, str], str] = {}
    for line in lines:
        names, *values = (cell.strip() for cell in line.strip("|").split("|"))
        cells |= {(name, way): v for name in names.split(", ") for way, v in zip(columns, values, strict=True) if v}
    return cells


def tolerance(name: str, way: str) -> float:
    """Return how much of an output's range is stated."""
    said = stated().get((name, way), "")
    return float(said.removesuffix(" %")) / 100 if said else _ROUNDING


def test_the_table_knows_the_models() -> None:
    if _FOLDER is None:
        pytest.skip("the real models are not here; set EDGE_ACCELERATE_TEST_MODELS to their folder")
    assert {name for name, _ in stated()} <= set(MODELS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), EACH)
def test_answers_are_as_near_as_is_stated(models_dir: Path, name: str, way: str) -> None:
    path = models_dir / name
    own, other = dict(OWN[path.suffix]), dict(WAYS[way])
    for package in (NEEDS[way], *(("ai_edge_litert",) if path.suffix == ".tflite" else ("onnxruntime",))):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed here")
    if way == "XNNPACK as a delegate":
        from test_conformance_delegate import _xnnpack

        other["library"] = _xnnpack()
    said = stated().get((name, way), "")
    if said == "refused":
        with pytest.raises(UnsupportedModelError):
            accelerate.load(path, **other)
        return
    with (
        accelerate.load(path, num_threads=2, **own) as reference,
        accelerate.load(path, num_threads=2, **other) as model,
    ):
        assert model.backend == other["backend"]
        found = compare_answers(random_answers(reference, 1), model)
    assert found["inputs"] == 8
    if said == "differs":  # which `bench` and `tune` tell
        assert not found["agrees"]
        return
    assert found["of_range"] <= tolerance(name, way), found
    assert found["top1"] in (None, 1)
