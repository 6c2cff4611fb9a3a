"""One model's answer to one input set against the reference's, and what many of these come to.

What is compared goes by what the model is for: classes, boxes, a mask, or else values.

A classifier's answer is off where a score differs by more than 8 % of the highest, or where the reference gives the
other's first class so much less than its own. The bounds are measured: forms of one network, some rounded to uint8 or
int8, stay within 2.6 % on the mean of 20 inputs, and one answer in 500 is off (this package's network and MobileNets on
pictures). A channel of twice its scale leaves these bounds wherever the channel matters to the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..calls.conversion import Array
from ..vision import Classifications, Classifier, Detections, Detector, Segmentation, Segmenter, VisionTask

__all__ = ["Answer", "Difference", "answer_of", "compared", "is_suspect", "kind_of", "matched", "off_by"]

#: From which share of the reference's range on an answer is off, and far off; and how much all may be off on the mean.
OFF, FAR_OFF, MEAN = 0.08, 0.2, 0.03
#: Of so many answers one may be off by rounding alone, and one in all.
_ONE_OF = 50
#: Which share of the boxes may lack a partner, and how many in all; which share of the pixels may differ.
BOXES, _FEW_BOXES, PIXELS = 0.1, 2, 0.05
#: From which score on a box has to have a partner, and down to which score that may be.
CONFIDENT, PARTNER = 0.4, 0.2
#: How much of their union two boxes share at least that are the same object.
SAME_BOX = 0.5
_FIVE = 5
_ALL = 1_000_000
_INFINITE = 1e300  # which JSON can hold
_TOLD = 5  # classes or boxes of an answer in the report


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of one input.

    Attributes
    ----------
    values : sequence of numpy.ndarray
        The outputs as real numbers, in the reference's order and shapes.
    decoded : Classifications, Detections, Segmentation or None
        Of the whole frame: all classes, and all boxes that may be partners.
    """

    values: Sequence[Array]
    decoded: Any = None

    def told(self) -> list[dict[str, Any]]:
        """Return the first of its classes or boxes, as JSON can hold them."""
        if not isinstance(self.decoded, (Classifications, Detections)):
            return []
        found = []
        for one in self.decoded[:_TOLD]:
            if isinstance(self.decoded, Detections) and one.score < CONFIDENT:
                break
            said = {"label": one.label, "index": one.index, "score": round(one.score, 4)}
            box = getattr(one, "box", None)
            if not np.isfinite((one.score, *(box or ()))).all():
                continue  # JSON has no such numbers
            found.append(said if box is None else {**said, "box": [round(side, 1) for side in box]})
        return found


@dataclass(frozen=True)
class Difference:
    """How one answer differs from the reference's.

    Attributes
    ----------
    top1, top5 : bool or None
        The reference's first class is the other's, or among its first five; where one has ties, any of them.
    boxes : (int, int) or None
        How many confident boxes of both have a partner, and how many there are.
    pixels : float or None
        The share of the mask that is the same.
    parts : tuple of (float, float, float)
        By how much it is off, and the least and the most that the reference has there: of the scores, or of each output
        where values are compared; a share from 0 to 1 of what is counted.
    """

    parts: tuple[tuple[float, float, float], ...]
    top1: bool | None = None
    top5: bool | None = None
    boxes: tuple[int, int] | None = None
    pixels: float | None = None


def kind_of(task: VisionTask[Any] | None) -> str:
    """Return what of the answers is compared."""
    for sort, kind in ((Classifier, "classes"), (Detector, "boxes"), (Segmenter, "mask")):
        if isinstance(task, sort):
            return kind
    return "values"


def answer_of(task: VisionTask[Any] | None, values: Mapping[str, Array], geometry: Any) -> Answer:
    """Decode outputs that are real numbers under the names of the task's model."""
    decoded: Any = None
    if isinstance(task, Classifier):
        decoded = task.decode(values, max_results=_ALL, min_score=0.0)
    elif isinstance(task, Detector) and geometry is not None:
        decoded = task.decode(values, geometry, min_score=PARTNER)
    elif isinstance(task, Segmenter) and geometry is not None:
        decoded = task.decode(values, geometry)
    return Answer(list(values.values()), decoded)


def compared(reference: Answer, other: Answer) -> Difference:
    """Set one answer against the reference's."""
    want, got = reference.decoded, other.decoded
    if isinstance(want, Classifications) and isinstance(got, Classifications):
        return _classes(want, got)
    if isinstance(want, Detections) and isinstance(got, Detections):
        found, of = matched(want, got)
        return _counted(0.0 if found == of else 1 - found / of, boxes=(found, of))
    if isinstance(want, Segmentation) and isinstance(got, Segmentation):
        same = float(np.mean(want.mask == got.mask))
        return _counted(1 - same, pixels=same)
    pairs = zip(reference.values, other.values, strict=True)
    return Difference(tuple((_rms(ours, theirs), *_extremes(ours)) for ours, theirs in pairs))


