"""Models that stand in for each other, with a backend that fails on command: what a program sees of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flaky_backend as flaky
import numpy as np
import odd_models
import pytest
from conftest import ROOT
from flaky_backend import eventually, installed, watchers  # noqa: F401 - a fixture

import accelerate
from accelerate import (
    BackendNotAvailableError,
    ClosedError,
    DeviceLostError,
    DeviceNotFoundError,
    InferenceError,
    InferenceTimeoutError,
    Model,
    ModelError,
    NoBackendError,
    OptionError,
    ServerError,
    TensorError,
)
from accelerate.combined.failover.members import Member
from accelerate.combined.failover.roster import Roster

GRACE = 0.5  # seconds that a call may take beyond its deadline on a shared machine


pytestmark = pytest.mark.usefixtures("installed")


def load(*names: str, **options: Any) -> Model:
    first, *others = names
    return accelerate.load(flaky.write(first), failover=[{"source": flaky.write(name)} for name in others], **options)


def x(seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(1, 9, 3).astype(np.float32)


def answers(model: Model, seed: int = 0, **options: Any) -> bool:
    return bool((model.infer(x(seed), **options)["y"] == 2 * x(seed)).all())


def switches(model: Model) -> list[tuple[str, str]]:
    return [(one["from"], one["to"]) for one in model.runtime.details["failover"]]


# What switches, and the way back


@pytest.mark.parametrize(
    "error",
    [
        DeviceLostError("pulled out"),
        ServerError("gone"),
        InferenceError("crashed"),
        DeviceNotFoundError("not connected"),
        BackendNotAvailableError("no library"),
    ],
)
@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_call_that_meets_a_failure_is_answered_by_the_next(
    error: Any, timeout: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    with load("near", "far") as model:
        assert answers(model, timeout=timeout)
        assert (model.device, flaky.runs("far") > 0) == ("near:0", True)  # which is ready by then
        flaky.tell("near", error)
        assert answers(model, 1, timeout=timeout)
        assert (model.device, model.runtime.device) == ("far:0", "far:0")
        (lost,) = [record.message for record in caplog.records]
        assert lost == f"flaky on near:0 does not answer ({error}); flaky on far:0 answers from now on"
        assert model.runtime.details["lost"] == {"the first model": str(error)}
        flaky.tell("near", None)
        assert eventually(lambda: model.device == "near:0")
        assert answers(model, 2, timeout=timeout)
        assert eventually(lambda: len(caplog.records) == 2)
        (_, back) = [record.message for record in caplog.records]
        assert back.startswith("flaky on near:0 answers again, after ")
        assert switches(model) == [("flaky on near:0", "flaky on far:0"), ("flaky on far:0", "flaky on near:0")]
        first, second = model.runtime.details["failover"]
        assert first["reason"] == str(error)
        assert time.time() - 60 < first["time"] < second["time"] <= time.time()
        assert model.runtime.details["lost"] == {}
        statistics = model.do_command({"command": "stats"})
        assert (statistics["calls"], statistics["errors"], statistics["switches"]) == (3, 0, 2)


def test_calls_go_to_the_next_directly_while_the_first_is_lost() -> None:
    with load("near", "far") as model:
        flaky.tell("near", DeviceLostError("gone"))
        for n in range(20):
            assert answers(model, n)
            time.sleep(0.02)
        assert flaky.runs("near") < 10  # it is tried ever more rarely, and by no call
        assert flaky.runs("far") > 20


def test_a_mistake_of_the_caller_never_switches() -> None:
    with load("near", "far") as model:
        for given, timeout, error in (
            ({"z": x()}, None, TensorError),
            (np.zeros(7, np.float32), 1, TensorError),
            (x(), -1, OptionError),
        ):
            with pytest.raises(error):
                model.infer(given, timeout=timeout)
        assert model.do_command({"command": "stats"})["switches"] == 0
        assert model.do_command({"command": "stats"})["errors"] == 3


def test_what_all_raise_is_the_first_ones_and_switches_nothing() -> None:
    with load("near", "far", "last") as model:
        for name in ("near", "far", "last"):
            flaky.tell(name, InferenceError(f"{name} cannot compute that"))
        with pytest.raises(InferenceError, match="near cannot"):
            model.infer(x())
        assert (model.device, switches(model)) == ("near:0", [])
        flaky.tell("near", ServerError("gone"))  # it has not seen the input
        with pytest.raises(InferenceError, match="far cannot"):
            model.infer(x())
        assert model.device == "far:0"


def test_all_lost_and_back() -> None:
    with load("near", "far") as model:
        flaky.tell("near", DeviceLostError("near is gone"))
        flaky.tell("far", ServerError("far is gone"))
        with pytest.raises(DeviceLostError, match="near is gone"):
            model.infer(x())
        assert set(model.runtime.details["lost"]) == {"the first model", "failover[0]"}
        with pytest.raises(DeviceLostError, match="near is gone"):  # each is asked, for one may be back
            model.infer(x(), timeout=1)
        flaky.tell("far", None)
        assert answers(model)
        assert model.device == "far:0"
        flaky.tell("near", None)
        assert eventually(lambda: model.device == "near:0")


def test_a_model_that_somebody_has_closed_is_loaded_again() -> None:
    with load("near", "far") as model:
        flaky.newest("near").close()
        assert answers(model)
        assert model.device == "far:0"
        assert eventually(lambda: model.device == "near:0")
        assert flaky.loads("near") == 2
        assert answers(model)


def test_a_model_whose_file_has_changed_is_loaded_again() -> None:
    with load("near", "far") as model:
        flaky.tell("near", ModelError("somebody has written into the file"))
        assert answers(model)
        old = flaky.newest("near")
        flaky.tell("near", None)
        assert eventually(lambda: model.device == "near:0")
        assert old.turn.closed
        assert flaky.newest("near") is not old


def test_a_close_that_raises_costs_no_call_and_no_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(_: Any) -> None:
        raise RuntimeError("a stranger's mistake")

    with load("near", "far") as model:
        monkeypatch.setattr(flaky.Flaky, "release", release, raising=False)
        flaky.tell("near", ModelError("changed"))
        assert answers(model)
        assert eventually(lambda: flaky.loads("near") == 3), "tried twice, and closed each time"
        flaky.tell("near", None)
        assert eventually(lambda: model.device == "near:0")
        monkeypatch.undo()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), [(Member, "lose"), (Roster, "_arrange"), (Roster, "_attend")])
def test_ctrl_c_in_the_middle_of_a_switch(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool) -> None:
    with load("near", "far") as model:
        flaky.tell("near", DeviceLostError("gone"))
        inner = getattr(owner, name)

        def interrupted(*given: Any) -> None:
            monkeypatch.setattr(owner, name, inner)
            if after:
                inner(*given)
            raise KeyboardInterrupt

        monkeypatch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.infer(x())
        assert answers(model, 1)
        flaky.tell("near", None)
        assert eventually(lambda: (model.device, model.runtime.details["lost"]) == ("near:0", {}))
        assert answers(model, 2)


def test_a_failover_of_three_goes_down_and_up_again() -> None:
    with load("near", "middle", "far") as model:
        for lost, answering in (("near", "middle"), ("middle", "far")):
            flaky.tell(lost, ServerError("gone"))
            assert answers(model)
            assert model.device == f"{answering}:0"
        flaky.tell("near", None)
        assert eventually(lambda: model.device == "near:0")
        flaky.tell("near", ServerError("gone"))  # with the second one still lost
        assert answers(model)
        assert model.device == "far:0"
        flaky.tell("middle", None)
        assert eventually(lambda: model.device == "middle:0")
        assert answers(model)


# Failures that may be the input's fault


def fails_on(feeds: Any) -> None:
    if (feeds[0] < 0).any():
        raise InferenceError("index out of range")


def test_an_input_that_one_model_fails_on_does_not_switch_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    flaky.tell("near", fails_on)
    with load("near", "far") as model:
        assert (model.infer(-x())["y"] == -2 * x()).all()
        assert eventually(lambda: model.device == "near:0")
        for n in range(100):
            sign = -1 if n % 4 == 0 else 1
            assert (model.infer(sign * x(n))["y"] == sign * 2 * x(n)).all()
            time.sleep(0.002)
        assert model.device == "near:0"
        assert len(switches(model)) == 2  # the first time, and back
        said = [record.message for record in caplog.records if "fails on some inputs" in record.message]
        assert len(said) == 1
        assert "index out of range" in said[0]
        assert model.runtime.details["fails_on_inputs"] == {"the first model": "index out of range"}


def test_a_model_that_works_on_zeros_alone_is_tried_ever_more_rarely() -> None:
    def only_zeros(feeds: Any) -> None:
        if feeds[0].any():
            raise InferenceError("broken")

    flaky.tell("near", only_zeros)
    with load("near", "far") as model:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert answers(model)
            time.sleep(0.005)
        assert 2 <= len(switches(model)) <= 14  # 50 ms, 100, 200, ...


def test_a_model_that_is_always_too_slow_is_tried_ever_more_rarely() -> None:
    def slow(feeds: Any) -> None:
        if feeds[0].any():
            time.sleep(0.5)

    flaky.tell("near", slow)
    with load("near", "far") as model:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert answers(model, timeout=0.2)
            time.sleep(0.005)
        assert 2 <= len(switches(model)) <= 14


# Deadlines


@pytest.fixture
def hang() -> Iterator[Callable[[Any], None]]:
    """What a hung runtime does, until the test ends."""
    done = threading.Event()

    def wait(_: Any) -> None:
        done.wait(60)

    yield wait
    done.set()


@pytest.mark.parametrize("timeout", [0.2, 0.8])
def test_a_call_ends_within_its_timeout_whoever_answers(timeout: float, hang: Callable[[Any], None]) -> None:
    with load("near", "middle", "far") as model:
        for name in ("near", "middle"):
            flaky.tell(name, hang)
        started = time.monotonic()
        assert answers(model, timeout=timeout)
        assert 0.5 * timeout < time.monotonic() - started < timeout + GRACE
        assert model.device == "far:0"
        started = time.monotonic()
        assert answers(model, timeout=timeout)  # at once, from now on
        assert time.monotonic() - started < 0.5 * timeout
        flaky.tell("far", hang)
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match=f"no answer within {timeout:g} s"):
            model.infer(x(), timeout=timeout)
        assert timeout - 0.01 <= time.monotonic() - started < timeout + GRACE


def test_a_first_model_leaves_the_next_what_it_needs(hang: Callable[[Any], None]) -> None:
    began: list[float] = []

    def slow(_: Any) -> None:
        began.append(time.monotonic())
        time.sleep(0.2)

    flaky.tell("far", slow)
    with load("near", "far") as model:
        flaky.tell("near", hang)
        started = time.monotonic()
        assert answers(model, timeout=1)
        # twice the 0.2 s that the next took when it was tried are kept for it
        assert 0.55 < began[-1] - started < 0.74


def test_nobody_answers_in_no_time_and_nobody_is_lost_for_it() -> None:
    with load("near", "far") as model:
        for _ in range(5):
            with pytest.raises(InferenceTimeoutError):
                model.infer(x(), timeout=0)
        assert model.device == "near:0"
        assert switches(model) == []


def test_a_hung_model_comes_back_when_it_goes_on() -> None:
    going = threading.Event()
    going.set()
    flaky.tell("near", lambda feeds: going.wait(60) and None)
    with load("near", "far") as model:
        going.clear()
        assert answers(model, timeout=0.2)
        assert model.device == "far:0"
        going.set()
        assert eventually(lambda: model.device == "near:0")
        assert answers(model, timeout=5)


# Loading


def test_one_that_cannot_be_loaded_is_told_of_and_taken_in_later(caplog: pytest.LogCaptureFixture) -> None:
    flaky.refuse("near", ServerError("connection refused"))
    flaky.refuse("last", DeviceNotFoundError("not connected"))
    with load("near", "far", "last") as model:
        assert model.device == "far:0"
        (record,) = caplog.records
        assert record.message == (
            "flaky on far:0 answers; what does not yet is tried again: the first model: connection refused; "
            "failover[1]: not connected"
        )
        assert model.runtime.details["lost"] == {
            "the first model": "connection refused",
            "failover[1]": "not connected",
        }
        assert answers(model)
        flaky.refuse("near", None)
        assert eventually(lambda: model.device == "near:0")
        assert answers(model)
        assert switches(model) == [("flaky on far:0", "flaky on near:0")]
        flaky.refuse("last", None)
        assert eventually(lambda: not model.runtime.details["lost"])
        assert len(switches(model)) == 1  # nobody else answers for that


def test_one_that_does_not_fit_when_it_arrives_is_left_out_for_good(caplog: pytest.LogCaptureFixture) -> None:
    flaky.refuse("other", ServerError("connection refused"))
    other = flaky.write("other", [{"name": "x", "shape": [4]}], [{"name": "y", "shape": [4]}])
    with accelerate.load(other, failover=[{"source": flaky.write("far")}]) as model:
        flaky.refuse("other", None)
        assert eventually(lambda: "left out for good" in caplog.text)
        assert "the first model: input 'x' is [4], and [3] in failover[0]; give a model of the same size" in caplog.text
        assert eventually(lambda: not watchers())
        assert flaky.newest("other").turn.closed
        assert answers(model)
        assert "is [4]" in model.runtime.details["lost"]["the first model"]


def test_if_none_can_be_loaded_all_are_told_of() -> None:
    flaky.refuse("near", DeviceNotFoundError("not connected"))
    flaky.refuse("far", ServerError("connection refused"))
    with pytest.raises(NoBackendError) as caught:
        load("near", "far")
    for said in ("the first model: not connected", "failover[0]: connection refused"):
        assert said in str(caught.value)
    assert [row.reason for row in caught.value.plan.skipped] == ["not connected", "connection refused"]
    flaky.refuse("far", DeviceNotFoundError("not connected"))
    with pytest.raises(DeviceNotFoundError, match=r"^not connected$"):  # what all say is said once
        load("near", "far")


def test_a_file_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with accelerate.load("near.bin", failover=[{"source": flaky.write("far")}]) as model:
        assert model.device == "far:0"
        assert "there is no file near.bin" in model.runtime.details["lost"]["the first model"]
        monkeypatch.chdir("/")
        (tmp_path / "near.bin").write_bytes(flaky.write("near"))
        assert eventually(lambda: model.device == "near:0")
    plan = accelerate.plan(tmp_path / "none.bin", failover=[{"source": flaky.write("far")}])
    assert plan.chosen is not None
    assert plan.chosen.backend == "flaky"
    assert "there is no file" in plan.skipped[0].reason


@pytest.mark.parametrize(
    ("failover", "said"),
    [
        ("nothing_like_it", "failover[0]: there is no backend 'nothing_like_it'"),
        (["model.onnx"], "failover[0]: there is no backend 'model.onnx'"),
        (["model.onnx"], "for a model write {'source': 'model.onnx'}"),
        (["flaky", {"backend": "flakey"}], "failover[1]: there is no backend 'flakey' (did you mean 'flaky'?)"),
        ([{"devcie": "cpu"}], "failover[0]: load() has no option 'devcie' (did you mean 'device'?)"),
        ([{"backend_options": {}}], "failover[0]: load() has no option 'backend_options'"),
        ([{"replicas": 0}], "failover[0]: replicas is 0"),
        ([{"source": 5}], "failover[0]: load() was given int 5"),
        ([{"shapes": "x"}], "failover[0]: shapes"),
        ([{"failover": ["flaky"]}], "failover[0] has failover of its own; write all of them into one list"),
        ([5], "failover[0] is 5; wanted names of backends, or dicts of load's own arguments"),
        ([{5: "x"}], "failover[0] is {5: 'x'}; wanted"),
        (5, "failover is 5; wanted"),
        (b"flaky", "failover is b'flaky'; wanted"),
        ({"flaky"}, "failover is {'flaky'}; wanted"),
        ("", "failover[0]: there is no backend ''"),
    ],
)
def test_entries_that_are_wrong(failover: Any, said: str) -> None:
    for function in (accelerate.load, accelerate.plan):
        with pytest.raises(OptionError) as caught:
            function(flaky.write("near"), failover=failover)
        assert said in str(caught.value)
    assert not flaky.loads("near")


def test_what_an_entry_takes_over_and_what_it_does_not() -> None:
    first = flaky.write("near", [{"name": "a", "shape": [-1]}], [{"name": "b", "shape": [-1]}])
    names = {"inputs": {"a": "x"}, "outputs": {"b": "y"}}
    given: dict[str, Any] = {"tensor_names": names, "shapes": {"x": [3]}, "replicas": 2, "strict": True}
    with accelerate.load(first, **given, failover="flaky") as model:  # one alone needs no list
        assert answers(model)
        assert flaky.loads("near") == 4
        assert model.runtime.details["replicas"] == 2
    far = {"source": flaky.write("far"), "tensor_names": None, "replicas": None, "shapes": None}
    with accelerate.load(first, device="cpu", **given, failover=[far]) as model:
        assert flaky.loads("far") == 1
        flaky.tell("near", DeviceLostError("gone"))
        assert answers(model)
        assert "replicas" not in model.runtime.details


def test_the_environment_stands_in_for_what_the_call_leaves_open_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_DEVICE", "nowhere")
    with load("near", "far") as model:
        assert model.device == "far:0"
        assert "EDGE_ACCELERATE_DEVICE=nowhere" in model.runtime.details["lost"]["the first model"]


def test_nothing_given_is_no_failover() -> None:
    for nothing in [(), [], None]:  # type: ignore[var-annotated]
        with accelerate.load(flaky.write("near"), failover=nothing) as model:  # type: ignore[arg-type]
            assert type(model) is flaky.Flaky


def test_a_plan_has_the_rows_of_the_call_and_then_of_each_entry() -> None:
    entries: list[Any] = ["flaky", {"source": flaky.write("far"), "backend": "flaky"}]
    plan = accelerate.plan(odd_models.add3(), backend="flaky", failover=entries)
    assert plan.chosen is plan.candidates[0]
    assert [row.reason.partition(":")[0] for row in plan.candidates] == ["failover[1]"]
    assert [row.reason.partition(":")[0] for row in plan.skipped][1:] == ["failover[0]"]
    with accelerate.load(odd_models.add3(), backend="flaky", failover=entries) as model:
        assert model.device == "far:0"
        lost = model.runtime.details["lost"]
        assert lost["the first model"].startswith(plan.skipped[0].reason)
        assert f"failover[0]: {lost['failover[0]']}".startswith(plan.skipped[1].reason)


# The rest of the interface


def test_bindings_go_on_with_their_arrays_after_a_switch() -> None:
    with load("near", "far") as model, model.bind() as binding:
        assert not binding.zero_copy
        given, result = binding.inputs["x"], binding.outputs["y"]
        for n, (name, error) in enumerate([("", None), ("near", DeviceLostError("gone")), ("near", None)]):
            if name:
                flaky.tell(name, error)
            if n == 2:
                assert eventually(lambda: model.device == "near:0")
            given[...] = x(n)
            binding.run(timeout=5 if n % 2 else None)
            np.testing.assert_array_equal(result, 2 * x(n))
        assert len(switches(model)) == 2
        with pytest.raises(InferenceTimeoutError):
            binding.run(timeout=0)
    with pytest.raises(ClosedError):
        binding.run()


def test_awaited_calls_frames_and_maps_follow() -> None:
    image = {"shape": [1, 4, 4, 3], "layout": "NHWC", "data_type": "float32", "pixels": [0, 1]}
    sides: Any = [{"name": "x", **image}], [{"name": "y", "shape": [1, 4, 4, 3]}]
    entry = {"source": flaky.write("far", *sides)}
    frames = np.random.default_rng(0).integers(0, 256, (12, 9, 8, 3), np.uint8)
    with accelerate.load(flaky.write("near", *sides), failover=[entry]) as model:
        wanted = [model.infer_image(frame)["y"] for frame in frames]
        flaky.tell("near", ServerError("gone"))

        async def main() -> list[Any]:
            images = await asyncio.gather(*(model.infer_image_async(frame, timeout=10) for frame in frames))
            tensors = await asyncio.gather(*(model.infer_async({"x": y / 2}) for y in wanted))
            return [*images, *tensors]

        for answer, want in zip(asyncio.run(main()), 2 * wanted, strict=True):
            np.testing.assert_array_equal(answer["y"], want)
        for answer, want in zip(accelerate.map(model, frames), wanted, strict=True):
            np.testing.assert_array_equal(answer["y"], want)
        assert model.device == "far:0"


def test_commands() -> None:
    with load("near", "far") as model:
        before = flaky.runs("near"), flaky.runs("far")
        assert model.do_command({"command": "warmup", "runs": 2})["runs"] == 2
        assert (flaky.runs("near"), flaky.runs("far")) == (before[0] + 2, before[1] + 2)
        flaky.tell("near", DeviceLostError("gone"))
        model.warmup()
        assert model.device == "far:0"
        assert model.do_command({"command": "reset"}) == {}
        with pytest.raises(NotImplementedError, match="no command 'dance'"):
            model.do_command({"command": "dance"})
        with pytest.raises(OptionError, match=r"one signature .* load another failover"):
            model.signature("other")
        idle = threading.Event()
        model.when_idle(idle.set)
        assert idle.wait(5)


def test_closing_ends_all_of_it() -> None:
    model = load("near", "far")
    flaky.tell("near", DeviceLostError("gone"))
    answers(model)
    assert eventually(lambda: len(watchers()) == 1)
    model.close()
    model.close()
    assert eventually(lambda: not watchers(), 1)
    assert flaky.newest("near").turn.closed
    assert flaky.newest("far").turn.closed
    for call in (lambda: model.infer(x()), lambda: model.infer(x(), timeout=1), model.metadata, model.bind):
        with pytest.raises(ClosedError, match="this failover is closed"):
            call()


def test_closing_while_others_call() -> None:
    model = load("near", "far")
    slow, standing_by = threading.Event(), flaky.runs("far")
    flaky.tell("near", lambda _: slow.wait(10) and None)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(answers, model, n) for n in range(3)]
        time.sleep(0.05)
        model.close()
        slow.set()
        outcomes = [call.exception() for call in calls]
    assert outcomes.count(None) == 1  # the one that was running
    assert {type(one) for one in outcomes} == {type(None), ClosedError}
    assert flaky.runs("far") == standing_by


def test_a_model_that_is_forgotten_while_one_is_lost_goes() -> None:
    model: Any = load("near", "far")
    flaky.tell("near", DeviceLostError("gone"))
    answers(model)
    assert eventually(lambda: len(watchers()) == 1)
    kept = [weakref.ref(flaky.newest(name)) for name in ("near", "far")]
    flaky.let_go()
    del model  # "near" is still lost
    assert eventually(lambda: not any(one() for one in kept), 2)
    assert eventually(lambda: not watchers(), 2)


def test_it_keeps_no_arrays_of_calls_that_have_failed() -> None:
    with load("near", "far") as model:
        flaky.tell("near", DeviceLostError("gone"))
        given = x()
        kept = weakref.ref(given)
        gc.disable()
        try:
            model.infer(given)
            del given
            assert kept() is None
        finally:
            gc.enable()


def test_many_threads_while_models_come_and_go() -> None:
    """No call is lost, none has another one's answer."""
    stop = threading.Event()

    def meddle() -> None:
        chance = random.Random(0)
        errors = [DeviceLostError("gone"), ServerError("gone"), InferenceError("crashed"), None, None]
        while not stop.is_set():
            flaky.tell(chance.choice(["near", "middle"]), chance.choice(errors))
            time.sleep(0.01)

    def calls(seed: int) -> int:
        return sum(answers(model, 1000 * seed + n, timeout=None if n % 3 else 10) for n in range(300))

    with load("near", "middle", "far") as model:
        meddler = threading.Thread(target=meddle)
        meddler.start()
        try:
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(calls, range(8))) == [300] * 8
        finally:
            stop.set()
            meddler.join()
        assert model.do_command({"command": "stats"})["errors"] == 0
        assert model.do_command({"command": "stats"})["switches"] > 0
        assert len(watchers()) <= 2


def test_a_program_ends_while_a_model_is_lost(tmp_path: Path) -> None:
    program = """
import sys, time
sys.path[:0] = [{tests!r}, {site!r}]
import accelerate, flaky_backend as flaky
from accelerate import ServerError
import numpy as np
flaky.refuse("last", ServerError("gone"))
model = accelerate.load(flaky.write("near"), failover=[{{"source": flaky.write(n)}} for n in ("far", "last")])
flaky.tell("near", ServerError("gone"))
print(model.infer(np.ones(3, np.float32), timeout=1)["y"].tolist())
time.sleep(0.2)
print(time.monotonic())
""".format(tests=str(ROOT / "tests"), site=str(tmp_path / "site"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    ended = time.monotonic()
    assert (done.returncode, done.stderr) == (0, "")
    answer, last = done.stdout.splitlines()
    assert answer == "[2.0, 2.0, 2.0]"
    assert ended - float(last) < 5


def test_quiet_where_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "accelerate")
    with load("near", "far") as model:
        assert answers(model)
        assert not watchers()
    assert not caplog.records
