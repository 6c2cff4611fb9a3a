"""Arguments of the wrong kind: an error of ours that says what was wanted, whatever was given."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import engines
import numpy as np
import odd_models
import pytest

import accelerate
from accelerate import AccelerateError, Normalization, OptionError, TensorError
from accelerate.testing.inputs import random_inputs

ADD3 = odd_models.add3()
ONES = np.ones(3, np.float32)
masked: Any = np.ma.masked_array  # some versions of NumPy do not say its types


class OddPath:
    def __fspath__(self) -> Any:
        return 5


class RefusesArrays:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("this tensor is on another device")


@pytest.mark.parametrize("source", ["a\0b", "x" * 5000, "", OddPath()])
@pytest.mark.parametrize("backend", ["auto", "tflite_cpu"])
def test_sources(source: Any, backend: str) -> None:
    with pytest.raises(AccelerateError):
        accelerate.load(source, backend=backend)


@pytest.mark.parametrize(
    "options",
    [
        {"backend": None}, {"backend": 5}, {"device": 0}, {"device": b"cpu"}, {"device": ""}, {"signature": []},
        {"engine": {}}, {"engine": "nonsense"}, {"num_threads": 100_000}, {"num_threads": 10**30}, {"num_threads": "2"},
        {"label_path": 5}, {"label_path": True}, {"label_path": []}, {"tensor_names": 5}, {"tensor_names": True},
        {"tensor_names": {"inputs": 5}}, {"tensor_names": {"inputs": {"x": 5}}},
        {"tensor_names": {"inputs": {"x": ""}}},
        {"normalization": {5: (0, 1), "a": (0, 1)}}, {"normalization": (10**400, 1)}, {"dequantize": "no"},
        {"dequantize": np.array([1, 2])}, {"strict": None}, {"replicas": 10**9},
    ],
)  # fmt: skip
def test_options(options: dict[str, Any]) -> None:
    with pytest.raises(AccelerateError):
        accelerate.load(ADD3, **{"backend": "tflite_cpu", **options})
    with contextlib.suppress(AccelerateError):
        str(accelerate.plan(ADD3, **options))


def test_numpy_integers_are_integers() -> None:
    two: Any = np.int64(2)
    with accelerate.load(ADD3, backend="tflite_cpu", num_threads=two) as model:
        assert model.runtime.details["num_threads"] == 2


def test_plan_refuses_an_engine_that_load_would_refuse() -> None:
    decided = accelerate.plan(ADD3, backend="tflite_cpu", engine="nonsense")
    assert decided.chosen is None
    assert "nonsense" in decided.skipped[0].reason


@pytest.mark.parametrize(
    "value",
    [RefusesArrays(), None, "text", b"text", object(), {1: 2}, [[1], [2, 3]], np.zeros(3, "i4,f4"), [10**400] * 3,
     masked([1.0, 2.0, 3.0], [True, False, False])],
)  # fmt: skip
def test_inputs(value: Any) -> None:
    with accelerate.load(ADD3, backend="tflite_cpu") as model:
        for given in (value, {"x": value}, {b"x": value}):
            with pytest.raises(TensorError):
                model.infer(given)
        unmasked = masked(ONES, [False] * 3)
        assert model.infer(unmasked)["y"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("timeout", ["0.5", b"1", 10**400, [1], float("-inf")])
def test_timeouts(timeout: Any) -> None:
    with accelerate.load(ADD3, backend="tflite_cpu") as model, pytest.raises(OptionError, match="timeout"):
        model.infer(ONES, timeout=timeout)


@pytest.mark.parametrize(
    "shapes", [5, {"x": 5}, {"x": ["a"]}, {"x": (2.7, 3)}, {"x": (2, 3), "0": (5, 3)}, {"y": (1, 3)}]
)
def test_bound_shapes(shapes: Any) -> None:
    with accelerate.load(odd_models.dynamic(), backend="tflite_cpu") as model, pytest.raises(TensorError):
        model.bind(shapes)


@pytest.mark.parametrize("command", ["stats", None, 5, [], {"command": []}, {"command": None}])
def test_commands(command: Any) -> None:
    with (
        accelerate.load(ADD3, backend="tflite_cpu") as model,
        pytest.raises(NotImplementedError, match=r"known: reset, stats, warmup"),
    ):
        model.do_command(command)


def test_strings_keep_every_byte() -> None:
    with accelerate.load(odd_models.strings(), backend="tflite_cpu") as model:
        for words in ([b"a\0", b"\0", b"x\0\0"], ["é", b"\xff", "c"], ["", "a\0b", "\0"]):
            want = [w.encode() if isinstance(w, str) else w for w in words]
            assert model.infer(words)["y"].tolist() == want[::-1]
        with pytest.raises(TensorError, match="str or bytes"):
            model.infer(["a", 1, 2.5])


def test_a_forgotten_model_is_freed_at_once() -> None:
    model = accelerate.load(ADD3, backend="tflite_cpu")
    model.infer(ONES)
    model.metadata()
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("call", ["model.infer(x, timeout=5)", "binding.run(timeout=5)", "model.infer(x)"])
def test_ctrl_c_never_leaves_a_model_locked(call: str) -> None:
    program = f"""
