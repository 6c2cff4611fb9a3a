"""Inputs for a model of which nothing is known but its metadata."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..calls.conversion import Array
from ..calls.random_tensors import random_tensor
from ..model import Model

__all__ = ["random_inputs"]


def random_inputs(model: Model, seed: int = 0, *, dynamic: int | None = None) -> dict[str, Array]:
    """Return random inputs that a model takes without conversion.

    Dynamic dimensions are `dynamic`; without it they have the size that the model was exported for, else 1.
    """
    random = np.random.default_rng(seed)
    sized = model.metadata().inputs
    if dynamic is not None:
        sized = tuple(replace(t, shape=tuple(dynamic if n < 0 else n for n in t.shape)) for t in sized)
    return {t.name: random_tensor(t, random) for t in sized}
