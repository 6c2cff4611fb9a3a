"""Trying things in a child process, and what is remembered of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import edgetpu_stand_in
import engines
import odd_models
import pytest

import accelerate
from accelerate.system import cache
from accelerate.system.children import ChildError, Verdict, run_in_child, verdict, verdicts

STRANGER = """\
import os, signal, sys, time

def size(payload, unit=1):
    return len(payload) * unit

def die(payload):
    with open(os.environ["TRIES"], "a") as file:
        file.write("x")
    os.kill(os.getpid(), getattr(signal, payload.decode()))

def judge(payload):
    with open(os.environ["TRIES"], "a") as file:
        file.write("x")
    return payload.decode()

def fail(payload):
    raise RuntimeError("the licence has run out")

def hang(payload):
    time.sleep(60)

def leave(payload):
    os.write(2, b"out of licences\\n")
    os._exit(0)

def start_a_helper(payload):
    if helper := os.fork():
        return helper
    time.sleep(60)
    os._exit(0)

def leave_a_helper(payload):
    with open(os.environ["TRIES"], "w") as file:
        file.write(str(start_a_helper(payload)))
    os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.fixture
def tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stranger's package on the path; return the file in which it counts its calls."""
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "tasks.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TRIES", str(tmp_path / "tries"))
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "tries"


def ask(task: str, payload: bytes = b"", timeout: float = 30, versions: str = "1", **arguments: Any) -> Verdict:
    return verdict("topic", versions, f"stranger.tasks:{task}", lambda: payload, timeout, **arguments)


def test_a_strangers_module_can_try_something(tries: Path) -> None:
    assert run_in_child("stranger.tasks:size", b"four", 30, unit=3) == 12


def test_a_crash_is_remembered_for_these_versions(tries: Path) -> None:
    for _ in range(3):
        assert ask("die", b"SIGSEGV").crash == "the process was killed by SIGSEGV"
    assert tries.read_text() == "x"
    ask("die", b"SIGSEGV", versions="2")
    assert tries.read_text() == "xx"


def test_what_is_sound_is_remembered(tries: Path) -> None:
    for _ in range(3):
        assert ask("judge") == Verdict("", "")
    assert tries.read_text() == "x"


def test_what_is_wrong_without_a_crash_is_tried_again(tries: Path) -> None:
    for _ in range(2):
        assert ask("judge", b"the sum is wrong").wrong == "the sum is wrong"
    assert tries.read_text() == "xx"


def test_a_kill_a_failure_and_a_timeout_are_no_verdicts(tries: Path) -> None:
    for task, payload, timeout, said in (
        ("die", b"SIGKILL", 30, "killed by SIGKILL"),
        ("fail", b"", 30, "ended with status 1: RuntimeError: the licence has run out"),
        ("hang", b"", 1, "no answer within 1 s"),
        ("leave", bytes(1 << 20), 30, "ended with status 0: out of licences; there is no answer of it"),
    ):
        with pytest.raises(ChildError, match=said) as caught:
            ask(task, payload, timeout)
        assert (caught.value.crashed, caught.value.timed_out) == (False, task == "hang")
    assert verdicts("topic", "1") == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("task", ["start_a_helper", "leave_a_helper"])
def test_what_a_child_has_started_may_outlive_it(tries: Path, task: str) -> None:
    """As some drivers start a process when their library is loaded: it has the child's pipes."""
    began = time.monotonic()
    if task == "start_a_helper":
        helper = run_in_child(f"stranger.tasks:{task}", bytes(1 << 20), 30)
    else:
        with pytest.raises(ChildError, match="killed by SIGSEGV") as caught:
            run_in_child(f"stranger.tasks:{task}", b"", 30)
        assert caught.value.crashed
        helper = int(tries.read_text())
    os.kill(helper, signal.SIGKILL)  # it was there until now
    assert time.monotonic() - began < 20


def test_several_things_are_tried_with_the_same_versions(tries: Path) -> None:
    ask("judge", key="a", name="model a")
    ask("die", b"SIGABRT", key="b", name="model b")
    assert verdicts("topic", "1") == {
        "a": Verdict("model a"),
        "b": Verdict("model b", "the process was killed by SIGABRT"),
    }


