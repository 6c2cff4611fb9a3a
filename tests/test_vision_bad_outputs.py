"""Answers that no model should give: they cost the objects that they spoil, or say what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_vision_layouts_dense import LOGITS, V8, heads, named, yolox
from vision_comparison import WHOLE
from vision_models import CLASSES, HEIGHT, PLACES, SCENE, SHARES, WIDTH, described, own_places

from accelerate import Quantization
from accelerate.calls.conversion import Array
from accelerate.errors import TensorError
from accelerate.image import Geometry
from accelerate.vision import Classifier, Detections, Detector, PoseEstimator, Segmenter

YX = [1, 0, 3, 2]


def ssd(count: Any = 3.0) -> dict[str, Array]:
    """Return what the detectors' operator gives: ten places, the scene in the first three."""
    boxes, classes, scores = np.zeros((1, 10, 4)), np.zeros((1, 10)), np.zeros((1, 10))
    boxes[0, :3], classes[0, :3], scores[0, :3] = (SCENE.boxes / SHARES)[:, YX], SCENE.classes, SCENE.scores
    outputs = {"boxes": boxes, "classes": classes, "scores": scores, "count": np.array([count])}
    return {name: array.astype(np.float32) for name, array in outputs.items()}


def end_to_end() -> dict[str, Array]:
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, :3, :4], rows[0, :3, 4], rows[0, :3, 5] = SCENE.boxes, SCENE.scores, SCENE.classes
    return {"output0": rows}


def answers() -> dict[str, dict[str, Array]]:
    """Return an answer of each kind; the objects are in the places that `at` names."""
    return {"list": ssd(), "rows": end_to_end(), "dense": {"output0": V8.transpose(0, 2, 1).copy()}}


def detector(kind: str, outputs: dict[str, Array], labels: int = CLASSES, **options: Any) -> Detector:
    if kind == "list":
        options.setdefault("box_order", "yxyx")
    return Detector(described({name: array.shape for name, array in outputs.items()}, labels), **options)


def rows_of(kind: str, outputs: dict[str, Array]) -> Array:
    rows: Array = outputs["output0"][0]
    return rows.T if kind == "dense" else rows


def boxes_of(kind: str, outputs: dict[str, Array]) -> Array:
    """Return a view of the numbers of the objects' boxes."""
    return outputs["boxes"][0] if kind == "list" else rows_of(kind, outputs)[:, :4]


def scores_of(kind: str, outputs: dict[str, Array]) -> Array:
    if kind == "list":
        return outputs["scores"][0, :, np.newaxis]
    return rows_of(kind, outputs)[:, 4:5] if kind == "rows" else rows_of(kind, outputs)[:, 4:]


def at(kind: str, n: int) -> int:
    return own_places()[n] if kind == "dense" else n


def decoded(kind: str, outputs: dict[str, Array], **options: Any) -> Detections:
    return detector(kind, outputs, **options).decode(outputs, WHOLE)


def only(found: Detections, objects: list[int]) -> None:
    np.testing.assert_allclose(found.boxes, SCENE.boxes[objects], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.scores, SCENE.scores[objects], rtol=1e-6)
    assert found.classes.tolist() == SCENE.classes[objects].tolist()


KINDS = ("list", "rows", "dense")
BAD = (float("nan"), float("inf"), float("-inf"))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_found(kind: str) -> None:
    outputs = {name: np.zeros_like(array) for name, array in answers()[kind].items()}
    found = decoded(kind, outputs)
    assert len(found) == 0
    assert (found.boxes.shape, found.scores.shape, found.classes.shape) == ((0, 4), (0,), (0,))
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.classes.dtype == np.int64
    assert list(found) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("bad", BAD)