import accelerate, numpy as np, signal, sys, time
armed, interrupts = False, 0
def interrupt(*_):
    global armed
    if armed:  # once for each time round: the loop itself must not be interrupted
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt)
model = accelerate.load(sys.stdin.buffer.read(), backend="tflite_cpu")
binding, x = model.bind(), np.ones(3, np.float32)
print("ready", flush=True)
end = time.monotonic() + 4
while time.monotonic() < end:
    armed = True
    try:
        for _ in range(20):
            {call}
    except KeyboardInterrupt:
        interrupts += 1
    armed = False
assert model.infer(x, timeout=5)["y"].tolist() == [2, 2, 2]
binding.run(timeout=5)
print(interrupts)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(ADD3)
    child.stdin.close()
    assert child.stdout.readline() == b"ready\n"
    sent = 0
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        child.send_signal(signal.SIGINT)
        sent += 1
        time.sleep(0.002)
    assert child.stderr is not None
    with child.stdout, child.stderr:
        out = child.stdout.read()
        assert child.wait(30) == 0, child.stderr.read().decode()
    assert int(out) > 10


@pytest.mark.parametrize("call", ["model.infer(x)", "binding.run()"])
def test_a_signal_handler_that_calls_into_its_own_call_is_told(call: str) -> None:
    told: list[BaseException | None] = []

    def handle(*_: object) -> None:
        try:
            eval(call, names)
        except accelerate.InferenceError as error:
            told.append(error)
        else:
            told.append(None)  # between two calls

    with accelerate.load(odd_models.slow(0.01), backend="tflite_cpu", num_threads=1) as model:
        binding, x = model.bind(), random_inputs(model)
        names = {"model": model, "binding": binding, "x": x}
        wanted = model.infer(x)
        for name, array in binding.inputs.items():
            array[...] = x[name]
        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        try:
            end = time.monotonic() + 20
            while not any(told) and time.monotonic() < end:
                eval(call, names)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert "from a signal handler" in str(next(filter(None, told)))
        binding.run()
        for answer in (model.infer(x), binding.outputs):
            assert all(np.array_equal(answer[name], wanted[name]) for name in wanted)


@pytest.mark.slow
@pytest.mark.skipif("tflite-runtime" not in engines.INSTALLED, reason="about tflite-runtime's verification")
def test_a_verification_ends_though_its_parent_was_killed(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(odd_models.slow(120))
    program = "import accelerate, sys; accelerate.load(sys.argv[1], backend='tflite_cpu', engine='tflite-runtime')"
    environment = {**os.environ, "EDGE_ACCELERATE_CACHE": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "m.tflite")], env=environment)
    child = ""
    end = time.monotonic() + 20
    while not child and time.monotonic() < end:
        child = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().strip()
        time.sleep(0.05)
    assert child
    parent.kill()
    parent.wait()
    end = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        time.sleep(0.2)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize("names", [[], 0, "", {"inputs": {"x": "a", "0": "b"}}])
def test_tensor_names_of_another_kind(names: Any) -> None:
    with pytest.raises(OptionError, match="tensor_names"):
        accelerate.load(ADD3, backend="tflite_cpu", tensor_names=names)


