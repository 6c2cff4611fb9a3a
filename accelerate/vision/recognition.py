"""Tells what the outputs of a detector hold: by the metadata, the graph, what the exporter wrote, names and shapes.

Each function of `_RULES` knows one kind of model and returns its layout, None for another. What only values tell is
left open in the layout, and looked for in the first answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from ..errors import OptionError
from .dense import is_map, strides_of
from .layout import CORNERS, Layout
from .outputs import Known, Output

__all__ = ["boxes_layout", "channels_of", "protos_of", "unrecognized"]

#: Operators that list objects, and what their outputs hold in order. The first is of TensorFlow Lite
#: (tensorflow/lite/kernels/detection_postprocess.cc), the others are plugins of the same purpose for ONNX.
_LISTING: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "TFLite_Detection_PostProcess": (
        ("boxes", "classes", "scores", "count"),
        {"boxes": "yxyx", "unit": "relative", "score": "probability"},
    ),
    "EfficientNMS_TRT": (
        ("count", "boxes", "scores", "classes"),
        {"boxes": "xyxy", "unit": "pixels", "score": "probability"},
    ),
}
#: The words by which exporters call the parts of a list.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "count": ("number of detections", "num_detections", "num_dets", "num_predictions", "num_boxes", "count"),
    "boxes": ("location", "locations", "boxes", "detection_boxes", "det_boxes", "pred_boxes", "bboxes"),
    "classes": (
        "category", "categories", "classes", "detection_classes", "det_classes", "pred_classes", "labels", "class_ids",
        "class",
    ),
    "scores": (
        "score", "scores", "detection_scores", "det_scores", "pred_scores", "confidence", "confidences",
    ),
}  # fmt: skip
_BOX_TYPES = {"boundaries": "", "upper_left": "xywh", "center": "cxcywh"}
_SSD_ROW = ("image", "class", "score", "xmin", "ymin", "xmax", "ymax")
_E2E_ROW = ("xmin", "ymin", "xmax", "ymax", "score", "class")
_COCO_POINTS = (17, 3)
#: Values of a place where a box is four distributions, of 16 or 8 bins.
_BINS = (64, 32)


def boxes_layout(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Return the layout of a detector's outputs, None where nothing tells it.

    `told` is what the user says of it: fields of `Layout`, which goes before what is recognised.

    Raises
    ------
    OptionError
        They are a detector's, but one thing has to be told.
    """
    for rule in _RULES:
        if (found := rule(known, told)) is not None:
            return found
    return None


def unrecognized(known: Known, what: str) -> OptionError:
    """Return the error for outputs that fit no rule."""
    return OptionError(
        f"nothing tells what the outputs of this model hold, as {what} needs it. Found: {known.listing()}"
        f"{'' if known.size is None else f', for pictures of {known.size[0]} x {known.size[1]}'}, {known.classes} "
        "labels",
        "describe them: layout={'kind': …, 'outputs': {…}, …}, see accelerate.vision.Layout, or a file beside the "
        "model, which `edge-accelerate inspect MODEL --write-description` begins",
    )


def _by_graph(known: Known, told: Mapping[str, Any]) -> Layout | None:
    for operator, (parts, said) in _LISTING.items():
        named = {parts[port]: one.name for one in known.outputs for name, port in [one.port]
                 if name == operator and port < len(parts)}  # fmt: skip
        if {"boxes", "classes", "scores"} <= named.keys():
            found = Layout("list", named, nms_done=True, source="graph", **said)
            return _with_metadata(known, found, told)
    return None


def _by_metadata(known: Known, told: Mapping[str, Any]) -> Layout | None:
    boxes = [one for one in known.outputs if "boxOrder" in one.info.extra]
    if len(boxes) != 1:
        return None
    named = {**_named(known), "boxes": boxes[0].name}
    if {"classes", "scores"} <= named.keys():
        found = Layout("list", named, score="probability", nms_done=True, source="metadata")
        return _with_metadata(known, found, told)
    return None


def _with_metadata(known: Known, layout: Layout, told: Mapping[str, Any]) -> Layout:
    """Return the layout with what the user, or else the metadata, says of the boxes."""
    if "boxes" in told:
        return layout
    extra = next(one.info.extra for one in known.outputs if one.name == layout.name("boxes"))
    form = _BOX_TYPES.get(extra.get("boxType", ""))
    if "boxOrder" not in extra or form is None:
        return layout
    order = tuple(extra["boxOrder"])
    if not form:
        form = next((name for name, places in CORNERS.items() if places == order), "")
    elif order != (0, 1, 2, 3):
        form = {"xywh": "yxhw", "cxcywh": "cycxhw"}[form] if order == (1, 0, 3, 2) else ""
    if not form:
        return layout
    unit = "pixels" if extra.get("boxCoordinates") == "pixel" else "relative"
    return replace(layout, boxes=form, unit=unit, source="metadata")


