"""Recognises outputs with something for each of many places: grids of cells, or queries of a transformer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..errors import OptionError
from .dense import is_map
from .layout import Layout
from .outputs import Known, Output
from .places import COCO_POINTS, channels_of, is_stride, places_of, protos_of, squeezed

__all__ = ["anchored", "dense", "several"]

#: Values of a place where a box is four distributions, of 16 or 8 bins.
_BINS = (64, 32)
#: More places than a transformer asks for.
_MOST_QUERIES = 1500


def dense(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise one table of boxes and scores."""
    protos = protos_of(known)
    rest = [one for one in known.outputs if one is not protos]
    if len(rest) != 1 or known.size is None:
        return None
    shape = squeezed(rest[0].shape)
    if len(shape) != 2:
        return None
    per_cell, axis = max((places_of(known, n), -i) for i, n in enumerate(shape))
    axis = -axis
    if not per_cell and -1 in shape and known.classes:  # a dynamic number of places: the names tell which it is
        per_cell, axis = int(4 + known.classes in shape), shape.index(-1)
    if not per_cell:  # no grid's: those of a transformer
        return _queries(known, rest[0], shape) if protos is None else None
    width = shape[1 - axis]
    source = "exporter" if known.task else "shapes"
    points = (known.points or COCO_POINTS) if known.task == "pose" else ()
    more = (channels_of(protos, known) if protos is not None else 0) + (points[0] * points[1] if points else 0)
    angle = known.task == "obb"
    more += angle
    classes = width - 4 - more if width > 0 else known.classes
    if classes < 1:
        return None
    objectness = per_cell == 3 or (axis == 0 and classes > 1 and (
        known.classes == classes - 1 if known.classes else classes != 80 and not known.task
    ))  # fmt: skip
    boxes = "" if objectness and per_cell == 1 else "cxcywh"
    named = {"rows": rest[0].name} | ({"protos": protos.name} if protos is not None else {})
    return Layout("dense", named, boxes, objectness=objectness, keypoints=points,
                  angle=angle, source=source)  # fmt: skip


def _queries(known: Known, one: Output, shape: Sequence[int]) -> Layout | None:
    """Recognise a transformer's table: a box and the scores of the classes for each query, nothing to suppress."""
    if known.classes and shape[1] == 4 + known.classes:
        return Layout("dense", {"rows": one.name}, "cxcywh", "relative", nms_done=True, source="shapes")
    return None


