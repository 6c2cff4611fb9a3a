"""Layout: what the outputs of a vision model hold, found by `recognition` or written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, replace
from typing import Any

import numpy as np

from .._records import record
from ..calls.names import NameIndex, suggestion
from ..errors import OptionError, TensorError
from ..formats.exporters import INDEX_LIMIT
from ..metadata import TensorInfo

__all__ = ["COLUMNS", "CORNERS", "KINDS", "GivenLayout", "Layout", "parse_box_order"]

#: The kinds of layout, with the parts that their outputs may hold.
KINDS: Mapping[str, tuple[str, ...]] = {
    "list": ("boxes", "classes", "scores", "count"),
    "rows": ("rows", "classes", "protos"),
    "indexed": ("boxes", "scores", "indices"),
    "dense": ("rows", "boxes", "scores", "objectness", "coefficients", "protos"),
    "scores": ("scores",),
    "classes": ("scores",),
    "index": ("classes",),
    "mask": ("scores",),
    "keypoints": ("keypoints",),
}
#: The orders of a box's corners, and where each of xmin, ymin, xmax and ymax stands in them.
CORNERS: Mapping[str, tuple[int, int, int, int]] = {
    "xyxy": (0, 1, 2, 3), "yxyx": (1, 0, 3, 2), "xxyy": (0, 2, 1, 3), "yyxx": (2, 0, 3, 1),
}  # fmt: skip
_BOXES = ("", *CORNERS, "xywh", "yxhw", "cxcywh", "cycxhw", "ltrb", "bins", "grid", "anchors", "deltas", "deltas_yx")
_UNITS = ("", "relative", "pixels")
_SCORES = ("", "probability", "sigmoid", "softmax")
#: What the columns of "rows" may hold.
COLUMNS = (
    "xmin", "ymin", "xmax", "ymax", "x", "y", "width", "height", "angle", "score", "objectness", "class", "image", "-",
)  # fmt: skip


@record(frozen=True)
class Layout:
    """What the outputs of a model hold.

    Attributes
    ----------
    kind : str
        "list": one entry an object in each of several outputs (boxes, classes, scores, count). "rows": one row an
        object. "indexed": boxes and scores of all candidates, and the indices of those that are objects. "dense": a box
        and scores for each place that the model looks at, nearly all of them without an object. "scores": one for each
        class. "classes": the same for each pixel. "index": the class of each pixel. "mask": one score for each pixel.
        "keypoints": the points of one body, or of several.
    outputs : mapping of str to str, or to sequence of str
        The names of the outputs by what they hold: "boxes", "classes", "scores", "count", "rows", "objectness",
        "indices", "coefficients", "protos", "keypoints". Several of one part follow each other, as the strides do.
    boxes : str
        What the four numbers of a box are. Corners: "xyxy", "yxyx", "xxyy", "yyxx". A corner and a size: "xywh",
        "yxhw". The middle and a size: "cxcywh", "cycxhw". And, for "dense", from the middle of each cell: "ltrb", the
        distances to the left, top, right and bottom in cells; "bins", the same as distributions (DFL); "grid", the
        middle in cells from the cell's upper left corner and the logarithms of width and height in cells (YOLOX);
        "anchors", by the boxes of YOLOv5 and v7; "deltas" and "deltas_yx" (y and height first), from the boxes in
        `anchors`. "" where the values tell "grid" from "cxcywh".
    unit : str
        "relative" (shares of the tensor's sides), "pixels" of the tensor; "" where the values tell.
    score : str
        "probability", or what makes one of the score: "sigmoid", "softmax"; "" where the values tell.
    objectness : bool
        Of "dense": each place has a score of its own, by which those of the classes are multiplied.
    columns : tuple of str
        Of "rows": what stands in each column (`COLUMNS`): corners; or the middle, "x" and "y", with "width" and
        "height"; or "xmin" and "ymin" with these. From the first row on whose "image" is negative there is nothing. "-"
        is not read.
    background : int or None
        The class that is none.
    offset : int
        The number of the class that has the first label.
    anchors : tuple
        Of "deltas": (x, y, width, height) of each box, as shares of the tensor's sides, x and y in its middle. Of
        "anchors": for each stride the (width, height) of its boxes in pixels.
    scales : tuple of float
        Of "deltas": what x, y, width and height are divided by.
    linear : bool
        Of "deltas": width and height are factors of the anchor's, not their logarithms.
    keypoints : tuple of int
        Number of points and of values for each: x, y and, of 3, a score.
    angle : bool
        Of "dense": the last column is an angle in radians by which the box is turned.
    nms_done : bool
        Whether what overlaps has been suppressed.
    source : str
        What says so: "metadata", "graph", "exporter", "names", "shapes", "values", "user", or a file's name.
    """

    kind: str
    outputs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    boxes: str = "xyxy"
    unit: str = ""
    score: str = ""
    objectness: bool = False
    columns: tuple[str, ...] = ()
    background: int | None = None
    offset: int = 0
    anchors: tuple[Any, ...] = ()
    scales: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    linear: bool = False
    keypoints: tuple[int, ...] = ()
    angle: bool = False
    nms_done: bool = False
    source: str = "user"

    def name(self, part: str) -> str:
        """Return the name of the output that holds a part, the first of several; "" where none does."""
        found = self.outputs.get(part, "")
        return found if isinstance(found, str) else next(iter(found), "")

    def names(self, part: str) -> tuple[str, ...]:
        """Return the names of the outputs that hold a part."""
        found = self.outputs.get(part, ())
        return (found,) if isinstance(found, str) else tuple(found)

    def as_description(self) -> dict[str, Any]:
        """Return what `layout=` and a description file take for it: what differs from the usual."""
        said: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name != "source" and (one.name in ("kind", "outputs", "boxes") or value != _USUAL.get(one.name)):
                said[one.name] = value
        if self.kind not in ("list", "indexed", "dense"):
            del said["boxes"]
        return said

    def __str__(self) -> str:
        said = self.as_description()
        parts = [self.kind]
        parts += [
            f"{key} {_short(value) or 'by the values'}"
            for key, value in said.items()
            if key not in ("kind", "outputs") and value != ""
        ]
        where = ", ".join(f"{part} in {_short(self.names(part))}" for part in self.outputs)
        return "; ".join(filter(None, (", ".join(parts), where)))


_USUAL = {one.name: one.default for one in fields(Layout)}


class GivenLayout:
    """What the user, or a description file, says of the outputs: a whole `Layout`, or some fields of one.

    Parameters
    ----------
    given : Layout or mapping
    known : sequence of TensorInfo
        The model's outputs; any of their names will do.
    what : str
        What it is called in errors: "layout", or a file's name.

    Attributes
    ----------
    told : mapping
        The fields.

    Raises
    ------
    OptionError
        It is no layout, or names other outputs than the model's.
    """

    def __init__(self, given: Any, known: Sequence[TensorInfo], what: str = "layout") -> None:
        self._known, self._what = NameIndex(known, "output"), what
        self._names = [one.name for one in known]
        if isinstance(given, Layout):
            given = {one.name: getattr(given, one.name) for one in fields(Layout) if one.name != "source"}
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            raise OptionError(f"{what} is {given!r:.80}; wanted 'auto', a Layout, or a mapping of its fields")
        for key in given:
            if key not in _CHECKS:
                raise OptionError(f"{what} has no {key!r}{suggestion(key, _CHECKS)}; known: {', '.join(_CHECKS)}")
        usual = {one.name: one.default for one in fields(Layout)}
        self.told: dict[str, Any] = {
            key: value if _is(value, usual[key]) else _CHECKS[key](value, f"{what}[{key!r}]")
            for key, value in given.items()
        }
        if "outputs" in self.told:
            self.told["outputs"] = {part: self._canonical(names) for part, names in self.told["outputs"].items()}
        if "outputs" in self.told and "kind" in self.told:
            self._check_outputs(self.told["outputs"], self.told["kind"])

    @property
    def whole(self) -> bool:
        """Whether nothing has to be recognised."""
        return {"kind", "outputs"} <= self.told.keys()

    def over(self, found: Layout | None) -> Layout:
        """Return the layout that holds: what was recognised, with what is given in its place.

        Raises
        ------
        OptionError
            Kind or outputs are missing, and nothing of this kind was recognised.
        """
        if found is None or (self.whole and found.kind != self.told["kind"]):
            if not self.whole:
                raise OptionError(
                    f"{self._what} says {', '.join(self.told)}; wanted its kind ({', '.join(KINDS)}) and its outputs, "
                    "by what each holds, too: nothing is recognised that this could complete",
                    f"the outputs are {', '.join(map(repr, self._names))}",
                )
            found = Layout(self.told["kind"])
        if "kind" in self.told and self.told["kind"] != found.kind:
            raise OptionError(
                f"{self._what} says that the outputs are of kind {self.told['kind']!r}, and what is recognised is "
                f"{found.kind!r} ({found}), by its {found.source}",
                "give the outputs, too, by what each holds",
            )
        self._check_outputs(self.told.get("outputs", found.outputs), found.kind)
        return replace(found, **self.told, source="user" if self._what == "layout" else self._what)

    def _check_outputs(self, outputs: Mapping[str, Any], kind: str) -> None:
        for part in outputs:
            if part not in KINDS[kind]:
                raise OptionError(
                    f"{self._what}: the outputs of kind {kind!r} hold no {part!r}{suggestion(part, KINDS[kind])}; "
                    f"known: {', '.join(KINDS[kind])}"
                )

    def _canonical(self, names: Any) -> Any:
        try:
            return self._known.name_of(names) if isinstance(names, str) else tuple(map(self._known.name_of, names))
        except TensorError as error:
            raise OptionError(f"{self._what}: {error.reason}", error.remedy) from error


def _is(value: Any, usual: Any) -> bool:
    return type(value) is type(usual) and bool(value == usual)  # an array compares each of its values


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def parse_box_order(given: Any) -> str:
    """Return the form of boxes that `box_order` says: "xyxy" and alike, or where each of these four stands in a box.

    Raises
    ------
    OptionError
    """
    if isinstance(given, str) and given in CORNERS:
        return given
    places = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    for form, its in CORNERS.items():
        if places == its:
            return form
    raise OptionError(
        f"box_order is {given!r:.60}; wanted one of {', '.join(map(repr, CORNERS))}, or the places of xmin, ymin, "
        f"xmax and ymax in a box: one of {', '.join(map(str, CORNERS.values()))}"
    )


def _one_of(choices: Sequence[str]) -> Callable[[Any, str], str]:
    def check(value: Any, what: str) -> str:
        if value not in choices:
            close = suggestion(value, choices) if isinstance(value, str) else ""
            wanted = ", ".join(repr(one) for one in choices)
            raise OptionError(f"{what} is {value!r:.60}{close}; wanted one of {wanted}")
        return str(value)

    return check


def _flag(value: Any, what: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise OptionError(f"{what} is {value!r:.60}; wanted True or False")
    return bool(value)


def _number(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > INDEX_LIMIT:
        raise OptionError(f"{what} is {value!r:.60}; wanted a whole number, to {INDEX_LIMIT} at most")
    return value


def _class(value: Any, what: str) -> int | None:
    return None if value is None else _number(value, what)


def _outputs(value: Any, what: str) -> Mapping[str, Any]:
    def named(names: Any) -> bool:
        return isinstance(names, str) or (isinstance(names, Sequence) and all(isinstance(n, str) for n in names))

    if not isinstance(value, Mapping) or not value or not all(map(named, value.values())):
        raise OptionError(f"{what} is {value!r:.80}; wanted {{part: an output's name, or several}}")
    return {part: names if isinstance(names, str) else tuple(names) for part, names in value.items()}


def _columns(value: Any, what: str) -> tuple[str, ...]:
    found = tuple(value.split()) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else ()
    if not found or not set(found) <= set(COLUMNS):
        raise OptionError(f"{what} is {value!r:.80}; wanted some of {', '.join(COLUMNS)}, in the order of the columns")
    return found


def _numbers(value: Any, what: str, depth: int = 3) -> tuple[Any, ...]:
    """Return nested sequences of numbers as nested tuples."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str) and value and depth:
        return tuple(
            _numbers(one, what, depth - 1) if isinstance(one, (Sequence, np.ndarray)) else _real(one, what)
            for one in value
        )
    raise OptionError(f"{what} is {value!r:.60}; wanted numbers")


def _real(value: Any, what: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    raise OptionError(f"{what} has {value!r:.60} in it; wanted finite numbers")


def _scales(value: Any, what: str) -> tuple[float, ...]:
    found = _numbers(value, what)
    if len(found) != 4 or 0 in found:
        raise OptionError(f"{what} is {value!r:.60}; wanted four numbers other than 0: for x, y, width and height")
    return found


def _points(value: Any, what: str) -> tuple[int, ...]:
    found = tuple(value) if isinstance(value, Sequence) else ()
    if len(found) != 2 or not all(isinstance(n, int) and n > 0 for n in found) or found[1] not in (2, 3):
        raise OptionError(f"{what} is {value!r:.60}; wanted the number of points, and of values for each: 2 or 3")
    return found


def _boxes(value: Any, what: str) -> str:
    if isinstance(value, str) and value in _BOXES:
        return value
    if isinstance(value, str):
        return _one_of(_BOXES)(value, what)
    return parse_box_order(value)


_CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    "kind": _one_of(tuple(KINDS)),
    "outputs": _outputs,
    "boxes": _boxes,
    "unit": _one_of(_UNITS),
    "score": _one_of(_SCORES),
    "objectness": _flag,
    "columns": _columns,
    "background": _class,
    "offset": _number,
    "anchors": _numbers,
    "scales": _scales,
    "linear": _flag,
    "keypoints": _points,
    "angle": _flag,
    "nms_done": _flag,
}
