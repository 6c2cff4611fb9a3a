"""Model files on a server, loaded with ``url=``: they answer like here, and outlive restarts and other programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest
from onnx import TensorProto, helper

pytest.importorskip("tritonclient.grpc")

from triton_server import TritonServer, needs_triton, triton  # noqa: F401 - a fixture

import accelerate
from accelerate import (
    InferenceTimeoutError,
    Model,
    ModelError,
    ModelNotFoundError,
    OptionError,
    TensorError,
    UnsupportedModelError,
)

pytestmark = needs_triton

DATA = Path(accelerate.__file__).parent / "data"


def onnx_model(op: str, given: list[Any] | None, back: list[Any] | None, dtype: int = 1, **attributes: Any) -> bytes:
    """y = op(x)."""
    x, y = (helper.make_tensor_value_info(name, dtype, shape) for name, shape in (("x", given), ("y", back)))
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], **attributes)], "g", [x], [y])
    made = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(made.SerializeToString())


def ship(server: TritonServer, given: Any, **options: Any) -> Model:
    return accelerate.load(given, backend="triton", url=server.url, **options)


def name_of(model: Model) -> str:
    return str(model.runtime.details["url"]).rpartition("/")[2]


# Answers like here


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (onnx_model("Identity", ["k"], ["k"], TensorProto.STRING), np.array(["a", "bé", ""], object)),
        (onnx_model("Neg", [], []), np.float32(3)),
        (onnx_model("ReduceSum", [4], [], keepdims=0), np.ones(4, np.float32)),
        (onnx_model("Neg", ["batch", 3], ["batch", 3]), np.ones((70, 3), np.float32)),
        (onnx_model("Neg", ["batch", 3], ["batch", 3]), np.ones((0, 3), np.float32)),
    ],
    ids=["strings", "scalar", "scalar_output", "large_batch", "empty_batch"],
)
@pytest.mark.parametrize("memory", ["system", "none"])
def test_onnx_by_the_shim_answers_like_here(
    triton: TritonServer,  # noqa: F811
    model: bytes,
    x: Any,
    memory: str,
) -> None:
    with accelerate.load(model, backend="onnxruntime") as local:
        wanted, told = local.infer(x)["y"], local.metadata()
    with ship(triton, model, device="cpu", shared_memory=memory) as remote:
        got, remote_told = remote.infer(x)["y"], remote.metadata()
        with remote.bind({"x": np.shape(x)}) as binding:
            binding.inputs["x"][...] = [word.encode() for word in x] if got.dtype == object else x
            binding.run()
            np.testing.assert_array_equal(binding.outputs["y"], wanted)
    np.testing.assert_array_equal(got, wanted)
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert remote_told.inputs[0].shape == told.inputs[0].shape
    assert remote_told.outputs[0].shape == told.outputs[0].shape


def test_settled_shapes_and_a_name_that_is_no_text(triton: TritonServer, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / os.fsdecode(b"mod\xe8le.tflite")
    path.write_bytes(odd_models.dynamic())
    x = np.random.default_rng(0).random((4, 3), np.float32)
    with ship(triton, path, shapes={"x": (4, 3)}) as model:
        assert model.metadata().inputs[0].shape == (4, 3)
        np.testing.assert_array_equal(model.infer(x)["y"], x + x)
        with pytest.raises(TensorError, match=r"wanted float32\[4, 3\]"):
            model.infer(x[:2])
        with model.bind() as binding:
            assert binding.inputs["x"].shape == (4, 3)
    with pytest.raises(OptionError, match=r"cannot become \[4, 4\]"):
        ship(triton, path, shapes={"x": (4, 4)})


def test_bytes_that_are_no_text(triton: TritonServer) -> None:  # noqa: F811
    with (
        ship(triton, onnx_model("Identity", ["k"], ["k"], TensorProto.STRING), device="cpu") as model,
        pytest.raises(TensorError, match="input 'x' holds bytes that are no UTF-8"),
    ):
        model.infer(np.array([b"\xff"], object))


def test_an_input_without_a_shape_is_refused(triton: TritonServer) -> None:  # noqa: F811
    with pytest.raises(UnsupportedModelError, match="does not give the shape of input 'x'"):
        ship(triton, onnx_model("Neg", None, None), device="cpu")


@pytest.mark.parametrize("signature", ["subtract", "multiply"])
def test_a_signature_runs_like_here(triton: TritonServer, signature: str) -> None:  # noqa: F811
    model = odd_models.two_signatures()
    with accelerate.load(model, backend="tflite_cpu", signature=signature) as local:
        told = local.metadata()
        inputs = {t.name: np.full(t.shape, n + 3, np.float32) for n, t in enumerate(told.inputs)}
        wanted = local.infer(inputs)
    with ship(triton, model, signature=signature) as remote:
        assert [t.name for t in remote.metadata().inputs] == [t.name for t in told.inputs]
        got = remote.infer(inputs)
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize(
    ("given", "says"),
    [(odd_models.two_signatures(), "did you mean 'multiply'"), (DATA / "digits.onnx", "an ONNX model")],
)
def test_a_signature_that_is_not_there(triton: TritonServer, given: Any, says: str) -> None:  # noqa: F811
    with pytest.raises(OptionError, match=says):
        ship(triton, given, signature="multiplies")


def test_an_image_is_normalised_like_here(triton: TritonServer) -> None:  # noqa: F811
    model = odd_models.image_float()
    with accelerate.load(model, backend="tflite_cpu") as local, ship(triton, model) as remote:
        frame = np.random.default_rng(0).integers(0, 256, local.metadata().inputs[0].shape, np.uint8)
        assert remote.metadata().inputs == local.metadata().inputs
        with pytest.warns(accelerate.AssumptionWarning) as said:
            np.testing.assert_array_equal(remote.infer(frame)["y"], local.infer(frame)["y"])
        assert len(said) == 2


# Restarts


@pytest.fixture(scope="module")
def server() -> Iterator[TritonServer]:
    """A server for tests that restart or stop it."""
    with TritonServer(()) as running:
        yield running


X = np.arange(3, dtype=np.float32)


def test_a_file_that_has_changed_is_not_shipped_for_the_one_that_was_loaded(
    server: TritonServer, tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(odd_models.add3())
    with ship(server, path) as model:
        wanted = model.infer(X)["y"]
        server.kill()
        server.restart()
        path.write_bytes((DATA / "digits_float.tflite").read_bytes())
        with pytest.raises(ModelError, match="was written to after it was loaded; load it again"):
            model.infer(X)
        path.unlink()
        with pytest.raises(ModelNotFoundError):
            model.infer(X)
        path.write_bytes(odd_models.add3())
        np.testing.assert_array_equal(model.infer(X)["y"], wanted)


def test_a_restart_costs_a_call_no_more_than_its_deadline_and_one_load(server: TritonServer) -> None:
    with ship(server, odd_models.add3()) as model:
        wanted, name = model.infer(X)["y"], name_of(model)
        server.kill()
        server.restart()
        before = server.log().count(f"loading: {name}")
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match="shipped to it again"):
            model.infer(X, timeout=0.2)
        assert time.monotonic() - started < 0.5
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(model.infer(X, timeout=20)["y"])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [answer.tolist() for answer in answers] == [wanted.tolist()] * 4
        assert server.log().count(f"loading: {name}") == before + 1
    assert not server.is_ready(name)


def test_a_model_that_is_closed_while_it_is_restored_does_not_stay(server: TritonServer) -> None:
    model = ship(server, odd_models.add3())
    name = name_of(model)
    server.kill()
    server.restart()
    with pytest.raises(InferenceTimeoutError):
        model.infer(X, timeout=0.2)
    started = time.monotonic()
    model.close()
    assert time.monotonic() - started < 1
    deadline = time.monotonic() + 20
    while f"successfully unloaded '{name}'" not in server.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.is_ready(name)


def test_a_server_that_hangs_does_not_hold_up_close(server: TritonServer, caplog: pytest.LogCaptureFixture) -> None:
    model = ship(server, odd_models.add3())
    os.kill(server.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        model.close()
        assert time.monotonic() - started < 1
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert "may stay there" in caplog.text
    with ship(server, odd_models.add3()) as again:  # finds it there, and takes it away now
        name = name_of(again)
        again.infer(X, timeout=20)
    assert not server.is_ready(name)


def test_load_brings_back_what_unload_took_away(server: TritonServer) -> None:
    with ship(server, odd_models.add3()) as model:
        wanted = model.infer(X)["y"]
        assert model.do_command({"command": "unload"}) == {"model": name_of(model), "loaded": False}
        assert not server.is_ready(name_of(model))
        assert model.do_command({"command": "load"}) == {"model": name_of(model), "loaded": True}
        assert server.is_ready(name_of(model))
        np.testing.assert_array_equal(model.infer(X)["y"], wanted)


# Several users


@contextmanager
def another_program(server: TritonServer) -> Iterator[subprocess.Popen[str]]:
    """Run a program that has the model loaded until its stdin ends."""
    code = f"""
import sys
sys.path[:] = {sys.path!r}
import accelerate, odd_models
with accelerate.load(odd_models.add3(), backend="triton", url={server.url!r}):
    print("loaded", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "loaded\n"
        yield program


def test_whoever_ships_a_model_again_takes_it_away(server: TritonServer) -> None:
    with another_program(server) as program:
        model = ship(server, odd_models.add3())
        program.communicate(timeout=30)  # it closes the model, and has shipped it
    assert not server.is_ready(name_of(model))
    wanted = X + X
    np.testing.assert_array_equal(model.infer(X)["y"], wanted)
    model.close()
    assert not server.is_ready(name_of(model))


def test_two_names_of_one_server(server: TritonServer) -> None:
    first = ship(server, odd_models.add3())
    with accelerate.load(
        odd_models.add3(), backend="triton", url=server.url.replace("127.0.0.1", "localhost")
    ) as second:
        first.close()
        assert server.is_ready(name_of(second))
    assert not server.is_ready(name_of(first))
