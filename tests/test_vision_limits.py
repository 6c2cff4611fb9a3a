"""Which results a score, a label or a class leaves out, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from accelerate import Metadata, Normalization, OptionError, TensorInfo
from accelerate.image import geometry
from accelerate.vision import Detections, Detector

IMAGE = TensorInfo("image", shape=(1, 64, 64, 3), layout="NHWC", normalization=Normalization((0.0,), (255.0,), "user"))
WHOLE = geometry((64, 64), IMAGE)
PLACES = 8 * 8 + 4 * 4 + 2 * 2


def listing(labels: Sequence[str] = ()) -> Metadata:
    """Return a detector that lists three objects, whose classes count from one."""
    outputs = tuple(
        TensorInfo(f"detection_{part}", shape=shape)
        for part, shape in {"boxes": (1, 3, 4), "classes": (1, 3), "scores": (1, 3)}.items()
    )
    return Metadata("", "", "", (IMAGE,), outputs, tuple(labels))


def found(detector: Detector, scores: Sequence[float] = (0.9, 0.8, 0.7), **limits: Any) -> Detections:
    answer = {"boxes": [[[0, 0, 0.5, 0.5]] * 3], "classes": [[1, 2, 3]], "scores": np.array([scores], np.float32)}
    return detector.decode({f"detection_{part}": values for part, values in answer.items()}, WHOLE, **limits)


@pytest.mark.parametrize("labels", [{"deny": ["cat"]}, {"allow": ["dog", "cow"]}, {"allow": {"dog": 0.9, "cow": 1.0}}])
def test_a_score_that_equals_the_limit_stays(labels: Any) -> None:
    detector = Detector(listing(["dog", "cat", "cow"]), min_score=0.9, **labels)
    assert [one.label for one in found(detector, (0.9, 1.0, 0.8))] == ["dog"]


def test_sigmoids_that_equal_the_limit_stay() -> None:
    outputs = (TensorInfo("boxes", shape=(1, PLACES, 4)), TensorInfo("scores", shape=(1, PLACES, 2)))
    detector = Detector(Metadata("", "", "", (IMAGE,), outputs), layout={"score": "sigmoid"})
    answer = {name: np.zeros(shape, np.float32) for name, shape in [(one.name, one.shape) for one in outputs]}
    answer["boxes"][..., 2:] = 10
    for logit in (*np.linspace(-15, 15, 200), 30):
        answer["scores"][:] = -50
        answer["scores"][0, 5, 1] = logit
        (score,) = detector.decode(answer, WHOLE, min_score=0, max_results=1).scores.tolist()
        assert detector.decode(answer, WHOLE, min_score=score).scores.tolist() == [score]
        if score < 1:
            assert len(detector.decode(answer, WHOLE, min_score=np.nextafter(np.float32(score), np.float32(1)))) == 0


def test_a_label_may_be_that_of_several_classes() -> None:
    assert found(Detector(listing(["dog", "cat", "dog"]), allow=["dog"])).classes.tolist() == [0, 2]
    assert found(Detector(listing(["dog", "cat", "dog"]), deny=["dog"])).classes.tolist() == [1]


def test_a_class_without_a_label_goes_by_its_number() -> None:
    assert found(Detector(listing(["dog", "", "cow"]), allow={"1": None, "cow": 0.71})).classes.tolist() == [1]
    assert found(Detector(listing(), deny=["0", "7"])).classes.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("labels", "arguments", "said"),
    [
        (["dog", "cat"], {"allow": [1]}, "allow: the model has no label 1; class 1 is 'cat'"),
        (["dog", "cat"], {"deny": ["0"]}, "deny: the model has no label '0'; class 0 is 'dog'"),
        ([], {"deny": [0]}, "deny: the model has no label 0; class 0 is '0'"),
        ([], {"allow": ["dog"]}, "allow: the model has no label 'dog'; it has none: load(..., label_path="),
        (["dog"], {"allow": ["²"]}, "allow: the model has no label '²'; it has 1: dog"),
        (["dog"], {"allow": [None]}, "allow: the model has no label None; it has 1: dog"),
        (["dog"], {"deny": {"dog": 0.5}}, "deny is {'dog': 0.5}; wanted labels"),
    ],
)
def test_a_label_that_no_class_has_is_refused(labels: list[str], arguments: Any, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        Detector(listing(labels), **arguments)
    assert str(caught.value).startswith(said)
