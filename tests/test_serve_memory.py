"""Shared memory of a server of this package: regions that clients register, those that lie and those that shrink."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the extra: serve")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

import grpc
import odd_models
import tritonclient.grpc as stock
from tritonclient.utils import shared_memory

import accelerate
from accelerate.formats.open_inference import messages
from accelerate.serve.open_inference import Server
from accelerate.serve.open_inference.peers import Peers
from accelerate.serve.open_inference.refusals import RefusalError
from accelerate.serve.open_inference.regions import Region

SHM = Path("/dev/shm")
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    models = {"add3": odd_models.add3(), "slow": odd_models.slow(0.3), "strings": odd_models.strings()}
    with contextlib.ExitStack() as stack:
        loaded = {name: stack.enter_context(accelerate.load(content)) for name, content in models.items()}
        yield stack.enter_context(Server(loaded, port=0))


@pytest.fixture
def ask(server: Server) -> Iterator[Ask]:
    with grpc.insecure_channel(server.address) as channel:

        def call(method: str, **fields: Any) -> Any:
            stub = channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                lambda message: message.SerializeToString(),
                getattr(messages, f"{method}Response").FromString,
            )
            return stub(getattr(messages, f"{method}Request")(**fields), timeout=60)

        yield call


@pytest.fixture
def file() -> Iterator[Path]:
    """A file of 4096 bytes in /dev/shm."""
    path = SHM / f"ea-test-{secrets.token_hex(8)}"
    path.write_bytes(bytes(4096))
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def region(file: Path, ask: Ask) -> Iterator[str]:
    ask("SystemSharedMemoryRegister", name=file.name, key=f"/{file.name}", offset=0, byte_size=4096)
    yield file.name
    ask("SystemSharedMemoryUnregister", name=file.name)


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def _place(region: str, offset: int, size: int) -> dict[str, Any]:
    return {
        "shared_memory_region": {"string_param": region},
        "shared_memory_offset": {"int64_param": offset},
        "shared_memory_byte_size": {"int64_param": size},
    }


def _add3(ask: Ask, given: dict[str, Any], wanted: dict[str, Any]) -> Any:
    x = {"name": "x", "datatype": "FP32", "shape": [3], "parameters": given}
    return ask("ModelInfer", model_name="add3", inputs=[x], outputs=[{"name": "y", "parameters": wanted}])


def test_tritonclient_shares_memory(server: Server) -> None:
    name = f"ea-test-{secrets.token_hex(8)}"
    handle = shared_memory.create_shared_memory_region(name, f"/{name}", 64)
    try:
        with stock.InferenceServerClient(server.address) as client:
            client.register_system_shared_memory(name, f"/{name}", 64)
            status = client.get_system_shared_memory_status().regions[name]
            assert (status.key, status.offset, status.byte_size) == (f"/{name}", 0, 64)
            shared_memory.set_shared_memory_region(handle, [np.array([1, 2, 4], np.float32)])
            given = stock.InferInput("x", [3], "FP32")
            given.set_shared_memory(name, 12)
            wanted = stock.InferRequestedOutput("y")
            wanted.set_shared_memory(name, 12, offset=16)
            answer = client.infer("add3", [given], outputs=[wanted])
            assert answer.get_output("y").parameters["shared_memory_region"].string_param == name
            assert shared_memory.get_contents_as_numpy(handle, np.float32, [3], 16).tolist() == [2, 4, 8]
            with pytest.raises(stock.InferenceServerException, match="ALREADY_EXISTS"):
                client.register_system_shared_memory(name, f"/{name}", 64)
            client.unregister_system_shared_memory(name)
            client.unregister_system_shared_memory(name)  # as with Triton, it is gone already
            with pytest.raises(stock.InferenceServerException, match="NOT_FOUND"):
                client.get_system_shared_memory_status(name)
            with pytest.raises(stock.InferenceServerException, match="Unable to find shared memory region"):
                client.infer("add3", [given], outputs=[wanted])
    finally:
        shared_memory.destroy_shared_memory_region(handle)


def test_strings_in_shared_memory(file: Path, region: str, ask: Ask) -> None:
    packed = b"\1\0\0\0a\0\0\0\0\2\0\0\0\xff\0"
    file.write_bytes(packed + bytes(4096 - len(packed)))
    x = {"name": "x", "datatype": "BYTES", "shape": [3], "parameters": _place(region, 0, len(packed))}
    y = {"name": "y", "parameters": _place(region, 100, 1000)}
    ask("ModelInfer", model_name="strings", inputs=[x], outputs=[y])
    assert file.read_bytes()[100:].startswith(b"\2\0\0\0\xff\0\0\0\0\0\1\0\0\0a")


@pytest.mark.parametrize(
    ("given", "wanted", "status", "said"),
    [
        ((0, 12), (4090, 12), "INVALID_ARGUMENT", "which has 4096"),
        ((4090, 12), (16, 12), "INVALID_ARGUMENT", "which has 4096"),
        ((-8, 12), (16, 12), "INVALID_ARGUMENT", "-8"),
        ((0, 12), (-8, 12), "INVALID_ARGUMENT", "-8"),
        ((1 << 62, 12), (16, 12), "INVALID_ARGUMENT", "which has 4096"),
        ((0, 13), (16, 12), "INVALID_ARGUMENT", "13 bytes"),
        ((0, 1 << 62), (16, 12), "INVALID_ARGUMENT", "bytes"),
        ((0, 12), (16, 11), "INTERNAL", "should be at least 12 bytes"),
    ],
)
def test_places_outside(
    given: tuple[int, int], wanted: tuple[int, int], status: str, said: str, file: Path, region: str, ask: Ask
) -> None:
    before = file.read_bytes()
    code, details = refused(lambda: _add3(ask, _place(region, *given), _place(region, *wanted)))
    assert code == status
    assert said in details
    assert file.read_bytes() == before


_REGION = {"shared_memory_region": {"string_param": "r"}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        *(
            ({"parameters": {**_REGION, name: {kind: value}}}, f"'{name}' as {kind}; wanted int64_param")
            for name in ("shared_memory_offset", "shared_memory_byte_size")
            for kind, value in (("uint64_param", 40), ("string_param", "40"), ("double_param", 40.0))
        ),
        ({"parameters": {"shared_memory_region": {"int64_param": 5}}}, "wanted string_param"),
        ({"parameters": {"shared_memory_offset": {"int64_param": 40}}}, "no 'shared_memory_region'"),
        ({"parameters": _REGION, "contents": {"fp32_contents": [1, 2, 3]}}, "both contents and a shared memory region"),
    ],
)
def test_places_that_cannot_be_meant(changed: dict[str, Any], said: str, ask: Ask) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [3], **changed}
    code, details = refused(lambda: ask("ModelInfer", model_name="add3", inputs=[x]))
    assert code == "INVALID_ARGUMENT"
    assert said in details


def test_a_region_that_shrinks(file: Path, region: str, ask: Ask) -> None:
    """Of a server that maps it, this would be the end."""
    os.truncate(file, 8)
    code, details = refused(lambda: _add3(ask, _place(region, 0, 12), {}))
    assert (code, "made shorter" in details) == ("INVALID_ARGUMENT", True)
    os.truncate(file, 14)
    code, details = refused(lambda: _add3(ask, _place(region, 0, 12), _place(region, 16, 12)))
    assert (code, "made shorter" in details) == ("INVALID_ARGUMENT", True)
    assert file.stat().st_size == 14  # nor is it made longer again
    os.truncate(file, 4096)
    assert _add3(ask, _place(region, 0, 12), _place(region, 16, 12))


def test_files_that_are_no_regions(file: Path, ask: Ask, tmp_path: Path) -> None:
    link, pipe, folder = (SHM / f"{file.name}-{kind}" for kind in ("link", "pipe", "folder"))
    link.symlink_to(file)
    os.mkfifo(pipe)
    (SHM / folder.name).mkdir()
    (folder / "inner").write_bytes(bytes(64))
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(64))
    try:
        for key in (
            "", "/", ".", "..", "/..", f"/../..{outside}", f"//{file.name}", f"/{folder.name}/inner", f"/{folder.name}",
            f"/{link.name}", f"/{pipe.name}", "/no-such-file", "/a\0b", "/" + "x" * 5000,
        ):  # fmt: skip
            code, _ = refused(lambda: ask("SystemSharedMemoryRegister", name="r", key=key, offset=0, byte_size=8))  # noqa: B023
            assert code in ("INVALID_ARGUMENT", "INTERNAL")
    finally:
        link.unlink()
        pipe.unlink()
        (folder / "inner").unlink()
        folder.rmdir()


def test_sizes_that_a_file_has_not(file: Path, ask: Ask) -> None:
    for offset, size in ((0, 4097), (4096, 1), (0, 0), (1, 4096), (1 << 63, 4), (1 << 62, 1 << 62)):
        place = {"name": file.name, "key": f"/{file.name}", "offset": offset, "byte_size": size}
        code, _ = refused(lambda: ask("SystemSharedMemoryRegister", **place))  # noqa: B023
        assert code in ("INVALID_ARGUMENT", "INTERNAL")
    for name in ("", "x" * 256):
        code, _ = refused(
            lambda: ask("SystemSharedMemoryRegister", name=name, key=f"/{file.name}", offset=0, byte_size=8)  # noqa: B023
        )
        assert code == "INVALID_ARGUMENT"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another user")
def test_a_region_of_another_user(file: Path, ask: Ask) -> None:
    os.chown(file, 12345, 12345)
    code, details = refused(
        lambda: ask("SystemSharedMemoryRegister", name=file.name, key=f"/{file.name}", offset=0, byte_size=8)
    )
    assert code == "INTERNAL"
    assert "belongs to user 12345" in details


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_program_of_another_user(server: Server, region: str) -> None:
    code = f"""
