"""Layouts that have to be told, those that could be two things, and outputs that fit no task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from test_vision_layouts_dense import CENTRED, WITH_OWN, yolox
from tflite_writer import Graph, build
from vision_comparison import WHOLE, check
from vision_models import (
    CLASSES,
    HEIGHT,
    PLACES,
    SCENE,
    SHARES,
    STRIDES,
    WIDTH,
    Case,
    by_stride,
    cells,
    described,
    logit,
    own_places,
    scores_of,
    spread,
)

import accelerate
from accelerate.calls.conversion import Array
from accelerate.errors import OptionError
from accelerate.metadata import Quantization
from accelerate.vision import Classifier, Detector, Layout, PoseEstimator, Segmenter, task_for

# What has to be told

ANCHORS = np.random.default_rng(1).uniform(0.1, 0.9, (50, 4)).astype(np.float32)
AT = (4, 20, 33)
POINTS = np.random.default_rng(2).uniform(5, 90, (3, 6, 2)).astype(np.float32)
SCALES = (10.0, 10.0, 5.0, 5.0)


def deltas() -> Array:
    """Return x, y, width and height of the scene, from the anchors."""
    boxes, anchors = CENTRED / SHARES, ANCHORS[list(AT)]
    places = (boxes[:, :2] - anchors[:, :2]) / anchors[:, 2:] * SCALES[0]
    sizes = np.log(boxes[:, 2:] / anchors[:, 2:]) * SCALES[2]
    return np.concatenate((places, sizes), axis=1)


YX = [1, 0, 3, 2]
RAW = {"kind": "dense", "anchors": ANCHORS, "unit": "relative"}
BLAZE = {**RAW, "score": "sigmoid", "scales": (WIDTH, HEIGHT, WIDTH, HEIGHT), "linear": True, "keypoints": (6, 2)}


def blaze() -> dict[str, Array]:
    """Return boxes in pixels from the anchors' middles, six points with each, and logits."""
    boxes, anchors = CENTRED / SHARES, ANCHORS[list(AT)]
    middles = (boxes[:, :2] - anchors[:, :2]) / anchors[:, 2:] * SHARES[:2]
    points = (POINTS / SHARES[:2] - anchors[:, np.newaxis, :2]) / anchors[:, np.newaxis, 2:] * SHARES[:2]
    codes = np.concatenate((middles, boxes[:, 2:] / anchors[:, 2:] * SHARES[:2], points.reshape(3, 12)), axis=1)
    scores = logit(SCENE.scores)[:, np.newaxis]
    return {
        "regressors": spread(codes, 0, AT, 50)[np.newaxis], "classificators": spread(scores, -9, AT, 50)[np.newaxis],
    }  # fmt: skip


YOLO_ANCHORS = [[(10, 13), (16, 30), (33, 23)], [(30, 61), (62, 45), (59, 60)], [(60, 50), (78, 99), (50, 40)]]


