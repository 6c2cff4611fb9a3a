"""Which task a model is for."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError
from ..metadata import Metadata
from ..model import Model
from .classifier import Classifier
from .detector import Detector
from .outputs import known_of, picture_input
from .plain_rules import plain_task, scores_layout
from .pose import PoseEstimator
from .segmenter import Segmenter
from .task import VisionTask

__all__ = ["task_for"]


def task_for(model: Model | Metadata) -> VisionTask[Any]:
    """Return what the model is for: a `Classifier`, `Detector`, `Segmenter` or `PoseEstimator` of it.

    Raises
    ------
    OptionError
        It takes no picture, or nothing tells what its outputs hold. The error is that of the detector, whose outputs
        need the most to be told.
    """
    metadata = model.metadata() if isinstance(model, Model) else model
    if picture_input(metadata) is None:
        raise OptionError("the model takes no picture", "call infer")
    known = known_of(metadata)
    layout = metadata.extra.get("vision", {}).get("layout", {})
    kind = layout.get("kind", "")
    plain = "" if kind else plain_task(known)
    if kind == "keypoints" or known.task == "pose" or plain == "PoseEstimator":
        return PoseEstimator(model)
    if kind in ("classes", "index", "mask") or plain == "Segmenter":
        return Segmenter(model)
    if kind == "scores" or plain == "Classifier":
        return Classifier(model)
    try:
        return Detector(model)
    except OptionError:
        if kind or scores_layout(known) is None:
            raise
    return Classifier(model)
