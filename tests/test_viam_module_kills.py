"""The module killed and started again, and rebuilt, while programs call what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

import accelerate
from accelerate.errors import AccelerateError, ModelNotFoundError, ServerError

pytest.importorskip("viam", reason="needs the extra: viam")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

from grpclib.client import Channel
from viam.proto.module import ModuleServiceStub, ReadyRequest
from viam.services.mlmodel import MLModelClient
from viam_module import DIGITS, MLMODEL, RunningModule

MODEL, ATTRIBUTES = "edge-accelerate:mlmodel:tflite_cpu", {"model_path": str(DIGITS)}
CALLERS = 4
PIXELS = np.random.default_rng(2).integers(0, 256, (CALLERS, 1, 8, 8, 1), np.uint8)


def answers() -> list[Any]:
    with accelerate.load(DIGITS, backend="tflite_cpu") as model:
        return [model.infer(pixels)["scores"] for pixels in PIXELS]


class Address:
    """Where modules listen, one after the other: a path, or a loopback port."""

    def __init__(self, arguments: Sequence[str], path: str | None, port: int | None) -> None:
        self.arguments, self.path, self.port = arguments, path, port

    def channel(self) -> Channel:
        return Channel(path=self.path) if self.path else Channel("127.0.0.1", self.port)


@contextmanager
def address(kind: str) -> Iterator[Address]:
    if kind == "path":
        with tempfile.TemporaryDirectory(prefix="viam-") as folder:  # pytest's are too long for a socket
            path = str(Path(folder) / "module.sock")
            yield Address([path], path, None)
        return
    for port in random.sample(range(20_000, 30_000), 100):  # no client is given such a port by the system meanwhile
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            break
    yield Address([f"127.0.0.1:{port}", "--tcp-mode"], None, port)


@asynccontextmanager
async def module_at(where: Address) -> AsyncIterator[RunningModule]:
    """Start the module, wait until it serves the model, and kill it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "accelerate.serve.viam", *where.arguments],
        env={**os.environ, "VIAM_NO_MODULE_PARENT": "true"},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    channel = where.channel()
    try:
        for _ in range(600):
            try:
                await ModuleServiceStub(channel).Ready(ReadyRequest())
                break
            except OSError:  # nobody listens yet
                assert process.poll() is None, "the module has ended"
                await asyncio.sleep(0.05)
        module = RunningModule(process, channel, where.path or "")
        await module.add(MLMODEL, MODEL, "digits", ATTRIBUTES)
        yield module
    finally:
        channel.close()
        process.kill()
        process.wait(20)


class Callers:
    """Threads that call all the time, and what they have got."""

    def __init__(self, model: accelerate.Model) -> None:
        self.right, self.errors = 0, list[AccelerateError]()
        self._model, self._wanted = model, answers()
        self._stop, self._lock = threading.Event(), threading.Lock()

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        threads = [asyncio.create_task(asyncio.to_thread(self._call, number)) for number in range(CALLERS)]
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.wait(threads)  # on this loop, which may carry their calls
        await asyncio.gather(*threads)

    async def more(self, count: int) -> None:
        """Wait for more right answers."""
        before, until = self.right, time.monotonic() + 30
        while self.right < before + count:
            assert time.monotonic() < until, f"{self.right - before} of {count} answers; last {self.errors[-1:]}"
            await asyncio.sleep(0.01)

    async def fail_beyond(self, count: int) -> None:
        """Wait until each caller can have got an error."""
        until = time.monotonic() + 30
        while len(self.errors) < count + CALLERS:
            assert time.monotonic() < until, "nobody gets an error while no module is there"
            await asyncio.sleep(0.01)

    def _call(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                found = self._model.infer({"image": PIXELS[number]}, timeout=20 if number % 2 else None)["scores"]
            except AccelerateError as error:
                with self._lock:
                    self.errors.append(error)
                time.sleep(0.02)
            else:
                np.testing.assert_array_equal(found, self._wanted[number])
                with self._lock:
                    self.right += 1


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def killed_and_started_again(kind: str, times: int) -> None:
    with address(kind) as where, contextlib.ExitStack() as stack:
        if where.port:
            given: dict[str, Any] = {"source": f"viam://127.0.0.1:{where.port}/digits"}
        else:
            channel = where.channel()
            stack.callback(channel.close)
            given = {"source": channel, "service": "digits"}
        source = given.pop("source")
        async with module_at(where):
            model = await asyncio.to_thread(accelerate.load, source, backend="viam", **given)
            stack.callback(model.close)
            callers = Callers(model)
            await asyncio.to_thread(model.infer, {"image": PIXELS[0]})
        open_files = descriptors()
        async with callers.calling():
            for _ in range(times):
                async with module_at(where) as module:
                    await callers.more(40)
                    failed = len(callers.errors)
                    module.process.kill()
                    await callers.fail_beyond(failed)
            async with module_at(where):
                await callers.more(40)
        assert {type(error) for error in callers.errors} <= {ServerError, ModelNotFoundError}, callers.errors
        assert all(error.__cause__ is not None and error.remedy for error in callers.errors)
        until = time.monotonic() + 5
        while descriptors() > open_files and time.monotonic() < until:
            await asyncio.sleep(0.05)
        assert descriptors() <= open_files
    assert where.path is None or not os.path.exists(os.path.dirname(where.path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["port", "path"])
def test_killed_and_started_again(kind: str) -> None:
    asyncio.run(killed_and_started_again(kind, 3))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["port", "path"])
def test_killed_and_started_again_ten_times(kind: str) -> None:
    asyncio.run(killed_and_started_again(kind, 10))


@pytest.mark.long
def test_every_call_is_right_during_twenty_rebuilds() -> None:
    calls, rebuilds, wanted, done = 500, 20, answers(), [0]

    async def sdks(where: Address, number: int) -> None:
        channel = where.channel()
        client = MLModelClient("digits", channel)
        for _ in range(calls):
            found = (await client.infer({"image": PIXELS[number]}, timeout=30))["scores"]
            np.testing.assert_array_equal(found, wanted[number])
            done[0] += 1
        channel.close()

    async def ours(where: Address, number: int) -> None:
        model = await asyncio.to_thread(accelerate.load, f"viam://127.0.0.1:{where.port}/digits", backend="viam")
        for _ in range(calls):
            found = (await model.infer_async({"image": PIXELS[number]}, timeout=30))["scores"]
            np.testing.assert_array_equal(found, wanted[number])
            done[0] += 1
        model.close()

    async def program() -> None:
        with address("port") as where:
            async with module_at(where) as module:
                clients = [asyncio.create_task(kind(where, n)) for n, kind in enumerate((sdks, ours, sdks, ours))]
                for number in range(rebuilds):
                    while done[0] < number * CALLERS * calls // (rebuilds + 1) and not all(c.done() for c in clients):
                        await asyncio.sleep(0.005)
                    assert done[0] < CALLERS * calls, "the calls were over before the rebuilds"
                    backend = ("tflite_cpu", "auto")[number % 2]
                    attributes = {**ATTRIBUTES, "num_threads": 1 + number % 3}
                    await module.reconfigure(MLMODEL, f"edge-accelerate:mlmodel:{backend}", "digits", attributes)
                await asyncio.gather(*clients)

    asyncio.run(program())
    assert done[0] == CALLERS * calls
