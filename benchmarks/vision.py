"""From frames to objects: what decoding costs on one core, a whole frame over `infer`, and replicas of a detector."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

import accelerate
from accelerate import Metadata, TensorInfo
from accelerate.image import Geometry, geometry, read_picture, to_tensor
from accelerate.vision import Detections, Detector

from .models import COCO_SSD, PHOTOGRAPH, present
from .sidebyside import measure, same_answer
from .table import Row, missing, show

__all__ = ["photograph", "rows"]

_FRAME = (1080, 1920)
_MIN_SCORE, _IOU = 0.25, 0.45
_CLASSES = 80
#: Objects in shares of the frame's sides: x and y of the middle, width, height; and their classes.
_OBJECTS = np.array(
    (
        (0.20, 0.30, 0.20, 0.40),
        (0.70, 0.35, 0.15, 0.30),
        (0.45, 0.70, 0.30, 0.35),
        (0.85, 0.75, 0.12, 0.25),
        (0.15, 0.80, 0.10, 0.20),
        (0.55, 0.20, 0.08, 0.15),
    )
)
_NUMBERS = np.array((0, 2, 16, 0, 56, 2))


def rows() -> Iterator[Row]:
    """Measure all three."""
    yield from _decoding()
    yield from _frame_to_objects()
    yield from _mapping()


# --- decoding


def _decoding() -> Iterator[Row]:
    ssd, yolov8, yolox = _ssd(), _yolov8(), _yolox()
    turned = np.ascontiguousarray(yolov8.swapaxes(1, 2))
    with _one_core():
        yield _decode(
            "an SSD's list of 10 boxes",
            Detector(_metadata(300, **_LISTED), min_score=_MIN_SCORE),
            ssd,
            _ssd_by_hand,
            40e-6,
        )
        yield _decode("YOLOv8, 84 x 8,400", _detector(640, yolov8), {"rows": yolov8}, _yolov8_by_hand, 0.4e-3)
        yield _decode("YOLOv8 turned, 8,400 x 84", _detector(640, turned), {"rows": turned}, _turned_by_hand, 1e-3)
        yield _decode("YOLOX, 3,549 x 85", _detector(416, yolox), {"rows": yolox}, _yolox_by_hand, 0.2e-3)


def _decode(
    what: str,
    detector: Detector,
    outputs: Mapping[str, Any],
    by_hand: Callable[[Mapping[str, Any], Geometry], Any],
    target: float,
) -> Row:
    fitted = geometry(_FRAME, detector.metadata.inputs[0], "stretch")
    decoded = detector.decode(outputs, fitted)
    assert len(decoded) == len(_OBJECTS), decoded
    assert sorted(decoded.classes.tolist()) == sorted(_NUMBERS.tolist()), decoded
    ways = {"ours": lambda: _columns(detector.decode(outputs, fitted)), "by hand": lambda: by_hand(outputs, fitted)}
    timings = measure(ways, seconds=3, agree=_alike)
    ours, theirs = (1e6 * timings.least(name) for name in ways)
    note = f"median {1e6 * timings.median('ours'):.1f} us; by NumPy and OpenCV written out: {theirs:.1f} us"
    return Row(f"Detector.decode on one core, {what}", ours, target * 1e6, "{:.1f} us", note)


def _columns(found: Detections) -> tuple[Any, Any, Any]:
    return found.boxes, found.scores, found.classes


def _alike(one: Any, other: Any) -> bool:
    return len(one[1]) == len(other[1]) and all(
        np.allclose(a, b, rtol=1e-5, atol=1e-2) for a, b in zip(one, other, strict=True)
    )


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core."""
    cores, threads = os.sched_getaffinity(0), cv2.getNumThreads()
    os.sched_setaffinity(0, {max(cores)})
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        os.sched_setaffinity(0, cores)


def _metadata(side: int, **outputs: TensorInfo) -> Metadata:
    picture = TensorInfo("image", shape=(1, side, side, 3), layout="NHWC", color="RGB")
    return Metadata("written", "onnx", "", (picture,), tuple(outputs.values()))


def _detector(side: int, table: Any) -> Detector:
    return Detector(_metadata(side, rows=TensorInfo("rows", shape=table.shape)), min_score=_MIN_SCORE, iou=_IOU)


_LISTED = {
    part: TensorInfo(part, shape=shape, extra={"operator": "TFLite_Detection_PostProcess", "port": port})
    for port, (part, shape) in enumerate(
        {"boxes": (1, 10, 4), "classes": (1, 10), "scores": (1, 10), "count": (1,)}.items()
    )
}


