"""Dynamic dimensions: settled by `load`, or run at the size that the model was exported for, or assumed and said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest
from hypothesis import given
from hypothesis import strategies as st

import accelerate
from accelerate import InferenceError, OptionError, TensorError, TensorInfo
from accelerate.bench.agreement import random_real_inputs
from accelerate.calls.shapes import default_shape, exported_for, settle
from accelerate.formats.description import describe_source
from accelerate.image import geometry, to_tensor
from accelerate.source import Source
from accelerate.testing.inputs import random_inputs

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # builds the models

import odd_onnx

FRAME = np.random.default_rng(0).integers(0, 256, (13, 21, 3)).astype(np.uint8)
PIXELS: Any = {"normalization": (0, 255)}


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


# Settled by load


def test_settled_onnx_knows_its_outputs() -> None:
    with (
        accelerate.load(odd_onnx.halved(), shapes=(2, 3, 4, 6)) as model,
        accelerate.load(odd_onnx.halved()) as open_one,
    ):
        assert open_one.metadata().outputs[0].shape == (-1, 6, -1, -1)
        assert [t.shape for t in (*model.metadata().inputs, *model.metadata().outputs)] == [(2, 3, 4, 6), (2, 6, 4, 6)]
        x = noise(2, 3, 4, 6)
        np.testing.assert_array_equal(model.infer(x)["y"], open_one.infer(x)["y"])
        with model.bind() as binding:
            assert binding.zero_copy
        with pytest.raises(TensorError):
            model.infer(noise(1, 3, 4, 6))
        assert model.do_command({"command": "profile", "runs": 1})["runs"] == 1


def test_names_of_onnx_dimensions_that_do_not_hold_lead_nobody_astray() -> None:
    with accelerate.load(odd_onnx.misnamed_output(), shapes={"x": (2, 3)}) as model, model.bind() as binding:
        x = noise(2, 3)
        binding.inputs["x"][...] = x
        binding.run()
        for outputs in (model.infer(x), binding.outputs):
            np.testing.assert_array_equal(outputs["y"], np.hstack([x, x]))
    with accelerate.load(odd_onnx.double(("n", "n")), shapes=(2, 3)) as model:
        assert model.infer(noise(2, 3))["y"].shape == (2, 3)
    with accelerate.load(odd_onnx.one_name_twice(), shapes={"x": (2,)}) as model:
        assert [t.shape for t in model.metadata().inputs] == [(2,), (-1,)]
        assert model.infer({"x": noise(2), "z": noise(5)})["w"].shape == (5,)


def test_an_unknown_rank_is_settled() -> None:
    with accelerate.load(odd_onnx.unknown_rank(), shapes={"x": (2, 3)}) as model:
        assert model.metadata().inputs[0].shape == (2, 3)
        model.warmup()
        with model.bind() as binding:
            assert binding.inputs["x"].shape == (2, 3)
        with pytest.raises(TensorError):
            model.infer(noise(6, 1))


def test_replicas_are_settled() -> None:
    with accelerate.load(odd_onnx.halved(), shapes=(1, 3, 2, 2), replicas=2) as model:
        model.warmup()
        assert model.metadata().inputs[0].shape == (1, 3, 2, 2)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"y": (2, 3)}, "shapes: the model has no input 'y'; its inputs: 'a', 'b'"),
        ({"a": (2, 4)}, r"input 'a' is float32\[2, 3\], which cannot become \[2, 4\]; leave it out"),
        ({"a": (2, 3, 1)}, r"cannot become \[2, 3, 1\]"),
        ({"a": (2, 3), "0": (2, 3)}, "names one input twice, as 'a' and as '0'"),
        ((2, 3), r"shapes is \[2, 3\] without a name, and the model has 2 inputs: 'a', 'b'; say whose"),
        ({"a": (2, -1)}, "whole numbers"),
        ({"a": 3}, "whole numbers"),
        ({"a": "23"}, "whole numbers"),
        ([], "whole numbers"),
        ({1: (2, 3)}, "input name"),
    ],
)
@pytest.mark.parametrize("model", [odd_models.two_inputs(), odd_onnx.add((2, 3)).replace(b"sum", b"y\0 ")])
def test_shapes_that_cannot_be_are_refused_by_plan_and_load_alike(model: bytes, shapes: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says) as loaded:
        accelerate.load(model, shapes=shapes)
    if says in ("whole numbers", "input name"):  # no model has to be asked
        with pytest.raises(OptionError) as planned:
            accelerate.plan(model, shapes=shapes)
        assert str(planned.value) == str(loaded.value)
    else:
        skipped = accelerate.plan(model, shapes=shapes).skipped
        assert (loaded.value.reason, loaded.value.remedy) in [(row.reason, row.remedy) for row in skipped]


sizes = st.integers(1, 9)


@given(st.lists(st.tuples(sizes, st.booleans(), st.integers(0, 2)), min_size=1, max_size=5))
def test_only_dynamic_dimensions_are_settled(dimensions: list[tuple[int, bool, int]]) -> None:
    told = tuple(-1 if dynamic else size for size, dynamic, _ in dimensions)
    wanted = tuple(size + more for size, _, more in dimensions)
    fits = all(dynamic or not more for _, dynamic, more in dimensions)
    info = TensorInfo("x", shape=told, extra={"default_shape": wanted, "dimensions": ("n",) * len(told), "kept": 1})
    try:
        (settled,) = settle([info], {"x": wanted})
    except OptionError:
        assert not fits
    else:
        assert fits
        assert (settled.shape, settled.extra) == (wanted, {"kept": 1})
        assert settle([settled], {"x": wanted}) == (settled,)


# The size that a model was exported for


@pytest.mark.parametrize("imgsz", ["[8, 10]", "(8,10)", "8, 10"])
def test_the_exporters_size_is_taken_where_nobody_gives_one(imgsz: str) -> None:
    content = odd_onnx.halved({"imgsz": imgsz})
    with accelerate.load(content, **PIXELS) as model:
        (info,) = model.metadata().inputs
        assert (info.shape, default_shape(info)) == ((-1, 3, -1, -1), (1, 3, 8, 10))
        assert "exported for [1, 3, 8, 10]" in str(info)
        model.warmup()
        np.testing.assert_array_equal(
            model.infer_image(FRAME)["y"],
            model.infer(to_tensor(FRAME, info, out=np.empty((1, 3, 8, 10), np.float32)))["y"],
        )
        assert geometry(FRAME.shape[:2], info).tensor_size == (8, 10)
        assert geometry(FRAME.shape[:2], info, "letterbox").target[2:] == (6, 10)
        assert to_tensor(FRAME, info, out=np.empty((1, 3, 4, 6), np.float32)).shape == (1, 3, 4, 6)
        with model.bind() as binding:
            assert binding.inputs["x"].shape == (1, 3, 8, 10)
            binding.run()
        with model.bind({"x": (2, 3, 4, 6)}) as binding:
            assert binding.inputs["x"].shape == (2, 3, 4, 6)
        assert random_inputs(model)["x"].shape == random_real_inputs(model, 1, 0)[0][0].shape == (1, 3, 8, 10)
        described = describe_source(Source(content))
        assert described is not None
        assert default_shape(described.inputs[0]) == (1, 3, 8, 10)
    with accelerate.load(content, shapes=(1, 3, 4, 6), **PIXELS) as model:  # goes before
        assert model.infer_image(FRAME)["y"].shape == (1, 6, 4, 6)
        assert geometry(FRAME.shape[:2], model.metadata().inputs[0]).tensor_size == (4, 6)


def test_the_first_size_of_a_tflite_file_is_taken() -> None:
    levels = (127.5, 127.5)
    with accelerate.load(odd_models.dynamic_image([1, 6, 7, 3]), normalization=levels) as model:
        assert default_shape(model.metadata().inputs[0]) == (1, 6, 7, 3)
        assert model.infer_image(FRAME)["y"].shape == (1, 6, 7, 3)
        with model.bind() as binding:
            assert binding.inputs["x"].shape == (1, 6, 7, 3)
        model.infer(noise(1, 2, 2, 3))
        assert default_shape(model.metadata().inputs[0]) == (1, 6, 7, 3)
    with accelerate.load(odd_models.dynamic_image(), normalization=levels) as model:  # 1 by 1 pixels are no size
        assert model.infer_image(FRAME)["y"].shape == (1, 13, 21, 3)
        with pytest.raises(TensorError, match="load"):
            model.bind()


@given(st.one_of(st.text(), st.integers(), st.lists(st.integers()), st.none(), st.dictionaries(st.text(), sizes)))
def test_what_is_no_size_is_passed_over(imgsz: object) -> None:
    image = TensorInfo("x", shape=(-1, 3, -1, -1))
    (info,) = exported_for([image], imgsz)
    assert info == image or all(1 <= n <= 1 << 14 for n in default_shape(info))


@given(height=sizes, width=sizes, fixed=st.booleans())
def test_sizes_have_several_forms(height: int, width: int, fixed: bool) -> None:
    image = TensorInfo("x", shape=(-1, 5 if fixed else -1, -1, 3), layout="NHWC")
    for form in ([height, width], (height, width), f"[{height}, {width}]"):
        assert default_shape(exported_for([image], form)[0]) == (1, 5 if fixed else height, width, 3)
    for one in (height, [height], str(height)):
        assert default_shape(exported_for([image], one)[0]) == (1, 5 if fixed else height, height, 3)
    other = TensorInfo("x", shape=(-1, 7))
    assert exported_for([other], [height, width]) == (other,)


# Sizes that were assumed


def test_a_size_that_was_assumed_is_named_by_the_error() -> None:
    with accelerate.load(odd_onnx.halved(), **PIXELS) as model:
        with pytest.raises(InferenceError) as warm:
            model.warmup()
        with pytest.raises(InferenceError) as of_frame:
            model.infer_image(FRAME)
        for caught, ran in ((warm, "[1, 3, 1, 1]"), (of_frame, "[1, 3, 13, 21]")):
            assert f"'x' [-1, 3, -1, -1] was run as {ran}" in caught.value.remedy
            assert "shapes={'x': (...)}" in caught.value.remedy
            assert caught.value.__cause__ is not None
        with pytest.raises(InferenceError) as own:  # of sizes that the caller has chosen there is nothing to say
            model.infer(noise(1, 3, 5, 5))
        assert "--shape" not in str(own.value)


def test_a_settled_size_that_the_model_cannot_have_is_refused_by_load() -> None:
    with pytest.raises(OptionError, match=r"shapes: .*Inferred=2 Declared=3.*leave them out"):
        accelerate.load(odd_onnx.halved(), shapes=(1, 3, 3, 3))


def test_a_real_model(models_dir: Path) -> None:
    shapes = dict.fromkeys("01", (2, 128, 4))
    with accelerate.load(models_dir / "simple_add_dynamic_shape.tflite", shapes=shapes) as model:
        inputs = random_inputs(model)
        assert {value.shape for value in inputs.values()} == {(2, 128, 4)}
        (total,) = model.infer(inputs).values()
        np.testing.assert_allclose(total, sum(inputs.values()), rtol=1e-6)


@pytest.mark.parametrize("size", [1 << 31, 1 << 62, 1 << 70])
def test_sizes_beyond_what_a_runtime_counts(size: int) -> None:
    with pytest.raises(OptionError, match=r"shapes is .*; wanted"):
        accelerate.load(odd_models.dynamic(), backend="tflite_cpu", shapes=(size, 3))
    with (
        accelerate.load(odd_models.dynamic(), backend="tflite_cpu") as model,
        pytest.raises(TensorError, match="wanted"),
    ):
        model.bind({"x": (size, 3)})
