"""Models in child processes: what crashes, hangs and lies there, and what a program sees of it."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engines
import numpy as np
import odd_models
import pytest
from perilous_backend import install, load, peril

import accelerate
from accelerate import (
    BackendNotAvailableError,
    ClosedError,
    InferenceError,
    InferenceTimeoutError,
    ModelError,
    OptionError,
)
from accelerate.combined.isolation import link, process, served
from accelerate.testing.inputs import random_inputs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation is for Linux")

WITH_LITERT = pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT is not installed here")
DIGITS = Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite"
RANDOM = np.random.default_rng(7)
MARGIN = 0.05  # seconds over the deadline


@pytest.fixture(autouse=True)
def _perilous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Whatever a test does, no child and no descriptor is left by it, and no file in /dev/shm was ever used."""
    gc.collect()
    files = open_files()
    yield
    gc.collect()
    wait_for(lambda: not children(), "children are left")
    wait_for(lambda: not open_files() - files, "descriptors are left")


def children() -> list[int]:
    """Return the processes that this one has started and not seen the end of, those of earlier tests' servers aside."""
    found = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            found += Path(f"/proc/self/task/{task}/children").read_text().split()
    return [int(one) for one in found if b"isolation" in command(int(one))]


def command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() or b"isolation, a zombie"
    return b""


def open_files() -> set[str]:
    found = set()
    for one in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{one}")
            if name.startswith(("socket:", "pipe:", "/memfd:")):
                found.add(f"{name} {one if name.startswith('/memfd:') else ''}")
    return found


def wait_for(condition: Any, otherwise: str, patience: float = 10) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)


def given() -> Any:
    return RANDOM.random(3).astype(np.float32)


def answers(model: accelerate.Model, **options: Any) -> bool:
    x = given()
    return bool(np.array_equal(model.infer(x, **options)["y"], 2 * x))


# The argument


@pytest.mark.parametrize("isolation", ["thread", "", True, 1, ["process"]])
def test_another_word_for_it(isolation: Any) -> None:
    for ask in (accelerate.load, accelerate.plan):
        with pytest.raises(OptionError, match=r"isolation is .*wanted 'process', or None"):
            ask(peril(), isolation=isolation)


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("platform", "darwin", "needs Linux, and this is darwin"),
        ("frozen", True, "this program is frozen"),
        ("executable", "/usr/bin/robot", "embedded in this program"),
        ("executable", None, "embedded in this program"),
    ],
)
def test_where_there_can_be_no_child(attribute: str, value: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for ask in (accelerate.load, accelerate.plan):
        with monkeypatch.context() as patched:
            patched.setattr(sys, attribute, value, raising=False)
            with pytest.raises(OptionError, match=said) as caught:
                ask(DIGITS, isolation="process")
        assert "leave isolation out" in caught.value.remedy


@WITH_LITERT
def test_an_existing_object_stays_here() -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=odd_models.add3())
    for ask in (accelerate.load, accelerate.plan):
        with pytest.raises(OptionError, match=r"cannot move .*an existing object, into another process"):
            ask(interpreter, isolation="process")


def test_options_go_as_they_are_or_not_at_all() -> None:
    tag = {"a": (1, [2.5, None, True]), "path": Path("x/ y"), "bytes": b"\xff\0", "text": "ä\udcff", "set": {1, 2}}
    with load(peril(), tag=tag) as model:
        assert model.runtime.details["tag"] == tag
        assert isinstance(model.runtime.details["tag"]["a"], tuple)
    for ask in (accelerate.load, accelerate.plan):
        with pytest.raises(OptionError, match=r"cannot hand tag= to another process: there is <object"):
            ask(peril(), backend="peril", isolation="process", tag=[object()])
    accelerate.load(peril(), backend="peril", tag=[object()]).close()  # where nothing has to go anywhere


def test_session_options_say_so() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    import odd_onnx

    with pytest.raises(OptionError, match="cannot hand session_options= to another process"):
        accelerate.load(odd_onnx.double(), isolation="process", session_options=onnxruntime.SessionOptions())


# What a program sees of it


