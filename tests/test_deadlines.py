"""Workers, and models whose caller has left. (What a caller sees of deadlines is in the conformance suite.)"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import engines
import numpy as np
import odd_models
import pytest

import accelerate


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "accelerate-worker"]


def wait_until_no_more_than(count: int) -> bool:
    end = time.monotonic() + 10
    while len(workers()) > count and time.monotonic() < end:
        time.sleep(0.01)
    return len(workers()) <= count


def test_the_worker_ends_with_its_model() -> None:
    before = len(workers())
    model = accelerate.load(odd_models.add3(), backend="tflite_cpu")
    x = np.ones(3, np.float32)
    for _ in range(3):
        model.infer(x, timeout=10)
    assert len(workers()) == before + 1  # one for all calls
    model.close()
    assert wait_until_no_more_than(before)


def test_a_forgotten_model_is_collected_with_its_worker() -> None:
    before = len(workers())
    model = accelerate.load(odd_models.add3(), backend="tflite_cpu")
    model.infer(np.ones(3, np.float32), timeout=10)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert wait_until_no_more_than(before)


def test_an_error_of_the_native_call_reaches_the_caller() -> None:
    with accelerate.load(odd_models.dynamic(), backend="tflite_cpu") as model:
        before = gc.isenabled()
        with pytest.raises(accelerate.TensorError):
            model.infer({"x": np.zeros((2, 4), np.float32)}, timeout=10)
        assert gc.isenabled() == before
        assert model.infer({"x": np.ones((2, 3), np.float32)}, timeout=10)["y"].tolist() == [[2] * 3] * 2


def test_the_program_ends_though_a_call_still_runs(tmp_path: Path) -> None:
    (tmp_path / "slow.tflite").write_bytes(odd_models.slow(3.0))
    program = (
        "import accelerate, numpy as np, sys\n"
        "model = accelerate.load(sys.argv[1], backend='tflite_cpu')\n"
        "try: model.infer(np.ones(1, np.float32), timeout=0.05)\n"
        "except accelerate.InferenceTimeoutError: print('left')\n"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "slow.tflite")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr
    assert time.monotonic() - started < 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_a_worker_of_its_own() -> None:
    with accelerate.load(odd_models.add3(), backend="tflite_cpu") as model:
        x = np.ones(3, np.float32)
        model.infer(x, timeout=10)
        child = os.fork()
        if child == 0:  # no pytest in here: leave by _exit whatever happens
            try:
                os._exit(0 if model.infer(x, timeout=10)["y"].tolist() == [2, 2, 2] else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_conversion_of_inputs_counts() -> None:
    with accelerate.load(odd_models.slow(0.5), backend="tflite_cpu") as model:
        (info,) = model.metadata().inputs

        class Slowly:
            """An input that takes its time to become an array."""

            def __array__(self, *_: Any, **__: Any) -> Any:
                time.sleep(0.4)
                return np.ones([max(n, 1) for n in info.shape], np.float32)

        started = time.monotonic()
        with pytest.raises(accelerate.InferenceTimeoutError):
            model.infer(Slowly(), timeout=0.45)
        assert time.monotonic() - started < 0.8  # 0.4 for the conversion, and not 0.45 on top of it


@pytest.mark.parametrize("backend", ["tflite_cpu", "onnxruntime"])
def test_a_binding_that_is_closed_while_a_run_waits_does_not_run(backend: str) -> None:
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime")
        slow = pytest.importorskip("odd_onnx", reason="needs onnx").slow
    else:
        slow = odd_models.slow
    with accelerate.load(slow(0.5), backend=backend) as model:
        binding = model.bind()
        outcomes: list[object] = []

        def second() -> None:
            try:
                binding.run(timeout=30)
                outcomes.append("it ran")
            except accelerate.ClosedError as error:
                outcomes.append(error)

        first = threading.Thread(target=binding.run)
        first.start()
        time.sleep(0.1)
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.1)
        binding.close()
        first.join()
        waiting.join()
        assert isinstance(outcomes[0], accelerate.ClosedError)


def test_a_conversion_that_takes_all_the_time_is_named() -> None:
    class Slowly:
        def __array__(self, *_: Any, **__: Any) -> Any:
            time.sleep(0.2)
            return np.ones(3, np.float32)

    with accelerate.load(odd_models.add3(), backend="tflite_cpu") as model:
        with pytest.raises(accelerate.InferenceTimeoutError, match=r"within 0\.1 s: the conversion"):
            model.infer(Slowly(), timeout=0.1)
        assert model.do_command({"command": "stats"})["errors"] == 1


# A program that ends while a call still runs


def program(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("engine", engines.INSTALLED)
def test_the_interpreters_stand_the_end_of_the_program(engine: str) -> None:
    """Nobody cancels their call or waits for it: it returns into an interpreter that is being finalised."""
    code = f"""
        import accelerate, numpy as np, odd_models, time

        class Last:
            def __init__(self): self.sleep, self.say = time.sleep, print
            def __del__(self):
                self.sleep(5)
                self.say("ended", flush=True)

        model = accelerate.load(odd_models.slow(0.5), backend="tflite_cpu", engine={engine!r})
        last = Last()
        try:
            model.infer(np.ones(1, np.float32), timeout=0.05)
        except accelerate.InferenceTimeoutError:
            print("left", flush=True)
    """
    done = program(code)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["left", "ended"], "")


def test_the_end_of_the_program_cancels_and_waits_for_guarded_calls() -> None:
    code = """
        import os, threading, time
        from accelerate.calls.deadlines import guarded

        cancelled, told, begun = [], threading.Event(), threading.Barrier(4)

        def refuse():
            raise RuntimeError("a cancel that fails stops nothing")

        def cancel():
            cancelled.append(True)
            told.set()

        def work():
            begun.wait(30)
            told.wait(30)
            time.sleep(0.2)
            os.write(1, b"%d ended\\n" % len(cancelled))

        for call in (guarded(work, refuse), guarded(work, cancel), guarded(work, cancel)):
            threading.Thread(target=call, daemon=True).start()
        begun.wait(30)
    """
    done = program(code)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, ["2 ended"] * 3, "")


def test_a_guarded_call_that_begins_at_the_end_is_refused() -> None:
    code = """
        import atexit

        def late():
            try:
                guarded(print, print)()
            except accelerate.ClosedError as error:
                print(error)

        atexit.register(late)  # what was registered first comes last
        import accelerate
        from accelerate.calls.deadlines import guarded
    """
    done = program(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the program is ending\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_does_not_wait_for_its_parents_calls() -> None:
    code = """
        import os, threading, time, warnings
        from accelerate.calls.deadlines import guarded

        warnings.simplefilter("ignore")
        told = threading.Event()
        threading.Thread(target=guarded(lambda: told.wait(30), told.set), daemon=True).start()
        time.sleep(0.1)
        began = time.monotonic()
        if child := os.fork():
            os.waitpid(child, 0)
            print(time.monotonic() - began < 2)
    """
    done = program(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
