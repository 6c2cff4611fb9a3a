"""A backend for a real runtime, as a stranger writes it: found, ranked, benched and diagnosed like a built-in one."""

from __future__ import annotations

import ast
import functools
import io
import json
import os
import subprocess
import sys
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
pytest.importorskip("onnx")  # builds models

import odd_models
import odd_onnx
import openvino
from conftest import ROOT
from onnx_conformance import doubled, onnx_cases
from test_metadata import labelled

import accelerate
from accelerate.bench import runner
from accelerate.calls.conversion import Array
from accelerate.contract import random_tensor
from accelerate.testing import BackendConformance, Case

HERE = Path(__file__).parent / "stranger_openvino"
BACKEND = "openvino_stranger"
DIGITS = str(Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite")
RAW = {"EXECUTION_MODE_HINT": "ACCURACY", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Install the stranger's distribution, as an installer leaves it, for this process; the folders that it is in."""
    site = tmp_path_factory.mktemp("site")
    about = site / "stranger_openvino-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger-openvino\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[accelerate.backends]\n{BACKEND} = openvino_backend:OpenVINO\n")
    before, folders = sys.path, [str(site), str(HERE)]
    sys.path = [*before, *folders]
    yield folders
    sys.path = before
    assert BACKEND not in accelerate.list_backends()


def program(code: str, folders: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, where the backend is installed."""
    path = os.pathsep.join([str(ROOT), *folders])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# What every backend keeps


@functools.cache
def _tflite() -> Mapping[str, Case]:
    return {
        "plain": Case(odd_models.add3(), lambda x: {"y": x["x"] + x["x"]}),
        "several": Case(odd_models.two_inputs(), lambda x: {"sum": x["a"] + x["b"]}),
        "quantized": Case(odd_models.uint8_quantised(), _uint8_double),
        "image": Case(odd_models.image_float(), lambda x: {"y": x["x"]}),
        "dynamic": Case(odd_models.dynamic(), lambda x: {"y": x["x"] + x["x"]}),
        "integers": Case(odd_models.integers("int32"), lambda x: {"y": x["x"].reshape(3, 2)}),
        "batched": Case(odd_models.image_float(), lambda x: {"y": x["x"]}),
        "dynamic_output": Case(odd_models.dynamic_output(), lambda x: {"y": np.argwhere(x["x"] > 0)}),
        "passthrough": Case(odd_models.passed_through(), lambda x: {"same": x["in"], "double": 2 * x["in"]}),
        "labels": Case(labelled(), lambda x: {"scores": x["image"][0, 0]}, labels=("red", "green", "blue")),
        "slow": Case(odd_models.slow(1), lambda x: {"y": x["x"]}, {"num_threads": 1}, rtol=1e-3, cancels=True),
    }


def _uint8_double(x: dict[str, Array]) -> dict[str, Array]:
    """x (scale 0.5, zero 100) -> x + x (scale 1, zero 120)."""
    return {"y": np.clip(x["x"].astype(int) + 20, 0, 255).astype(np.uint8)}


class TestOpenVINOOverTFLite(BackendConformance):
    backend = BACKEND

    def cases(self) -> Mapping[str, Case]:
        return _tflite()


def _compiled() -> Any:
    core = openvino.Core()
    return core.compile_model(core.read_model(odd_onnx.double()), "CPU", RAW)


@functools.cache
def _onnx() -> Mapping[str, Case]:
    return {
        **onnx_cases(cancels=False),  # the whole loop is one operator, and OpenVINO ends a call between two
        "existing": Case(_compiled(), doubled),
    }


class TestOpenVINOOverONNX(BackendConformance):
    backend = BACKEND

    def cases(self) -> Mapping[str, Case]:
        return _onnx()


@pytest.fixture(scope="module")
def ir_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ir")
    for name, case in (("plain", _tflite()["plain"]), ("several", _onnx()["several"]), ("dynamic", _onnx()["dynamic"])):
        (folder / "model.tflite").write_bytes(case.source)
        read = openvino.Core().read_model(case.source if name != "plain" else str(folder / "model.tflite"))
        openvino.save_model(read, folder / f"{name}.xml", compress_to_fp16=False)
    return folder


class TestOpenVINOOverIR(BackendConformance):
    backend = BACKEND

    @pytest.fixture(autouse=True)
    def _folder(self, ir_folder: Path) -> None:
        self.folder = ir_folder

    def cases(self) -> Mapping[str, Case]:
        like = {"plain": _tflite()["plain"], "several": _onnx()["several"], "dynamic": _onnx()["dynamic"]}
        return {role: Case(self.folder / f"{role}.xml", case.reference) for role, case in like.items()}


# What it answers


@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224_quant.tflite", "add_10x10.tflite", "nanodet_m_320.onnx"])
def test_answers_are_those_of_the_runtime_itself(models_dir: Path, name: str) -> None:
    core = openvino.Core()
    raw = core.compile_model(core.read_model(str(models_dir / name)), "CPU", RAW)
    with accelerate.load(models_dir / name, backend=BACKEND, num_threads=1) as model, model.bind() as binding:
        assert binding.zero_copy
        addresses = [array.ctypes.data for array in (*binding.inputs.values(), *binding.outputs.values())]
        for seed in range(3):
            random = np.random.default_rng(seed)
            inputs = {t.name: random_tensor(t, random) for t in model.metadata().inputs}
            wanted = [np.array(output) for output in raw(list(inputs.values())).values()]
            for array, value in zip(binding.inputs.values(), inputs.values(), strict=True):
                array[...] = value
            binding.run(timeout=60 if seed else None)
            for outputs in (model.infer(inputs), model.infer(inputs, timeout=60), binding.outputs):
                for got, want in zip(outputs.values(), wanted, strict=True):
                    np.testing.assert_array_equal(got, want)
        assert addresses == [array.ctypes.data for array in (*binding.inputs.values(), *binding.outputs.values())]


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


def test_pixels_are_normalised_as_tflite_assumes() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3)).astype(np.uint8)
    with accelerate.load(odd_models.image_float(), backend=BACKEND) as model:
        shape = model.metadata().inputs[0].shape
        answer = model.infer(np.resize(frame, shape))
        np.testing.assert_allclose(answer["y"], np.resize(frame, shape) / 127.5 - 1, atol=1e-6)


def test_a_signature_of_another_graph_is_refused_before_the_runtime(models_dir: Path) -> None:
    with accelerate.load(models_dir / "multi_signature_model.tflite", backend=BACKEND, signature="add") as model:
        assert model.runtime.name == "OpenVINO"
    model_and_signature: dict[str, Any] = {"source": odd_models.two_signatures(), "signature": "multiply"}
    (row,) = accelerate.plan(**model_and_signature, backend=BACKEND).skipped
    with pytest.raises(accelerate.OptionError, match="runs the main graph") as caught:
        accelerate.load(**model_and_signature, backend=BACKEND)
    assert str(caught.value).startswith(row.reason)


def test_an_output_that_is_an_input_is_copied() -> None:
    with accelerate.load(odd_models.passed_through(), backend=BACKEND) as model, model.bind() as binding:
        assert not binding.zero_copy
        (array,) = binding.inputs.values()
        array[...] = 3
        binding.run()
        np.testing.assert_array_equal(binding.outputs["same"], array)


def test_an_existing_compiled_model() -> None:
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(odd_onnx.add((2, 3))), "CPU", RAW)
    with accelerate.load(compiled) as model:
        assert (model.backend, model.runtime.details["adopted"]) == (BACKEND, True)
        answer = model.infer({"a": np.ones((2, 3), np.float32), "b": np.ones((2, 3), np.float32)})
        np.testing.assert_array_equal(answer["sum"], np.full((2, 3), 2))
    with pytest.raises(accelerate.OptionError, match="num_threads is settled by the existing CompiledModel"):
        accelerate.load(compiled, num_threads=2)


def test_replicas_share_one_compiled_model() -> None:
    with accelerate.load(odd_onnx.add(), backend=BACKEND, replicas=3) as model:
        one, *others = getattr(model, "models")  # noqa: B009 - of Replicas
        assert len(others) == 2
        assert all(other._compiled is one._compiled for other in others)


def test_a_left_call_is_cancelled() -> None:
    slow = _onnx()["slow"]
    with accelerate.load(slow.source, backend=BACKEND, num_threads=1) as model:
        (tensor,) = model.metadata().inputs
        inputs = {tensor.name: random_tensor(tensor, np.random.default_rng(0))}
        model.infer(inputs)
        whole = model.do_command({"command": "stats"})["max_ms"] / 1e3
        with pytest.raises(accelerate.InferenceTimeoutError):
            model.infer(inputs, timeout=0.02)
        model.warmup()  # waits for what is left of it
        assert whole > 0.2


@pytest.mark.parametrize("config", [5, {"NO_SUCH_PROPERTY": 1}])
def test_a_wrong_config(config: Any) -> None:
    with pytest.raises(accelerate.OptionError, match="config"):
        accelerate.load(odd_onnx.double(), backend=BACKEND, config=config)


# A format of its own


def test_an_ir_is_first_class(ir_folder: Path, tmp_path: Path) -> None:
    path = ir_folder / "dynamic.xml"
    with accelerate.load(path) as model:
        assert model.backend == BACKEND
        (x, y) = _tensors(model)
    assert (x.name, x.data_type, x.shape) == ("x", "float32", (-1, 3))
    assert (y.name, y.data_type, y.shape) == ("y", "float32", (-1, 3))
    with pytest.raises(accelerate.UnsupportedModelError, match="an OpenVINO IR model, not a TFLite model"):
        accelerate.load(path, backend="tflite_cpu")
    with pytest.raises(accelerate.UnsupportedModelError, match="give the path"):
        accelerate.load(path.read_bytes(), backend=BACKEND)
    (tmp_path / "cut.xml").write_bytes(path.read_bytes()[:400])
    with pytest.raises(accelerate.ModelError, match=r"cut\.xml"):
        accelerate.load(tmp_path / "cut.xml")


# Like a built-in one


def test_it_is_ranked_after_the_files_own_engine() -> None:
    for source in (DIGITS, odd_onnx.add()):
        names = [candidate.backend for candidate in accelerate.plan(source).candidates]
        assert names == ["tflite_cpu" if source is DIGITS else "onnxruntime", BACKEND]


def test_it_is_listed_and_diagnosed(installed: list[str]) -> None:
    assert accelerate.list_backends()[BACKEND].available
    assert "cpu" in [device.id for device in accelerate.list_devices() if device.backend == BACKEND]
    pytest.importorskip("click")
    pytest.importorskip("rich")
    done = program(
        "import sys; from edge_accelerate_cli import main; sys.argv[1:] = ['doctor', '--json']; sys.exit(main())",
        installed,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (row,) = [row for row in report["backends"] if row["name"] == BACKEND]
    assert row["available"]
    assert row["version"].startswith("OpenVINO ")
    assert [device["id"] for device in report["devices"] if device["backend"] == BACKEND][-1] == "cpu"


def test_an_input_with_a_default_is_a_constant_to_it() -> None:
    with accelerate.load(odd_onnx.default_input(), backend=BACKEND) as model:
        assert [t.name for t in model.metadata().inputs] == ["x"]
        assert model.infer([1, 2, 3.0])["y"].tolist() == [11, 22, 33]


def test_bench_has_a_row_of_it() -> None:
    report = runner.run([DIGITS], runner.Settings(seconds=0.6, callers=(1,)), backends=["tflite_cpu", BACKEND])
    rows = {row["backend"]: row for row in report["results"]}
    assert set(rows) == {"tflite_cpu", BACKEND}
    row = rows[BACKEND]
    assert row["status"] in ("ok", "INVALID"), row.get("reason")  # a busy machine makes figures invalid, not absent
    assert row["rounds"]
    assert row["agreement"]["own_engine"]
    assert row["agreement"]["top1"] == 1, row["agreement"]


def test_auto_starts_it_only_where_it_is_needed(installed: list[str]) -> None:
    code = """
        import sys, accelerate
        with accelerate.load(%r) as model:
            print(model.backend, [name for name in sys.modules if name.partition(".")[0].startswith("openvino")])
    """
    done = program(code % DIGITS, installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tflite_cpu ['openvino_backend']\n", "")


#: Keeps the end of the program from ending, for calls to return into an interpreter that is being finalised.
_LAST = "last = type('Last', (), {'sleep': time.sleep, '__del__': lambda self: self.sleep(1)})()"


def test_a_call_that_was_left_does_not_abort_the_end_of_the_program(installed: list[str], tmp_path: Path) -> None:
    (tmp_path / "slow.tflite").write_bytes(odd_models.slow(3))
    code = """
        import numpy as np, accelerate, time
        from accelerate.contract import random_tensor
        %s
        model = accelerate.load(%r, backend=%r, num_threads=1)
        (tensor,) = model.metadata().inputs
        inputs = {tensor.name: random_tensor(tensor, np.random.default_rng(0))}
        binding = model.bind()
        for call in (lambda: model.infer(inputs, timeout=0.05), lambda: binding.run(timeout=0.05)):
            try:
                call()
            except accelerate.InferenceTimeoutError:
                print("left", flush=True)
    """
    done = program(code % (_LAST, str(tmp_path / "slow.tflite"), BACKEND), installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n" * 2, "")


def test_a_call_that_nobody_awaits_does_not_abort_the_end_of_the_program(installed: list[str], tmp_path: Path) -> None:
    (tmp_path / "slow.tflite").write_bytes(odd_models.slow(0.6))
    (tmp_path / "slow.onnx").write_bytes(odd_onnx.slow(0.3))
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
    for name, backend in (("slow.tflite", BACKEND), ("slow.onnx", "onnxruntime")):
        done = program(code % (_LAST, str(tmp_path / name), backend), installed)
        assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", ""), backend


def test_it_is_short_and_imports_the_contract_alone() -> None:
    text = (HERE / "openvino_backend.py").read_text()
    tree = ast.parse(text)
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    core = {name for name in imported if name.partition(".")[0] == "accelerate"}
    assert core == {"accelerate.contract", "accelerate.errors", "accelerate.metadata"}
    assert code_lines(text) < 220


def code_lines(text: str) -> int:
    """Count the lines that hold code: neither blank, nor a comment, nor a docstring."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in skipped
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return len(lines)
