"""Failover on real engines: a server killed under load, a device that is lost and comes back, children that crash."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import edgetpu_stand_in as stand_in
import numpy as np
import odd_models
import pytest
from ai_edge_litert import schema_py_generated as schema
from calling_threads import CallingThreads
from conftest import ROOT
from flaky_backend import eventually, watchers
from perilous_backend import install, peril
from tflite_writer import Graph, build
from triton_server import TritonServer, needs_triton

import accelerate
from accelerate import Model, OptionError

DATA = Path(accelerate.__file__).parent / "data"
#: Seconds that a call may take beyond its timeout on a machine that starts servers meanwhile.
GRACE = 0.5
TIMEOUT = 2.0


def add() -> bytes:
    """Float32 a, b [10, 10] -> y = a + b: what the server's model of this name computes, to the last bit."""
    graph = Graph()
    graph.inputs = [graph.tensor(name, (10, 10), "float32") for name in "ab"]
    graph.outputs = [graph.tensor("y", (10, 10), "float32")]
    graph.op("ADD", graph.inputs, graph.outputs, schema.AddOptionsT())
    return build([graph])


def double() -> bytes:
    """Float32 x [1, 4] -> y = x + x."""
    graph = Graph()
    graph.inputs, graph.outputs = [graph.tensor("x", (1, 4), "float32")], [graph.tensor("y", (1, 4), "float32")]
    graph.op("ADD", [*graph.inputs, *graph.inputs], graph.outputs, schema.AddOptionsT())
    return build([graph])


def one_sum(random: Any) -> tuple[dict[str, Any], Any]:
    a, b = random.random((2, 10, 10), np.float32)
    return {"a": a, "b": b}, a + b


def one_double(random: Any) -> tuple[dict[str, Any], Any]:
    x = random.random((1, 4), np.float32)
    return {"x": x}, x + x


class Load(CallingThreads):
    """Threads that call a model until told to stop, and check every answer."""

    def __init__(self, model: Model, threads: int, make: Callable[[Any], tuple[dict[str, Any], Any]]) -> None:
        self.calls = 0
        self.lost: list[BaseException] = []
        self.wrong: list[object] = []
        self.longest = 0.0
        self._model, self._make = model, make
        self._lock = threading.Lock()
        super().__init__(threads)

    def call_once(self, random: np.random.Generator) -> None:
        given, wanted = self._make(random)
        started = time.monotonic()
        try:
            answer = self._model.infer(given, timeout=TIMEOUT)["y"]
        except Exception as error:  # whatever it is, the call is lost
            self.lost.append(error)
            time.sleep(0.01)
        else:
            if not np.array_equal(answer, wanted):
                self.wrong.append((given, answer))
        with self._lock:
            self.calls += 1
            self.longest = max(self.longest, time.monotonic() - started)

    def check(self) -> None:
        print(f"{self.calls} calls, the longest took {self.longest:.3f} s")
        assert (self.lost, self.wrong) == ([], [])
        assert self.longest <= TIMEOUT + GRACE
        assert self.calls > 100


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Put the stand-in in the Edge TPU's place; return what tells it how to behave."""
    from accelerate.backends.edgetpu import model

    monkeypatch.setenv("EDGE_ACCELERATE_EDGETPU_LIBRARY", stand_in.library())
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(model, "_SETTLING", 0.05)
    gc.collect()

    def tell(**settings: str) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"EDGETPU_STAND_IN_{name}", value)

    return tell


def answers_from(model: Model, backend: str, seconds: float = 20) -> None:
    assert eventually(lambda: model.backend == backend, seconds), (model.backend, model.runtime.details["lost"])


ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.long)])


@needs_triton
@pytest.mark.slow
@ROUNDS
def test_a_server_killed_and_stopped_under_load(rounds: int) -> None:
    pytest.importorskip("tritonclient.grpc")
    with TritonServer() as server:
        url = f"triton://{server.url}/add"
        with accelerate.load(url, backend="triton", failover=[{"source": add(), "backend": "tflite_cpu"}]) as model:
            calls = Load(model, 4, one_sum)
            with calls.running():
                for _ in range(rounds):
                    time.sleep(0.3)
                    server.kill()
                    answers_from(model, "tflite_cpu")
                    time.sleep(0.2)
                    server.restart()
                    answers_from(model, "triton")
                os.kill(server.pid, signal.SIGSTOP)  # it hangs, which only deadlines tell
                try:
                    answers_from(model, "tflite_cpu")
                    time.sleep(0.3)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                answers_from(model, "triton")
            calls.check()
            assert model.do_command({"command": "stats"})["switches"] >= 2 * rounds + 2
            assert model.do_command({"command": "stats"})["errors"] == 0


