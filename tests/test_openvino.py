"""What is particular to the backend `openvino`, on the real runtime and the CPU."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
pytest.importorskip("onnx")  # builds models

import odd_models
import odd_onnx
from conftest import ROOT
from onnx import TensorProto, helper
from openvino_models import compiled, core, raw_answer, read, written
from test_real_agreement import tolerance

import accelerate
from accelerate.bench import runner
from accelerate.contract import LoadOptions, random_tensor

BACKEND = "openvino"
DIGITS = str(Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite")


def program(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tools")))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# What it answers


@pytest.mark.parametrize(
    "name", ["mobilenet_v2_1.0_224_quant.tflite", "add_10x10.tflite", "nanodet_m_320.onnx", "vww_96_float.tflite"]
)
def test_answers_are_those_of_the_runtime_itself(models_dir: Path, name: str) -> None:
    raw = compiled(models_dir / name)
    with accelerate.load(models_dir / name, backend=BACKEND, num_threads=1) as model, model.bind() as binding:
        fixed = all(min(t.shape) > 0 for t in model.metadata().outputs)
        assert binding.zero_copy == fixed
        addresses = [array.ctypes.data for array in (*binding.inputs.values(), *binding.outputs.values())]
        for seed in range(3):
            random = np.random.default_rng(seed)
            inputs = {t.name: random_tensor(t, random) for t in model.metadata().inputs}
            wanted = raw_answer(raw, list(inputs.values()))
            for array, value in zip(binding.inputs.values(), inputs.values(), strict=True):
                array[...] = value
            binding.run(timeout=60 if seed else None)
            for outputs in (model.infer(inputs), model.infer(inputs, timeout=60), binding.outputs):
                for got, want in zip(outputs.values(), wanted, strict=True):
                    np.testing.assert_array_equal(got, want)
        if fixed:
            assert addresses == [a.ctypes.data for a in (*binding.inputs.values(), *binding.outputs.values())]


PICTURED = (
    "mobilenet_v1_0.25_224_float_metadata.tflite",
    "mobilenet_v1_0.25_128_quant.tflite",
    "mobilenet_v2_1.0_224_quant.tflite",
    "vww_96_int8.tflite",
    "yolox_nano_float16_quantize.tflite",
    "yolox_nano_int8_quantize.tflite",
    "mobilenet_v1_0.25_128_quant.onnx",
    "yolox_nano.onnx",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURED)
def test_answers_are_near_those_of_the_files_own_engine(models_dir: Path, name: str) -> None:
    photograph = models_dir.parent / "images" / "grace_hopper.bmp"
    if not photograph.is_file():
        pytest.skip(f"there is no {photograph}")
    levels = None if name.endswith(".tflite") and "yolox" not in name else (0, 1)
    shapes = (1, 96, 96, 3) if "vww" in name else None
    given: dict[str, Any] = {"normalization": levels, "shapes": shapes}
    with (
        accelerate.load(models_dir / name, backend=BACKEND, **given) as model,
        accelerate.load(models_dir / name, **given) as own,
    ):
        assert own.backend != BACKEND
        theirs = own.infer_image(photograph)
        for key, value in model.infer_image(photograph).items():
            wanted = theirs[key].astype(np.float64)
            assert np.abs(value - wanted).max() <= tolerance(name, "openvino") * np.ptp(wanted)
            assert value.argmax() == wanted.argmax()


def test_an_ir_and_the_file_that_it_was_made_of_answer_alike(models_dir: Path, tmp_path: Path) -> None:
    path = models_dir / "mobilenet_v1_0.25_128_quant.tflite"
    twin = written(path, tmp_path / "twin.xml")
    frame = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3)).astype(np.uint8)
    with accelerate.load(path, backend=BACKEND) as one, accelerate.load(twin) as other:
        assert other.backend == BACKEND
        answers = [next(iter(model.infer(frame).values())) for model in (one, other)]
        np.testing.assert_array_equal(answers[0], answers[1])


def test_a_tflite_file_means_what_it_means_to_its_own_engine(models_dir: Path) -> None:
    for name in ("mobilenet_v1_0.25_128_quant.tflite", "multi_signature_model.tflite", "vww_96_int8.tflite"):
        with (
            accelerate.load(models_dir / name) as own,
            accelerate.load((models_dir / name).read_bytes(), backend=BACKEND) as model,
        ):
            assert (own.backend, model.backend) == ("tflite_cpu", BACKEND)
            for mine, theirs in zip(_tensors(own), _tensors(model), strict=True):
                assert {**vars(theirs), "shape": 0} == {**vars(mine), "shape": 0}
            assert model.metadata().labels == own.metadata().labels


def _tensors(model: accelerate.Model) -> tuple[accelerate.TensorInfo, ...]:
    return (*model.metadata().inputs, *model.metadata().outputs)


def test_names_that_are_each_others_aliases_stay_with_their_tensors() -> None:
    with (
        accelerate.load(odd_models.shared_alias()) as own,
        accelerate.load(odd_models.shared_alias(), backend=BACKEND) as model,
    ):
        inputs = {"a": np.array([1, 2, 3], np.float32), "b": np.array([10, 20, 30], np.float32)}
        np.testing.assert_array_equal(model.infer(inputs)["y"], own.infer(inputs)["y"])
        inputs["a"] = 5 * inputs["a"]
        np.testing.assert_array_equal(model.infer(inputs)["y"], own.infer(inputs)["y"])


def test_pixels_are_normalised_as_tflite_assumes() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3)).astype(np.uint8)
    with accelerate.load(odd_models.image_float(), backend=BACKEND) as model:
        shape = model.metadata().inputs[0].shape
        with pytest.warns(accelerate.AssumptionWarning):
            answer = model.infer(np.resize(frame, shape))
        np.testing.assert_allclose(answer["y"], np.resize(frame, shape) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("element", "name"), [(TensorProto.BFLOAT16, "bfloat16"), (TensorProto.FLOAT8E4M3FN, "float8_e4m3fn")]
)
def test_types_that_numpy_has_from_ml_dtypes(element: int, name: str) -> None:
    pytest.importorskip("ml_dtypes")
    with accelerate.load(odd_onnx.identity(element, opset=21, ir_version=10), backend=BACKEND) as model:
        (tensor,) = model.metadata().inputs
        assert tensor.data_type == name
        given = np.random.default_rng(0).uniform(-4, 4, tensor.shape).astype(name)
        (output,) = model.infer(given).values()
        assert output.dtype.name == name
        np.testing.assert_array_equal(output.view(np.uint8), given.view(np.uint8))
        (again,) = model.infer(given, timeout=60).values()
        np.testing.assert_array_equal(again.view(np.uint8), given.view(np.uint8))
        with model.bind() as binding:
            binding.inputs[tensor.name][...] = given
            binding.run()
            np.testing.assert_array_equal(next(iter(binding.outputs.values())).view(np.uint8), given.view(np.uint8))


def test_arrays_of_another_byte_order_and_read_only_ones() -> None:
    with accelerate.load(odd_onnx.double(), backend=BACKEND) as model:
        given = np.array([1, 2, 3], np.float32)
        given.flags.writeable = False
        for array in (given, given.astype(">f4"), np.repeat(given, 2)[::2]):
            for timeout in (None, 60):
                assert model.infer(array, timeout=timeout)["y"].tolist() == [2, 4, 6]


def test_numbers_that_it_would_change_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Its CPU device computes in 32 bits what has 64."""
    with accelerate.load(odd_onnx.double((2,), TensorProto.INT64), backend=BACKEND) as model:
        assert model.infer(np.array([-(2**31), 2**30 - 1]) // 2)["y"].tolist() == [-(2**31), 2**30 - 2]
        for timeout in (None, 60):
            with pytest.raises(accelerate.TensorError, match="numbers beyond 32 bits, 1 to 1099511627776"):
                model.infer(np.array([1, 2**40]), timeout=timeout)
        with model.bind() as binding:
            binding.inputs["x"][...] = [1, 2**40]
            with pytest.raises(accelerate.TensorError, match="beyond 32 bits"):
                binding.run()
    with (
        caplog.at_level(logging.WARNING, "accelerate"),
        accelerate.load(odd_onnx.double((2,), TensorProto.DOUBLE), backend=BACKEND) as model,
    ):
        assert "takes float64, which OpenVINO computes in float32" in caplog.text
        assert model.infer(np.array([-1e30, 2.5]))["y"].tolist() == [np.float32(-1e30) * 2, 5]
        with pytest.raises(accelerate.TensorError, match=r"beyond 32 bits, 2\.5 to inf"):
            model.infer(np.array([np.inf, 2.5]))  # it makes the largest float of it
        with pytest.raises(accelerate.TensorError, match=r"beyond 32 bits, 1\.0 to 1e\+200"):
            model.infer(np.array([1, 1e200]))


def test_unsigned_numbers_of_32_bits_are_refused_beyond_31() -> None:
    """It compares 4000000000 with 5 as if it were negative."""
    numbers = [helper.make_tensor_value_info(name, TensorProto.UINT32, (2,)) for name in "xy"]
    output = helper.make_tensor_value_info("o", TensorProto.BOOL, (2,))
    graph = helper.make_graph([helper.make_node("Greater", ["x", "y"], ["o"])], "odd", numbers, [output])
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with accelerate.load(source, backend=BACKEND) as model:
        few = np.array([5, 2**31 - 1], np.uint32)
        assert model.infer({"x": few[::-1], "y": few})["o"].tolist() == [True, False]
        with pytest.raises(accelerate.TensorError, match="beyond 32 bits, 5 to 4000000000"):
            model.infer({"x": np.array([4000000000, 5], np.uint32), "y": few})


def test_texts_keep_their_length() -> None:
    with accelerate.load(odd_onnx.reversed_strings(), backend=BACKEND) as model:
        words = ["ä", "", "two words", "x" * 1000]
        assert model.infer(words)["y"].tolist() == [word.encode() for word in reversed(words)]
        with pytest.raises(accelerate.TensorError, match="ends with a zero byte, which OpenVINO would lose"):
            model.infer(["a", "b\0", "c", "d"])


def test_a_binding_of_texts_takes_texts_alone() -> None:
    with accelerate.load(odd_onnx.reversed_strings(), backend=BACKEND) as model, model.bind() as binding:
        words = binding.inputs["x"]
        words[:] = ["a", b"b", "\u00e4", ""][: len(words)]
        binding.run()
        assert binding.outputs["y"][-1] == b"a"
        for wrong, reason in ((5, r"holds 5 \(int\)"), (None, "holds None"), ("\ud800", "no UTF-8 form")):
            words[0] = wrong
            with pytest.raises(accelerate.TensorError, match=reason):
                binding.run()


def test_no_texts_at_all_are_refused() -> None:
    """OpenVINO gives the outputs of the call before."""
    from openvino import Model, Type, opset15

    parameter = opset15.parameter([-1], Type.string, name="s")
    made = core().compile_model(Model(opset15.string_tensor_unpack(parameter).outputs(), [parameter], "texts"), "CPU")
    with accelerate.load(made) as model:
        assert [value.tolist() for value in model.infer(["ab", "c"]).values()] == [[0, 2], [2, 3], [97, 98, 99]]
        with pytest.raises(accelerate.TensorError, match="holds no text at all, at which OpenVINO answers as it did"):
            model.infer(np.array([], object))


def test_an_output_that_is_an_input_is_copied() -> None:
    with accelerate.load(odd_models.passed_through(), backend=BACKEND) as model, model.bind() as binding:
        assert not binding.zero_copy
        (array,) = binding.inputs.values()
        array[...] = 3
        binding.run()
        np.testing.assert_array_equal(binding.outputs["same"], array)


def test_a_dynamic_binding_is_never_stale() -> None:
    with accelerate.load(odd_onnx.double(("batch", 3)), backend=BACKEND) as model:
        for rows in (1, 4, 2):
            with model.bind({"x": (rows, 3)}) as binding:
                for value in (1.0, 7.0):
                    binding.inputs["x"][...] = value
                    binding.run()
                    assert binding.outputs["y"].tolist() == [[2 * value] * 3] * rows


def test_settled_shapes_settle_the_model(models_dir: Path) -> None:
    path = models_dir / "vww_96_int8.tflite"
    frames = np.random.default_rng(0).integers(-128, 128, (2, 96, 96, 3)).astype(np.int8)
    with (
        accelerate.load(path, backend=BACKEND) as open_one,
        accelerate.load(path, backend=BACKEND, shapes=(2, 96, 96, 3)) as model,
        model.bind() as binding,
    ):
        assert model.metadata().outputs[0].shape == (2, 2)
        assert binding.zero_copy
        (array,), (output,) = binding.inputs.values(), binding.outputs.values()
        array[...] = frames
        binding.run()
        np.testing.assert_array_equal(output, next(iter(open_one.infer(frames).values())))
    with pytest.raises(accelerate.OptionError, match="shapes"):
        accelerate.load(path, backend=BACKEND, shapes=(1, 95, 96, 3))


# What it takes


def _refusal(source: Any, **options: Any) -> accelerate.AccelerateError:
    (row,) = accelerate.plan(source, backend=BACKEND, **options).skipped
    with pytest.raises(accelerate.AccelerateError) as caught:
        accelerate.load(source, backend=BACKEND, **options)
    assert str(caught.value) == (f"{row.reason}; {row.remedy}" if row.remedy else row.reason)
    return caught.value


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (odd_models.custom_op("Magic"), "needs Magic, which OpenVINO does not have"),
        (odd_models.edgetpu_like(), "compiled for the Edge TPU"),
        (odd_models.strings(), "of type string"),
        (odd_models.bfloat16(), "of type bfloat16"),
        (odd_models.complex64(), "of type complex64"),
        (odd_models.four_bits(), "of type int4"),
        (odd_models.lstm(), "keeps values from one call to the next"),
        (odd_models.counting(), "keeps values from one call to the next"),
        (odd_models.duplicate_names(), "several tensors of the name 'x'"),
        (odd_onnx.sequence_output(), "of type sequence"),
        (odd_onnx.identity(TensorProto.INT4, opset=21, ir_version=10), "of type int4"),
        (odd_onnx.same_output_twice(), "several outputs of the name"),
    ],
)
def test_what_it_cannot_run_is_refused_before_the_runtime(source: bytes, reason: str) -> None:
    error = _refusal(source)
    assert isinstance(error, accelerate.UnsupportedModelError)
    assert reason in str(error)
    assert error.remedy


