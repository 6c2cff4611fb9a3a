"""Masks, keypoints, slanted boxes, maps of classes and scores: every layout in every form of file, exactly."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vision_comparison import PREPARED, WHOLE, check_file
from vision_models import (
    FRAMES,
    HEIGHT,
    SCENE,
    SHARES,
    STRIDES,
    WIDTH,
    Case,
    Found,
    binned,
    by_stride,
    centred,
    described,
    distances,
    logit,
    scores_of,
    spread,
    ultralytics,
    write,
)

import accelerate
from accelerate.calls.conversion import Array
from accelerate.vision import Detector, PoseEstimator

CENTRED = centred(SCENE.boxes)
FORMS = ("onnx", "onnx batch", "onnx sides", "tflite")


def joined(*parts: Array) -> Array:
    return np.concatenate(parts, axis=1, dtype=np.float32)


def turned(table: Array) -> Array:
    return np.ascontiguousarray(table.T)[np.newaxis]


def listed(rows: Array, count: int = 300) -> Array:
    table = np.zeros((1, count, rows.shape[1]), np.float32)
    table[0, : len(rows)] = rows
    return table


def blank(way: str) -> Array:
    height, width = FRAMES[way][0]
    return np.zeros((height, width, 3), np.uint8)


def edges(place: float, way: str, axis: str) -> float:
    """Return where a line of the tensor lies in a frame."""
    box = SCENE._replace(boxes=np.full((1, 4), place)).in_frame(way).boxes[0]
    return float(box["xy".index(axis)])


# Row 18. The first object's mask fills its box, the second's and third's end where x is 64 or 96.

COEFFICIENTS = np.zeros((3, 32), np.float32)
COEFFICIENTS[[0, 1, 2], [0, 1, 2]] = 20
ENDS = (WIDTH, 64, 96)
PROTOS = np.zeros((32, HEIGHT // 4, WIDTH // 4), np.float32)
for n, end in enumerate(ENDS):
    PROTOS[n] = np.where(np.arange(WIDTH // 4) < end // 4, 1, -1)
LAST = np.moveaxis(PROTOS, 0, 2).copy()
V8 = turned(spread(joined(CENTRED, scores_of(), COEFFICIENTS)))
KINDS = SCENE.classes[:, np.newaxis]
E2E = listed(joined(SCENE.boxes, SCENE.scores[:, np.newaxis], KINDS, COEFFICIENTS))


def heads(*, best: bool = False) -> dict[str, Array]:
    """Return the outputs of each stride: distributions, scores, perhaps their best, and coefficients."""
    found = {"protos": PROTOS[np.newaxis]}
    tables = {
        "box": spread(binned(distances())), "score": spread(scores_of(logit(SCENE.scores), low=-8), -8),
        "mask": spread(COEFFICIENTS),
    }  # fmt: skip
    for kind, table in tables.items():
        for stride, part in zip(STRIDES, by_stride(table), strict=True):
            sides = (HEIGHT // stride, WIDTH // stride)
            found[f"{kind}{stride}"] = part.T.reshape(1, -1, *sides).copy()
            if best and kind == "score":
                found[f"best{stride}"] = found[f"{kind}{stride}"].max(axis=1, keepdims=True)
    return found


MASKS = {
    "YOLOv8": Case({"output0": V8, "output1": PROTOS[np.newaxis]}, told=ultralytics("segment")),
    "YOLOv8 without a task": Case({"output0": V8, "output1": PROTOS[np.newaxis]}),
    "YOLOv8, swapped, channels last": Case({"output1": LAST[np.newaxis], "output0": V8}, told=ultralytics("segment")),
    "end to end": Case({"output0": E2E, "output1": PROTOS[np.newaxis]}, told=ultralytics("segment")),
    "heads": Case(heads()),
    "heads with the best score": Case(heads(best=True)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, form: str, tmp_path: Path) -> None:
    case = MASKS[name]
    path, options = write(case, form, tmp_path)
    check_file(path, options, case)
    with accelerate.load(path, **options) as model:
        for way, (size, resize) in FRAMES.items():
            found = Detector(model, resize=resize, **PREPARED)(blank(way))
            assert found.masks is not None
            for mask, box, end in zip(found.masks, found.boxes, ENDS, strict=True):
                wanted = np.zeros(size, bool)
                left, top = np.maximum(np.floor(box[:2]).astype(int), 0)
                right, bottom = np.minimum(np.ceil(box[2:]).astype(int), size[::-1])
                rows = slice(max(top, int(edges(0, way, "y"))), bottom)
                wanted[rows, left : min(right, round(edges(end, way, "x")))] = True
                np.testing.assert_array_equal(mask, wanted)


# Row 19

POINTS = np.random.default_rng(0).uniform(0, 90, (3, 17, 3)).astype(np.float32).round(2)
POINTS[..., 2] = POINTS[..., 2] / 100
OBJECTNESS = SCENE.scores[:, np.newaxis]
ONE_CLASS: dict[str, Any] = {"labels": ("person",), "wanted": SCENE._replace(classes=np.zeros(3, int))}
POSES = {
    "YOLO": Case({"output0": turned(spread(joined(CENTRED, OBJECTNESS, POINTS.reshape(3, -1))))},
                 told=ultralytics("pose", kpt_shape=[17, 3]), **ONE_CLASS),
    "YOLO without kpt_shape": Case({"output0": turned(spread(joined(CENTRED, OBJECTNESS, POINTS.reshape(3, -1))))},
                                   told=ultralytics("pose"), **ONE_CLASS),
    "YOLO end to end": Case({"output0": listed(joined(SCENE.boxes, OBJECTNESS, KINDS * 0, POINTS.reshape(3, -1)))},
                            told=ultralytics("pose", kpt_shape=[17, 3]), **ONE_CLASS),
    "YOLO, shares": Case({"output0": turned(spread(joined(
        CENTRED / SHARES, OBJECTNESS, (POINTS / (WIDTH, HEIGHT, 1)).reshape(3, -1)
    )))}, told=ultralytics("pose", kpt_shape=[17, 3]), **ONE_CLASS),
}  # fmt: skip


def points_in(way: str, points: Array = POINTS) -> Array:
    places = np.concatenate((points[..., :2], points[..., :2]), axis=-1).reshape(-1, 4)
    frame = Found(places, places, places).in_frame(way).boxes[:, :2]
    return np.concatenate((frame.reshape(*points.shape[:-1], 2), points[..., 2:]), axis=-1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", POSES)
def test_keypoints(name: str, form: str, tmp_path: Path) -> None:
    case = POSES[name]
    path, options = write(case, form, tmp_path)
    check_file(path, options, case)
    with accelerate.load(path, **options) as model:
        for way, (_, resize) in FRAMES.items():
            found = PoseEstimator(model, resize=resize, **PREPARED)(blank(way))
            np.testing.assert_allclose(found.keypoints, points_in(way), rtol=0, atol=2.5e-3)
            np.testing.assert_allclose(found.boxes, case.wanted.in_frame(way).boxes, rtol=0, atol=2.5e-3)


ANGLES = np.array([[0.3], [-0.5], [1.2]], np.float32)
SLANTED = {
    "rows": turned(spread(joined(CENTRED, scores_of(), ANGLES))),
    "end to end": listed(joined(CENTRED, OBJECTNESS, KINDS, ANGLES)),
    "shares": turned(spread(joined(CENTRED / SHARES, scores_of(), ANGLES))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SLANTED)
def test_slanted_boxes(name: str, form: str, tmp_path: Path) -> None:
    path, options = write(Case({"output0": SLANTED[name]}, told=ultralytics("obb")), form, tmp_path)
    x, y, width, height = CENTRED.astype(float).T[:, :, np.newaxis]
    outwards = (np.array([-1, 1, 1, -1]) * width + 1j * np.array([-1, -1, 1, 1]) * height) / 2
    corners = x + 1j * y + outwards * np.exp(1j * ANGLES)
    with accelerate.load(path, **options) as model:
        for way, (_, resize) in FRAMES.items():
            found = Detector(model, resize=resize, **PREPARED)(blank(way))
            wanted = points_in(way, np.stack((corners.real, corners.imag), axis=-1))
            assert found.corners is not None
            np.testing.assert_allclose(found.corners, wanted, rtol=0, atol=5e-3)
            around = np.concatenate((wanted.min(axis=1), wanted.max(axis=1)), axis=1)
            np.testing.assert_allclose(found.boxes, around, rtol=0, atol=5e-3)
            assert found.classes.tolist() == SCENE.classes.tolist()


# Row 35

BODY = POINTS[:1]
IN_SHARES = (POINTS / (WIDTH, HEIGHT, 1))[..., [1, 0, 2]]
BODIES = np.zeros((1, 6, 56), np.float32)
BODIES[0, :3, :51] = IN_SHARES.reshape(3, -1)
BODIES[0, :3, 51:55] = (SCENE.boxes / SHARES)[:, [1, 0, 3, 2]]
BODIES[0, :3, 55] = SCENE.scores


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("several", [False, True])
def test_movenet(several: bool, form: str, tmp_path: Path) -> None:
    output = BODIES if several else IN_SHARES[:1, np.newaxis]
    path, options = write(Case({"output_0": output.astype(np.float32)}, labels=()), form, tmp_path)
    with accelerate.load(path, **options) as model:
        for way, (_, resize) in FRAMES.items():
            found = PoseEstimator(model, resize=resize, **PREPARED)(blank(way))
            points = points_in(way) if several else points_in(way, BODY)
            np.testing.assert_allclose(found.keypoints, points, rtol=0, atol=2.5e-3)
            boxes = np.concatenate((points[..., :2].min(axis=1), points[..., :2].max(axis=1)), axis=1)
            wanted = SCENE.in_frame(way).boxes if several else boxes
            np.testing.assert_allclose(found.boxes, wanted, rtol=0, atol=2.5e-3)
            scores = SCENE.scores if several else BODY[..., 2].mean(axis=1)
            np.testing.assert_allclose(found.scores, scores, rtol=1e-5)


def test_masks_outlast_what_they_were_decoded_from() -> None:
    outputs = {name: array.copy() for name, array in MASKS["YOLOv8"].outputs.items()}
    shapes = {name: array.shape for name, array in outputs.items()}
    found = Detector(described(shapes, 5, **ultralytics("segment"))).decode(outputs, WHOLE)
    for one in outputs.values():
        one[:] = 0  # as the next run of a Binding does
    again = pickle.loads(pickle.dumps(found[[2, 0]][::-1]))
    assert found.masks is not None
    np.testing.assert_array_equal(again.masks, found.masks[[0, 2]])
    assert found.masks.any(axis=(1, 2)).all()
