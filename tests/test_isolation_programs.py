"""Programs with isolated models: how they are started, forked, interrupted and killed, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from perilous_backend import MAGIC, install, load, peril
from test_isolation import children, command, open_files, wait_for

import accelerate
from accelerate import InferenceError

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="isolation is for Linux")]

#: What every program below begins with.
FIRST = f"""
import os, signal, sys, threading, time
import numpy as np
import accelerate

def peril(told="{{}}"):
    return {MAGIC!r} + told.encode()

def load(told="{{}}", **options):
    return accelerate.load(peril(told), **{{"backend": "peril", "isolation": "process", **options}})

def right(model, **options):
    x = np.random.random(3).astype("f")
    return bool(np.array_equal(model.infer(x, **options)["y"], 2 * x))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return install(tmp_path / "site")


def environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}


def run(arguments: list[str], site: Path, **options: Any) -> list[str]:
    done = subprocess.run(
        [sys.executable, *arguments], env=environment(site), capture_output=True, text=True, timeout=60, check=False,
        **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    lines: list[str] = done.stdout.splitlines()
    return lines


def program(body: str) -> str:
    return FIRST + textwrap.dedent(body)


# How a program may be started

UNGUARDED = """
    print("begins")
    model = load(replicas=2)
    print(right(model), right(model, timeout=30))
"""


def test_an_unguarded_script_runs_once(site: Path, tmp_path: Path) -> None:
    (tmp_path / "robot.py").write_text(program(UNGUARDED))
    assert run([str(tmp_path / "robot.py")], site) == ["begins", "True True"]
    assert run(["-c", program(UNGUARDED)], site) == ["begins", "True True"]
    assert run(["-"], site, input=program(UNGUARDED)) == ["begins", "True True"]
    assert run(["-W", "error", "-X", "dev", str(tmp_path / "robot.py")], site) == ["begins", "True True"]


def test_a_notebook_a_thread_a_folder_and_a_path_that_change(site: Path, tmp_path: Path) -> None:
    (tmp_path / "model.peril").write_bytes(peril())
    body = f"""
        sys.path.remove({str(site)!r})
        os.environ.pop("PYTHONPATH")
        sys.path.append({str(site)!r})  # found while it runs, as by a notebook
        os.chdir({str(tmp_path)!r})
        scope = {{}}
        exec("import accelerate; model = accelerate.load('model.peril', isolation='process')", scope)
        os.chdir("/")
        print(scope["model"].runtime.details["home"], right(scope["model"]))
        os.kill(scope["model"].runtime.details["pid"], 9)
        time.sleep(0.5)
        print(right(scope["model"]), end=" ")
        print(scope["model"].runtime.details["home"])
        found = []
        thread = threading.Thread(target=lambda: found.append(load()))
        thread.start()
        thread.join()  # the one that started the child is gone
        time.sleep(0.2)
        print(right(found[0]))
    """
    assert run(["-c", program(body)], site) == [f"{tmp_path} True", f"True {tmp_path}", "True"]


def test_shared_memory_that_is_full_and_signals_that_are_odd(site: Path) -> None:
    body = """
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
        import socket
        socket.setdefaulttimeout(0.001)
        model = load('{"every": 2, "do": "nap"}')
        print(right(model), right(model))
        os.kill(model.runtime.details["pid"], 9)
        time.sleep(0.3)
        print(right(model))
    """
    assert run(["-c", program(body)], site) == ["True True", "True"]


def test_the_end_of_a_program_during_calls(site: Path) -> None:
    body = """
        models = [load('{"do": "spin"}') for _ in range(2)]
        threading.Thread(target=models[0].infer, args=(np.ones(3, "f"),), daemon=True).start()
        try:
            models[1].infer(np.ones(3, "f"), timeout=0.1)
        except accelerate.InferenceTimeoutError:
            print(*(model.runtime.details["pid"] for model in models))
    """
    (line,) = run(["-c", program(body)], site)
    for pid in map(int, line.split()):
        wait_for(lambda pid=pid: not is_ours(pid), f"{pid} has outlived its program")


def is_ours(pid: int) -> bool:
    """Whether a process is a child of such a program, and no zombie that waits for another one's init."""
    return b"isolation" in command(pid) and b"zombie" not in command(pid)


# Forks


def test_a_forked_child_has_a_child_of_its_own(site: Path) -> None:
    body = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        model, double, stateful = load(), load(replicas=2), load('{"counts": true}')
        binding = model.bind()
        x = binding.inputs["x"]
        x[...] = 3
        binding.run()
        stateful.infer(np.ones(3, "f"))
        before = model.runtime.details["pid"]
        sys.stdout.flush()
        child = os.fork()
        if not child:
            print(right(model), right(double), right(model, timeout=30), model.runtime.details["pid"] != before)
            print(binding.outputs["y"].tolist(), x.tolist())
            x[...] = 4
            binding.run()
            print(binding.outputs["y"].tolist())
            try:
                stateful.infer(np.ones(3, "f"))
            except accelerate.InferenceError as error:
                print("forked" in str(error), stateful.infer(np.ones(3, "f"))["y"].tolist())
            model.close()
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(x.tolist(), binding.outputs["y"].tolist(), stateful.infer(np.ones(3, "f"))["y"].tolist())
        binding.run()
        print(right(model), right(double), model.runtime.details["pid"] == before)
        pids = [model.runtime.details["pid"]]
        child = os.fork()
        if not child:
            os.close(1)
            os.close(2)
            time.sleep(60)
        print(child, *pids, flush=True)
        os.kill(os.getpid(), 9)  # while a forked child lives on
    """
    done = subprocess.run(
        [sys.executable, "-c", program(body)], env=environment(site), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    *lines, last = done.stdout.splitlines()
    assert lines == [
        "True True True True",
        "[6.0, 6.0, 6.0] [3.0, 3.0, 3.0]",
        "[8.0, 8.0, 8.0]",
        "True [3.0, 3.0, 3.0]",
        "7",
        "[3.0, 3.0, 3.0] [6.0, 6.0, 6.0] [4.0, 4.0, 4.0]",
        "True True True",
    ], done.stderr
    forked, *ours = map(int, last.split())
    try:
        for pid in ours:
            wait_for(lambda pid=pid: not is_ours(pid), f"{pid} has outlived its program")
    finally:
        os.kill(forked, signal.SIGKILL)


# Interruptions and kills


def test_an_interrupted_call_leaves_all_as_it_was(site: Path) -> None:
    body = """
        model = load('{"every": 2, "do": "nap"}')
        for timeout in (None, 30):
            print(right(model, timeout=timeout))
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            started = time.monotonic()
            try:
                model.infer(np.ones(3, "f"), timeout=timeout)
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - started < 0.8)
            pid = model.runtime.details["pid"]
            print(right(model, timeout=timeout), pid == model.runtime.details["pid"])
            right(model)
    """
    assert run(["-c", program(body)], site) == ["True", "interrupted True", "True True"] * 2


def kill_children(times: int, site: Path) -> None:
    before = open_files()
    with load(peril(counts=False)) as model:
        x = np.arange(3, dtype=np.float32)
        for number in range(times):
            pid = model.runtime.details["pid"]
            os.kill(pid, signal.SIGKILL)
            if number % 2:
                time.sleep(0.02)
            with contextlib.suppress(InferenceError):  # it was still there when the call was sent
                assert np.array_equal(model.infer(x, timeout=60)["y"], 2 * x)
            assert np.array_equal(model.infer(x)["y"], 2 * x)
            assert model.runtime.details["pid"] != pid
            assert children() == [model.runtime.details["pid"]]
    wait_for(lambda: not children(), "children are left")
    wait_for(lambda: not open_files() - before, "descriptors are left")


def test_children_that_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_children(5, install(tmp_path / "site", monkeypatch))


@pytest.mark.long
def test_children_that_are_killed_fifty_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_children(50, install(tmp_path / "site", monkeypatch))


def kill_programs(times: int, site: Path) -> None:
    """Kill a program while one child is idle, one at work, one hangs with the GIL held, and one is being started."""
    body = """
        idle, busy, hangs = load(), load(), load('{"do": "block"}')
        binding = idle.bind()
        threading.Thread(target=hangs.infer, args=(np.ones(3, "f"),), daemon=True).start()
        threading.Thread(target=lambda: [right(busy) for _ in range(10**9)], daemon=True).start()
        print(*(model.runtime.details["pid"] for model in (idle, busy, hangs)), flush=True)
        while True:
            load().close()
    """
    for number in range(times):
        arguments = [sys.executable, "-c", program(body)]
        with subprocess.Popen(arguments, env=environment(site), stdout=subprocess.PIPE, text=True) as started:
            assert started.stdout is not None
            pids = list(map(int, started.stdout.readline().split()))
            time.sleep(0.01 * (number % 30))
            pids += grandchildren(started.pid)
            started.kill()
        assert len(pids) >= 3
        for pid in pids:
            wait_for(lambda pid=pid: not is_ours(pid), f"{pid} has outlived its program")


def grandchildren(pid: int) -> list[int]:
    found: list[str] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    return list(map(int, found))


def test_programs_that_are_killed(site: Path) -> None:
    kill_programs(5, site)


@pytest.mark.long
def test_programs_that_are_killed_fifty_times(site: Path) -> None:
    kill_programs(50, site)


# Viam


def test_it_is_an_attribute_of_a_service(tmp_path: Path) -> None:
    digits = Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite"
    services = tmp_path / "robot.json"
    services.write_text(
        '{"services": [{"name": "digits", "type": "mlmodel", "model": "tflite_cpu", "attributes": '
        f'{{"model_path": "{digits}", "isolation": "process"}}}}]}}'
    )
    with accelerate.load_services(services)["digits"] as model:
        assert model.runtime.details["isolation"] == "process"
        assert model.runtime.details["pid"] in children()
