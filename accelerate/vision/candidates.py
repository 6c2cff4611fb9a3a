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
        return Candidates(*(None if one is None else one[rows] for one in self))  # type: ignore[arg-type]


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
        Places in `found`, in its order. The algorithm is OpenCV's (``cv2.dnn.NMSBoxes``).

    Raises
    ------
    OptionError
        OpenCV is not installed.
    """
    count = len(found.scores)
    if count < 2:
        return np.arange(count)
    cv2 = _opencv()
    boxes = found.boxes.astype(np.float64)
    # its threshold leaves an equal score out, and its scores may be less exact: what it needs is the order
    ranks = np.arange(count, 0, -1, dtype=np.float32)
    if found.angles is not None:
        middles = [((x, y), (w, h), degrees) for (x, y, w, h), degrees in
                   zip(boxes.tolist(), np.degrees(found.angles).tolist(), strict=True)]  # fmt: skip
        if per_class:
            step = float(np.abs(boxes).max()) * 4 + 1
            middles = [((x + n * step, y), size, degrees) for ((x, y), size, degrees), n in
                       zip(middles, found.classes.tolist(), strict=True)]  # fmt: skip
        kept = cv2.dnn.NMSBoxesRotated(middles, ranks.tolist(), 0.0, iou)
    else:
        boxes[:, 2:] -= boxes[:, :2]
        if per_class and (found.classes != found.classes[0]).any():
            # apart from those of other classes, wherever they lie
            step = float(boxes[:, 0].max() + boxes[:, 2].max() - boxes[:, 0].min()) + 1
            boxes[:, 0] += found.classes * step
        kept = cv2.dnn.NMSBoxes(boxes, ranks, 0.0, iou)
    places: Array = np.asarray(kept, np.intp).reshape(-1)
    return places


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise OptionError(
            "this model's boxes overlap, and what suppresses all but the best of them needs OpenCV",
            'pip install "edge-accelerate[vision]"',
        ) from error
    return cv2
