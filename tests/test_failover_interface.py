"""What the models of a failover must have in common, and what each of them converts for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flaky_backend as flaky
import numpy as np
import odd_models
import pytest
from flaky_backend import installed  # noqa: F401 - a fixture

import accelerate
from accelerate import DeviceLostError, Model, OptionError, TensorError

pytestmark = pytest.mark.usefixtures("installed")

DATA = Path(accelerate.__file__).parent / "data"
PICTURE = {"name": "x", "shape": [1, 20, 24, 3], "layout": "NHWC"}
ANSWER = {"name": "y", "shape": [1, 20, 24, 3]}


def tensor(name: str = "x", shape: Any = (3,), **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), **more}


def load(near: Any, far: Any, **options: Any) -> Model:
    """Load two models, each given as (inputs, outputs[, metadata]); those of the second may have load's arguments."""
    (inputs, outputs, *told), (others, theirs, *more) = near, far
    metadata, arguments = told[0] if told else {}, more[0] if more else {}
    said = arguments.pop("said", {}) if more else {}
    entry = {"source": flaky.write("far", others, theirs, **said), **arguments}
    return accelerate.load(flaky.write("near", inputs, outputs, **metadata), failover=[entry], **options)


def switched(model: Model) -> Model:
    """Have the second model answer."""
    flaky.tell("near", DeviceLostError("gone"))
    return model


X, Y = tensor("x"), tensor("y")
LEVELS = tensor("y", data_type="uint8", levels=[0.5, 10])
_DIFFERENT = [
    (([X], [Y]), ([tensor("in")], [Y]), "its inputs are 'in', and those of the first model are 'x'"),
    (([X], [Y]), ([tensor("in")], [Y]), "give it tensor_names={'inputs': {'in': 'x'}}"),
    (([X], [Y]), ([X], [tensor("out")]), "give it tensor_names={'outputs': {'out': 'y'}}"),
    (
        ([X, tensor("z")], [Y, tensor("q")]),
        ([tensor("a"), tensor("b")], [Y, tensor("q")]),
        "tensor_names={'inputs': {'a': 'x', 'b': 'z'}}, each with the one that it stands for",
    ),
    (([X], [Y]), ([X, tensor("z")], [Y, tensor("q")]), "give a model with the same tensors"),
    (([X], [Y]), ([tensor(shape=[4])], [Y]), "input 'x' is [4], and [3] in the first model; give a model of the same"),
    (([X], [Y]), ([tensor(shape=[-1])], [Y]), "input 'x' is [-1], and [3] in the first model; settle it there: "),
    (([X], [Y]), ([tensor(shape=[-1])], [Y]), "shapes={'x': [3]}"),
    (([tensor(shape=[-1])], [Y]), ([X], [Y]), "settle it by shapes={'x': ...} in load"),
    (([X], [Y]), ([X], [tensor("y", [3, 1])]), "output 'y' is [3, 1], and [3] in the first model"),
    (([X], [Y]), ([tensor(extra={"optional": True})], [Y]), "input 'x' may be left out of failover[0], and not of the"),
    (
        ([X], [Y], {"labels": ["a", "b", "c"]}),
        ([X], [Y], {"said": {"labels": ["a", "c", "b"]}}),
        "its labels have 'c' for class 1, those of the first model 'b'; where the classes are the same, give one ",
    ),
    (
        ([X], [Y], {"labels": ["a", "b", "c"]}),
        ([X], [Y], {"said": {"labels": ["a"]}}),
        "its labels are 1, and those of the first model 3",
    ),
    (
        ([X], [tensor("y", labels=["a", "b", "c"])]),
        ([X], [tensor("y", labels=["a", "b", "d"])]),
        "its labels of output 'y' have 'd' for class 2",
    ),
    (
        ([X], [Y]),
        ([X], [LEVELS]),
        "output 'y' is uint8 of scale 0.5 and zero point 10, and float32 in the first model; "
        "give load(..., dequantize=True), and both answer with float32",
    ),
    (
        ([X], [LEVELS]),
        ([X], [tensor("y", data_type="uint8", levels=[0.25, 10])]),
        "output 'y' is uint8 of scale 0.25 and zero point 10, and uint8 of scale 0.5 and zero point 10 in the first",
    ),
    (([X], [Y]), ([X], [tensor("y", data_type="int32")]), "give a model that answers in the same type"),
    (([X], [Y]), ([tensor(data_type="int32")], [Y]), "what the first model takes as input 'x', float32[3], it does n"),
    (
        ([{**PICTURE, "data_type": "uint8", "levels": [0.0078125, 128]}], [ANSWER]),
        ([PICTURE], [ANSWER]),
        "the model does not say how pixels become its values; give it normalization=(mean, std) in 0..255 units",
    ),
    (([X], [Y], {"stateful": True}), ([X], [Y]), "the first model: the model keeps state from one call to the next"),
    (([X], [Y]), ([X], [Y], {"said": {"stateful": True}}), "failover[0]: the model keeps state from one call to the"),
]  # fmt: skip


