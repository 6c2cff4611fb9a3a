"""Models on their way to a server: what is made of a file, and a real tritonserver that is given it."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import grpc
import labelled_models
import numpy as np
import odd_models
import onnx
import pytest
from google.protobuf import json_format, text_format
from onnx import TensorProto, helper
from triton_server import TRITON, MLServer, TritonServer, free_ports, needs_mlserver, needs_triton, triton_environment
from tritonclient.grpc import model_config_pb2

import accelerate
from accelerate.backends.triton.address import Address
from accelerate.backends.triton.connection import Connection, Deadline, Settings
from accelerate.backends.triton.shipping.configuration import configuration, to_json, write_repository
from accelerate.backends.triton.shipping.package import Package, describe, pack
from accelerate.backends.triton.shipping.server import Shipment, explain, restore, ship, withdraw
from accelerate.backends.triton.shipping.shipped import ship_file
from accelerate.errors import DeviceNotFoundError, ModelError, OptionError, ServerError, UnsupportedModelError
from accelerate.metadata import Metadata, TensorInfo
from accelerate.reports import LoadOptions
from accelerate.source import Source
from accelerate.testing import random_inputs

DATA = Path(accelerate.__file__).parent / "data"
TFLITE, ONNX = DATA / "digits_uint8.tflite", DATA / "digits.onnx"
PLAN = b"ftrt" + bytes(60)


def served(test: Any) -> Any:
    return needs_triton(pytest.mark.slow(test))


# What is made of a file


def package(given: Any, device: str | None = None, *, signature: str | None = None, **how: Any) -> Package:
    source = Source(given)
    return pack(source, describe(source, signature), device, signature=signature, **how)


def config_of(made: Package) -> Any:
    """Return the configuration, which must be the same as a repository's text and as the load API's JSON."""
    made_of_it = model_config_pb2.ModelConfig.FromString(configuration(made.name, made).SerializeToString())
    assert json_format.Parse(to_json(made.name, made), model_config_pb2.ModelConfig()) == made_of_it
    return made_of_it


def onnx_model(*, first: str | int = "batch", out: str | int = "batch", rank: int = 2, dtype: int = 1) -> bytes:
    """y = x + x, of shape [first, 3, ...]."""
    x, y = (
        helper.make_tensor_value_info(name, dtype, [size, 3, 2][:rank]) for name, size in (("x", first), ("y", out))
    )
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    return bytes(made.SerializeToString())


@pytest.mark.parametrize(
    ("device", "kinds"), [(None, []), ("cpu", ["KIND_CPU"]), ("gpu", ["KIND_GPU"])], ids=["any", "cpu", "gpu"]
)
def test_onnx_goes_to_its_own_backend(device: str | None, kinds: list[str]) -> None:
    made = package(ONNX, device)
    config = config_of(made)
    assert (config.backend, config.name) == ("onnxruntime", "digits")
    assert [model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind) for group in config.instance_group] == kinds
    assert set(made.files) == {"1/model.onnx", "labels.txt"}
    assert made.files["1/model.onnx"] == ONNX.read_bytes()
    assert config.output[0].label_filename == "labels.txt"


def test_requests_are_joined_only_where_the_file_speaks_of_a_batch() -> None:
    batched = config_of(package(onnx_model()))
    assert batched.max_batch_size > 1
    assert batched.HasField("dynamic_batching")
    assert list(batched.input[0].dims) == [3]
    for first, out, rank in (("rows", "rows", 2), ("batch", "other", 2), (4, 4, 2), ("batch", "batch", 1)):
        apart = config_of(package(onnx_model(first=first, out=out, rank=rank)))
        assert apart.max_batch_size == 0
        assert not apart.HasField("dynamic_batching")
        assert list(apart.input[0].dims) == [4 if first == 4 else -1, 3][:rank]


def shifted(*shape: str | int) -> bytes:
    """y = x + bias, of the shape given; bias is 100 where it is left out."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [1], [100.0])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "bias"], ["y"])],
        "shifted",
        [x, helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1])],
        [y],
        [bias],
    )
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    return bytes(made.SerializeToString())


def told(model: bytes) -> Metadata:
    """Return what is known of `shifted`."""
    info = describe(Source(model))
    assert info is not None
    bias = TensorInfo("bias", data_type="float32", shape=(1,), extra={"optional": True})
    return dataclasses.replace(info, inputs=(info.inputs[0], bias))


