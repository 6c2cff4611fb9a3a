"""What shapes tell of an output's places: whether they are cells of grids, and maps of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ..formats.classes import grid_cells
from .grids import boxes_per_cell
from .outputs import Known, Output

__all__ = ["COCO_POINTS", "channels_of", "is_stride", "places_of", "protos_of", "squeezed"]

#: The points of a body, and the values of each.
COCO_POINTS = (17, 3)


def protos_of(known: Known) -> Output | None:
    """Return the output with the prototypes of masks: maps a quarter as large as the picture beside another output."""
    if known.size is None or len(known.outputs) < 2:
        return None
    quarter = (known.size[0] // 4, known.size[1] // 4)
    maps = [one for one in known.outputs if len(one.shape) == 3 and quarter in (one.shape[1:], one.shape[:2])]
    return maps[0] if len(maps) == 1 else None


def channels_of(protos: Output, known: Known) -> int:
    """Return how many prototypes there are."""
    assert known.size is not None
    return prod(protos.shape) // grid_cells(known.size, (4,))


def places_of(known: Known, count: int) -> int:
    """Return how many boxes each cell of all strides has where there are so many places: 1 or 3, 0 for no such grid."""
    return 0 if known.size is None or count < 1 else boxes_per_cell(count, known.size)


def is_stride(known: Known, count: int) -> bool:
    """Return whether a map of one stride has so many cells."""
    return known.size is not None and any(grid_cells(known.size, (stride,)) == count for stride in (8, 16, 32, 64))


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape without sides of 1 around a table."""
    sides = list(shape)
    while len(sides) > 2 and 1 in sides:
        sides.remove(1)
    return tuple(sides)
