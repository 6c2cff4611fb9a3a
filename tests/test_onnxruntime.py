"""What is particular to ONNX Runtime: its tensor types, metadata, devices and weights in other files.

The rest is in the conformance suite.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelerate
from accelerate import (
    AccelerateError,
    ClosedError,
    DeviceNotFoundError,
    InferenceError,
    InferenceTimeoutError,
    Model,
    ModelError,
    NoBackendError,
    OptionError,
    TensorError,
    UnsupportedModelError,
)
from accelerate.calls.conversion import Array
from accelerate.formats.onnx.file import ModelFile
from accelerate.system.cpus import usable_cpus
from accelerate.testing import random_inputs

onnxruntime: Any = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # builds the models
pytest.importorskip("ml_dtypes")

import odd_onnx  # noqa: E402
from onnx import TensorProto  # noqa: E402

TESTS = Path(__file__).parent
CPU = "CPUExecutionProvider"
DIGITS = Path(accelerate.__file__).parent / "data" / "digits.onnx"
# onnxruntime says since 1.24 which provider runs what
TELLS_NODES = hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info")
HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers() and os.path.exists("/dev/nvidiactl")
NEEDS_CUDA = pytest.mark.skipif(not HAS_CUDA, reason="needs an NVIDIA GPU and onnxruntime-gpu")
NO_CUDA_BUILD = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="about a build without CUDA"
)


def load(model: Any, **options: Any) -> Model:
    return accelerate.load(model, backend="onnxruntime", **options)


def child(code: str, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a fresh Python, with the test models importable."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, str(TESTS))))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# Element types


def skip_before_ml_dtypes(dtype: str, element: int) -> None:
    if not hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type"):
        with pytest.raises(UnsupportedModelError, match=rf"{dtype}.*update it"):
            load(odd_onnx.identity(element, opset=19, ir_version=9))
        pytest.skip(f"onnxruntime {onnxruntime.__version__} does not take {dtype} from Python")


@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        (TensorProto.UINT8, "uint8"), (TensorProto.INT8, "int8"), (TensorProto.UINT16, "uint16"),
        (TensorProto.INT16, "int16"), (TensorProto.UINT32, "uint32"), (TensorProto.INT32, "int32"),
        (TensorProto.UINT64, "uint64"), (TensorProto.INT64, "int64"), (TensorProto.BOOL, "bool"),
        (TensorProto.FLOAT16, "float16"), (TensorProto.FLOAT, "float32"), (TensorProto.DOUBLE, "float64"),
        (TensorProto.BFLOAT16, "bfloat16"), (TensorProto.FLOAT8E4M3FN, "float8_e4m3fn"),
        (TensorProto.FLOAT8E4M3FNUZ, "float8_e4m3fnuz"), (TensorProto.FLOAT8E5M2, "float8_e5m2"),
        (TensorProto.FLOAT8E5M2FNUZ, "float8_e5m2fnuz"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3)])
def test_numbers(element: int, dtype: str, shape: tuple[int, ...]) -> None:
    if "float8" in dtype or dtype == "bfloat16":
        skip_before_ml_dtypes(dtype, element)
    size = np.dtype(dtype).itemsize if dtype in ("bool", "float32") else None
    with load(odd_onnx.identity(element, shape, opset=19, ir_version=9)) as model:
        info = model.metadata().inputs[0]
        assert (info.data_type, info.shape) == (dtype, shape)
        bits = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 256, (*shape, 16), np.uint8)
        x = bits.view(dtype)[..., 0] if size != 1 else bits[..., 0].astype(bool)
        for timeout in (None, 60):
            y = model.infer({"x": x}, timeout=timeout)["y"]
            assert (y.dtype, y.shape) == (np.dtype(dtype), shape)
            assert y.tobytes() == x.tobytes()
            assert y.flags.writeable
            y[...] = np.zeros((), dtype)  # the caller's own
        with model.bind() as binding:
            binding.inputs["x"][...] = x
            binding.run()
            assert binding.outputs["y"].tobytes() == x.tobytes()


@pytest.mark.parametrize(
    ("element", "dtype", "values"),
    [
        (odd_onnx.INT4, "int4", [-8, -1, 0, 5, 7]),
        (odd_onnx.UINT4, "uint4", [0, 1, 7, 8, 15]),
        (odd_onnx.INT2, "int2", [-2, -1, 0, 1, -2]),
        (odd_onnx.UINT2, "uint2", [0, 1, 2, 3, 2]),
        (odd_onnx.FLOAT8E8M0, "float8_e8m0fnu", [0.25, 0.5, 1, 2, 1024]),
        (odd_onnx.FLOAT4E2M1, "float4_e2m1fn", [-6, -0.5, 0, 1.5, 4]),
    ],
)
@pytest.mark.parametrize("shape", [(5,), (1,), (5, 3)])
def test_values_smaller_than_a_byte(element: int, dtype: str, values: list[float], shape: tuple[int, ...]) -> None:
    try:
        model = load(odd_onnx.cast(element, shape))
    except UnsupportedModelError as error:
        pytest.skip(f"this onnxruntime has no Cast for it: {error}")
    with model:
        assert model.metadata().inputs[0].data_type == dtype
        x = np.resize(np.array(values), shape).astype(dtype)
        y = model.infer(x)["y"]
        assert y.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(y.astype(np.float32), x.astype(np.float32))


def test_float4_is_packed_two_to_a_byte() -> None:
    from accelerate.backends.onnxruntime import element_types as elements

    x = np.arange(-8, 8).astype("float4_e2m1fn")
    content = np.zeros(x.shape, np.uint8)
    content[:8] = elements._packed(x.view(np.uint8), 4)[:8]
    unpacked = elements._unpacked(content[:8], 4).view(x.dtype)
    np.testing.assert_array_equal(unpacked.astype(np.float32), x.astype(np.float32))


def test_strings_come_out_as_bytes() -> None:
    with load(odd_onnx.strings_and_numbers()) as model:
        z = np.array([1, 2], np.float32)
        for words in (["a", "wörd", ""], [b"a", "wörd".encode(), b""], np.array(["a", "wörd", ""])):
            outputs = model.infer({"x": words, "z": z})
            assert outputs["y"].tolist() == [b"a", "wörd".encode(), b""]
            assert outputs["twice"].tolist() == [2, 4]
        assert model.infer({"x": np.empty(0, object), "z": z})["y"].shape == (0,)
        with pytest.raises(TensorError, match=r"input 'x' holds bytes that are no UTF-8"):
            model.infer({"x": [b"\xff"], "z": z})
        with pytest.raises(TensorError, match="give str or bytes"):
            model.infer({"x": [1], "z": z})
        with model.bind({"x": (2,)}) as binding:
            binding.inputs["x"][...] = [b"one", b"two"]
            binding.run()
            assert binding.outputs["y"].tolist() == [b"one", b"two"]
            assert not binding.zero_copy
    scalar = odd_onnx.identity(TensorProto.STRING, ())
    with load(scalar) as model, model.bind() as binding:
        for word in ("wörd", "wörd".encode(), np.str_("wörd")):
            binding.inputs["x"][...] = word
            binding.run()
            assert binding.outputs["y"].tolist() == "wörd".encode()
        for other, said in {None: r"holds None \(NoneType\)", 3: r"holds 3 \(int\)", "\ud800": "no UTF-8 form"}.items():
            binding.inputs["x"][...] = other
            for timeout in (None, 60):
                with pytest.raises(TensorError, match=rf"input 'x' .*{said}"):
                    binding.run(timeout)
    with load(scalar) as model:
        assert model.infer("word")["y"].tolist() == b"word"


def test_scalars() -> None:
    with load(odd_onnx.double(())) as model:
        for _ in range(2):
            result = model.infer(2.5)["y"]
            assert isinstance(result, np.ndarray)
            assert (result.shape, result.tolist()) == ((), 5)
            result[...] = 0  # the caller's own
        with pytest.raises(TensorError, match=r"wanted float32\[\]"):
            model.infer([1.0, 2.0])


# Shapes


def test_symbolic_dimensions() -> None:
    with load(odd_onnx.pointwise()) as model:
        info = model.metadata().inputs[0]
        assert info.shape == (-1, 1, -1, -1)
        assert info.extra["dimensions"] == ("batch", "", "height", "width")
        assert model.infer(np.ones((2, 1, 3, 4), np.float32))["y"].shape == (2, 1, 3, 4)
    with load(odd_onnx.double((None, 3))) as model:  # dynamic without a name
        assert model.metadata().inputs[0].shape == (-1, 3)
        assert model.infer(np.ones((0, 3), np.float32))["y"].shape == (0, 3)


def test_dynamic_outputs() -> None:
    with load(odd_onnx.nonzero()) as model:
        assert model.metadata().outputs[0].shape == (1, -1)
        assert model.metadata().outputs[0].extra["dimensions"] == ("", "found")
        for x in ([1, 0, 2, 3], [0, 0, 0, 0], [0, 0, 0, 5]):
            found = model.infer(np.array(x, np.float32))["y"]
            assert (found.dtype.name, found.tolist()) == ("int64", [np.flatnonzero(x).tolist()])
        with model.bind() as binding:
            assert not binding.zero_copy
            for x in ([1, 0, 2, 3], [0, 0, 0, 0]):
                binding.inputs["x"][...] = x
                binding.run()
                assert binding.outputs["y"].tolist() == [np.flatnonzero(x).tolist()]


def test_shapes_that_the_model_does_not_give() -> None:
    with load(odd_onnx.unknown_rank()) as model:
        assert model.metadata().inputs[0].extra["rank"] == "unknown"
        for shape in ((), (3,), (2, 3, 4)):
            assert model.infer(np.ones(shape))["y"].tolist() == np.full(shape, 2.0).tolist()
        with pytest.raises(TensorError, match="input 'x' got a list"):
            model.infer([[1.0], [1.0, 2.0]])
        with pytest.raises(TensorError, match="does not give its shape"):
            model.bind()
    session = onnxruntime.InferenceSession(odd_onnx.unknown_rank(), providers=[CPU])
    with accelerate.load(session) as model:
        assert model.infer([1.0, 2.0])["y"].tolist() == [2, 4]


def test_a_wrong_declared_shape_is_no_crash() -> None:
    x = np.ones((5, 3), np.float32)
    with load(odd_onnx.wrong_output_shape()) as model:
        assert model.infer(x)["y"].shape == (5, 3)
        for rows in (5, 2):
            with model.bind({"x": (rows, 3)}) as binding:
                assert not binding.zero_copy
                binding.inputs["x"][...] = -1
                binding.run()
                assert binding.outputs["y"].tolist() == [[1] * 3] * rows


def test_inputs_with_defaults_and_no_inputs() -> None:
    with load(odd_onnx.default_input()) as model:
        assert [t.name for t in model.metadata().inputs] == ["x", "offset"]
        assert model.infer([1.0, 2.0, 3.0])["y"].tolist() == [11, 22, 33]
    with load(odd_onnx.no_inputs()) as model:
        assert model.infer({})["y"].tolist() == [2, 4, 6]
        with model.bind() as binding:
            binding.run()
            assert binding.outputs["y"].tolist() == [2, 4, 6]


@pytest.mark.parametrize(
    "build",
    [
        odd_onnx.sequence_input, odd_onnx.sequence_output, odd_onnx.optional_input, odd_onnx.optional_output,
        odd_onnx.map_input, odd_onnx.map_output,
    ],
)  # fmt: skip
def test_what_is_no_tensor_is_a_clear_error(build: Callable[[], bytes]) -> None:
    name, kind = ("x", build.__name__[:-6]) if build.__name__.endswith("input") else ("y", build.__name__[:-7])
    with pytest.raises(UnsupportedModelError, match="only tensors") as caught:
        load(build())
    assert f"'{name}' is a {'seq' if kind == 'sequence' else ''}" in str(caught.value)
    assert kind[:3] in str(caught.value)
    with pytest.raises(UnsupportedModelError):
        accelerate.load(build())
    session = onnxruntime.InferenceSession(build(), providers=[CPU])
    with pytest.raises(UnsupportedModelError):
        accelerate.load(session)


# Metadata


def test_the_custom_metadata_map() -> None:
    properties = {"names": "{0: 'cat', 2: 'dog'}", "stride": "32", "task": "detect", "imgsz": "[640, 640]"}
    with load(odd_onnx.with_properties(properties)) as model:
        metadata = model.metadata()
        assert metadata.type == "onnx_detector"
        assert metadata.labels == ("cat", "", "dog")
        assert metadata.label(1) == "1"
        assert {key: metadata.extra[key] for key in properties} == properties
    with load(odd_onnx.with_properties({"names": '["a", "b", "c"]', "name": "mine", "task": "pose"})) as model:
        assert (model.metadata().labels, model.metadata().name) == (("a", "b", "c"), "mine")
        assert model.metadata().type == "onnx_pose"
    with load(odd_onnx.with_properties({"names": "__import__('os').abort()"})) as model:
        assert model.metadata().labels == ()


def test_labels_of_the_caller_win(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    model_file = odd_onnx.with_properties({"names": "['a', 'b', 'c']"})
    with load(model_file, label_path=tmp_path / "labels.txt") as model:
        assert model.metadata().labels == ("x", "y", "z")


def test_doc_strings() -> None:
    with load(odd_onnx.with_doc_strings(), tensor_names={"inputs": {"x": "given"}}) as model:
        metadata = model.metadata()
        assert metadata.description == "It doubles."
        assert (metadata.inputs[0].name, metadata.inputs[0].description) == ("given", "what goes in")
        assert metadata.outputs[0].description == "what comes out"


def test_the_projects_own_model() -> None:
    with load(DIGITS) as model:
        metadata = model.metadata()
        assert (metadata.type, len(metadata.labels), metadata.labels[3]) == ("onnx_classifier", 10, "three")
        assert metadata.inputs[0].layout == "NCHW"
        assert metadata.inputs[0].extra["dimensions"][0] == "batch"
        scores = model.infer(np.full((5, 1, 8, 8), -1, np.float32))["scores"]
        np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


# Pixels


def test_pixels_need_a_normalization() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 3, 4, 5)).astype(np.uint8)
    with load(odd_onnx.image()) as model:
        assert model.metadata().inputs[0].layout == "NCHW"
        with pytest.raises(TensorError, match="normalization="):
            model.infer(frame)
    mean, std = (10, 100, 200), (50, 100, 150)
    with load(odd_onnx.image(), normalization=(mean, std)) as model:
        means, stds = (np.array(v, np.float32).reshape(3, 1, 1) for v in (mean, std))
        real = (frame - means) / stds
        np.testing.assert_array_equal(model.infer(frame)["y"], real.astype(np.float32))
        np.testing.assert_array_equal(model.infer(frame[0])["y"], real.astype(np.float32))
        with pytest.raises(TensorError, match="channels first"):
            model.infer(np.moveaxis(frame, 1, -1))


# Weights in other files


EXTERNAL = pytest.mark.parametrize(
    "build",
    [
        odd_onnx.with_external_data, odd_onnx.with_external_constant, odd_onnx.with_external_data_in_a_branch,
        odd_onnx.with_external_data_in_two_parts, odd_onnx.with_external_default_of_a_function,
    ],
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a model, beside a file that is none of its business."""
    odd_onnx.write_weights(tmp_path / "secret.bin", 300)
    (tmp_path / "model" / "sub").mkdir(parents=True)
    return tmp_path / "model"


