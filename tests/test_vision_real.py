"""Real detectors and photographs: the objects are found where they are, as the exporters' own decoders find them.

The decoders here are written anew from what the models' makers describe, as slowly and plainly as that goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from conftest import find_models

import accelerate
from accelerate import AssumptionWarning, OptionError
from accelerate.image import read_picture
from accelerate.vision import Classifier, Detections, Detector

MODELS = find_models() or Path("no models here")
IMAGES = MODELS.parent / "images"

pytestmark = pytest.mark.skipif(not IMAGES.exists(), reason="the real models and photographs are not here")

COCO_90, COCO_80 = MODELS / "coco_labels.txt", MODELS / "coco80_labels.txt"
SSD, PLAIN_SSD = (MODELS / f"coco_ssd_mobilenet_v1_1.0_quant{end}.tflite" for end in ("", "_no_metadata"))
YOLOX = tuple(MODELS / f"yolox_nano{end}" for end in (".onnx", "_float16_quantize.tflite"))
NANODET = MODELS / "nanodet_m_320.onnx"

#: What a person sees in the photographs: label, and a box around it in pixels.
SEEN = {
    "cat.bmp": [("cat", (45, 48, 375, 335))],
    "grace_hopper.bmp": [("person", (5, 20, 512, 596)), ("tie", (223, 425, 290, 535))],
    "parrot.jpg": [("bird", (100, 104, 473, 860))],
    "kite_and_cold.jpg": [("kite", (590, 76, 672, 150)), ("person", (212, 695, 270, 855))],
}


class Found(NamedTuple):
    """An object by the reference."""

    number: int
    score: float
    box: tuple[float, ...]


def overlap(one: Any, other: Any) -> float:
    """Return the share of the union that two boxes have in common."""
    left, top = np.maximum(one[:2], other[:2])
    right, bottom = np.minimum(one[2:], other[2:])
    shared = max(0.0, float(right - left)) * max(0.0, float(bottom - top))
    areas = sum(float(b[2] - b[0]) * float(b[3] - b[1]) for b in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0


def suppress(found: list[Found], iou: float) -> list[Found]:
    kept: list[Found] = []
    for one in sorted(found, key=lambda f: -f.score):
        if all(other.number != one.number or overlap(one.box, other.box) <= iou for other in kept):
            kept.append(one)
    return kept


def letterboxed(frame: Any, side: int, fill: int) -> tuple[Any, float]:
    """Return the frame at the top left of a canvas, and how it was scaled."""
    ratio = min(side / frame.shape[0], side / frame.shape[1])
    size = round(frame.shape[1] * ratio), round(frame.shape[0] * ratio)
    canvas = np.full((side, side, 3), fill, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    return canvas, ratio


def by_coral(path: Path, frame: Any) -> list[Found]:
    """Return what TFLite_Detection_PostProcess lists: boxes (ymin, xmin, ymax, xmax) as shares, classes, scores."""
    canvas = cv2.resize(frame, (300, 300), interpolation=cv2.INTER_LINEAR)[np.newaxis]
    with accelerate.load(path) as model:
        boxes, classes, scores, count = model.infer(canvas).values()
    height, width = frame.shape[:2]
    return [
        Found(int(classes[0, i]), float(scores[0, i]), (x0 * width, y0 * height, x1 * width, y1 * height))
        for i, (y0, x0, y1, x1) in enumerate(boxes[0][: int(count[0])].tolist())
        if scores[0, i] >= 0.25
    ]


def by_yolox(path: Path, frame: Any) -> list[Found]:
    canvas, ratio = letterboxed(frame, 416, 114)
    with accelerate.load(path, normalization=(0, 1)) as model:
        (rows,) = model.infer(canvas[..., ::-1].transpose(2, 0, 1)[np.newaxis].astype(np.float32)).values()
    found, place = [], 0
    for stride in (8, 16, 32):
        for y in range(416 // stride):
            for x in range(416 // stride):
                row = rows[0, place]
                place += 1
                scores = row[4] * row[5:]
                if scores.max() < 0.25:
                    continue
                middle = (row[:2] + np.array((x, y))) * stride
                half = np.exp(row[2:4]) * stride / 2
                box = np.concatenate((middle - half, middle + half)) / ratio
                found.append(Found(int(scores.argmax()), float(scores.max()), tuple(box.tolist())))
    return suppress(found, 0.45)


def by_nanodet(path: Path, frame: Any) -> list[Found]:
    ratio = min(320 / frame.shape[0], 320 / frame.shape[1])
    width, height = round(frame.shape[1] * ratio), round(frame.shape[0] * ratio)
    left, top = (320 - width) // 2, (320 - height) // 2
    canvas = np.zeros((320, 320, 3), np.uint8)
    canvas[top : top + height, left : left + width] = cv2.resize(frame, (width, height))
    values = (canvas[..., ::-1].astype(np.float32) - (103.53, 116.28, 123.675)) / (57.375, 57.12, 58.395)
    with accelerate.load(path) as model:
        outputs = model.infer(values.transpose(2, 0, 1)[np.newaxis].astype(np.float32))
    found = []
    for stride in (8, 16, 32):
        scores, bins = (outputs[f"{kind}_pred_stride_{stride}"][0] for kind in ("cls", "dis"))
        for place in np.flatnonzero(scores.max(axis=1) >= 0.25).tolist():
            y, x = divmod(place, 320 // stride)
            raised = np.exp(bins[place].reshape(4, 8))
            distances = (raised / raised.sum(axis=1, keepdims=True)) @ np.arange(8) * stride
            middle = np.array((x, y)) * stride + (stride - 1) / 2
            corners = np.concatenate((middle - distances[:2], middle + distances[2:]))
            box = (corners - (left, top, left, top)) / ratio
            found.append(Found(int(scores[place].argmax()), float(scores[place].max()), tuple(box.tolist())))
    return suppress(found, 0.45)


REFERENCES: list[tuple[Path, Path | None, Callable[[Path, Any], list[Found]]]] = [
    (SSD, None, by_coral),
    (PLAIN_SSD, COCO_90, by_coral),
    *((path, COCO_80, by_yolox) for path in YOLOX),
    (NANODET, COCO_80, by_nanodet),
]


def detector(path: Path, labels: Path | None, **options: Any) -> Detector:
    """Return a detector that follows what is usual for the model's family, as nothing says it."""
    found = Detector(accelerate.load(path, label_path=labels, **options))
    if path not in (SSD, PLAIN_SSD):
        with pytest.warns(AssumptionWarning, match="letterbox.*input_color='BGR'"):
            found(np.zeros((8, 8, 3), np.uint8))
    return found


