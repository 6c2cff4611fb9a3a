"""What is particular to TFLite: its dtypes, signatures, engines, files. The rest is in the conformance suite."""

from __future__ import annotations

import gc
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import engines
import numpy as np
import odd_models
import pytest

import accelerate
from accelerate import (
    BackendNotAvailableError,
    InferenceError,
    Model,
    ModelError,
    NoBackendError,
    OptionError,
    Quantization,
    TensorError,
    UnsupportedModelError,
)
from accelerate.testing import random_inputs

ANY = pytest.mark.parametrize("engine", engines.INSTALLED)


def load(model: Any, engine: str, **options: Any) -> Model:
    return accelerate.load(model, backend="tflite_cpu", engine=engine, **options)


def interpreter_class(engine: str) -> Any:
    if engine == "litert":
        from ai_edge_litert.interpreter import Interpreter
    else:
        from tflite_runtime.interpreter import Interpreter
    return Interpreter


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


def raw_outputs(path: Path, engine: str, inputs: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    interpreter = interpreter_class(engine)(model_path=str(path))
    interpreter.allocate_tensors()
    for details, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(details["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


# dtypes


@ANY
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integers(engine: str, dtype: str) -> None:
    if (engine, dtype) == ("tflite-runtime", "uint16"):
        pytest.skip("tflite-runtime 2.14 cannot set a uint16 tensor")
    limits = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(limits.min, limits.max, (2, 3), dtype, endpoint=True)
    with load(odd_models.integers(dtype), engine) as model:
        assert [t.data_type for t in model.metadata().inputs] == [dtype]
        np.testing.assert_array_equal(model.infer(x)["y"], x.reshape(3, 2))


@ANY
def test_other_dtypes(engine: str) -> None:
    random = np.random.default_rng(1)
    f64 = random.normal(size=(2, 3))
    with load(odd_models.float64(), engine) as model:
        np.testing.assert_array_equal(model.infer(f64)["y"], f64.reshape(3, 2))
    complex64 = (f64 + 1j * f64[::-1]).astype(np.complex64)
    with load(odd_models.complex64(), engine) as model:
        np.testing.assert_array_equal(model.infer(complex64)["y"], complex64.reshape(3, 2))
    with load(odd_models.boolean(), engine) as model:
        assert model.metadata().inputs[0].data_type == "bool"
        assert model.infer([True, False, False, True])["y"].tolist() == [False, True, True, False]
    with load(odd_models.float16(), engine) as model:
        assert model.infer(np.array([0.5, 1, 2]))["y"].tolist() == [0.5, 1, 2]


@ANY
def test_quantised_models_compute_in_real_values(engine: str) -> None:
    real = np.array([[-1.5, 0, 2, 10]])
    for build, step in ((odd_models.int8_quantised, 1.0), (odd_models.int16_quantised, 0.002)):
        with load(build(), engine) as model:
            x = real * step / 2 if step < 1 else real
            got = model.infer(x, dequantize=True)["y"]
            np.testing.assert_allclose(got, 2 * x, atol=step / 2 + 1e-6)


@ANY
def test_per_channel_quantisation(engine: str) -> None:
    with load(odd_models.per_channel(), engine) as model:
        info = model.metadata().inputs[0]
        assert info.quantization == Quantization((0.5, 0.25, 2.0), (0, 10, -20), 1)
        real = np.array([[1.0, -2.0, 40.0], [0.5, 3.0, -6.0]])
        np.testing.assert_array_equal(model.infer(real, dequantize=True)["y"], real.T)


@ANY
def test_scalars_and_empty_outputs(engine: str) -> None:
    with load(odd_models.scalar(), engine) as model:
        for _ in range(2):
            result = model.infer(2.5)["y"]
            assert isinstance(result, np.ndarray)
            assert result.shape == ()
            assert result == 5
            result[...] = 0  # the caller's own
    with load(odd_models.dynamic_output(), engine) as model:
        assert model.metadata().outputs[0].shape[0] == -1
        for x in ([1, -1, 2, 3], [-1, -1, -1, -1], [0, 0, 0, 5]):
            result = model.infer(np.array(x, np.float32))["y"]
            assert result.dtype == np.int64
            assert result.tolist() == [[i] for i in np.flatnonzero(np.array(x) > 0)]
            assert result.shape[1] == 1
        with model.bind() as binding:
            binding.inputs["x"][...] = [1, 1, -1, 1]
            binding.run()
            assert binding.outputs["y"].tolist() == [[0], [1], [3]]
            assert not binding.zero_copy


@ANY
def test_models_without_inputs_and_with_state(engine: str) -> None:
    with load(odd_models.no_inputs(), engine) as model:
        assert [v.tolist() for v in model.infer({}).values()] == [[2, 4, 6]]
    with load(odd_models.variable(), engine) as model:
        assert [model.infer(np.ones((1, 1), np.float32))["y"].item() for _ in range(3)] == [1, 2, 3]


# Names and signatures


@ANY
def test_duplicate_names_get_numbers(engine: str) -> None:
    with load(odd_models.duplicate_names(), engine) as model:
        a, b = np.array([1, 2, 3], np.float32), np.array([10, 20, 30], np.float32)
        outputs = model.infer({"x": a, "x:1": b})
        assert {k: v.tolist() for k, v in outputs.items()} == {"y": [11, 22, 33], "y:1": [-9, -18, -27]}
        assert model.infer({"1": b, "0": a})["y:1"].tolist() == [-9, -18, -27]


@ANY
def test_a_canonical_name_wins_over_an_alias(engine: str) -> None:
    with load(odd_models.shared_alias(), engine) as model:
        # the signature calls tensor a "b" and tensor b "a"; its names are the canonical ones
        assert [t.name for t in model.metadata().inputs] == ["b", "a"]
        one, ten = np.full(3, 1, np.float32), np.full(3, 10, np.float32)
        outputs = model.infer({"b": ten, "a": one})
        assert next(iter(outputs.values())).tolist() == [9, 9, 9]


@ANY
def test_signatures(engine: str) -> None:
    three, two = np.full(3, 3, np.float32), np.full(3, 2, np.float32)
    with load(odd_models.two_signatures(), engine, signature="multiply") as model:
        assert model.runtime.details["signature"] == "multiply"
        for _ in range(2):
            assert model.infer({"values": three, "factor": two})["product"].tolist() == [6, 6, 6]
        assert model.infer({"values_tensor": three, "1": two})["product"].tolist() == [6, 6, 6]
        assert model.infer({"values": three, "factor": two}, timeout=10)["product"].tolist() == [6, 6, 6]
    with load(odd_models.two_signatures(), engine) as model:
        assert model.runtime.details["signature"] == "subtract"
        assert model.infer({"start": three, "amount": two})["rest"].tolist() == [1, 1, 1]
    with pytest.raises(OptionError, match=r"did you mean 'multiply'.*'multiply', 'subtract'"):
        load(odd_models.two_signatures(), engine, signature="multiplies")
    with pytest.raises(OptionError, match="leave the option out"):
        load(odd_models.add3(), engine, signature="x")


# Engines, threads, existing interpreters


@ANY
def test_runtime_says_engine_version_and_threads(engine: str) -> None:
    with load(odd_models.add3(), engine, num_threads=2) as model:
        assert model.runtime.details["num_threads"] == 2
        assert model.runtime.details["engine"] == engine
        assert model.runtime.version.count(".") >= 1
    with load(odd_models.add3(), engine) as model:
        assert model.runtime.details["num_threads"] == 1


def test_unknown_engine() -> None:
    with pytest.raises(OptionError, match="did you mean 'litert'"):
        load(odd_models.add3(), "lite-rt")


@ANY
def test_a_tensor_with_several_names_of_a_signature(engine: str) -> None:
    with load(odd_models.passed_through(), engine) as model:
        assert [t.name for t in model.metadata().inputs] == ["in"]
        same, double = model.metadata().outputs
        assert (same.name, double.name) == ("same", "double")
        assert "twice" in double.aliases
        outputs = model.infer({"in": [1.0, 2.0, 3.0]})
        assert {name: array.tolist() for name, array in outputs.items()} == {"same": [1, 2, 3], "double": [2, 4, 6]}


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="tflite-runtime has no bfloat16")
def test_bfloat16_needs_no_import_by_the_caller() -> None:
    program = (
        "import sys, accelerate, numpy as np\n"
        "model = accelerate.load(sys.stdin.buffer.read())\n"
        "assert model.metadata().inputs[0].data_type == 'bfloat16'\n"
        "assert model.infer(np.array([1, 2, 3, 4], np.float32))['y'].astype(float).ravel().tolist() == [1, 2, 3, 4]\n"
    )
    subprocess.run([sys.executable, "-c", program], input=odd_models.bfloat16(), check=True, timeout=60)


@ANY
def test_an_adopted_interpreter_may_be_resized_by_its_owner(engine: str) -> None:
    interpreter = interpreter_class(engine)(model_content=odd_models.dynamic())
    with accelerate.load(interpreter) as model:
        assert model.infer(np.ones((2, 3), np.float32))["y"].shape == (2, 3)
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [5, 3])
        interpreter.allocate_tensors()
        assert model.infer(np.ones((2, 3), np.float32))["y"].shape == (2, 3)
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [4, 3])  # and not allocated
        assert model.infer(np.ones((4, 3), np.float32))["y"].shape == (4, 3)