def _ssd() -> Mapping[str, Any]:
    """Return ten boxes best first, of which as many as there are objects have a score that counts."""
    boxes = np.random.default_rng(0).uniform(0, 1, (1, 10, 4)).astype(np.float32)
    half = _OBJECTS[:, 2:] / 2
    corners = np.concatenate((_OBJECTS[:, :2] - half, _OBJECTS[:, :2] + half), axis=1)
    boxes[0, : len(corners)] = corners[:, [1, 0, 3, 2]]
    classes = np.zeros((1, 10), np.float32)
    classes[0, : len(_NUMBERS)] = _NUMBERS
    scores = np.linspace(0.9, 0.05, 10, dtype=np.float32)[np.newaxis]
    scores[0, len(_OBJECTS) :] *= 0.5
    return {"boxes": boxes, "classes": classes, "scores": scores, "count": np.array((10,), np.float32)}


def _places(side: int) -> tuple[Any, Any]:
    """Return the middles of the cells (n, 2) in pixels, and their strides (n, 1)."""
    middles, strides = [], []
    for stride in (8, 16, 32):
        cells = side // stride
        y, x = np.mgrid[:cells, :cells]
        middles.append((np.stack((x.ravel(), y.ravel()), axis=1) + 0.5) * stride)
        strides.append(np.full((cells * cells, 1), stride))
    return np.concatenate(middles), np.concatenate(strides)


def _corners(side: int) -> tuple[Any, Any]:
    """Return the upper left corners of the cells in cells, and their strides."""
    middles, strides = _places(side)
    return middles / strides - 0.5, strides


def _seen(side: int) -> tuple[Any, Any]:
    """Return boxes (n, 4) of middle and size in pixels, and scores (n, classes): some 8 good places for each object."""
    random = np.random.default_rng(1)
    middles, strides = _places(side)
    boxes = np.concatenate((middles, random.uniform(1, 6, (len(middles), 2)) * strides), axis=1)
    scores = np.minimum(random.lognormal(-9, 1.5, (len(middles), _CLASSES)), 0.2)
    for place, number in zip(_OBJECTS * side, _NUMBERS, strict=True):
        away = np.abs(middles - place[:2]).max(axis=1) / strides[:, 0]
        near = np.argsort(away, kind="stable")[:8]
        scores[near, number] = random.uniform(0.3, 0.9, len(near))
        boxes[near] = place + random.normal(0, 0.02, (len(near), 4)) * place[[2, 3, 2, 3]]
    return boxes, scores


def _yolov8() -> Any:
    boxes, scores = _seen(640)
    return np.ascontiguousarray(np.concatenate((boxes, scores), axis=1, dtype=np.float32).T)[np.newaxis]


def _yolox() -> Any:
    """Return a table as YOLOX's network gives it: the boxes undecoded."""
    boxes, scores = _seen(416)
    corners, strides = _corners(416)
    corner = boxes[:, :2] / strides - corners
    objectness = np.sqrt(scores.max(axis=1, keepdims=True))
    columns = (corner, np.log(boxes[:, 2:] / strides), objectness, scores / objectness)
    return np.concatenate(columns, axis=1, dtype=np.float32)[np.newaxis]


def _ssd_by_hand(outputs: Mapping[str, Any], fitted: Geometry) -> Any:
    height, width = fitted.frame_size
    good = outputs["scores"][0] >= _MIN_SCORE
    boxes = outputs["boxes"][0][good][:, [1, 0, 3, 2]] * np.array((width, height, width, height), np.float32)
    return boxes, outputs["scores"][0][good], outputs["classes"][0][good].astype(np.int64)


def _yolov8_by_hand(outputs: Mapping[str, Any], fitted: Geometry) -> Any:
    return _rows_by_hand(outputs["rows"][0].T[:, :4], outputs["rows"][0].T[:, 4:], fitted)


def _turned_by_hand(outputs: Mapping[str, Any], fitted: Geometry) -> Any:
    return _rows_by_hand(outputs["rows"][0][:, :4], outputs["rows"][0][:, 4:], fitted)


def _yolox_by_hand(outputs: Mapping[str, Any], fitted: Geometry) -> Any:
    """Decode as YOLOX's own demo does."""
    table = outputs["rows"][0]
    corners, strides = _YOLOX_GRID
    boxes = np.concatenate(((table[:, :2] + corners) * strides, np.exp(table[:, 2:4]) * strides), axis=1)
    return _rows_by_hand(boxes, table[:, 4:5] * table[:, 5:], fitted)


_YOLOX_GRID = _corners(416)


def _rows_by_hand(boxes: Any, scores: Any, fitted: Geometry) -> Any:
    """Choose as most programs do: the best class of every place, then those above the limit, then OpenCV."""
    classes, best = scores.argmax(axis=1), scores.max(axis=1)
    good = best >= _MIN_SCORE
    boxes, classes, best = boxes[good], classes[good], best[good]
    upper_left = boxes[:, :2] - boxes[:, 2:] / 2
    corners = np.concatenate((upper_left, boxes[:, 2:]), axis=1)
    kept = np.asarray(cv2.dnn.NMSBoxesBatched(corners.tolist(), best.tolist(), classes.tolist(), _MIN_SCORE, _IOU))
    scale = np.array(fitted.frame_size[::-1] * 2) / np.array(fitted.tensor_size[::-1] * 2)
    found = np.concatenate((upper_left, upper_left + boxes[:, 2:]), axis=1)[kept] * scale
    return found, best[kept], classes[kept]


