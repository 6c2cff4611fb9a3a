"""The places that detectors of the YOLO family look at, and what their numbers are told from."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..calls.conversion import Array
from ..formats.classes import grid_cells

__all__ = ["Grid", "boxes_per_cell", "grid", "strides_of"]

#: Where a network's own strides end.
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32))


class Grid(NamedTuple):
    """Cells row by row, one stride after the other."""

    corners: Array  # float32 (cells, 2): x and y of a cell's upper left corner, counted in cells
    strides: Array  # float32 (cells, 1): its side in pixels


@lru_cache(maxsize=16)
def grid(size: tuple[int, int], strides: tuple[int, ...]) -> Grid:
    """Return the cells of a tensor of (height, width)."""
    corners, sides = [], []
    for stride in strides:
        rows, columns = size[0] // stride, size[1] // stride
        x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
        corners.append(np.stack((x.ravel(), y.ravel()), axis=1))
        sides.append(np.full((rows * columns, 1), stride, np.float32))
    return Grid(np.concatenate(corners), np.concatenate(sides))


@lru_cache(maxsize=256)
def strides_of(places: int, size: tuple[int, int]) -> tuple[int, ...]:
    """Return the strides whose cells are so many in a tensor of (height, width), () where none are."""
    return next((strides for strides in _STRIDES if grid_cells(size, strides) == places), ())


def boxes_per_cell(places: int, size: tuple[int, int]) -> int:
    """Return how many boxes each cell of all strides has where there are so many places: 1 or 3, 0 for no such grid."""
    if strides_of(places, size):
        return 1
    return 3 if places % 3 == 0 and strides_of(places // 3, size) else 0
