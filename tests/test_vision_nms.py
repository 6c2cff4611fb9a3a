"""What remains of objects that overlap, against suppression written out here, slowly and plainly."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelerate import Metadata, TensorInfo
from accelerate.calls.conversion import Array
from accelerate.image import Geometry
from accelerate.vision import Detector
from accelerate.vision.candidates import Candidates, suppressed

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("cv2"), reason="needs the extra: vision")

IOUS = (0.0, 0.1, 0.25, 0.3, 0.45, 0.5, 0.7, 0.95, 1.0)
SIDE = 64
WHOLE = Geometry((SIDE, SIDE), (SIDE, SIDE), (0, 0, SIDE, SIDE), (0, 0, SIDE, SIDE))
Box = Sequence[float]


def share(one: Box, other: Box) -> float:
    """Return the intersection over the union; 0 where there is no area to share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    union = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both
    return both / union if union > 0 else 0.0


def exceeds(value: float, iou: float) -> bool:
    """Compare as OpenCV does: the distance, 1 - share, is rounded to float32, and so is the limit."""
    return bool(np.float32(1) - np.float32(1 - value) > np.float32(iou))


def remaining(boxes: Sequence[Box], classes: Sequence[int], iou: float, per_class: bool) -> list[int]:
    """Return the places of the boxes, best first, that no better one displaces."""
    kept: list[int] = []
    for n, box in enumerate(boxes):
        rivals = [k for k in kept if not per_class or classes[k] == classes[n]]
        if not any(exceeds(share(boxes[k], box), iou) for k in rivals):
            kept.append(n)
    return kept