# --- a whole frame


def photograph() -> Any:
    """Return a photograph as a 1080p frame."""
    return cv2.resize(read_picture(PHOTOGRAPH), _FRAME[::-1])


def _frame_to_objects() -> Iterator[Row]:
    what = f"1080p frame to Detections beyond 1.05 x infer on the ready tensor, {COCO_SSD.stem}"
    target, form = 0.6, "{:.3f} ms"
    for path in (COCO_SSD, PHOTOGRAPH):
        if not present(path):
            yield missing(what, target, form, path)
            return
    frame = photograph()
    with accelerate.load(COCO_SSD, backend="tflite_cpu", num_threads=1) as model:
        detector = Detector(model, min_score=_MIN_SCORE)
        (info,) = model.metadata().inputs
        tensor = to_tensor(frame, info)
        expected = _columns(detector.decode(model.infer(tensor), geometry(_FRAME, info, "stretch")))
        assert {model.metadata().label(number) for number in expected[2].tolist()} >= {"person", "tie"}
        timings = measure(
            {"detector": lambda: _columns(detector(frame)), "infer": lambda: model.infer(tensor)},
            seconds=20,
            agree=lambda found, _: same_answer(found, expected),
        )
    ours, alone = (1e3 * timings.median(name) for name in ("detector", "infer"))
    more = timings.difference("detector", "infer")
    note = f"{ours:.3f} against {alone:.3f} ms; {1e3 * more.low:.3f} .. {1e3 * more.high:.3f} ms more"
    yield Row(what, ours - 1.05 * alone, target, form, note)


# --- many frames


_FRAMES = 200


def _mapping() -> Iterator[Row]:
    what = f"time of map over {_FRAMES} 1080p frames, replicas=2, over one after the other, {COCO_SSD.stem}"
    target, form = 1 / 1.8, "{:.3f} x"
    for path in (COCO_SSD, PHOTOGRAPH):
        if not present(path):
            yield missing(what, target, form, path)
            return
    frame = photograph()
    shifted = [np.roll(frame, 97 * n, axis=1) for n in range(8)]
    frames = [shifted[n % len(shifted)] for n in range(_FRAMES)]
    with (
        accelerate.load(COCO_SSD, backend="tflite_cpu", num_threads=1) as one,
        accelerate.load(COCO_SSD, backend="tflite_cpu", num_threads=1, replicas=2) as two,
    ):
        alone, side_by_side = Detector(one, min_score=_MIN_SCORE), Detector(two, min_score=_MIN_SCORE)
        ways: Mapping[str, Callable[[], Any]] = {
            "map": lambda: list(accelerate.map(side_by_side, frames)),
            "loop": lambda: [alone(frame) for frame in frames],
        }
        found, expected = (way() for way in ways.values())
        assert _same_detections(found, expected), "map finds something else"
        times, tried = _undisturbed(ways, seconds=90)
    counts = f"{' and '.join(str(len(some)) for some in times.values())} of {tried} runs of each were undisturbed"
    if not all(times.values()):
        yield Row(what, None, target, form, f"other programs kept the cores busy: {counts}")
        return
    ours, theirs = (float(np.median(times[name])) for name in ("map", "loop"))
    note = f"{theirs / ours:.2f} times as fast; {ours:.2f} against {theirs:.2f} s; {counts}"
    yield Row(what, ours / theirs, target, form, note)


def _undisturbed(ways: Mapping[str, Callable[[], Any]], *, seconds: float) -> tuple[dict[str, list[float]], int]:
    """Time in turn what takes all cores, leaving out runs during which other programs took a fiftieth of one.

    Returns
    -------
    dict of str to list of float, int
        The times that count, and how often each was run.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    tried, end = 0, perf_counter() + seconds
    while perf_counter() < end and min(map(len, times.values())) < _ENOUGH:
        tried += 1
        for name, way in ways.items():
            others, started = _taken_by_others(), perf_counter()
            way()
            taken = perf_counter() - started
            if _taken_by_others() - others < taken / 50:
                times[name].append(taken)
    return times, tried


_ENOUGH = 5


def _taken_by_others() -> float:
    """Return the seconds that other programs have had the cores."""
    user, nice, system, _, _, *more = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    busy = (user + nice + system + sum(more[:3])) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:2])


def _same_detections(some: Sequence[Detections], others: Sequence[Detections]) -> bool:
    return len(some) == len(others) and all(
        same_answer(_columns(a), _columns(b)) for a, b in zip(some, others, strict=True)
    )


if __name__ == "__main__":
    show(rows())
