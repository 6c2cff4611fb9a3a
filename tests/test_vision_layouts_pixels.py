"""Segmenters and classifiers: every layout of scores, for each pixel and for the picture, in every form of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vision_comparison import PREPARED
from vision_models import CLASSES, FRAMES, HEIGHT, LABELS, WIDTH, Case, logit, write

import accelerate
from accelerate.calls.conversion import Array
from accelerate.errors import OptionError
from accelerate.metadata import Metadata, TensorInfo
from accelerate.vision import Classifier, Segmenter

FORMS = ("onnx", "onnx batch", "onnx sides", "tflite")
#: The class of each block of 32 x 32 pixels.
BLOCKS = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0]])
KINDS = 11


def blank(way: str) -> Array:
    height, width = FRAMES[way][0]
    return np.zeros((height, width, 3), np.uint8)


def index(cell: int, blocks: Array = BLOCKS) -> Array:
    """Return the blocks as a map whose cells have so many pixels on a side."""
    return blocks.repeat(32 // cell, axis=0).repeat(32 // cell, axis=1)


def scores(cell: int, kinds: int = KINDS) -> Array:
    """Return a map of logits, channels last."""
    rng = np.random.default_rng(0)
    return np.where(index(cell)[..., np.newaxis] == np.arange(kinds), 3, rng.normal(size=kinds)).astype(np.float32)


def in_frame(way: str, blocks: Array = BLOCKS) -> Array:
    """Return the block of each pixel of a frame."""
    height, width = FRAMES[way][0]
    y, x = np.mgrid[:height, :width] + 0.5
    if FRAMES[way][1] == "letterbox":
        x, y = x * 0.8, y * 0.8 + 24
    else:
        x, y = x * WIDTH / width, y * HEIGHT / height
    found: Array = blocks[(y // 32).astype(int), (x // 32).astype(int)]
    return found


FIRST = np.moveaxis(scores(4), 2, 0).copy()
MAPS: dict[str, Case] = {
    "36 channels last": Case({"ResizeBilinear_3": scores(1)[np.newaxis]}, labels=()),
    "36 channels first": Case({"out": np.moveaxis(scores(1), 2, 0)[np.newaxis].copy()}, labels=()),
    "36 coarse": Case({"out": FIRST[np.newaxis]}, labels=()),
    "36 coarse, channels last": Case({"out": scores(8, 21)[np.newaxis]}, labels=()),
    "36 more classes than rows": Case({"out": np.moveaxis(scores(4, 150), 2, 0)[np.newaxis].copy()}, labels=()),
    "36 more classes than rows, channels last": Case({"out": scores(4, 150)[np.newaxis]}, labels=()),
    "36 bytes": Case({"out": scores(4)[np.newaxis]}, labels=(), quantized={"out": ("uint8", 0.05, 128)}),
    "37 int64": Case({"ArgMax": index(1)[np.newaxis].astype(np.int64)}, labels=()),
    "37 int32, coarse": Case({"ArgMax": index(4)[np.newaxis].astype(np.int32)}, labels=()),
    "37 bytes": Case({"ArgMax": index(1)[np.newaxis].astype(np.uint8)}, labels=()),
    "37 one channel": Case({"out": index(1)[np.newaxis, np.newaxis].astype(np.int64)}, labels=()),
}


@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name, case in MAPS.items() for form in FORMS if not case.quantized]
    + [("36 bytes", "tflite")],
)  # fmt: skip
def test_the_class_of_each_pixel(name: str, form: str, tmp_path: Path) -> None:
    path, options = write(MAPS[name], form, tmp_path)
    with accelerate.load(path, **options) as model:
        for way, (_, resize) in FRAMES.items():
            found = Segmenter(model, resize=resize, **PREPARED)(blank(way))
            np.testing.assert_array_equal(found.mask, in_frame(way))
            assert found.mask.dtype == np.uint8


#: What is in front: columns or rows, since between coarse cells corners become round.
FRONTS = {"columns": np.array([[0, 1, 0, 1]] * 3), "rows": np.array([[1] * 4, [0] * 4, [1] * 4])}


def one_mask(name: str, blocks: Array) -> Case:
    cell = 2 if "coarse" in name else 1
    shares = index(cell, np.array((0.1, 0.9))[blocks]).astype(np.float32)
    values = logit(shares) if "logit" in name else shares
    return Case({"out": values[(None, None) if "first" in name else (None, ..., None)]}, labels=())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("name", ["38 probability", "38 logit", "38 channels first", "38 coarse", "38 coarse logit"])
def test_one_mask(name: str, front: str, form: str, tmp_path: Path) -> None:
    path, options = write(one_mask(name, FRONTS[front]), form, tmp_path)
    with accelerate.load(path, **options) as model:
        for way, (_, resize) in FRAMES.items():
            found = Segmenter(model, resize=resize, **PREPARED)(blank(way))
            np.testing.assert_array_equal(found.mask, in_frame(way, FRONTS[front]))
            assert found.label(1) == "foreground"


# Row 39

PROBABILITIES = np.array([0.05, 0.5, 0.25, 0.125, 0.075], np.float32)
LOGITS = np.log(PROBABILITIES) + 3
INDEPENDENT = np.array([0.9, 0.8, 0.1, 0.2, 0.3], np.float32)
SUM_OF_ONE = np.array([2, -1.5, 0.5, 0.25, -0.25], np.float32)
THOUSAND = np.full(1001, 0.5 / 1000, np.float32)
THOUSAND[7] = 0.5
SCORES: dict[str, tuple[Case, Array]] = {
    "probabilities": (Case({"out": PROBABILITIES[np.newaxis]}), PROBABILITIES),
    "logits": (Case({"out": LOGITS[np.newaxis]}), PROBABILITIES),
    "maps of one pixel": (Case({"out": LOGITS.reshape(1, CLASSES, 1, 1)}), PROBABILITIES),
    "maps of one pixel, channels last": (Case({"out": LOGITS.reshape(1, 1, 1, CLASSES)}), PROBABILITIES),
    "no batch": (Case({"out": LOGITS}), PROBABILITIES),
    "1001 with background": (Case({"out": THOUSAND[np.newaxis]}, labels=()), THOUSAND),
    "bytes": (
        Case({"out": PROBABILITIES[np.newaxis]}, quantized={"out": ("uint8", 1 / 256, 0)}),
        np.rint(PROBABILITIES * 256) / 256,
    ),
    "int8": (
        Case({"out": PROBABILITIES[np.newaxis]}, quantized={"out": ("int8", 1 / 256, -128)}),
        np.rint(PROBABILITIES * 256) / 256,
    ),
    "Ultralytics": (
        Case({"output0": PROBABILITIES[np.newaxis]}, told={"task": "classify"}), PROBABILITIES,
    ),
    "logits whose sum is 1": (Case({"out": SUM_OF_ONE[np.newaxis]}), np.exp(SUM_OF_ONE) / np.exp(SUM_OF_ONE).sum()),
    "bytes that do not sum to 1": (
        Case({"out": INDEPENDENT[np.newaxis]}, quantized={"out": ("uint8", 1 / 256, 0)}),
        np.rint(INDEPENDENT * 256) / 256,
    ),
    "told not to sum to 1": (
        Case({"out": INDEPENDENT[np.newaxis]}, options={"layout": {"score": "probability"}}), INDEPENDENT,
    ),
    "told logits that look like probabilities": (
        Case({"out": PROBABILITIES[np.newaxis]}, options={"layout": {"score": "softmax"}}),
        np.exp(PROBABILITIES) / np.exp(PROBABILITIES).sum(),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name, (case, _) in SCORES.items() for form in FORMS if form == "tflite" or not case.quantized],
)
def test_scores(name: str, form: str, tmp_path: Path) -> None:
    case, wanted = SCORES[name]
    path, options = write(case, form, tmp_path)
    ways: dict[str, Any] = {**PREPARED, "resize": "stretch", **case.options}
    with accelerate.load(path, **options) as model:
        for found in (
            Classifier(model, **ways)(blank("stretch")),
            Classifier(model.metadata(), **case.options).decode({key: case.stored(key) for key in case.outputs}),
        ):
            order = np.argsort(-wanted, kind="stable")[:5]
            assert found.classes.tolist() == order.tolist()
            np.testing.assert_allclose(found.scores, wanted[order], rtol=1e-6)
            assert found.labels.tolist() == [LABELS[i] if case.labels else str(i) for i in order]


def test_scores_of_sounds_need_no_picture_but_a_frame_is_refused() -> None:
    sounds = Metadata("", "", "", (TensorInfo("waveform", shape=(15600,)),), (TensorInfo("scores", shape=(1, 521)),))
    with pytest.raises(OptionError, match=r"takes no picture: its inputs are 'waveform' float32\[15600\]"):
        Classifier(sounds).preparation  # noqa: B018
