"""`accelerate.tune`: what is measured, what is dropped, what is chosen, and that it ends cleanly however it ends."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engines
import numpy as np
import odd_models
import pytest
from conftest import ROOT
from tune_backends import MODEL, Install, install, model

import accelerate
from accelerate import InferenceError, ModelError, NoBackendError, OptionError, TensorError, measurements, tuning
from accelerate.bench import candidates, turns

__all__ = ["install", "model"]  # fixtures

DATA = Path(accelerate.__file__).parent / "data"
WITH_LITERT = pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT is not installed here")


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take short turns, on a machine of two CPUs, with a cache of the test's own."""
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(turns, "_ROUND", 0.004)
    monkeypatch.setattr(turns, "is_steady", lambda medians: len(medians) >= 2)
    monkeypatch.setattr(candidates, "usable_cpus", lambda: 2)
    yield
    left = [path.name for path in (tmp_path / "cache").glob("tuned/*.*")]
    assert not left, "drafts"


def tune(*given: Any, **options: Any) -> accelerate.Tuning:
    return accelerate.tune(*given, **{"seconds": 0.02, **options})


def chosen(found: accelerate.Tuning) -> tuple[str, str, int | None]:
    return found.chosen.backend, found.chosen.device, found.chosen.num_threads


def test_the_fastest_that_agrees_is_chosen_and_loaded(install: Install, model: Path) -> None:
    own = install("own", own=True, ms=4.0)
    fast = install("fast", kind="npu", ms=1.0)
    wrong = install("wrong", kind="gpu", ms=0.1, compute=lambda x: -x)
    broken = install("broken", kind="tpu")
    broken.load = lambda source, options: (_ for _ in ()).throw(InferenceError("the driver is too old", "update it"))
    assert accelerate.plan(model).chosen.backend == "broken"  # type: ignore[union-attr]

    found = tune(model)

    assert chosen(found) == ("fast", "npu", None)
    assert [(one.backend, one.num_threads) for one in found.results][1:] == [
        *((("own", 2), ("own", 1)) if found.results[1].num_threads == 2 else (("own", 1), ("own", 2))),
        ("wrong", None),
        ("broken", None),
    ]
    rows = {(one.backend, one.num_threads): one for one in found.results}
    assert (rows["own", 1].agrees, rows["own", 1].reason) == (True, "the reference")
    assert rows["own", 1].ratio > 1  # type: ignore[operator]
    assert rows["fast", None].ratio == 1
    assert rows["fast", None].p50_ms >= 1  # type: ignore[operator]
    assert (rows["fast", None].top1, rows["fast", None].difference) == (1.0, 0.0)
    dropped = rows["wrong", None]
    assert dropped.agrees is False
    assert dropped.p50_ms is not None
    assert dropped.p50_ms < rows["fast", None].p50_ms  # type: ignore[operator]
    assert dropped.reason.startswith("disagrees: top-1 is equal on 0 % of the inputs, answers differ by up to ")
    assert "inputs of your own" in dropped.remedy
    failed = rows["broken", None]
    assert (failed.p50_ms, failed.agrees, failed.reason, failed.remedy) == (
        *(None, None, "the driver is too old", "update it"),
    )
    assert found.line == f'accelerate.load("{model}", backend="fast", device="npu")'
    assert (found.stored, found.note, found.inputs) == (True, "", "8 random inputs")
    assert not own.open + fast.open + wrong.open
    lines = str(found).splitlines()
    assert lines[0].split() == ["backend", "device", "threads", "p50", "p99", "ratio", "why"]
    assert [line.split()[:2] for line in lines[1:6]] == [
        *(["->", "fast"], ["ok", "own"], ["ok", "own"], ["no", "wrong"], ["no", "broken"])
    ]
    assert lines[6] == f"without tune: {found.line}"

    plan = accelerate.plan(model)
    assert plan.chosen is not None
    assert plan.chosen.reason.startswith("tuned on 20")
    assert "times as fast as the next; a toy model; Toy 1 on npu" in plan.chosen.reason
    assert [one.backend for one in plan.candidates] == ["fast", "broken", "wrong", "own"]
    with accelerate.load(model) as loaded, eval(found.line) as same:
        assert (loaded.backend, loaded.device) == (same.backend, same.device) == ("fast", "npu")
        assert loaded.runtime.details["tuned"] in plan.chosen.reason
        assert "tuned" not in same.runtime.details