def test_a_box_with_a_number_that_is_none_is_left_out(kind: str, column: int, bad: float) -> None:
    outputs = answers()[kind]
    boxes_of(kind, outputs)[at(kind, 1), column] = bad
    only(decoded(kind, outputs), [0, 2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_score_that_is_none_is_left_out(kind: str, bad: float) -> None:
    outputs = answers()[kind]
    scores_of(kind, outputs)[at(kind, 0)] = bad
    only(decoded(kind, outputs), [1, 2])


def test_one_class_without_a_score_spoils_no_other_place() -> None:
    outputs = answers()["dense"]
    scores_of("dense", outputs)[at("dense", 0), 1] = float("nan")
    assert decoded("dense", outputs).classes.tolist()[-2:] == [0, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_whose_corners_have_changed_places_is_left_out(kind: str) -> None:
    outputs = answers()[kind]
    boxes = boxes_of(kind, outputs)
    if kind == "dense":
        boxes[at(kind, 1), 2] *= -1
    else:
        boxes[1] = boxes[1][[2, 1, 0, 3]]
    only(decoded(kind, outputs), [0, 2])


def test_a_box_without_an_area_stays() -> None:
    outputs = end_to_end()
    outputs["output0"][0, 0, 2] = outputs["output0"][0, 0, 0]
    assert len(decoded("rows", outputs)) == 3


@pytest.mark.parametrize(
    ("count", "objects"),
    [(3, [0, 1, 2]), (2, [0, 1]), (0, []), (-1, []), (11, [0, 1, 2]), (1e9, [0, 1, 2]), (2.9, [0, 1]),
     (float("nan"), [0, 1, 2]), (float("inf"), [0, 1, 2])],
)  # fmt: skip
def test_the_number_of_objects(count: float, objects: list[int]) -> None:
    only(decoded("list", ssd(count)), objects)


@pytest.mark.parametrize("kind", ["list", "rows"])
@pytest.mark.parametrize("fill", [-1, 0])
def test_what_fills_an_empty_list_up_does_not_tell_the_unit(kind: str, fill: float) -> None:
    outputs = answers()[kind]
    if kind == "list":
        outputs["boxes"][0, :3] = SCENE.boxes[:, YX]
    empty = {name: np.full_like(array, fill) for name, array in outputs.items()} | {"count": np.zeros(1)}
    made = detector(kind, outputs)
    assert len(made.decode(empty, WHOLE)) == 0
    only(made.decode(outputs, WHOLE), [0, 1, 2])


@pytest.mark.parametrize("number", [-1.0, -3.0, float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("kind", ["list", "rows"])
def test_a_class_that_is_none(kind: str, number: float) -> None:
    outputs = answers()[kind]
    (outputs["classes"][0] if kind == "list" else outputs["output0"][0, :, 5])[0] = number
    only(decoded(kind, outputs), [1, 2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [0, 1, 3, 4, 6, 200])
def test_fewer_and_more_labels_than_classes(kind: str, labels: int) -> None:
    found = decoded(kind, answers()[kind], labels=labels)
    only(found, [0, 1, 2])
    assert found.labels.tolist() == [f"class{i}" if i < labels else str(i) for i in SCENE.classes]


def test_after_the_end_of_rows_there_is_nothing() -> None:
    rows = np.zeros((1, 1, 10, 7), np.float32)
    rows[0, 0, :3] = np.column_stack((np.zeros(3), SCENE.classes, SCENE.scores, SCENE.boxes / SHARES))
    rows[0, 0, 2, 0] = -1
    rows[0, 0, 3:] = rows[0, 0, 0]
    only(Detector(described({"out": rows.shape}, CLASSES)).decode({"out": rows}, WHOLE), [0, 1])


def test_indices_that_lead_nowhere_are_left_out() -> None:
    boxes, scores = SCENE.boxes[np.newaxis][:, :, YX], np.zeros((1, CLASSES, 3), np.float32)
    scores[0, SCENE.classes, range(3)] = SCENE.scores
    indices = np.array([(0, c, n) for n, c in enumerate(SCENE.classes)], np.int32)
    wrong = np.array([(0, CLASSES, 0), (0, 0, 3), (1, 0, 0), (-1, -1, -1), (0, -1, 0)], np.int32)
    outputs = {"boxes": boxes, "scores": scores, "indices": np.concatenate((wrong, indices))}
    shapes = {"boxes": (1, -1, 4), "scores": (1, CLASSES, -1), "indices": (-1, 3)}
    only(Detector(described(shapes, CLASSES, types={"indices": "int32"})).decode(outputs, WHOLE), [0, 1, 2])


# Of another shape than the layout's

WRONG: dict[str, tuple[dict[str, Array], dict[str, tuple[int, ...]], str]] = {
    "fewer scores": (ssd(), {"scores": (1, 9)}, r"the boxes are \[10, 4\], the scores \[9\].*wanted four numbers"),
    "boxes of three": (ssd(), {"boxes": (1, 10, 3)}, r"the boxes are \[10, 3\]"),
    "short rows": (end_to_end(), {"output0": (1, 300, 5)}, "the rows have 5 numbers; wanted 6: xmin, ymin"),
    "no cells": (
        {"output": yolox(decoded=False)}, {"output": (1, 250, 10)},
        r"the outputs have 250 places, which are no cells of a tensor of 96 x 128 pixels.*give the geometry",
    ),
    "no room": ({"output": yolox(decoded=False)}, {"output": (1, PLACES, 5)}, "rows of 5 numbers have no room"),
    "two sizes": (
        {"a": np.zeros((1, PLACES, 4), np.float32), "b": LOGITS}, {"b": (1, 17, 5)},
        r"the boxes are \[1, 252, 4\] and the scores \[1, 17, 5\]; wanted as many of either",
    ),
    "a cube": ({"output": yolox(decoded=False)}, {"output": (2, PLACES, 10)}, r"output.* is float32\[2, 252, 10\]"),
    "two frames of places": ({"output0": V8}, {"output0": (2, PLACES, 9)}, r"an output is float32\[2, 252, 9\]"),
    "two frames of a list": (
        ssd(), {"boxes": (2, 10, 4), "scores": (2, 10), "classes": (2, 10)}, r"output is float32\[2, 10, 4\]; wanted",
    ),
    "two frames of rows": (end_to_end(), {"output0": (2, 300, 6)}, r"an output is float32\[2, 300, 6\]; wanted"),
    "no rows": (end_to_end(), {"output0": ()}, r"an output is float32\[\]; wanted"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_another_shape(name: str) -> None:
    outputs, shapes, message = WRONG[name]
    made = detector("list" if "scores" in outputs else "", outputs)
    made.decode(outputs, WHOLE)
    wrong = outputs | {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    with pytest.raises(TensorError, match=message):
        made.decode(wrong, WHOLE)


def test_an_output_that_is_not_there() -> None:
    made = detector("rows", end_to_end())
    with pytest.raises(TensorError, match="there is no output 'output0' among 'other'"):
        made.decode({"other": np.zeros(3)}, WHOLE)
    with pytest.raises(TensorError, match=r"output 'output0' is <U3\[1\]; wanted numbers"):
        made.decode({"output0": np.array(["one"])}, WHOLE)


def test_a_geometry_of_another_tensor() -> None:
    other = Geometry((64, 64), (64, 64), (0, 0, 64, 64), (0, 0, 64, 64))
    outputs = named(heads(flat=True, channels_first=False))
    made = detector("", outputs)
    with pytest.raises(TensorError, match="no cells of a tensor of 64 x 64 pixels"):
        made.decode(outputs, other)


def test_other_tasks_refuse_other_shapes() -> None:
    scores = Classifier(described({"out": (1, 5)}))
    with pytest.raises(TensorError, match=r"float32\[2, 5\]; wanted one score for each"):
        scores.decode({"out": np.zeros((2, 5))})
    body = PoseEstimator(described({"out": (1, 1, 17, 3)}))
    with pytest.raises(TensorError, match=r"the points are float32\[1, 1, 16, 3\]; wanted 17 of three numbers"):
        body.decode({"out": np.zeros((1, 1, 16, 3))}, WHOLE)
    pixels = Segmenter(described({"out": (1, 12, 16, 5)}))
    with pytest.raises(TensorError, match=r"output 'out' is float32\[2, 12, 16, 5\]; wanted a map of one frame"):
        pixels.decode({"out": np.zeros((2, 12, 16, 5))}, WHOLE)


def test_other_tasks_go_on_with_numbers_that_are_none() -> None:
    found = Classifier(described({"out": (1, 5)})).decode({"out": np.array([[0.5, np.nan, 0.25, 0.25, 0]])})
    assert 1 not in found.classes.tolist()
    points = np.full((1, 1, 17, 3), 0.5)
    points[0, 0, 3, 1] = np.nan
    assert len(PoseEstimator(described({"out": (1, 1, 17, 3)})).decode({"out": points}, WHOLE)) == 0
    mask = Segmenter(described({"out": (1, HEIGHT, WIDTH, 1)}))
    assert not mask.decode({"out": np.full((1, HEIGHT, WIDTH, 1), np.nan)}, WHOLE).mask.any()


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([np.zeros(3)], r"the outputs are a list; wanted \{name: array\}"),
        (None, "the outputs are a NoneType; wanted"),
        ({"output0": [[1, 2], [3]]}, "output 'output0' is a list that is no array: .*inhomogeneous"),
        (
            {"output0": (end_to_end()["output0"] * 255).astype(np.uint8)},
            r"uint8\[1, 300, 6\], and the model's is flo",
        ),
        ({"output0": (end_to_end()["output0"] * 255).astype(">i2")}, r">i2\[1, 300, 6\], and the model's is float32"),
    ],
)
def test_what_is_no_answer_of_this_model(outputs: Any, said: str) -> None:
    with pytest.raises(TensorError, match=said):
        detector("rows", end_to_end()).decode(outputs, WHOLE)


def test_levels_are_those_of_the_model() -> None:
    levels = np.array([[0, 128, 255, 3, 9]], np.uint8)
    (info,) = described({"out": levels.shape}).outputs
    info = replace(info, data_type="uint8", quantization=Quantization((1 / 256,), (0,)))
    scores = Classifier(replace(described({}), outputs=(info,)))
    for given in (levels, levels.tolist(), levels.astype(">i8"), levels / np.float32(256)):
        assert scores.decode({"out": given}).scores[:2].tolist() == [255 / 256, 0.5]
    with pytest.raises(TensorError, match=r"output 'out' is int8\[1, 5\], and the model's is uint8"):
        scores.decode({"out": levels.view(np.int8)})


def test_quantised_logits_are_no_probabilities() -> None:
    levels = np.array([[-100, 50, 60, 0, 3]], np.int8)
    (info,) = described({"out": levels.shape}).outputs
    info = replace(info, data_type="int8", quantization=Quantization((0.125,), (0,)))
    found = Classifier(replace(described({}), outputs=(info,))).decode({"out": levels})
    raised = np.exp(levels[0] / 8)
    np.testing.assert_allclose(found.scores, np.sort(raised / raised.sum())[::-1], rtol=1e-5)
    assert found.classes[:2].tolist() == [2, 1]


def test_a_map_of_classes_may_be_of_any_whole_type() -> None:
    found = Segmenter(described({"out": (1, HEIGHT, WIDTH)}, types={"out": "int64"}))
    for dtype in ("uint8", ">i2", "int64"):
        assert found.decode({"out": np.full((1, HEIGHT, WIDTH), 3, dtype)}, WHOLE).classes.tolist() == [3]


@pytest.mark.parametrize("geometry", [None, (64, 64)])
def test_what_is_no_geometry(geometry: Any) -> None:
    mask = Segmenter(described({"out": (1, HEIGHT, WIDTH, 1)}))
    body = PoseEstimator(described({"out": (1, 1, 17, 3)}))
    for task in (detector("rows", end_to_end()), mask, body):
        with pytest.raises(TensorError, match=r"geometry is .*; wanted where the frame lies in the tensor; prep"):
            task.decode({}, geometry)
