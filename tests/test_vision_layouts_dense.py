"""Detectors that give a box and scores for each place: every layout in every form of file, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vision_comparison import check
from vision_models import (
    CLASSES,
    HEIGHT,
    LABELS,
    PLACES,
    SCENE,
    SHARES,
    STRIDES,
    WIDTH,
    Case,
    binned,
    by_stride,
    cells,
    centred,
    described,
    distances,
    logit,
    own_places,
    scores_of,
    spread,
    ultralytics,
)

from accelerate.calls.conversion import Array
from accelerate.image import Geometry
from accelerate.vision import Detector


def joined(*parts: Array) -> Array:
    return np.concatenate(parts, axis=1)


def turned(table: Array) -> Array:
    return np.ascontiguousarray(table.T)


CENTRED = centred(SCENE.boxes)
V8 = spread(joined(CENTRED, scores_of()), 0.01)[np.newaxis]
V8_SHARES = spread(joined(CENTRED / SHARES, scores_of()), 0.01)[np.newaxis]
#: Objectness, by which the score of the class is multiplied.
OWN = np.array([[0.95], [0.9], [0.8]], np.float32)
WITH_OWN = joined(OWN, scores_of(SCENE.scores / OWN[:, 0]))
V5_PLACES = (5, 600, 750)
V5 = spread(joined(CENTRED, WITH_OWN), 0.01, V5_PLACES, 3 * PLACES)[np.newaxis]
V5_SHARES = spread(joined(CENTRED / SHARES, WITH_OWN), 0.01, V5_PLACES, 3 * PLACES)[np.newaxis]


def yolox(*, decoded: bool) -> Array:
    x, y, stride = (column[:, np.newaxis] for column in cells()[own_places()].T)
    undecoded = joined(CENTRED[:, :1] / stride - x, CENTRED[:, 1:2] / stride - y, np.log(CENTRED[:, 2:] / stride))
    return spread(joined(CENTRED if decoded else undecoded, WITH_OWN))[np.newaxis]


def heads(*, flat: bool, channels_first: bool, bins: int = 16, logits: bool = True, shift: Any = 0.0) -> list[Array]:
    """Return for each stride the distributions and the scores."""
    codes = spread(binned(distances(shift=shift), bins))
    scores = spread(scores_of(logit(SCENE.scores), low=-8.0), -8.0) if logits else spread(scores_of(), 0.01)
    found = []
    for stride, pair in zip(STRIDES, zip(by_stride(codes), by_stride(scores), strict=True), strict=True):
        for table in pair:
            one = turned(table) if channels_first else table
            sides = (HEIGHT // stride, WIDTH // stride)
            shape = one.shape if flat else (len(one), *sides) if channels_first else (*sides, one.shape[1])
            found.append(one.reshape(1, *shape))
    return found


def named(arrays: list[Array], order: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> dict[str, Array]:
    return {f"output{i}": arrays[i] for i in order}


BINS = spread(binned(distances()))[np.newaxis]
LOGITS = spread(scores_of(logit(SCENE.scores), low=-8.0), -8.0)[np.newaxis]
SCORES = spread(scores_of(), 0.01)[np.newaxis]
CORNERS = spread(SCENE.boxes)[np.newaxis]
QUERIES = 30
DETR_BOXES = spread(CENTRED / SHARES, 0.1, (3, 7, 20), QUERIES)[np.newaxis]


def query_scores(rows: Array, low: float) -> Array:
    return spread(rows, low, (3, 7, 20), QUERIES)[np.newaxis]


def no_object() -> Array:
    """Return logits whose softmax gives the scores, the last for "no object"."""
    scores = spread(joined(scores_of(low=1e-6), np.zeros((3, 1), np.float32)), 1e-6, (3, 7, 20), QUERIES)
    scores[:, -1] = 1 - scores[:, :-1].sum(axis=1)
    return np.log(scores)[np.newaxis]


NANODET = heads(flat=True, channels_first=False, bins=8, logits=False, shift=0.5)
NANODET_NAMES = [f"{kind}_pred_stride_{s}" for s in STRIDES for kind in ("dis", "cls")]
#: A box as YOLOv5 of TFLite writes it: shares in bytes.
BYTE = ("uint8", 1 / 255, 0)

CASES: dict[str, Case] = {
    "10 YOLOv5": Case({"output": V5}),
    "10 YOLOv5 without labels": Case({"output": V5}, labels=()),
    "10 YOLOv5, shares": Case({"output": V5_SHARES}),
    "10 YOLOv5, bytes": Case({"output": V5_SHARES}, step=1.0, quantized={"output": BYTE}),
    "12 YOLOv8": Case({"output0": turned(V8[0])[np.newaxis]}),
    "12 YOLOv8 without labels": Case({"output0": turned(V8[0])[np.newaxis]}, labels=()),
    "12 YOLOv8 of Ultralytics": Case({"output0": turned(V8[0])[np.newaxis]}, told=ultralytics()),
    "12 YOLOv8, shares": Case({"output0": turned(V8_SHARES[0])[np.newaxis]}, told=ultralytics()),
    "12 YOLOv8, rows": Case({"output0": V8}),
    "12 YOLOv8, bytes": Case({"output0": turned(V8_SHARES[0])[np.newaxis]}, step=1.0, quantized={"output0": BYTE}),
    "14 heads, channels first": Case(named(heads(flat=False, channels_first=True))),
    "14 heads, channels last": Case(named(heads(flat=False, channels_first=False))),
    "14 heads, flat": Case(named(heads(flat=True, channels_first=False))),
    "14 heads, flat, channels first": Case(named(heads(flat=True, channels_first=True))),
    "14 heads, another order": Case(named(heads(flat=False, channels_first=True), (3, 4, 0, 5, 2, 1))),
    "14 heads without labels": Case(named(heads(flat=False, channels_first=True)), labels=()),
    "14 heads, bytes": Case(
        named(heads(flat=True, channels_first=False)),
        step=4.0,
        quantized={f"output{i}": ("uint8", 0.15, 220) for i in range(6)},
    ),
    "15 two heads": Case({"boxes": BINS, "scores": LOGITS}),
    "15 two heads, bytes": Case(
        {"boxes": BINS, "scores": LOGITS},
        step=4.0,
        quantized={"boxes": ("uint8", 0.15, 220), "scores": ("int8", 0.08, 20)},
    ),
    "15 two heads, no logit below 0": Case(
        {"boxes": BINS, "scores": np.maximum(LOGITS, 0)}, options={"min_score": 0.55}
    ),
    "15 two heads, others first": Case({"a": LOGITS, "b": BINS}),
    "15 two heads with the best score": Case({"a": BINS, "b": LOGITS, "c": LOGITS.max(axis=2, keepdims=True)}),
    "16 YOLOv8 ltrb": Case({"a": turned(spread(distances()))[np.newaxis], "b": turned(SCORES[0])[np.newaxis]}),
    "16 YOLOv8 ltrb, bytes": Case(
        {"a": turned(spread(distances()))[np.newaxis], "b": turned(SCORES[0])[np.newaxis]},
        step=0.5,
        quantized={"a": ("uint8", 0.03, 20), "b": ("uint8", 1 / 256, 0)},
    ),
    "20 YOLOX": Case({"output": yolox(decoded=False)}),
    "20 YOLOX without labels": Case({"output": yolox(decoded=False)}, labels=()),
    "20 YOLOX, decoded": Case({"output": yolox(decoded=True)}),
    "21 EdgeYOLO": Case({"output": yolox(decoded=True)}, labels=()),
    "22 YOLO-NAS": Case({"boxes": CORNERS, "scores": SCORES}),
    "22 YOLO-NAS, bytes": Case(
        {"boxes": CORNERS, "scores": SCORES}, step=0.3, quantized={"boxes": ("uint8", 0.5, 0), "scores": BYTE}
    ),
    "23 DAMO-YOLO": Case({"output": SCORES, "953": CORNERS}),
    "28 DETR": Case({"pred_logits": no_object(), "pred_boxes": DETR_BOXES}),
    "28 DETR without labels": Case({"pred_logits": no_object(), "pred_boxes": DETR_BOXES}, labels=()),
    "28 deformable DETR": Case(
        {"logits": query_scores(scores_of(logit(SCENE.scores), low=-8), -8), "boxes": DETR_BOXES}
    ),
    "28 RF-DETR": Case(
        {"dets": DETR_BOXES, "labels": query_scores(scores_of(logit(SCENE.scores), low=-8), -8)}, labels=()
    ),
    "28 told sigmoid": Case(
        {"a": DETR_BOXES, "b": query_scores(scores_of(logit(SCENE.scores), low=-8), -8)},
        labels=(),
        options={"layout": {"score": "sigmoid"}},
    ),
    "28 told softmax": Case(
        {"a": DETR_BOXES, "b": no_object()}, labels=(), options={"layout": {"score": "softmax", "background": -1}}
    ),
    "29 RT-DETR of Ultralytics": Case(
        {"output0": spread(joined(CENTRED / SHARES, scores_of()), 0.01, (3, 7, 200), 300)[np.newaxis]},
        told=ultralytics(),
    ),
    "31 NanoDet": Case(dict(zip(NANODET_NAMES, NANODET, strict=True))),
    "31 NanoDet without labels": Case(dict(zip(NANODET_NAMES, NANODET, strict=True)), labels=()),
}  # fmt: skip


def one_class(best: bool, channels_first: bool) -> Case:
    """Return heads whose scores are maps of one channel, perhaps with the best score of each cell."""
    pairs = heads(flat=False, channels_first=channels_first)
    axis = 1 if channels_first else 3
    outputs: dict[str, Array] = {}
    for n, (boxes, scores) in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
        own = scores.max(axis=axis, keepdims=True)
        outputs |= {f"box{n}": boxes, f"all{n}": scores, f"best{n}": own} if best else {f"a{n}": boxes, f"b{n}": own}
    classes = SCENE.classes if best else SCENE.classes * 0
    return Case(outputs, SCENE._replace(classes=classes), labels=LABELS if best else ("ant",))


CASES |= {
    f"14 heads {what}, channels {'first' if first else 'last'}": one_class(best, first)
    for best, what in ((False, "of one class"), (True, "with the best score"))
    for first in (False, True)
}
FORMS = {
    name: ("tflite",) if case.quantized else ("onnx", "onnx batch", "tflite") for name, case in CASES.items()
}  # fmt: skip


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, forms in FORMS.items() for form in forms])
def test_layout(name: str, form: str, tmp_path: Path) -> None:
    check(CASES[name], form, tmp_path)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.told])
def test_a_picture_of_dynamic_size(name: str, tmp_path: Path) -> None:
    check(CASES[name], "onnx sides", tmp_path)


SIZES = {
    (320, 320): (8, 16, 32),
    (416, 416): (8, 16, 32),
    (480, 640): (8, 16, 32),
    (256, 192): (8, 16, 32, 64),
    (256, 256): (16, 32),
    (128, 192): (4, 8, 16, 32),
}


@pytest.mark.parametrize("size", SIZES)
def test_cells_of_other_sizes_and_strides(size: tuple[int, int]) -> None:
    height, width = size
    places = [(x, y, s) for s in SIZES[size] for y in range(height // s) for x in range(width // s)]
    table = np.zeros((1, len(places), 5 + CLASSES), np.float32)
    chosen = [3, len(places) // 2, len(places) - 1]
    table[0, chosen] = (0.5, 0.25, 0.5, 0.25, 0.75, 0, 0, 1, 0, 0)
    metadata = described({"output": table.shape}, CLASSES, size=size)
    whole = Geometry(size, size, (0, 0, *size), (0, 0, *size))
    found = Detector(metadata, {"boxes": "grid"}).decode({"output": table}, whole)
    x, y, stride = np.array([places[i] for i in chosen], float).T
    middles, sides = ((x + 0.5) * stride, (y + 0.25) * stride), (np.exp(0.5) * stride, np.exp(0.25) * stride)
    wanted = np.stack([m + sign * side / 2 for sign in (-1, 1) for m, side in zip(middles, sides, strict=True)], axis=1)
    np.testing.assert_allclose(found.boxes, wanted, rtol=1e-5, atol=1e-3)
    assert found.scores.tolist() == [0.75] * 3
