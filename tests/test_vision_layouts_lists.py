"""Detectors that give objects one by one: every layout in every form of file, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vision_comparison import WHOLE, check, check_file, compare
from vision_models import (
    CLASSES,
    HEIGHT,
    LABELS,
    NORMALIZATION,
    SCENE,
    SHARES,
    WIDTH,
    Case,
    scores_of,
    spread,
    ssd,
    ultralytics,
)

from accelerate.calls.conversion import Array
from accelerate.metadata import Metadata, TensorInfo
from accelerate.vision import Detector

RELATIVE = SCENE.boxes / SHARES
SCORES = SCENE.scores
KINDS = SCENE.classes.astype(np.float32)
IMAGE = np.zeros(3, np.float32)
PORTS = {"boxes": 0, "classes": 1, "scores": 2, "count": 3}
YX = [1, 0, 3, 2]


def filled(values: Array, count: int, fill: float = 0) -> Array:
    """Return the values of the three objects with others behind them."""
    rest = np.full((count - 3, *values.shape[1:]), fill, values.dtype)
    return np.concatenate((values, rest))


def columns(*parts: Array) -> Array:
    return np.column_stack(parts).astype(np.float32)


def rows(parts: Array, count: int = 300) -> Array:
    return filled(parts, count)[np.newaxis]


COUNT = np.array([[3]], np.int32)
E2E = columns(SCENE.boxes, SCORES, KINDS)
API = {
    "detection_anchor_indices": filled(IMAGE, 100)[np.newaxis],
    "detection_boxes": filled(RELATIVE[:, YX], 100)[np.newaxis],
    "detection_classes": filled(KINDS + 1, 100, 1)[np.newaxis],
    "detection_multiclass_scores": np.zeros((1, 100, CLASSES + 1), np.float32),
    "detection_scores": filled(SCORES, 100)[np.newaxis],
    "num_detections": np.array([3], np.float32),
    "raw_detection_boxes": np.zeros((1, 252, 4), np.float32),
    "raw_detection_scores": np.zeros((1, 252, CLASSES + 1), np.float32),
}
CASES: dict[str, Case] = {
    "5 Object Detection API": Case(API),
    "6 automl": Case({"detections": rows(columns(IMAGE, SCENE.boxes[:, YX], SCORES, KINDS), 100)}),
    "7 OpenVINO": Case({
        "detection_out": filled(columns(IMAGE, KINDS, SCORES, RELATIVE), 200, -1)[np.newaxis, np.newaxis]
    }),
    "8 mmdet": Case({
        "dets": rows(columns(SCENE.boxes, SCORES), 100), "labels": filled(SCENE.classes, 100)[np.newaxis]
    }),
    "9 torchvision": Case(
        {"boxes": SCENE.boxes, "labels": SCENE.classes, "scores": SCORES},
        shapes={"boxes": ("n", 4), "labels": ("n",), "scores": ("n",)},
    ),
    "9 torchvision, fixed": Case({"boxes": SCENE.boxes, "labels": SCENE.classes, "scores": SCORES}),
    "17 end to end": Case({"output0": rows(E2E)}),
    "17 end to end of Ultralytics": Case({"output0": rows(E2E)}, told=ultralytics(end2end=True)),
    "17 end to end, two classes": Case(
        {"output0": rows(columns(SCENE.boxes, SCORES, KINDS / 4))},
        SCENE._replace(classes=np.array([0, 0, 1])), labels=LABELS[:2],
    ),
    "17 end to end, shares": Case({"output0": rows(columns(RELATIVE, SCORES, KINDS))}),
    "24 YOLO-NAS flat": Case(
        {"graph2_flat_predictions": columns(IMAGE, SCENE.boxes, SCORES, KINDS)},
        shapes={"graph2_flat_predictions": ("n", 7)},
    ),
    "24 YOLO-NAS flat, fixed": Case({"output": columns(IMAGE, SCENE.boxes, SCORES, KINDS)}),
    "25 YOLOv7 end to end": Case(
        {"output": columns(IMAGE, SCENE.boxes, KINDS, SCORES)}, shapes={"output": ("n", 7)}
    ),
    "27 of super-gradients": Case({
        "num_predictions": COUNT.astype(np.int64), "pred_boxes": rows(SCENE.boxes, 100),
        "pred_scores": filled(SCORES, 100)[np.newaxis], "pred_classes": filled(SCENE.classes, 100, -1)[np.newaxis],
    }),
    "27 of YOLOv7": Case({
        "num_dets": COUNT, "det_boxes": rows(SCENE.boxes, 100), "det_scores": filled(SCORES, 100, 0.9)[np.newaxis],
        "det_classes": filled(SCENE.classes.astype(np.int32), 100, -1)[np.newaxis],
    }),
    "30 D-FINE": Case(
        {"labels": filled(SCENE.classes, 300)[np.newaxis], "boxes": rows(SCENE.boxes), "scores": rows(SCORES)},
        frame_size_input="orig_target_sizes",
    ),
    "34 YOLOv3": Case(
        {
            "yolonms_layer_1": spread(SCENE.boxes[:, YX], 0, (3, 100, 500), 756)[np.newaxis],
            "yolonms_layer_1:1": spread(scores_of(), 0, (3, 100, 500), 756).T[np.newaxis].copy(),
            "yolonms_layer_1:2": np.array([[0, 2, 3], [0, 0, 100], [0, 4, 500]], np.int32),
        },
        shapes={"yolonms_layer_1:2": ("n", 3)},
        frame_size_input="image_shape",
    ),
}  # fmt: skip
#: What no converter to TFLite writes.
ONLY_ONNX = ("9 torchvision", "24", "25", "30", "34")
FORMS = [(name, form) for name in CASES for form in ("onnx", "onnx batch", "onnx sides", "tflite")
         if form != "tflite" or not name.startswith(ONLY_ONNX)]  # fmt: skip


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_layout(name: str, form: str, tmp_path: Path) -> None:
    check(CASES[name], form, tmp_path)


TF2 = tuple(f"StatefulPartitionedCall:{n}" for n in (1, 3, 0, 2))
OPERATORS = {
    "1 boxes, classes, scores, count": (tuple(f"TFLite_Detection_PostProcess{n}" for n in ("", ":1", ":2", ":3")),
                                        (0, 1, 2, 3)),
    "1 without meaning in the names": (("a", "b", "c", "d"), (0, 1, 2, 3)),
    "2 scores, boxes, count, classes": (TF2, (2, 0, 3, 1)),
    "2 count, scores, classes, boxes": (("output_0", "output_1", "output_2", "output_3"), (3, 2, 1, 0)),
}  # fmt: skip


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "bytes"])
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("count", [10, 25], ids=["SSD", "3 EfficientDet-Lite"])
def test_what_the_detectors_operator_gives(name: str, count: int, quantized: bool, tmp_path: Path) -> None:
    names, ports = OPERATORS[name]
    content, wanted = ssd(names, ports, count=count, quantized=quantized)
    path, labels = tmp_path / "ssd.tflite", tmp_path / "labels.txt"
    path.write_bytes(content)
    labels.write_text("\n".join(LABELS))
    check_file(path, {"normalization": NORMALIZATION, "label_path": labels}, Case({}, wanted, step=2e-3))


def list_of(names: dict[str, str], order: tuple[str, ...] = tuple(PORTS), **info: Any) -> tuple[Metadata, Case]:
    """Return a metadata with the outputs of a list, and the case: its boxes are yxyx, as shares."""
    values = {
        "boxes": filled(RELATIVE[:, YX], 10)[np.newaxis], "classes": filled(KINDS, 10)[np.newaxis],
        "scores": filled(SCORES, 10)[np.newaxis], "count": np.array([3], np.float32),
    }  # fmt: skip
    image = TensorInfo("x", shape=(1, HEIGHT, WIDTH, 3), layout="NHWC")
    outputs = tuple(
        TensorInfo(names[part], shape=values[part].shape, extra=info if part == "boxes" else {}) for part in order
    )
    case = Case({names[part]: values[part] for part in order})
    return Metadata("", "", "", (image,), outputs, LABELS), case


METADATA_NAMES = {"boxes": "location", "classes": "category", "scores": "score", "count": "number of detections"}
EXAMPLE_NAMES = {"boxes": "locations", "classes": "classes", "scores": "scores", "count": "number of detections"}
SAID = {"boxOrder": (1, 0, 3, 2), "boxType": "boundaries", "boxCoordinates": "ratio"}


@pytest.mark.parametrize("names", [METADATA_NAMES, EXAMPLE_NAMES])
@pytest.mark.parametrize("order", [tuple(PORTS), ("scores", "count", "classes", "boxes")])
def test_the_metadata_tells_the_order_of_the_corners(names: dict[str, str], order: tuple[str, ...]) -> None:
    metadata, case = list_of(names, order, **SAID)
    compare(Detector(metadata).decode(case.outputs, WHOLE), SCENE, case, 1)
    assert str(Detector(metadata).layout).startswith("list, boxes yxyx, unit relative")


@pytest.mark.parametrize("names", [("a", "b", "c", "d"), ("num", "boxes", "scores", "classes")])
def test_the_port_of_efficient_nms_tells_what_an_output_holds(names: tuple[str, ...]) -> None:
    arrays = (COUNT, rows(SCENE.boxes, 10), filled(SCORES, 10)[np.newaxis], filled(SCENE.classes, 10, -1)[np.newaxis])
    image = TensorInfo("x", shape=(1, 3, HEIGHT, WIDTH), layout="NCHW")
    outputs = tuple(
        TensorInfo(name, shape=array.shape, extra={"operator": "EfficientNMS_TRT", "port": port})
        for port, (name, array) in enumerate(zip(names, arrays, strict=True))
    )
    case = Case(dict(zip(names, arrays, strict=True)))
    detector = Detector(Metadata("", "", "", (image,), outputs[::-1], LABELS))
    compare(detector.decode(case.outputs, WHOLE), SCENE, case, 1)
    assert detector.layout is not None
    assert detector.layout.source == "graph"


EVERY_FORM = [
    ((1, 0, 3, 2), "boundaries", "ratio"), ((0, 1, 2, 3), "boundaries", "pixel"), ((0, 1, 2, 3), "upper_left", "ratio"),
    ((1, 0, 3, 2), "upper_left", "pixel"), ((0, 1, 2, 3), "center", "pixel"), ((1, 0, 3, 2), "center", "ratio"),
    ((0, 2, 1, 3), "boundaries", "ratio"),
]  # fmt: skip


@pytest.mark.parametrize(("order", "form", "unit"), EVERY_FORM)
def test_every_form_of_boxes_that_the_metadata_may_tell(order: tuple[int, ...], form: str, unit: str) -> None:
    metadata, case = list_of(METADATA_NAMES, boxOrder=order, boxType=form, boxCoordinates=unit)
    left, top, right, bottom = (SCENE.boxes if unit == "pixel" else RELATIVE).T
    numbers = {
        "boundaries": (left, top, right, bottom), "upper_left": (left, top, right - left, bottom - top),
        "center": ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top),
    }[form]  # fmt: skip
    stored = np.zeros((1, 10, 4), np.float32)
    for place, values in zip(order, numbers, strict=True):  # where xmin, ymin, ... stand
        stored[0, :3, place] = values
    outputs = {**case.outputs, "location": stored}
    compare(Detector(metadata).decode(outputs, WHOLE), SCENE, case, 1)
