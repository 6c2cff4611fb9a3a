"""Where a server listens: hosts, ports, unix sockets; and that it leaves them when it stops, and no other's."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the extra: serve")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

import grpc
import odd_models
import tritonclient.grpc as stock

import accelerate
from accelerate.formats.open_inference import messages
from accelerate.serve.open_inference import Server

_PATIENCE = 120.0  # seconds: the tests' machine may have much else to do


@pytest.fixture(scope="module")
def add3() -> Iterator[accelerate.Model]:
    with accelerate.load(odd_models.add3()) as model:
        yield model


@pytest.fixture(scope="module")
def server(add3: accelerate.Model) -> Iterator[Server]:
    with Server({"add3": add3}, port=0) as running:
        yield running


def _is_live(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive", None, None)
        return bool(call(b"", timeout=_PATIENCE) == b"\x08\x01")


def test_a_unix_socket(tmp_path: Path, add3: accelerate.Model) -> None:
    path = tmp_path / "models.sock"
    with Server({"add3": add3}, socket_path=str(path)) as running:
        assert running.address == f"unix:{path}"
        assert path.stat().st_mode & 0o077 == 0
        with stock.InferenceServerClient(running.address) as client:
            assert client.is_model_ready("add3")
            client.get_system_shared_memory_status()  # a caller over it may share memory
        with pytest.raises(accelerate.ServerError, match="another program listens there"):
            Server({"add3": add3}, socket_path=str(path))
    assert not path.exists()
    path.write_text("no socket")
    with pytest.raises(accelerate.ServerError, match="no socket"):
        Server({"add3": add3}, socket_path=str(path))
    with pytest.raises(accelerate.OptionError, match="may have 107"):
        Server({"add3": add3}, socket_path=str(tmp_path / ("x" * 120)))


def test_our_own_backend_over_a_unix_socket(tmp_path: Path, add3: accelerate.Model) -> None:
    path = tmp_path / "my models%41.sock"
    url = f"triton://{str(path).replace('/', '%2F').replace('%41', '%2541')}/add3"
    feeds = {info.name: np.random.default_rng(1).random(3, np.float32) for info in add3.metadata().inputs}
    with Server({"add3": add3}, socket_path=str(path)):
        assert path.exists()
        with accelerate.load(url) as model:
            assert model.runtime.details["transport"] == "system-shared-memory"
            found, wanted = model.infer(feeds), add3.infer(feeds)
            assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    with pytest.raises(accelerate.ServerError, match="No such file"):
        accelerate.load(url)


def test_a_socket_that_a_dead_server_has_left(tmp_path: Path, add3: accelerate.Model) -> None:
    path = tmp_path / "models.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with (
        Server({"add3": add3}, socket_path=str(path)) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        assert channel.unary_unary("/inference.GRPCInferenceService/ServerLive", None, None)(b"", timeout=_PATIENCE)


def test_places_that_cannot_be_had(server: Server, add3: accelerate.Model) -> None:
    for host, port, why in (
        ("127.0.0.1", server.port, "another program listens there"),
        ("localhost", server.port, "another program listens there"),  # though the port may be free at ::1
        ("192.0.2.1", 0, "no such address"),
        ("no-such-host.invalid", 0, "no host"),
    ):
        with pytest.raises(accelerate.ServerError, match=why):
            Server({"add3": add3}, host=host, port=port)


def test_the_network_is_warned_of(add3: accelerate.Model, caplog: pytest.LogCaptureFixture) -> None:
    with Server({"add3": add3}, host="0.0.0.0", port=0):
        assert "open to the network" in caplog.text
    caplog.clear()
    with Server({"add3": add3}, host="localhost", port=0):
        assert not caplog.records


def test_a_server_that_is_ending_leaves_its_successors_socket(tmp_path: Path, add3: accelerate.Model) -> None:
    path = str(tmp_path / "models.sock")
    with accelerate.load(odd_models.slow(0.5)) as slow:
        old = Server({"slow": slow}, socket_path=path)
        old.start()
        shape = slow.metadata().inputs[0].shape
        request = messages.ModelInferRequest(
            model_name="slow",
            inputs=[{"name": "x", "datatype": "FP32", "shape": shape}],
            raw_input_contents=[np.ones(shape, np.float32).tobytes()],
        )
        with grpc.insecure_channel(old.address) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
            call = infer.future(request.SerializeToString(), timeout=_PATIENCE)
            while not old.busy:
                assert not call.done()
            ending = threading.Thread(target=old.stop, args=(_PATIENCE,))
            ending.start()
            while Path(path).exists():
                assert ending.is_alive()
            with Server({"add3": add3}, socket_path=path) as new:
                assert call.result()
                ending.join()
                assert _is_live(new.address)


def test_a_server_that_never_started_gives_its_place_back(tmp_path: Path, add3: accelerate.Model) -> None:
    path = tmp_path / "models.sock"
    for place in ({"port": 0}, {"socket_path": str(path)}):
        never = Server({"add3": add3}, **place)
        assert never.stop()
        with Server({"add3": add3}, **{**place, "port": never.port}) as second:  # type: ignore[arg-type]
            assert _is_live(second.address)
    assert not path.exists()


@pytest.mark.parametrize("grace", [math.inf, 1e10, -1])
def test_a_grace_without_end(grace: float, add3: accelerate.Model) -> None:
    with Server({"add3": add3}, port=0) as server:
        assert server.stop(grace)
