"""Which results a score, a label or a class leaves out, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from accelerate import Metadata, Normalization, TensorInfo
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
