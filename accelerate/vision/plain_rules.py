"""Recognises outputs that hold no boxes: scores of classes, maps of pixels, points."""

from __future__ import annotations

from math import prod

from ..metadata import TensorInfo
from .layout import Layout
from .outputs import Known, Output
from .places import COCO_POINTS

__all__ = ["SUM_OFF", "pixels_layout", "plain_task", "points_layout", "scores_layout"]

_ACTIVATED = frozenset({"SOFTMAX", "LOGISTIC", "Softmax", "Sigmoid", "HardSigmoid"})
SUM_OFF = 0.1  # how far that of 1,001 probabilities of 8 bits may lie from 1
_MOST = {"uint8": 255, "int8": 127, "int16": 32767}
_SMALLEST = 8  # sides of a map of classes


def plain_task(known: Known) -> str:
    """Return the task that such outputs are for, where nobody has described them; "" where they may hold boxes."""
    alone = len(known.outputs) == 1
    if points_layout(known) is not None:
        return "PoseEstimator"
    if alone and known.task in ("", "classify") and scores_layout(known) is not None:
        return "Classifier"
    if alone and known.task in ("", "segment") and pixels_layout(known) is not None:
        return "Segmenter"
    return ""


def scores_layout(known: Known) -> Layout | None:
    """Return the layout of a classifier's outputs, None where nothing tells it."""
    fitting = [one for one in known.outputs if _may_be_scores(one)]
    labelled = [one for one in fitting if one.info.labels or any("prob" in n or "score" in n for n in one.names)]
    if len(fitting) > 1 and len(labelled) == 1:
        fitting = labelled
    if len(fitting) != 1 or (len(known.outputs) > 1 and not labelled):
        return None
    (one,) = fitting
    activated = one.port[0] in _ACTIVATED or _holds_shares(one.info)
    score = "probability" if activated or "scoreCalibration" in one.info.extra else ""
    return Layout("scores", {"scores": one.name}, score=score, source="graph" if activated else "shapes")


def _holds_shares(info: TensorInfo) -> bool:
    """Return whether the scale of a quantised output is one of probabilities: that of logits reaches further than 1."""
    q, most = info.quantization, _MOST.get(info.data_type)
    if q is None or most is None:
        return False
    return all((most - zero) * scale <= 1 + SUM_OFF for scale, zero in zip(q.scale, q.zero_point, strict=True))


def _may_be_scores(one: Output) -> bool:
    """Return whether an output may have one score for each class."""
    return not one.whole and bool(one.shape) and min(one.shape) > 0 and prod(one.shape) == max(one.shape) > 1


def pixels_layout(known: Known) -> Layout | None:
    """Return the layout of a segmenter's outputs, None where nothing tells it."""
    found = [layout for one in known.outputs if (layout := _pixels(one)) is not None]
    return found[0] if len(found) == 1 and (len(known.outputs) == 1 or known.task == "segment") else None


def _pixels(one: Output) -> Layout | None:
    shape = tuple(n for n in one.shape if n != 1)
    if len(shape) == 2 and min(shape) >= _SMALLEST and len(one.shape) <= 3:
        if one.whole or one.port[0] in ("ARG_MAX", "ArgMax"):
            return Layout("index", {"classes": one.name}, source="shapes")
        return Layout("mask", {"scores": one.name}, source="shapes") if len(one.shape) == 3 else None
    if len(shape) == 3 and len(one.shape) == 3 and sorted(shape)[1] >= _SMALLEST:
        return Layout("classes", {"scores": one.name}, source="shapes")
    return None


def points_layout(known: Known) -> Layout | None:
    """Return the layout of MoveNet's output, None for other models."""
    if len(known.outputs) != 1:
        return None
    (one,), (count, size) = known.outputs, COCO_POINTS
    if one.shape in ((1, count, size), (6, count * size + 5)) and known.task != "pose":
        return Layout("keypoints", {"keypoints": one.name}, "yxyx", "relative", keypoints=COCO_POINTS, source="shapes")
    return None
