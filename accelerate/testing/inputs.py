"""Inputs for a model of which nothing is known but its metadata."""

from __future__ import annotations

import numpy as np

from ..metadata import TensorInfo
from ..model import Model
from ..tensors import Array, dtype_of

__all__ = ["random_inputs"]


def random_inputs(model: Model, seed: int = 0, *, dynamic: int = 1) -> dict[str, Array]:
    """Return random inputs that a model takes without conversion; dynamic dimensions are `dynamic`."""
    random = np.random.default_rng(seed)
    return {t.name: _random_tensor(t, random, dynamic) for t in model.metadata().inputs}


def _random_tensor(info: TensorInfo, random: np.random.Generator, dynamic: int) -> Array:
    shape, dtype = tuple(dynamic if n < 0 else n for n in info.shape), dtype_of(info)
    if dtype.hasobject:
        words = np.empty(shape, object)
        words.ravel()[:] = [f"wörd {n}".encode() for n in random.integers(0, 1000, words.size)]
        return words
    if dtype.kind in "fc":
        return random.uniform(-1, 1, shape).astype(dtype)
    if dtype.kind not in "iu":  # bool, and what ml_dtypes has: every type of it knows 0 and 1
        return random.integers(0, 2, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(max(limits.min, -1000), min(limits.max, 1000), shape, endpoint=True).astype(dtype)