@EXTERNAL
@pytest.mark.parametrize("location", ["weights.bin", "sub/weights.bin", "ümläut weights"])
def test_external_data(build: Callable[..., bytes], location: str, folder: Path, monkeypatch: Any) -> None:
    weights = odd_onnx.write_weights(folder / location, 300)
    (folder / "model.onnx").write_bytes(build(location, 300))
    monkeypatch.chdir(folder)
    for path in (folder / "model.onnx", "model.onnx", Path("sub") / ".." / "model.onnx"):
        with load(path) as model:
            x = np.ones(300, np.float32)
            want = weights if "branch" in build.__name__ else weights + x
            np.testing.assert_array_equal(model.infer(x)["y"], want)


@EXTERNAL
@pytest.mark.parametrize("given", ["../secret.bin", "sub/../../secret.bin", "absolute", "link"])
def test_external_data_outside_of_the_folder(build: Callable[..., bytes], given: str, folder: Path) -> None:
    location = {"absolute": str(folder.parent / "secret.bin")}.get(given, given)
    (folder / "link").symlink_to(folder.parent / "secret.bin")
    (folder / "model.onnx").write_bytes(build(location, 300))
    with pytest.raises(ModelError, match="outside of the model's folder; it is not followed"):
        load(folder / "model.onnx")


