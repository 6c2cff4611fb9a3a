"""Recognises outputs that list objects: in several outputs, or one row an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from ..errors import OptionError
from .layout import CORNERS, Layout
from .outputs import Known, Output
from .places import COCO_POINTS, channels_of, places_of, protos_of

__all__ = ["by_graph", "by_metadata", "by_names", "by_place", "indexed", "rows"]

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


def by_graph(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise the operators that list objects."""
    for operator, (parts, said) in _LISTING.items():
        named = {parts[port]: one.name for one in known.outputs for name, port in [one.port]
                 if name == operator and port < len(parts)}  # fmt: skip
        if {"boxes", "classes", "scores"} <= named.keys():
            found = Layout("list", named, nms_done=True, source="graph", **said)
            return _with_metadata(known, found, told)
    return None


def by_metadata(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise what the metadata calls boxes, beside what names call classes and scores."""
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


def by_names(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Recognise the names by which exporters call boxes, classes and scores."""
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


def by_place(known: Known, told: Mapping[str, Any]) -> Layout | None:
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


def indexed(known: Known, told: Mapping[str, Any]) -> Layout | None:
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


def rows(known: Known, told: Mapping[str, Any]) -> Layout | None:
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
    if len(shape) != 2 or any(places_of(known, n) for n in shape) or (shape[0] < 0 and known.size is None):
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
    elif known.task == "pose" and width == 6 + prod(known.points or COCO_POINTS):
        columns, points, source = _E2E_ROW, known.points or COCO_POINTS, "exporter"
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