def test_one_that_is_wrong_is_never_chosen_though_nothing_else_is_left(install: Install, model: Path) -> None:
    own = install("own", own=True, ms=1.0)
    install("wrong", kind="gpu", ms=0.1, compute=lambda x: -x)
    calls = []

    def compute(x: Any) -> Any:
        calls.append(x)
        if len(calls) > 30:  # the answers are known, and it is being measured
            raise InferenceError("the memory is gone")
        return x * 2

    own.compute = compute
    with pytest.raises(NoBackendError, match="disagrees: top-1 is equal on 0 %") as refused:
        tune(model)
    assert {one.backend for one in refused.value.plan.skipped} >= {"own", "wrong"}
    assert not list(measurements.stored())


def test_the_plan_says_how_far_the_answers_are_apart(install: Install, model: Path) -> None:
    install("own", own=True, ms=1.0)
    install("near", kind="gpu", ms=0.1, compute=lambda x: x * 2 * 1.01)
    found = tune(model)
    plan = accelerate.plan(model)
    assert plan.chosen is not None
    assert plan.chosen.backend == "near"
    said = re.search(r", answers within ([\d.]+) % of an output's range;", plan.chosen.reason)
    assert said is not None
    assert float(said[1]) / 100 == pytest.approx(found.chosen.difference, rel=0.05)
    assert 0.2 < float(said[1]) <= 1.0


@pytest.mark.parametrize(
    ("compute", "agrees"),
    [
        (lambda x: x * 2 * 1.04, True),  # the order of the scores is the same
        (lambda x: x * 200, True),
        (lambda x: -x, False),
        (lambda x: x * 0, False),  # all classes tie
        (lambda x: x * 2 + np.float32(0.01) * np.arange(4, dtype=np.float32), True),  # little of the range
        (lambda x: x * np.float32("nan"), False),
        (lambda x: x[:, :2], False),
    ],
)
def test_what_agrees(install: Install, model: Path, compute: Any, agrees: bool) -> None:
    install("own", own=True, ms=0.5)
    install("other", kind="gpu", ms=0.1, compute=compute)
    found = tune(model)
    (other,) = (one for one in found.results if one.backend == "other")
    if other.p50_ms is None:  # an answer of another shape is the backend's own mistake
        assert not agrees
    else:
        assert other.agrees is agrees
    assert found.chosen.backend == ("other" if agrees else "own")


def test_without_a_cpu_nothing_is_compared(install: Install, model: Path) -> None:
    install("one", kind="gpu", ms=1.0)
    install("two", kind="npu", ms=0.2)
    install("own", own=True, here=False)
    found = tune(model)
    assert chosen(found) == ("two", "npu", None)
    assert {one.agrees for one in found.results} == {None}
    assert found.reference == ""
    assert found.chosen.reason == "the fastest; nothing here to compare its answers with"


def test_the_reference_is_the_files_own_engine(install: Install, model: Path) -> None:
    install("another", ms=0.2, compute=lambda x: -x)
    install("own", own=True, ms=0.4)
    assert tune(model).reference == "own on cpu, 1 thread"


def test_what_its_own_engine_refuses_makes_nobody_right(install: Install, model: Path) -> None:
    def refuse(x: Any) -> Any:
        raise InferenceError("no such index")

    own = install("own", own=True, ms=0.5, compute=refuse)
    install("another", ms=0.1, compute=lambda x: x * 0)
    found = tune(model)
    assert (found.chosen.backend, found.reference, found.stored) == ("another", "another on cpu, 1 thread", False)
    assert "it is not stored: own on cpu, 1 thread fails on 8 random inputs" in found.note
    assert not list(measurements.stored())
    own.load = lambda source, options: 1 / 0  # that it cannot be loaded at all says nothing of the inputs
    assert tune(model).stored


