"""The programs in examples/, run as their first lines say, with recorded cameras."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import edgetpu_stand_in as stand_in
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from conftest import ROOT
from tflite_writer import Graph, build

cv2 = pytest.importorskip("cv2", reason="needs the extra: vision")

EXAMPLES = ROOT / "examples"
FILES = sorted(EXAMPLES.rglob("*.py"))
DATA = ROOT / "accelerate" / "data"
SIZE = HEIGHT, WIDTH = 96, 128
#: What the detector finds in any frame: xmin, ymin, xmax, ymax as shares, score, class.
FOUND = np.array([[[0.1, 0.2, 0.5, 0.75, 0.875, 1], [0.5, 0.25, 0.75, 1, 0.625, 0]]], np.float32)


def detector(path: Path, operation: Callable[[Graph, Sequence[int], Sequence[int]], None] = stand_in.addition) -> Path:
    """Write a detector and its description: an operation on the frame, then the CPU's."""
    graph = Graph()
    image, twice = (graph.tensor(name, [1, HEIGHT, WIDTH, 3], "float32") for name in ("image", "twice"))
    mean, nothing = graph.tensor("mean", [], "float32"), graph.tensor("nothing", [], "float32")
    index, found = graph.tensor("index", [], "int32"), graph.tensor("found", FOUND.shape, "float32")
    operation(graph, [image], [twice])
    axes = graph.constant("axes", np.arange(4, dtype=np.int32))
    graph.op("MEAN", [twice, axes], [mean], schema.ReducerOptionsT())
    graph.op("MUL", [mean, graph.constant("zero", np.float32(0))], [nothing], schema.MulOptionsT())
    graph.op("CAST", [nothing], [index], schema.CastOptionsT())
    graph.op("GATHER", [graph.constant("table", FOUND[np.newaxis]), index], [found], schema.GatherOptionsT())
    graph.inputs, graph.outputs = [image], [found]
    path.write_bytes(build([graph]))
    description = {
        "edge-accelerate": 1,
        "labels": ["cat", "dog"],
        "normalization": [0, 255],
        "resize": "stretch",
        "color": "RGB",
        "layout": {
            "kind": "rows",
            "outputs": {"rows": "found"},
            "columns": "xmin ymin xmax ymax score class",
            "unit": "relative",
        },
    }
    path.with_name(path.name + ".json").write_text(json.dumps(description))
    return path


