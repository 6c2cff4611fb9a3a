"""The Python and the commands that README.md and docs/ show, run as a reader would run them.

Every block runs, but for those with the line `<!-- needs: what -->` above them, which a page does not show: they want
hardware, a server or a machine that is not here, or another test runs them.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from perilous_backend import install, load, peril

import accelerate

cv2 = pytest.importorskip("cv2", reason="needs the extra: vision")

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("deploy/*/README.md"))]
DETECTORS = {  # the model's file -> what the loop must call the cat
    "coco_ssd_mobilenet_v1_1.0_quant.tflite": "cat",
    "coco_ssd_mobilenet_v1_1.0_quant_no_metadata.tflite": "16",
    "yolox_nano_float16_quantize.tflite": "15",
    "yolox_nano.onnx": "15",
    "nanodet_m_320.onnx": "15",
}
FILES = {  # what the pages call them -> what they are
    "detector.tflite": "coco_ssd_mobilenet_v1_1.0_quant.tflite",
    "detector_int8.tflite": "coco_ssd_mobilenet_v1_1.0_quant.tflite",
    "detector.onnx": "yolox_nano.onnx",
    "net.tflite": "mobilenet_v1_0.25_128_quant.tflite",
    "net_edgetpu.tflite": "mobilenet_v1_0.25_128_quant_edgetpu.tflite",
    "net.onnx": "mobilenet_v1_0.25_128_quant.onnx",
    "scores.tflite": "vww_96_float.tflite",
}
FENCE = re.compile(r"^(?:<!-- needs: ([^\n]+) -->\n)?```(\w*)\n(.*?)^```$", re.M | re.S)
INSTALLING = ("git clone", "cd edge-accelerate", "pip install", "python3 -m venv")
SHORTER = re.compile(r"^(edge-accelerate (?:bench|tune)) (?!compare|.*--list|.*--forget)")


def blocks(page: Path, language: str = "python", marked: bool = True) -> list[str]:
    found = FENCE.findall(page.read_text("utf-8"))
    return [text for needs, of, text in found if of == language and (marked or not needs)]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language, marked=False)]


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


@pytest.fixture
def stocked(here: Path, models_dir: Path) -> Path:
    """The same with the models and pictures of which the pages speak."""
    for name, model in FILES.items():
        shutil.copy(models_dir / model, here / name)
    for name in ("cat.png", "street.jpg"):
        cv2.imwrite(name, Camera.picture)
    for name in ("pictures", "photographs"):
        (here / name).mkdir()
        shutil.copy("cat.png", here / name)
    return here


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
        assert line in told or "LiteRT" in line or "libedgetpu" in line or line == "...", line


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_is_python(page: Path) -> None:
    for block in blocks(page):
        compile(block, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", pages_with("python"), ids=named)
@pytest.mark.filterwarnings("ignore::accelerate.AssumptionWarning")  # what some of the blocks are about
def test_python_runs(page: Path, stocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page in their order, each after those before it."""
    for module in ("ai_edge_litert", "onnxruntime", "openvino", "PIL", "tritonclient"):
        pytest.importorskip(module)
    from accelerate.serve.open_inference import Server

    monkeypatch.setattr(Server, "wait", lambda server, timeout: None)
    nv12 = np.full((48 * 3 // 2, 64), 128, np.uint8)
    names: dict[str, Any] = {"accelerate": accelerate, "frame": Camera.picture, "nv12": nv12, "__name__": "page"}
    names["model"] = first = accelerate.load("net.tflite")
    try:
        for block in blocks(page, marked=False):
            exec(compile(block, named(page), "exec"), names)
    finally:
        for model in (first, *names.values()):
            if isinstance(model, accelerate.Model):
                model.close()


def measures(page: Path) -> bool:
    return any(re.search(r"^\$ (edge-accelerate (bench|tune)|pytest)", text, re.M) for text in blocks(page, "console"))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.long if measures(page) else pytest.mark.slow, id=named(page))
        for page in pages_with("console")
    ],
)
def test_commands_run(page: Path, stocked: Path) -> None:
    """All commands of a page in their order. What a page shows below one is what it prints, but for the numbers."""
    for module in ("ai_edge_litert", "onnxruntime", "click", "rich"):
        pytest.importorskip(module)
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    for block in blocks(page, "console", marked=False):
        for text, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            command = text.split("  #")[0].strip()
            if command.startswith(INSTALLING):
                continue
            short = SHORTER.sub(r"\1 --seconds 0.05 ", command).replace("accelerate/data/", f"{ROOT}/accelerate/data/")
            ran = subprocess.run(
                ["bash", "-c", f"set -o pipefail; {short}"],
                env=variables,
                capture_output=True,
                encoding="utf-8",
                timeout=240,
                stdin=subprocess.DEVNULL,
            )
            # runs as short as here are INVALID, and judged by no gate
            unsteady = "bench compare" in command or (
                " bench " in command and ("INVALID" in ran.stdout or ">" in command)
            )
            assert ran.returncode in ((0, 1, 3) if unsteady else (0,)), f"{command}: {ran.stdout}{ran.stderr}"
            printed = {without_numbers(line) for line in ran.stdout.splitlines()}
            assert [line for line in shown.splitlines() if line and without_numbers(line) not in printed] == []


