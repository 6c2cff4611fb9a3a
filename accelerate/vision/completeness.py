"""Whether a layout that somebody wrote says all that its decoder needs, before there is an answer to decode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import OptionError, TensorError
from .layout import CORNERS, KINDS, Layout
from .lists import box_columns

__all__ = ["check_background", "check_complete"]

_NEEDED: Mapping[str, tuple[str, ...]] = {
    **KINDS,
    "list": ("boxes", "classes", "scores"),
    "rows": ("rows",),
    "dense": ("boxes", "scores"),
}
_LISTED = (*CORNERS, "xywh", "yxhw", "cxcywh", "cycxhw")


def check_complete(layout: Layout) -> None:
    """Refuse a layout without an output, the form of the boxes or the anchors that its kind needs.

    Raises
    ------
    OptionError
    """
    what = "layout" if layout.source == "user" else layout.source
    needed = ("rows",) if layout.kind == "dense" and layout.boxes == "anchors" else _NEEDED[layout.kind]
    missing = [part for part in needed if not layout.name(part)]
    if missing and not (layout.kind == "dense" and layout.name("rows")):
        also = " (or 'rows')" if layout.kind == "dense" and len(needed) > 1 else ""
        raise OptionError(
            f"{what}: of kind {layout.kind!r} the outputs hold {', '.join(map(repr, needed))}{also}; without a name is "
            f"{', '.join(map(repr, missing))}",
            "give the outputs by what each holds: layout={'outputs': {…}}",
        )
    if layout.kind in ("list", "indexed") and layout.boxes not in _LISTED:
        raise OptionError(
            f"{what}: boxes is {layout.boxes!r}, which only 'dense' outputs have; wanted, of kind {layout.kind!r}, one "
            f"of {', '.join(map(repr, _LISTED))}"
        )
    if layout.kind == "rows" and layout.columns:
        box_columns(layout)
        if "score" not in layout.columns:
            raise OptionError(f"{what}: the columns are {', '.join(layout.columns)}; wanted a score among them")
    if layout.kind == "dense":
        _check_anchors(layout, what)


def _check_anchors(layout: Layout, what: str) -> None:
    """Refuse anchors of another form than that of the boxes wants."""
    if layout.boxes in ("deltas", "deltas_yx") and not _are(layout.anchors, 4):
        wanted = "(x, y, width, height) of each place"
    elif layout.boxes == "anchors" and not (layout.anchors and all(_are(stride, 2) for stride in layout.anchors)):
        wanted = "for each stride the (width, height) of its boxes"
    elif layout.boxes == "anchors" and len({len(stride) for stride in layout.anchors}) > 1:
        wanted = "as many boxes for each stride"
    else:
        return
    raise OptionError(f"{what}: with boxes {layout.boxes!r}, anchors is {layout.anchors!r:.60}; wanted {wanted}")


def _are(given: Any, length: int) -> bool:
    """Return whether these are tuples of so many numbers, at least one."""
    if not isinstance(given, tuple) or not given:
        return False
    return all(isinstance(one, tuple) and len(one) == length and isinstance(one[0], float) for one in given)


def check_background(background: int, classes: int) -> None:
    """Refuse a background that is none of an answer's classes, or the only one.

    Raises
    ------
    TensorError
    """
    if classes < 2 or not -classes <= background < classes:
        raise TensorError(f"the layout's background is the class {background}, and the outputs have {classes} classes")
