"""Servers that die, come back, hang, or refuse: every call is answered rightly or raises a typed error, in time."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc")

from calling_threads import CallingThreads
from triton_server import TritonServer, needs_triton, regions_of, triton  # noqa: F401 - the fixture

import accelerate
from accelerate import (
    DeviceNotFoundError,
    InferenceError,
    InferenceTimeoutError,
    Model,
    ModelNotFoundError,
    ServerError,
    UnsupportedModelError,
)

pytestmark = needs_triton

GRACE = 0.5  # seconds that a call may take beyond its deadline


def load(url: str, name: str, **options: Any) -> Model:
    return accelerate.load(f"triton://{url}/{name}", backend="triton", **options)


class Load(CallingThreads):
    """Threads that call a model until told to stop, and check every answer."""

    def __init__(self, model: Model, threads: int, timeout: float) -> None:
        self.good: list[float] = []  # when
        self.errors: list[Exception] = []
        self.wrong: list[object] = []
        self.late: list[float] = []
        self._model, self._timeout = model, timeout
        super().__init__(threads)

    def call_once(self, random: np.random.Generator) -> None:
        a, b = random.random((10, 10), np.float32), random.random((10, 10), np.float32)
        started = time.monotonic()
        try:
            y = self._model.infer({"a": a, "b": b}, timeout=self._timeout)["y"]
        except accelerate.AccelerateError as error:
            self.errors.append(error)
            time.sleep(0.01)
        except Exception as error:  # must not happen; the test says what it was
            self.wrong.append(error)
        else:
            if not np.array_equal(y, a + b):
                self.wrong.append((a, b, y))
            self.good.append(time.monotonic())
        if (took := time.monotonic() - started) > self._timeout + GRACE:
            self.late.append(took)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("memory", "kills"),
    [("system", 2), ("none", 1), *(pytest.param(memory, 20, marks=pytest.mark.long) for memory in ("system", "none"))],
)
def test_a_server_killed_under_load(memory: str, kills: int) -> None:
    before = regions_of()
    with TritonServer() as server, load(server.url, "add", shared_memory=memory) as model:
        calls = Load(model, threads=4, timeout=2.0)
        waits = []
        with calls.running():
            for _ in range(kills):
                time.sleep(0.5)
                server.kill()
                server.restart()
                ready = time.monotonic()
                while not any(when > ready for when in calls.good[-8:]) and time.monotonic() < ready + 5:
                    time.sleep(0.005)
                waits.append(time.monotonic() - ready)
        assert not calls.wrong
        assert not calls.late
        assert calls.errors
        assert {type(error) for error in calls.errors} <= {ServerError, InferenceTimeoutError}
        assert max(waits) < 1.0, waits
        assert model.runtime.details["transport"] == ("system-shared-memory" if memory == "system" else "message")
    assert regions_of() == before


@pytest.mark.slow
def test_a_fleet_of_two_of_which_one_is_killed() -> None:
    one, other = TritonServer(), TritonServer()
    with ThreadPoolExecutor() as pool:
        pool.map(TritonServer.start, (one, other))  # both at once; the next line starts again what failed
    with one, other:
        with load(f"{one.url},{other.url}", "add") as model:
            assert model.runtime.details["fleet"]
            assert model.runtime.details["transport"] == "message"
            calls = Load(model, threads=4, timeout=2.0)
            with calls.running():
                for server in (one, other):
                    time.sleep(0.3)
                    server.kill()
                    time.sleep(0.3)
                    server.restart()
                    time.sleep(0.5)
            assert not calls.wrong
            assert not calls.late
            assert not calls.errors
            for server in (one, other):  # and both had work
                stats = server.request("v2/models/add/stats")["model_stats"][0]["inference_count"]
                assert stats > 20
        with pytest.raises(ServerError, match="several servers"):
            load(f"{one.url},{other.url}", "add", shared_memory="system")


def test_a_binding_survives_a_restart() -> None:
    with TritonServer() as server, load(server.url, "add") as model, model.bind() as binding:
        output = binding.outputs["y"]
        binding.inputs["a"][...], binding.inputs["b"][...] = 1, 2
        binding.run()
        server.kill()
        with pytest.raises(ServerError):
            binding.run()
        np.testing.assert_array_equal(binding.outputs["y"], 3)
        server.restart()
        binding.inputs["a"][...] = 5
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                binding.run()
                break
            except ServerError:
                time.sleep(0.02)
        np.testing.assert_array_equal(output, 7)
        np.testing.assert_array_equal(binding.outputs["y"], 7)


def test_a_slow_call_leaves_its_memory_alone_until_it_ends(triton: TritonServer) -> None:  # noqa: F811
    triton.load("slow")
    before = regions_of()
    with load(triton.url, "slow") as model:
        with pytest.raises(InferenceTimeoutError, match="no answer within 0"):
            model.infer([0.8], timeout=0.1)
        # its region still belongs to the server: the next calls must not share it
        for seconds in (0.01, 0.02, 0.03):
            np.testing.assert_array_equal(model.infer([seconds])["y"], np.array([seconds], np.float32))
        with model.bind() as binding:
            binding.inputs["seconds"][...] = 0.02
            binding.run()
            taken = binding.outputs["y"]
            binding.inputs["seconds"][...] = 0.6
            with pytest.raises(InferenceTimeoutError):
                binding.run(timeout=0.1)
            np.testing.assert_array_equal(binding.outputs["y"], np.array([0.02], np.float32))
            kept = binding.outputs["y"]
            time.sleep(0.7)  # the server writes its answer after all
            np.testing.assert_array_equal(kept, np.array([0.02], np.float32))
            binding.inputs["seconds"][...] = 0.03
            binding.run()
            np.testing.assert_array_equal(binding.outputs["y"], np.array([0.03], np.float32))
            np.testing.assert_array_equal(taken, np.array([0.03], np.float32))  # the same memory again
    assert regions_of() == before
    assert registered(triton) == set()


def registered(server: TritonServer) -> set[str]:
    """Return the regions that the server knows."""
    return {region["name"] for region in server.request("v2/systemsharedmemory/status")}


def test_many_deadlines_do_not_fill_the_memory(triton: TritonServer) -> None:  # noqa: F811
    triton.load("slow")
    before = regions_of()
    with load(triton.url, "slow") as model:
        for _ in range(30):
            with pytest.raises(InferenceTimeoutError):
                model.infer([0.05], timeout=0.01)
        assert len(regions_of() - before) <= 16
        np.testing.assert_array_equal(model.infer([0.01])["y"], np.array([0.01], np.float32))
    assert regions_of() == before


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("nothing", ModelNotFoundError, "name and version"),
        ("add/7", ModelNotFoundError, "version 7"),
        ("versions/2", ModelNotFoundError, "version 2"),
        ("decoupled", UnsupportedModelError, "decoupled"),
    ],
)
def test_models_that_cannot_be_used(triton: TritonServer, name: str, kind: type[Exception], words: str) -> None:  # noqa: F811
    for model in ("versions", "decoupled"):
        triton.load(model)
    with pytest.raises(kind, match=words):
        load(triton.url, name)


def test_a_model_that_fails_and_one_that_crashes(triton: TritonServer) -> None:  # noqa: F811
    triton.load("fail")
    triton.load("crash")
    with load(triton.url, "fail") as model, pytest.raises(InferenceError, match="told to fail"):
        model.infer([1.0])
    with load(triton.url, "crash") as model:
        np.testing.assert_array_equal(model.infer([0.0])["y"], np.array([0], np.float32))
        with pytest.raises(InferenceError, match="server's log"):
            model.infer([1.0])
    triton.unload("crash")


def test_an_unloaded_model(triton: TritonServer) -> None:  # noqa: F811
    triton.load("identity_fp64")
    with load(triton.url, "identity_fp64") as model:
        model.infer([1.0])
        model.do_command({"command": "unload"})
        with pytest.raises((ModelNotFoundError, ServerError), match=r"loaded|ready"):
            model.infer([1.0])
        assert model.do_command({"command": "load"}) == {"model": "identity_fp64", "loaded": True}
        np.testing.assert_array_equal(model.infer([2.0])["y"], [2.0])
        time.sleep(0.2)  # the server counts after it has answered
        statistics = model.do_command({"command": "statistics"})["versions"]["1"]
        assert statistics["inferences"] == 1
        assert {"queue", "compute_input", "compute_infer", "compute_output"} <= set(statistics)


def test_devices(triton: TritonServer) -> None:  # noqa: F811
    with load(triton.url, "add", device="cpu") as model:
        assert model.device == "cpu"
    with pytest.raises(DeviceNotFoundError, match="KIND_GPU"):
        load(triton.url, "add", device="gpu")


def test_wrong_addresses(triton: TritonServer) -> None:  # noqa: F811
    http = triton.http_url.removeprefix("http://")
    for where, words in ((http, "gRPC port"), ("127.0.0.1:1", "gRPC port"), ("no-such-host.invalid", "no host")):
        started = time.monotonic()
        with pytest.raises(ServerError, match=words):
            load(where, "add")
        assert time.monotonic() - started < 5
    with pytest.raises(ServerError, match="TLS"):
        accelerate.load(f"tritons://{triton.url}/add", backend="triton")


def test_a_message_that_is_too_large(triton: TritonServer) -> None:  # noqa: F811
    triton.load("dynamic")
    limit = {"grpc.max_receive_message_length": 1 << 20}
    with load(triton.url, "dynamic", shared_memory="none", channel_args=limit) as model:
        model.infer(np.zeros((10, 10), np.float32))
        with pytest.raises(ServerError, match="limit of 1048576"):
            model.infer(np.zeros((1000, 1000), np.float32))


def test_protected_calls() -> None:
    protected = "--grpc-restricted-protocol=inference:secret=open-sesame"
    with TritonServer(arguments=(protected,)) as server:
        header = {"triton-grpc-protocol-secret": "open-sesame"}
        with load(server.url, "add", headers=header) as model:
            model.warmup()
            assert "sesame" not in repr(model) + repr(model.runtime)
        for headers in (None, {"triton-grpc-protocol-secret": "guess"}):
            model = load(server.url, "add", headers=headers)
            with model, pytest.raises(ServerError, match="headers=") as caught:
                model.warmup()
            assert "guess" not in str(caught.value)


@pytest.mark.slow
def test_a_fork_has_a_connection_of_its_own(triton: TritonServer) -> None:  # noqa: F811
    code = f"""
import os, traceback, numpy as np, accelerate
a = np.ones((10, 10), np.float32)
with accelerate.load("triton://{triton.url}/add") as model, model.bind() as binding:
    for _ in range(3):
        model.infer({{"a": a, "b": a}})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for _ in range(3):
                assert (model.infer({{"a": a, "b": a}}, timeout=5)["y"] == 2).all()
            try:
                binding.run()
            except accelerate.ClosedError:
                code = 0
            model.close()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    for _ in range(3):
        assert (model.infer({{"a": a, "b": a}})["y"] == 2).all()
    binding.run()
"""
    # Python 3.12 and later warn of every fork in a process with threads, which gRPC has
    command = [sys.executable, "-W", "ignore:.*multi-threaded:DeprecationWarning", "-c", code]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.communicate(timeout=60)[1] == ""
    assert parent.returncode == 0
    assert regions_of(parent.pid) == set()