def several(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise boxes and scores in two outputs, or in two for each stride."""
    protos = protos_of(known)
    rest = [one for one in known.outputs if one is not protos]
    common = set.intersection(*(set(one.shape) for one in rest)) if rest else set()
    tables = [_Table.of(one, known, common) for one in rest]
    if known.size is None or len(tables) < 2 or not all(tables):
        return None
    groups: dict[int, list[_Table]] = defaultdict(list)
    for table in tables:
        assert table is not None
        groups[table.places].append(table)
    if len(groups) > 1 and not all(any(table.channels in _BINS for table in group) for group in groups.values()):
        return None  # four numbers for each cell may be counted from it in many ways
    layouts = [_pair(known, group, protos, told) for _, group in sorted(groups.items(), reverse=True)]
    first = layouts[0]
    if first is None or any(one is None or one.boxes != first.boxes for one in layouts):
        return None
    parts: dict[str, Any] = {part: tuple(one.name(part) for one in layouts if one) for part in first.outputs}
    if len(layouts) == 1:
        parts = {part: names[0] for part, names in parts.items()}
    return replace(first, outputs=parts | ({"protos": protos.name} if protos is not None else {}))


class _Table(NamedTuple):
    """An output that holds something for each of many places."""

    name: str
    words: tuple[str, ...]
    places: int
    channels: int
    channels_first: bool

    @classmethod
    def of(cls, one: Output, known: Known, common: Collection[int] = ()) -> _Table | None:
        """Return what the shape says, None where it has no places; `common` are sides that other outputs have, too."""
        shape = one.shape
        if len(shape) == 3 and known.size is not None:
            for shape_of_map, channels, first in ((shape[1:], shape[0], True), (shape[:2], shape[2], False)):
                if is_map(shape_of_map, known.size):
                    return cls(one.name, one.names, shape_of_map[0] * shape_of_map[1], channels, first)
        shape = squeezed(shape)
        if len(shape) == 1:
            return cls(one.name, one.names, shape[0], 1, False)
        if len(shape) != 2 or min(shape) < 1:
            return None
        places = [n for n in shape if places_of(known, n) or is_stride(known, n)]
        found = max(places, default=max(common, default=max(shape)))
        first = shape[1] == found and shape[0] != found
        return cls(one.name, one.names, found, shape[0] if first else shape[1], first)


def _pair(known: Known, group: Sequence[_Table], protos: Output | None, told: Mapping[str, Any]) -> Layout | None:
    """Return the layout of the boxes and scores for the same places; what else there may be with them is left."""
    rest = list(group)
    named: dict[str, str] = {}
    if protos is not None and len(rest) > 2:
        coefficients = [t for t in rest if t.channels == channels_of(protos, known)]
        if len(coefficients) != 1:
            return None
        named["coefficients"] = coefficients[0].name
        rest.remove(coefficients[0])
    single = next((t for t in rest if t.channels == 1), None) if len(rest) == 3 else None
    if single is not None:
        rest.remove(single)
    if len(rest) != 2 or (boxes := _boxes_of(known, rest)) is None:
        return None
    scores = rest[1 - rest.index(boxes)]
    named |= {"boxes": boxes.name, "scores": scores.name}
    if boxes.channels != 4:  # beside distributions there may be the best score of each place, which is not needed
        return Layout("dense", named, "bins", "pixels", source="shapes")
    if places_of(known, boxes.places):
        if single is not None:
            named["objectness"] = single.name
        form = "ltrb" if boxes.channels_first else "xyxy"
        return Layout("dense", named, form, "pixels", "", single is not None, source="shapes")
    return _transformer(known, named, scores, told) if boxes.places <= _MOST_QUERIES and single is None else None


def _boxes_of(known: Known, two: Sequence[_Table]) -> _Table | None:
    """Return which of two tables holds the boxes, None where nothing tells it."""
    for channels in (4, *_BINS):
        fitting = [t for t in two if t.channels == channels]
        if len(fitting) == 2:
            named = [t for t in two if any("box" in word or "bbox" in word for word in t.words)]
            return named[0] if len(named) == 1 else None
        if fitting:
            other = two[1 - two.index(fitting[0])]
            if channels in _BINS and other.channels in _BINS and known.classes != other.channels:
                continue  # 32 and 64: either could be the classes, unless there are as many labels
            return fitting[0]
    return None


def _transformer(known: Known, named: Mapping[str, str], scores: _Table, told: Mapping[str, Any]) -> Layout:
    """Return the layout of a DETR: its boxes need no suppression; what makes probabilities of its scores is told."""
    activation, background = "", None
    if known.classes == scores.channels - 1 or (not known.classes and "pred_logits" in scores.words):
        activation, background = "softmax", scores.channels - 1  # the last class is "no object"
    elif known.classes != scores.channels and not ("score" in told or any("dets" in o.names for o in known.outputs)):
        raise OptionError(
            f"nothing tells what makes probabilities of the scores in output {scores.name!r}, of {known.listing()}",
            "give layout={'score': 'sigmoid'} or 'softmax' with 'background': the class that is none (often the "
            "last), or 'probability'; or label_path= with as many labels as there are classes",
        )
    return Layout("dense", named, "cxcywh", "relative", activation, background=background, nms_done=True,
                  source="shapes")  # fmt: skip


def anchored(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise the three maps of YOLOv5 and v7, whose boxes go by anchors that nothing but the user tells."""
    if known.size is None or not 2 <= len(known.outputs) <= 4:
        return None
    maps = []
    for one in known.outputs:
        shape = one.shape
        if len(shape) == 4:  # (boxes, rows, columns, numbers)
            maps.append((shape[1] * shape[2], shape[0] * shape[3], one) if is_map(shape[1:3], known.size) else None)
        elif (table := _Table.of(one, known)) is not None and len(shape) == 3:
            maps.append((table.places, table.channels, one))
        else:
            maps.append(None)
    found = [one for one in maps if one is not None]
    if len(found) != len(known.outputs) or len({numbers for _, numbers, _ in found}) != 1 or found[0][1] % 3:
        return None
    if "anchors" not in told:
        raise OptionError(
            f"the outputs, {known.listing()}, are those of a YOLO whose boxes go by anchors, which the model does not "
            "tell",
            "give layout={'anchors': [[(width, height), …] of each stride, the smallest stride first]}, in pixels: "
            "they stand in the configuration that it was trained with",
        )
    named = {"rows": tuple(one.name for *_, one in sorted(found, key=lambda m: -m[0]))}
    return Layout("dense", named, "anchors", "pixels", "", objectness=True, source="shapes")
