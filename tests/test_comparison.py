"""`accelerate.testing.compare`: twins of one network agree, and one that is broken is found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelerate
from accelerate import Model, OptionError, TensorError
from accelerate.calls.conversion import Array
from accelerate.testing import compare

onnx: Any = pytest.importorskip("onnx")  # builds the models
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")

import odd_onnx  # noqa: E402

DATA = Path(accelerate.__file__).parent / "data"
TWINS = ("digits_float.tflite", "digits_uint8.tflite", "digits_int8.tflite", "digits.onnx")
PIXELS = (127.5, 127.5)


@pytest.fixture
def load() -> Iterator[Callable[..., Model]]:
    models: list[Model] = []

    def load_one(source: Any, **options: Any) -> Model:
        models.append(accelerate.load(source, **options))
        return models[-1]

    yield load_one
    for model in models:
        model.close()


@pytest.fixture
def digit() -> Array:
    """The picture of a digit that comes with the package, [8, 8, 1]."""
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(DATA / "digit.png").convert("L").resize((8, 8)))[..., np.newaxis]


def digits(load: Callable[..., Model]) -> list[Model]:
    return [load(DATA / name, normalization=PIXELS if name.endswith(".onnx") else None) for name in TWINS]


def test_twins_agree(load: Callable[..., Model], digit: Array) -> None:
    batch = np.stack([digit, digit // 2, digit[::-1]])
    for frames in (digit, digit[np.newaxis], batch, np.moveaxis(batch, -1, 1)):
        found = compare(digits(load), {"image": frames})
        assert [c.model for c in found] == [
            "1: tflite_cpu on cpu", "2: tflite_cpu on cpu", "3: onnxruntime on cpu",
        ]  # fmt: skip
        assert [c.top1 for c in found] == [1, 1, 1]
        assert found[0].largest < 0.1
        assert found[1].largest < 0.1
        assert found[2].largest < 1e-5
        assert all(c.reference == "0: tflite_cpu on cpu" for c in found)


def test_real_values_and_any_reference(load: Callable[..., Model], digit: Array) -> None:
    models = digits(load)
    real = (digit.astype(np.float32) - 127.5) / 127.5
    for reference in range(len(models)):
        order = [models[reference], *models[:reference], *models[reference + 1 :]]
        for comparison in compare(order, real):
            assert comparison.top1 == 1
            assert comparison.largest < 0.1


def test_levels_mean_real_values_to_a_model_without_a_normalization(load: Callable[..., Model], digit: Array) -> None:
    (comparison,) = compare([load(DATA / "digits_uint8.tflite"), load(DATA / "digits.onnx")], digit)
    assert comparison.top1 == 1
    assert comparison.largest < 0.1


def test_it_reads_well(load: Callable[..., Model], digit: Array) -> None:
    (comparison,) = compare([load(DATA / "digits_float.tflite"), load(DATA / "digits.onnx")], digit / 127.5 - 1)
    first, second = str(comparison).splitlines()
    assert first == "1: onnxruntime on cpu against 0: tflite_cpu on cpu"
    assert second.startswith("  'scores': top-1 agrees on 100.0%, largest difference ")


def broken(change: Callable[[Array], Array]) -> bytes:
    """Return the digits model with other weights in its last layer."""
    model = onnx.load(DATA / "digits.onnx")
    (weights,) = (t for t in model.graph.initializer if t.name == "logits_weights")
    weights.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(weights)), weights.name))
    content: bytes = model.SerializeToString()
    return content


def test_a_broken_twin_is_found(load: Callable[..., Model], digit: Array) -> None:
    good = load(DATA / "digits_float.tflite")
    swapped = load(broken(lambda w: w[::-1].copy()), normalization=PIXELS)  # the classes in another order
    weaker = load(broken(lambda w: w * np.float32(0.9)), normalization=PIXELS)
    unscaled = load(DATA / "digits.onnx", normalization=(0, 1))
    none = load(broken(lambda w: w * np.float32(np.nan)), normalization=PIXELS)
    batch = np.stack([digit, digit // 3])
    found = compare([good, swapped, weaker, unscaled, none], batch)
    assert found[0].top1 == 0
    assert found[0].largest > 0.5
    assert found[1].top1 == 1
    assert found[1].largest > 1e-4
    assert found[2].largest > 0.01
    assert math.isinf(found[3].largest)
    assert found[3].top1 == 0


def test_outputs_are_matched_by_name_else_by_position(load: Callable[..., Model]) -> None:
    x = np.arange(4, dtype=np.float32)
    names = {"outputs": {"constant": "first", "x": "second", "one": "third", "two": "fourth"}}
    model = odd_onnx.aliased_outputs()
    (same,) = compare([load(model), load(model, tensor_names=names)], x)  # "constant" is an alias of "first" now
    assert [o.name for o in same.outputs] == ["x", "one", "two", "constant"]
    assert same.largest == 0
    assert same.top1 is None  # several outputs, such as a detector's, are no class scores
    two = odd_onnx.add((2, 3))
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    swapped = load(two, tensor_names={"inputs": {"a": "b", "b": "a"}})
    (sums,) = compare([load(two), swapped], {"0": a, "b": b})
    assert (sums.largest, sums.top1) == (0, 1)  # [2, 3] reads as two rows of scores


def test_strings_integers_and_shapes(load: Callable[..., Model]) -> None:
    words = np.array(["a", "b", "c", "d"])
    model = odd_onnx.reversed_strings()
    (same,) = compare([load(model), load(model)], words)
    assert (same.largest, same.top1) == (0, None)
    (other,) = compare([load(model), load(odd_onnx.identity(onnx.TensorProto.STRING, (4,)))], words)
    assert math.isinf(other.largest)
    x = np.array([3, 0, 2, 1], np.float32)
    (shapes,) = compare([load(odd_onnx.double((4,))), load(odd_onnx.nonzero())], x)
    assert math.isinf(shapes.largest)
    assert shapes.outputs[0].at == ()
    image = np.random.default_rng(0).random((1, 4, 5, 3), np.float32)
    (turned,) = compare([load(odd_onnx.image((1, 4, 5, 3))), load(odd_onnx.image((1, 3, 4, 5)))], image)
    assert (turned.largest, turned.top1) == (0, None)


def test_what_cannot_be_compared(load: Callable[..., Model]) -> None:
    one, two = load(odd_onnx.double((4,))), load(odd_onnx.aliased_outputs())
    x = np.zeros(4, np.float32)
    with pytest.raises(OptionError, match="two or more"):
        compare([one], x)
    with pytest.raises(TensorError, match="outputs: 4, but the reference has 1"):
        compare([one, two], x)
    with pytest.raises(TensorError, match="no input 'y'"):
        compare([one, one], {"y": x})
    with pytest.raises(TensorError, match="missing: 'b'"):
        compare([load(odd_onnx.add()), load(odd_onnx.add())], {"a": np.zeros((10, 10))})
    with pytest.raises(TensorError, match="inputs: 1, but"):
        compare([load(odd_onnx.add((4,))), one], {"a": x, "b": x})


def test_compare_needs_no_pytest() -> None:
    import subprocess
    import sys

    code = "import sys, accelerate.testing as t; t.compare, t.random_inputs; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=DATA.parents[1])
    assert done.stdout.strip() == "False"


def test_mobilenet_twins_on_photographs(load: Callable[..., Model], models_dir: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = models_dir / "mobilenet_v1_0.25_128_quant.onnx"
    quantized, exported = load(models_dir / "mobilenet_v1_0.25_128_quant.tflite"), load(path)
    # the scale and zero point of the quantised twin's input, said as a normalization
    told = load(path, normalization=(128, 128))
    # ONNX Runtime chooses the order of its sums by processor, which decides between neighbouring levels
    nearest = (2 if tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 24) else 5) / 256
    photographs = sorted((models_dir.parent / "images").iterdir())
    assert len(photographs) >= 3
    for filter_ in (image.Resampling.BILINEAR, image.Resampling.BICUBIC):
        opened = [image.open(photograph).convert("RGB").resize((128, 128), filter_) for photograph in photographs]
        frames = np.stack([np.asarray(picture) for picture in opened])
        for photograph, frame in zip(photographs, frames, strict=True):
            for comparison in compare([quantized, exported, told], frame):
                print(f"{photograph.name}, {filter_.name}: {comparison}")
                assert comparison.top1 == 1
                assert comparison.largest <= nearest
        for comparison in compare([quantized, exported, told], frames):  # as one batch
            assert (comparison.top1, comparison.largest <= nearest) == (1, True)
        # the usual normalization is not quite that of this network, whose pixel 255 is 127/128
        (nearly,) = compare([quantized, load(path, normalization=PIXELS)], frames)
        assert nearly.largest > 1 / 256
