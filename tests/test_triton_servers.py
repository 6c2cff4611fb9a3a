"""The triton backend beside other packages of the same protocol, and on servers with less or more than usual."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc")

import grpc
from conftest import ROOT
from triton_server import MLSERVER_ENV, TritonServer, needs_mlserver, triton  # noqa: F401 - the fixture
from tritonclient.grpc import service_pb2

import accelerate
from accelerate import ServerError
from accelerate.backends.triton.connection import SERVICE

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


_MODEL_ONLY: Mapping[str, Callable[[Any], Any]] = {"ModelMetadata": _describe, "ModelInfer": _triple}


@contextmanager
def serving(calls: Mapping[str, Callable[[Any], Any]]) -> Iterator[str]:
    """Serve these calls of the protocol, and no others, on a port of this machine's; yield the address."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            lambda request, _, answer=answer: answer(request),
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
        with pytest.raises(NotImplementedError, match="known: stats, warmup"):
            model.do_command({"command": "statistics"})
        with pytest.raises(ServerError, match=r"does not tell its name|small 7"):
            accelerate.load(DIGITS, backend="triton", url=server)


def test_a_server_that_does_not_describe_its_models() -> None:
    with serving({"ModelInfer": _triple}) as server, pytest.raises(ServerError, match="Open Inference Protocol server"):
        accelerate.load(f"triton://{server}/m")