def _by_names(known: Known, told: Mapping[str, Any]) -> Layout | None:
    named = _named(known)
    if not {"boxes", "classes", "scores"} <= named.keys():
        return None
    outputs = {one.name: one for one in known.outputs}
    boxes, classes, scores = (outputs[named[part]] for part in ("boxes", "classes", "scores"))
    ranks = [len(one.info.shape or one.shape) for one in (boxes, scores)]
    if ranks[1] >= ranks[0] > 0:  # one for each class
        return None
    offset, form, unit = 0, "", ""
    whole_count = "count" in named and outputs[named["count"]].whole
    if "detection_boxes" in boxes.names and not whole_count:  # TensorFlow's Object Detection API numbers from 1
        form, unit, offset = "yxyx", "relative", 1
    elif whole_count or "orig_target_sizes" in _inputs(known) or (classes.whole and ranks[0] == 2):
        form, unit = "xyxy", "pixels"
    if not (form or "boxes" in told):
        raise _order_needed(known, boxes)
    return Layout("list", named, form, unit, "probability", offset=offset, nms_done=True, source="names")


def _by_place(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise the seed's convention: boxes, classes and scores are the first three outputs, others are ignored."""
    if len(known.outputs) < 3:
        return None
    boxes, classes, scores = known.outputs[:3]
    if boxes.shape[-1:] != (4,) or len(boxes.shape) != 2 or not len(classes.shape) == len(scores.shape) == 1:
        return None
    if not boxes.shape[0] == classes.shape[0] == scores.shape[0] or scores.whole:
        return None
    if "boxes" not in told:
        raise _order_needed(known, boxes)
    named = {"boxes": boxes.name, "classes": classes.name, "scores": scores.name}
    if len(known.outputs) > 3 and known.outputs[3].shape in ((), (1,)):
        named["count"] = known.outputs[3].name
    return Layout("list", named, told["boxes"], "", "probability", nms_done=True, source="shapes")


def _order_needed(known: Known, boxes: Output) -> OptionError:
    return OptionError(
        f"nothing tells the order of a box's corners in output {boxes.name!r}, {boxes.info.data_type}"
        f"{list(boxes.info.shape)}, of {known.listing()}",
        "give box_order='yxyx' for ymin xmin ymax xmax, as TensorFlow's models have it, 'xyxy' for xmin ymin xmax "
        "ymax, or 'xxyy' for xmin xmax ymin ymax",
    )


def _named(known: Known) -> dict[str, str]:
    """Return the outputs whose names say what part of a list they are."""
    found: dict[str, str] = {}
    for part, words in _WORDS.items():
        for one in known.outputs:
            if part not in found and one.name not in found.values() and any(name in words for name in one.names):
                found[part] = one.name
    return found


def _inputs(known: Known) -> list[str]:
    return [name for info in known.metadata.inputs for name in (info.name, *info.aliases)]


def _indexed(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise boxes, scores and the indices that NonMaxSuppression selects, as YOLOv3 of the ONNX zoo has them."""
    if len(known.outputs) != 3:
        return None
    tables = [one for one in known.outputs if len(one.info.shape or one.shape) > 1]
    indices = [one for one in tables if one.whole and one.shape[-1:] == (3,)]
    boxes = [one for one in tables if not one.whole and one.shape[-1:] == (4,)]
    if len(indices) != 1 or len(boxes) != 1:
        return None
    (scores,) = (one for one in known.outputs if one not in (indices[0], boxes[0]))
    named = {"boxes": boxes[0].name, "scores": scores.name, "indices": indices[0].name}
    return Layout("indexed", named, "yxyx", "", "probability", nms_done=True, source="names")


def _rows(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise one row an object."""
    protos = protos_of(known)
    rest = [one for one in known.outputs if one is not protos]
    if len(rest) == 2:
        return _rows_and_labels(rest)
    if len(rest) != 1:
        return None
    (one,) = rest
    shape = one.shape
    if shape == (7,) != (known.classes,) and one.info.shape[0] < 0:  # no batch: the objects of all frames
        shape = one.info.shape
    if len(shape) == 3 and shape[0] == 1 and shape[2] == 7:
        named = {"rows": one.name}
        return Layout("rows", named, unit="relative", score="probability", columns=_SSD_ROW, nms_done=True,
                      source="shapes")  # fmt: skip
    if len(shape) != 2 or any(_places(known, n) for n in shape) or (shape[0] < 0 and known.size is None):
        return None
    named, source = {"rows": one.name}, "shapes"
    if protos is not None:
        named["protos"] = protos.name
    width, end2end = shape[1], known.said.get("end2end", "").lower() == "true" or "nms" in known.said.get("args", "")
    if known.classes and width == 4 + known.classes and not end2end and width != 6:
        return None  # a box and the scores of the classes
    columns: tuple[str, ...]
    points: tuple[int, ...] = ()
    if known.task == "obb" and width == 7:
        columns, source = ("x", "y", "width", "height", "score", "class", "angle"), "exporter"
    elif known.task == "pose" and width == 6 + prod(known.points or _COCO_POINTS):
        columns, points, source = _E2E_ROW, known.points or _COCO_POINTS, "exporter"
    elif width == 6 + (channels_of(protos, known) if protos is not None else 0):
        columns = _E2E_ROW
    elif width == 7 and protos is None:  # a number of the image first; what comes last tell the values
        batched = len(shape) < len(one.info.shape)
        return Layout(
            "rows",
            named,
            told.get("boxes") or ("yxyx" if batched else "xyxy"),
            "pixels",
            "probability",
            nms_done=True,
            source="shapes",
        )
    else:
        return None
    return Layout("rows", named, score="probability", columns=columns, keypoints=points, nms_done=True, source=source)


def _rows_and_labels(rest: Sequence[Output]) -> Layout | None:
    rows = [one for one in rest if len(one.shape) == 2 and one.shape[1] == 5]
    labels = [one for one in rest if len(one.shape) == 1 and one.whole]
    if len(rows) != 1 or len(labels) != 1:
        return None
    named = {"rows": rows[0].name, "classes": labels[0].name}
    return Layout("rows", named, unit="pixels", score="probability", columns=(*_E2E_ROW[:5],), nms_done=True,
                  source="shapes")  # fmt: skip


def _dense(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise one table of boxes and scores."""
    protos = protos_of(known)
    rest = [one for one in known.outputs if one is not protos]
    if len(rest) != 1 or known.size is None:
        return None
    shape = _squeezed(rest[0].shape)
    if len(shape) != 2:
        return None
    per_cell, axis = max((_places(known, n), -i) for i, n in enumerate(shape))
    axis = -axis
    if not per_cell and -1 in shape and known.classes:  # a dynamic number of places: the names tell which it is
        per_cell, axis = int(4 + known.classes in shape), shape.index(-1)
    if not per_cell:  # no grid's: those of a transformer
        return _queries(known, rest[0], shape) if protos is None else None
    width = shape[1 - axis]
    source = "exporter" if known.task else "shapes"
    points = (known.points or _COCO_POINTS) if known.task == "pose" else ()
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


def _several(known: Known, told: Mapping[str, Any]) -> Layout | None:
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
        shape = _squeezed(shape)
        if len(shape) == 1:
            return cls(one.name, one.names, shape[0], 1, False)
        if len(shape) != 2 or min(shape) < 1:
            return None
        places = [n for n in shape if _places(known, n) or _is_stride(known, n)]
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
    if _places(known, boxes.places):
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


def _anchored(known: Known, told: Mapping[str, Any]) -> Layout | None:
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


_RULES: Sequence[Callable[[Known, Mapping[str, Any]], Layout | None]] = (
    _by_graph, _by_metadata, _by_names, _indexed, _by_place, _rows, _dense, _several, _anchored,
)  # fmt: skip
#: More places than a transformer asks for.
_MOST_QUERIES = 1500


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
    return prod(protos.shape) // ((known.size[0] // 4) * (known.size[1] // 4))


def _places(known: Known, count: int) -> int:
    """Return how many boxes each cell of all strides has where there are so many places: 1 or 3, 0 for no such grid."""
    if known.size is None or count < 1:
        return 0
    if strides_of(count, known.size):
        return 1
    return 3 if count % 3 == 0 and strides_of(count // 3, known.size) else 0


def _is_stride(known: Known, count: int) -> bool:
    """Return whether a map of one stride has so many cells."""
    return known.size is not None and any(
        (known.size[0] // stride) * (known.size[1] // stride) == count for stride in (8, 16, 32, 64)
    )


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape without sides of 1 around a table."""
    sides = list(shape)
    while len(sides) > 2 and 1 in sides:
        sides.remove(1)
    return tuple(sides)