def test_an_operator_that_it_lacks_is_told_by_the_runtime() -> None:
    for source in (odd_onnx.unknown_operator(), odd_onnx.custom_operator()):
        with pytest.raises(accelerate.UnsupportedModelError, match=r"OpenVINO cannot run the model: .*; run it by"):
            accelerate.load(source, backend=BACKEND)


@pytest.mark.parametrize(("operator", "inputs"), [("GlobalAveragePool", []), ("Conv", ["x"]), ("Relu", [""])])
def test_an_operator_without_its_inputs_is_refused_before_it_crashes_the_reader(
    operator: str, inputs: list[str]
) -> None:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 8, 8)) for name in "xy"]
    graph = helper.make_graph([helper.make_node(operator, inputs, ["y"])], "odd", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    error = _refusal(model.SerializeToString())
    assert f"an operator {operator} has {len(inputs)} inputs" in str(error)


def test_a_signature_of_another_graph_is_refused(models_dir: Path) -> None:
    with accelerate.load(models_dir / "multi_signature_model.tflite", backend=BACKEND, signature="add") as model:
        assert model.runtime.name == "OpenVINO"
    error = _refusal(odd_models.two_signatures(), signature="multiply")
    assert isinstance(error, accelerate.OptionError)
    assert "runs the main graph alone" in str(error)


def test_an_input_with_a_default_is_a_constant_to_it() -> None:
    with accelerate.load(odd_onnx.default_input(), backend=BACKEND) as model:
        assert [t.name for t in model.metadata().inputs] == ["x"]
        assert model.infer([1, 2, 3.0])["y"].tolist() == [11, 22, 33]


@pytest.mark.parametrize("shape", [(2, 3), ("rows", 3)])
def test_an_input_that_nothing_reads_is_one_from_a_file_and_from_bytes(shape: tuple[Any, ...], tmp_path: Path) -> None:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("unread", "x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "odd", tensors[:2], tensors[2:])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content)
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    for source in (tmp_path / "model.onnx", content):
        with accelerate.load(source, backend=BACKEND) as model, model.bind({"x": (2, 3), "unread": (2, 3)}) as binding:
            assert [t.name for t in model.metadata().inputs] == ["unread", "x"]
            np.testing.assert_array_equal(model.infer({"x": given, "unread": -given})["y"], 2 * given)
            binding.inputs["x"][...] = given
            binding.run()
            np.testing.assert_array_equal(binding.outputs["y"], 2 * given)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are files in memory on Linux")
def test_tflite_bytes_stay_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from accelerate.backends.openvino.compiling import _tflite_path
    from accelerate.source import Source

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = odd_models.add3()
    with _tflite_path(Source(content)) as path:
        assert Path(path).read_bytes() == content
        assert os.readlink(path).startswith("/proc/self/fd/")
        assert not any(one.is_file() and not one.is_symlink() for one in tmp_path.rglob("*"))
    assert not any(tmp_path.iterdir())
    monkeypatch.delattr(os, "memfd_create")  # another system, where there is a file for as long as it is read
    with accelerate.load(content, backend=BACKEND) as model:
        model.warmup()
    assert not any(tmp_path.iterdir())


def test_an_existing_compiled_model() -> None:
    made = compiled(odd_onnx.add((2, 3)))
    ones = np.ones((2, 3), np.float32)
    with accelerate.load(made) as model:
        assert (model.backend, model.device, model.runtime.details["adopted"]) == (BACKEND, "cpu", True)
        np.testing.assert_array_equal(model.infer({"a": ones, "b": ones})["sum"], np.full((2, 3), 2))
    np.testing.assert_array_equal(raw_answer(made, [ones, ones])[0], np.full((2, 3), 2))  # it is its owner's still
    with pytest.raises(accelerate.OptionError, match="num_threads is settled by the existing CompiledModel"):
        accelerate.load(made, num_threads=2)
    with pytest.raises(accelerate.UnsupportedModelError, match=r"is not compiled for a device; give core"):
        accelerate.load(read(odd_onnx.add()), backend=BACKEND)


# Where and how it runs


def test_it_is_accurate_unless_told_otherwise() -> None:
    with accelerate.load(odd_onnx.convolution(), backend=BACKEND) as model:
        assert model.runtime.details["execution_mode"] == "ACCURACY"
    faster = {"EXECUTION_MODE_HINT": "PERFORMANCE", "INFERENCE_PRECISION_HINT": "f32"}
    with accelerate.load(odd_onnx.convolution(), backend=BACKEND, config=faster) as model:
        assert model.runtime.details["execution_mode"] == "PERFORMANCE"
        assert model.runtime.details["precision"] == "f32"


def test_threads_and_replicas() -> None:
    with accelerate.load(odd_onnx.add(), backend=BACKEND, num_threads=1) as model:
        assert model.runtime.details["num_threads"] == 1
    with accelerate.load(odd_onnx.add(), backend=BACKEND, replicas=3) as model:
        one, *others = getattr(model, "models")  # noqa: B009 - of Replicas
        assert len(others) == 2
        assert all(other._compiled is one._compiled for other in others)
        assert len({id(other._request) for other in (one, *others)}) == 3
    with accelerate.load(
        odd_onnx.add(), backend=BACKEND, num_threads=1, config={"INFERENCE_NUM_THREADS": "1"}
    ) as model:
        assert model.runtime.details["num_threads"] == 1
    with pytest.raises(accelerate.OptionError, match="num_threads=2 and config's INFERENCE_NUM_THREADS=1 differ"):
        accelerate.load(odd_onnx.add(), backend=BACKEND, num_threads=2, config={"INFERENCE_NUM_THREADS": 1})


def test_its_own_choice_of_a_device_only_where_it_is_asked_for() -> None:
    assert all(device.id != "auto" for device in accelerate.list_devices() if device.backend == BACKEND)
    with accelerate.load(odd_onnx.double(), backend=BACKEND, device="auto") as model:
        assert model.device == "cpu"
        assert model.infer([1, 2, 3.0])["y"].tolist() == [2, 4, 6]
    for device in ("CPU", "gpu:7", "npu"):
        if device in {one.id for one in accelerate.list_devices()}:
            continue
        with pytest.raises(accelerate.DeviceNotFoundError):
            accelerate.load(odd_onnx.double(), backend=BACKEND, device=device)


def test_its_own_choice_heeds_threads_and_replicas() -> None:
    with accelerate.load(odd_onnx.double(), backend=BACKEND, device="auto", num_threads=1) as model:
        told = model.runtime.details
        assert (told["num_threads"], told["streams"], told["execution_mode"]) == (1, 1, "ACCURACY")
    with accelerate.load(odd_onnx.double(), backend=BACKEND, device="auto", num_threads=1, replicas=2) as model:
        assert (model.runtime.details["num_threads"], model.runtime.details["streams"]) == (2, 2)


def test_names_of_devices() -> None:
    from accelerate.backends.openvino.devices import device_id

    names = {"CPU": "cpu", "GPU": "gpu:0", "GPU.0": "gpu:0", "GPU.1": "gpu:1", "NPU": "npu", "NPU.3720": "npu:3720"}
    assert {name: device_id(name) for name in names} == names


def test_kinds_come_from_what_linux_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from accelerate.backends.openvino import devices

    vendor = tmp_path / "renderD128" / "device" / "vendor"
    vendor.parent.mkdir(parents=True)
    monkeypatch.setattr(devices, "_SHOWN", {"gpu": str(tmp_path / "renderD*/device/vendor")})
    backend = accelerate.registry.find(BACKEND)
    for content, kinds in (("0x8086\n", ("gpu", "cpu")), ("0x10de\n", ("cpu",))):
        vendor.write_text(content)
        assert backend.kinds() == kinds
    vendor.write_text("0x8086\n")
    row = backend.devices(LoadOptions())[0]
    if row.ready:
        pytest.skip("there is a GPU that OpenVINO has")
    assert (row.id, row.kind) == ("gpu:0", "gpu")
    assert "OpenVINO does not find it" in row.reason
    assert "intel-opencl-icd" in row.remedy


def test_it_is_ranked_after_the_files_own_engine(tmp_path: Path) -> None:
    for source, own in ((DIGITS, "tflite_cpu"), (odd_onnx.add(), "onnxruntime")):
        names = [one.backend for one in accelerate.plan(source).candidates if one.kind == "cpu"]
        assert (names[0], names.count(BACKEND)) == (own, 1)
    assert accelerate.plan(written(odd_onnx.add(), tmp_path / "model.xml")).chosen.backend == BACKEND  # type: ignore[union-attr]


def test_bench_has_a_row_of_it() -> None:
    report = runner.run([DIGITS], runner.Settings(seconds=0.05, callers=(1,)), backends=["tflite_cpu", BACKEND])
    rows = {row["backend"]: row for row in report["results"]}
    assert set(rows) == {"tflite_cpu", BACKEND}
    row = rows[BACKEND]
    assert row["status"] in ("ok", "INVALID"), row.get("reason")  # a busy machine makes figures invalid, not absent
    assert row["agreement"]["own_engine"]
    assert row["agreement"]["top1"] == 1, row["agreement"]


# What it leaves alone


def test_nothing_is_sent_and_nothing_written_elsewhere(tmp_path: Path) -> None:
    code = f"""
        import sys
        seen = []
        def note(event, arguments):
            if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen", "os.posix_spawn"):
                seen.append(event)
        sys.addaudithook(note)
        import accelerate
        with accelerate.load({DIGITS!r}, backend="openvino") as model:
            model.warmup()
        import openvino
        openvino.convert_model  # whole, for the program's own use
        print(seen, "openvino_telemetry" in sys.modules)
        import openvino_telemetry  # which may be used by others
    """
    done = program(code, HOME=str(tmp_path), EDGE_ACCELERATE_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "[] False\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_auto_starts_it_only_where_it_is_needed() -> None:
    code = f"""
        import sys, accelerate
        with accelerate.load({DIGITS!r}) as model:
            print(model.backend, [name for name in sys.modules if name.partition(".")[0].startswith("openvino")])
    """
    done = program(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tflite_cpu []\n", "")


def test_a_broken_model_is_refused_without_a_word_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    for source in (odd_onnx.add()[:60], odd_models.add3()[:200]):
        with pytest.raises(accelerate.ModelError):
            accelerate.load(source, backend=BACKEND)
    assert capfd.readouterr().err == ""


# Calls that are left


def test_a_left_call_is_cancelled() -> None:
    with accelerate.load(odd_models.slow(0.5), backend=BACKEND, num_threads=1) as model:
        inputs = _random_inputs(model)
        model.infer(inputs)
        whole = model.do_command({"command": "stats"})["max_ms"] / 1e3
        with pytest.raises(accelerate.InferenceTimeoutError):
            model.infer(inputs, timeout=0.02)
        wanted = model.infer(inputs)
        np.testing.assert_array_equal(wanted["y"], model.infer(inputs, timeout=60)["y"])
        assert whole > 0.1


def _random_inputs(model: accelerate.Model) -> Mapping[str, Any]:
    return {t.name: random_tensor(t, np.random.default_rng(0)) for t in model.metadata().inputs}


#: Keeps the end of the program from ending, for calls to return into an interpreter that is being finalised.
_LAST = "last = type('Last', (), {'sleep': time.sleep, '__del__': lambda self: self.sleep(1)})()"


def test_a_call_that_was_left_does_not_abort_the_end_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "slow.tflite").write_bytes(odd_models.slow(3))
    code = """
        import numpy as np, accelerate, time
        from accelerate.contract import random_tensor
        %s
        model = accelerate.load(%r, backend="openvino", num_threads=1)
        (tensor,) = model.metadata().inputs
        inputs = {tensor.name: random_tensor(tensor, np.random.default_rng(0))}
        binding = model.bind()
        for call in (lambda: model.infer(inputs, timeout=0.05), lambda: binding.run(timeout=0.05)):
            try:
                call()
            except accelerate.InferenceTimeoutError:
                print("left", flush=True)
    """
    done = program(code % (_LAST, str(tmp_path / "slow.tflite")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n" * 2, "")


@pytest.mark.parametrize(("name", "backend"), [("slow.tflite", BACKEND), ("slow.onnx", "onnxruntime")])
def test_a_call_that_nobody_awaits_does_not_abort_the_end_of_the_program(
    name: str, backend: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(odd_models.slow(0.6) if name.endswith(".tflite") else odd_onnx.slow(0.3))
    code = """
        import asyncio, numpy as np, accelerate, time
        from accelerate.contract import random_tensor
        %s
        model = accelerate.load(%r, backend=%r, num_threads=1)
        (tensor,) = model.metadata().inputs
        inputs = {tensor.name: random_tensor(tensor, np.random.default_rng(0))}
        async def leave():
            asyncio.create_task(model.infer_async(inputs))
            await asyncio.sleep(0.1)
        asyncio.run(leave())
        print(model.do_command({"command": "stats"})["calls"])
    """
    done = program(code % (_LAST, str(tmp_path / name), backend))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