def _counted(off: float, **found: Any) -> Difference:
    return Difference(((off, 0.0, 1.0),), **found)


def _classes(want: Classifications, got: Classifications) -> Difference:
    size = 1 + int(max(want.classes.max(initial=0), got.classes.max(initial=0)))
    scores = []
    for one in (want, got):
        dense = np.zeros(size)  # what is not listed has less
        dense[one.classes] = one.scores
        scores.append(dense)
    ours, theirs = scores
    if not len(want) or not len(got):
        same = len(want) == len(got)
        return _counted(0.0 if same else 1.0, top1=same, top5=same)
    first = theirs.argmax()
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours - theirs)
    largest = float(np.where(np.isnan(apart), 0.0, apart).max(initial=0.0))  # both infinite
    off = max(largest, float(ours.max() - ours[first]))
    best = ours == ours.max()
    fifth = np.sort(theirs)[-min(_FIVE, size)]
    # quantised scores tie; where all do, none is first
    top1 = bool((best & (theirs == theirs.max())).any()) and (len(np.unique(got.scores)) > 1 or len(got) == 1)
    top5 = bool((best & (theirs >= fifth)).any())
    return Difference(((off, 0.0, float(ours.max())),), top1, top5)


def matched(want: Detections, got: Detections) -> tuple[int, int]:
    """Return how many confident boxes of both have a partner of the same class in the other, and how many there are.

    A partner shares half of the union or more, is no other box's, and may score down to half as much: which of two
    models finds a box on the edge of a threshold is chance.
    """
    found = of = 0
    for ours, theirs in ((want, got), (got, want)):
        taken = np.zeros(len(theirs), bool)
        for row in np.flatnonzero(ours.scores >= CONFIDENT):  # best first
            of += 1
            free = (theirs.classes == ours.classes[row]) & ~taken
            shared = np.where(free, _shared(ours.boxes[row], theirs.boxes), 0.0)
            if shared.max(initial=0.0) >= SAME_BOX:
                taken[shared.argmax()] = True
                found += 1
    return found, of


def _shared(box: Array, boxes: Array) -> Array:
    """Return how much of their union a box shares with each of some others."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    sizes = [(one[..., 2:] - one[..., :2]).prod(axis=-1) for one in (box, boxes)]
    both = sizes[0] + sizes[1] - common
    shared: Array = np.divide(common, both, out=np.zeros_like(common), where=both > 0)
    return shared


def _rms(want: Array, got: Array) -> float:
    """Return the root of the mean square of what two outputs differ by; `_INFINITE` for no number."""
    if want.shape != got.shape:
        return _INFINITE
    if want.dtype.hasobject or got.dtype.hasobject:
        return 0.0 if np.array_equal(want, got) else _INFINITE
    both = np.isnan(want) & np.isnan(got)
    with np.errstate(all="ignore"):
        apart = np.where(both | (want == got), 0.0, np.abs(want.astype(np.float64) - got))
        mean = float(np.sqrt(np.mean(np.square(apart)))) if apart.size else 0.0
    return mean if np.isfinite(mean) else _INFINITE


def _extremes(values: Array) -> tuple[float, float]:
    finite = values[np.isfinite(values)] if values.dtype.kind in "fiub" else values[:0]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


# What they come to


def off_by(differences: Sequence[Difference]) -> list[float]:
    """Return by how much each answer is off, as a share of what the reference's answers span on all inputs."""
    spans = []
    for same in zip(*(one.parts for one in differences), strict=True):
        low, high = min(low for _, low, _ in same), max(high for _, _, high in same)
        spans.append(high - low or max(abs(low), abs(high)) or 1.0)
    return [
        max((min(_INFINITE, off / span) for (off, *_), span in zip(one.parts, spans, strict=True)), default=0.0)
        for one in differences
    ]


def is_suspect(differences: Sequence[Difference], off: Sequence[float]) -> bool:
    """Return whether answers differ by more than rounding explains."""
    boxes = [one.boxes for one in differences if one.boxes is not None]
    if boxes:
        of = sum(count for _, count in boxes)
        return of - sum(found for found, _ in boxes) > max(_FEW_BOXES, BOXES * of)
    mean = sum(off) / max(1, len(off))
    if any(one.pixels is not None for one in differences):
        return mean > PIXELS
    weight = sum((one > OFF) + (one > FAR_OFF) for one in off)  # who is far off counts twice
    return mean > MEAN or weight > max(1, len(off) // _ONE_OF)
