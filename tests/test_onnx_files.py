"""What .onnx files say: inputs with values of their own, shapes that do not hold, weights elsewhere, long texts."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import find_models
from hypothesis import example, given, settings
from hypothesis import strategies as st

import accelerate
from accelerate import InferenceTimeoutError, Model, TensorError
from accelerate.formats.description import describe_source, interface_of
from accelerate.source import Source

onnxruntime: Any = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # builds the models
pytest.importorskip("ml_dtypes")

import odd_onnx  # noqa: E402
from onnx import ModelProto, TensorProto  # noqa: E402


def load(model: Any, **options: Any) -> Model:
    return accelerate.load(model, backend="onnxruntime", **options)


def overridable(content: bytes) -> list[str]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [entry.name for entry in session.get_overridable_initializers()]


# Inputs with values of their own


@given(
    constants=st.integers(0, 3), defaults=st.integers(0, 12), sparse=st.booleans(), version=st.sampled_from([3, 4, 8])
)
@example(constants=0, defaults=9, sparse=False, version=8)
@example(constants=0, defaults=8, sparse=False, version=8)
@settings(max_examples=25, deadline=None)
def test_inputs_with_defaults_are_what_the_runtime_lets_override(
    constants: int, defaults: int, sparse: bool, version: int
) -> None:
    sparse = sparse and defaults > 0 and version == 8
    content = odd_onnx.sum_with_defaults(constants, defaults, sparse=sparse, ir_version=version)
    wanted = overridable(content)
    assert wanted == ([] if version < 4 else [f"d{i}" for i in range(defaults)])
    if defaults > 8 and not constants:  # an exporter's habit: these are the weights
        wanted = []
    told, described = interface_of(Source(content)), describe_source(Source(content))
    assert told is not None
    assert described is not None
    with load(content) as model:
        for inputs in (told.inputs, described.inputs, model.metadata().inputs):
            assert [t.name for t in inputs] == ["x", *wanted]
            assert [t.name for t in inputs if t.extra.get("optional")] == wanted
        x = np.random.default_rng(defaults).normal(size=3).astype(np.float32)
        base = x + constants + 10 * defaults - (np.array([10, 0, 10]) if sparse else 0)
        np.testing.assert_allclose(model.infer(x)["y"], base, rtol=1e-5)
        if wanted:
            other = np.random.default_rng(7).normal(size=3).astype(np.float32)
            got = model.infer({wanted[-1]: other, "x": x})["y"]
            replaced = [0, 10, 0] if sparse and wanted == ["d0"] else [10, 10, 10]
            np.testing.assert_allclose(got, base + other - np.array(replaced), rtol=1e-5)


def test_an_existing_session_has_the_same_optional_inputs() -> None:
    for defaults, shown in ((3, 3), (9, 0)):  # of the nine nobody can tell whether they are all
        session = onnxruntime.InferenceSession(odd_onnx.sum_with_defaults(2, defaults))
        with load(session) as model:
            assert len(model.metadata().inputs) == 1 + shown
            assert model.infer(np.zeros(3, np.float32))["y"].tolist() == [2 + 10 * defaults] * 3


@pytest.mark.parametrize("element", ["STRING", "BFLOAT16", "INT64", "BOOL"])
def test_optional_inputs_of_other_types(element: str) -> None:
    with load(odd_onnx.default_of(TensorProto.DataType.Value(element))) as model:
        x: Any = [b"a", b"b"] if element == "STRING" else np.array([0, 1]).astype(model.metadata().inputs[0].data_type)
        own = [b"1", b"1"] if element == "STRING" else [1, 1]
        outputs = model.infer({"x": x})
        assert (outputs["y"].tolist(), outputs["own"].tolist()) == (list(x), own)
        assert model.infer({"x": x, "z": x})["own"].tolist() == list(x)
        with model.bind({"z": [2]}) as binding:
            binding.inputs["z"][...] = x
            binding.run()
            assert binding.outputs["own"].tolist() == list(x)


def test_an_image_and_a_threshold_take_pictures() -> None:
    content = ModelProto.FromString(odd_onnx.image())
    threshold = ModelProto.FromString(odd_onnx.default_input()).graph
    content.graph.input.insert(0, threshold.input[1])
    content.graph.initializer.append(threshold.initializer[0])
    with load(content.SerializeToString(), normalization=(0, 255)) as model:
        frame = np.random.default_rng(1).integers(0, 256, (4, 5, 3)).astype(np.uint8)
        wanted = frame.transpose(2, 0, 1)[np.newaxis] / np.float32(255)
        np.testing.assert_allclose(model.infer_image(frame)["y"], wanted, rtol=1e-6)
        model.warmup()
        with pytest.raises(TensorError, match=r"missing input 'x'.*'offset': float32\[3\] \(optional\)"):
            model.infer({"offset": [1, 2, 3]})


def test_inspect_shows_what_may_be_left_out(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from accelerate.cli.inspect import inspect

    (tmp_path / "m.onnx").write_bytes(odd_onnx.default_input())
    lines = CliRunner().invoke(inspect, [str(tmp_path / "m.onnx")]).output.splitlines()
    inputs = lines[lines.index("Inputs") + 1 : lines.index("Outputs")]
    assert [line.split() for line in inputs if line] == [
        ["x", "float32", "[3]"],
        ["offset", "float32", "[3]"],
        ["may", "be", "left", "out"],
    ]


@pytest.mark.skipif(find_models() is None, reason="no real models here")
def test_a_real_model_that_lists_its_weights_has_one_input() -> None:
    folder = find_models()
    assert folder is not None
    path = folder / "nanodet_m_320.onnx"
    assert len(overridable(path.read_bytes())) == 185
    with load(path) as model:
        assert [t.name for t in model.metadata().inputs] == ["input.1"]
        described = describe_source(Source(path))
        assert described is not None
        assert [t.name for t in described.inputs] == ["input.1"]


# Shapes that do not hold


@pytest.mark.parametrize("timeout", [None, 60])
@pytest.mark.parametrize("said", [2, 6])
def test_a_binding_takes_outputs_of_other_shapes_than_the_file_says(said: int, timeout: float | None) -> None:
    random = np.random.default_rng(said)
    with load(odd_onnx.positive(said)) as model, model.bind() as binding:
        x = binding.inputs["x"]
        for values in (random.permutation([1] * said + [-1] * (6 - said)), *random.normal(size=(5, 6))):
            x[...] = values
            if not binding.zero_copy:
                with pytest.raises(InferenceTimeoutError):
                    binding.run(0)
            binding.run(timeout)
            np.testing.assert_array_equal(binding.outputs["y"], x[x > 0])
            assert not binding.outputs["y"].flags.writeable
            assert binding.zero_copy == (values.dtype.kind == "i")  # until a run has shown otherwise


def test_a_binding_stays_shared_where_the_shapes_hold_and_says_what_fails() -> None:
    with load(odd_onnx.failing()) as model, model.bind() as binding:
        kept = binding.outputs["y"]
        for value in (0.5, -0.5):
            binding.inputs["x"][...] = value
            binding.run()
            assert binding.zero_copy
            assert kept.tolist() == [5, 5, 5]
        binding.inputs["x"][...] = 9
        for run in (binding.run, lambda: binding.run(60), lambda: model.infer(binding.inputs)):
            with pytest.raises(TensorError, match="Gather"):
                run()
        assert binding.zero_copy
        binding.inputs["x"][...] = 0
        binding.run()
        assert kept.tolist() == [5, 5, 5]


# Weights elsewhere


@pytest.mark.parametrize("typed", [False, True])
def test_where_the_weights_once_were_does_not_matter(tmp_path: Path, typed: bool) -> None:
    content = odd_onnx.with_left_over_external_data(typed=typed)
    (tmp_path / "m.onnx").write_bytes(content)
    for source in (content, tmp_path / "m.onnx"):
        with load(source) as model:
            assert model.infer(np.ones(3, np.float32))["y"].tolist() == [2, 3, 4]
        assert Source(source).digest() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("bits", [b"\1", b"\x81\x80\x80\x80\x10", b"\1\x70\7"])
def test_a_location_is_read_as_protobuf_reads_it(tmp_path: Path, bits: bytes) -> None:
    """32 bits of the number count, and a number that means nothing is passed over."""
    model = ModelProto.FromString(odd_onnx.with_external_data("../secret.bin"))
    tensor = model.graph.initializer.pop()
    tensor.ClearField("data_location")
    graph = ModelProto(ir_version=model.ir_version)
    part = tensor.SerializeToString() + b"\x70" + bits
    inner = b"\x2a" + bytes([len(part)]) + part
    content = model.SerializeToString() + graph.SerializeToString() + b"\x3a" + bytes([len(inner)]) + inner
    odd_onnx.write_weights(tmp_path / "secret.bin")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "m.onnx").write_bytes(content)
    with pytest.raises(accelerate.ModelError, match="outside of the model's folder"):
        load(tmp_path / "m" / "m.onnx")


def test_the_digest_is_of_all_files_of_a_model(tmp_path: Path) -> None:
    digests = {}
    for name, location, first in (("a", "w.bin", 0), ("b", "w.bin", 0), ("c", "w.bin", 1), ("d", "v.bin", 0)):
        folder = tmp_path / name
        folder.mkdir()
        weights = odd_onnx.write_weights(folder / location) + first
        (folder / location).write_bytes(weights.astype(np.float32).tobytes())
        (folder / "m.onnx").write_bytes(odd_onnx.with_external_data(location))
        digests[name] = Source(folder / "m.onnx").digest()
    assert digests["a"] == digests["b"]
    assert len(set(digests.values())) == 3
    own, other = ((tmp_path / "a" / name).read_bytes() for name in ("m.onnx", "w.bin"))
    lines = f"{hashlib.sha256(own).hexdigest()}  \n{hashlib.sha256(other).hexdigest()}  w.bin\n"
    assert digests["a"] == hashlib.sha256(lines.encode()).hexdigest()
    os.remove(tmp_path / "a" / "w.bin")
    assert Source(tmp_path / "a" / "m.onnx").digest() is None
    (tmp_path / "a" / "m.onnx").write_bytes(odd_onnx.with_external_data("../b/w.bin"))
    assert Source(tmp_path / "a" / "m.onnx").digest() is None  # it is not followed


# Long texts


def test_long_texts_are_read_whole() -> None:
    classes = {i: f"class number {i} {'x' * 60}" for i in range(1000)}
    notes = "ä" * (1 << 20)
    content = odd_onnx.with_properties({"names": json.dumps(classes), "notes": notes}, (1, 1000))
    told = describe_source(Source(content))
    assert told is not None
    assert len(str(classes)) > 1 << 16
    with load(content) as model:
        for metadata in (told, model.metadata()):
            assert metadata.labels == tuple(classes.values())
            assert metadata.extra["notes"] == notes