@pytest.mark.slow
@ROUNDS
def test_a_device_that_is_lost_and_comes_back_under_load(rounds: int, device: Callable[..., None]) -> None:
    entry = {"source": double(), "backend": "tflite_cpu"}
    with accelerate.load(stand_in.floats([1, 4]), backend="edgetpu", failover=[entry]) as model:
        calls = Load(model, 4, one_double)
        with calls.running():
            for _ in range(rounds):
                time.sleep(0.1)
                device(DEVICES="")
                answers_from(model, "tflite_cpu")
                time.sleep(0.1)
                device(DEVICES="usb")
                answers_from(model, "edgetpu")
        calls.check()
        assert model.do_command({"command": "stats"})["switches"] >= 2 * rounds


@needs_triton
@pytest.mark.slow
def test_a_failover_of_three(device: Callable[..., None]) -> None:
    pytest.importorskip("tritonclient.grpc")
    with TritonServer(models=("double_float32",)) as server:
        url = f"triton://{server.url}/double_float32"
        entries = [
            {"source": stand_in.floats([1, 4]), "backend": "edgetpu"},
            {"source": double(), "backend": "tflite_cpu"},
        ]
        with accelerate.load(url, backend="triton", shapes={"x": [1, 4]}, failover=entries) as model:
            calls = Load(model, 4, one_double)
            with calls.running():
                time.sleep(0.2)
                server.kill()
                answers_from(model, "edgetpu")
                device(DEVICES="")
                answers_from(model, "tflite_cpu")
                server.restart()
                answers_from(model, "triton")
                server.kill()  # while the device is still away
                answers_from(model, "tflite_cpu")
                device(DEVICES="usb")
                answers_from(model, "edgetpu")
            calls.check()


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.long)])
def test_eight_threads_through_all_wrappers(count: int) -> None:
    """failover(replicas(isolation)) answers like the plain model."""
    if sys.platform != "linux":
        pytest.skip("isolation is for Linux")
    source = DATA / "digits_uint8.tflite"
    options: dict[str, Any] = {"backend": "tflite_cpu", "replicas": 2, "isolation": "process"}
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 1, 8, 8, 1), np.uint8)
    with accelerate.load(source, backend="tflite_cpu") as plain:
        wanted = [[plain.infer(frame)["scores"] for frame in some] for some in frames]
    with accelerate.load(source, **options, failover=[{"backend": "tflite_cpu", "isolation": None}]) as model:

        def calls(place: int) -> int:
            right = 0
            for n in range(count):
                answer = model.infer(frames[place][n % 64], timeout=None if n % 2 else 30)["scores"]
                right += np.array_equal(answer, wanted[place][n % 64])
            return right

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(calls, range(8))) == [count] * 8
        assert model.runtime.details["replicas"] == 2
        assert model.do_command({"command": "stats"})["switches"] == 0


def test_a_child_that_crashes_costs_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("isolation is for Linux")
    install(tmp_path / "site", monkeypatch)
    entry = {"source": odd_models.add3(), "backend": "tflite_cpu", "isolation": None}
    with accelerate.load(peril(do="crash", every=5), backend="peril", isolation="process", failover=[entry]) as model:
        for n in range(40):
            x = np.random.default_rng(n).random(3).astype(np.float32)
            np.testing.assert_array_equal(model.infer(x)["y"], x + x)
            time.sleep(0.01)
        said = model.do_command({"command": "stats"})
        assert (said["errors"], said["calls"]) == (0, 40)
        assert said["switches"] >= 1


def loaded_in_another_process(model: Model, frame: Any) -> tuple[int, Any, Any]:
    with model:
        return os.getpid(), model.infer(frame)["scores"], [row.name for row in model.metadata().inputs]