@pytest.mark.parametrize("normalization", [((), ()), (127.5, ()), {"nobody": (0, 255)}])
def test_normalizations_of_nothing(normalization: Any) -> None:
    with pytest.raises(OptionError, match="normalization"):
        accelerate.load(ADD3, backend="tflite_cpu", normalization=normalization)


def test_a_normalization_may_go_by_an_alias() -> None:
    with accelerate.load(odd_models.image_float(), backend="tflite_cpu", normalization={"0": (0, 255)}) as model:
        assert model.metadata().inputs[0].normalization == Normalization((0.0,), (255.0,), "user")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this platform")
def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(accelerate.ModelError, match="pipe"):
        accelerate.load(tmp_path / "pipe")


def test_errors_and_records_can_be_copied_pickled_and_hashed() -> None:
    with pytest.raises(accelerate.NoBackendError) as caught:
        accelerate.load(odd_models.custom_op("Nobody"), device="nowhere:0")
    for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert (str(again), again.plan) == (str(caught.value), caught.value.plan)
    with accelerate.load(ADD3, backend="tflite_cpu") as model:
        metadata = model.metadata()
        assert pickle.loads(pickle.dumps(metadata)) == metadata
        assert len({metadata, metadata, model.runtime, metadata.inputs[0]}) == 3


def test_modules_that_are_imported_when_they_are_named() -> None:
    code = (
        "import accelerate, sys\n"
        "assert not {'accelerate.image', 'accelerate.testing', 'pytest'} & set(sys.modules)\n"
        "assert accelerate.image.to_tensor and accelerate.testing.compare\n"
        "try:\n    accelerate.nonsense\nexcept AttributeError as error:\n    assert 'nonsense' in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_quiet_unless_the_program_asks_for_messages() -> None:
    code = (
        "import accelerate, logging, sys, numpy as np\n"
        "if sys.argv[1] == 'loud': logging.basicConfig()\n"
        "model = accelerate.load(sys.stdin.buffer.read(), backend='tflite_cpu')\n"
        "model.infer(np.full(4, 1e9))\n"
    )
    for how, said in (("quiet", False), ("loud", True)):
        done = subprocess.run(
            [sys.executable, "-c", code, how], input=odd_models.uint8_quantised(), capture_output=True, check=True
        )
        assert (b"saturated" in done.stderr) is said


@pytest.mark.parametrize("damaged", [odd_models.edgetpu_like()[:100], ADD3[:200]])
def test_auto_says_of_a_damaged_file_that_it_is_damaged(damaged: bytes) -> None:
    with pytest.raises(accelerate.ModelError, match="damaged or cut short"):
        accelerate.load(damaged)
    decided = accelerate.plan(damaged)
    assert decided.chosen is None
    assert all(row.remedy for row in decided.skipped)


def test_a_plan_knows_what_an_interpreter_has_settled() -> None:
    interpreter_class = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    interpreter = interpreter_class(model_content=ADD3)
    options: dict[str, Any]
    for options in ({"num_threads": 2}, {"engine": "litert"}):
        decided = accelerate.plan(interpreter, backend="tflite_cpu", **options)
        assert decided.chosen is None
        assert "settled" in decided.skipped[0].reason
    assert accelerate.plan(interpreter).chosen is not None


def test_a_plan_names_what_is_nearest_first() -> None:
    decided = accelerate.plan(ADD3, device="nowhere:0")
    assert decided.skipped[0].backend == "tflite_cpu"  # it takes the file, and has no such device


def test_a_plan_says_that_an_operator_may_be_missing() -> None:
    chosen = accelerate.plan(odd_models.custom_op("Nobody")).chosen
    assert chosen is not None
    assert "Nobody" in chosen.reason


def test_no_message_repeats_a_password() -> None:
    for url in ("http://user:secret@host/model", "triton://user:secret@host/model"):
        with pytest.raises(AccelerateError) as caught:
            accelerate.load(url)
        assert "secret" not in str(caught.value)


def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.tflite")
    try:
        with open(path, "wb") as file:
            file.write(ADD3)
    except OSError:
        pytest.skip("this file system takes no such name")
    with accelerate.load(os.fsdecode(path)) as model:
        assert model.infer(ONES)["y"].tolist() == [2, 2, 2]