@pytest.mark.parametrize(("near", "far", "said"), _DIFFERENT)
def test_a_difference_says_which_tensor_it_is_and_what_helps(near: Any, far: Any, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        load(near, far)
    assert said in str(caught.value)
    assert "failover[0]" in str(caught.value) or "the first model: " in str(caught.value)
    assert flaky.newest("near").turn.closed
    if flaky.loads("far"):
        assert flaky.newest("far").turn.closed


@pytest.mark.parametrize(
    ("near", "far", "options"),
    [
        (([X], [Y]), ([tensor("in")], [Y], {"tensor_names": {"inputs": {"in": "x"}}}), {}),
        (([X], [Y]), ([X], [tensor("out")], {"tensor_names": {"outputs": {"out": "y"}}}), {}),
        (([X], [Y]), ([tensor(shape=[-1])], [tensor("y", [-1])], {"shapes": {"x": [3]}}), {}),
        (([X], [Y]), ([X], [tensor("y", data_type="uint8", levels=[0.5, 10])]), {"dequantize": True}),
        (([X], [Y], {"labels": ["a", "b", "c"]}), ([X], [Y]), {}),  # nothing says something else
        (([X], [Y]), ([tensor(data_type="float64")], [Y]), {}),
        (([X], [Y]), ([tensor(data_type="uint8", levels=[0.5, 10])], [Y]), {}),
    ],
)
@pytest.mark.parametrize("timeout", [None, 5])
def test_what_helps_does(near: Any, far: Any, options: dict[str, Any], timeout: float | None) -> None:
    x = np.array([1, 2.5, 9], np.float32)
    with load(near, far, **options) as model:
        assert model.infer(x, timeout=timeout)["y"].tolist() == [2, 5, 18]
        assert switched(model).infer({"x": x}, timeout=timeout)["y"].tolist() == [2, 5, 18]
        assert model.device == "far:0"
        assert model.metadata().labels == tuple(near[2]["labels"] if len(near) > 2 else ())


def test_labels_that_differ_are_settled_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("one\ntwo\nthree\n")
    near, far = ([X], [Y], {"labels": ["a", "b", "c"]}), ([X], [Y], {"said": {"labels": ["x", "y", "z"]}})
    with load(near, far, label_path=tmp_path / "labels.txt") as model:
        assert model.metadata().labels == ("one", "two", "three")


def test_any_name_of_the_first_model_is_known_to_all() -> None:
    """The order of the others' tensors is another one, and their aliases are."""
    sides = [tensor("a", aliases=["alpha"]), tensor("b")], [tensor("y", aliases=["out"]), tensor("z")]
    others = [tensor("b"), tensor("a", aliases=["first"])], [tensor("z"), tensor("y", aliases=["last"])]
    with load(sides, others) as model:
        for _ in range(2):
            a, b = np.random.default_rng(0).random((2, 3)).astype(np.float32)
            for given in ({"a": a, "b": b}, {"0": a, "1": b}, {"alpha": a, "b": b}):
                answer = model.infer(given)
                assert list(answer) == ["y", "z"]
                np.testing.assert_array_equal(answer["y"], 2 * a)
                np.testing.assert_array_equal(answer["0"], 2 * a)
                np.testing.assert_array_equal(answer["out"], 2 * a)
                np.testing.assert_array_equal(answer["z"], 2 * b)
            with pytest.raises(TensorError, match="given twice"):
                model.infer({"a": a, "alpha": a, "b": b})
            with pytest.raises(TensorError, match="no input 'c'"):
                model.infer({"c": a, "b": b})
            switched(model)


def test_levels_of_the_first_model_stand_for_the_same_in_the_next() -> None:
    kinds = {
        "uint8": tensor(data_type="uint8", levels=[0.5, 100]),
        "int8": tensor(data_type="int8", levels=[0.25, -3]),
        "int16": tensor(data_type="int16", levels=[0.125, 0]),
        "float32": tensor(),
    }
    real = np.array([-8, 0.5, 20], np.float32)
    for mine in ("uint8", "int8", "int16"):
        scale, zero = kinds[mine]["levels"]
        levels = (real / scale + zero).astype(mine)
        for other, info in kinds.items():
            flaky.forget()
            with load(([kinds[mine]], [Y]), ([info], [Y])) as model:
                assert model.infer(levels)["y"].tolist() == [-16, 1, 40]
                assert switched(model).infer(levels)["y"].tolist() == [-16, 1, 40], (mine, other)
                assert model.infer({"x": real})["y"].tolist() == [-16, 1, 40]
                with model.bind() as binding:
                    assert binding.inputs["x"].dtype == mine
                    binding.inputs["x"][...] = levels
                    binding.run()
                    assert binding.outputs["y"].tolist() == [-16, 1, 40]


_PICTURES = {
    "uint8": {**PICTURE, "data_type": "uint8", "levels": [1 / 127.5, 127.5], "pixels": [127.5, 127.5]},
    "float": {**PICTURE, "pixels": [127.5, 127.5]},
    "channels first": {**PICTURE, "shape": [1, 3, 20, 24], "layout": "NCHW", "pixels": [127.5, 127.5]},
}
_PICTURES["uint8"]["levels"] = [1 / 128, 128]


@pytest.mark.parametrize("mine", _PICTURES)
@pytest.mark.parametrize("other", _PICTURES)
def test_frames_and_real_numbers_fit_all(mine: str, other: str) -> None:
    """Of types and layouts that differ, each model makes its own."""
    turned = tuple(ANSWER["shape"])  # of the stand-in: it answers with the channels last
    near, far = ([_PICTURES[mine]], [ANSWER]), ([_PICTURES[other]], [ANSWER])
    frame = np.random.default_rng(0).integers(0, 256, (1, 20, 24, 3), np.uint8)
    real = (frame.astype(np.float32) - 127.5) / 127.5
    given = np.moveaxis(frame, -1, -3) if mine == "channels first" else frame
    numbers = np.moveaxis(real, -1, -3) if mine == "channels first" else real
    with load(near, far) as model:
        for _ in range(2):
            for value in (given, numbers, numbers.astype(np.float64), given[0], numbers.ravel(), given.ravel()):
                answer = model.infer({"x": value})["y"]
                assert answer.shape == turned
                np.testing.assert_allclose(answer, 2 * real, atol=0.02)
            np.testing.assert_allclose(model.infer_image(frame[0])["y"], 2 * real, atol=0.02)
            with model.bind() as binding:
                binding.inputs["x"][...] = given if mine == "uint8" else numbers
                binding.run()
                np.testing.assert_allclose(binding.outputs["y"], 2 * real, atol=0.02)
            with pytest.raises(TensorError):
                model.infer(frame[:, :5])
            switched(model)
        assert model.device == "far:0"


def test_real_numbers_by_another_normalisation() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 20, 24, 3), np.uint8)
    near, far = ([{**PICTURE, "pixels": [127.5, 127.5]}], [ANSWER]), ([{**PICTURE, "pixels": [0, 255]}], [ANSWER])
    with load(near, far) as model:
        switched(model)
        for given in (frame, (frame.astype(np.float32) - 127.5) / 127.5):
            np.testing.assert_allclose(model.infer(given)["y"], 2.0 * frame / 255, atol=1e-5)