def without_numbers(line: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\d+([.,]\d+)*", "0", line)).strip()


def test_a_mark_says_what_is_missing() -> None:
    marks = [needs for page in PAGES for needs in re.findall(r"<!--\s*needs:?(.*?)-->", page.read_text("utf-8"))]
    assert marks
    assert all(mark.strip() for mark in marks)
    found = [needs for page in PAGES for needs, *_ in FENCE.findall(page.read_text("utf-8")) if needs]
    assert len(found) == len(marks), "each stands right above its block"


def said(page: str) -> str:
    """Return the message with which a page begins, without numbers."""
    return without_numbers(blocks(ROOT / "docs" / "troubleshooting" / f"{page}.md", "text")[0])


def told(error: Warning | Exception) -> str:
    return without_numbers(f"{type(error).__name__}: {error}")


def test_the_message_of_wrong_answers(stocked: Path) -> None:
    with accelerate.load("scores.tflite") as model, pytest.warns(accelerate.AssumptionWarning) as warned:
        model.infer_image("cat.png")
    assert told(warned[0].message) == said("wrong-answers")  # type: ignore[arg-type]


def test_the_message_of_nothing_on_the_gpu(stocked: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(accelerate.DeviceNotFoundError) as raised:
        accelerate.load("net.onnx", backend="onnxruntime", device="cuda:0")
    assert told(raised.value).split("(it has")[0] == said("nothing-on-the-gpu").split("(it has")[0]


def test_the_message_of_coral_not_found(stocked: Path) -> None:
    (stocked / "net.tflite").unlink()
    problem = "an Edge TPU is here"
    try:
        accelerate.load("net_edgetpu.tflite", backend="edgetpu").close()
    except accelerate.AccelerateError as error:
        problem = told(error)
    if "is not installed" not in problem:
        pytest.skip(problem)
    assert problem == said("coral-not-found")


@pytest.mark.skipif(sys.platform != "linux", reason="isolation is for Linux")
def test_the_message_of_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = blocks(ROOT / "docs" / "troubleshooting" / "crash.md", "text")[1]
    install(tmp_path, monkeypatch)
    with load(peril(do="crash", every=1)) as model:
        with pytest.raises(accelerate.InferenceError) as raised:
            model.infer(np.zeros(3, np.float32), timeout=20)
        begin, _, end = page.strip().removeprefix("InferenceError: ").partition("SIGSEGV")
        assert str(raised.value).startswith(f"{begin}SIGSEGV")
        assert str(raised.value).endswith(end.lstrip("; "))
