"""Decodes layouts that give objects one by one: "list", "rows" and "indexed"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite, prod

import numpy as np

from ..calls.conversion import Array
from ..errors import OptionError, TensorError
from .boxes import in_pixels, reach_of
from .candidates import Candidates
from .decoder import Decoder
from .layout import Layout

__all__ = ["Indexed", "Listed", "Rows", "box_columns", "points_of", "with_unit"]

_UNTOLD = 2.0  # shares of a side end near 1, pixels do not
_LONG = 7  # numbers of a row: an image, a box, a score and a class, or these two the other way round
_FILLED = 1e-6  # what fills a list up, with boxes of 0 or -1, has no better score


class Listed(Decoder):
    """One entry an object in each of several outputs."""

    @property
    def unsettled(self) -> bool:
        """See `Decoder`."""
        return not self.layout.unit

    def settle(self, outputs: Mapping[str, Array]) -> Layout:
        """See `Decoder`."""
        if not self.layout.unit:
            self.layout = with_unit(self.layout, self.decode(outputs, _FILLED).boxes)
        return self.layout

    def decode(self, outputs: Mapping[str, Array], floor: float) -> Candidates:
        """See `Decoder`."""
        layout = self.layout
        boxes, scores, classes = (outputs[layout.name(part)] for part in ("boxes", "scores", "classes"))
        boxes, scores, classes = _of_one_frame(boxes), scores.reshape(-1), classes.reshape(-1)
        if not boxes.size == 4 * scores.size == 4 * classes.size:
            raise TensorError(
                f"the boxes are {list(boxes.shape)}, the scores {list(scores.shape)} and the classes "
                f"{list(classes.shape)}; wanted four numbers, a score and a class for each of one frame's objects"
            )
        if name := layout.name("count"):
            count = float(outputs[name].reshape(-1)[0]) if outputs[name].size else 0.0
            scores = scores[: max(0, int(count))] if isfinite(count) else scores
        rows = (scores >= floor).nonzero()[0]
        found = in_pixels(boxes.reshape(-1, 4).take(rows, axis=0), layout.boxes, layout.unit, self._size)
        return Candidates(found, scores[rows], classes[rows])


class Rows(Decoder):
    """One row an object, in one output; the classes may stand in a second one."""

    @property
    def unsettled(self) -> bool:
        """See `Decoder`."""
        return not self.layout.unit or not self.layout.columns

    def settle(self, outputs: Mapping[str, Array]) -> Layout:
        """See `Decoder`."""
        if not self.layout.columns:
            self.layout = _with_columns(self.layout, self._table(outputs))
        if self.layout.columns and not self.layout.unit:
            self.layout = with_unit(self.layout, self.decode(outputs, _FILLED).boxes)
        return self.layout

    def decode(self, outputs: Mapping[str, Array], floor: float) -> Candidates:
        """See `Decoder`."""
        layout = self.layout
        table = self._table(outputs)
        if not layout.columns:  # nothing was found so far that could tell them
            table = table[:0]
        place = {name: i for i, name in enumerate(layout.columns or _UNKNOWN)}
        if table.shape[1] < len(place):
            raise TensorError(
                f"the rows have {table.shape[1]} numbers; wanted {len(layout.columns)}: {', '.join(layout.columns)}"
            )
        if "image" in place and (ends := np.flatnonzero(table[:, place["image"]] < 0)).size:
            table = table[: ends[0]]
        scores = table[:, place["score"]]
        if "objectness" in place:
            scores = scores * table[:, place["objectness"]]
        rows = (scores >= floor).nonzero()[0]
        if "class" in place:
            classes = table[rows, place["class"]]
        elif name := layout.name("classes"):
            classes = outputs[name].reshape(-1)[rows]
        else:
            classes = np.zeros(len(rows), np.int64)
        where, form = box_columns(layout) if layout.columns else ([0, 1, 2, 3], "xyxy")
        chosen = table[rows]
        more = chosen[:, len(layout.columns) :]
        keypoints, coefficients, angles = None, None, None
        if layout.keypoints:
            keypoints = points_of(more[:, : prod(layout.keypoints)], layout, self._size)
        if self._masks:
            coefficients = more[:, -self._masks :]
        boxes = chosen[:, where]
        if "angle" in place:
            angles = chosen[:, place["angle"]]
            scale = np.array((self._size[1], self._size[0]) * 2, np.float32) if layout.unit == "relative" else 1
            boxes = boxes * scale
        else:
            boxes = in_pixels(boxes, form, layout.unit, self._size)
        return Candidates(boxes, scores[rows], classes, keypoints, coefficients, angles)

    def _table(self, outputs: Mapping[str, Array]) -> Array:
        return _of_one_frame(outputs[self.layout.name("rows")])


class Indexed(Listed):
    """Boxes and scores of all candidates, and the indices (batch, class, place) of those that are objects."""

    def decode(self, outputs: Mapping[str, Array], floor: float) -> Candidates:
        """See `Decoder`."""
        layout = self.layout
        boxes, scores, indices = (outputs[layout.name(part)] for part in ("boxes", "scores", "indices"))
        if not boxes.size or scores.size % (boxes.size // 4):
            raise TensorError(f"the boxes are {list(boxes.shape)}, and the scores {list(scores.shape)}")
        boxes, scores = boxes.reshape(-1, 4), scores.reshape(-1, len(boxes.reshape(-1, 4)))
        indices = indices.reshape(-1, 3).astype(np.int64)
        inside = ((indices >= 0) & (indices < np.array((1, len(scores), len(boxes))))).all(axis=1)
        indices = indices[inside]  # runtimes fill up with -1
        found = scores[indices[:, 1], indices[:, 2]]
        rows = indices[found >= floor]
        corners = in_pixels(boxes[rows[:, 2]], layout.boxes, layout.unit, self._size)
        return Candidates(corners, found[found >= floor], rows[:, 1])


def _of_one_frame(given: Array) -> Array:
    """Return an output as rows."""
    if not given.ndim or prod(given.shape[:-2]) != 1:
        raise TensorError(f"an output is {given.dtype}{list(given.shape)}; wanted the rows of one frame")
    return given.reshape(-1, given.shape[-1])


def points_of(values: Array, layout: Layout, size: tuple[int, int]) -> Array:
    """Return keypoints (n, K, 3) in the tensor's pixels; points without a score have 1, those of anchors are shares."""
    points = values.reshape(len(values), *layout.keypoints)
    if layout.unit == "relative" or layout.boxes.startswith("deltas"):
        points = points * np.array((size[1], size[0], 1)[: points.shape[2]], np.float32)
    if points.shape[2] == 2:
        points = np.concatenate((points, np.ones((*points.shape[:2], 1), points.dtype)), axis=2)
    return points


