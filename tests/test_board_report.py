"""What `board-report` finds, masks and leaves behind: on a CPU, on a backend that crashes, on full disks."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edgetpu_stand_in as stand_in
import pytest
from perilous_backend import install, peril

from accelerate.boards.archive import Archive
from accelerate.boards.examination import Examination
from accelerate.boards.masking import Mask, find_private
from accelerate.boards.steps import try_items
from accelerate.errors import OptionError

pytest.importorskip("click", reason="needs the extra: cli")
pytest.importorskip("rich", reason="needs the extra: cli")


def tried(task: str, silence: float = 60, **arguments: Any) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    try_items(task, arguments, silence, lambda _: None, results)
    return results


def by_item(results: list[dict[str, Any]]) -> dict[str, str]:
    return {one["item"]: one["status"] for one in results}


def models(folder: Path, **told: Mapping[str, Any]) -> list[str]:
    paths = [folder / name for name in told]
    for path in paths:
        path.write_bytes(peril(**told[path.name]))
    return [str(path) for path in paths]


def test_known_answers_of_the_cpu() -> None:
    found = tried("answers", backend="tflite_cpu", device="cpu", models=[])
    assert [one["status"] for one in found] == ["right"] * 3 + ["refused"] * 3
    assert all(one["reason"] for one in found)


@pytest.mark.slow
def test_a_crash_and_a_hang_are_lines_and_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch)
    given = models(
        tmp_path, fine={}, crashes={"do": "crash"}, hangs={"do": "block"}, exits={"load": "exit"}, last={"counts": True}
    )
    found = tried("answers", 8, backend="peril", device="cpu", models=given)
    assert by_item(found[-5:]) == {
        "fine": "answered", "crashes": "crashed", "hangs": "crashed", "exits": "crashed", "last": "answered"
    }  # fmt: skip
    crash, hang, left = (one for one in found if one["status"] == "crashed")
    assert crash["reason"] == "the process was killed by SIGSEGV"
    assert "the bus has gone" in crash["said"]
    assert hang["reason"] == "nothing came for 8 s"
    assert "status 3" in left["reason"]


@pytest.mark.slow
def test_a_crash_in_the_suite_names_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model crashes in each third call, and not when it is loaded."""
    install(tmp_path / "site", monkeypatch)
    given = models(tmp_path, often={"do": "crash", "every": 3})
    found = by_item(tried("conformance", backend="peril", device="cpu", models=given))
    crashed = [item for item, status in found.items() if status == "crashed"]
    assert crashed
    assert all(item.startswith("test_") for item in crashed if item != "conformance")
    assert "passed" in found.values()


@pytest.mark.long
def test_the_suite_over_a_device_by_the_projects_own_models() -> None:
    for backend in ("tflite_cpu", "onnxruntime"):
        found = tried("conformance", 120, backend=backend, device="cpu", models=[])
        assert [one for one in found if one["status"] not in ("passed", "skipped")] == []
        assert by_item(found)["test_every_device_that_is_ready_loads"] == "passed"
        assert sum(one["status"] == "passed" for one in found) > 100


def test_what_is_private_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "serial-number").write_text("10000000deadbeef\0")
    stick = tmp_path / "sys" / "bus" / "usb" / "devices" / "1-2"
    stick.mkdir(parents=True)
    (stick / "serial").write_text("SN-0815\n")
    monkeypatch.setattr("socket.gethostname", lambda: "anns-robot.example.org")
    environment = {
        "USER": "ann",
        "HOME": "/home/ann",
        "EDGE_ACCELERATE_TRITON_URL": "triton://anns-server:8001/m",
        "MY_TOKEN": "t0psecret",
    }
    mask = Mask(find_private(str(tmp_path), environment, ["/data/acme/secret.tflite"]))
    assert mask.text("no /data/acme/secret.tflite") == "no <models>/secret.tflite"
    assert mask.text(sys.executable).startswith("<python>/bin/")
    told = (
        "Ann's /home/ann/x.tflite on ANNS-ROBOT (10000000deadbeef, sn-0815), channel planned, t0psecret, "
        "triton://anns-server:8001/m, 02:42:ac:11:00:02, 192.168.1.7, https://me:pw@host/x, version 10.3.0.30, "
        "GPU-9a0b1c2d-0000-1111-2222-333344445555"
    )
    assert mask.value({"ann": [told]}) == {
        "ann": [
            "<user>'s ~/x.tflite on <host> (<serial>, <serial>), channel planned, <MY_TOKEN>, "
            "<EDGE_ACCELERATE_TRITON_URL>, <address>, <address>, https://<user>@host/x, version 10.3.0.30, <serial>"
        ]
    }