def anchored(*, logits: bool, flat: bool) -> dict[str, Array]:
    """Return YOLOv5's maps, the scene with the last box of its cells."""
    found = {}
    x, y, stride = cells()[own_places()].T[:, :, np.newaxis]
    sizes = np.array([boxes[2] for boxes in YOLO_ANCHORS])
    middles = (CENTRED[:, :2] / stride - np.concatenate((x, y), axis=1) + 0.5) / 2
    row = np.concatenate((middles, np.sqrt(CENTRED[:, 2:] / sizes) / 2, WITH_OWN), axis=1)
    tables = by_stride(spread(logit(row) if logits else row, -9 if logits else 0.01))
    for n, (table, side) in enumerate(zip(tables, STRIDES, strict=True)):
        empty = np.full_like(table, -9 if logits else 0.01)
        cube = np.stack((empty, empty, table)).reshape(3, HEIGHT // side, WIDTH // side, -1)
        flat_one = np.moveaxis(cube, 3, 1).reshape(-1, HEIGHT // side, WIDTH // side)
        found[f"out{n}"] = (flat_one if flat else cube)[np.newaxis].copy()
    return found


TENSORRT = np.concatenate(
    (SCENE.boxes[:, :2] / SHARES[:2], CENTRED[:, 2:] / SHARES[2:], WITH_OWN[:, :1], SCENE.classes[:, np.newaxis],
     SCENE.scores[:, np.newaxis] / WITH_OWN[:, :1]), axis=1, dtype=np.float32,
)  # fmt: skip
ONE = SCENE._replace(classes=np.zeros(3, int))
TOLD = {
    "4 EfficientDet": Case(
        {"classes": spread(scores_of(), 0.01, AT, 50)[np.newaxis], "boxes": spread(deltas()[:, YX], 0, AT, 50)[None]},
        options={"layout": {**RAW, "boxes": "deltas_yx", "score": "probability", "scales": SCALES,
                            "outputs": {"boxes": "boxes", "scores": "classes"}}},
    ),
    "11 YOLOv5": Case(anchored(logits=False, flat=False), options={"layout": {"anchors": YOLO_ANCHORS}}),
    "11 YOLOv5, logits": Case(anchored(logits=True, flat=False), options={"layout": {"anchors": YOLO_ANCHORS}}),
    "11 YOLOv7, flat": Case(anchored(logits=True, flat=True), options={"layout": {"anchors": YOLO_ANCHORS}}),
    "26 TensorRT": Case(
        {"out": TENSORRT}, shapes={"out": ("n", 7)},
        options={"layout": {"kind": "rows", "outputs": {"rows": "out"}, "unit": "relative",
                            "columns": "xmin ymin width height objectness class score"}},
    ),
    "33 BlazeFace": Case(
        blaze(), ONE, labels=("face",),
        options={"layout": {**BLAZE, "boxes": "deltas",
                            "outputs": {"boxes": "regressors", "scores": "classificators"}}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ["onnx", "onnx batch", "tflite"])
@pytest.mark.parametrize("name", TOLD)
def test_what_is_told(name: str, form: str, tmp_path: Path) -> None:
    check(TOLD[name], form, tmp_path)


def test_what_is_told_may_be_a_layout() -> None:
    case = TOLD["33 BlazeFace"]
    told = Layout(**{**case.options["layout"], "anchors": tuple(map(tuple, ANCHORS.tolist()))})
    metadata = described({name: array.shape for name, array in case.outputs.items()})
    found = Detector(metadata, told).decode(case.outputs, WHOLE)
    np.testing.assert_allclose(found.boxes, SCENE.boxes, atol=1e-3)
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints[..., :2], POINTS, atol=1e-3)
    assert (found.keypoints[..., 2] == 1).all()


# What could be two things


def test_56_channels_are_a_pose_only_where_the_task_says_so() -> None:
    shape = {"output0": (1, 56, PLACES)}
    assert str(Detector(described(shape)).layout) == "dense, boxes cxcywh; rows in output0"
    with pytest.raises(OptionError, match=r"gives boxes without any.*layout=\{'keypoints': \(17, 3\)\}"):
        PoseEstimator(described(shape))
    for pose in (
        PoseEstimator(described(shape), {"keypoints": (17, 3)}),
        PoseEstimator(described(shape, task="pose")),
        PoseEstimator(described(shape, task="pose", kpt_shape="[17, 3]")),
    ):
        assert pose.layout is not None
        assert pose.layout.keypoints == (17, 3)
    other = PoseEstimator(described({"output0": (1, 4 + 1 + 42, PLACES)}, task="pose", kpt_shape="[21, 2]"))
    assert other.layout is not None
    assert other.layout.keypoints == (21, 2)


def test_a_classes_number_that_could_be_bins() -> None:
    outputs = {f"{kind}{n}": (1, 64, HEIGHT // s, WIDTH // s) for n, s in enumerate(STRIDES) for kind in "ab"}
    with pytest.raises(OptionError, match=r"nothing tells what the outputs.*'a0' float32\[1, 64, 12, 16\].*layout="):
        Detector(described(outputs, 64))
    named_so = {name.replace("a", "box"): shape for name, shape in outputs.items()}
    found = Detector(described(named_so, 64)).layout
    assert found is not None
    assert found.names("boxes") == ("box0", "box1", "box2")
    parts = {"boxes": ["a0", "a1", "a2"], "scores": ["b0", "b1", "b2"]}
    told = Detector(described(outputs, 64), {"kind": "dense", "outputs": parts, "boxes": "bins"}).layout
    assert told is not None
    assert told.boxes == "bins"
    for classes, boxes in ((32, "b"), (64, "a"), (0, "")):
        metadata = described({"a": (1, PLACES, 32), "b": (1, PLACES, 64)}, classes)
        if not boxes:
            with pytest.raises(OptionError, match="nothing tells what the outputs"):
                Detector(metadata)
            continue
        found = Detector(metadata).layout
        assert found is not None
        assert found.name("boxes") == boxes


@pytest.mark.parametrize("decoded", [False, True])
def test_an_empty_picture_tells_whether_yolox_is_decoded(decoded: bool) -> None:
    detector = Detector(described({"output": (1, PLACES, 5 + CLASSES)}, CLASSES))
    x, y, stride = cells().T
    empty = np.zeros((1, PLACES, 5 + CLASSES), np.float32)
    if decoded:
        empty[0, :, 0], empty[0, :, 1], empty[0, :, 2:4] = x * stride, y * stride, stride[:, np.newaxis]
    assert len(detector.decode({"output": empty}, WHOLE)) == 0
    assert detector.layout is not None
    assert detector.layout.boxes == ("cxcywh" if decoded else "grid")
    found = detector.decode({"output": yolox(decoded=decoded)}, WHOLE)
    np.testing.assert_allclose(found.boxes, SCENE.boxes, atol=1e-3)


def test_rows_of_seven_are_told_by_the_first_picture_that_has_an_object_between_them() -> None:
    metadata = described({"out": (-1, 7)}, CLASSES, batch=-1)
    detector = Detector(metadata)
    assert len(detector.decode({"out": np.zeros((0, 7), np.float32)}, WHOLE)) == 0
    row = np.array([[0, 8, 16, 40, 64, 2, 0.875]], np.float32)
    found = detector.decode({"out": row}, WHOLE)
    assert (found.labels.tolist(), found.scores.tolist()) == (["class2"], [0.875])
    with pytest.raises(OptionError, match=r"'out' float32\[-1, 7\], for pictures of 96 x 128, 7 labels"):
        Detector(described({"out": (-1, 7)}, 7, batch=-1))  # so many classes


def test_a_dynamic_first_axis_is_a_batch_only_where_the_inputs_is() -> None:
    assert isinstance(task_for(described({"out": (-1, 7)})), Detector)
    assert isinstance(task_for(described({"out": (-1, 7)}, batch=-1)), Classifier)
    assert isinstance(task_for(described({"out": (1, 7)})), Classifier)


def test_rows_of_seven_are_slanted_boxes_only_where_the_task_says_so() -> None:
    shape = {"out": (1, 300, 7)}
    slanted, flat = Detector(described(shape, task="obb")).layout, Detector(described(shape)).layout
    assert slanted is not None
    assert flat is not None
    assert "angle" in slanted.columns
    assert flat.columns == ()  # values tell


def test_few_queries_are_no_cells() -> None:
    for size, count in (((320, 320), 100), ((480, 640), 300)):
        shapes = {"dets": (1, count, 4), "labels": (1, count, 91)}
        found = Detector(described(shapes, size=size)).layout
        assert found is not None
        assert (found.boxes, found.unit, found.nms_done) == ("cxcywh", "relative", True)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "DETR": ({"outputs": {"a": (1, 30, 4), "b": (1, 30, 91)}}, "what makes probabilities.*layout=.*'softmax'.*label"),
    "YOLOv5": (
        {"outputs": {f"out{n}": (1, 255, HEIGHT // s, WIDTH // s) for n, s in enumerate(STRIDES)}},
        r"boxes go by anchors.*give layout=\{'anchors': ",
    ),
    "seed": (
        {"outputs": {"a": (1, 10, 4), "b": (1, 10), "c": (1, 10), "d": (1,)}},
        r"order of a box's corners in output 'a', float32\[1, 10, 4\].*box_order='yxyx'.*'xyxy'.*'xxyy'",
    ),
    "boxes by names alone": (
        {"outputs": {"boxes": (1, 10, 4), "labels": (1, 10), "scores": (1, 10)}}, "order of a box's corners",
    ),
    "BlazeFace": (
        {"outputs": {"regressors": (1, 896, 16), "classificators": (1, 896, 1)}, "size": (128, 128)},
        r"Found: 'regressors' float32\[1, 896, 16\], 'classificators' float32\[1, 896, 1\], for pictures of 128 x 128",
    ),
    "four numbers of each cell, which may be counted in many ways": (
        {"outputs": {f"{kind}{s}": (1, channels, HEIGHT // s, WIDTH // s) for s in STRIDES
                     for kind, channels in (("reg", 4), ("obj", 1), ("cls", 80))}},
        r"nothing tells.*Found: 'reg8' float32\[1, 4, 12, 16\]",
    ),
    "scores": ({"outputs": {"out": (1, 1000)}, "labels": 3}, r"of a Classifier, not .*Found: 'out'.*3 labels; use"),
    "a map": ({"outputs": {"out": (1, 33, 33, 21)}}, r"of a Segmenter, not of a Detector\. Found: 'out'"),
    "nothing": ({"outputs": {}}, "nothing tells"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_nothing_tells_says_what_there_is_and_what_to_give(name: str) -> None:
    given, message = REFUSED[name]
    with pytest.raises(OptionError, match=message):
        Detector(described(**given))


def test_other_tasks_list_what_there_is() -> None:
    two = described({"a": (1, 10), "b": (1, 20)})
    with pytest.raises(OptionError, match=r"as a Classifier needs it\. Found: 'a' float32\[1, 10\], 'b' float32\[1, 2"):
        Classifier(two)
    with pytest.raises(OptionError, match=r"as a Segmenter needs it\. Found: 'a' float32\[1, 10\]"):
        Segmenter(two)


@pytest.mark.parametrize(
    ("task", "outputs", "fits"),
    [
        (Classifier, {"out": (1, 300, 6)}, "Detector"),
        (Segmenter, {"boxes": (1, 10, 4), "labels": (1, 10), "scores": (1, 10)}, "Detector"),  # of an order to be told
        (PoseEstimator, {"out": (1, 10)}, "Classifier"),
        (Classifier, {"out": (1, 1, 17, 3)}, "PoseEstimator"),
    ],
)
def test_a_model_for_another_task_is_told_as_that(task: Any, outputs: dict[str, Any], fits: str) -> None:
    with pytest.raises(OptionError, match=rf"those of a {fits}, not of a .*; use accelerate\.vision\.{fits}\(model\)"):
        task(described(outputs))


# Boxes whose order nothing tells: the first three outputs are boxes, labels and scores


@pytest.mark.parametrize("order", ["xyxy", "yxyx", "xxyy", "yyxx", (0, 1, 2, 3), [1, 0, 3, 2]])
@pytest.mark.parametrize("form", ["onnx", "onnx batch", "tflite"])
def test_box_order(order: Any, form: str, tmp_path: Path) -> None:
    places = {"xyxy": [0, 1, 2, 3], "yxyx": YX, "xxyy": [0, 2, 1, 3], "yyxx": [1, 3, 0, 2]}
    corners = SCENE.boxes[:, places[order] if isinstance(order, str) else list(order)]
    outputs = {
        "one": np.zeros((1, 10, 4), np.float32), "two": np.zeros((1, 10), np.float32),
        "three": np.zeros((1, 10), np.float32), "more": np.ones((1, 10, 2), np.float32),
        "ones": np.ones((1, 10), np.float32),
    }  # fmt: skip
    outputs["one"][0, :3], outputs["two"][0, :3], outputs["three"][0, :3] = corners, SCENE.classes, SCENE.scores
    check(Case(outputs, options={"box_order": order}), form, tmp_path)
    told = {"layout": {"boxes": order if isinstance(order, str) else tuple(order)}}
    check(Case(outputs, options=told), form, tmp_path)


# Row 13: quantised by the scale of the scores


def by_bytes(dequantized: bool, shape: tuple[int, ...]) -> bytes:
    graph = Graph()
    x = graph.tensor("x", [1, HEIGHT, WIDTH, 3], "float32")
    flat = graph.tensor("flat", [1, HEIGHT * WIDTH * 3], "float32")
    graph.op("RESHAPE", [x], [flat], schema.ReshapeOptionsT(newShape=[1, HEIGHT * WIDTH * 3]))
    cut, table = (graph.tensor(name, shape, "float32") for name in ("cut", "table"))
    first = [
        graph.constant(name, np.array(n, np.int32)) for name, n in (("a", [0, 0]), ("b", [1, int(np.prod(shape))]))
    ]
    graph.op("SLICE", [flat, *first], [cut], schema.SliceOptionsT())
    graph.op("RESHAPE", [cut], [table], schema.ReshapeOptionsT(newShape=list(shape)))
    small = graph.tensor("small", shape, "int8", scale=1 / 256, zero_point=-128)
    graph.op("QUANTIZE", [table], [small], schema.QuantizeOptionsT())
    graph.inputs, graph.outputs = [x], [small]
    if dequantized:
        graph.outputs = [graph.tensor("real", shape, "float32")]
        graph.op("DEQUANTIZE", [small], graph.outputs, schema.DequantizeOptionsT())
    return build([graph])


@pytest.mark.parametrize("dequantized", [False, True])
def test_a_scale_that_cannot_hold_the_boxes_is_refused(dequantized: bool, tmp_path: Path) -> None:
    path = tmp_path / "yolox.tflite"
    path.write_bytes(by_bytes(dequantized, (1, PLACES, 5 + CLASSES)))
    with accelerate.load(path, normalization=(0, 255)) as model:
        name = "real" if dequantized else "small"
        message = f"output '{name}' was quantised so that it holds 0 to 0.9961, and its boxes are offsets.*convert"
        with pytest.raises(OptionError, match=message):
            Detector(model)
        assert Detector(model, {"boxes": "cxcywh", "unit": "relative"}).layout is not None
        with pytest.raises(OptionError, match="its boxes are pixels: the model cuts them off"):
            Detector(model, {"boxes": "cxcywh", "unit": "pixels"})


@pytest.mark.parametrize(
    ("shapes", "scale", "refused"),
    [
        ({"a": (1, 4, PLACES), "b": (1, 5, PLACES)}, 1 / 256, True),
        ({"a": (1, 4, PLACES), "b": (1, 5, PLACES)}, 0.1, False),
        ({"a": (1, PLACES, 64), "b": (1, PLACES, 5)}, 1 / 256, True),
        ({"a": (1, PLACES, 64), "b": (1, PLACES, 5)}, 0.15, False),
        ({"a": (1, PLACES, 4), "b": (1, PLACES, 5)}, 1 / 256, True),
        ({"a": (1, PLACES, 4), "b": (1, PLACES, 5)}, 0.5, False),
        ({"a": (1, 9, PLACES)}, 1 / 256, False),  # in shares
    ],
)
def test_ranges_of_boxes(shapes: dict[str, tuple[int, ...]], scale: float, refused: bool) -> None:
    metadata = described(shapes, CLASSES)
    byte = replace(metadata.outputs[0], data_type="uint8", quantization=Quantization((scale,), (0,)))
    metadata = replace(metadata, outputs=(byte, *metadata.outputs[1:]))
    if refused:
        with pytest.raises(OptionError, match="was quantised so that it holds 0 to"):
            Detector(metadata)
    else:
        assert Detector(metadata).layout is not None