import os, grpc
from grpc import _channel  # what is imported later, another user may not read
os.setgid(12345); os.setuid(12345)
with grpc.insecure_channel({server.address!r}) as channel:
    for method in ("Status", "Register", "Unregister"):
        call = channel.unary_unary(f"/inference.GRPCInferenceService/SystemSharedMemory{{method}}", None, None)
        try:
            call(b"", timeout=60)
        except grpc.RpcError as error:
            print(error.code().name, error.details())
    call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive", None, None)
    print(call(b"", timeout=60))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.count("PERMISSION_DENIED") == 3
    assert "of another user than the server's" in said
    assert said.splitlines()[-1] == r"b'\x08\x01'"


@pytest.mark.parametrize("peer", ["ipv4:192.0.2.7:4711", "ipv6:%5B2001:db8::7%5D:4711", "ipv6:[::ffff:192.0.2.7]:4711"])
def test_a_program_on_another_machine(peer: str) -> None:
    with pytest.raises(RefusalError, match="no program on this machine"):
        Peers().check(peer)


def test_a_program_that_has_closed_its_connection() -> None:
    """Nobody tells whose it was: it may have been another user's, which has sent a request and left at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as mine, listening.accept()[0]:
            peer = f"ipv4:127.0.0.1:{mine.getsockname()[1]}"
            _peers(port).check(peer)
            with pytest.raises(RefusalError, match="no longer open"):  # another address may have the same port
                _peers(port).check(peer.replace("127.0.0.1", "127.0.0.2"))
            mine.shutdown(socket.SHUT_WR)
            with pytest.raises(RefusalError, match="no longer open"):
                _peers(port).check(peer)
    with pytest.raises(RefusalError, match="no longer open"):
        _peers(port).check(peer)


def _peers(port: int) -> Peers:
    peers = Peers()
    peers.port = port
    return peers


def test_a_region_in_use_is_not_let_go_of(server: Server, file: Path, region: str, ask: Ask) -> None:
    shape = list(ask("ModelMetadata", name="slow").inputs[0].shape)
    size = 4 * int(np.prod(shape))
    os.truncate(file, size)
    ask("SystemSharedMemoryRegister", name="large", key=f"/{file.name}", offset=0, byte_size=size)
    request = messages.ModelInferRequest(
        model_name="slow",
        inputs=[{"name": "x", "datatype": "FP32", "shape": shape, "parameters": _place("large", 0, size)}],
    )
    with grpc.insecure_channel(server.address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        call = infer.future(request.SerializeToString(), timeout=60)
        time.sleep(0.15)
        code, details = refused(lambda: ask("SystemSharedMemoryUnregister", name="large"))
        assert (code, "in use" in details) == ("INTERNAL", True)
        call.result()
    ask("SystemSharedMemoryUnregister", name="large")


def test_a_client_that_is_killed_leaves_nothing(server: Server, ask: Ask) -> None:
    code = f"""
