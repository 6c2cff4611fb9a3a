"""From frames to answers: what a model's outputs say of a picture, in the picture's own pixels."""

from .choosing import task_for
from .classifier import Classifier
from .detector import Detector
from .drawing import draw
from .layout import Layout
from .pose import PoseEstimator
from .results import (
    Classification,
    Classifications,
    Detection,
    Detections,
    Pose,
    Poses,
    Segmentation,
)
from .segmenter import Segmenter
from .task import VisionTask

__all__ = [
    "Classification",
    "Classifications",
    "Classifier",
    "Detection",
    "Detections",
    "Detector",
    "Layout",
    "Pose",
    "PoseEstimator",
    "Poses",
    "Segmentation",
    "Segmenter",
    "VisionTask",
    "draw",
    "task_for",
]
