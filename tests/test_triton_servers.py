"""The triton backend beside other packages of the same protocol, and on servers with less or more than usual."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc")

import grpc
from conftest import ROOT
from triton_server import MLSERVER_ENV, TritonServer, needs_mlserver, needs_triton, triton  # noqa: F401 - the fixture
from tritonclient.grpc import service_pb2

import accelerate
from accelerate import InferenceError, InferenceTimeoutError, OptionError, ServerError, UnsupportedModelError
from accelerate.formats.open_inference.messages import SERVICE

DIGITS = Path(accelerate.__file__).parent / "data" / "digits_float.tflite"

# The same protocol, twice in one process

# what MLServer, KServe and others register: the protocol's names, in a file of another name
_ANOTHER_PACKAGE = """
def register_another():
    from google.protobuf import descriptor_pb2, descriptor_pool
    file = descriptor_pb2.FileDescriptorProto(name="another/dataplane.proto", package="inference", syntax="proto3")
    for name in ("ModelInferRequest", "ModelInferResponse", "ServerMetadataRequest", "ModelConfig"):
        file.message_type.add(name=name)
    descriptor_pool.Default().Add(file)
"""
_MLSERVER = "def register_another(): import mlserver.grpc.dataplane_pb2\n"
_CALL = """
import sys
import numpy as np
import accelerate

def call():
    with accelerate.load(sys.argv[1], backend="triton") as model:
        x = {name: np.random.default_rng().random((10, 10), np.float32) for name in "ab"}
        np.testing.assert_array_equal(model.infer(x)["y"], x["a"] + x["b"])
        assert model.do_command({"command": "statistics"})["versions"]["1"]["inferences"]
"""


@pytest.mark.parametrize("order", ["register_another(); call()", "call(); register_another(); call()"])
@pytest.mark.parametrize(
    ("package", "implementation"),
    [
        pytest.param(_ANOTHER_PACKAGE, "upb", id="any-upb"),
        pytest.param(_ANOTHER_PACKAGE, "python", id="any-python"),
        pytest.param(_MLSERVER, "upb", id="mlserver", marks=needs_mlserver),
    ],
)
def test_another_package_of_the_protocol_may_be_imported(
    package: str,
    order: str,
    implementation: str,
    triton: TritonServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    program = [sys.executable] if package is _ANOTHER_PACKAGE else [MLSERVER_ENV / "bin" / "python"]
    # the package is not installed in MLServer's environment
    declared = tmp_path / "edge_accelerate-0.dist-info"
    declared.mkdir()
    (declared / "METADATA").write_text("Name: edge-accelerate\nVersion: 0\n", encoding="utf-8")
    entry = "[accelerate.backends]\ntriton = accelerate.backends.triton:Triton\n"
    (declared / "entry_points.txt").write_text(entry, encoding="utf-8")
    done = subprocess.run(
        [*program, "-c", f"{package}\n{_CALL}\n{order}", f"triton://{triton.url}/add"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, tmp_path))),
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


# Servers that have some of the calls


def _describe(request: Any) -> Any:
    answer = service_pb2.ModelMetadataResponse(name=request.name, versions=["1"])
    answer.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
    answer.outputs.add(name="y", datatype="FP32", shape=[-1, 2])
    return answer


def _triple(request: Any) -> Any:
    x = np.frombuffer(request.raw_input_contents[0], np.float32)
    answer = service_pb2.ModelInferResponse(model_name=request.model_name, raw_output_contents=[(x * 3).tobytes()])
    answer.outputs.add(name="y", datatype="FP32", shape=request.inputs[0].shape)
    return answer


_LOST = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
_MODEL_ONLY: Mapping[str, Callable[[Any], Any]] = {"ModelMetadata": _describe, "ModelInfer": _triple}


@contextmanager
def serving(calls: Mapping[str, Callable[[Any], Any]]) -> Iterator[str]:
    """Serve these calls of the protocol, and no others, on a port of this machine's; yield the address.

    A call that returns None fails like one whose connection broke.
    """
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            lambda request, context, answer=answer: answer(request) or context.abort(*_LOST),
            getattr(service_pb2, f"{name}Request").FromString,
            lambda message: message.SerializeToString(),
        )
        for name, answer in calls.items()
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize("extensions", [None, ["model_configuration", "system_shared_memory"]])
def test_a_server_of_two_calls(extensions: list[str] | None) -> None:
    """As KServe's ModelMesh is one; and one that announces what it has not."""
    calls = dict(_MODEL_ONLY)
    if extensions is not None:
        calls["ServerMetadata"] = lambda _: service_pb2.ServerMetadataResponse(
            name="small", version="7", extensions=extensions
        )
    with serving(calls) as server, accelerate.load(f"triton://{server}/m") as model:
        x = np.random.default_rng().random((5, 2), np.float32)
        np.testing.assert_array_equal(model.infer(x)["y"], x * 3)
        with model.bind({"x": (5, 2)}) as binding:
            binding.inputs["x"][...] = -x
            binding.run()
            np.testing.assert_array_equal(binding.outputs["y"], x * -3)
        told = ("Open Inference server", "unknown") if extensions is None else ("small", "7")
        assert (model.runtime.name, model.runtime.version) == told
        assert model.runtime.details["transport"] == "message"
        assert model.runtime.details["shared_memory"].startswith("not used: ")
        with pytest.raises(NotImplementedError, match="known: reset, stats, warmup"):
            model.do_command({"command": "statistics"})
        with pytest.raises(ServerError, match=r"does not tell its name|small 7"):
            accelerate.load(DIGITS, backend="triton", url=server)