def test_it_goes_to_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    frame = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1)).astype(np.uint8)
    monkeypatch.chdir(tmp_path)
    Path("near.tflite").write_bytes((DATA / "digits_uint8.tflite").read_bytes())
    Path("far.onnx").write_bytes((DATA / "digits.onnx").read_bytes())
    Path("labels.txt").write_text("\n".join("abcdefghij"))
    far = {"source": "far.onnx", "normalization": (127.5, 127.5), "shapes": {"image": [1, 1, 8, 8]},
           "label_path": "labels.txt"}  # fmt: skip
    with (DATA / "digits_float.tflite").open("rb") as file:
        given: dict[str, Any] = {"failover": [far, {"source": file}, "onnxruntime"]}
        loaded = accelerate.load("near.tflite", label_path="labels.txt", dequantize=True, **given)
    with loaded as model:
        monkeypatch.chdir("/")
        assert len(model._roster.models()) == 3  # type: ignore[attr-defined]
        wanted = model.infer(frame)["scores"]
        again = pickle.loads(pickle.dumps(model))
        with again:
            assert len(again._roster.models()) == 3
            assert again.metadata().labels == tuple("abcdefghij")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pid, scores, names = pool.submit(loaded_in_another_process, model, frame).result()
        assert (pid == os.getpid(), names) == (False, ["image"])
        np.testing.assert_array_equal(scores, wanted)


def test_what_cannot_go_to_another_process_says_so() -> None:
    interpreter_class = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    existing = interpreter_class(model_path=str(DATA / "digits_float.tflite"))
    entry = {"source": existing, "normalization": (127.5, 127.5)}
    with accelerate.load(DATA / "digits_float.tflite", failover=[entry]) as model:
        assert len(model._roster.models()) == 2  # type: ignore[attr-defined]
        with pytest.raises(OptionError, match="as failover= of its load cannot"):
            pickle.dumps(model)


FORKS = """
import os, sys, time
import numpy as np
import accelerate

x = np.random.default_rng(0).random(3).astype(np.float32)
sys.path.insert(0, {tests!r})
import odd_models
second = {{"backend": "tflite_cpu", "num_threads": 2}}
model = accelerate.load(odd_models.add3(), backend="tflite_cpu", failover=[second])
binding = model.bind()

def right():
    binding.inputs["x"][...] = x
    binding.run(timeout=30)
    return bool((model.infer(x)["y"] == x + x).all() and (binding.outputs["y"] == x + x).all())

def threads(): return model.runtime.details["num_threads"]

print(right(), threads())
model._roster.models()[0].close()
print(right(), threads())           # the second one answers, and the first is being loaded again
sys.stdout.flush()
child = os.fork()
print(right())
end = time.monotonic() + 10
while threads() != 1 and time.monotonic() < end:
    time.sleep(0.01)
print(right(), threads())           # in both: nobody but this process's own thread has loaded it
if child:
    status = os.waitpid(child, 0)[1]
    print("child", os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_goes_on() -> None:
    program = FORKS.format(tests=str(ROOT / "tests"))
    path = os.pathsep.join((str(ROOT / "tools"), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["True 1", "True 2"]
    assert sorted(lines[2:]) == ["True", "True", "True 1", "True 1", "child 0"]


def test_a_service_with_entries(tmp_path: Path) -> None:
    """In a services file an entry is a name, or an object with the attributes of a service."""
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join("abcdefghij"))
    attributes = {
        "model_path": "${environment.MODELS}/digits_uint8.tflite",
        "label_path": str(labels),
        "dequantize": True,
        "failover": [
            "tflite_cpu",
            {
                "backend": "tflite_cpu",
                "model_path": "${environment.MODELS}/digits_float.tflite",
                "num_threads": 2.0,
                "tensor_name_remappings": {"inputs": {"image": "image"}},
            },
        ],
    }
    service = {"name": "s", "type": "mlmodel", "model": "edge-accelerate:mlmodel:tflite_cpu", "attributes": attributes}
    path = tmp_path / "robot.json"
    path.write_text(json.dumps({"services": [service]}))
    os.environ["MODELS"] = str(DATA)
    try:
        with accelerate.load_services(path)["s"] as model:
            models = model._roster.models()  # type: ignore[attr-defined]
            assert [one.runtime.details["num_threads"] for one in models] == [1, 1, 2]
            assert model.metadata().labels == tuple("abcdefghij")
        for wrong, said in (
            ({"num_thread": 1}, "failover[0]: there is no attribute 'num_thread' (did you mean 'num_threads'?)"),
            ({"model_path": 3}, "failover[0]: model_path is 3"),
            ("tflite", "failover[0]: there is no backend 'tflite' (did you mean 'tflite_cpu'?)"),
        ):
            attributes["failover"] = [wrong]
            path.write_text(json.dumps({"services": [service]}))
            with pytest.raises(OptionError) as caught:
                accelerate.load_services(path)
            assert str(caught.value).startswith(f"service 's' in {path}: {said}")
    finally:
        del os.environ["MODELS"]


@pytest.fixture(autouse=True)
def _nobody_left() -> Iterator[None]:
    yield
    gc.collect()
    assert eventually(lambda: not watchers())