def test_names_that_every_board_has_are_no_secret() -> None:
    mask = Mask(find_private("/nonexistent", {"USER": "pi", "HOME": "/"}))
    assert mask.text("a Raspberry Pi, pip, root") == "a Raspberry Pi, pip, root"
    assert Mask({}).text("as it was") == "as it was"


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "report.zip", Mask({}))
    archive.write({"running": "one"}, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OptionError, match=r"report\.zip cannot be written: File too large; .*--output"):
            archive.write({"running": "two", "noise": os.urandom(4000).hex()}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    with zipfile.ZipFile(archive.path) as file:
        assert json.loads(file.read("report.json")) == {"running": "one"}
    assert os.listdir(tmp_path) == ["report.zip"]


@pytest.mark.slow
def test_a_board_that_cannot_be_read_and_has_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files raise what no file should, and so does every backend."""
    (tmp_path / "sitecustomize.py").write_text(
        "import accelerate.diagnosis.board as board, accelerate.registry as registry\n"
        "def fail(*_, **__): raise RuntimeError('the device tree is a riddle')\n"
        "board.read_text = registry.availability = fail\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    saved: list[Any] = []
    lines: list[tuple[str, ...]] = []
    examination = Examination(
        [], 0.1, lambda *_: None, lambda *line: lines.append(line), lambda *all_of_it: saved.append(all_of_it)
    )
    examination.all()
    assert not examination.fine
    assert lines[0] == ("doctor", "-", "failed: RuntimeError: the device tree is a riddle")
    assert all("crashed" in line[2] for line in lines[1:-1])
    assert lines[-1][2].startswith("no device here can run models")
    report, files = saved[-1]
    assert report["complete"]
    assert "the device tree is a riddle" in files["summary.txt"]


COMMAND = [sys.executable, "-m", "accelerate", "board-report"]


def test_a_place_that_cannot_be_written_to_is_said_before_anything_is_tried(tmp_path: Path) -> None:
    for output, said in ((tmp_path / "no" / "x.zip", "No such file"), (tmp_path, "is a folder")):
        done = subprocess.run([*COMMAND, f"--output={output}"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert said in done.stderr
        assert "--output" in done.stderr
        assert "known answers " not in done.stdout.partition("doctor -")[2]


@pytest.mark.slow
def test_ctrl_c_leaves_what_was_found(tmp_path: Path) -> None:
    output = tmp_path / "report.zip"
    command = subprocess.Popen(
        [*COMMAND, f"--output={output}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert command.stdout is not None
        printed = ""
        for line in command.stdout:
            printed += line
            if line.startswith("known answers"):
                break
        time.sleep(0.5)
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does it
        rest, errors = command.communicate(timeout=60)
    finally:
        if command.poll() is None:
            command.kill()
            command.wait()
    assert command.returncode == 130, errors
    assert f"what was found so far is in {output}" in rest
    assert "values of environment variables" in printed.partition("doctor")[2]
    with zipfile.ZipFile(output) as file:
        report = json.loads(file.read("report.json"))
        assert "known answers" in file.read("summary.txt").decode()
    assert not report["complete"]
    assert report["running"].startswith("conformance of ")
    assert report["doctor"]["processor"]
    assert report["devices"][0]["answers"]
    assert os.listdir(tmp_path) == ["report.zip"]


@pytest.mark.long
def test_a_stand_in_edge_tpu_with_models_compiled_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its known answers are refused with the reason, and the suite goes by what is given: a model for each role."""
    monkeypatch.setenv("EDGE_ACCELERATE_EDGETPU_LIBRARY", stand_in.library())
    given = {"floats_edgetpu.tflite": stand_in.floats([3]), "bits_edgetpu.tflite": stand_in.bits()}
    for name, content in given.items():
        (tmp_path / name).write_bytes(content)
    (found,) = (one for one in tried("devices") if one["item"] == "edgetpu")
    device = next(one["id"] for one in found["devices"] if one["ready"])
    asked = {"backend": "edgetpu", "device": device, "models": [str(tmp_path / name) for name in given]}
    answers = tried("answers", **asked)
    assert [one["status"] for one in answers] == ["refused"] * 6 + ["answered"] * 2
    assert "1 of 1 operators delegated" in answers[-1]["reason"]
    suite = tried("conformance", 120, **asked)
    assert [one for one in suite if one["status"] not in ("passed", "skipped")] == []
    assert by_item(suite)["test_every_device_that_is_ready_loads"] == "passed"
    assert sum(one["status"] == "passed" for one in suite) > 60