def matched(found: Detections, wanted: list[Found], pixels: float, score: float) -> None:
    """Check that each object has its equal, both ways, but for those at the threshold."""
    sure = [one for one in wanted if one.score >= 0.25 + score]
    for one in sure:
        near = [
            d for d in found if d.index == one.number and np.abs(np.subtract(d.box, one.box)).max() <= pixels
            and abs(d.score - one.score) <= score
        ]  # fmt: skip
        assert near, (one, list(found))
    assert len(sure) <= len(found) <= len(wanted) + sum(abs(one.score - 0.25) <= score for one in found)


@pytest.mark.parametrize("picture", SEEN)
@pytest.mark.parametrize(("path", "labels", "reference"), REFERENCES, ids=lambda value: getattr(value, "name", ""))
def test_objects_are_found_where_they_are(
    path: Path, labels: Path | None, reference: Callable[[Path, Any], list[Found]], picture: str
) -> None:
    frame = read_picture(IMAGES / picture)
    detect = detector(path, labels)
    found = detect(frame)
    for label, box in SEEN[picture]:
        assert any(one.label == label and overlap(one.box, box) > 0.6 for one in found), (label, list(found))
    matched(found, reference(path, frame), 8, 0.05)
    assert all(a >= b for a, b in pairwise(found.scores.tolist()))


@pytest.mark.parametrize("picture", SEEN)
def test_backends_find_the_same(picture: str) -> None:
    """Within 2 pixels, from every backend that runs the file and its twin."""
    for paths, labels in (((SSD, PLAIN_SSD), COCO_90), (YOLOX, COCO_80)):
        one, other = (detector(path, labels)(IMAGES / picture, min_score=0.3) for path in paths)
        matched(one, [Found(d.index, d.score, d.box) for d in other if d.score >= 0.3], 2, 0.02)


def test_a_scale_that_cannot_hold_boxes_is_refused() -> None:
    model = accelerate.load(MODELS / "yolox_nano_int8_quantize.tflite")
    with pytest.raises(OptionError, match=r"holds 0 to 0\.9961, and its boxes are offsets.*without quantising"):
        Detector(model)


def test_frames_of_all_kinds_give_the_same() -> None:
    detect = detector(SSD, None)
    path = IMAGES / "grace_hopper.bmp"
    frame = read_picture(path)
    yuv = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)
    usual = detect(frame)
    same: Mapping[str, Any] = {
        "path": detect(path),
        "bytes": detect(path.read_bytes()),
        "BGR": detect(frame[..., ::-1].copy(), color="BGR"),
        "I420": detect(yuv, color="I420"),
        "awaited": asyncio.run(detect.call_async(frame)),
        "mapped": next(accelerate.map(detect, [frame])),
    }
    for name, other in same.items():
        assert [(d.label) for d in other[:2]] == ["person", "tie"], name
        np.testing.assert_allclose(other.boxes[:2], usual.boxes[:2], atol=5, err_msg=name)


def test_a_photograph_is_classified() -> None:
    model = accelerate.load(MODELS / "mobilenet_v1_0.25_128_quant.tflite")
    classify = Classifier(model, max_results=3)
    found = classify(IMAGES / "cat.bmp")
    assert len(found) == 3
    assert (found[0].index, found[0].label) == (283, model.metadata().label(283))
    raw = model.infer_image(read_picture(IMAGES / "cat.bmp"), dequantize=True)
    np.testing.assert_array_equal(found.scores, np.sort(next(iter(raw.values()))[0])[::-1][:3])
    assert [*classify.decode(model.infer_image(IMAGES / "cat.bmp"))] == [*found]
    with accelerate.load(MODELS / "vww_96_float.tflite", normalization=(0, 255)) as vww:
        found = Classifier(vww)(IMAGES / "grace_hopper.bmp")
        assert sorted(found.classes.tolist()) == [0, 1]
        assert found.scores.sum() == pytest.approx(1)
