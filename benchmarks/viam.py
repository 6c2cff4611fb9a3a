"""Tensors of Viam's ML model services: our codec beside the SDK's own, and calls of one server by both clients.

``python -m benchmarks.viam``. Servers are processes of their own on a loopback port. The SDK's decodes as the SDK does,
so that of a call with floats only the client's half can be saved. With the real module of `accelerate.serve.viam`, in
which ONNX Runtime runs a model, the other half is saved, too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from grpclib.client import Channel
from onnx import TensorProto, helper
from viam.proto.app.robot import ComponentConfig
from viam.proto.module import AddResourceRequest, ModuleServiceStub
from viam.proto.service.mlmodel import FlatTensors, Metadata, TensorInfo
from viam.rpc.server import Server
from viam.services.mlmodel import MLModel, MLModelClient
from viam.services.mlmodel.utils import flat_tensors_to_ndarrays, ndarrays_to_flat_tensors
from viam.utils import dict_to_struct

import accelerate
from accelerate.formats.flat_tensors import decode, encode

from .sidebyside import Timings, measure
from .table import Row, show

__all__ = ["rows"]

_FORM = "{:.4f} x"
_CALL_FORM = "{:.3f} x"
_SHAPE = (1, 300, 300, 3)
_EQUAL_BYTES = (1, 600, 600, 3)  # of uint8
_FEW = 16
_SDK = "viam-sdk"


def rows() -> Iterator[Row]:
    """Measure the codec, then calls of the SDK's server, then those of the module."""
    random = np.random.default_rng(0)
    for dtype, target in (("float32", 1 / 100), ("uint8", None)):
        frame = {"image": random.integers(0, 256, _SHAPE).astype(dtype)}
        wire = encode(frame)
        assert wire == ndarrays_to_flat_tensors(frame).SerializeToString()
        writing = {
            "ours": lambda frame=frame: encode(frame),
            _SDK: lambda frame=frame: ndarrays_to_flat_tensors(frame).SerializeToString(),
        }
        yield _row(
            f"encode over {_SDK}, {dtype} 300x300x3", measure(writing, seconds=6, agree=_same_bytes), target, _FORM
        )
        reading = {
            "ours": lambda wire=wire: decode(wire, "the message"),
            _SDK: lambda wire=wire: flat_tensors_to_ndarrays(FlatTensors.FromString(wire)),
        }
        yield _row(f"decode over {_SDK}, {dtype} 300x300x3", measure(reading, seconds=6), target, _FORM)
    with _server() as port:
        for dtype in ("float32", "uint8"):
            yield _row(
                f"a call over {_SDK}'s client, {dtype} 300x300x3, 16 values back", _calls(port, dtype), None, _CALL_FORM
            )
    yield from _through_the_module()


def _same_bytes(one: Any, other: Any) -> bool:
    return bool(one == other)


def _row(what: str, timings: Timings, target: float | None, form: str) -> Row:
    ratio = timings.ratio("ours", _SDK)
    ours, theirs = (1e3 * timings.median(way) for way in ("ours", _SDK))
    note = f"{1 / ratio.value:.3g} times as fast ({1 / ratio.high:.3g} .. {1 / ratio.low:.3g}); "
    return Row(f"Viam: {what}", ratio.value, target, form, note + f"{ours:.3f} against {theirs:.3f} ms")


def _calls(port: int, dtype: str) -> Timings:
    frame = {"image": np.random.default_rng(0).integers(0, 256, _SHAPE).astype(dtype)}
    with _sdks_client(port, dtype) as client, accelerate.load(f"viam://127.0.0.1:{port}/{dtype}") as model:
        return measure({"ours": lambda: model.infer(frame), _SDK: lambda: client(frame)}, seconds=8)


