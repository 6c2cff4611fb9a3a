"""The Python that README.md and docs/ show, run as a reader would run it."""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

import accelerate

cv2 = pytest.importorskip("cv2", reason="needs the extra: vision")

PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*/README.md")]
DETECTORS = {  # the model's file -> what the loop must call the cat
    "coco_ssd_mobilenet_v1_1.0_quant.tflite": "cat",
    "coco_ssd_mobilenet_v1_1.0_quant_no_metadata.tflite": "16",
    "yolox_nano_float16_quantize.tflite": "15",
    "yolox_nano.onnx": "15",
    "nanodet_m_320.onnx": "15",
}


def blocks(page: Path, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


class Camera:
    """Two frames of a cat in the place of a camera."""

    picture: Any

    def __init__(self, number: int) -> None:
        assert number == 0
        self._frames: Iterator[Any] = iter([self.picture, self.picture])

    def read(self) -> tuple[bool, Any]:
        frame = next(self._frames, None)
        return frame is not None, frame


@pytest.fixture
def here(models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and a camera that sees a cat."""
    picture = models_dir.parent / "images" / "cat.bmp"
    if not picture.is_file():
        pytest.skip(f"there is no {picture}")
    monkeypatch.setattr(Camera, "picture", cv2.imread(str(picture)), raising=False)
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", DETECTORS)
def test_the_loop_runs_on_every_detector(
    name: str, models_dir: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime" if name.endswith("onnx") else "ai_edge_litert")
    loop = blocks(ROOT / "README.md")[0]
    file = "detector" + Path(name).suffix
    shutil.copy(models_dir / name, here / file)
    loop = loop.replace('"detector.tflite"', f'"{file}"')
    silent = not name.startswith("coco")  # how frames are prepared
    with pytest.warns(accelerate.AssumptionWarning) if silent else contextlib.nullcontext():
        exec(loop, {})
    found = re.findall(rf"^{DETECTORS[name]} 0[.]\d\d \((.*)\)$", capsys.readouterr().out, re.M)
    assert len(found) == 2
    left, top, right, bottom = map(float, found[0].split(", "))
    assert 20 < left < 60 < top + 20 < 90
    assert 340 < right < 400
    assert 300 < bottom < 345


def test_frames(models_dir: Path, here: Path) -> None:
    model = accelerate.load(models_dir / "mobilenet_v1_0.25_128_quant.tflite")
    cv2.imwrite("cat.png", Camera.picture)
    nv12 = np.full((48 * 3 // 2, 64), 128, np.uint8)
    frames, *_ = blocks(ROOT / "docs" / "programs.md")
    given: dict[str, Any] = {"accelerate": accelerate, "model": model, "frame": Camera.picture, "nv12": nv12}
    with model:
        exec(frames, given)
    assert given["outputs"]["probability"].argmax() == 283


def test_the_plan_reads_as_shown(here: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    shutil.copy(ROOT / "accelerate" / "data" / "digits_uint8.tflite", here / "net.tflite")
    (shown,) = [block for block in blocks(ROOT / "README.md", "console") if "accelerate.plan" in block]
    told = str(accelerate.plan("net.tflite"))
    for line in shown.splitlines()[1:]:  # versions and what concerns the Edge TPU are this machine's own
        assert line in told or "LiteRT" in line or "libedgetpu" in line, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_is_python(page: Path) -> None:
    for block in blocks(page):
        ast.parse(block)