@pytest.mark.parametrize(
    ("shape", "dims", "form"),
    [
        (("batch", 3, 32, 24), [3, 32, 24], "FORMAT_NCHW"),
        (("batch", 32, 24, 3), [32, 24, 3], "FORMAT_NHWC"),
        (("batch", 32, 24, 1), [32, 24, 1], "FORMAT_NHWC"),
        ((32, 24, 3), [32, 24, 3], "FORMAT_NHWC"),
        ((1, 3, 32, 24), [1, 3, 32, 24], "FORMAT_NONE"),  # which Triton would refuse
        (("batch", 5, 32, 24), [5, 32, 24], "FORMAT_NONE"),
        (("batch", 3), [3], "FORMAT_NONE"),
    ],
)
def test_pictures_have_a_format_where_triton_takes_one(shape: Any, dims: list[int], form: str) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    (given,) = config_of(package(made.SerializeToString())).input
    assert list(given.dims) == dims
    assert model_config_pb2.ModelInput.Format.Name(given.format) == form


def test_an_optional_input_is_called_so_and_keeps_requests_apart() -> None:
    model = shifted("batch", 3)
    config = config_of(pack(Source(model), told(model)))
    assert [(t.name, t.optional) for t in config.input] == [("x", False), ("bias", True)]
    assert config.max_batch_size == 0  # with batches, ONNX Runtime's backend refuses it


def test_a_model_that_keeps_state_is_not_shipped() -> None:
    with pytest.raises(UnsupportedModelError, match=r"keeps state.*tflite_cpu"):
        package(odd_models.lstm())
    with pytest.raises(UnsupportedModelError, match=r"keeps state.*tflite_cpu"):
        accelerate.load(odd_models.lstm(), backend="triton", url="127.0.0.1:1")


def test_tflite_goes_to_the_python_backend_on_the_cpu() -> None:
    made = package(TFLITE, num_threads=2)
    config = config_of(made)
    assert config.backend == "python"
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert config.parameters["num_threads"].string_value == "2"
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("image", model_config_pb2.TYPE_UINT8, [1, 8, 8, 1])
    ]
    assert set(made.files) == {"1/model.tflite", "1/model.py", "labels.txt"}
    assert made.files["labels.txt"].split()[7] == b"seven"


def test_text_form_keeps_any_name() -> None:
    name = 'a "quoted"\\ \n\t é 🤖'
    config: dict[str, Any] = {"backend": "python", "input": [{"name": name, "data_type": "TYPE_FP32", "dims": [-1]}]}
    assert config_of(Package("m", "m", config, {})).input[0].name == name


