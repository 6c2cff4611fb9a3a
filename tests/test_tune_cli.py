"""``edge-accelerate tune`` as a user meets it: processes, their output at 80 columns, their status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelerate

pytest.importorskip("click", reason="needs the extra: cli")
pytest.importorskip("rich", reason="needs the extra: cli")
pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

pytestmark = pytest.mark.slow

DATA = Path(accelerate.__file__).parent / "data"
QUICK = ("--seconds", "0.02")


@pytest.fixture
def twins(tmp_path: Path) -> list[Path]:
    """A model and its twin, in a folder of the test's own."""
    paths = [tmp_path / "digits.tflite", tmp_path / "digits.onnx"]
    for path, name in zip(paths, ("digits_uint8.tflite", "digits.onnx"), strict=True):
        path.write_bytes((DATA / name).read_bytes())
    return paths


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tune(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accelerate", "tune", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False, env=environment)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_model_and_its_twin(twins: list[Path], tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    np.save(inputs / "one.npy", np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8))
    with accelerate.load(twins[0]) as model:
        name = model.metadata().inputs[0].name
    arrays: dict[str, Any] = {name: np.full((1, 8, 8, 1), 7, np.uint8)}
    np.savez(inputs / "two.npz", **arrays)
    (inputs / "digit.png").write_bytes((DATA / "digit.png").read_bytes())
    (inputs / ".hidden").write_text("x")
    done = tune(*twins, "--inputs", inputs, *QUICK)
    lines = done.stdout.splitlines()
    assert done.stderr == ""  # no bar where there is no terminal
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    assert "digits.tflite" in lines
    assert "digits.onnx" in lines
    assert [line.split()[:1] for line in lines].count(["->"]) == 1
    assert "on 3 inputs of yours" in done.stdout
    assert "Answers are compared with those of tflite_cpu on cpu, 1 thread." in done.stdout.replace("\n", " ")
    said = " ".join(lines[lines.index("Chosen") :])
    assert f'accelerate.load("{tmp_path}/digits.' in said
    assert "load goes by it where the backend is left to auto" in said

    listed = tune("--list").stdout
    assert f"{twins[0]}\ntflite_cpu cpu, " in listed
    assert listed.count(": holds") == 2
    (entry,) = json.loads(tune("--list", twins[1], "--json").stdout)
    assert (entry["path"], entry["outdated"]) == (str(twins[1]), "")
    assert accelerate.plan(twins[1]).chosen.reason.startswith("tuned on ")  # type: ignore[union-attr]
    os.utime(twins[0], (1, 1))
    assert "the file has changed" in tune("--list", twins[0]).stdout
    assert tune("--forget", twins[1]).stdout == "1 result removed\n"
    assert json.loads(tune("--forget", "--json").stdout) == {"removed": 1}
    assert tune("--list").stdout.startswith("nothing is stored in")


def test_json(twins: list[Path]) -> None:
    found = json.loads(tune(twins[0], "--json", "--option", "num_threads=1", "--backend", "tflite_cpu", *QUICK).stdout)
    assert found["results"][0] == found["chosen"]
    assert found["chosen"].keys() == {
        *("source", "backend", "device", "num_threads", "p50_ms", "p99_ms", "ratio", "agrees", "top1", "difference"),
        *("reason", "remedy"),
    }
    assert (found["stored"], found["inputs"]) == (False, "8 random inputs")
    assert found["line"] == f'accelerate.load("{twins[0]}", backend="tflite_cpu", device="cpu", num_threads=1)'


def test_a_runtime_that_is_another_now(twins: list[Path], cache: Path) -> None:
    tune(twins[0], *QUICK)
    (path,) = (cache / "tuned").iterdir()
    text = path.read_text()
    version = next(line for line in text.splitlines() if line.startswith("version="))
    path.write_text(text.replace(version, "version=Engine 0.1"))
    assert "measured with Engine 0.1; here is " in tune("--list").stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument 'MODEL'"),
        (("--list", "--forget"), "two commands"),
        (("m", "--seconds", "0"), "--seconds"),
        (("m", "--option", "device=cpu"), "device is given by --device"),
        (("m", "--shape", "many"), "--shape"),
    ],
)
def test_wrong_usage(arguments: tuple[object, ...], message: str) -> None:
    assert message in tune(*arguments, status=2).stderr


def test_errors(twins: list[Path], tmp_path: Path) -> None:
    def error(*arguments: object) -> str:
        done = tune(*arguments, *QUICK, status=1)
        assert done.stderr.startswith("error: ")
        return done.stderr

    assert "there is no file gone.tflite" in error("gone.tflite")
    assert "not a model that any backend here knows" in error(__file__)
    assert f"the inputs in {tmp_path}/gone cannot be read" in error(twins[0], "--inputs", tmp_path / "gone")
    bad = tmp_path / "inputs"
    bad.mkdir()
    assert f"there are no files in {bad}" in error(twins[0], "--inputs", bad)
    np.save(bad / "odd.npy", np.zeros((3, 5), np.uint8))
    assert f"error: {bad}/odd.npy: input 'image' got uint8[3, 5]" in error(twins[0], "--inputs", bad)
    (bad / "odd.npy").write_text("no array")
    assert f"{bad}/odd.npy is not a picture" in error(twins[0], "--inputs", bad)
    assert not list(tmp_path.glob("cache/tuned/*"))


def at_a_terminal(*arguments: object, until: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run with stderr on a terminal; return the status, stdout and what was shown. Ctrl-C comes after `until`."""
    pty: Any = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "accelerate", "tune", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            if until and until not in shown and until in shown + part:
                process.send_signal(signal.SIGINT)
            shown += part
    except OSError:  # how Linux says that the other side is closed
        pass
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    return process.returncode, out, shown


def test_interrupted(twins: list[Path], tmp_path: Path) -> None:
    status, out, shown = at_a_terminal(*twins, "--seconds", "60", until=b"warming up")
    assert (status, out) == (130, b"")
    assert b"warming up" in shown
    assert b"Traceback" not in shown
    assert not list(tmp_path.glob("cache/tuned/*"))


def test_a_terminal_shows_what_is_going_on(twins: list[Path]) -> None:
    status, out, shown = at_a_terminal(twins[0], *QUICK)
    assert status == 0
    assert b"warming up tflite_cpu on cpu" in shown
    assert b"Chosen" in out