def test_a_reference_that_disagrees_with_itself(install: Install, model: Path) -> None:
    factors = iter([2] * 8)  # of the answers that the others are compared with
    install("own", own=True, ms=0.2, compute=lambda x: x * next(factors, -1))
    install("fast", kind="gpu", ms=0.1)
    found = tune(model)
    assert found.chosen.backend == "fast"
    (reference,) = (one for one in found.results if one.num_threads == 1)
    assert reference.reason.startswith("disagrees: top-1 is equal on 0 % of the inputs")


# Threads


def test_numbers_of_threads(install: Install, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "usable_cpus", lambda: 6)
    monkeypatch.setattr(tuning, "_AS_FAST", 1.5)  # on a busy machine a sleep of 5 ms is none of 5.1
    own = install("own", own=True, ms=10.0, best=2)
    install("gpu", kind="gpu", ms=15.0)
    found = tune(model, seconds=0.05)
    assert {(one.backend, one.num_threads) for one in found.results} == {
        *(("own", count) for count in (1, 2, 4, 6)),
        ("gpu", None),
    }
    assert chosen(found) == ("own", "cpu", 2), "4 and 6 are as fast"
    with accelerate.load(model) as loaded:
        assert loaded.runtime.details["num_threads"] == 2
    assert "with 2 threads" in accelerate.plan(model).chosen.reason  # type: ignore[union-attr]
    with accelerate.load(model, replicas=3):
        assert {options.num_threads for options in own.loaded[-3:]} == {
            min(2, max(1, accelerate.contract.usable_cpus() // 3))
        }
    own.match = lambda source, options: accelerate.Match(options.num_threads is None, "threads are settled")
    assert {one.num_threads for one in tune(model).results} == {None}


def test_a_number_that_is_given_is_the_only_one(install: Install, model: Path) -> None:
    own = install("own", own=True, ms=0.2, best=4)
    found = tune(model, num_threads=3)
    assert [(one.backend, one.num_threads) for one in found.results] == [("own", None)]
    assert {options.num_threads for options in own.loaded} == {3}
    assert found.line.endswith('backend="own", device="cpu", num_threads=3)')
    assert not (accelerate.plan(model).chosen.reason).startswith("tuned")  # type: ignore[union-attr]
    assert accelerate.plan(model, num_threads=3).chosen.reason.startswith("tuned")  # type: ignore[union-attr]


def test_devices_that_auto_leaves_out_are_candidates(install: Install, model: Path) -> None:
    install("own", own=True, ms=1.0)
    install("slow_start", kind="gpu", ms=0.2, named=("engine:0",), here=False)
    assert [one.device for one in accelerate.plan(model).candidates] == ["cpu"]
    assert chosen(tune(model)) == ("slow_start", "engine:0", None)
    with accelerate.load(model) as loaded:
        assert loaded.device == "engine:0"
    assert [one.device for one in tune(model, device="cpu").results] == ["cpu", "cpu"]


# Inputs


def test_inputs_of_the_callers_own(install: Install, model: Path) -> None:
    seen: list[Any] = []
    own = install("own", own=True, ms=0.2)

    def noted(x: Any) -> Any:
        seen.append(x.tolist())
        return x * 2

    own.compute = noted
    install("sometimes", kind="gpu", ms=0.1, compute=lambda x: np.where(x > 5, 0, x * 2).astype(np.float32))
    inputs = [np.array([[1, 2, 3, 4]], np.float32), {"x": [[4.0, 3, 2, 1]]}, np.array([3.0, 1, 4, 1])]
    found = tune(model, inputs=inputs)
    assert found.inputs == "3 inputs of yours"
    assert found.chosen.backend == "sometimes"
    assert {tuple(x[0]) for x in seen} == {(1, 2, 3, 4), (4, 3, 2, 1), (3, 1, 4, 1)}
    found = tune(model, inputs=[*inputs, np.array([[1, 2, 9, 4]], np.float32)])
    assert found.chosen.backend == "own"
    (other,) = (one for one in found.results if one.backend == "sometimes")
    assert "top-1 is equal on 75 % of the inputs" in other.reason
    assert other.remedy == ""
    assert tune(model, inputs=np.ones((1, 4), np.float32)).inputs == "1 input of yours"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([np.ones((1, 4), np.float32), np.ones((1, 5), np.float32)], r"inputs\[1\]: input 'x'"),
        ({"z": [1, 2, 3, 4]}, "inputs: the model has no input 'z'"),
        ({}, "inputs: input 'x' is missing"),
        ("cat.png", "inputs: input 'x'"),
    ],
)
def test_inputs_that_do_not_fit(install: Install, model: Path, inputs: Any, message: str) -> None:
    own = install("own", own=True)
    with pytest.raises(TensorError, match=message):
        tune(model, inputs=inputs)
    assert not own.open
    assert not list(measurements.stored())


