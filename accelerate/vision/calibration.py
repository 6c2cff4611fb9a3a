"""Scores that a model's metadata calibrates: each class by a sigmoid of its own.

The formula and the form of the file are those of tensorflow/tflite-support
(tensorflow_lite_support/cc/task/processor/..., "score_calibration").
"""

from __future__ import annotations

import numpy as np

from ..calls.conversion import Array
from ..metadata import TensorInfo

__all__ = ["calibrated"]


def calibrated(scores: Array, classes: Array, info: TensorInfo) -> Array:
    """Return the scores, calibrated if the metadata says how: scale / (1 + exp(-(slope * t(score) + offset))).

    `t` is the identity, the logarithm, or the inverse of the logistic function. A class without a sigmoid, and a score
    below what its sigmoid is for, has the default.
    """
    said = info.extra.get("scoreCalibration", {})
    if not said.get("sigmoids"):
        return scores
    table = np.array([(np.nan,) * 4 if one is None else one for one in (*said["sigmoids"], None)])
    inside = (classes >= 0) & (classes < len(table))
    scale, slope, offset, least = table[np.where(inside, classes, -1).astype(np.int64)].T
    with np.errstate(all="ignore"):
        moved = scores.astype(np.float64)
        if said["transformation"] != "identity":
            moved = np.log(moved) - (np.log1p(-moved) if said["transformation"] == "inverse_logistic" else 0)
        value = scale / (1 + np.exp(-(slope * moved + offset)))
    result: Array = np.where(np.isnan(scale) | (scores < least), said["default"], value).astype(np.float32)
    return result
