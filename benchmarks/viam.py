"""Tensors of Viam's ML model services: our codec beside the SDK's own, and calls of one server by both clients.

``python -m benchmarks.viam``. The server is the SDK's, in a process of its own on a loopback port: it decodes as the
SDK does, so that of a call with floats only the client's half can be saved.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from grpclib.client import Channel
from viam.proto.service.mlmodel import FlatTensors, Metadata, TensorInfo
from viam.rpc.server import Server
from viam.services.mlmodel import MLModel, MLModelClient
from viam.services.mlmodel.utils import flat_tensors_to_ndarrays, ndarrays_to_flat_tensors

import accelerate
from accelerate.formats.flat_tensors import decode, encode

from .sidebyside import Timings, measure
from .table import Row, show

__all__ = ["rows"]

_FORM = "{:.4f} x"
_CALL_FORM = "{:.3f} x"
_SHAPE = (1, 300, 300, 3)
_SDK = "viam-sdk"


def rows() -> Iterator[Row]:
    """Measure the codec, then calls."""
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


def _same_bytes(one: Any, other: Any) -> bool:
    return bool(one == other)


def _row(what: str, timings: Timings, target: float | None, form: str) -> Row:
    ratio = timings.ratio("ours", _SDK)
    ours, theirs = (1e3 * timings.median(way) for way in ("ours", _SDK))
    note = f"{1 / ratio.value:.3g} times as fast ({1 / ratio.high:.3g} .. {1 / ratio.low:.3g}); "
    return Row(f"Viam: {what}", ratio.value, target, form, note + f"{ours:.3f} against {theirs:.3f} ms")


def _calls(port: int, dtype: str) -> Timings:
    frame = {"image": np.random.default_rng(0).integers(0, 256, _SHAPE).astype(dtype)}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def connect() -> MLModelClient:
        return MLModelClient(dtype, Channel("127.0.0.1", port))

    async def close() -> None:
        client.channel.close()

    client = asyncio.run_coroutine_threadsafe(connect(), loop).result()
    with accelerate.load(f"viam://127.0.0.1:{port}/{dtype}") as model:
        timings = measure(
            {
                "ours": lambda: model.infer(frame),
                _SDK: lambda: asyncio.run_coroutine_threadsafe(client.infer(frame), loop).result(),
            },
            seconds=8,
        )
    asyncio.run_coroutine_threadsafe(close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    return timings


class _Sink(MLModel):
    """Takes a frame and gives a few values back."""

    async def infer(self, input_tensors: Any, *, extra: Any = None, timeout: float | None = None) -> Any:
        return {"few": input_tensors["image"].ravel()[:16]}

    async def metadata(self, *, extra: Any = None, timeout: float | None = None) -> Metadata:
        image = TensorInfo(name="image", data_type=self.name, shape=_SHAPE)
        return Metadata(input_info=[image], output_info=[TensorInfo(name="few", data_type=self.name, shape=[16])])


@contextmanager
def _server() -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.viam", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield port
        finally:
            process.kill()


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