@pytest.mark.parametrize(
    ("given", "device", "error", "says"),
    [
        (TFLITE, "gpu", UnsupportedModelError, "convert the model to ONNX or to a TensorRT plan"),
        (TFLITE, "tpu", DeviceNotFoundError, "wanted 'cpu', 'gpu' or None"),
        (PLAN, "cpu", UnsupportedModelError, "on the gpu only"),
        (b"\5\0\0\0{abc}" + PLAN, None, UnsupportedModelError, "without its first 9 bytes"),
        (DATA / "digit.png", None, UnsupportedModelError, "a PNG picture; Triton takes ONNX"),
        (b"PK\3\4 no archive", None, UnsupportedModelError, "Triton takes ONNX"),
        (ONNX.read_bytes()[:2000], None, ModelError, "cut short"),
        (odd_models.complex64(), None, UnsupportedModelError, "'x' is complex64"),
        (odd_models.no_inputs(), None, UnsupportedModelError, "has no inputs"),
        ("triton://here/model", None, UnsupportedModelError, "is given a model file"),
        (object(), None, UnsupportedModelError, "is given a model file"),
    ],
)
def test_refusals(given: Any, device: str | None, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        package(given, device)


def test_threads_are_for_what_runs_on_the_cpu() -> None:
    assert config_of(package(ONNX, num_threads=3)).parameters["intra_op_thread_count"].string_value == "3"
    with pytest.raises(OptionError, match="a TensorRT plan"):
        package(PLAN, num_threads=3)


def test_weights_in_other_files_are_not_followed(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [600], np.zeros(600, np.float32).tobytes(), raw=True)
    x, y = (helper.make_tensor_value_info(name, 1, [600]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "add", [x], [y], [weights])
    made = helper.make_model(graph, ir_version=8)
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="weights")
    with pytest.raises(UnsupportedModelError, match="keeps weights in other files"):
        package(tmp_path / "m.onnx")


def torchscript(folder: Path) -> Path:
    """The outside of a TorchScript file: torch itself is not needed to tell it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
    (folder / "model.pt").write_bytes(content.getvalue())
    return folder / "model.pt"


def test_torchscript_needs_its_tensors_described(tmp_path: Path) -> None:
    path = torchscript(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"(?s)config\.pbtxt.*INPUT__0"):
        package(path)
    (tmp_path / "config.pbtxt").write_text(
        'input [{ name: "INPUT__0", data_type: TYPE_FP32, dims: [3] }]\nmax_batch_size: 4\n', encoding="utf-8"
    )
    made = package(path, "gpu")
    assert set(made.files) == {"1/model.pt"}
    (place,) = write_repository(tmp_path / "repository", [made])
    written = text_format.Parse((place / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (written.backend, written.max_batch_size, written.input[0].name) == ("pytorch", 4, "INPUT__0")
    assert written.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_openvino_takes_its_weights_along(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text(
        '<?xml version="1.0"?>\n<net name="same" version="11"><layers>'
        '<layer id="0" name="x" type="Parameter" version="opset1"><data element_type="f32" shape="1,3"/>'
        '<output><port id="0" precision="FP32" names="x"><dim>1</dim><dim>3</dim></port></output></layer>'
        '<layer id="1" name="r" type="Result" version="opset1"><input><port id="0" precision="FP32">'
        "<dim>1</dim><dim>3</dim></port></input></layer></layers>"
        '<edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>'
    )
    with pytest.raises(ModelError, match=r"model\.bin"):
        package(path)
    (tmp_path / "model.bin").write_bytes(b"weights")
    made = package(path)
    assert made.files["1/model.bin"] == b"weights"
    assert config_of(made).backend == "openvino"
    with pytest.raises(UnsupportedModelError, match="on the cpu only"):
        package(path, "gpu")


def test_repository_is_written_once(tmp_path: Path) -> None:
    made = package(TFLITE)
    (place,) = write_repository(tmp_path / "models", [made])
    assert place == tmp_path / "models" / "digits_uint8"
    assert (place / "1" / "model.tflite").read_bytes() == TFLITE.read_bytes()
    with pytest.raises(OptionError, match="is there already"):
        write_repository(tmp_path / "models", [made])
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["digits_uint8"]
    with pytest.raises(OptionError, match="two of the models"):
        write_repository(tmp_path / "others", [package(ONNX), made, made])
    assert not (tmp_path / "others").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot be written"):
        write_repository(tmp_path / "file", [made])


# A server that is given it


def connect(url: str) -> Connection:
    host, _, port = url.partition(":")
    address = Address(((host, int(port)),), "any", "", secure=False)
    return Connection(address, address.target(), Settings())


@pytest.fixture(scope="module")
def server() -> Iterator[TritonServer]:
    with TritonServer() as running:
        yield running


@pytest.fixture
def connection(server: TritonServer) -> Iterator[Connection]:
    made = connect(server.url)
    yield made
    made.close()


def deploy(connection: Connection, given: Any, **how: Any) -> Shipment:
    """Ship a file, with the shim where the server has no other backend for it."""
    source, options = Source(given), LoadOptions(**how)
    return ship_file(connection, source, describe(source, options.signature), options)[0]


@pytest.fixture
def deployed(connection: Connection) -> Iterator[Callable[..., Shipment]]:
    """Deploy a model for the time of a test."""
    made = []

    def run(given: Any, **how: Any) -> Shipment:
        made.append(deploy(connection, given, **how))
        return made[-1]

    yield run
    for one in made:
        withdraw(connection, one)


def check(server: TritonServer, deployment: Shipment, given: Any, local_backend: str) -> None:
    """Compare the server's answers with this process's own."""
    url = f"triton://{server.url}/{deployment.name}"
    with accelerate.load(given, backend=local_backend) as local, accelerate.load(url) as remote:
        inputs = random_inputs(local)
        wanted = local.infer(inputs)
        got = remote.infer({name: np.atleast_1d(value) for name, value in inputs.items()})
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        assert got[name].dtype == value.dtype
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got[name], np.atleast_1d(value), rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(got[name], np.atleast_1d(value))


@served
@pytest.mark.parametrize("form", ["uint8", "int8", "float"])
def test_tflite_on_the_server_answers_like_here(
    server: TritonServer, deployed: Callable[..., Shipment], form: str
) -> None:
    model = DATA / f"digits_{form}.tflite"
    deployment = deployed(model, num_threads=1)
    assert (deployment.backend, deployment.resident.ours) == ("python", True)
    about = describe(Source(model))
    assert about is not None
    assert about.labels[7] == "seven"
    assert (about.inputs[0].quantization is None) == (form == "float")
    check(server, deployment, model, "tflite_cpu")


@served
@pytest.mark.parametrize("name", ["scalar", "dynamic", "boolean", "strings", "duplicate_names", "dynamic_output"])
def test_odd_tflite_on_the_server(server: TritonServer, deployed: Callable[..., Shipment], name: str) -> None:
    content = getattr(odd_models, name)()
    check(server, deployed(content), content, "tflite_cpu")


@served
def test_the_server_knows_the_labels_of_each_output(server: TritonServer, deployed: Callable[..., Shipment]) -> None:
    about = describe(Source(labelled_models.two_heads()))
    assert about is not None
    with accelerate.load(f"triton://{server.url}/{deployed(labelled_models.two_heads()).name}") as remote:
        told = remote.metadata()
    assert {t.name: t.labels for t in told.outputs} == {t.name: t.labels for t in about.outputs}
    assert told.labels == about.labels


@served
def test_dynamic_shapes_follow_one_another(server: TritonServer, deployed: Callable[..., Shipment]) -> None:
    with accelerate.load(f"triton://{server.url}/{deployed(odd_models.dynamic()).name}") as remote:
        for rows in (1, 5, 2, 5):
            x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
            np.testing.assert_array_equal(remote.infer({"x": x})["y"], x + x)


@served
def test_onnx_without_its_backend_goes_to_python_and_says_so(
    server: TritonServer, deployed: Callable[..., Shipment], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    with caplog.at_level(logging.WARNING, logger="accelerate"):
        deployment = deployed(ONNX)
    assert "has no onnxruntime backend" in caplog.text
    assert deployment.backend == "python"
    check(server, deployment, ONNX, "onnxruntime")


@served
def test_an_optional_input_by_the_shim(server: TritonServer, connection: Connection) -> None:
    model = shifted(32, 24, 3)
    shipment, _ = ship_file(connection, Source(model), told(model), LoadOptions())
    x, bias = np.random.default_rng().random((32, 24, 3), np.float32), np.array([-7], np.float32)
    with accelerate.load(f"triton://{server.url}/{shipment.name}") as remote:
        assert [(t.layout, t.optional) for t in remote.metadata().inputs] == [("HWC", False), ("", True)]
        np.testing.assert_array_equal(remote.infer(x)["y"], x + np.float32(100))
        np.testing.assert_array_equal(remote.infer({"bias": bias, "x": x})["y"], x + bias)
    withdraw(connection, shipment)


@served
def test_onnx_where_the_cpu_was_asked_for_needs_no_warning(
    deployed: Callable[..., Shipment], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="accelerate"):
        assert deployed(ONNX, device="cpu").backend == "python"
    assert caplog.text == ""


@served
def test_joined_requests_of_the_shim(server: TritonServer, deployed: Callable[..., Shipment]) -> None:
    name = deployed(onnx_model()).name
    with accelerate.load(f"triton://{server.url}/{name}") as remote, ThreadPoolExecutor(8) as pool:
        given = [np.full((1 + n % 3, 3), n, np.float32) for n in range(64)]
        for x, answer in zip(given, pool.map(lambda x: remote.infer({"x": x}), given), strict=True):
            np.testing.assert_array_equal(answer["y"], x + x)


@served
@pytest.mark.parametrize(
    ("given", "device", "error", "says"),
    [
        (ONNX, "gpu", UnsupportedModelError, "no onnxruntime backend.*TensorRT plan"),
        (PLAN, None, UnsupportedModelError, "no tensorrt backend"),
        (odd_models.custom_op("fake-op"), None, UnsupportedModelError, "custom operator 'fake-op'"),
        (onnx_model(dtype=TensorProto.BFLOAT16), "cpu", UnsupportedModelError, "bfloat16"),
        (onnx_model(dtype=TensorProto.STRING), "cpu", ModelError, "cannot load the model"),
    ],
    ids=["onnx-gpu", "plan", "custom-op", "bf16", "refused"],
)
def test_what_the_server_cannot_run(
    connection: Connection, given: Any, device: str | None, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=f"(?s){says}"):
        deploy(connection, given, device=device)


@served
def test_a_written_configuration_reaches_the_server(connection: Connection, tmp_path: Path) -> None:
    path = torchscript(tmp_path)
    (tmp_path / "config.pbtxt").write_text('input [{ name: "INPUT__0" data_type: TYPE_FP32 dims: [3] }]')
    with pytest.raises(UnsupportedModelError, match="no pytorch backend"):  # said after the configuration was read
        deploy(connection, path, device="cpu")
    (tmp_path / "config.pbtxt").write_text("inptu []")
    with pytest.raises(ModelError, match="is no model configuration"):
        deploy(connection, path)


@served
def test_one_model_is_shipped_once_and_goes_with_its_last_user(server: TritonServer, connection: Connection) -> None:
    with ThreadPoolExecutor(4) as pool:
        deployments = [*pool.map(lambda _: ship(connection, package(TFLITE)), range(4))]
    (name,) = {one.name for one in deployments}
    assert all(one.resident.ours for one in deployments)
    assert server.log().count(f"loading: {name}:1") == 1
    for one in deployments:
        assert server.is_ready(name)
        withdraw(connection, one)
    assert not server.is_ready(name)


@served
def test_what_others_have_loaded_stays(server: TritonServer, connection: Connection) -> None:
    theirs = f"""
import sys
sys.path[:] = {sys.path!r}
from test_triton_deploy import TFLITE, connect, package, ship
print(ship(connect({server.url!r}), package(TFLITE)).name)
"""
    done = subprocess.run([sys.executable, "-c", theirs], capture_output=True, text=True, check=True, timeout=60)
    ours = ship(connection, package(TFLITE))
    assert ours.name == done.stdout.strip()
    assert not ours.resident.ours
    withdraw(connection, ours)
    assert server.is_ready(ours.name)
    server.request(f"v2/repository/models/{ours.name}/unload", {})


@served
def test_a_restarted_server_gets_the_model_again() -> None:
    with TritonServer() as server:
        connection = connect(server.url)
        deployment = ship(connection, package(TFLITE))
        server.kill()
        server.restart()
        assert not server.is_ready(deployment.name)
        restore(connection, deployment, lambda: package(TFLITE), Deadline(20))
        check(server, deployment, TFLITE, "tflite_cpu")
        withdraw(connection, deployment)
        assert not server.is_ready(deployment.name)
        connection.close()


@served
def test_a_server_that_takes_no_models(tmp_path: Path) -> None:
    write_repository(tmp_path, [package(TFLITE)])
    with TritonServer((), repository=tmp_path, arguments=("--model-control-mode=none",)) as server:
        connection = connect(server.url)
        with pytest.raises(ServerError, match="--model-control-mode=explicit"):
            deploy(connection, ONNX, device="cpu")
        connection.close()


@needs_mlserver
@pytest.mark.slow
def test_a_server_without_triton_s_extensions() -> None:
    with MLServer() as server:
        connection = connect(server.url)
        with pytest.raises(ServerError, match=r"mlserver .*triton://host:port/model"):
            ship(connection, package(TFLITE))
        connection.close()


def test_a_gpu_that_is_not_there() -> None:
    """What tritonserver 2.51 says; it needs a native backend to say so of a model of ours."""
    said = "load failed for model 'm': version 1 is at UNAVAILABLE state: Invalid argument: instance group m_0 of model m has kind KIND_GPU but no GPUs are available;"  # noqa: E501
    connection = connect("127.0.0.1:1")
    error = explain(SimpleNamespace(details=lambda: said), connection.server, package(ONNX, "gpu"))
    connection.close()
    assert isinstance(error, DeviceNotFoundError)
    assert "sees no GPU" in str(error)


def test_a_server_that_is_not_there() -> None:
    connection = connect(f"127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(ServerError):
        ship(connection, package(TFLITE))
    connection.close()


# The command line

SCRIPT = Path(sys.executable).with_name("edge-accelerate")


def call(*arguments: object, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "80", **environment},
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_export_says_how_to_reach_the_models(tmp_path: Path) -> None:
    out = call("sidecar", "export", TFLITE, ONNX, "--repository", tmp_path / "models").stdout
    assert "triton://HOST:8001/digits_uint8" in " ".join(out.split())
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["digits", "digits_uint8"]
    assert "is there already" in call("sidecar", "export", ONNX, "--repository", tmp_path / "models", status=1).stderr
    refused = call("sidecar", "export", TFLITE, "--repository", tmp_path / "gpu", "--device", "gpu", status=1).stderr
    assert "convert the model to ONNX" in refused
    assert not (tmp_path / "gpu").exists()


def test_run_without_a_server_prints_the_docker_command(tmp_path: Path) -> None:
    done = call("sidecar", "run", "--repository", tmp_path, "--", "--grpc-port=9001", status=1, PATH="/nowhere")
    assert "there is no tritonserver" in done.stderr
    command = done.stdout.split()
    assert command[:2] == ["docker", "run"]
    assert {"--ipc=host", f"--volume={tmp_path}:/models:ro", "--grpc-port=9001"} <= set(command)
    assert "there is no folder" in call("sidecar", "run", "--repository", tmp_path / "no", status=1).stderr


@served
def test_a_server_without_the_backend_says_so_and_takes_the_shim(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    call("sidecar", "export", ONNX, "--repository", repository)
    with TritonServer((), repository=repository) as server:
        with pytest.raises(HTTPError):
            server.request("v2/repository/models/digits/load", {})
        with pytest.raises(ModelError, match="unable to find backend library for backend 'onnxruntime'"):
            accelerate.load(f"triton://{server.url}/digits")
        shutil.rmtree(repository)
        call("sidecar", "export", ONNX, "--repository", repository, "--python-backend")
        server.request("v2/repository/models/digits/load", {})
        pixels = np.ones((2, 1, 8, 8), np.float32)
        with (
            accelerate.load(f"triton://{server.url}/digits") as remote,
            accelerate.load(ONNX, backend="onnxruntime") as local,
        ):
            np.testing.assert_allclose(
                remote.infer(pixels)["scores"], local.infer(pixels)["scores"], rtol=1e-5, atol=1e-6
            )
            (repository / "digits" / "1" / "model.onnx").write_bytes(b"damaged")
            with pytest.raises(ModelError, match=r"INVALID_PROTOBUF.*correct the model's files"):
                remote.do_command({"command": "load"})


def test_the_shim_is_for_formats_that_it_runs(tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(PLAN)
    options = ("--python-backend", "--repository", tmp_path / "models")
    said = call("sidecar", "export", tmp_path / "model.plan", *options, status=1).stderr
    assert "ONNX and TFLite models only" in " ".join(said.split())


@served
def test_run_serves_what_export_has_written(tmp_path: Path) -> None:
    call("sidecar", "export", TFLITE, ONNX, "--repository", tmp_path / "models")
    http, grpc_port = free_ports(2)
    environment = triton_environment()
    environment["PATH"] = os.pathsep.join([str(TRITON / "bin"), environment["PATH"]])
    arguments = (f"--http-port={http}", f"--grpc-port={grpc_port}", "--allow-metrics=false", "--exit-timeout-secs=3")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [SCRIPT, "sidecar", "run", "--repository", tmp_path / "models", "--", *arguments],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = 60.0
        connection = connect(f"127.0.0.1:{grpc_port}")
        grpc.channel_ready_future(connection._channel).result(timeout=deadline)
        connection.close()
        # in place of the command itself: its process is the server
        assert b"tritonserver" in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[0]
        pixels = np.zeros((1, 8, 8, 1), np.uint8)
        with (
            accelerate.load(f"triton://127.0.0.1:{grpc_port}/digits_uint8") as remote,
            accelerate.load(TFLITE, backend="tflite_cpu") as local,
        ):
            wanted = local.infer({"image": pixels})["scores"]
            np.testing.assert_array_equal(remote.infer({"image": pixels})["scores"], wanted)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    # this server cannot run the other one, but has understood its configuration
    assert "unable to find backend library for backend 'onnxruntime'" in (tmp_path / "log").read_text()