def test_a_server_that_does_not_describe_its_models() -> None:
    with serving({"ModelInfer": _triple}) as server, pytest.raises(ServerError, match="Open Inference Protocol server"):
        accelerate.load(f"triton://{server}/m")


# Inputs that may be left out


@pytest.mark.parametrize("memory", ["system", "none"])
@pytest.mark.parametrize("name", ["optional", "optional_batched"])
def test_optional_inputs(triton: TritonServer, name: str, memory: str) -> None:  # noqa: F811
    triton.load(name)
    batch = (3,) if name == "optional_batched" else ()
    random = np.random.default_rng()
    with accelerate.load(f"triton://{triton.url}/{name}", shared_memory=memory) as model:
        assert {t.name: dict(t.extra) for t in model.metadata().inputs} == {
            "x": {},
            "bias": {"optional": True},
            "word": {"optional": True},
        }
        model.warmup()
        for _ in range(2):  # of the same layouts, by the regions that are there then
            x, bias = random.random((*batch, 2), np.float32), random.random((*batch, 1), np.float32)
            word = np.full((*batch, 1), "seven", object)
            np.testing.assert_array_equal(model.infer(x)["y"], x + np.float32(100))
            np.testing.assert_array_equal(model.infer({"x": x, "bias": bias})["y"], x + bias)
            np.testing.assert_array_equal(model.infer({"word": word, "x": x})["y"], x + np.float32(100) + 5)
            np.testing.assert_array_equal(model.infer({"x": x, "bias": bias, "word": word})["y"], x + bias + 5)
        shapes = {"x": x.shape} if batch else {}
        with model.bind(shapes) as plain, model.bind({**shapes, "bias": bias.shape}) as biased:
            assert (list(plain.inputs), list(biased.inputs)) == (["x"], ["x", "bias"])
            assert plain.zero_copy == biased.zero_copy == (memory == "system")
            plain.inputs["x"][...] = biased.inputs["x"][...] = x
            biased.inputs["bias"][...] = bias
            plain.run()
            biased.run(timeout=5)
            np.testing.assert_array_equal(plain.outputs["y"], x + np.float32(100))
            np.testing.assert_array_equal(biased.outputs["y"], x + bias)


# Models that keep state between the calls of a sequence


@pytest.fixture
def summing(triton: TritonServer) -> str:  # noqa: F811
    triton.load("sum")
    return f"triton://{triton.url}/sum"