def test_wrong_arguments(install: Install, model: Path) -> None:
    install("own", own=True)
    for seconds in (0, -1, float("nan"), float("inf"), "2", None, True):
        with pytest.raises(OptionError, match="seconds is "):
            tune(model, seconds=seconds)
    with pytest.raises(OptionError, match="empty list"):
        tune([])
    with pytest.raises(OptionError, match="inputs is an empty list"):
        tune(model, inputs=[])
    with pytest.raises(OptionError, match="no option 'colour'"):
        tune(model, colour="red")
    with pytest.raises(accelerate.BackendNotAvailableError, match="no backend 'abacus'"):
        tune(model, backend="abacus")
    with pytest.raises(accelerate.ModelNotFoundError):
        tune(model.with_name("gone"))


# What nothing runs


def test_what_nothing_runs(install: Install, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("buy milk\n")
    with pytest.raises(ModelError, match="text file that starts with 'buy milk"):
        tune(text)
    install("own", own=True, here=False)
    with pytest.raises(NoBackendError, match="own finds no device") as refused:
        tune(model)
    assert refused.value.plan.chosen is None
    with pytest.raises(NoBackendError, match="has no device 'warp:9'"):
        tune(model, device="warp:9")


# How it ends


def test_interrupted_it_leaves_nothing(install: Install, model: Path) -> None:
    own, calls = install("own", own=True, ms=0.1), []

    def compute(x: Any) -> Any:
        calls.append(x)
        if len(calls) == 60:
            raise KeyboardInterrupt
        return x

    own.compute = compute
    with pytest.raises(KeyboardInterrupt):
        tune(model)
    assert not own.open
    assert not list(measurements.stored())


def test_two_at_once(install: Install, model: Path) -> None:
    own = install("own", own=True, ms=0.1)
    found: list[accelerate.Tuning] = []
    threads = [threading.Thread(target=lambda: found.append(tune(model))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.stored for one in found] == [True] * 4
    ((kept, reason),) = measurements.stored()
    assert (kept.backend, reason, own.open) == ("own", "", [])


def test_only_tune_measures(install: Install, model: Path) -> None:
    own = install("own", own=True)
    accelerate.plan(model)
    with accelerate.load(model):
        assert len(own.loaded) == 1
    program = (
        "import sys, accelerate; accelerate.load(sys.argv[1]).close(); print([m for m in sys.modules if 'bench' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(DATA / "digits_uint8.tflite")], cwd=ROOT, capture_output=True, text=True
    )
    if "litert" in engines.INSTALLED:
        assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")
def test_in_isolation_a_crash_is_a_row(install: Install, model: Path) -> None:
    install("own", own=True, body="ms = 1.0")
    crash = "def compute(self, x): import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    install("crashing", kind="gpu", body=crash)
    install("fast", kind="npu", body="ms = 0.1")
    found = tune(model, isolation="process")
    assert found.chosen.backend == "fast"
    (crashed,) = (one for one in found.results if one.backend == "crashing")
    assert crashed.p50_ms is None
    assert "SIGSEGV" in crashed.reason
    assert found.line == f'accelerate.load("{model}", backend="fast", device="npu", isolation="process")'
    with accelerate.load(model) as loaded:
        assert loaded.backend == "fast"


# Twins, and what is not stored


@WITH_LITERT
def test_twins_of_a_model(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    paths = []
    for name in ("digits_uint8.tflite", "digits.onnx"):
        paths.append(tmp_path / name)
        paths[-1].write_bytes((DATA / name).read_bytes())
    other = tmp_path / "other.toy"
    other.write_bytes(MODEL)
    backends = ["tflite_cpu", "onnxruntime"]
    found = tune([*paths, other], backend=backends)
    assert {one.source for one in found.results} == {"digits_uint8.tflite", "digits.onnx", "other.toy"}
    assert found.reference.startswith("tflite_cpu on cpu")
    assert "a backend was named" in found.note
    assert next(one for one in found.results if one.source == "other.toy").p50_ms is None
    digit = np.random.default_rng(1).integers(0, 256, (8, 8, 1), np.uint8)
    found = tune(paths, inputs=[digit])
    assert found.stored
    entries = {Path(one.path).name: one for one, _ in measurements.stored()}
    assert entries.keys() == {"digits_uint8.tflite", "digits.onnx"}
    assert accelerate.plan(paths[1]).chosen.reason.startswith("tuned on ")  # type: ignore[union-attr]
    with eval(found.line) as loaded:
        assert loaded.backend == found.chosen.backend
    measured = [one for one in found.results if one.p50_ms is not None]
    assert {one.source for one in measured} == {"digits_uint8.tflite", "digits.onnx"}
    for one in measured:
        assert one.agrees is not None
        assert found.chosen.p50_ms <= 1.03 * one.p50_ms or not one.agrees  # type: ignore[operator]


@WITH_LITERT
def test_a_model_that_keeps_state_is_compared_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "lstm.tflite"
    path.write_bytes(odd_models.lstm(4))
    found = tune([path, path], backend="tflite_cpu")
    assert [(one.agrees, one.difference) for one in found.results] == [(True, 0.0)] * 2


def test_another_network_is_no_twin(install: Install, model: Path, tmp_path: Path) -> None:
    install("own", own=True, ms=0.1)
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    found = tune([model, DATA / "digits.onnx"])
    assert found.chosen.source == "net.toy"
    assert {one.p50_ms is None or one.agrees is False for one in found.results if one.source == "digits.onnx"} == {True}


def test_what_is_not_stored_says_why(install: Install, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("own", own=True, ms=0.1)
    assert tune(model, store=False).note == "it is not stored: store=False"
    assert "<64 bytes> is no file" in tune(MODEL).note
    with model.open("rb") as file:
        assert "<64 bytes> is no file" in tune(file).note
    assert "a backend was named" in tune(model, backend="own").note
    assert "an option of the backend is an object" in tune(model, mode=object()).note
    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", "own")
    assert "a backend was named" in tune(model).note
    monkeypatch.delenv("EDGE_ACCELERATE_BACKEND")
    assert not list(measurements.stored())
    monkeypatch.setenv("EDGE_ACCELERATE_TUNED", "0")
    found = tune(model)
    assert (found.stored, found.note) == (True, "EDGE_ACCELERATE_TUNED=0 keeps load from going by it")
    assert not accelerate.plan(model).chosen.reason.startswith("tuned")  # type: ignore[union-attr]
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", "/proc/nobody-writes-here")
    assert "it is not stored: the cache folder cannot be used: " in tune(model).note


def test_the_line_tells_no_secrets(install: Install, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("own", own=True, ms=0.1)
    monkeypatch.setattr(tuning, "_AS_FAST", 100.0)  # one thread
    found = tune(model, mode="hunter2", label_path=None, signature=None, strict=True)
    assert (
        found.line == f'accelerate.load("{model}", backend="own", device="cpu", num_threads=1, mode=..., strict=True)'
    )
    (kept,) = (Path(os.environ["EDGE_ACCELERATE_CACHE"]) / "tuned").iterdir()
    assert b"hunter2" not in kept.read_bytes()


def test_a_winner_that_cannot_load_is_passed_over(
    install: Install, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install("own", own=True, ms=1.0)
    fast = install("fast", kind="npu", ms=0.1)
    assert chosen(tune(model)) == ("fast", "npu", None)
    for error in (accelerate.DeviceLostError("it was pulled out"), OptionError("too many"), ValueError("odd")):
        fast.load = lambda source, options, error=error: (_ for _ in ()).throw(error)
        with caplog.at_level(logging.WARNING, "accelerate"), accelerate.load(model) as loaded:
            assert loaded.backend == "own"
            assert "tuned" not in loaded.runtime.details
            assert "fast on npu" in loaded.runtime.details["passed_over"][0]
        assert "own on cpu runs" in caplog.text
