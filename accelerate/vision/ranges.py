"""Whether quantised outputs can hold the numbers that a layout says they hold."""

from __future__ import annotations

import numpy as np

from ..errors import OptionError
from .layout import Layout
from .outputs import Known, Output

__all__ = ["check_ranges"]

#: Real values up to which a box in shares of the tensor reaches.
_SHARES = 2.0
#: Steps that leave no more than four scores.
_COARSEST = 0.25


def check_ranges(layout: Layout, known: Known) -> None:
    """Refuse outputs whose scale cannot hold the boxes: all of them are wrong, and nothing else would show it.

    A converter that quantises a table of boxes and scores by one scale may have taken it from the scores.

    Raises
    ------
    OptionError
    """
    part = "rows" if layout.name("rows") else "boxes"
    outputs = {one.name: one for one in known.outputs}
    for name in layout.names(part):
        if name not in outputs or (found := _range(outputs[name])) is None:
            continue
        low, high = found
        wanted, step = "", (high - low) / 255
        if layout.boxes in ("grid", "") and layout.kind == "dense" and (low >= 0 or high <= 1):
            wanted = "offsets from a cell on either side and logarithms of sides, or pixels"
        elif layout.boxes in ("ltrb", "bins") and high <= 1:
            wanted = "distances in cells"
        elif (
            layout.unit == "pixels" and layout.boxes not in ("grid", "", "ltrb", "bins", "anchors") and high <= _SHARES
        ):
            wanted = "pixels"
        if not wanted and part == "rows" and layout.kind == "dense" and step > _COARSEST:
            raise OptionError(
                f"output {name!r} was quantised in steps of {step:.4g}, too coarse for the scores in it",
                "convert the model again without quantising its outputs, or with the scores in an output of their own",
            )
        if wanted:
            raise OptionError(
                f"output {name!r} was quantised so that it holds {low:.4g} to {high:.4g}, and its boxes are {wanted}: "
                "the model cuts them off, and all boxes would be wrong",
                "convert the model again without quantising its outputs, or with the boxes in an output of their own",
            )


def _range(one: Output) -> tuple[float, float] | None:
    """Return the least and the greatest real value of an output; None for one that was never quantised."""
    if (told := one.info.extra.get("range")) is not None:
        return told[0], told[1]
    q = one.info.quantization
    if q is None or q.axis is not None or one.info.data_type not in ("uint8", "int8"):
        return None
    limits = np.iinfo(one.info.data_type)
    return (limits.min - q.zero_point[0]) * q.scale[0], (limits.max - q.zero_point[0]) * q.scale[0]
