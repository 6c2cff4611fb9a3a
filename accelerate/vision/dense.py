"""Decodes "dense" layouts: a box and scores for each place that the model looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from ..calls.conversion import Array
from ..errors import OptionError, TensorError
from ..formats.classes import grid_cells
from .boxes import corners_of, points_from, reach_of, sigmoid, softmax
from .candidates import Candidates
from .completeness import check_background
from .decoder import Decoder
from .grids import Grid, boxes_per_cell, grid, strides_of
from .layout import Layout
from .lists import points_of, with_unit

__all__ = ["Dense", "is_map"]

#: Forms of boxes that go by the cells of a grid.
_BY_CELLS = ("", "ltrb", "bins", "grid", "anchors")
_BY_ANCHORS = ("deltas", "deltas_yx")
_ALL_STRIDES = (4, 8, 16, 32, 64, 128)
_ROUNDING = 1e-5
_TOLERANCE = 1e-3  # of probabilities, which quantisation may lift above 1


class _Part(NamedTuple):
    """The places of one output, or of one stride."""

    codes: Array  # (n, 4), or (n, 4 * bins)
    scores: Array  # (n, classes)
    objectness: Array | None  # (n,)
    more: Array | None  # (n, ...): coefficients of masks, keypoints or an angle
    first: int  # among all places


class Dense(Decoder):
    """A box and scores for each of many places, in one output, in several, or in several of each stride."""

    def __init__(self, layout: Layout, size: tuple[int, int], masks: int) -> None:
        super().__init__(layout, size, masks)
        self._named = _by_stride(layout)
        self._cells: Grid | None = None
        self._anchors: Array | None = None
        self._places = -1  # that these two are for

    @property
    def unsettled(self) -> bool:
        """See `Decoder`."""
        return "" in (self.layout.boxes, self.layout.score) or self._needs_unit

    @property
    def _needs_unit(self) -> bool:
        return not self.layout.unit and self.layout.boxes not in (*_BY_CELLS, *_BY_ANCHORS)

    def settle(self, outputs: Mapping[str, Array]) -> Layout:
        """See `Decoder`."""
        layout, parts = self.layout, self._parts(outputs)
        if not layout.score:
            layout = replace(layout, score=_activation(parts), source="values")
        if not layout.boxes:
            # undecoded they count cells, and lie around their own cell's corner
            reach = max(reach_of(part.codes[:, :2]) for part in parts)
            boxes = "cxcywh" if reach > self._size[1] / 8 else "grid"
            layout = replace(layout, boxes=boxes, unit="pixels", source="values")
        self.layout = layout
        if self._needs_unit:
            self.layout = with_unit(layout, *(part.codes for part in parts))
        return self.layout

    def decode(self, outputs: Mapping[str, Array], floor: float) -> Candidates:
        """See `Decoder`."""
        parts = self._parts(outputs)
        self._prepare(parts)
        found = [self._decoded(part, floor) for part in parts]
        return found[0] if len(found) == 1 else Candidates.joined(found)

    def _decoded(self, part: _Part, floor: float) -> Candidates:
        layout = self.layout
        rows, scores, classes = _best(part, floor, layout)
        codes = part.codes[rows]
        boxes = corners_of(codes, rows + part.first, layout, self._size, self._cells, self._anchors)
        more = None if part.more is None else part.more[rows]
        keypoints = coefficients = angles = None
        if more is not None and layout.angle:
            angles, more = more[:, -1], more[:, :-1]
            boxes = np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), axis=1)
        if more is not None and layout.keypoints:
            points = more[:, : prod(layout.keypoints)]
            if layout.boxes in _BY_ANCHORS:
                assert self._anchors is not None
                points = points_from(points, self._anchors[rows + part.first], layout)
            keypoints = points_of(points, layout, self._size)
            more = more[:, prod(layout.keypoints) :]
        if more is not None and self._masks:
            coefficients = more
        return Candidates(boxes, scores, classes, keypoints, coefficients, angles)

    def _prepare(self, parts: Sequence[_Part]) -> None:
        """Lay the grid, once for as many places."""
        layout, counts = self.layout, [len(part.codes) for part in parts]
        if sum(counts) == self._places:
            return
        if layout.boxes in _BY_CELLS:
            per_cell = len(layout.anchors[0]) if layout.boxes == "anchors" else 1
            strides = self._find_strides([count // per_cell for count in counts])
            if layout.boxes == "anchors":
                if len(strides) != len(layout.anchors):
                    raise TensorError(
                        f"the outputs have {len(strides)} strides, and the layout's anchors are those of "
                        f"{len(layout.anchors)}"
                    )
                self._cells, self._anchors = _repeated(self._size, strides, layout.anchors)
            else:
                self._cells = grid(self._size, strides)
        if layout.boxes in _BY_ANCHORS:
            self._anchors = np.array(layout.anchors, np.float32)
            if self._anchors.shape != (sum(counts), 4):
                raise TensorError(
                    f"the outputs have {sum(counts)} places, and the layout's anchors are {list(self._anchors.shape)}; "
                    "wanted four numbers for each place"
                )
        self._places = sum(counts)

    def _find_strides(self, counts: Sequence[int]) -> tuple[int, ...]:
        if len(counts) == 1:
            strides = strides_of(counts[0], self._size)
        else:
            strides = tuple(round((self._size[0] * self._size[1] / max(count, 1)) ** 0.5) for count in counts)
        if not strides or 0 in strides or grid_cells(self._size, strides) != sum(counts):
            height, width = self._size
            raise TensorError(
                f"the outputs have {' + '.join(map(str, counts))} places, which are no cells of a tensor of "
                f"{height} x {width} pixels; wanted those of strides such as 8, 16 and 32",
                "give the geometry of the tensor that the outputs come from",
            )
        return strides

    def _parts(self, outputs: Mapping[str, Array]) -> list[_Part]:
        parts, first = [], 0
        for names in self._named:
            given = {part: outputs[name] for part, name in names.items()}
            part = self._from_rows(given["rows"]) if "rows" in given else self._from_several(given)
            parts.append(part._replace(first=first))
            first += len(part.codes)
        return parts

    def _from_rows(self, given: Array) -> _Part:
        layout = self.layout
        extras = self._masks + prod(layout.keypoints) * bool(layout.keypoints) + layout.angle
        table = self._anchored(given) if layout.boxes == "anchors" else self._upright(_table(given, self._size))
        begin = 4 + layout.objectness
        end = table.shape[1] - extras
        if end <= begin:
            raise TensorError(
                f"rows of {table.shape[1]} numbers have no room for a box, {'its score, ' * layout.objectness}"
                f"scores of classes and {extras} more",
                "give the layout that the model has",
            )
        objectness = table[:, 4] if layout.objectness else None
        return _Part(table[:, :4], table[:, begin:end], objectness, table[:, end:] if extras else None, 0)

    def _anchored(self, given: Array) -> Array:
        """Return a row for each box of each cell, of an output whose cells have several."""
        per_cell = len(self.layout.anchors[0])
        cube = given
        while cube.ndim > 3 and cube.shape[0] == 1:
            cube = cube[0]
        if cube.ndim == 3:  # (boxes * numbers, rows, columns), or these last
            cube = cube if is_map(cube.shape[1:], self._size) else np.moveaxis(cube, 2, 0)
            if cube.shape[0] % per_cell == 0:
                cube = np.moveaxis(cube.reshape(per_cell, -1, *cube.shape[1:]), 1, 3)
        if cube.ndim != 4 or cube.shape[0] != per_cell:
            raise TensorError(
                f"an output is {given.dtype}{list(given.shape)}; wanted the numbers of {per_cell} boxes for each cell",
                "see the layout's anchors",
            )
        return cube.reshape(-1, cube.shape[3])

    def _upright(self, table: Array) -> Array:
        """Return the table with a row for each place: there are more of these than columns."""
        n, m = table.shape
        if boxes_per_cell(n, self._size):
            return table
        return table.T if m > n or boxes_per_cell(m, self._size) else table

    def _from_several(self, given: Mapping[str, Array]) -> _Part:
        tables = {part: _table(array, self._size) for part, array in given.items()}
        places = _common(tables["boxes"].shape, tables["scores"].shape)
        if places is None:
            raise TensorError(
                f"the boxes are {list(given['boxes'].shape)} and the scores {list(given['scores'].shape)}; wanted as "
                "many of either"
            )
        upright = {part: t if t.shape[0] == places else t.T for part, t in tables.items()}
        objectness, more = upright.get("objectness"), upright.get("coefficients")
        codes = upright["boxes"]
        if self.layout.keypoints and codes.shape[1] == 4 + prod(self.layout.keypoints):
            more, codes = codes[:, 4:], codes[:, :4]
        return _Part(codes, upright["scores"], None if objectness is None else objectness[:, 0], more, 0)


def _by_stride(layout: Layout) -> list[dict[str, str]]:
    """Return the names of the outputs of each part, for one stride after the other."""
    names = {part: layout.names(part) for part in layout.outputs if part != "protos"}
    counts = {len(some) for some in names.values()}
    if len(counts) != 1 or not ("rows" in names or {"boxes", "scores"} <= names.keys()):
        raise OptionError(
            f"the layout's outputs are {dict(layout.outputs)!r:.200}; wanted 'rows', or 'boxes' and 'scores', and as "
            "many outputs of each part"
        )
    return [dict(zip(names, some, strict=True)) for some in zip(*names.values(), strict=True)]


def _best(part: _Part, floor: float, layout: Layout) -> tuple[Array, Array, Array]:
    """Return the rows whose best class may have the score, with that score and class."""
    scores, activation = part.scores, layout.score
    if activation == "softmax":
        scores = softmax(scores)
    background = layout.background
    if background is not None:
        check_background(background, scores.shape[1])
        keep = np.arange(scores.shape[1]) != background % scores.shape[1]
        scores = scores[:, keep]
    made = activation == "sigmoid"
    least = _logit(floor) if made else floor
    if part.objectness is not None:
        rows = np.flatnonzero(part.objectness >= least)
        factor = part.objectness[rows, np.newaxis]
        of_them = sigmoid(scores[rows]) * sigmoid(factor) if made else scores[rows] * factor
        made = False  # of them all
    else:
        rows = _rows_with(scores, least)
        of_them = scores[rows]
    classes = of_them.argmax(axis=1)
    best = of_them[np.arange(len(rows)), classes]
    if made:
        best = sigmoid(best)
    if background is not None:
        classes = classes + (classes >= background % part.scores.shape[1])
    return rows, best, classes


def _rows_with(scores: Array, least: float) -> Array:
    """Return the rows that have a score of at least `least`."""
    if scores.flags.c_contiguous or scores.strides[1] < scores.strides[0]:
        # classes side by side: reducing such short rows takes NumPy longer than comparing all of their values
        hits = np.flatnonzero(scores >= least) // scores.shape[1]
        rows: Array = hits[np.diff(hits, prepend=-1) > 0]
        return rows
    return np.flatnonzero(scores.max(axis=1) >= least)


def _logit(share: float) -> float:
    """Return what has such a sigmoid, or one a little smaller: float32 rounds it, and the sigmoid is compared later."""
    share *= 1 - _ROUNDING
    with np.errstate(divide="ignore"):
        return float(np.log(share / (1 - share)))


def _activation(parts: Sequence[_Part]) -> str:
    """Return what makes probabilities of the scores, by their values."""
    low = min(float(part.scores.min(initial=0, where=np.isfinite(part.scores))) for part in parts)
    return "sigmoid" if low < 0 or max(reach_of(part.scores) for part in parts) > 1 + _TOLERANCE else "probability"


def _table(given: Array, size: tuple[int, int]) -> Array:
    """Return an output of one frame with two axes; the rows and columns of a map of cells become one."""
    table = given
    while table.ndim > 3 and table.shape[0] == 1:
        table = table[0]
    if table.ndim == 3 and is_map(table.shape[1:], size):
        table = table.reshape(table.shape[0], -1)
    elif table.ndim == 3 and is_map(table.shape[:2], size):
        table = table.reshape(-1, table.shape[2])
    elif table.ndim == 3 and 1 in (table.shape[0], table.shape[2]):
        table = table[0] if table.shape[0] == 1 else table[:, :, 0]
    if table.ndim != 2:
        raise TensorError(f"an output is {given.dtype}{list(given.shape)}; wanted a table of one frame")
    return table


def is_map(sides: Sequence[int], size: tuple[int, int]) -> bool:
    """Return whether these are the rows and columns of cells."""
    return any((size[0] // stride, size[1] // stride) == tuple(sides) for stride in _ALL_STRIDES)


def _common(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Return the length that two tables share, the greater where they share both."""
    return max(set(one) & set(other), default=None)


def _repeated(
    size: tuple[int, int], strides: Sequence[int], anchors: Sequence[Sequence[Sequence[float]]]
) -> tuple[Grid, Array]:
    """Return the cells of each stride as often as it has boxes, and these boxes' sizes, (places, 2)."""
    corners, sides, sizes = [], [], []
    for stride, boxes in zip(strides, anchors, strict=True):
        one = grid(size, (stride,))
        for box in boxes:
            corners.append(one.corners)
            sides.append(one.strides)
            sizes.append(np.broadcast_to(np.asarray(box, np.float32), one.corners.shape))
    return Grid(np.concatenate(corners), np.concatenate(sides)), np.concatenate(sizes)