@pytest.mark.parametrize("memory", ["system", "none"])
def test_a_model_is_one_sequence(triton: TritonServer, summing: str, memory: str) -> None:  # noqa: F811
    x = np.random.default_rng().integers(1, 100, (9, 1, 2)).astype(np.float32)
    model, other = (accelerate.load(summing, shared_memory=memory) for _ in range(2))
    with model, other, model.bind() as binding:
        assert model.metadata().stateful
        binding.inputs["x"][...] = 3
        model.warmup()
        for i in range(4):
            np.testing.assert_array_equal(model.infer(x[i], timeout=None if i % 2 else 5)["y"], x[: i + 1].sum(0))
            binding.run()
            np.testing.assert_array_equal(binding.outputs["y"], np.full((1, 2), 3 * (i + 1)))
            np.testing.assert_array_equal(other.infer(2 * x[i])["y"], 2 * x[: i + 1].sum(0))
            model.warmup(2)
        with pytest.raises(accelerate.TensorError):
            model.infer(np.zeros((3, 2), np.float32))  # more than a batch: not a call of the sequence
        np.testing.assert_array_equal(model.infer(x[4])["y"], x[:5].sum(0))
        model.do_command({"command": "reset"})
        answers: list[Any] = list(accelerate.map(model, x))
        np.testing.assert_array_equal([a["y"] for a in answers], np.cumsum(x, 0))
        model.do_command({"command": "reset"}, timeout=5)

        async def together() -> list[Any]:
            return await asyncio.gather(*(model.infer_async(one) for one in x))

        np.testing.assert_array_equal([a["y"] for a in asyncio.run(together())], np.cumsum(x, 0))
    for one in (model, other):
        assert f"ended sequence {one.runtime.details['sequence_id']}\n" in triton.log()


def test_callers_of_a_sequence_wait_for_each_other(summing: str) -> None:
    with accelerate.load(summing) as model, ThreadPoolExecutor(4) as pool:
        sums = pool.map(lambda _: model.infer(np.ones((1, 2), np.float32))["y"][0, 0], range(40))
        assert sorted(sums) == list(range(1, 41))


def test_a_sequence_that_the_server_has_ended(summing: str) -> None:
    with accelerate.load(summing) as model:
        x = np.ones((1, 2), np.float32)
        model.infer(x)
        time.sleep(3.5)
        with pytest.raises(InferenceError, match=r"state is lost.*max_sequence_idle_microseconds"):
            model.infer(x)
        np.testing.assert_array_equal(model.infer(x)["y"], x)


@pytest.mark.parametrize(("parameters", "tries"), [({}, 2), ({"sequence_id": 1}, 1)])
def test_what_may_have_arrived_is_not_sent_again_in_a_sequence(parameters: dict[str, Any], tries: int) -> None:
    seen: list[Any] = []  # append returns None
    with (
        serving({**_MODEL_ONLY, "ModelInfer": seen.append}) as server,
        accelerate.load(f"triton://{server}/m", parameters=parameters) as model,
        pytest.raises(ServerError, match="Socket closed"),
    ):
        model.infer(np.ones((1, 2), np.float32))
    assert len(seen) == tries


def once_connected(call: Callable[[], Any]) -> Any:
    """Call until the server is found again, for which gRPC looks every half second."""
    for _ in range(100):
        try:
            return call()
        except ServerError:
            time.sleep(0.05)
    return call()


@needs_triton
@pytest.mark.slow
def test_a_sequence_on_a_server_that_is_restarted() -> None:
    x = np.ones((1, 2), np.float32)
    with TritonServer(("add", "sum")) as server, accelerate.load(f"triton://{server.url}/sum") as model:
        np.testing.assert_array_equal([model.infer(x)["y"] for _ in range(2)], [x, 2 * x])
        server.kill()
        with pytest.raises(ServerError, match="failed to connect"):
            model.infer(x, timeout=1)
        server.start()
        with pytest.raises(InferenceError, match="state is lost"):
            once_connected(lambda: model.infer(x, timeout=5))
        np.testing.assert_array_equal([model.infer(x)["y"] for _ in range(2)], [x, 2 * x])
        server.kill()
        started = time.monotonic()
        model.close()
        assert time.monotonic() - started < 2


