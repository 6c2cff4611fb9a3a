"""The same inputs for every twin of a model, and whether the twins' answers agree.

Twins are one network in several files: TFLite with integers and channels last, ONNX with floating-point values and
channels first. They are told by their number of inputs and outputs and the number of elements of each.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..calls.conversion import Array, InputAdapter, concrete_shape, dequantize, dtype_of
from ..calls.random_tensors import random_tensor
from ..model import Model
from ..testing.comparison import compare, turned

_INPUTS = 8

__all__ = ["are_twins", "compare_answers", "feeds_from", "random_real_inputs"]


def random_real_inputs(model: Model, count: int, seed: int) -> list[list[Array]]:
    """Return `count` sets of inputs as the real values that they stand for, in the order of the required inputs.

    Real values are what twins have in common: float32 for what is quantised, else the model's own dtype.
    """
    random = np.random.default_rng(seed)
    return [
        [
            dequantize(random_tensor(t, random, integers=(0, 0)), t.quantization)
            for t in model.metadata().required_inputs
        ]
        for _ in range(count)
    ]


def feeds_from(real: Sequence[Array], reference: Model, model: Model) -> dict[str, Array]:
    """Return real inputs of `reference` as `model` takes them: its names, dtypes, shapes and layout."""
    feeds = {}
    sides = (one.metadata().required_inputs for one in (reference, model))
    for value, theirs, ours in zip(real, *sides, strict=True):
        moves = theirs.layout and ours.layout and theirs.layout[-3:] != ours.layout[-3:]
        fitting = turned(value, ours.layout.endswith("HWC")) if moves else value
        if fitting.dtype.kind == "f" and ours.quantization is None and dtype_of(ours).kind in "iu":
            fitting = np.rint(fitting).astype(ours.data_type)  # integers that stand for themselves
        wanted = tuple(n if n >= 0 else 1 for n in ours.shape)
        if fitting.size == math.prod(wanted):
            fitting = fitting.reshape(wanted)
        with _Quiet():
            feeds[ours.name] = InputAdapter(ours, lambda info=ours: info).adapt(fitting)  # type: ignore[misc]
    return feeds


def are_twins(one: Model, other: Model) -> bool:
    """Return whether two models could be the same network."""
    return all(
        [math.prod(concrete_shape(t.shape)) for t in ours] == [math.prod(concrete_shape(t.shape)) for t in theirs]
        for ours, theirs in (
            (one.metadata().required_inputs, other.metadata().required_inputs),
            (one.metadata().outputs, other.metadata().outputs),
        )
    )


def compare_answers(reference: Model, model: Model, seed: int) -> dict[str, Any]:
    """Run both on the same inputs and say how far apart their answers are, quantised outputs as real values.

    Returns
    -------
    dict
        ``inputs``: how many there were. ``top1``: the share of them where both have the same class first, None where
        the answer is no list of class scores. ``largest_difference``: between any two values, None for one that is not
        finite. ``range``: between the reference's smallest and largest value, to judge the difference by.
    """
    agreed: list[float] = []
    largest, low, high = 0.0, math.inf, -math.inf
    for real in random_real_inputs(reference, _INPUTS, seed):
        feeds = feeds_from(real, reference, reference)
        (found,) = compare([reference, model], feeds)
        largest = max(largest, found.largest)
        if found.top1 is not None:
            agreed.append(found.top1)
        for output in reference.infer(feeds, dequantize=True).values():
            if output.size and output.dtype.kind in "biuf":
                low, high = min(low, float(output.min())), max(high, float(output.max()))
    return {
        "inputs": _INPUTS,
        "top1": sum(agreed) / len(agreed) if agreed else None,
        "largest_difference": largest if math.isfinite(largest) else None,
        "range": high - low if math.isfinite(high - low) else None,
    }


class _Quiet:
    """Holds back the warnings of a conversion: random values saturate, which says nothing about the model."""

    def __enter__(self) -> None:
        self._log = logging.getLogger("accelerate")
        self._before = self._log.level
        self._log.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._log.setLevel(self._before)
