"""What the tasks answer: sequences of typed results, best first, that are arrays underneath."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Generic, TypeVar, overload

import numpy as np

from .._records import record
from ..calls.conversion import Array
from ..metadata import Metadata, printable

__all__ = [
    "Classification",
    "Classifications",
    "Detection",
    "Detections",
    "Pose",
    "Poses",
    "Segmentation",
]

_Item = TypeVar("_Item")
#: A box or a pose without any area around it, in the frame's pixels: xmin, ymin, xmax, ymax.
Box = tuple[float, float, float, float]


def _same(one: Any, other: Any) -> Any:
    """Compare results of one type by their values, arrays too; a mask that nobody has drawn yet does not count."""
    if type(other) is not type(one):
        return NotImplemented
    names = (field.name for field in fields(one) if field.name != "draw_mask")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def _digest(one: Any) -> int:
    values = (getattr(one, field.name) for field in fields(one))
    return hash(tuple(value for value in values if isinstance(value, (str, int, float, tuple))))


@record(frozen=True)
class Classification:
    """A class that the model sees in the frame.

    Attributes
    ----------
    label : str
        Its name, else its index as text.
    score : float
    index : int
        Of the class among the model's scores, or of its label where the two are counted differently.
    """

    label: str
    score: float
    index: int


@record(frozen=True)
class Detection:
    """An object that the model found.

    Attributes
    ----------
    label : str
        The name of its class, else the class's index as text.
    score : float
    index : int
        Of the class among the labels.
    box : tuple of float
        xmin, ymin, xmax, ymax in the frame's pixels, counted from the outer edges of its first row and column. Of an
        object in a slanted box the upright box around that.
    keypoints : numpy.ndarray or None
        (K, 3): x and y in the frame's pixels, and a score.
    corners : numpy.ndarray or None
        (4, 2): those of a slanted box, in the frame's pixels.
    """

    label: str
    score: float
    index: int
    box: Box
    keypoints: Array | None = None
    corners: Array | None = None
    draw_mask: Callable[[], Array] | None = None

    __eq__, __hash__ = _same, _digest

    @property
    def mask(self) -> Array | None:
        """Bool (H, W) of the frame: where the object is; None where the model does not say it. Drawn at each call."""
        return None if self.draw_mask is None else self.draw_mask()


@record(frozen=True)
class Pose:
    """A body, hand or face, by its points.

    Attributes
    ----------
    score : float
    keypoints : numpy.ndarray
        (K, 3): x and y in the frame's pixels, and a score.
    box : tuple of float
        xmin, ymin, xmax, ymax in the frame's pixels: the model's own, else the one around all points.
    """

    score: float
    keypoints: Array
    box: Box

    __eq__, __hash__ = _same, _digest


class _Results(Sequence[_Item], Generic[_Item]):
    """Rows of arrays, each of which reads as one result."""

    scores: Array

    def _item(self, row: int) -> _Item:
        raise NotImplementedError

    def _taken(self, rows: Any) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, row: int) -> _Item: ...
    @overload
    def __getitem__(self, row: slice | Array | list[int] | list[bool]) -> Any: ...
    def __getitem__(self, row: Any) -> Any:
        """Return one result by its place, or several, of the same type, by a slice, a mask or a list of places."""
        try:
            place = operator.index(row)
        except TypeError:
            if np.arange(len(self))[row].ndim != 1:
                raise IndexError(f"wanted a place, a slice, a mask or a list of places; got {row!r:.60}") from None
            return self._taken(row)
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} results; got the place {place}")
        return self._item(place % len(self))

    def __repr__(self) -> str:
        shown = ", ".join(self._briefly(8))
        return printable(f"<{type(self).__name__}: {len(self)}{': ' * bool(shown)}{shown}{', ...' * (len(self) > 8)}>")

    def _briefly(self, count: int) -> list[str]:
        return [f"{score:.2f}" for score in self.scores[:count].tolist()]


class _Labelled(_Results[_Item]):
    """Results that have classes."""

    classes: Array
    _metadata: Metadata

    @property
    def labels(self) -> Array:
        """The names of the classes, str (N,); a class without a name reads as its index."""
        return np.array([self._metadata.label(index) for index in self.classes.tolist()], dtype=str)

    def _briefly(self, count: int) -> list[str]:
        pairs = zip(self.classes[:count].tolist(), self.scores[:count].tolist(), strict=True)
        return [f"{self._metadata.label(index)} {score:.2f}" for index, score in pairs]


class Classifications(_Labelled[Classification]):
    """The classes that a model sees in a frame, best first.

    Attributes
    ----------
    scores : numpy.ndarray
        float32 (N,).
    classes : numpy.ndarray
        int64 (N,).
    """

    __slots__ = ("_metadata", "classes", "scores")

    def __init__(self, scores: Array, classes: Array, metadata: Metadata) -> None:
        self.scores, self.classes, self._metadata = scores, classes, metadata

    def _item(self, row: int) -> Classification:
        index = int(self.classes[row])
        return Classification(self._metadata.label(index), float(self.scores[row]), index)

    def _taken(self, rows: Any) -> Classifications:
        return Classifications(self.scores[rows], self.classes[rows], self._metadata)


class Detections(_Labelled[Detection]):
    """The objects that a model found in a frame, best first.

    Attributes
    ----------
    boxes : numpy.ndarray
        float32 (N, 4): xmin, ymin, xmax, ymax in the frame's pixels.
    scores : numpy.ndarray
        float32 (N,).
    classes : numpy.ndarray
        int64 (N,).
    keypoints : numpy.ndarray or None
        float32 (N, K, 3), where the model has some: x, y and a score.
    corners : numpy.ndarray or None
        float32 (N, 4, 2), where its boxes are slanted.
    """

    __slots__ = ("_draw_masks", "_masks", "_metadata", "boxes", "classes", "corners", "keypoints", "scores")

    def __init__(
        self,
        boxes: Array,
        scores: Array,
        classes: Array,
        metadata: Metadata,
        keypoints: Array | None = None,
        corners: Array | None = None,
        draw_masks: Callable[[Any], Array] | None = None,
    ) -> None:
        self.boxes, self.scores, self.classes, self._metadata = boxes, scores, classes, metadata
        self.keypoints, self.corners = keypoints, corners
        self._draw_masks = draw_masks
        self._masks: Array | None = None

    @property
    def masks(self) -> Array | None:
        """Bool (N, H, W) of the frame, None where the model has none; drawn when they are first asked for."""
        if self._masks is None and self._draw_masks is not None:
            self._masks = self._draw_masks(slice(None))
        return self._masks

    def _item(self, row: int) -> Detection:
        index = int(self.classes[row])
        return Detection(
            self._metadata.label(index),
            float(self.scores[row]),
            index,
            tuple(self.boxes[row].tolist()),
            None if self.keypoints is None else self.keypoints[row],
            None if self.corners is None else self.corners[row],
            None if self._draw_masks is None else partial(_drawn, self._draw_masks, row),
        )

    def _taken(self, rows: Any) -> Detections:
        draw = self._draw_masks
        places = np.arange(len(self))[rows]
        return Detections(
            self.boxes[rows],
            self.scores[rows],
            self.classes[rows],
            self._metadata,
            None if self.keypoints is None else self.keypoints[rows],
            None if self.corners is None else self.corners[rows],
            None if draw is None else partial(_drawn_of, draw, places),
        )


def _drawn_of(draw: Callable[[Any], Array], places: Array, some: Any) -> Array:
    return draw(places[some])


def _drawn(draw: Callable[[Any], Array], row: int) -> Array:
    mask: Array = draw(slice(row, row + 1))[0]
    return mask


class Poses(_Results[Pose]):
    """The bodies, hands or faces that a model found in a frame, best first.

    Attributes
    ----------
    keypoints : numpy.ndarray
        float32 (N, K, 3): x and y in the frame's pixels, and a score.
    scores : numpy.ndarray
        float32 (N,).
    boxes : numpy.ndarray
        float32 (N, 4): xmin, ymin, xmax, ymax in the frame's pixels.
    """

    __slots__ = ("boxes", "keypoints", "scores")

    def __init__(self, scores: Array, keypoints: Array, boxes: Array) -> None:
        self.scores, self.keypoints, self.boxes = scores, keypoints, boxes

    def _item(self, row: int) -> Pose:
        return Pose(float(self.scores[row]), self.keypoints[row], tuple(self.boxes[row].tolist()))

    def _taken(self, rows: Any) -> Poses:
        return Poses(self.scores[rows], self.keypoints[rows], self.boxes[rows])


@record(frozen=True)
class Segmentation:
    """Which class each pixel of a frame belongs to.

    Attributes
    ----------
    mask : numpy.ndarray
        uint8, or int32 where there are more than 255 classes, (H, W) of the frame: indices of classes. `UNSEEN` where
        the model has not seen the frame, which "crop" cuts off.
    labels : tuple of str
        The names of the classes by index, as far as they have names.
    """

    #: What `mask` has where the model was not shown the frame.
    UNSEEN = 255

    mask: Array
    labels: tuple[str, ...]

    __eq__, __hash__ = _same, _digest

    @property
    def classes(self) -> Array:
        """The indices of the classes that are in the frame, in order, int64."""
        found = np.unique(self.mask)
        seen: Array = found[found != self.UNSEEN].astype(np.int64)
        return seen

    def label(self, index: int) -> str:
        """Return the name of a class, or its index as text where it has none."""
        return (self.labels[index] if 0 <= index < len(self.labels) else "") or str(index)