def drawn(random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return boxes (n, 4), scores and classes: none or one, many, on top of each other, flat, outside of the frame."""
    count = int(random.choice((0, 1, 2, 3, 8, 20)))
    side = float(random.choice((4, 16, SIDE)))
    corners = random.uniform(-side, side, (count, 2))
    sizes = random.uniform(0, side, (count, 2))
    if random.random() < 0.4:  # a coarse raster: shares that equal a limit, boxes that only touch
        corners, sizes = np.rint(corners), np.rint(sizes)
    boxes = np.concatenate((corners, corners + sizes), axis=1).astype(np.float32)
    if count > 1 and random.random() < 0.5:  # the same box again, and nearly the same
        again = random.integers(0, count, count // 2)
        boxes[: len(again)] = boxes[again]
        boxes[: len(again) // 2, 2:] += np.float32(0.5)
    if count and random.random() < 0.3:  # without an area: a line, a point
        boxes[random.random(count) < 0.3, 2] = boxes[random.random(count) < 0.3, 0].max(initial=-side)
        flat = random.random(count) < 0.3
        boxes[flat, 2:] = boxes[flat, :2]
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    scores = random.uniform(0, 1, count).astype(np.float32)
    if random.random() < 0.5:  # equal ones
        scores = (np.rint(scores * 4) / 4).astype(np.float32)
    return boxes, scores, random.integers(0, int(random.choice((1, 2, 5, 90))), count)


def in_order(boxes: Array, scores: Array, classes: Array) -> Candidates:
    best = sorted(range(len(scores)), key=lambda n: -float(scores[n]))
    return Candidates(boxes[best], scores[best], classes[best])


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=200, deadline=None)
@given(seed=seeds, iou=st.sampled_from(IOUS), per_class=st.booleans())
def test_what_remains_is_what_the_plain_algorithm_leaves(seed: int, iou: float, per_class: bool) -> None:
    random = np.random.default_rng(seed)
    for _ in range(25):  # hypothesis takes longer for one seed than this does for a set
        found = in_order(*drawn(random))
        kept = suppressed(found, iou, per_class=per_class).tolist()
        assert kept == remaining(found.boxes.tolist(), found.classes.tolist(), iou, per_class), found


TABLE = TensorInfo("rows", shape=(1, -1, 6))
METADATA = Metadata("drawn", "tflite", "", (TensorInfo("image", shape=(1, SIDE, SIDE, 3), layout="NHWC"),), (TABLE,))
LAYOUT = {
    "kind": "rows",
    "outputs": {"rows": "rows"},
    "columns": "xmin ymin xmax ymax score class",
    "unit": "pixels",
    "score": "probability",
    "nms_done": False,
}


@settings(max_examples=200, deadline=None)
@given(
    seed=seeds,
    iou=st.sampled_from(IOUS),
    per_class=st.booleans(),
    min_score=st.sampled_from((0.0, 0.25, 0.5, 1.0)),
    candidates=st.sampled_from((1, 2, 5, 1000)),
    most=st.sampled_from((1, 2, 5, 100)),
)
def test_a_detector_leaves_the_same(
    seed: int, iou: float, per_class: bool, min_score: float, candidates: int, most: int
) -> None:
    detector = Detector(
        METADATA,
        LAYOUT,
        min_score=min_score,
        iou=iou,
        per_class=per_class,
        nms_candidates=candidates,
        max_results=most,
    )
    random = np.random.default_rng(seed)
    for _ in range(25):
        boxes, scores, classes = drawn(random)
        rows = np.concatenate((boxes, scores[:, np.newaxis], classes[:, np.newaxis]), axis=1, dtype=np.float32)
        answer = detector.decode({"rows": rows[np.newaxis]}, WHOLE)
        # one that equals the limit is kept, and of equal ones the first goes before
        found = in_order(boxes, scores, classes)
        tried = min(candidates, sum(score >= min_score for score in scores.tolist()))
        some = found.boxes[:tried].tolist(), found.classes[:tried].tolist()
        kept = remaining(*some, iou, per_class)[:most]
        assert np.array_equal(answer.boxes, found.boxes[kept])
        assert np.array_equal(answer.scores, found.scores[kept])
        assert np.array_equal(answer.classes, found.classes[kept])
        dtypes = [array.dtype.name for array in (answer.boxes, answer.scores, answer.classes)]
        assert dtypes == ["float32", "float32", "int64"]


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_rounding_decides_only_where_a_share_equals_the_limit(seed: int) -> None:
    """What the reference takes over from OpenCV, in bounds: no share further off than 1e-7 is judged otherwise."""
    random = np.random.default_rng(seed)
    for value, iou in zip(random.uniform(0, 1, 200).tolist(), random.choice(IOUS, 200).tolist(), strict=True):
        for near in (value, iou + value * 1e-6, iou - value * 1e-6):
            assert exceeds(near, iou) == (near > iou) or abs(near - iou) < 1.2e-7


def test_a_wild_box_of_one_class_leaves_those_of_another_alone() -> None:
    boxes = np.array(((0, 0, 10, 10), (100, 0, 110, 10), (100, 0, 110, 11), (-3e38, 0, 3e38, 10)), np.float32)
    found = Candidates(boxes, np.array((0.9, 0.8, 0.7, 0.6), np.float32), np.array((1, 1, 1, 0)))
    assert suppressed(found, 0.45, per_class=True).tolist() == [0, 1, 3]
    numbered = found._replace(classes=np.array((2**62, 2**62, 2**62, 0)), boxes=boxes[[0, 1, 2, 0]])
    assert suppressed(numbered, 0.45, per_class=True).tolist() == [0, 1, 3]


# --- turned boxes


def outline(box: Box, angle: float) -> list[tuple[float, float]]:
    x, y, width, height = box
    cosine, sine = math.cos(angle), math.sin(angle)
    ends = ((-width, -height), (width, -height), (width, height), (-width, height))
    return [(x + (dx * cosine - dy * sine) / 2, y + (dx * sine + dy * cosine) / 2) for dx, dy in ends]


def cut(polygon: list[tuple[float, float]], a: tuple[float, float], b: tuple[float, float]) -> list[Any]:
    """Return the part of a polygon on the inner side of the edge from a to b (Sutherland and Hodgman)."""
    sides = [(b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) for x, y in polygon]
    result = []
    for n, (point, side) in enumerate(zip(polygon, sides, strict=True)):
        before, was = polygon[n - 1], sides[n - 1]
        if (side < 0) != (was < 0):
            t = was / (was - side)
            result.append((before[0] + t * (point[0] - before[0]), before[1] + t * (point[1] - before[1])))
        if side >= 0:
            result.append(point)
    return result


def turned_share(one: Box, angle: float, other: Box, its: float) -> float:
    polygon, clip = outline(one, angle), outline(other, its)
    for a, b in zip(clip, clip[1:] + clip[:1], strict=True):
        polygon = cut(polygon, a, b) if polygon else []
    shifted = polygon[1:] + polygon[:1]
    both = abs(sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(polygon, shifted, strict=True))) / 2
    union = one[2] * one[3] + other[2] * other[3] - both
    return both / union if union > 0 else 0.0


@settings(max_examples=100, deadline=None)
@given(seed=seeds, iou=st.sampled_from((0.1, 0.3, 0.45, 0.7)), per_class=st.booleans())
def test_turned_boxes(seed: int, iou: float, per_class: bool) -> None:
    random = np.random.default_rng(seed)
    count = int(random.choice((0, 1, 2, 6, 12)))
    middles, sizes = random.uniform(-20, 60, (count, 2)), random.uniform(1, 50, (count, 2))
    boxes = np.concatenate((middles, sizes), axis=1).astype(np.float32)
    angles = random.uniform(-math.pi, math.pi, count).astype(np.float32)
    classes = random.integers(0, 3, count)
    found = Candidates(boxes, np.linspace(1, 0, count, dtype=np.float32), classes, angles=angles)
    kept: list[int] = []
    clear = True
    for n in range(count):
        rivals = [k for k in kept if not per_class or classes[k] == classes[n]]
        shares = [turned_share(boxes[k].tolist(), angles[k], boxes[n].tolist(), angles[n]) for k in rivals]
        clear = clear and all(abs(value - iou) > 1e-4 for value in shares)  # OpenCV cuts them in float32
        if not any(value > iou for value in shares):
            kept.append(n)
    if clear:
        assert suppressed(found, iou, per_class=per_class).tolist() == kept


def test_a_turned_box_within_a_larger_one_remains() -> None:
    """``cv2.dnn.NMSBoxesRotated`` takes it for the same."""
    boxes = np.array(((50, 50, 80, 80), (50, 50, 10, 10), (50, 50, 80, 79), (50, 50, 0, 5), (50, 50, 0, 5)), np.float32)
    found = Candidates(boxes, np.linspace(1, 0, 5), np.zeros(5, np.int64), angles=np.full(5, 0.3, np.float32))
    assert suppressed(found, 0.45, per_class=True).tolist() == [0, 1, 3, 4]