def test_numbers_of_a_type_that_numpy_calls_void() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")
    numbers = np.array([-1, -0.5, 0.25, 1] * 360, ml_dtypes.bfloat16).reshape(1, 20, 24, 3)
    near, far = ([{**PICTURE, "pixels": [127.5, 127.5]}], [ANSWER]), ([{**PICTURE, "pixels": [0, 255]}], [ANSWER])
    with load(near, far) as model:
        switched(model)
        np.testing.assert_allclose(model.infer(numbers)["y"], numbers.astype(np.float32) + 1, atol=1e-6)
        with pytest.raises(TensorError):
            model.infer(np.zeros((1, 20, 24, 3), "V3"))


def test_types_of_answers_do_not_change_with_who_answers() -> None:
    q = tensor("y", data_type="uint8", levels=[0.5, 10])
    x = np.array([1, 2.5, 9], np.float32)
    with load(([X], [q]), ([X], [Y]), dequantize=True) as model, model.bind() as binding:
        for _ in range(2):
            answer = model.infer(x)["y"]
            assert (answer.dtype.name, answer.tolist()) == ("float32", [2, 5, 18])
            binding.inputs["x"][...] = x
            binding.run()
            assert (binding.outputs["y"].dtype.name, binding.outputs["y"].tolist()) == ("float32", [2, 5, 18])
            with pytest.raises(OptionError, match=r"infer\(dequantize=False\) would give other types after a sw"):
                model.infer(x, dequantize=False)
            switched(model)
    flaky.forget()
    with load(([X], [q]), ([X], [q])) as model:
        for _ in range(2):
            assert model.infer(x)["y"].dtype == np.uint8
            assert model.infer(x, dequantize=True)["y"].tolist() == [2, 5, 18]
            switched(model)


