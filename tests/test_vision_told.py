"""Layouts that somebody writes: what they lack or contradict is said before, or with, the first answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from vision_comparison import WHOLE
from vision_models import described

from accelerate import OptionError, TensorError
from accelerate.vision import Classifier, Detector, Segmenter

TWO = described({"x": (1, 10, 4), "y": (1, 10)})
LIST = {"kind": "list", "outputs": {"boxes": "x", "classes": "y", "scores": "y"}}
DENSE = {"kind": "dense", "outputs": {"boxes": "x", "scores": "y"}}
ROWS = {"kind": "rows", "outputs": {"rows": "x"}}
ANCHORS = {"kind": "dense", "outputs": {"rows": "x"}, "boxes": "anchors"}


def named(parts: Mapping[str, Any], kind: str = "list") -> dict[str, Any]:
    return {"kind": kind, "outputs": parts}


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (named({"boxes": "x"}), "of kind 'list' the outputs hold .*; without a name is 'classes', 'scores'"),
        (named({"boxes": "x", "classes": "y", "scores": []}), "without a name is 'scores'"),
        (named({"classes": "y"}, "rows"), "of kind 'rows' the outputs hold 'rows'; without a name is 'rows'"),
        (named({"boxes": "x", "scores": "y"}, "indexed"), "without a name is 'indices'"),
        (named({"boxes": "x"}, "dense"), r"hold 'boxes', 'scores' \(or 'rows'\); without a name is 'scores'"),
        ({**LIST, "boxes": "grid"}, "boxes is 'grid', which only 'dense' outputs have; wanted, of kind 'list', one of"),
        ({**LIST, "boxes": ""}, "boxes is '', which only 'dense' outputs have"),
        ({**LIST, "offset": 10**30}, r"\['offset'\] is 1000.*; wanted a whole number, to 100000 at most"),
        ({**ROWS, "columns": "xmin ymin xmax ymax"}, "xmax, ymax; wanted a score among them"),
        ({**ROWS, "columns": "score class"}, "columns are score, class; wanted a box among them"),
        ({**DENSE, "boxes": "anchors"}, "of kind 'dense' the outputs hold 'rows'; without a name is 'rows'"),
        ({**DENSE, "boxes": "deltas"}, r"anchors is \(\); wanted \(x, y, width, height\) of each place"),
        ({**DENSE, "boxes": "deltas", "anchors": [[1, 2, 3, 4], [5]]}, "wanted .*height. of each place"),
        (ANCHORS, r"anchors is \(\); wanted for each stride the \(width, height\) of its boxes"),
        ({**ANCHORS, "anchors": [1, 2, 3]}, "wanted for each stride"),
        ({**ANCHORS, "anchors": [[[1, 2]], [[3, 4], [5, 6]]]}, "wanted as many boxes for each stride"),
        ({**DENSE, "anchors": [[[[[1]]]]]}, r"\['anchors'\] is \[\[1\]\]; wanted numbers"),
    ],
)
def test_a_layout_that_lacks_something_is_refused_at_once(layout: Mapping[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=f"layout.*{said}"):
        Detector(TWO, layout)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (ROWS, "the rows have 4 numbers, and nothing tells what these are; give layout="),
        ({**DENSE, "boxes": "cxcywh", "background": 7}, "background is the class 7, and the outputs have 1 classes"),
    ],
)
def test_a_layout_that_an_answer_contradicts(layout: Mapping[str, Any], said: str) -> None:
    answer = {name: np.full(shape, 0.5, np.float32) for name, shape in {"x": (1, 10, 4), "y": (1, 10)}.items()}
    with pytest.raises(TensorError, match=said):
        Detector(TWO, layout).decode(answer, WHOLE)


def test_anchors_of_other_strides() -> None:
    shapes = {"a": (1, 21, 12, 16), "b": (1, 21, 6, 8)}
    layout = {**ANCHORS, "outputs": {"rows": ["a", "b"]}, "anchors": [[[9, 9]] * 3] * 3}
    with pytest.raises(TensorError, match="have 2 strides, and the layout's anchors are those of 3"):
        Detector(described(shapes), layout).decode({name: np.zeros(shape) for name, shape in shapes.items()}, WHOLE)


def test_the_other_tasks_want_their_output() -> None:
    with pytest.raises(OptionError, match="of kind 'scores' the outputs hold 'scores'; without a name is 'scores'"):
        Classifier(TWO, named({"scores": ()}, "scores"))
    with pytest.raises(OptionError, match="of kind 'mask' the outputs hold 'scores'; without a name is 'scores'"):
        Segmenter(TWO, named({"scores": ()}, "mask"))


def test_a_classifiers_background_and_offset() -> None:
    metadata = described({"out": (1, 4)}, labels=3)
    scores = {"out": [[0.5, 0.125, 0.25, 0.125]]}
    with pytest.raises(TensorError, match="background is the class 4, and the outputs have 4 classes"):
        Classifier(metadata, {"background": 4}).decode(scores)
    last = Classifier(metadata, {"background": -1}).decode(scores)
    assert last.classes.tolist() == [0, 2, 1]
    first = Classifier(metadata, {"offset": 1}).decode(scores)  # what comes before the first label is none
    assert [(one.label, one.index, one.score) for one in first][:1] == [("class1", 1, 0.25)]
    assert first.classes.tolist() == [1, 0, 2]


def test_outputs_go_by_any_of_their_names() -> None:
    rows = {"kind": "rows", "columns": "xmin ymin xmax ymax score class", "unit": "pixels"}
    outputs = (replace(described({"mine": (1, 5, 6)}).outputs[0], aliases=("theirs",)),)
    metadata = replace(described({}), outputs=outputs)
    answer = {"mine": [[[1, 2, 3, 4, 0.5, 2]] * 5]}
    for name in ("mine", "theirs", "0"):
        detect = Detector(metadata, {**rows, "outputs": {"rows": name}})
        assert detect.decode(answer, WHOLE)[0].box == (1, 2, 3, 4)
        assert detect.layout is not None
        assert detect.layout.name("rows") == "mine"
    for wrong in ("other", ("mine", "other")):
        with pytest.raises(OptionError, match=r"layout: the model has no output 'other' .*; its outputs: 'mine'"):
            Detector(metadata, {**rows, "outputs": {"rows": wrong}})
