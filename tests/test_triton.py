"""The triton backend on a real server: addresses, options, metadata, dtypes, shared memory, TLS."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest

pytest.importorskip("tritonclient.grpc")

from triton_server import (  # noqa: F401 - fixtures
    MLServer,
    TritonServer,
    mlserver,
    needs_mlserver,
    needs_triton,
    regions_of,
    triton,
)
from tritonclient.grpc import model_config_pb2, service_pb2

import accelerate
from accelerate import ClosedError, Model, OptionError, ServerError, TensorError, UnsupportedModelError
from accelerate.backends.triton.address import Address
from accelerate.backends.triton.calls.shared_memory import Region, own_prefix, sweep
from accelerate.backends.triton.description import ModelDescription, check_device, labels_of

DIGITS = Path(accelerate.__file__).parent / "data" / "digits_float.tflite"

# Addresses and options


@pytest.mark.parametrize(
    ("url", "hosts", "model", "version", "secure"),
    [
        ("triton://host:8001/model", [("host", 8001)], "model", "", False),
        ("TRITON://host/model/", [("host", 8001)], "model", "", False),
        ("tritons://host:1/my%20model/3", [("host", 1)], "my model", "3", True),
        ("triton://a:1,b,[::1]:3/m", [("a", 1), ("b", 8001), ("::1", 3)], "m", "", False),
        ("triton://%2Frun%2fmy%20models.sock/m", [("/run/my models.sock", 0)], "m", "", False),
    ],
)
def test_addresses(url: str, hosts: list[tuple[str, int]], model: str, version: str, secure: bool) -> None:
    address = Address.parse(url)
    assert address == Address(tuple(hosts), model, version, secure)
    assert Address.parse(str(Address(tuple(hosts), "m", version, secure))).hosts == tuple(hosts)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("triton://host:8001", "no model"),
        ("triton://host:8001/", "no model"),
        ("triton:///model", "no host"),
        ("triton://host:port/model", "host and port"),
        ("triton://host:99999/model", "host and port"),
        ("triton://host:0/model", "no port"),
        ("triton://a,,b/model", "no host"),
        ("triton://host/model/x", "whole number"),
        ("triton://host/model/1/2", "more than a version"),
        ("triton://host/model?x=1", "arguments"),
        ("triton://::1:8001/model", "host and port|no host"),
        ("triton://run%2Fmodels.sock/model", "no unix socket.*%2Frun%2Fmodels.sock"),
        ("triton://%2Fa,%2Fb/model", "no unix socket"),
        ("triton://%2Fa%00/model", "no unix socket"),
    ],
)
def test_impossible_addresses(url: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        accelerate.load(url, backend="triton")


@pytest.mark.parametrize(
    "url",
    [
        "triton://user:secret@host/model",
        "triton://user:secret@host/model?x",
        "triton://user:sec#secret@host/model",
        "triton://user:sec/secret@host/model",
        "triton://host/model?token=secret",
    ],
)
def test_a_password_in_the_address_is_not_repeated(url: str) -> None:
    with pytest.raises(OptionError) as caught:
        accelerate.load(url, backend="triton")
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize("url", ["user:secret@host", "user:secret@host/x", "secret@://host", "u:secret@a,b", b"secret"])
def test_a_password_in_the_server_s_name_is_not_repeated(url: Any) -> None:
    for model in (DIGITS, "triton://host/model"):
        with pytest.raises(OptionError) as caught:
            accelerate.load(model, backend="triton", url=url)
        assert "secret" not in str(caught.value) + str(accelerate.plan(model, backend="triton", url=url))


def test_targets() -> None:
    def target(url: str) -> Any:
        return Address.parse(url).target()

    assert target("triton://127.0.0.1:5/m").name == "dns:///127.0.0.1:5"
    assert not target("triton://localhost/m").fleet
    assert target("triton://localhost/m").loopback
    several = target("triton://127.0.0.1:5,127.0.0.1:6/m")
    assert several.name == "ipv4:127.0.0.1:5,127.0.0.1:6"
    assert several.fleet
    mixed = target("triton://127.0.0.1:5,[::1]:6/m")
    assert mixed.name == "ipv6:[::ffff:127.0.0.1]:5,[::1]:6"
    with pytest.raises(ServerError, match="none of the hosts"):
        target("triton://no.invalid,nor.invalid/m")


def test_a_missing_host_of_several_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert Address.parse("triton://127.0.0.1:5,no.invalid/m").target().name == "ipv4:127.0.0.1:5"
    assert "no host no.invalid" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shared_memory": "cuda"}, "'system'"),
        ({"headers": ["a"]}, "mapping"),
        ({"headers": {"a b": "x"}}, "name of a text header"),
        ({"headers": {"authorization": "Bearer\n"}}, "printable"),
        ({"ssl": {"ca": "x"}}, "tritons://"),
        ({"headers": {"grpc-status": "5"}}, "gRPC's own"),
        ({"channel_args": {"x": 1.5}}, "gRPC option"),
        ({"parameters": ["a"]}, "mapping"),
        ({"parameters": {"a": None}}, "64 bits"),
        ({"parameters": {"a": 1 << 63}}, "64 bits"),
        ({"parameters": {3: "a"}}, "a name with"),
        ({"parameters": {"sequence_start": True}}, "first call begins"),
        ({"parameters": {"sequence_id": 0}}, "sequence_id is 0"),
        ({"parameters": {"sequence_id": True}}, "sequence_id is True"),
        ({"parameters": {"sequence_id": ""}}, "or text"),
        ({"channel_args": {"grpc.max_send_message_length": 1 << 31}}, "32 bits"),
        ({"channel_args": {"x": "\ud800"}}, "gRPC option"),
        ({"channel_args": {"x\0": "y"}}, "gRPC option"),
        ({"channel_args": {"grpc.service_config": "{"}}, "channel_args="),
        ({"num_threads": 2}, "on the server"),
        ({"signature": "x"}, "on the server"),
        ({"url": "other:8001"}, "leave one out"),
    ],
)
def test_impossible_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        accelerate.load("triton://127.0.0.1:1/m", backend="triton", **options)


def test_impossible_certificates(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    for ssl, words in (
        ({"cert": "x"}, "certificate"),
        ({"ca": tmp_path / "none.pem"}, "cannot be read"),
        ({"ca": tmp_path / "text"}, "PEM"),
        ({"ca": 3.5}, "cannot be read"),
        ({"key": "-----BEGIN PRIVATE KEY-----\nsecret"}, "the path of a PEM file"),
        ({"key": b"-----BEGIN PRIVATE KEY-----\nsecret"}, "the path of a PEM file"),
    ):
        with pytest.raises(OptionError, match=words) as caught:
            accelerate.load("tritons://127.0.0.1:1/m", backend="triton", ssl=ssl)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "device"),
    [
        (["GPU"], "gpu"),
        (["GPU", "GPU"], "gpu"),
        (["CPU"], "cpu"),
        (["GPU", "CPU"], "server"),
        (["GPU", "AUTO"], "server"),
        (["AUTO"], "server"),
        (["MODEL"], "server"),
        ([], "server"),
    ],
)
def test_a_device_is_what_every_instance_runs_on(kinds: list[str], device: str) -> None:
    config = model_config_pb2.ModelConfig()
    for kind in kinds:
        config.instance_group.add(kind=f"KIND_{kind}")
    told = service_pb2.ModelMetadataResponse(name="m")
    told.inputs.add(name="x", datatype="FP32", shape=[1])
    told.outputs.add(name="y", datatype="FP32", shape=[1])
    description = ModelDescription.read("m", told, config)
    assert description.device == device
    if device == "server":
        with pytest.raises(accelerate.DeviceNotFoundError):
            check_device("m", "gpu", description)


def test_a_model_for_the_edge_tpu_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, twin = tmp_path / "model_edgetpu.tflite", tmp_path / "model.tflite"
    path.write_bytes(odd_models.edgetpu_like())
    twin.write_bytes(odd_models.add3())
    monkeypatch.setenv("EDGE_ACCELERATE_TRITON_URL", "127.0.0.1:1")
    (row,) = [one for one in accelerate.plan(path).skipped if one.backend == "triton"]
    assert "compiled for the Edge TPU" in row.reason
    assert str(twin) in row.remedy
    with pytest.raises(UnsupportedModelError, match=re.escape(str(twin))):
        accelerate.load(path, backend="triton")


def test_files_are_not_for_a_server(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"\0" * 100)
    with pytest.raises(accelerate.AccelerateError, match="triton"):
        accelerate.load(tmp_path / "model.bin", backend="triton")
    with pytest.raises(UnsupportedModelError, match="http://"):
        accelerate.load("http://127.0.0.1/m", backend="triton")


def test_auto_takes_the_address_and_says_so() -> None:
    plan = accelerate.plan("triton://127.0.0.1:1/m")
    assert plan.chosen is not None
    assert (plan.chosen.backend, plan.chosen.device) == ("triton", "server")
    gpu = accelerate.plan("triton://127.0.0.1:1/m", device="gpu").chosen
    assert gpu is not None
    assert gpu.device == "gpu"


def test_plan_knows_the_server_that_url_names() -> None:
    file = accelerate.__path__[0] + "/data/digits.onnx"
    for backend in ("triton", "auto"):
        chosen = accelerate.plan(file, backend=backend, url="localhost:8001").chosen
        assert chosen is not None
        assert chosen.backend == "triton"
        assert "triton://localhost:8001/" in chosen.reason
    for source, url in ((file, "localhost:8001/model"), ("triton://h/m", "localhost:8001")):
        decided = accelerate.plan(source, backend="triton", url=url)
        assert decided.chosen is None
        assert url in decided.skipped[0].reason


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        ("digits.onnx", {"signature": "main"}, "no signatures"),
        ("digits_uint8.tflite", {"signature": "nobody"}, "no signature 'nobody'"),
        ("digits_uint8.tflite", {"device": "gpu"}, "on the CPU"),
        ("digits.onnx", {"headers": {"a b": "x"}}, "header"),
        ("digit.png", {}, "Triton takes ONNX"),
        ("", {}, "directory"),
    ],
)
def test_plan_refuses_what_is_not_shipped(file: str, options: dict[str, Any], words: str) -> None:
    decided = accelerate.plan(
        f"{accelerate.__path__[0]}/data/{file}", backend="triton", url="localhost:8001", **options
    )
    assert decided.chosen is None
    assert words in f"{decided.skipped[0].reason}; {decided.skipped[0].remedy}"
    with pytest.raises(accelerate.AccelerateError, match=words):
        accelerate.load(f"{accelerate.__path__[0]}/data/{file}", backend="triton", url="localhost:1", **options)


@pytest.mark.parametrize("secret", ["?token=secret", "#secret", "/m?secret"])
@pytest.mark.parametrize("scheme", ["", "triton://", "https://"])
def test_what_follows_a_question_mark_is_not_repeated(secret: str, scheme: str) -> None:
    with pytest.raises(OptionError, match="without a model") as caught:
        accelerate.load(f"{accelerate.__path__[0]}/data/digits.onnx", backend="triton", url=f"{scheme}h:1{secret}")
    assert "secret" not in str(caught.value)
    with pytest.raises(accelerate.AccelerateError) as again:
        accelerate.load(f"{scheme or 'http://'}h:1{secret}")
    assert "secret" not in str(again.value)


def test_the_backend_is_found_without_loading_grpc() -> None:
    code = (
        "import sys, accelerate; accelerate.registry.backends(); print(sorted(set(sys.modules) & {'grpc', 'google'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


# On a server


@pytest.fixture
def load(triton: TritonServer) -> Iterator[Any]:  # noqa: F811
    """Load models by name, the server having loaded them first; nothing may be left when the test ends."""
    before = regions_of()
    models: list[Model] = []

    def load_one(name: str, **options: Any) -> Model:
        triton.load(name.partition("/")[0])
        models.append(accelerate.load(f"triton://{triton.url}/{name}", backend="triton", **options))
        return models[-1]

    yield load_one
    for model in models:
        model.close()
    assert regions_of() == before
    assert triton.request("v2/systemsharedmemory/status") in ([], {})


@pytest.mark.parametrize("memory", ["system", "none"])
@pytest.mark.parametrize(
    "kind",
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "fp16", "fp32", "fp64", "bf16"],
)
@pytest.mark.parametrize("size", [0, 1, 5, 100_000])
def test_every_dtype_comes_back_as_it_went(load: Any, kind: str, memory: str, size: int) -> None:
    model = load(f"identity_{kind}", shared_memory=memory)
    dtype = accelerate.calls.conversion.dtype_of(model.metadata().inputs[0])
    x = np.random.default_rng(0).integers(0, 2 if kind == "bool" else 100, size).astype(dtype)
    if size == 0 and kind == "bf16":
        pytest.skip("the server's model passes it on as a DLPack capsule, which cannot be empty")
    y = model.infer(x)["y"]
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, x)
    with model.bind({"x": (size,)}) as binding:
        binding.inputs["x"][...] = x
        binding.run()
        np.testing.assert_array_equal(binding.outputs["y"], x)


@pytest.mark.parametrize("memory", ["system", "none"])
def test_strings_among_other_tensors(load: Any, memory: str) -> None:
    model = load("mixed", shared_memory=memory)
    words = np.array([b"", "wörd".encode(), b"\0\xff", b"x" * 300], object)
    given = {"x0": [True, False, True], "x1": np.array([-5, 7], np.int16), "x2": words}
    outputs = model.infer(given)
    np.testing.assert_array_equal(outputs["y0"], given["x0"])
    np.testing.assert_array_equal(outputs["y1"], given["x1"])
    assert outputs["y2"].tolist() == words.tolist()
    with model.bind({"x2": (4,)}) as binding:
        assert not binding.zero_copy
        for name, value in given.items():
            binding.inputs[name][...] = value
        for _ in range(2):
            binding.run()
            np.testing.assert_array_equal(binding.outputs["y1"], given["x1"])
            assert binding.outputs["y2"].tolist() == words.tolist()


def test_shapes_known_only_afterwards(load: Any) -> None:
    model = load("nonzero")
    for x in ([1.0, 0.0, 2.0], [0.0], [0.0, 0.0, 3.0, 4.0, 5.0]):
        np.testing.assert_array_equal(model.infer(np.array(x, np.float32))["y"], np.flatnonzero(x))
    with model.bind({"x": (4,)}) as binding:
        assert not binding.zero_copy
        for x in ([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]):
            binding.inputs["x"][...] = x
            binding.run()
            np.testing.assert_array_equal(binding.outputs["y"], np.flatnonzero(x))


def test_a_batch_dimension(load: Any) -> None:
    model = load("double_uint8")
    assert model.metadata().inputs[0].shape == (-1, 4)
    for size in (1, 8, 3):
        x = np.random.default_rng(size).integers(0, 100, (size, 4), np.uint8)
        np.testing.assert_array_equal(model.infer(x)["y"], x + x)
    with pytest.raises(TensorError, match="batch"):
        model.infer(np.zeros((9, 4), np.uint8))
    with model.bind({"x": (8, 4)}) as binding:
        assert binding.zero_copy
        binding.inputs["x"][...] = x[0]
        binding.run()
        np.testing.assert_array_equal(binding.outputs["y"], np.tile(2 * x[0], (8, 1)))


def test_what_the_server_tells(load: Any) -> None:
    model = load("classifier")
    metadata = model.metadata()
    assert metadata.name == "classifier"
    assert metadata.labels == ("cat", "dog", "bird")
    assert metadata.outputs[0].associated_files[0].name == "labels.txt"
    assert (model.runtime.name, model.runtime.version) == ("Triton", "2.51.0")
    assert model.runtime.details["transport"] == "system-shared-memory"
    np.testing.assert_array_equal(load("versions/1").infer([3.0])["y"], [3])
    np.testing.assert_array_equal(load("versions/3").infer([3.0])["y"], [9])


def test_labels_from_ranked_results() -> None:
    assert labels_of([b"0.9:2:bird", b"0.5:0:a:b", b"0.1:1"]) == ("a:b", "", "bird")
    assert labels_of([b"0.9:4000000000:x"]) == ()
    assert labels_of([b"nonsense", b"\xff:0:\xff"]) == ("\ufffd",)
    assert labels_of([]) == ()


def test_a_server_of_another_maker(mlserver: MLServer) -> None:  # noqa: F811
    url = f"triton://{mlserver.url}"
    with accelerate.load(f"{url}/add", backend="triton") as model:
        assert model.runtime.details["transport"] == "message"
        assert model.device == "server"
        a = np.random.default_rng(0).random((10, 10), np.float32)
        np.testing.assert_array_equal(model.infer({"a": a, "b": a})["y"], a + a)
        with model.bind() as binding:
            binding.inputs["a"][...] = binding.inputs["b"][...] = a
            binding.run(timeout=5)
            np.testing.assert_array_equal(binding.outputs["y"], a + a)
        with pytest.raises(NotImplementedError, match="warmup"):
            model.do_command({"command": "statistics"})
    with accelerate.load(f"{url}/shout", backend="triton") as model:
        assert model.infer(["wörd", "b"])["y"].ravel().tolist() == ["WÖRD".encode(), b"B"]
    with pytest.raises(accelerate.DeviceNotFoundError, match="does not tell"):
        accelerate.load(f"{url}/add", backend="triton", device="cpu")
    with pytest.raises(ServerError, match="extension"):
        accelerate.load(f"{url}/add", backend="triton", shared_memory="system")
    with pytest.raises(accelerate.ModelNotFoundError):
        accelerate.load(f"{url}/nothing", backend="triton")


# A file on a server


@pytest.mark.slow
def test_a_file_is_shipped_restored_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite"
    with TritonServer() as server, accelerate.load(file, backend="tflite_cpu") as local:
        with accelerate.load(file, backend="triton", url=server.url) as model:
            assert model.runtime.name == "Triton"
            assert model.metadata() == local.metadata()
            x = np.random.default_rng(0).integers(0, 256, model.metadata().inputs[0].shape).astype(np.uint8)
            np.testing.assert_array_equal(model.infer(x)["scores"], local.infer(x)["scores"])
            real = model.infer(x / 127.5 - 1, dequantize=True)["scores"]
            np.testing.assert_array_equal(real, local.infer(x / 127.5 - 1, dequantize=True)["scores"])
            server.kill()
            server.restart()
            np.testing.assert_array_equal(model.infer(x, timeout=60)["scores"], local.infer(x)["scores"])
            url = model.runtime.details["url"]
        with pytest.raises(accelerate.ModelNotFoundError):
            accelerate.load(url)
        monkeypatch.setenv("EDGE_ACCELERATE_TRITON_URL", server.url)
        chosen = accelerate.plan(file).chosen
        assert chosen is not None
        assert (chosen.backend, chosen.device) == ("triton", "server")
        with accelerate.load(file) as model:
            assert model.backend == "triton"


@pytest.mark.parametrize(
    ("url", "words"),
    [("h:1/model", "without a model"), ("a:1,b:2", "one server"), ("http://h", "tritons://"), (5, "ship")],
)
def test_impossible_servers_for_a_file(url: Any, words: str) -> None:
    file = Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite"
    with pytest.raises(OptionError, match=words):
        accelerate.load(file, backend="triton", url=url)


# Shared memory


def test_regions_are_private_and_removed_once() -> None:
    region = Region(1000)
    path = Path("/dev/shm") / region.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(region.name.rpartition("-")[2]) == 32
    assert path.stat().st_blocks * 512 >= 1000  # reserved, not promised
    view = region.memory[10:20]
    view[...] = 7
    assert sweep([region.name]) == []  # its owner lives
    region.remove()
    region.remove()
    assert not path.exists()
    del region
    gc.collect()
    view[...] = 8  # the memory lives as long as its views
    assert view.sum() == 80


def test_a_full_file_system_is_an_error_and_not_a_signal() -> None:
    before = regions_of()
    with pytest.raises(OSError, match="space"):
        Region(1 << 50)
    assert regions_of() == before


def test_a_killed_client_leaves_nothing_for_long(triton: TritonServer) -> None:  # noqa: F811
    code = f"""