@ANY
def test_plan_names_the_engine_that_was_asked_for(engine: str) -> None:
    chosen = accelerate.plan(odd_models.add3(), engine=engine).chosen
    assert chosen is not None
    assert {"litert": "LiteRT", "tflite-runtime": "tflite-runtime"}[engine] in chosen.reason


@pytest.mark.parametrize("engine", sorted(set(engines.PACKAGES) - set(engines.INSTALLED)))
def test_an_engine_that_is_not_installed(engine: str) -> None:
    has_wheel = engine == "litert" or sys.version_info < (3, 12)
    remedy = r"pip install \"edge-accelerate\[" if has_wheel else "no wheel for Python"
    with pytest.raises(BackendNotAvailableError, match=remedy) as caught:
        load(odd_models.add3(), engine)
    assert isinstance(caught.value, ImportError)


@ANY
def test_an_existing_interpreter(engine: str) -> None:
    interpreter = interpreter_class(engine)(model_content=odd_models.two_inputs())
    a, b = (np.random.default_rng(n).random((2, 3), np.float32) for n in range(2))
    with accelerate.load(interpreter) as model:
        assert (model.backend, model.runtime.details["engine"]) == ("tflite_cpu", engine)
        np.testing.assert_array_equal(model.infer({"a": a, "b": b})["sum"], a + b)
        interpreter.invoke()  # the user's own calls still work
        np.testing.assert_array_equal(model.infer({"a": b, "b": b})["sum"], b + b)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], a)
    interpreter.invoke()  # and after close, too
    with pytest.raises(OptionError, match="settled"):
        accelerate.load(interpreter, num_threads=2)
    with pytest.raises(OptionError, match="settled"):
        accelerate.load(interpreter, engine=engine)


