"""The places that detectors of the YOLO family look at, and what their numbers are told from."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..calls.conversion import Array

__all__ = ["Grid", "grid"]


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
