"""The connections of the backend for Viam machines: whose they are, servers that die or are none, forks, ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelerate
from accelerate.contract import Array
from accelerate.errors import (
    AccelerateError,
    InferenceError,
    InferenceTimeoutError,
    ModelNotFoundError,
    OptionError,
    ServerError,
)
from accelerate.testing.inputs import random_inputs

pytest.importorskip("viam", reason="needs the extra: viam")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

from grpclib.client import Channel
from viam_server import KEY_ID, ViamServer, services

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)


def on(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)


# Existing objects of the SDK


def test_a_channel_and_a_robot_client_lead_there(
    viam_server: ViamServer,
    loop: asyncio.AbstractEventLoop,
) -> None:
    from viam.robot.client import RobotClient
    from viam.rpc.dial import DialOptions

    async def connect() -> tuple[Channel, RobotClient]:
        options = RobotClient.Options(dial_options=DialOptions(insecure=True, disable_webrtc=True))
        address = f"127.0.0.1:{viam_server.port}"
        return Channel("127.0.0.1", viam_server.port), await RobotClient.at_address(address, options)

    async def close() -> None:
        channel.close()
        await machine.close()

    channel, machine = on(loop, connect())
    try:
        for given in (channel, machine):
            with pytest.raises(OptionError, match="service is None"):
                accelerate.load(given)
            with pytest.raises(ModelNotFoundError, match="nope"):
                accelerate.load(given, service="nope")
            with accelerate.load(given, service="plain") as model:
                assert model.backend == "viam"
                assert model.runtime.details["service"] == "plain"
                np.testing.assert_array_equal(model.infer({"a": A, "b": B}, timeout=5)["y"], A + B)
                with pytest.raises(AccelerateError):
                    accelerate.load(given, service="plain", api_key="x", api_key_id=KEY_ID)
            # what is the program's own stays open
            with accelerate.load(given, service="plain") as model:
                model.infer({"a": A, "b": B})
    finally:
        on(loop, close())


def test_a_channel_within_the_process(loop: asyncio.AbstractEventLoop) -> None:
    from grpclib.testing import ChannelFor
    from viam.resource.manager import ResourceManager
    from viam.services.mlmodel.service import MLModelRPCService

    channel_for = ChannelFor([MLModelRPCService(ResourceManager(services()))])
    channel = on(loop, channel_for.__aenter__())
    try:
        with accelerate.load(channel, service="plain") as model:
            np.testing.assert_array_equal(model.infer({"a": A, "b": B})["y"], A + B)
        with accelerate.load(channel, service="picky") as model, pytest.raises(InferenceError, match="Internal Server"):
            model.infer(np.full(3, 9, np.float32))
    finally:
        on(loop, channel_for.__aexit__(None, None, None))


def test_a_channel_to_a_unix_socket(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    from viam.rpc.server import Server

    path = str(tmp_path / "socket")

    async def start() -> tuple[Any, Channel]:
        server = Server(services())
        await server._server.start(path=path)
        return server._server, Channel(path=path)

    async def stop() -> None:
        channel.close()
        server.close()
        await server.wait_closed()

    server, channel = on(loop, start())
    with accelerate.load(channel, service="batched") as model:
        assert model.infer(np.ones((1, 4), np.float32))["y"].sum() == 8
    on(loop, stop())


def test_a_call_never_waits_for_its_own_loop(viam_server: ViamServer) -> None:
    async def main() -> Array:
        channel = Channel("127.0.0.1", viam_server.port)
        with pytest.raises(OptionError, match="to_thread"):
            accelerate.load(channel, service="plain")
        model = await asyncio.to_thread(accelerate.load, channel, service="plain")
        with pytest.raises(OptionError, match="infer_async"):
            model.infer({"a": A, "b": B})
        answer: Array = (await model.infer_async({"a": A, "b": B}, timeout=5))["y"]
        left.append(model)
        channel.close()
        return answer

    left: list[accelerate.Model] = []
    np.testing.assert_array_equal(asyncio.run(main()), A + B)
    with pytest.raises(ServerError, match="event loop"):
        left[0].infer({"a": A, "b": B})
    left[0].close()


# Servers that are not there, die, hang, or are none


def test_an_unknown_service(url: Callable[[str], str]) -> None:
    with pytest.raises(ModelNotFoundError, match="nope") as caught:
        accelerate.load(url("nope"))
    assert caught.value.__cause__ is not None
    assert caught.value.remedy


def test_nobody_there() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with pytest.raises(ServerError, match="cannot be reached"):
        accelerate.load(f"viam://127.0.0.1:{port}/plain")
    with pytest.raises(ServerError, match="cannot be reached"):
        accelerate.load("viam://no-such-host.invalid/plain")


class _Listener:
    """A server that is none: it does something with each connection."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.serve, self.connections = serve, list[socket.socket]()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(self.listening.accept()[0])
                self.serve(self.connections[-1])

    def close(self) -> None:
        self.listening.close()
        for connection in self.connections:
            connection.close()


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (lambda one: one.close(), ServerError),
        (lambda one: one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ServerError),
        (lambda one: one.sendall(os.urandom(10_000)), ServerError),
        (lambda one: None, ServerError),
    ],
    ids=["hangs up", "HTTP/1.1", "noise", "says nothing"],
)
def test_what_is_no_machine(
    serve: Callable[[socket.socket], None], error: type[AccelerateError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.backends.viam.model._DEFAULT_TIMEOUT", 1.0)
    listener = _Listener(serve)
    started = time.monotonic()
    with pytest.raises(error):
        accelerate.load(f"viam://127.0.0.1:{listener.port}/plain")
    assert time.monotonic() - started < 5
    listener.close()


@pytest.mark.slow
def test_the_server_is_killed_and_started_again() -> None:
    with ViamServer() as server, accelerate.load(server.url("plain")) as model:
        answers, errors, stop = [0], list[AccelerateError](), threading.Event()

        def call(seed: int) -> None:
            inputs = random_inputs(model, seed)
            while not stop.is_set():
                try:
                    y = model.infer(inputs, timeout=5 if seed % 2 else None)["y"]
                    np.testing.assert_array_equal(y, inputs["a"] + inputs["b"])
                    answers[0] += 1
                except ServerError as error:
                    errors.append(error)
                    time.sleep(0.01)

        with ThreadPoolExecutor(4) as pool:
            callers = [pool.submit(call, seed) for seed in range(4)]
            try:
                for _ in range(10):
                    time.sleep(0.2)
                    server.kill()
                    time.sleep(0.1)
                    failed = len(errors)
                    assert failed
                    server.start()
                    before, until = answers[0], time.monotonic() + 10
                    while answers[0] < before + 20 and time.monotonic() < until:
                        time.sleep(0.01)
                    assert answers[0] >= before + 20, "it does not come back"
            finally:
                stop.set()
            for caller in callers:
                caller.result(30)
        assert all(error.__cause__ is not None and error.remedy for error in errors)
        np.testing.assert_array_equal(model.infer({"a": A, "b": B})["y"], A + B)


def test_a_deadline_ends_the_call_on_the_machine_too(url: Callable[[str], str]) -> None:
    with accelerate.load(url("slow")) as model, accelerate.load(url("cancelled")) as counter:

        def cancelled() -> int:
            return int(counter.infer(np.zeros(1, np.float32))["y"][0])

        before = cancelled()
        for timeout in (0.05, 0.1):
            started = time.monotonic()
            with pytest.raises(InferenceTimeoutError):
                model.infer(np.ones(3, np.float32), timeout=timeout)
            assert timeout <= time.monotonic() - started < timeout + 0.5
        until = time.monotonic() + 5
        while cancelled() < before + 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert cancelled() == before + 2
        assert model.infer(np.ones(3, np.float32), timeout=5)["y"].shape == (3,)


def test_a_client_that_hangs_up_disturbs_nobody(url: Callable[[str], str]) -> None:
    code = f"import accelerate, numpy as np; m = accelerate.load({url('slow')!r}); print(1, flush=True)\n"
    code += "while True: m.infer(np.ones(3, 'f'))"
    with accelerate.load(url("plain")) as model:
        for _ in range(2):
            child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.1)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            np.testing.assert_array_equal(model.infer({"a": A, "b": B}, timeout=5)["y"], A + B)


def test_calls_side_by_side(url: Callable[[str], str]) -> None:
    with accelerate.load(url("slow")) as model, ThreadPoolExecutor(8) as pool:
        started = time.monotonic()
        feeds = [np.full(3, n, np.float32) for n in range(8)]
        for feed, outputs in zip(feeds, pool.map(model.infer, feeds), strict=True):
            np.testing.assert_array_equal(outputs["y"], feed)
        assert time.monotonic() - started < 1.5  # one after the other they take 2.4 s


# Processes and programs


def run(code: str, *arguments: str) -> str:
    """Run a program, which must end well and quietly; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_a_connection_of_its_own(url: Callable[[str], str]) -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
import accelerate, numpy as np
m = accelerate.load(sys.argv[1]); gone = accelerate.load(sys.argv[1]); gone.close(); a = np.ones((2, 3), "f")
m.infer({"a": a, "b": a})
for how in range(4):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        if how:
            assert m.infer({"a": a, "b": a * how}, timeout=5)["y"][0, 0] == 1 + how
        if how == 2:
            m.close()
        if how == 3:
            os._exit(0)
        sys.exit(0)
    assert m.infer({"a": a, "b": a}, timeout=5)["y"][0, 0] == 2
    assert os.waitpid(child, 0)[1] == 0
    assert m.infer({"a": a, "b": a}, timeout=5)["y"][0, 0] == 2
print("done")
"""
    assert run(code, url("plain")) == "done\n"


def test_a_program_ends_quietly_with_all_left_open(url: Callable[[str], str]) -> None:
    code = """
import contextlib, sys, threading, time
import accelerate, numpy as np
hook = sys.excepthook
models = [accelerate.load(url) for url in sys.argv[1:]]
assert sys.excepthook is hook
def call():
    with contextlib.suppress(accelerate.AccelerateError):
        while True: models[0].infer(np.ones(3, "f"))
threading.Thread(target=call, daemon=True).start(); time.sleep(0.1)
print("done")
"""
    assert run(code, url("slow"), url("plain")) == "done\n"


def test_without_the_sdk_the_remedy_names_the_extra(url: Callable[[str], str]) -> None:
    code = """
import sys; sys.modules["viam"] = None
import accelerate
print(accelerate.list_backends()["viam"].remedy)
try: accelerate.load(sys.argv[1], backend='viam')
except accelerate.BackendNotAvailableError as error: print(error.remedy)
"""
    assert run(code, url("plain")) == 'pip install "edge-accelerate[viam]"\n' * 2


def test_loads_and_calls_leave_nothing(url: Callable[[str], str]) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def once() -> None:
        with accelerate.load(url("plain")) as model:
            model.infer({"a": A, "b": B})

    once()
    before = descriptors()
    for _ in range(20):
        once()
    gc.collect()
    until = time.monotonic() + 5
    while descriptors() > before and time.monotonic() < until:
        time.sleep(0.02)
    assert descriptors() <= before
    assert sum(t.name == "accelerate-viam" for t in threading.enumerate()) == 1