@EXTERNAL
def test_absolute_names_and_names_that_leave_the_folder_are_not_followed(
    build: Callable[..., bytes], folder: Path
) -> None:
    """Wherever they lead."""
    odd_onnx.write_weights(folder / "weights.bin", 300)
    for location in (str(folder / "weights.bin"), "../model/weights.bin"):
        (folder / "model.onnx").write_bytes(build(location, 300))
        with pytest.raises(ModelError, match="outside of the model's folder; it is not followed"):
            load(folder / "model.onnx")


def test_external_data_in_the_cache_of_hugging_face(folder: Path, monkeypatch: Any) -> None:
    """Model and weights are links from a folder of their names into one of their contents."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "h1").write_bytes(odd_onnx.with_external_data("model.onnx_data", 300))
    weights = odd_onnx.write_weights(blobs / "h2", 300)
    (snapshot / "model.onnx").symlink_to("../../blobs/h1")
    with pytest.raises(ModelError, match=r"'model.onnx_data' is missing in .*/snapshots/abc; copy it there"):
        load(snapshot / "model.onnx")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/h2")
    monkeypatch.chdir(snapshot)
    for path in (snapshot / "model.onnx", "model.onnx"):
        with load(path) as model:
            np.testing.assert_array_equal(model.infer(np.zeros(300))["y"], weights)
    (snapshot / "model.onnx_data").unlink()
    (snapshot / "model.onnx_data").symlink_to(folder.parent / "secret.bin")
    with pytest.raises(ModelError, match="outside of the model's folder"):
        load(snapshot / "model.onnx")


@EXTERNAL
@pytest.mark.parametrize("location", ["gone.bin", "sub", "", "no/such/folder", "nul\0", "x" * 5000, "no/../gone"])
def test_missing_external_data(build: Callable[..., bytes], location: str, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(build(location))
    with pytest.raises(ModelError, match=r"is missing in .*copy it there"):
        load(folder / "model.onnx")


@EXTERNAL
def test_external_data_of_bytes(build: Callable[..., bytes], folder: Path, monkeypatch: Any) -> None:
    odd_onnx.write_weights(folder / "weights.bin")
    monkeypatch.chdir(folder)  # where ONNX Runtime would look
    with pytest.raises(ModelError, match=r"other files \(weights.bin\); load the model by its path"):
        load(build("weights.bin"))


def test_external_data_whose_name_is_no_text(folder: Path) -> None:
    """A path is bytes to the system: the file would be found."""
    (folder / "model.onnx").write_bytes(odd_onnx.with_external_data("../secret.bi~").replace(b"~", b"\xff"))
    with pytest.raises(ModelError, match="external data is no UTF-8 text"):
        load(folder / "model.onnx")


def test_a_graph_in_two_parts_is_one() -> None:
    whole = odd_onnx.with_properties({"names": "['a', 'b', 'c']"})
    for content in (whole, odd_onnx.in_two_parts(whole)):
        file = ModelFile(content)
        assert [(v.name, v.data_type, v.shape) for v in (*file.inputs, *file.outputs)] == [
            ("x", "float32", (1, 3)),
            ("y", "float32", (1, 3)),
        ]
        assert file.operators == {"Add": 1}
        with load(content) as model:
            assert model.metadata().labels == ("a", "b", "c")
    inputs = ModelFile(odd_onnx.in_two_parts(odd_onnx.default_input())).inputs
    assert [(v.name, v.optional) for v in inputs] == [("x", False), ("offset", True)]  # whose weight is in the first
    assert ModelFile(odd_onnx.in_two_parts(whole)).name == "first"


def test_external_data_that_is_too_short(folder: Path) -> None:
    odd_onnx.write_weights(folder / "weights.bin", 2)
    (folder / "model.onnx").write_bytes(odd_onnx.with_external_data("weights.bin", 300))
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load(folder / "model.onnx")


# What cannot be run


@pytest.mark.parametrize(
    ("build", "says", "remedy"),
    [
        (lambda: odd_onnx.double(opset=99), "opset", "older opset"),
        (lambda: odd_onnx.double(ir_version=99), "IR version", "older onnx"),
        (odd_onnx.unknown_operator, "Mystery", "register the library"),
        (lambda: odd_onnx.unknown_operator("my.own"), r"my\.own.*Mystery", "register the library"),
        (odd_onnx.undeclared_domain, r"my\.own", "export the model again"),
        (lambda: odd_onnx.identity(TensorProto.COMPLEX64), "complex64", "without tensors of this type"),
    ],
)
def test_unsupported_models(build: Callable[[], bytes], says: str, remedy: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{says}.*{remedy}") as caught:
        load(build())
    assert "onnxruntime_src" not in str(caught.value)
    try:  # another engine may run it: then what this one says is told, too
        with accelerate.load(build()) as auto:
            told = "; ".join(auto.runtime.details["passed_over"])
    except AccelerateError as error:
        told = str(error)
    assert re.search(says, told)


def test_truncated_models() -> None:
    whole = DIGITS.read_bytes()
    for size in (5, 20, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ModelError):
            load(whole[:size])


def test_other_formats_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="not an ONNX model"):
        load(DIGITS.with_name("digits_float.tflite"))
    with pytest.raises(ModelError, match="not an ONNX model"):
        load(b"no model at all")


@pytest.mark.parametrize("name", ["sp ace.onnx", "ümläut.onnx", "no-suffix", "x" * 200, os.fsdecode(b"mod\xe8le")])
def test_odd_paths(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(odd_onnx.double())
    with load(tmp_path / name) as model:
        assert model.infer([1.0, 2.0, 3.0])["y"].tolist() == [2, 4, 6]


def test_the_file_may_go_once_loaded(tmp_path: Path) -> None:
    path = Path(shutil.copy(DIGITS, tmp_path / "model.onnx"))
    with load(path) as model:
        path.unlink()
        assert model.infer(np.zeros((1, 1, 8, 8), np.float32))
        assert model.metadata().labels[0] == "zero"


# Devices and providers


@NO_CUDA_BUILD
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1", "tensorrt:0"])
def test_a_gpu_asked_of_a_build_without_it(device: str) -> None:
    with pytest.raises(DeviceNotFoundError, match=r"built without.*pip install onnxruntime-gpu"):
        load(odd_onnx.double(), device=device)
    with pytest.raises(NoBackendError):
        accelerate.load(odd_onnx.double(), device=device)
    name = {"c": "CUDAExecutionProvider", "t": "TensorrtExecutionProvider"}[device[0]]
    with pytest.raises(DeviceNotFoundError, match="built without"):
        load(odd_onnx.double(), providers=[name, CPU])


@pytest.mark.parametrize("device", ["npu", "cpu:0", "cuda:x", "CPU"])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(DeviceNotFoundError, match=rf"has no device (of the kind )?'{device}'.*its devices: cpu"):
        load(odd_onnx.double(), device=device)


@pytest.mark.parametrize(
    ("providers", "says"),
    [
        (["CUDAExecutionProvder"], "did you mean 'CUDAExecutionProvider'"),
        (["Nothing"], "known: .*CPUExecutionProvider"),
        (CPU, "wanted a list"),
        ([], "wanted a list"),
        ([3], "wanted a list"),
        ([(CPU,)], "wanted a list"),
        ([()], "wanted a list"),
        (7, "wanted a list"),
        ([(CPU, {}, 1)], "wanted a list"),
        ([(CPU, 3)], "wanted a list"),
        ([CPU, 3], "wanted a list"),
        ([(3, {})], "wanted a list"),
        ({CPU: {}}, "wanted a list"),
    ],
)
def test_impossible_providers(providers: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        load(odd_onnx.double(), providers=providers)
    decided = accelerate.plan(odd_onnx.double(), backend="onnxruntime", providers=providers)
    assert decided.chosen is None
    assert re.search(says, decided.skipped[0].reason)


@NO_CUDA_BUILD
@pytest.mark.parametrize(
    "options",
    [
        {"device": "cuda:0"}, {"device": "cuda"}, {"device": "tensorrt:0"},
        {"providers": ["CUDAExecutionProvider"]}, {"providers": [CPU, "TensorrtExecutionProvider"]},
        {"providers": [("CUDAExecutionProvider", {"device_id": 1}), CPU]},
    ],
)  # fmt: skip
def test_a_plan_says_what_the_build_lacks(options: Any) -> None:
    decided = accelerate.plan(odd_onnx.double(), backend="onnxruntime", **options)
    (row,) = decided.skipped
    assert decided.chosen is None
    assert re.search(r"was built without \w+ExecutionProvider \(it has .*CPUExecutionProvider\)", row.reason)
    assert "pip install onnxruntime-gpu" in row.remedy
    with pytest.raises(NoBackendError, match="pip install onnxruntime-gpu"):
        accelerate.load(odd_onnx.double(), **options)


@NO_CUDA_BUILD
@pytest.mark.parametrize("gpu", [False, True])
def test_the_gpu_that_a_build_cannot_use_is_listed_where_there_is_one(gpu: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("accelerate.backends.onnxruntime.shows_gpu", lambda: gpu)
    listed = [d for d in accelerate.list_devices() if d.backend == "onnxruntime"]
    rows = [d for d in listed if "openvino" not in d.id]  # of a plugin that may be installed
    assert [(d.id, d.ready) for d in rows] == [("cuda:0", False), ("cpu", True)][1 - gpu :]
    assert all("onnxruntime-gpu" in d.remedy for d in rows if not d.ready)


def test_a_plan_for_a_session_knows_what_is_settled() -> None:
    session = onnxruntime.InferenceSession(odd_onnx.double(), providers=[CPU])
    decided = accelerate.plan(session, backend="onnxruntime", providers=[CPU])
    assert "providers is settled by the existing session" in decided.skipped[0].reason
    assert accelerate.plan(session, backend="onnxruntime", num_threads=2).chosen is None
    assert accelerate.plan(session).chosen is not None
    assert accelerate.plan(DIGITS, backend="onnxruntime", signature="main").chosen is None
    assert accelerate.plan(DIGITS, backend="onnxruntime", device="cpu", providers=[CPU]).chosen is None
    for backend in ("auto", "onnxruntime"):
        with pytest.raises(OptionError, match="signatures"):
            accelerate.load(DIGITS, backend=backend, signature="main")


def test_options_are_judged_without_the_runtime() -> None:
    code = (
        "import sys\n"
        "from accelerate.backends.onnxruntime import ONNXRuntime\n"
        "from accelerate import LoadOptions, Source\n"
        "asked = {'providers': ['Nothing', ('x', {})], 'full_delegation': True}\n"
        f"assert ONNXRuntime().match(Source({str(DIGITS)!r}), LoadOptions(backend_options=asked)).accepts\n"
        "print('onnxruntime' in sys.modules)"
    )
    done = child(code)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_impossible_options() -> None:
    with pytest.raises(OptionError, match="both say where"):
        load(odd_onnx.double(), device="cpu", providers=[CPU])
    with pytest.raises(OptionError, match="full_delegation is 'yes'"):
        load(odd_onnx.double(), full_delegation="yes")
    assert accelerate.plan(odd_onnx.double(), backend="onnxruntime", full_delegation="yes").chosen is None
    with pytest.raises(OptionError, match="no signatures"):
        load(odd_onnx.double(), signature="x")


def test_providers_are_passed_through() -> None:
    for entry in ((CPU, {"use_arena": "0"}), [CPU, {}], [CPU, {"use_arena": 0}], CPU):
        with load(odd_onnx.double(), providers=[entry]) as model:
            assert (model.device, model.runtime.details["providers"]) == ("cpu", [CPU])
            assert model.infer([1.0, 2.0, 3.0])["y"].tolist() == [2, 4, 6]


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs a provider beside the CPU's that is part of the build and runs nothing here",
)
def test_a_provider_that_runs_nothing_is_an_error(caplog: Any) -> None:
    for providers in (["AzureExecutionProvider"], ["AzureExecutionProvider", CPU]):
        with pytest.raises(UnsupportedModelError):
            load(odd_onnx.double(), providers=providers, full_delegation=True)
        if not TELLS_NODES:
            load(odd_onnx.double(), providers=providers).close()
            assert "does not tell what azure:0 runs" in caplog.text
            continue
        with pytest.raises(UnsupportedModelError, match=r"azure:0 runs no operator .*1 x Add on CPU.*device='cpu'"):
            load(odd_onnx.double(), providers=providers)


def test_runtime_counts_nodes_and_threads() -> None:
    with load(DIGITS, full_delegation=True) as model:
        runtime = model.runtime
        assert (runtime.name, runtime.version) == ("ONNX Runtime", onnxruntime.__version__)
        assert runtime.device == "cpu"
        assert runtime.delegated == runtime.total
        if TELLS_NODES:
            assert runtime.details["nodes"] == {CPU: runtime.total}
            assert runtime.total is not None
            assert 0 < runtime.total <= 5
        assert runtime.details["num_threads"] == usable_cpus()
    with load(DIGITS, num_threads=1) as model:
        assert model.runtime.details["num_threads"] == 1


# The user's SessionOptions


def test_session_options_of_the_users(capfd: Any) -> None:
    given = onnxruntime.SessionOptions()
    given.add_free_dimension_override_by_name("batch", 4)
    given.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    def told() -> dict[str, Any]:
        values = {name: getattr(given, name) for name in dir(given) if not name.startswith("_")}
        return {name: value for name, value in values.items() if not callable(value)}

    before = told()
    content = odd_onnx.double(("batch", 3))
    for more, threads in (({}, usable_cpus()), ({"num_threads": 3}, 3), ({"replicas": 2, "num_threads": 1}, 1)):
        with load(content, session_options=given, **more) as model:
            assert model.metadata().inputs[0].shape == (4, 3)
            assert model.runtime.details["num_threads"] == threads
            np.testing.assert_array_equal(model.infer(np.ones((4, 3)))["y"], np.full((4, 3), 2))
            assert model.do_command({"command": "profile", "runs": 1})["operators"]
        assert told() == before
    given.intra_op_num_threads = 2
    with load(content, session_options=given) as model:
        assert model.runtime.details["num_threads"] == 2
    assert capfd.readouterr().err == ""
    given.log_severity_level = 0  # whoever asks for the lines gets them
    load(content, session_options=given).close()
    assert "onnxruntime" in capfd.readouterr().err


def test_session_options_that_contradict_or_are_none() -> None:
    given = onnxruntime.SessionOptions()
    given.intra_op_num_threads = 2
    load(DIGITS, session_options=given, num_threads=2).close()
    for options, message in (
        ({"session_options": given, "num_threads": 3}, "num_threads=3 and .*intra_op_num_threads=2 differ; give one"),
        ({"session_options": {"intra_op_num_threads": 2}}, r"wanted an onnxruntime\.SessionOptions"),
    ):
        with pytest.raises(OptionError, match=message):
            load(DIGITS, **options)
        (row,) = accelerate.plan(DIGITS, backend="onnxruntime", **options).skipped
        assert re.search(message, f"{row.reason}; {row.remedy}")
    with pytest.raises(OptionError, match="session_options is settled"):
        load(onnxruntime.InferenceSession(DIGITS), session_options=given)


def test_custom_operators() -> None:
    extensions: Any = pytest.importorskip("onnxruntime_extensions", reason="no library of custom operators is here")
    content = odd_onnx.custom_operator()
    with pytest.raises(UnsupportedModelError, match=r"session_options=options"):
        load(content)
    given = onnxruntime.SessionOptions()
    given.register_custom_ops_library(extensions.get_library_path())
    with load(content, session_options=given, replicas=2) as model:
        assert model.infer([b"edge", "kant"])["y"].tolist() == [b"EDGE", b"KANT"]
        assert model.runtime.details["num_threads"] >= 1


@pytest.mark.parametrize("replicas", [1, 2, 256])
def test_replicas_share_the_cpus(replicas: int) -> None:
    with load(DIGITS, replicas=replicas) as model:
        assert model.runtime.details["num_threads"] == max(1, usable_cpus() // replicas)


def test_threads_by_default_are_those_of_the_affinity_mask() -> None:
    code = (
        "import os, accelerate\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
        "def threads(**options):\n"
        f"    with accelerate.load({str(DIGITS)!r}, backend='onnxruntime', **options):\n"
        "        return len(os.listdir('/proc/self/task'))\n"
        "threads()\n"
        "print(threads(), threads(num_threads=1), threads(num_threads=3))"
    )
    done = child(code)
    assert done.returncode == 0, done.stderr
    default, one, three = map(int, done.stdout.split())
    assert (default, three) == (one, one + 2)


@pytest.mark.parametrize("second", ["onnxruntime_gpu", "onnxruntime_qnn", "ort_nightly"])
def test_two_builds_installed(tmp_path: Path, second: str) -> None:
    """What pip leaves after `pip install onnxruntime onnxruntime-gpu`: one package, two distributions."""
    package = Path(onnxruntime.__file__).parent
    (tmp_path / "onnxruntime").symlink_to(package)
    for name in ("onnxruntime", second):
        (original,) = package.parent.glob("onnxruntime-*.dist-info")
        copied = shutil.copytree(original, tmp_path / original.name.replace("onnxruntime", name))
        metadata = (copied / "METADATA").read_text(encoding="utf-8")
        (copied / "METADATA").write_text(
            metadata.replace("Name: onnxruntime", f"Name: {name.replace('_', '-')}", 1), encoding="utf-8"
        )
    code = (
        "import accelerate\n"
        "from accelerate import registry\n"
        "from accelerate.diagnosis.facts import gather\n"
        "found = registry.conflicts(registry.find('onnxruntime'), gather())\n"
        "print(accelerate.list_backends()['onnxruntime'].available, '|', found)"
    )
    found = child(code, path=str(tmp_path)).stdout
    assert found.startswith("True | ")
    dashed = second.replace("_", "-")
    assert f"onnxruntime and {dashed} are installed together" in found
    assert f"pip uninstall -y onnxruntime {dashed}" in found
    (tmp_path / "onnxruntime_extras-1.0.dist-info").mkdir()  # of a name like these, and the owner of other files
    (tmp_path / "onnxruntime_extras-1.0.dist-info" / "RECORD").write_text("onnxruntime_extras/__init__.py,,\n")
    shutil.rmtree(next(tmp_path.glob(f"{second}-*.dist-info")))
    alone = child(code, path=str(tmp_path)).stdout
    assert alone.startswith("True | ")
    assert "together" not in alone


@NEEDS_CUDA
def test_cuda() -> None:
    x = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    with load(DIGITS, device="cuda:0") as gpu, load(DIGITS, device="cpu") as cpu:
        assert (gpu.device, gpu.runtime.details["providers"][0]) == ("cuda:0", "CUDAExecutionProvider")
        assert gpu.runtime.delegated
        np.testing.assert_allclose(gpu.infer(x)["scores"], cpu.infer(x)["scores"], atol=1e-3)
        with gpu.bind({"image": x.shape}) as binding:
            assert not binding.zero_copy
            binding.inputs["image"][...] = x
            binding.run()
            np.testing.assert_allclose(binding.outputs["scores"], cpu.infer(x)["scores"], atol=1e-3)
    with pytest.raises(DeviceNotFoundError):
        load(DIGITS, device="cuda:99")


# An existing session


def test_an_existing_session(caplog: Any) -> None:
    session = onnxruntime.InferenceSession(odd_onnx.add((2, 3)), providers=[CPU])
    a, b = (np.random.default_rng(n).random((2, 3), np.float32) for n in range(2))
    with accelerate.load(session) as model:
        assert (model.backend, model.device) == ("onnxruntime", "cpu")
        assert model.runtime.details["providers"] == [CPU]
        np.testing.assert_array_equal(model.infer({"a": a, "b": b})["sum"], a + b)
        np.testing.assert_array_equal(model.infer({"a": a, "b": b}, timeout=9)["sum"], a + b)
        assert [t.name for t in model.metadata().inputs] == ["a", "b"]
        assert model.metadata().name == "odd"
        with model.bind() as binding:
            assert binding.zero_copy
        with pytest.raises(OptionError, match="loaded from a file or bytes"):
            model.do_command({"command": "profile"})
    np.testing.assert_array_equal(session.run(None, {"a": a, "b": b})[0], a + b)  # still the caller's
    for option in ({"num_threads": 2}, {"device": "cpu"}, {"providers": [CPU]}, {"full_delegation": True}):
        with pytest.raises(OptionError, match=f"{next(iter(option))} is settled"):
            load(session, **option)
    assert not caplog.records


# Whose memory it is


def test_outputs_never_alias() -> None:
    x = np.arange(4, dtype=np.float32)
    with load(odd_onnx.aliased_outputs()) as model:
        for timeout in (None, 60):
            first, second = model.infer(x, timeout=timeout), model.infer(x, timeout=timeout)
            arrays = [x, *first.values(), *second.values()]
            assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))
            assert [v.tolist() for v in first.values()] == [x.tolist()] * 3 + [[1, 2, 3, 4]]
            for value in first.values():
                value[...] = 99  # one of them is a weight of the model
            assert model.infer(x)["constant"].tolist() == [1, 2, 3, 4]
        with model.bind() as binding:
            binding.inputs["x"][...] = [5, 6, 7, 8]
            binding.run()
            assert binding.outputs["x"].tolist() == [5, 6, 7, 8]
            assert binding.outputs["two"].tolist() == [5, 6, 7, 8]
            assert not binding.zero_copy  # ONNX Runtime leaves an output alone that is an input


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.STRING, TensorProto.BFLOAT16])
def test_outputs_of_one_name(element: int) -> None:
    if element == TensorProto.BFLOAT16:
        skip_before_ml_dtypes("bfloat16", element)
    with load(odd_onnx.same_output_twice(element), tensor_names={"outputs": {"y:1": "again"}}) as model:
        assert [t.name for t in model.metadata().outputs] == ["y", "again"]
    with load(odd_onnx.same_output_twice(element)) as model:
        x = np.array([b"a", b"b", b"c"], object) if element == TensorProto.STRING else np.ones(3, np.float32)
        outputs = model.infer(x)
        assert list(outputs) == ["y", "y:1"]
        assert outputs["y"].tolist() == outputs["y:1"].tolist() == x.tolist()
        assert not np.shares_memory(outputs["y"], outputs["y:1"])
        with model.bind() as binding:
            binding.inputs["x"][...] = x
            binding.run()
            assert binding.outputs["y"].tolist() == binding.outputs["y:1"].tolist() == x.tolist()
            assert not binding.zero_copy


def test_a_binding_shares_memory() -> None:
    with load(odd_onnx.add((10, 10))) as model, model.bind() as binding:
        assert binding.zero_copy
        a, total = binding.inputs["a"], binding.outputs["sum"]
        addresses = [array.ctypes.data for array in (a, total)]
        for n in range(3):
            a[...] = n
            binding.inputs["b"][...] = 10
            binding.run(timeout=None if n else 60)
            assert (total == n + 10).all()  # the array taken before the run
            assert [binding.inputs["a"].ctypes.data, binding.outputs["sum"].ctypes.data] == addresses
    with load(odd_onnx.double((0, 3))) as model, model.bind() as binding:
        binding.run()
        assert binding.outputs["y"].shape == (0, 3)
        assert not binding.zero_copy


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_of_a_binding_copies_nothing() -> None:
    size = 64 << 20
    code = (
        "import odd_onnx, accelerate\n"
        f"model = accelerate.load(odd_onnx.double(({size // 4},)), backend='onnxruntime')\n"
        "binding = model.bind()\n"
        "binding.inputs['x'][...] = 1\n"
        "binding.run()\n"
        "binding.inputs['x'][...] = 2\n"
        "open('/proc/self/clear_refs', 'w').write('5')  # the peak begins anew\n"
        "binding.run()\n"
        "memory = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "print(int(memory['VmHWM'].split()[0]) - int(memory['VmRSS'].split()[0]), binding.outputs['y'][-1])"
    )
    done = child(code)
    assert done.returncode == 0, done.stderr
    more, last = done.stdout.split()
    assert float(last) == 4
    assert int(more) < (size >> 10) // 4


def test_arrays_outlive_everything() -> None:
    code = (
        "import gc, odd_onnx, accelerate, numpy as np\n"
        "model = accelerate.load(odd_onnx.double((1000, 1000)), backend='onnxruntime')\n"
        "binding = model.bind()\n"
        "given, taken = binding.inputs['x'], binding.outputs['y']\n"
        "given[...] = 1\n"
        "binding.run()\n"
        "got = model.infer(np.full((1000, 1000), 3, np.float32))['y']\n"
        "binding.close(); model.close(); del model, binding\n"
        "gc.collect()\n"
        "given[...] = 5\n"
        "print(*(int(array.sum()) for array in (taken, got, given)))"
    )
    done = child(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["2000000", "6000000", "5000000"]


@pytest.mark.parametrize("how", ["model.infer(x, timeout=0.05)", "model.bind().run(timeout=0.05)"])
def test_a_process_may_end_while_a_call_still_runs(how: str) -> None:
    code = (
        "import odd_onnx, accelerate, numpy as np\n"
        "model = accelerate.load(odd_onnx.slow(2), backend='onnxruntime', num_threads=1)\n"
        "x = np.ones((1, odd_onnx.MATRIX_SIZE), np.float32)\n"
        "try:\n"
        f"    {how}\n"
        "except accelerate.InferenceTimeoutError:\n"
        "    print('left')"
    )
    done = child(code)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "left", "")


# Threads and deadlines


def test_threads_side_by_side() -> None:
    feeds = [np.random.default_rng(n).normal(size=(1 + n % 3, 1, 8, 8)).astype(np.float32) for n in range(8)]
    with load(DIGITS) as model:
        want = [model.infer(x)["scores"].tobytes() for x in feeds]

        def calls(n: int) -> list[bytes]:
            return [model.infer(feeds[n])["scores"].tobytes() for _ in range(200)]

        with ThreadPoolExecutor(8) as pool:
            for n, answers in enumerate(pool.map(calls, range(8))):
                assert set(answers) == {want[n]}


def test_calls_run_side_by_side() -> None:
    with load(odd_onnx.slow(0.3), num_threads=1) as model:
        x = np.ones((1, odd_onnx.MATRIX_SIZE), np.float32)
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(model.infer, x)
            time.sleep(0.05)
            with pytest.raises(InferenceTimeoutError, match="still computing"):  # it did not wait for its turn
                model.infer(x, timeout=0.05)
            np.testing.assert_allclose(slow.result()["y"], x, rtol=1e-3)


@pytest.mark.parametrize("bound", [False, True])
def test_a_call_that_is_left_is_cancelled(bound: bool) -> None:
    with load(odd_onnx.slow(0.4), num_threads=1) as model, model.bind() as binding:
        x = np.ones((1, odd_onnx.MATRIX_SIZE), np.float32)
        binding.inputs["x"][...] = x

        def call(timeout: float) -> Array:
            if not bound:
                return model.infer(x, timeout=timeout)["y"]
            binding.run(timeout)
            return binding.outputs["y"]

        started = time.monotonic()
        np.testing.assert_allclose(call(60), x, rtol=1e-3)
        whole = time.monotonic() - started
        with pytest.raises(InferenceTimeoutError, match=r"0\.1 s"):
            call(0.1)
        with pytest.raises(InferenceTimeoutError):
            call(0)  # comes back at once; it may find the session busy
        time.sleep(whole / 4)
        before = time.process_time()
        time.sleep(whole / 4)
        assert time.process_time() - before < whole / 8  # nobody computes any more
        np.testing.assert_allclose(call(60), x, rtol=1e-3)


def test_closing_while_a_call_runs_is_clean() -> None:
    model = load(odd_onnx.slow(0.3), num_threads=1)
    x = np.ones((1, odd_onnx.MATRIX_SIZE), np.float32)
    with pytest.raises(InferenceTimeoutError):
        model.infer(x, timeout=0.05)
    model.close()
    with pytest.raises(ClosedError):
        model.infer(x, timeout=1)
    del model
    gc.collect()


# Commands, failures, output on stderr, leaks


def test_profile() -> None:
    with load(DIGITS, num_threads=1) as model:
        summary = model.do_command({"command": "profile", "runs": 3})
        assert summary["runs"] == 3
        assert {"Gemm", "Softmax"} & {row["operator"].removeprefix("Fused") for row in summary["operators"]}
        assert 1 < sum(row["nodes"] for row in summary["operators"]) <= 5  # some are fused
        assert sum(row["share"] for row in summary["operators"]) == pytest.approx(1)
        assert sum(row["us"] for row in summary["operators"]) == pytest.approx(summary["total_us"])
        assert model.do_command({"command": "stats"})["calls"] == 0
        for runs in (0, 1001, 1.5, "3"):
            with pytest.raises(OptionError, match="profile runs"):
                model.do_command({"command": "profile", "runs": runs})
    with load(odd_onnx.slow(0.3), num_threads=1) as model, pytest.raises(InferenceTimeoutError):
        model.do_command({"command": "profile", "runs": 100}, timeout=0.5)
    for model_file in (odd_onnx.strings_and_numbers(), odd_onnx.identity(TensorProto.FLOAT16), odd_onnx.no_inputs()):
        with load(model_file) as model:
            assert model.do_command({"command": "profile"})["runs"] == 10
    with load(odd_onnx.into_shape()) as model, pytest.raises(InferenceError):  # zeros are no input for it
        model.do_command({"command": "profile"})


def test_a_failure_while_running_is_typed_and_the_model_lives() -> None:
    with load(odd_onnx.gather()) as model:
        x = np.array([1, 2, 3], np.float32)
        for timeout in (None, 60):
            with pytest.raises(TensorError, match="idx=7") as caught:
                model.infer({"x": x, "index": np.array([0, 7])}, timeout=timeout)
            assert isinstance(caught.value.__cause__, Exception)
        assert model.infer({"x": x, "index": np.array([2, 0])})["y"].tolist() == [3, 1]
        with model.bind({"index": (2,)}) as binding:
            binding.inputs["index"][...] = 7
            with pytest.raises(AccelerateError, match="idx=7"):
                binding.run()


def test_nothing_is_written_to_stderr(capfd: Any, tmp_path: Path) -> None:
    for build in (odd_onnx.unknown_operator, odd_onnx.sequence_output, lambda: odd_onnx.double(opset=99)):
        with pytest.raises(UnsupportedModelError):
            load(build())
    with load(odd_onnx.gather()) as model:
        bad = {"x": np.ones(3, np.float32), "index": np.array([7])}
        for timeout in (None, 60):
            with pytest.raises(TensorError):
                model.infer(bad, timeout=timeout)
    with load(odd_onnx.into_shape()) as model, pytest.raises(InferenceError):
        model.do_command({"command": "profile"})
    with load(odd_onnx.wrong_output_shape()) as model:
        model.infer(np.ones((5, 3), np.float32))
    for timeout in (None, 60):
        with load(odd_onnx.positive(2)) as model, model.bind() as binding:  # which says another shape, too
            binding.run(timeout)
    with load(odd_onnx.slow(0.3), num_threads=1) as model:
        with pytest.raises(InferenceTimeoutError):
            model.infer(random_inputs(model), timeout=0.05)
        model.infer(random_inputs(model), timeout=60)
    assert capfd.readouterr() == ("", "")


def test_a_partly_damaged_description_costs_only_the_description(caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, "accelerate"), load(odd_onnx.with_doc_strings()) as model:
        assert model.metadata().inputs[0].description
    assert not caplog.records


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_closing_leaves_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(odd_onnx.with_doc_strings())
    load(path).close()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for n in range(20):
        model = load(path)
        if n % 2:
            model.metadata()
        model.infer(np.ones((1, 3), np.float32), timeout=5 if n % 3 == 0 else None)
        model.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


# Real models


@pytest.fixture
def mobilenet(models_dir: Path) -> Iterator[Model]:
    """The float twin of the quantised MobileNet."""
    with load(models_dir / "mobilenet_v1_0.25_128_quant.onnx", normalization=(127.5, 127.5)) as model:
        yield model


def test_answers_equal_the_raw_sessions(mobilenet: Model, models_dir: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    path = str(models_dir / "mobilenet_v1_0.25_128_quant.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=[CPU])
    inputs = random_inputs(mobilenet, 7)
    want = session.run(None, inputs)
    for _ in range(2):
        for got, expected in zip(mobilenet.infer(inputs).values(), want, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["binding", "map", "replicas"])
def test_the_end_of_the_program_ends_what_nobody_waits_for(way: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "slow.onnx"
    model = onnx.load_from_string(odd_onnx.slow(1.0))
    if way == "binding":  # of a dynamic output: it copies
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, path)
    code = f"""
import asyncio, threading, time, numpy as np, accelerate
model = accelerate.load({str(path)!r}, replicas={2 if way == "replicas" else 1})
x = np.zeros((1, 1024), np.float32)

async def leave():
    task = asyncio.create_task(model.infer_async(x))
    await asyncio.sleep(0.3)
    task.cancel()

if {way!r} == "binding":
    try:
        model.bind().run(timeout=0.3)
    except accelerate.InferenceTimeoutError:
        pass
elif {way!r} == "map":
    threading.Thread(target=lambda: next(accelerate.map(model, [x] * 4)), daemon=True).start()
    time.sleep(0.3)
else:
    asyncio.run(leave())
"""
    done = child(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_kept_in_the_users_home(tmp_path: Path, monkeypatch: Any) -> None:
    """ONNX Runtime's telemetry (since 1.32) keeps its files there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "ours"))
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    code = (
        "import os, sys, time, accelerate\n"
        "accelerate.load(sys.argv[1], backend='onnxruntime').warmup()\n"
        "time.sleep(1)\n"
        "assert 'ORT_DISABLE_TELEMETRY' not in os.environ\n"
    )
    done = child(code, str(DIGITS))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "ours"] == []