def test_an_interpreter_of_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow is too large for these tests: LiteRT's class stands in for its, under TensorFlow's names."""
    if "litert" not in engines.INSTALLED:
        pytest.skip("the stand-in is made of LiteRT's Interpreter")
    stand_in = type("Interpreter", (interpreter_class("litert"),), {"__module__": "tensorflow.lite.python.interpreter"})
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(__version__="2.99.0"))
    with accelerate.load(stand_in(model_content=odd_models.dynamic())) as model:
        assert (model.backend, model.runtime.name, model.runtime.version) == ("tflite_cpu", "TensorFlow", "2.99.0")
        for n in (1, 3):
            np.testing.assert_array_equal(model.infer(noise(n, 3))["y"], 2 * noise(n, 3))
        with model.bind({"x": (2, 3)}) as binding:
            binding.inputs["x"][...] = noise(2, 3)
            binding.run()
            np.testing.assert_array_equal(binding.outputs["y"], 2 * noise(2, 3))


def test_a_compiled_model_is_refused_with_what_to_give() -> None:
    kind = pytest.importorskip("ai_edge_litert.compiled_model").CompiledModel
    # to make a whole one is an illegal instruction on a Cortex-A72 (LiteRT 2.3)
    compiled = kind.__new__(kind) if platform.machine() == "aarch64" else kind.from_buffer(odd_models.add3())
    with pytest.raises(UnsupportedModelError, match=r"does not tell .* give the path or the bytes"):
        accelerate.load(compiled, backend="tflite_cpu")


@ANY
def test_an_existing_interpreter_with_dynamic_shapes(engine: str) -> None:
    with accelerate.load(interpreter_class(engine)(model_content=odd_models.dynamic())) as model:
        for n in (1, 3, 2):
            assert model.infer(np.ones((n, 3), np.float32))["y"].shape == (n, 3)


# Shapes settled by load


@pytest.mark.parametrize("shapes", [{"x": (4, 3)}, {"x": [4, 3]}, {"0": np.array([4, 3])}, (4, 3), {"mine": (4, 3)}])
@ANY
def test_settled_tflite(engine: str, shapes: Any) -> None:
    names = {"inputs": {"x": "mine"}} if "mine" in shapes else None
    with load(odd_models.dynamic(), engine, shapes=shapes, tensor_names=names) as model:
        metadata, x = model.metadata(), noise(4, 3)
        assert (metadata.inputs[0].shape, metadata.outputs[0].shape) == ((4, 3), (4, 3))
        np.testing.assert_array_equal(model.infer(x)["y"], x + x)
        for wrong in (noise(5, 3), noise(1, 3), noise(3)):
            with pytest.raises(TensorError, match=r"wanted float32\[4, 3\]"):
                model.infer(wrong)
        np.testing.assert_array_equal(model.infer(x.ravel())["y"], x + x)
        with model.bind() as binding:
            assert binding.zero_copy
            binding.inputs[metadata.inputs[0].name][...] = x
            binding.run()
            np.testing.assert_array_equal(binding.outputs["y"], x + x)
        with pytest.raises(TensorError, match="bind"):
            model.bind({"x": (5, 3)})


@ANY
def test_a_first_size_that_cannot_be_allocated_does_not_matter(engine: str) -> None:
    with load(odd_models.rows_only(2), engine, shapes=(2, 3)) as model:
        x = noise(2, 3)
        np.testing.assert_array_equal(model.infer(x)["y"], x)
    with pytest.raises(OptionError, match=r"shapes: the model cannot run with inputs of shape \[5, 3\]"):
        load(odd_models.rows_only(2), engine, shapes=(5, 3))


@ANY
def test_an_output_whose_size_only_a_run_tells_stays_open(engine: str) -> None:
    with load(odd_models.dynamic_output(), engine, shapes={"x": (4,)}) as model:
        assert model.metadata().outputs[0].shape == (-1, 1)
        assert model.infer(np.array([1, -1, 1, 1], np.float32))["y"].ravel().tolist() == [0, 2, 3]


@ANY
def test_an_existing_interpreter_is_settled_and_its_owner_may_resize_it(engine: str) -> None:
    interpreter = interpreter_class(engine)(model_content=odd_models.dynamic())
    with accelerate.load(interpreter, shapes={"x": (4, 3)}) as model:
        x = noise(4, 3)
        np.testing.assert_array_equal(model.infer(x)["y"], x + x)
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [5, 3])
        interpreter.allocate_tensors()
        np.testing.assert_array_equal(model.infer(x)["y"], x + x)
        with pytest.raises(TensorError):
            model.infer(noise(5, 3))
    with pytest.raises(OptionError, match="shapes: the model cannot run"):
        accelerate.load(interpreter_class(engine)(model_content=odd_models.rows_only(2)), shapes=(5, 3))


# Files


@ANY
def test_custom_operators_are_named(engine: str) -> None:
    with pytest.raises(UnsupportedModelError, match="custom operator 'Mystery'"):
        load(odd_models.custom_op("Mystery"), engine)
    with pytest.raises(UnsupportedModelError, match="custom operator 'Mystery'"):
        accelerate.load(odd_models.custom_op("Mystery"))


NEWER = {  # operator, its version: what the message says, which engines lack it
    ("ADD", 99): ("version 99 of the operator ADD", engines.INSTALLED),
    ("FULLY_CONNECTED", 13): ("version 13 of the operator FULLY_CONNECTED", ["tflite-runtime"]),
    ("STABLEHLO_CBRT", 1): ("the operator STABLEHLO_CBRT", engines.INSTALLED),
    ("STABLEHLO_ADD", 1): ("the operator STABLEHLO_ADD", ["tflite-runtime"]),
    (300, 1): ("the operator with the number 300", engines.INSTALLED),
}


@ANY
@pytest.mark.parametrize(("operator", "version"), NEWER)
def test_an_operator_newer_than_the_engine_is_named(engine: str, operator: str | int, version: int) -> None:
    said, lacking = NEWER[operator, version]
    model = odd_models.newer_operator(operator, version)
    if engine not in lacking:
        load(model, engine).close()
        return
    with pytest.raises(UnsupportedModelError) as caught:
        load(model, engine)
    assert re.search(rf" needs {said}, which {'LiteRT' if engine == 'litert' else engine} \d+\.\d+\S* lacks$",
                     caught.value.reason)  # fmt: skip
    upgrade = "--upgrade ai-edge-litert" if engine == "litert" else "use engine='litert'"
    assert upgrade in caught.value.remedy
    assert "older converter" in caught.value.remedy


@ANY
def test_operators_of_tensorflow_are_called_so(engine: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"SELECT_TF_OPS: FlexErf\).*TFLITE_BUILTINS"):
        load(odd_models.custom_op("FlexErf"), engine)


@ANY
def test_models_compiled_for_the_edge_tpu(engine: str, tmp_path: Path) -> None:
    compiled = tmp_path / "net_edgetpu.tflite"
    compiled.write_bytes(odd_models.edgetpu_like())
    with pytest.raises(UnsupportedModelError, match="'edgetpu' backend"):
        load(compiled, engine)
    (tmp_path / "net.tflite").write_bytes(odd_models.add3())
    with pytest.raises(UnsupportedModelError, match=r"its twin .*net\.tflite"):
        load(compiled, engine)
    with pytest.raises(NoBackendError, match=r"its twin .*net\.tflite") as caught:
        accelerate.load(compiled)
    assert "tflite_cpu" in [c.backend for c in caught.value.plan.skipped]
    assert any("twin" in c.remedy for c in accelerate.plan(compiled).skipped)


@ANY
def test_truncated_models(engine: str) -> None:
    whole = odd_models.two_inputs()
    for size in (8, 20, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ModelError):
            load(whole[:size], engine)


@ANY
def test_odd_paths(engine: str, tmp_path: Path) -> None:
    for name in ("sp ace.tflite", "ümläut.tflite", "no-suffix", "x" * 200, os.fsdecode(b"mod\xe8le.tflite")):
        (tmp_path / name).write_bytes(odd_models.add3())
        with load(tmp_path / name, engine) as model:
            assert model.infer([1.0, 2.0, 3.0])["y"].tolist() == [2, 4, 6]


@ANY
def test_the_file_may_go_once_loaded(engine: str, tmp_path: Path) -> None:
    data = Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite"
    path = Path(shutil.copy(data, tmp_path / "model.tflite"))
    with load(path, engine) as model:
        path.unlink()
        assert model.metadata().outputs[0].shape == (1, 10)
        assert model.infer(np.zeros((8, 8, 1), np.uint8))
        with model.bind() as binding:
            binding.run()


@ANY
def test_impossible_shapes_of_a_dynamic_model_leave_it_usable(engine: str) -> None:
    with load(odd_models.dynamic(), engine) as model:
        with pytest.raises(TensorError):
            model.infer(np.zeros((2, 4), np.float32))
        assert model.infer(np.ones((2, 3), np.float32))["y"].tolist() == [[2] * 3] * 2
        assert model.infer(np.ones((0, 3), np.float32))["y"].shape == (0, 3)
        assert model.infer(np.ones((1, 3), np.float32))["y"].tolist() == [[2] * 3]


@pytest.mark.skipif("tflite-runtime" not in engines.INSTALLED, reason="about tflite-runtime")
def test_a_file_that_crashes_the_engine_is_known_from_then_on(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path))
    with load(odd_models.add3(), "tflite-runtime"):
        verdicts = list((tmp_path / "models").iterdir())
    assert len(verdicts) == 1
    assert verdicts[0].read_text() == '{"": ["", ""]}'
    verdicts[0].write_text('{"": ["", "the process was killed by SIGSEGV"]}')
    with pytest.raises(ModelError, match="killed by SIGSEGV"):
        load(odd_models.add3(), "tflite-runtime")
    for nonsense in ("not JSON", "[]", '{"": "x"}', '{"": null}', "3"):
        verdicts[0].write_text(nonsense)
        load(odd_models.add3(), "tflite-runtime").close()


# Errors while running, output on stderr, leaks


@ANY
def test_a_failure_while_running_is_typed_and_the_model_lives(engine: str) -> None:
    with load(odd_models.strings(), engine) as model:
        good = random_inputs(model)
        model.infer(good)
    with load(odd_models.slow(0.3), engine) as model:
        errors: list[BaseException] = []

        def call() -> None:
            try:
                model.infer({"wrong": 1}, timeout=5)
            except TensorError as error:
                errors.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        assert len(errors) == 1
    assert issubclass(InferenceError, RuntimeError)


@ANY
def test_the_runtime_writes_nothing_to_stderr(engine: str, capfd: Any, caplog: Any) -> None:
    load(odd_models.image_float(), engine).close()
    with pytest.raises(UnsupportedModelError):
        load(odd_models.custom_op("Mystery"), engine)
    assert capfd.readouterr().err == ""
    with caplog.at_level(logging.DEBUG, "accelerate"), pytest.raises(UnsupportedModelError):
        load(odd_models.custom_op("Mystery"), engine)  # asked for: nothing is held back


@ANY
def test_closing_leaves_no_descriptor(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(odd_models.add3())
    load(path, engine).close()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for n in range(20):
        model = load(path, engine)
        if n % 2:
            model.metadata()
        model.infer([1.0, 2.0, 3.0], timeout=5 if n % 3 == 0 else None)
        model.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


# Real models


REAL = [
    "add_10x10", "coco_ssd_mobilenet_v1_1.0_quant", "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_0.25_224_float_metadata", "simple_add_dynamic_shape", "vww_96_float", "vww_96_int8",
]  # fmt: skip


@ANY
@pytest.mark.parametrize("name", REAL)
def test_answers_equal_the_raw_interpreters(engine: str, name: str, models_dir: Path) -> None:
    path = models_dir / f"{name}.tflite"
    with load(path, engine) as model:
        inputs = random_inputs(model, 7)
        expected = raw_outputs(path, engine, list(inputs.values()))
        for _ in range(2):
            outputs = model.infer(inputs)
            for got, want in zip(outputs.values(), expected, strict=True):
                np.testing.assert_array_equal(got, want)


@ANY
def test_string_model(engine: str, models_dir: Path) -> None:
    with load(models_dir / "gather_string.tflite", engine) as model:
        words = np.array([f"wörd {n}" for n in range(10)])
        outputs = model.infer({"input": words, "indices": np.array([9, 0, 3])})
        assert outputs["output"].tolist() == [words[n].encode() for n in (9, 0, 3)]


@ANY
@pytest.mark.parametrize("signature", ["add", "sub", "mul"])
def test_multiple_signatures(engine: str, signature: str, models_dir: Path) -> None:
    a, b = (np.random.default_rng(n).random((10, 10), np.float32) for n in range(2))
    with load(models_dir / "multi_signature_model.tflite", engine, signature=signature) as model:
        want = {"add": a + b, "sub": a - b, "mul": a * b}[signature]
        np.testing.assert_allclose(model.infer({"a": a, "b": b})["output"], want, rtol=1e-6)


@ANY
@pytest.mark.parametrize(
    ("name", "operator"), [("posenet_custom_op", "PosenetDecoderOp"), ("model_invoking_error", "fake-op-double")]
)
def test_real_models_with_custom_operators(engine: str, name: str, operator: str, models_dir: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=operator):
        load(models_dir / f"{name}.tflite", engine)


@ANY
def test_a_photograph_is_recognised(engine: str, models_dir: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = image.open(models_dir.parent / "images" / "cat.bmp").convert("RGB").resize((128, 128))
    with load(models_dir / "mobilenet_v1_0.25_128_quant.tflite", engine) as model:
        scores = model.infer({"image": np.asarray(picture)}, dequantize=True)["probability"]
        assert "cat" in model.metadata().labels[int(scores.argmax())]
        from_floats = model.infer({"input": np.asarray(picture) / 127.5 - 1}, dequantize=True)["probability"]
        assert abs(from_floats - scores).max() <= 0.06


# The file, while its model runs


@ANY
def test_a_small_file_that_is_overwritten_or_cut(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(odd_models.add3())
    x = np.random.default_rng(0).normal(0, 1, 3).astype(np.float32)
    with load(path, engine) as model, load(path, engine, replicas=2) as both, model.bind() as binding:
        path.write_bytes(odd_models.two_inputs())
        path.write_bytes(b"")
        binding.inputs["x"][...] = x
        binding.run()
        assert binding.outputs["y"].tolist() == model.infer(x)["y"].tolist() == both.infer(x)["y"].tolist()
        assert model.infer(x)["y"].tolist() == (x + x).tolist()


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT alone maps files")
def test_a_large_file_that_is_overwritten(tmp_path: Path) -> None:
    path, other = tmp_path / "model.tflite", tmp_path / "other.tflite"
    other.write_bytes(odd_models.add3() + bytes(17 << 20))
    x = np.random.default_rng(0).normal(0, 1, 3).astype(np.float32)
    shutil.copy(other, path)
    with load(path, "litert") as model, model.bind() as binding:
        assert model.infer(x)["y"].tolist() == (x + x).tolist()
        shutil.copy(other, path)  # in place
        for call in (lambda: model.infer(x), lambda: model.infer(x, timeout=5), binding.run):
            with pytest.raises(ModelError, match=r"was written to after it was loaded.*renaming another one over it"):
                call()
    with load(path, "litert") as model:
        other.replace(path)
        assert model.infer(x)["y"].tolist() == (x + x).tolist()
        path.unlink()
        assert model.infer(x)["y"].tolist() == (x + x).tolist()


# What XNNPACK refuses


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="tflite-runtime's XNNPACK leaves this operator alone")
def test_the_engines_own_delegate_can_be_left_out() -> None:
    model, x = odd_models.refused_by_xnnpack(), np.arange(6, dtype=np.float32).reshape(1, 1, 1, 1, 1, 1, 6)
    with pytest.raises(ModelError, match=r"failed to delegate FULLY_CONNECTED.*load\(\.\.\., xnnpack=False\)"):
        load(model, "litert")
    with load(model, "litert", xnnpack=False) as loaded, loaded.bind() as binding:
        assert loaded.infer(x)["y"].ravel().tolist() == [15, 15]
        assert loaded.runtime.details["xnnpack"] is False
        binding.inputs["x"][...] = 2
        binding.run()
        assert binding.outputs["y"].ravel().tolist() == [12, 12]


@ANY
def test_xnnpack_is_a_yes_or_a_no(engine: str) -> None:
    with pytest.raises(OptionError, match="xnnpack is 'no'; wanted False"):
        load(odd_models.add3(), engine, xnnpack="no")
    load(odd_models.add3(), engine, xnnpack=True).close()


# Inputs of unknown rank


@ANY
def test_an_input_of_unknown_rank(engine: str) -> None:
    random = np.random.default_rng(0)
    with load(odd_models.unranked(), engine) as model:
        about = model.metadata()
        assert [str(t) for t in (*about.inputs, *about.outputs)] == [f"{n}: float32[shape unknown]" for n in "xy"]
        model.warmup()
        for shape in ((), (2, 3), (), (4,), (2, 3), (1, 2, 3, 4)):
            x = random.normal(0, 1, shape).astype(np.float32)
            if shape == () and model.do_command({"command": "stats"})["calls"] and platform.machine() == "aarch64":
                with pytest.raises(TensorError, match="would crash on this processor"):
                    model.infer(x)
                continue
            assert np.array_equal(model.infer(x)["y"], x + np.float32(1))
            with model.bind({"x": shape}) as binding:
                binding.inputs["x"][...] = x
                binding.run()
                assert np.array_equal(binding.outputs["y"], x + np.float32(1))
        assert model.infer([[1.5, 2]])["y"].tolist() == [[2.5, 3]]