def _through_the_module() -> Iterator[Row]:
    """Call the module by the SDK's client and by the backend, and by the backend with as many bytes of uint8."""
    floats = np.random.default_rng(0).integers(0, 256, _SHAPE).astype(np.float32)
    pixels = np.random.default_rng(1).integers(0, 256, _EQUAL_BYTES).astype(np.uint8)
    assert floats.nbytes == pixels.nbytes
    pixels.ravel()[:_FEW] = floats.ravel()[:_FEW]  # what comes back
    with (
        _module() as port,
        _sdks_client(port, "float32") as client,
        accelerate.load(f"viam://127.0.0.1:{port}/float32", backend="viam") as model,
        accelerate.load(f"viam://127.0.0.1:{port}/uint8", backend="viam") as model_of_uint8,
    ):
        timings = measure(
            {
                "ours": lambda: model.infer(floats),
                _SDK: lambda: client({"image": floats}),
                "uint8": lambda: model_of_uint8.infer(pixels),
            },
            seconds=20,
        )
    yield _row(
        f"through the module over {_SDK}'s client, float32 300x300x3, 16 values back", timings, 1 / 6, _CALL_FORM
    )
    ratio = timings.ratio("ours", "uint8")
    milliseconds = [1e3 * timings.median(way) for way in ("ours", "uint8")]
    note = f"{ratio.low:.3f} .. {ratio.high:.3f}; {milliseconds[0]:.3f} against {milliseconds[1]:.3f} ms"
    what = "Viam: through the module over as many bytes of uint8, float32 300x300x3, 16 values back"
    yield Row(what, ratio.value, 1.5, _CALL_FORM, note)


@contextmanager
def _sdks_client(port: int, service: str) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Give a function that calls a service by the SDK's client, whose event loop runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def connect() -> MLModelClient:
        return MLModelClient(service, Channel("127.0.0.1", port))

    async def close() -> None:
        client.channel.close()

    client = asyncio.run_coroutine_threadsafe(connect(), loop).result()
    try:
        yield lambda frame: asyncio.run_coroutine_threadsafe(client.infer(frame), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def _module() -> Iterator[int]:
    """Start the module, and add the models `float32` and `uint8` to it."""
    port = _free_port()
    command = [sys.executable, "-m", "accelerate.serve.viam", f"127.0.0.1:{port}", "--tcp-mode"]
    environment = {**os.environ, "VIAM_NO_MODULE_PARENT": "true"}
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process,
    ):
        try:
            asyncio.run(_add_models(port, Path(folder), process))
            yield port
        finally:
            process.kill()


async def _add_models(port: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
    channel = Channel("127.0.0.1", port)
    for dtype, shape in (("float32", _SHAPE), ("uint8", _EQUAL_BYTES)):
        path = folder / f"{dtype}.onnx"
        path.write_bytes(_first_values(dtype, shape))
        config = ComponentConfig(
            name=dtype,
            api="rdk:service:mlmodel",
            model="edge-accelerate:mlmodel:onnxruntime",
            attributes=dict_to_struct({"model_path": str(path)}),
        )
        while True:
            try:
                await ModuleServiceStub(channel).AddResource(AddResourceRequest(config=config))
                break
            except ConnectionError:
                if process.poll() is not None:
                    raise
                await asyncio.sleep(0.05)
    channel.close()


def _first_values(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return a model that gives the first values of its input back, so that calls are all that counts."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    constants = {"flat": [-1], "start": [0], "end": [_FEW]}
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["image", "flat"], ["all"]),
         helper.make_node("Slice", ["all", "start", "end"], ["few"])],
        "first_values",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("few", kind, [_FEW])],
        [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    packed: bytes = model.SerializeToString()
    return packed


class _Sink(MLModel):
    """Takes a frame and gives a few values back."""

    async def infer(self, input_tensors: Any, *, extra: Any = None, timeout: float | None = None) -> Any:
        return {"few": input_tensors["image"].ravel()[:16]}

    async def metadata(self, *, extra: Any = None, timeout: float | None = None) -> Metadata:
        image = TensorInfo(name="image", data_type=self.name, shape=_SHAPE)
        return Metadata(input_info=[image], output_info=[TensorInfo(name="few", data_type=self.name, shape=[16])])


@contextmanager
def _server() -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.viam", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield port
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


async def _serve(port: int) -> None:
    server = Server([_Sink("float32"), _Sink("uint8")])._server
    await server.start("127.0.0.1", port)
    print("ready", flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(_serve(int(sys.argv[1])))
    else:
        show(rows())