def test_an_identifier_of_the_user_s(triton: TritonServer, summing: str) -> None:  # noqa: F811
    """It is also what makes an ensemble a sequence: its configuration does not speak of the state within."""
    triton.load("sum_ensemble")
    x = np.random.default_rng().random((2, 1, 2), np.float32)
    url = f"triton://{triton.url}/sum_ensemble"
    with accelerate.load(url) as model, pytest.raises(InferenceError, match=r"parameters=\{'sequence_id'"):
        model.infer(x[0])
    for one in (url, summing):
        with accelerate.load(one, parameters={"sequence_id": 4711}) as model:
            assert model.metadata().stateful
            np.testing.assert_array_equal(model.infer(x[0])["y"], x[0])
            np.testing.assert_array_equal(model.infer(x[1])["y"], x.sum(0))
    assert len(re.findall("ended sequence 4711\n", triton.log())) == 2
    for wrong in ("camera", 1 << 40):
        with pytest.raises(OptionError, match="the model takes uint32"):
            accelerate.load(summing, parameters={"sequence_id": wrong})


def test_an_iterative_sequence_is_one_call(triton: TritonServer) -> None:  # noqa: F811
    triton.load("iterative")
    with accelerate.load(f"triton://{triton.url}/iterative") as model:
        assert not model.metadata().stateful
        for x in np.random.default_rng().random((3, 1, 1), np.float32):
            np.testing.assert_array_equal(model.infer(x)["y"], x + np.float32(3))


@pytest.mark.slow
def test_a_forked_child_begins_a_sequence_of_its_own(summing: str) -> None:
    code = """
import os, sys, numpy as np, accelerate
x = np.ones((1, 2), np.float32)
with accelerate.load(sys.argv[1]) as model:
    sums = [model.infer(x)["y"][0, 0] for _ in range(3)]
    child = os.fork()
    sums += [model.infer(x, timeout=5)["y"][0, 0] for _ in range(3)]
    print(sums, flush=True)
    if not child:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    command = [sys.executable, "-W", "ignore:.*multi-threaded:DeprecationWarning", "-c", code, summing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = sorted(re.sub(r"np\.float32\((\S+)\)", r"\1", line) for line in done.stdout.splitlines())
    assert said == ["[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]", "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]"]


def test_a_sequence_is_not_spread(triton: TritonServer, summing: str) -> None:  # noqa: F811
    with pytest.raises(OptionError, match="replicas=2"):
        accelerate.load(summing, replicas=2)
    with pytest.raises(UnsupportedModelError, match="a fleet"):
        accelerate.load(f"triton://{triton.url},{triton.url}/sum")


def test_a_sequence_on_a_server_that_hangs(triton: TritonServer, summing: str) -> None:  # noqa: F811
    """`close` says goodbye and does not wait for an answer, and a reset within its time says that it could not."""
    release = Event()

    def hang(request: Any) -> Any:
        release.wait(20)
        return _triple(request)

    with serving({**_MODEL_ONLY, "ModelInfer": hang}) as server:
        model = accelerate.load(f"triton://{server}/m", parameters={"sequence_id": 1})
        release.set()
        model.infer(np.ones((1, 2), np.float32))
        release.clear()
        started = time.monotonic()
        model.close()
        assert time.monotonic() - started < 2
        with (
            accelerate.load(f"triton://{server}/m", parameters={"sequence_id": 1}) as busy,
            ThreadPoolExecutor() as pool,
        ):
            call = pool.submit(busy.infer, np.ones((1, 2), np.float32))
            time.sleep(0.3)
            with pytest.raises(InferenceTimeoutError, match="earlier call"):
                busy.do_command({"command": "reset"}, timeout=0.1)
            with pytest.raises(InferenceTimeoutError, match="earlier call"):
                busy.infer(np.ones((1, 2), np.float32), timeout=0.1)
            release.set()
            call.result()


# Parameters of requests


@pytest.mark.parametrize("memory", ["system", "none"])
def test_parameters_go_with_every_request(triton: TritonServer, memory: str) -> None:  # noqa: F811
    triton.load("parameters")
    url, given = f"triton://{triton.url}/parameters", {"who": "cämera", "at": -(1 << 62), "dark": True, "rate": 0.5}
    with accelerate.load(url, shared_memory=memory, parameters={**given, "priority": 1, "timeout": 10**6}) as model:
        for _ in range(2):
            assert json.loads(model.infer([1.0])["said"][0]) == given
        with model.bind() as binding:
            binding.run()
            assert json.loads(binding.outputs["said"][0]) == given
    with (
        accelerate.load(url, parameters={"priority": "high"}) as model,
        pytest.raises(InferenceError, match="parameters="),
    ):
        model.infer([1.0])
