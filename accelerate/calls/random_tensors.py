"""Random values for a tensor of which nothing is known but what the model says about it."""

from __future__ import annotations

import numpy as np

from ..metadata import TensorInfo
from .conversion import Array, dtype_of
from .shapes import default_shape

__all__ = ["random_tensor"]


def random_tensor(info: TensorInfo, random: np.random.Generator, integers: tuple[int, int] = (-1000, 1000)) -> Array:
    """Return an array that a model takes for a tensor without conversion.

    Parameters
    ----------
    info : TensorInfo
        Its dynamic dimensions become those of `default_shape`. Quantised tensors and images get all of their levels,
        floating-point ones -1 to 1.
    random : numpy.random.Generator
    integers : (int, int)
        The least and the most of integers that stand for themselves. They are often indices: 0 is the one that every
        model has.
    """
    shape, dtype = default_shape(info), dtype_of(info)
    if dtype.hasobject:
        words = np.empty(shape, object)
        words.ravel()[:] = [f"wörd {n}".encode() for n in random.integers(0, 1000, words.size)]
        return words
    if dtype.kind in "fc":
        return random.uniform(-1, 1, shape).astype(dtype)
    if dtype.kind not in "iu":  # bool, and what ml_dtypes has: every type of it knows 0 and 1
        return random.integers(0, 2, shape).astype(dtype)
    limits = np.iinfo(dtype)
    if info.quantization is not None:
        low, high = limits.min, limits.max
    else:
        low, high = (0, 255) if info.layout else integers
    return random.integers(max(limits.min, low), min(limits.max, high), shape, dtype, endpoint=True)