@WITH_LITERT
def test_a_model_says_where_it_runs() -> None:
    with accelerate.load(odd_models.add3(), isolation="process") as model:
        details = model.runtime.details
        assert details["isolation"] == "process"
        assert details["pid"] in children()
        assert (model.backend, model.device) == ("tflite_cpu", "cpu")
        plain = accelerate.load(odd_models.add3())
        assert model.metadata() == plain.metadata()
        assert {**details, "isolation": None, "pid": None} == {**plain.runtime.details, "isolation": None, "pid": None}
    assert model.runtime.details["pid"] is None


def test_the_backend_is_not_asked_to_load_here() -> None:
    with load(peril()) as model:
        assert model.runtime.details["process"] == model.runtime.details["pid"] != os.getpid()


def test_its_memory_has_no_name() -> None:
    with load(peril()) as model, model.bind() as binding:
        binding.run()
        assert answers(model)
        for pid in (os.getpid(), model.runtime.details["pid"]):
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert maps.count("/memfd:accelerate (deleted)") == 2
            assert "/dev/shm" not in maps


def test_replicas_are_children() -> None:
    with load(peril(), replicas=3) as model:
        assert len(children()) == 3
        callers = [threading.Thread(target=lambda: [answers(model) for _ in range(20)]) for _ in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert answers(model, timeout=5)
        assert len({one.runtime.details["pid"] for one in model.models}) == 3  # type: ignore[attr-defined]


@WITH_LITERT
def test_replicas_of_a_tpu_have_devices_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the stand-in of an Edge TPU; no two processes can open one."""
    import edgetpu_stand_in

    monkeypatch.setenv("EDGE_ACCELERATE_EDGETPU_LIBRARY", edgetpu_stand_in.library())
    monkeypatch.setenv("EDGETPU_STAND_IN_DEVICES", "usb,usb")
    source = edgetpu_stand_in.bits()
    with accelerate.load(source, backend="edgetpu", isolation="process", replicas=2) as model:
        assert [one.device for one in model.models] == ["usb:0", "usb:1"]  # type: ignore[attr-defined]
        assert model.runtime.details["devices"] == ("usb:0", "usb:1")
        x = RANDOM.integers(0, 256, (1, 4)).astype(np.uint8)
        with accelerate.load(source, backend="edgetpu") as plain:
            (ours,), (theirs,) = model.infer(x).values(), plain.infer(x).values()
        assert np.array_equal(ours, theirs)


@WITH_LITERT
@pytest.mark.parametrize("make", ["bfloat16", "four_bits", "scalar", "no_inputs"])
def test_odd_tensors(make: str) -> None:
    source = getattr(odd_models, make)()
    with accelerate.load(source) as plain, accelerate.load(source, isolation="process") as model:
        assert model.metadata() == plain.metadata()
        inputs = {
            name: value % 8 if value.dtype == np.int8 else value for name, value in random_inputs(plain, 3).items()
        }
        want = plain.infer(inputs)
        for got in (model.infer(inputs), model.infer(inputs, timeout=60)):
            assert [(a.dtype, a.shape, a.tobytes()) for a in got.values()] == [
                (a.dtype, a.shape, a.tobytes()) for a in want.values()
            ]
        with model.bind() as binding:
            for name, value in inputs.items():
                binding.inputs[name][...] = value
            binding.run()
            assert [a.tobytes() for a in binding.outputs.values()] == [a.tobytes() for a in want.values()]


def test_lines_of_the_log_arrive(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "accelerate")
    with load(peril(log="%s is 100 % odd")):
        assert "%s is 100 % odd" in [record.getMessage() for record in caplog.records]


def test_the_bytes_of_a_large_model_arrive() -> None:
    with load(peril(padding="x" * (3 << 20))) as model:
        assert answers(model)


def test_a_binding_copies_nothing_here() -> None:
    with load(peril()) as model, model.bind() as binding:
        x, y = binding.inputs["x"], binding.outputs["y"]
        for timeout in (None, 5.0):
            x[...] = given()
            binding.run(timeout)
            assert np.array_equal(y, 2 * x), "the array taken at first shows every run's output"
        assert binding.zero_copy is False
        kept = y.copy()
        assert answers(model)
        assert np.array_equal(y, kept), "another call has changed it"
    assert np.array_equal(y, kept)
    x[...] = 5  # after the end it is memory like any other


@WITH_LITERT
def test_signatures_share_a_child_and_its_state() -> None:
    counting = accelerate.load(odd_models.counting(), isolation="process")
    plain = accelerate.load(odd_models.counting())
    with counting, plain:
        assert counting.metadata() == plain.metadata()
        assert counting.metadata().stateful
        x = {t.name: RANDOM.random([max(n, 1) for n in t.shape]).astype(t.data_type) for t in plain.metadata().inputs}
        for _ in range(3):
            ours, theirs = counting.infer(x), plain.infer(x)
            assert all(np.array_equal(ours[name], value) for name, value in theirs.items())
    with accelerate.load(odd_models.two_signatures(), isolation="process") as model:
        model.signature("multiply").close()
        other = model.signature("multiply")
        inputs = {t.name: np.full(t.shape, 3, t.data_type) for t in other.metadata().inputs}
        assert next(iter(other.infer(inputs).values())).ravel()[0] == 9
        os.kill(model.runtime.details["pid"], signal.SIGKILL)
        with contextlib.suppress(InferenceError):  # where its threads have not all gone when it is called
            other.infer(inputs)
        assert next(iter(other.infer(inputs).values())).ravel()[0] == 9
        assert len(children()) == 1
    with pytest.raises(ClosedError):
        other.infer(inputs)


# Crashes


def crash_and_go_on(calls: int) -> None:
    with load(peril(every=3, do="crash")) as model:
        for number in range(1, calls + 1):
            timeout = None if number % 2 else 60
            if number % 3:
                assert answers(model, timeout=timeout)
                continue
            with pytest.raises(InferenceError, match="SIGSEGV; the last that it wrote: driver: the bus") as caught:
                model.infer(given(), timeout=timeout)
            assert "next call" in caught.value.remedy
        stats = model.do_command({"command": "stats"})
        assert (stats["calls"], stats["errors"]) == (calls, calls // 3)


def test_a_crash_is_an_error_and_the_next_call_has_a_new_child() -> None:
    crash_and_go_on(10)


def kill(pid: int) -> None:
    """End a child and wait until it has ended: one that dies while it has a call loses that."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # which leaves it to the model


def test_a_new_child_loads_what_was_loaded_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(odd_models.add3())
    x = np.random.default_rng(8).random(3, np.float32)
    with accelerate.load(path, backend="tflite_cpu", isolation="process") as model:
        (before,) = model.infer(x).values()
        kill(model.runtime.details["pid"])
        (after,) = model.infer(x).values()
        assert after.tolist() == before.tolist()
        path.write_bytes(odd_models.scalar())
        kill(model.runtime.details["pid"])
        with pytest.raises(InferenceError, match=r"has changed since it was loaded.*; load it again"):
            model.infer(x)


@pytest.mark.long
def test_a_thousand_calls_of_which_every_third_crashes() -> None:
    crash_and_go_on(1000)


def test_a_binding_goes_on_in_a_new_child() -> None:
    with load(peril(every=3, do="crash")) as model, model.bind() as binding:
        x, y = binding.inputs["x"], binding.outputs["y"]
        for number in range(1, 8):
            x[...] = given()
            if number % 3:
                binding.run()
                assert np.array_equal(y, 2 * x)
            else:
                with pytest.raises(InferenceError, match="SIGSEGV"):
                    binding.run(timeout=60 if number == 6 else None)
    assert np.array_equal(y, 2 * x)


def test_a_crash_tells_that_state_is_lost() -> None:
    with load(peril(every=3, do="crash", counts=True)) as model:
        x = given()
        assert np.array_equal(model.infer(x)["y"], 2 * x + 1)
        assert np.array_equal(model.infer(x)["y"], 2 * x + 2)
        with pytest.raises(InferenceError, match=r"with it what the model kept.*SIGSEGV"):
            model.infer(x)
        assert np.array_equal(model.infer(x)["y"], 2 * x + 1)
        os.kill(model.runtime.details["pid"], signal.SIGKILL)
        wait_until_dead(model)
        with pytest.raises(InferenceError, match=r"with it what the model kept"):
            model.infer(x)
        assert np.array_equal(model.infer(x)["y"], 2 * x + 1)
        assert model.do_command({"command": "reset"}) == {}
        assert np.array_equal(model.infer(x)["y"], 2 * x + 1)


def wait_until_dead(model: accelerate.Model) -> None:
    pid = model.runtime.details["pid"]
    wait_for(lambda: b"zombie" in command(pid) or not command(pid), f"{pid} lives")


@pytest.mark.parametrize(
    ("do", "said"),
    [("crash", "killed by SIGSEGV; the last that it wrote: driver: the bus"), ("exit", "ended with status 3")],
)
def test_a_crash_while_it_is_loaded(do: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load(peril(load=do))
    with pytest.raises(ModelError, match=said):
        load(peril(load=do), replicas=2)
    for backend in ("auto", ["peril", "gentle"]):
        with accelerate.load(peril(load=do), backend=backend, isolation="process") as model:
            assert model.backend == "gentle"
            (passed_over,) = model.runtime.details["passed_over"]
            assert said in passed_over
            assert answers(model)


@pytest.mark.parametrize(("do", "kind"), [("raise", ModelError), ("leave", BackendNotAvailableError)])
def test_what_a_load_raises_is_as_without(do: str, kind: type[Exception]) -> None:
    said = []
    for isolation in (None, "process"):
        with pytest.raises(kind) as caught:
            load(peril(load=do), isolation=isolation)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_what_a_run_raises_is_as_without() -> None:
    said = []
    for isolation in (None, "process"):
        with load(peril(do="raise"), isolation=isolation) as model:
            with pytest.raises(InferenceError) as caught:
                model.infer(given())
            said.append(str(caught.value))
            assert str(caught.value.__cause__).endswith("pop from empty list")
            with pytest.raises(NotImplementedError, match="known: group, look, reset, stats, warmup"):
                model.do_command({"command": "dance"})
    assert said[0] == said[1]


def test_what_a_command_raises_is_as_without(tmp_path: Path) -> None:
    with load(peril()) as model, load(peril(), isolation=None) as plain:
        for one in (model, plain):
            with pytest.raises(FileNotFoundError, match="No such file"):
                one.do_command({"command": "look", "path": str(tmp_path / "missing")})
        if sys.version_info >= (3, 11):  # which cannot be made of a text
            with pytest.raises(InferenceError, match="ExceptionGroup: several"):
                model.do_command({"command": "group"})
        pid = model.runtime.details["pid"]
        assert answers(model)
        assert model.runtime.details["pid"] == pid


def test_memory_that_cannot_be_written_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(BackendNotAvailableError, match="No space left"):
            load(peril())


def test_a_child_that_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "python3"
    link.symlink_to(sys.executable)
    with load(peril(do="crash")) as model:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(tmp_path / "gone" / "python3"))
            with pytest.raises(BackendNotAvailableError, match=r"no child process can be started.*No such file"):
                load(peril())
            with pytest.raises(InferenceError, match="SIGSEGV"):
                model.infer(given())
            for _ in range(2):
                with pytest.raises(InferenceError, match="no other has loaded it: no child process can be started"):
                    model.infer(given())
        with pytest.raises(InferenceError, match="SIGSEGV"):
            model.infer(given())


def test_a_python_that_does_not_find_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\necho no such interpreter here >&2\nexit 7\n")
    (tmp_path / "python3").chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    with pytest.raises(ModelError, match="ended with status 7; the last that it wrote: no such interpreter here"):
        load(peril())


def test_no_descriptor_left() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with load(peril(do="crash")) as model, load(peril()) as other:
        with contextlib.ExitStack() as stack:
            highest = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            with contextlib.suppress(OSError):
                while True:
                    stack.callback(os.close, os.dup(0))
            with pytest.raises(BackendNotAvailableError, match=r"Too many open files.*ulimit -n"):
                load(peril())
            with pytest.raises(InferenceError, match="no memory to share with the child process: Too many"):
                other.infer(given())
            with pytest.raises(InferenceError):
                model.infer(given())
        assert answers(other)
        with pytest.raises(InferenceError, match="SIGSEGV"):
            model.infer(given())


# Hangs


def leave_at_the_deadline(model: accelerate.Model, timeout: float = 0.2) -> None:
    started = time.monotonic()
    with pytest.raises(InferenceTimeoutError, match=r"no answer within [\d.]+ s"):
        model.infer(given(), timeout=timeout)
    assert time.monotonic() - started < timeout + MARGIN


@pytest.mark.parametrize("do", ["spin", *(pytest.param(do, marks=pytest.mark.long) for do in ("sleep", "block"))])
def test_a_hang_is_left_at_the_deadline_and_ended_later(do: str) -> None:
    with load(peril(every=2, do=do)) as model:
        assert answers(model)
        leave_at_the_deadline(model)
        leave_at_the_deadline(model, 0.1)  # it waits for the first one
        pid = model.runtime.details["pid"]
        started = time.monotonic()
        wait_for(lambda: not command(pid), "nobody has ended it", 5)
        assert 1 < time.monotonic() - started < 3
        assert answers(model, timeout=60)
        assert model.runtime.details["pid"] != pid


def test_a_call_waits_for_an_old_answer_and_never_takes_it() -> None:
    with load(peril(every=2, do="nap")) as model:
        for _ in range(2):
            assert answers(model)
            leave_at_the_deadline(model)
            assert answers(model, timeout=60)
            idle = threading.Event()
            leave_at_the_deadline(model)
            model.when_idle(idle.set)
            assert not idle.is_set()
            assert idle.wait(5)
            assert len(children()) == 1


def test_one_thread_ends_all_calls_at_their_deadlines_and_none_after_its_end() -> None:
    watch = served._Watch()
    before = set(threading.enumerate())
    asked: list[int] = []
    ended = threading.Event()
    for number, seconds in enumerate([60.0, 0.01, 0.3, 1e30]):  # an earlier one, and a later one, than it waits for
        ended.clear()

        def cancel(number: int = number) -> None:
            asked.append(number)
            ended.set()

        with watch.over(cancel, seconds):
            if seconds < 1:
                assert ended.wait(20)
    with watch.over(lambda: asked.append(9), 0.05):
        pass
    with watch.over(None, 0.0):
        time.sleep(0.1)
    assert asked == [1, 2]
    assert len(set(threading.enumerate()) - before) == 1


def test_what_a_call_fails_of_after_its_deadline_is_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that is asked to end a call raises, and a caller that the kernel wakes late finds that answer."""
    answer = process.Child.answer
    with load(peril(every=2, do="doze")) as model:
        assert answers(model)
        with monkeypatch.context() as patched:
            patched.setattr(
                process.Child, "answer", lambda self, number, _, first=None: answer(self, number, None, first)
            )
            with pytest.raises(InferenceTimeoutError):
                model.infer(given(), timeout=0.1)
        assert answers(model, timeout=60)


def test_a_binding_is_left_at_the_deadline() -> None:
    with load(peril(every=2, do="spin")) as model, model.bind() as binding:
        binding.run()
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError):
            binding.run(timeout=0.1)
        assert time.monotonic() - started < 0.1 + MARGIN
        binding.inputs["x"][...] = x = given()
        binding.run(timeout=60)
        assert np.array_equal(binding.outputs["y"], 2 * x)


def test_what_was_logged_after_the_deadline_arrives(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "accelerate")
    with load(peril(every=2, do="late")) as model:
        assert answers(model)
        leave_at_the_deadline(model)
        assert answers(model, timeout=60)
        assert "better late" in [record.getMessage() for record in caplog.records]

        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise RuntimeError(record)

        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        handler = Broken()
        logging.getLogger("accelerate").addHandler(handler)
        try:
            leave_at_the_deadline(model)
            assert answers(model, timeout=60), "the next call waits for ever"
        finally:
            logging.getLogger("accelerate").removeHandler(handler)


def test_a_close_while_a_binding_is_made_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(peril())
    introduce = link.Link._introduce

    def slow(self: link.Link, *arguments: Any) -> None:
        introduce(self, *arguments)
        model.close()  # as another thread may

    monkeypatch.setattr(link.Link, "_introduce", slow)
    with contextlib.suppress(ClosedError):
        model.bind()
    wait_for(lambda: not children(), "its child lives")


def test_a_child_that_a_driver_holds_fast_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a kill that comes late: the kernel ends no process that sleeps in a driver."""
    with load(peril(every=2, do="sleep")) as model:
        assert answers(model)
        held = model.runtime.details["pid"]
        kill = process._Process.kill
        with monkeypatch.context() as patched:
            patched.setattr(process._Process, "kill", lambda self: None if self.pid == held else kill(self))
            leave_at_the_deadline(model)
            assert answers(model, timeout=60)
            assert command(held)
        os.kill(held, signal.SIGKILL)


def test_close_does_not_hang() -> None:
    model = load(peril(do="spin"))
    with pytest.raises(InferenceTimeoutError):
        model.infer(given(), timeout=0.1)
    started = time.monotonic()
    model.close()
    model.close()
    assert time.monotonic() - started < 0.1
    with pytest.raises(ClosedError):
        model.infer(given())


def test_a_forgotten_model_ends_its_child() -> None:
    model = load(peril())
    assert answers(model)
    with model.bind() as binding:
        binding.run()
    gc.disable()
    try:
        del model, binding
        wait_for(lambda: not children(), "its child lives")
    finally:
        gc.enable()


# What it writes


def test_what_it_writes_to_stderr_is_kept_in_bounds() -> None:
    with load(peril(do="chatter")) as model:  # 6 MB a call, which no pipe holds
        for _ in range(3):
            assert answers(model)
        assert answers(model, timeout=60)
        os.kill(model.runtime.details["pid"], signal.SIGKILL)
    with load(peril(load="hide")) as model:
        assert answers(model)


def test_nonsense_ends_the_child_alone() -> None:
    with load(peril(every=2, do="babble")) as model:
        assert answers(model)
        with pytest.raises(InferenceError, match="answered nonsense"):
            model.infer(given())
        assert answers(model)


def test_a_log_without_an_end_is_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.combined.isolation.process.LONGEST", 100_000)
    with load(peril(do="gossip")) as model, pytest.raises(InferenceError, match="an answer without an end"):
        model.infer(given())


def test_a_child_without_memory_for_more_never_answers_from_what_it_had() -> None:
    with load(peril(size=-1, load="cramped")) as model:
        pid = model.runtime.details["pid"]
        for size, fits in ((10, True), (5000, False), (10, True), (5000, False), (10, True), (5000, True), (10, True)):
            x = RANDOM.random(size).astype(np.float32)
            with contextlib.nullcontext() if fits else pytest.raises(InferenceError, match="no room here"):
                assert np.array_equal(model.infer(x)["y"], 2 * x)
        assert model.runtime.details["pid"] == pid


def test_memory_cannot_be_taken_away() -> None:
    with load(peril(do="shrink")) as model, pytest.raises(InferenceError, match="refused: 1, done: 0"):
        model.infer(given())


def table(*numbers: int) -> str:
    return np.array([1, 0, *numbers], np.int64).tobytes().hex()


@pytest.mark.parametrize(
    "lie",
    [
        table(), table(0, 12, 1), table(0, 12, 1, 1 << 40), table(1 << 40, 12, 1, 3), table(-64, 12, 1, 3),
        table(0, 12, 1, -3), table(0, 12, 2, 1 << 32, 1 << 32), table(0, 12, -5), table(0, 12, 1 << 50, 3),
        table(0, 0, -1), table(0, 12, 1, 3, 7), "00" * 5, "",
        np.array([1 << 60, 0], np.int64).tobytes().hex(), np.array([1, 9, 0, 12, 1, 3], np.int64).tobytes().hex(),
    ],
)  # fmt: skip
def test_a_table_that_lies_is_nonsense(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERIL_TABLE", lie)
    with load(peril(load="lie")) as model, pytest.raises(InferenceError, match="answered nonsense"):
        model.infer(given())