_UNKNOWN = ("xmin", "ymin", "xmax", "ymax", "score", "class")
_FORMS = {
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("xmin", "ymin", "width", "height"): "xywh",
    ("x", "y", "width", "height"): "cxcywh",
}


def box_columns(layout: Layout) -> tuple[list[int], str]:
    """Return the columns of the four numbers of a box, and what these are.

    Raises
    ------
    OptionError
        There is no box among them.
    """
    for names, form in _FORMS.items():
        if set(names) <= set(layout.columns):
            return [layout.columns.index(name) for name in names], form
    raise OptionError(
        f"the layout's columns are {', '.join(layout.columns)}; wanted a box among them: "
        f"{', or '.join(' '.join(names) for names in _FORMS)}"
    )


def _with_columns(layout: Layout, table: Array) -> Layout:
    """Tell a score from a class: of the last two columns of rows of seven numbers the classes are whole."""
    if table.shape[1] != _LONG:
        raise TensorError(
            f"the rows have {table.shape[1]} numbers, and nothing tells what these are",
            "give layout={'columns': 'xmin ymin xmax ymax score class'}, in the order that they have",
        )
    fractional = (table[np.isfinite(table).all(axis=1), 5:7] % 1 != 0).any(axis=0)
    if fractional[0] == fractional[1]:  # nothing was found that could tell
        return layout
    last = ("score", "class") if fractional[0] else ("class", "score")
    corners = ("ymin", "xmin", "ymax", "xmax") if layout.boxes == "yxyx" else ("xmin", "ymin", "xmax", "ymax")
    return replace(layout, columns=("-", *corners, *last), source="values")


def with_unit(layout: Layout, *boxes: Array) -> Layout:
    """Tell pixels from shares, as soon as there is a box."""
    reach = max(map(reach_of, boxes))
    if not reach:
        return layout
    return replace(layout, unit="pixels" if reach > _UNTOLD else "relative", source="values")