def test_strict_models_of_other_types() -> None:
    with pytest.raises(OptionError, match=r"failover\[0\]: what the first model takes as input 'x', float32\[3\]"):
        load(([X], [Y]), ([tensor(data_type="float64")], [Y]), strict=True)
    with load(([X], [Y]), ([X], [Y]), strict=True) as model:
        for _ in range(2):
            with pytest.raises(TensorError, match="strict"):
                model.infer(np.ones(3))
            switched(model)


def test_a_stateful_model_of_a_real_engine() -> None:
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(OptionError, match=r"keeps state .* load it without failover"):
        accelerate.load(odd_models.variable(), backend="tflite_cpu", failover="tflite_cpu")


@pytest.mark.parametrize(("near", "far"), [("uint8.tflite", "float.tflite"), ("int8.tflite", "float.tflite")])
def test_twins_of_real_engines(near: str, far: str) -> None:
    """Frames, their pixels and a classifier on top, with another type and another layout behind it."""
    from accelerate.vision import Classifier

    pytest.importorskip("onnxruntime")
    entries: list[Any] = [
        {"source": DATA / f"digits_{far}"},
        {"source": DATA / "digits.onnx", "shapes": {"image": [1, 1, 8, 8]}, "normalization": (127.5, 127.5)},
    ]
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)
    with accelerate.load(DATA / f"digits_{near}", dequantize=True, failover=entries) as model:
        classifier, backends = Classifier(model), []
        wanted = model.infer_image(frame)["scores"]
        for lost in (None, *model._roster.models()[:2]):  # type: ignore[attr-defined]
            if lost is not None:
                lost.close()  # it is loaded again in a moment
            np.testing.assert_allclose(model.infer(frame)["scores"], wanted, atol=0.1)
            backends.append(model.backend)
            np.testing.assert_allclose(model.infer_image(frame)["scores"], wanted, atol=0.1)
            assert classifier(frame)[0].index == wanted.argmax()
        assert "tflite_cpu" in backends