import time, accelerate
model = accelerate.load("triton://{triton.url}/add", backend="triton", shared_memory="system")
model.warmup()
print("up", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        left = regions_of(client.pid)
        assert len(left) == 1
        with accelerate.load(f"triton://{triton.url}/add", backend="triton"):
            assert left == regions_of(client.pid)  # its owner lives
        client.send_signal(signal.SIGKILL)
    assert left == regions_of(client.pid)
    known = {region["name"].partition(".")[0] for region in triton.request("v2/systemsharedmemory/status")}
    assert left <= known
    with accelerate.load(f"triton://{triton.url}/add", backend="triton"):
        pass
    assert regions_of(client.pid) == set()
    assert triton.request("v2/systemsharedmemory/status") in ([], {})


def test_a_program_that_just_ends_leaves_nothing(triton: TritonServer) -> None:  # noqa: F811
    code = f"""
import accelerate
model = accelerate.load("triton://{triton.url}/add", backend="triton", shared_memory="system")
binding = model.bind()
binding.run()
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as client:
        assert client.communicate(timeout=60)[1] == ""
    assert client.returncode == 0
    assert regions_of(client.pid) == set()
    assert triton.request("v2/systemsharedmemory/status") in ([], {})


def test_a_forgotten_model_and_binding_leave_nothing(triton: TritonServer) -> None:  # noqa: F811
    before = regions_of()
    model = accelerate.load(f"triton://{triton.url}/add", backend="triton")
    binding = model.bind()
    output = binding.outputs["y"]
    binding.run()
    del binding
    gc.collect()
    assert len(regions_of() - before) == 1  # the model's own
    model.infer({"a": np.zeros((10, 10), np.float32), "b": np.zeros((10, 10), np.float32)})
    del model
    gc.collect()
    assert regions_of() == before
    assert triton.request("v2/systemsharedmemory/status") in ([], {})
    np.testing.assert_array_equal(output, 0)


def test_views_outlive_everything(load: Any) -> None:
    model = load("add")
    binding = model.bind()
    given, output = binding.inputs["a"], binding.outputs["y"]
    given[...] = 3
    binding.run()
    model.close()
    with pytest.raises(ClosedError):
        binding.run()
    binding.close()
    with pytest.raises(ClosedError):
        _ = binding.outputs
    del model, binding
    gc.collect()
    given[...] = 5
    np.testing.assert_array_equal(output, 3)


def test_too_little_shared_memory(load: Any, monkeypatch: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = load("dynamic")
    assert model.runtime.details["transport"] == "system-shared-memory"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    x = np.ones((300, 300), np.float32)
    with caplog.at_level(logging.WARNING, "accelerate"):
        for _ in range(3):
            np.testing.assert_array_equal(model.infer(x)["y"], x + x)
    assert model.runtime.details["transport"] == "message"
    assert re.match(r"not used: .*360000 bytes in /dev/shm.*No space left", model.runtime.details["shared_memory"])
    assert caplog.text.count("/dev/shm") == 1
    caplog.clear()
    again = load("dynamic")
    assert "No space left" in again.runtime.details["shared_memory"]
    assert "--shm-size" in caplog.text
    with pytest.raises(ServerError, match="No space left"):
        load("dynamic", shared_memory="system")


def test_a_server_that_cannot_map_our_memory(load: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """As on another machine: the region exists, only not where the server looks for it."""
    monkeypatch.setattr("accelerate.backends.triton.calls.shared_memory.FOLDER", tmp_path)
    model = load("add")
    assert model.runtime.details["transport"] == "message"
    assert re.match("not used: .*Unable to open shared memory region", model.runtime.details["shared_memory"])
    model.warmup()
    with pytest.raises(ServerError, match="--ipc=host"):
        load("add", shared_memory="system")
    assert not list(tmp_path.iterdir())
    assert own_prefix().startswith("edge-accelerate-")


@pytest.mark.long
def test_thousands_of_calls_and_loads_leave_nothing(triton: TritonServer) -> None:  # noqa: F811
    """In a process of its own: what other tests left to be collected moves the memory of this one by megabytes."""
    code = """
import gc, os, sys
from pathlib import Path
import numpy as np
import accelerate

url = sys.argv[1]
a = np.ones((10, 10), np.float32)

def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def cycles(count):
    for _ in range(count):
        with accelerate.load(url, backend="triton") as model, model.bind() as binding:
            model.infer({"a": a, "b": a})
            binding.run()

def calls(count):
    for _ in range(count):
        model.infer({"a": a, "b": a})

cycles(20)
with accelerate.load(url, backend="triton") as model:
    calls(2000)
    start = resident()
    calls(10_000)
    print(resident() - start)
cycles(20)
start = resident()
cycles(200)
print(resident() - start)
"""
    triton.load("add")
    with subprocess.Popen(
        [sys.executable, "-c", code, f"triton://{triton.url}/add"], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        grown = [int(line) for line in child.stdout.read().split()]
    assert child.returncode == 0
    assert len(grown) == 2
    assert max(grown) < 2 << 20, grown  # 200 bytes a call, 10 kB a load
    assert not regions_of(child.pid)
    assert triton.request("v2/systemsharedmemory/status") in ([], {})


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and what it signed: server, client, expired; `other` is another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        openssl(
            "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}"
        )
    for name, days in (("server", "2"), ("client", "2"), ("expired", "-1")):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days, "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *sign)
    return folder


def _tls(folder: Path, certificate: str, *, mutual: bool) -> tuple[str, ...]:
    return (
        f"--grpc-use-ssl{'-mutual' if mutual else ''}=1",
        f"--grpc-server-cert={folder / f'{certificate}.pem'}",
        f"--grpc-server-key={folder / f'{certificate}.key'}",
        f"--grpc-root-cert={folder / 'ca.pem'}",
    )


@needs_triton
def test_tls_with_client_certificates(certificates: Path) -> None:
    def pem(name: str) -> str:
        return str(certificates / name)

    both = {"ca": pem("ca.pem"), "certificate": pem("client.pem"), "key": pem("client.key")}
    with TritonServer(arguments=_tls(certificates, "server", mutual=True)) as server:
        url = f"tritons://{server.url}/add"
        with accelerate.load(url, backend="triton", ssl=both) as model:
            assert model.runtime.details["transport"] == "system-shared-memory"
            model.warmup()
        elsewhere = {"grpc.ssl_target_name_override": "elsewhere"}
        with pytest.raises(ServerError, match="certificates' dates and names"):
            accelerate.load(url, backend="triton", ssl=both, channel_args=elsewhere)
        for ssl in ({"ca": pem("ca.pem")}, {**both, "ca": pem("other.pem")}, None):
            with pytest.raises(ServerError, match="ssl="):
                accelerate.load(url, backend="triton", ssl=ssl)
        with pytest.raises(ServerError, match=r"tritons://|gRPC port"):
            accelerate.load(f"triton://{server.url}/add", backend="triton")


@needs_triton
def test_an_expired_certificate(certificates: Path) -> None:
    with TritonServer(arguments=_tls(certificates, "expired", mutual=False)) as server:
        started = time.monotonic()
        ssl = {"ca": str(certificates / "ca.pem")}
        with pytest.raises(ServerError, match="date"):
            accelerate.load(f"tritons://{server.url}/add", backend="triton", ssl=ssl)
        assert time.monotonic() - started < 5
