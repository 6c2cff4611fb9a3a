"""Candidates: what a layout's decoder finds in the outputs, before anything is chosen among it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..calls.conversion import Array
from ..errors import OptionError

__all__ = ["Candidates", "suppressed"]


class Candidates(NamedTuple):
    """Objects in the tensor's pixels, in any order."""

    boxes: Array  # (n, 4) xmin, ymin, xmax, ymax; of a turned box x, y of the middle, width, height
    scores: Array  # (n,)
    classes: Array  # (n,) numbers of classes
    keypoints: Array | None = None  # (n, K, 3)
    coefficients: Array | None = None  # (n, 32), by which the prototypes of the masks are added up
    angles: Array | None = None  # (n,) radians

    @classmethod
    def joined(cls, some: Sequence[Candidates]) -> Candidates:
        """Return all of several."""
        columns = (None if column[0] is None else np.concatenate(column) for column in zip(*some, strict=True))
        return cls(*columns)  # type: ignore[arg-type]

    def taken(self, rows: Array) -> Candidates:
        """Return some of them, in the order of `rows`."""
        return Candidates(*[None if one is None else one.take(rows, axis=0) for one in self])  # type: ignore[arg-type]


def suppressed(found: Candidates, iou: float, *, per_class: bool) -> Array:
    """Return the places of the candidates that remain after non-maximum suppression.

    Parameters
    ----------
    found : Candidates
        Best first.
    iou : float
        Of two candidates that overlap by a greater share of their union, the worse goes.
    per_class : bool
        Only those of one class suppress each other.

    Returns
    -------
    numpy.ndarray
        Places in `found`, in its order. Boxes without an area overlap none.

    Raises
    ------
    OptionError
        OpenCV is not installed.
    """
    if len(found.scores) < 2:
        return np.arange(len(found.scores))
    several = per_class and bool((found.classes != found.classes[0]).any())
    if found.angles is not None:
        return _slanted(found, iou, per_class=several)
    boxes = found.boxes.astype(np.float64)
    step = 2 * float(np.abs(boxes).max()) + 1
    boxes[:, 2:] -= boxes[:, :2]
    if several:
        apart = found.classes * step  # from those of other classes, wherever they lie
        if apart.max() > _EXACT:  # no picture's
            each = (np.flatnonzero(found.classes == one) for one in np.unique(found.classes))
            kept = [rows[suppressed(found.taken(rows), iou, per_class=False)] for rows in each]
            return np.sort(np.concatenate(kept))
        boxes[:, 0] += apart
    return _upright(boxes, iou)


_EXACT = 2.0**32  # up to here float64 places a corner within a millionth of a pixel
_FLAT = float(np.finfo(np.float64).eps)  # OpenCV takes any two whose areas are below for the same


def _upright(boxes: Array, iou: float) -> Array:
    """Suppress boxes (n, 4) of x, y, width and height, best first; the algorithm is OpenCV's (``cv2.dnn.NMSBoxes``)."""
    areas = boxes[:, 2] * boxes[:, 3]
    whole = areas.min() > _FLAT
    some = boxes if whole else boxes[areas > _FLAT]
    # its threshold leaves an equal score out, and its scores may be less exact: what it needs is the order; and lists
    # reach it in half the time that an array does
    kept = _opencv().dnn.NMSBoxes(some.tolist(), range(len(some), 0, -1), 0.0, iou)
    places: Array = np.asarray(kept, np.intp).reshape(-1)
    if whole:
        return places
    return np.sort(np.concatenate((np.flatnonzero(areas <= _FLAT), np.flatnonzero(areas > _FLAT)[places])))


def _slanted(found: Candidates, iou: float, *, per_class: bool) -> Array:
    """Suppress turned boxes; ``cv2.dnn.NMSBoxesRotated`` takes a box that lies within a larger one for the same."""
    assert found.angles is not None
    cv2 = _opencv()
    boxes = found.boxes.astype(np.float64)
    areas, reach = boxes[:, 2] * boxes[:, 3], np.hypot(boxes[:, 2], boxes[:, 3]) / 2
    x, y = boxes[:, 0], boxes[:, 1]
    # those whose circles meet, and of which the smaller is a great enough share of the larger
    rivals = np.hypot(x[:, np.newaxis] - x, y[:, np.newaxis] - y) < reach[:, np.newaxis] + reach
    rivals &= np.minimum(areas[:, np.newaxis], areas) > iou * np.maximum(areas[:, np.newaxis], areas)
    if per_class:
        rivals &= found.classes[:, np.newaxis] == found.classes
    sizes, degrees = boxes[:, 2:].tolist(), np.degrees(found.angles).tolist()
    remain = np.ones(len(boxes), bool)
    for best in range(len(boxes)):
        if not remain[best]:
            continue
        for other in np.flatnonzero(rivals[best] & remain).tolist():
            if other > best:
                # float32 there: from the middle of one of them it is exact enough, wherever they lie
                middle = (float(x[other] - x[best]), float(y[other] - y[best]))
                _, common = cv2.rotatedRectangleIntersection(
                    ((0.0, 0.0), sizes[best], degrees[best]), (middle, sizes[other], degrees[other])
                )
                shared = 0.0 if common is None else cv2.contourArea(common)
                remain[other] = not shared > iou * (areas[best] + areas[other] - shared)
    return np.flatnonzero(remain)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise OptionError(
            "this model's boxes overlap, and what suppresses all but the best of them needs OpenCV",
            'pip install "edge-accelerate[vision]"',
        ) from error
    return cv2
