"""Inputs for a model of which nothing is known but its metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..calls.conversion import Array
from ..calls.random_tensors import random_tensor
from ..metadata import TensorInfo
from ..model import Model

__all__ = ["random_inputs", "random_tensors"]


def random_inputs(model: Model, seed: int = 0, *, dynamic: int = 1) -> dict[str, Array]:
    """Return random inputs that a model takes without conversion, but for optional ones; -1 becomes `dynamic`."""
    return random_tensors(model.metadata().required_inputs, seed, dynamic=dynamic)


def random_tensors(tensors: Iterable[TensorInfo], seed: int, *, dynamic: int = 1) -> dict[str, Array]:
    """Return random values for tensors, by name."""
    random = np.random.default_rng(seed)
    sized = [replace(t, shape=tuple(dynamic if n < 0 else n for n in t.shape)) for t in tensors]
    return {t.name: random_tensor(t, random) for t in sized}