# Programs that cannot start a child


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("frozen", True, "is frozen"),
        ("executable", "/usr/bin/robot", r"embedded .*\(/usr/bin/robot\) is no Python"),
        ("executable", "", r"\(unknown\)"),
        ("executable", None, r"\(unknown\)"),
    ],
)
def test_nothing_is_tried_where_the_executable_is_the_program(
    attribute: str, value: object, said: str, tries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, attribute, value, raising=False)
    with pytest.raises(ChildError, match=said) as caught:
        ask("judge")
    assert caught.value.impossible
    assert str(cache.folder()) in caught.value.remedy
    assert not tries.exists()


@pytest.mark.parametrize("name", ["python3.13t", "Python", "PYTHON.EXE", "pypy3"])
def test_what_counts_as_a_python(name: str, tries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tries.with_name(name)
    link.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(link))
    assert run_in_child("stranger.tasks:size", b"four", 30) == 4


def test_a_python_that_is_gone(tries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tries.with_name("python")))
    with pytest.raises(ChildError, match=r"does not start.*No such file") as caught:
        ask("judge")
    assert not caught.value.impossible


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT is not installed here")
def test_the_edge_tpu_in_a_frozen_program(tmp_path: Path) -> None:
    """Refused with what helps, and what helps does."""
    environment = {
        **os.environ,
        "EDGE_ACCELERATE_EDGETPU_LIBRARY": edgetpu_stand_in.library(),
        "EDGE_ACCELERATE_CACHE": str(tmp_path / "cache"),
    }
    (tmp_path / "model.tflite").write_bytes(edgetpu_stand_in.bits())
    program = f"""if True:
        import accelerate, sys
        if len(sys.argv) > 1:
            sys.frozen = True
        state = accelerate.list_backends()["edgetpu"]
        print(state.available, state.reason, state.remedy)
        try:
            accelerate.load({str(tmp_path / "model.tflite")!r}, backend="edgetpu").close()
        except accelerate.BackendNotAvailableError as error:
            print(error)
    """

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    first, second = run("frozen").splitlines()
    assert first.startswith("False ")
    for line in (first, second):
        assert "this program is frozen" in line
        assert (
            f"load the model in a plain Python with the same versions once: the outcome is kept in {tmp_path}" in line
        )
    assert run().startswith("True ")
    assert run("frozen").startswith("True ")


@pytest.mark.skipif("tflite-runtime" not in engines.INSTALLED, reason="about tflite-runtime")
def test_tflite_runtime_in_a_frozen_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.backends.tflite import engines as backend_engines

    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr("accelerate.system.known_answers._tried", {})
    state = backend_engines.availability("tflite-runtime")
    assert not state.available
    assert "is frozen" in state.reason
    assert "litert" in state.remedy
    with pytest.raises(accelerate.BackendNotAvailableError, match=r"is frozen.*edge-accelerate\[litert\]"):
        accelerate.load(odd_models.add3(), backend="tflite_cpu", engine="tflite-runtime")


# The cache folder


def read_only(folder: Path) -> str:
    return "/proc/sys"  # root may write into a folder without the permission to, but not into this one


def absent(folder: Path) -> str:
    (folder / "file").write_text("")
    return str(folder / "file" / "cache")


def full(folder: Path) -> str:
    return str(folder / "cache")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and RLIMIT_FSIZE")
@pytest.mark.parametrize("state", [read_only, absent, full])
def test_a_cache_that_takes_nothing_is_no_error(state: Any, tries: Path, tmp_path: Path) -> None:
    program = f"""if True:
        import resource, sys
        from accelerate.system.children import verdict, verdicts
        if {state is full}:  # every write fails, as where the disk is full
            sys.dont_write_bytecode = True  # it would be cut short, for everybody who imports it afterwards
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        for _ in range(2):
            print(verdict("topic", "1", "stranger.tasks:size", lambda: b"", 30), verdicts("topic", "1"))
    """
    environment = {**os.environ, "EDGE_ACCELERATE_CACHE": state(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("Verdict(name='', crash='', wrong=None) {}\n" * 2, "")
    assert not list(tmp_path.glob("cache/topic/*"))