def record(path: Path, frames: int, picture: Path | None = None) -> Path:
    """Write the video file that stands in for a camera."""
    frame = np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    if picture is not None:
        frame = cv2.imread(str(picture))
        scale = max(1, -(-64 // min(frame.shape[:2])))  # codecs want some pixels
        frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, frame.shape[1::-1])
    assert writer.isOpened()
    for _ in range(frames):
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder in which the paths of the examples' first lines are right."""
    for name in ("examples", "accelerate"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def shown(example: str) -> tuple[list[str], list[str]]:
    """Return the command lines that an example's docstring shows, and what it says that they print."""
    lines = (ast.get_docstring(ast.parse((EXAMPLES / example).read_text())) or "").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("$ "))
    commands = [line[2:].partition("  ")[0] for line in lines[start:] if line.startswith("$ ")]
    return commands, [line for line in lines[start:] if not line.startswith("$ ")]


def start(command: str, here: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command line of an example in its folder."""
    words = shlex.split(command)
    assert words[0] == "python", command
    return subprocess.Popen(
        [sys.executable, "-u", *words[1:]],
        cwd=here,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(command: str, here: Path, status: int = 0, **environment: str) -> tuple[list[str], str]:
    """Return the lines that a command prints, and what it writes to stderr."""
    return finish(start(command, here, **environment), status)


def next_line(process: subprocess.Popen[str]) -> str:
    """Return the next line that a program prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def finish(process: subprocess.Popen[str], status: int = 0) -> tuple[list[str], str]:
    """Return the lines that a program still prints, and what it writes to stderr, which is short."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as stdout, process.stderr as stderr:
        out, err = stdout.read(), stderr.read()  # not `communicate`, which forgets what `readline` has read ahead
    assert process.wait(20) == status, err or out
    assert "Traceback" not in err, err
    return out.splitlines(), err


def check(printed: Sequence[str], lines: Sequence[str]) -> None:
    """Fail unless each line that an example shows is among those it prints, but for what rounding and codecs make."""
    number = re.compile(r"\d+(?:\.\d+)*")
    for line in lines:
        values = [float(text) for text in number.findall(line) if text.count(".") < 2]  # not versions
        alike = [one for one in printed if number.sub("", one) == number.sub("", line)]
        found = [[float(text) for text in number.findall(one) if text.count(".") < 2] for one in alike]
        assert any(one == pytest.approx(values, rel=0.1, abs=0.1) for one in found), (line, printed)


# Each of them


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_stranger_can_read_it(path: Path) -> None:
    """It is short, says what it prints, and imports nothing of the package but what the pages tell of."""
    text = path.read_text()
    assert len(text.splitlines()) < (60 if path.parent == EXAMPLES else 90)
    public = {"accelerate", "accelerate.contract", "accelerate.metadata", "accelerate.errors", "accelerate.vision",
              "accelerate.serve.viam", "accelerate.serve.open_inference"}  # fmt: skip
    for node in ast.walk(ast.parse(text)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert {name for name in names if name.split(".")[0] == "accelerate"} <= public
    commands, lines = shown(str(path.relative_to(EXAMPLES)))
    assert commands
    assert lines
    assert f"]({path.relative_to(ROOT)})" in (ROOT / "README.md").read_text()


def test_camera(here: Path) -> None:
    detector(here / "detector.tflite")
    record(here / "street.avi", 3)
    printed, err = run("python examples/camera.py detector.tflite street.avi", here)
    assert printed[1:] == ["dog 0.88 at 32,48 to 160,180", "cat 0.62 at 160,60 to 240,240"] * 3
    assert not err
    _, err = run("python examples/camera.py detector.tflite none.avi", here, status=1)
    assert "the camera none.avi cannot be opened" in err
    _, err = run("python examples/camera.py none.tflite street.avi", here, status=1)
    assert "there is no file none.tflite" in err


def test_camera_on_a_real_model(here: Path, models_dir: Path) -> None:
    (here / "detector.tflite").symlink_to(models_dir / "coco_ssd_mobilenet_v1_1.0_quant.tflite")
    record(here / "cat.avi", 2, models_dir.parent / "images" / "cat.bmp")
    (command,), lines = shown("camera.py")
    printed, _ = run(command, here)
    check(printed, lines)
    assert len(printed) == len(lines)


def test_folder_to_csv(here: Path) -> None:
    (here / "pictures").mkdir()
    for name in ("c.png", "a.png"):
        shutil.copy(DATA / "digit.png", here / "pictures" / name)
    (here / "pictures" / "b.png").write_bytes(b"no picture")
    (here / "pictures" / "notes.txt").write_text("left alone")
    (command, _), lines = shown("folder_to_csv.py")
    printed, _ = run(command, here)
    assert printed == lines[:1]
    assert (here / "digits.csv").read_text().splitlines() == lines[1:]
    printed, _ = run(command.replace("accelerate/data digits", "pictures digits"), here)
    assert printed == ["2 of 3 pictures classified"]
    rows = (here / "digits.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["a.png", "seven"], ["b.png", ""], ["c.png", "seven"]]
    assert rows[2].endswith("pictures/b.png is not a picture that Pillow can read")
    _, err = run("python examples/folder_to_csv.py accelerate/data/digits_uint8.tflite none x.csv", here, status=1)
    assert "none" in err
    detector(here / "detector.tflite")
    _, err = run("python examples/folder_to_csv.py detector.tflite pictures x.csv", here, status=1)
    assert "of kind 'rows'; wanted 'scores' for a Classifier" in err
    assert not (here / "x.csv").exists(), "no table with a heading alone"


@pytest.mark.slow
def test_coral_with_failover(here: Path) -> None:
    detector(here / "detector_edgetpu.tflite", stand_in.compiled_operator)
    detector(here / "detector.tflite")
    record(here / "street.avi", 8)
    (command,), lines = shown("coral_failover.py")
    device: dict[str, Any] = {
        "EDGE_ACCELERATE_EDGETPU_LIBRARY": stand_in.library(),
        "EDGE_ACCELERATE_CACHE": str(here / "cache"),
        "EDGETPU_STAND_IN_LOSE_AFTER": "5",
        "EDGETPU_STAND_IN_AWAY_MS": "600000",
    }
    printed, err = run(command, here, **device)
    check(printed, lines)
    who = [line.partition(":")[0] for line in printed]
    assert len(who) == 8, "each frame is answered"
    assert who == sorted(who), "first by the device, then by the CPU"
    assert "tflite_cpu on cpu answers from now on" in err


@pytest.mark.slow
def test_plugin_backend(here: Path) -> None:
    (install, save, load), lines = shown("plugin_backend/linear_npy.py")
    assert install == "pip install examples/plugin_backend"
    shutil.copytree(EXAMPLES / "plugin_backend", here / "plugin", ignore=shutil.ignore_patterns("*.egg-info", "build"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
         "--target", here / "site", here / "plugin"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    run(save, here)
    printed, _ = run(load, here, PYTHONPATH=str(here / "site"))
    assert printed == lines
    refused = "import accelerate; print(accelerate.plan('accelerate/data/digits.onnx', backend='linear_npy'))"
    printed, _ = run(f'python -c "{refused}"', here, PYTHONPATH=str(here / "site"))
    assert "not an .npy file" in "".join(printed)


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended behind the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.mark.slow
def test_viam_both_ways(here: Path, ended: list[subprocess.Popen[str]]) -> None:
    pytest.importorskip("viam", reason="needs the extra: viam")
    from triton_server import free_ports

    (port,) = free_ports(1)
    (command,), lines = shown("viam_service.py")
    service = start(f"{command} --port {port}", here)
    ended.append(service)
    said = next_line(service)
    assert said.replace(str(port), "8080") == lines[0]
    (command,), lines = shown("viam_client.py")
    printed, _ = run(command.replace("8080", str(port)), here)
    check(printed, lines)
    service.send_signal(signal.SIGTERM)
    assert service.wait(20) == 0
    _, err = run(command.replace("8080", str(port)), here, status=1)
    assert f"127.0.0.1:{port}" in err or f"localhost:{port}" in err


@pytest.mark.slow
def test_programs_share_an_accelerator(here: Path, ended: list[subprocess.Popen[str]]) -> None:
    pytest.importorskip("tritonclient", reason="needs the extra: serve")
    from serving import Serving

    record(here / "digits.avi", 400, DATA / "digit.png")
    (_, command), lines = shown("shared_by_serve.py")
    with Serving({"digits": DATA / "digits_uint8.tflite"}) as server:
        command = command.replace("8001", str(server.port))
        printed, _ = run(command, here)
        assert printed == [lines[0].replace("8001", str(server.port)), *lines[1:]]
        command = command.replace("accelerate/data/digit.png", "digits.avi")
        first, second = (start(command, here) for _ in range(2))
        ended += first, second
        said = [[next_line(program) for _ in range(3)] for program in (first, second)]
        server.kill()
        server.start()
        for program, before in zip((first, second), said, strict=True):
            printed = [*before, *finish(program)[0]]
            assert printed == [lines[0].replace("localhost:8001", f"localhost:{server.port}"), *lines[1:] * 400]


def test_a_server_that_is_not_there(here: Path) -> None:
    pytest.importorskip("tritonclient", reason="needs the extra: serve")
    record(here / "digits.avi", 1, DATA / "digit.png")
    _, err = run("python examples/shared_by_serve.py triton://127.0.0.1:9/digits digits.avi", here, status=1)
    assert "127.0.0.1:9" in err


@pytest.mark.slow
def test_jetson_with_its_sidecar(here: Path, ended: list[subprocess.Popen[str]]) -> None:
    pytest.importorskip("tritonclient", reason="needs the extra: triton")
    pytest.importorskip("onnxruntime", reason="needs the extra: onnxruntime")
    from triton_server import TRITON_ENV, TritonServer

    if not (TRITON_ENV / ".ready").is_file():
        pytest.skip("run make .venv-triton/.ready")
    record(here / "digits.avi", 400, DATA / "digit.png")
    (command,), lines = shown("jetson_sidecar.py")
    with TritonServer() as server:
        # no GPU here: the promise is not kept, and the board's CPU answers
        printed, err = run(command.replace(" --device cpu", f" --url {server.url}"), here)
        assert "the first model" in err
        assert printed == [lines[1]] * 400
        program = start(f"{command} --url {server.url}", here)
        ended.append(program)
        first = next_line(program)
        server.kill()
        printed = [first, *finish(program)[0]]
    assert set(printed) == set(lines)
    assert len(printed) == 400, "each frame is answered"


@pytest.mark.slow
def test_cameras_and_a_detector_process(here: Path, ended: list[subprocess.Popen[str]]) -> None:
    detector(here / "detector.tflite")
    for name in ("yard.avi", "door.avi"):
        record(here / name, 60)
    program = start("python examples/cameras_worker.py detector.tflite yard.avi door.avi", here)
    ended.append(program)
    first = next_line(program)
    (worker,) = [pid for pid in children_of(program.pid) if children_of(pid)]
    os.kill(children_of(worker)[0], signal.SIGKILL)  # the runtime crashes
    printed = [first, *finish(program)[0]]
    assert printed == ["yard.avi: dog 0.88, cat 0.62", "door.avi: dog 0.88, cat 0.62"] * 60
    _, err = run("python examples/cameras_worker.py none.tflite yard.avi", here, status=1)
    assert "there is no file none.tflite" in err
    assert "the detector has ended" in err


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]


@pytest.mark.slow
def test_cameras_on_a_real_model(here: Path, models_dir: Path) -> None:
    (here / "detector.tflite").symlink_to(models_dir / "coco_ssd_mobilenet_v1_1.0_quant.tflite")
    record(here / "cat.avi", 1, models_dir.parent / "images" / "cat.bmp")
    record(here / "parrot.avi", 1, models_dir.parent / "images" / "parrot.jpg")
    (command,), lines = shown("cameras_worker.py")
    printed, _ = run(command, here)
    check(printed, lines)
    assert len(printed) == len(lines)
