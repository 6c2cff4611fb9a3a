"""Which task a model is for."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError
from ..metadata import Metadata
from ..model import Model
from .classifier import Classifier, scores_layout
from .detector import Detector
from .outputs import picture_input
from .pose import PoseEstimator, points_layout
from .segmenter import Segmenter, pixels_layout
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
    said = str(metadata.extra.get("task", ""))
    layout = metadata.extra.get("vision", {}).get("layout", {})
    kind = layout.get("kind", "")
    if kind == "keypoints" or said == "pose" or (not kind and points_layout(metadata) is not None):
        return PoseEstimator(model)
    if kind in ("classes", "index", "mask"):
        return Segmenter(model)
    alone = not kind and len(metadata.outputs) == 1
    if kind == "scores" or (alone and said in ("", "classify") and scores_layout(metadata) is not None):
        return Classifier(model)
    if alone and said in ("", "segment") and pixels_layout(metadata) is not None:
        return Segmenter(model)
    try:
        return Detector(model)
    except OptionError:
        if kind or scores_layout(metadata) is None:
            raise
    return Classifier(model)