import accelerate, time
model = accelerate.load("triton://{server.address}/add3", shared_memory="system")
with model.bind() as binding:
    binding.run()
    print("there", flush=True)
    time.sleep(60)
"""
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "there\n"
    mine = [name for name in os.listdir(SHM) if f"-{client.pid}-" in name]
    assert mine
    assert set(mine) <= _opened()  # by the server, in this process
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    end = time.monotonic() + 60
    while time.monotonic() < end and any((SHM / name).exists() for name in mine):
        time.sleep(0.05)
    assert [name for name in os.listdir(SHM) if name in mine] == []
    assert not [name for name in ask("SystemSharedMemoryStatus").regions if f"-{client.pid}-" in name]
    assert not set(mine) & _opened()


def _opened() -> set[str]:
    """Return the names of the files in /dev/shm that this process has open."""
    found = set()
    for handle in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{handle}").removesuffix(" (deleted)").removeprefix("/dev/shm/"))
    return found


def test_a_live_strangers_file_whose_name_begins_like_ours(ask: Ask) -> None:
    path = SHM / f"edge-accelerate-frames-of-{secrets.token_hex(16)}"
    path.write_bytes(bytes(64))
    try:
        ask("SystemSharedMemoryRegister", name="frames", key=f"/{path.name}", offset=0, byte_size=64)
        assert "frames" in ask("SystemSharedMemoryStatus").regions  # which looks whose owners are dead
        assert path.exists()
    finally:
        ask("SystemSharedMemoryUnregister", name="frames")
        path.unlink()


@pytest.mark.long
def test_a_tensor_of_more_bytes_than_the_kernel_moves_at_once(file: Path) -> None:
    size = (1 << 31) + 4096
    os.truncate(file, size)  # all of it a hole, but for its end
    region, into = Region("large", file.name, 0, size), np.empty(size, np.uint8)
    try:
        region.write("y", size - 4, b"last")
        region.read("x", 0, into)
        assert into[-4:].tobytes() == b"last"
    finally:
        region.close()


def test_there_is_room_for_so_many_regions(file: Path, ask: Ask) -> None:
    def fill() -> None:
        for number in range(300):
            name = f"{file.name}.{number}"
            ask("SystemSharedMemoryRegister", name=name, key=f"/{file.name}", offset=0, byte_size=8)

    try:
        assert refused(fill)[0] == "RESOURCE_EXHAUSTED"
    finally:
        ask("SystemSharedMemoryUnregister")
    assert not ask("SystemSharedMemoryStatus").regions
