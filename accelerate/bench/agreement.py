"""The same inputs for every twin of a model, and whether the twins' answers agree: for `bench` and for `tune`.

Twins are one network in several files: TFLite with integers and channels last, ONNX with floating-point values and
channels first. They are told by their number of inputs and outputs and the number of elements of each.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..calls.conversion import Array, InputAdapter, concrete_shape, dequantize, dtype_of
from ..calls.names import NameIndex
from ..calls.random_tensors import random_tensor
from ..calls.shapes import default_shape
from ..errors import TensorError
from ..metadata import Metadata, TensorInfo
from ..model import Model
from ..testing.comparison import OutputDifference, Reference, turned

_INPUTS = 8
_WITHIN = 0.05  # of an output's range, as far as answers that agree may differ
#: The level of black.
_DARKEST = {"uint8": 0, "int8": -128}
_ROUNDING = 1e-5  # of its largest value, which floats in another order of computing may differ by

__all__ = [
    "adapted_feeds",
    "are_twins",
    "compare_answers",
    "feeds_from",
    "random_answers",
    "random_real_inputs",
    "real_values",
]


def random_answers(model: Model, seed: int) -> list[Reference]:
    """Return the answers of a model to random inputs, for `compare_answers`."""
    return [Reference(model, feeds_from(real, model, model)) for real in random_real_inputs(model, _INPUTS, seed)]


def random_real_inputs(model: Model, count: int, seed: int) -> list[list[Array]]:
    """Return `count` sets of inputs as the real values that they stand for, in the order of the required inputs.

    Real values are what twins have in common: float32 for what is quantised, else the model's own dtype.
    """
    random = np.random.default_rng(seed)
    tensors = model.metadata().required_inputs
    return [
        real_values(model, {t.name: random_tensor(t, random, integers=(0, 0)) for t in tensors}) for _ in range(count)
    ]


def real_values(model: Model, feeds: Mapping[str, Array]) -> list[Array]:
    """Return what inputs in the model's own dtypes stand for, in the order of the required ones."""
    return [dequantize(feeds[t.name], t.quantization) for t in model.metadata().required_inputs]


def feeds_from(real: Sequence[Array], reference: Model, model: Model) -> dict[str, Array]:
    """Return real inputs of `reference` as `model` takes them: its names, dtypes, shapes and layout."""
    feeds = {}
    sides = (one.metadata().required_inputs for one in (reference, model))
    for value, theirs, ours in zip(real, *sides, strict=True):
        moves = theirs.layout and ours.layout and theirs.layout[-3:] != ours.layout[-3:]
        fitting = turned(value, ours.layout.endswith("HWC")) if moves else value
        if fitting.dtype.kind == "f" and ours.quantization is None and dtype_of(ours).kind in "iu":
            fitting = _levels(fitting, theirs, ours)
        wanted = default_shape(ours)
        if fitting.size == math.prod(wanted):
            fitting = fitting.reshape(wanted)
        with _Quiet():
            feeds[ours.name] = InputAdapter(ours, lambda info=ours: info).adapt(fitting)  # type: ignore[misc]
    return feeds


def _levels(real: Array, theirs: TensorInfo, ours: TensorInfo) -> Array:
    """Return real values for a tensor of integers of which nothing says what they stand for.

    Of an image they are the pixels, as everywhere; else they stand for themselves.
    """
    if ours.layout and ours.data_type in _DARKEST:
        n, q = theirs.normalization, theirs.quantization
        if q is not None and theirs.data_type in _DARKEST and len(q.scale) == 1:
            real = real / q.scale[0] + q.zero_point[0] - _DARKEST[theirs.data_type]
        elif n is not None and len(n.mean) == len(n.std) == 1:
            real = real * n.std[0] + n.mean[0]
        real = real + _DARKEST[ours.data_type]
    limits = np.iinfo(ours.data_type)
    return np.clip(np.rint(real), limits.min, limits.max).astype(ours.data_type)


def adapted_feeds(metadata: Metadata, name: str, given: Any) -> dict[str, Array]:
    """Return an input of the caller's as the model takes it, without conversions.

    Raises
    ------
    TensorError
        Naming the input by what it is called.
    """
    try:
        if not isinstance(given, Mapping):
            if len(metadata.required_inputs) != 1:
                wanted = ", ".join(repr(t.name) for t in metadata.required_inputs)
                raise TensorError(  # noqa: TRY301
                    f"it is one array, and the model has {len(metadata.required_inputs)} inputs",
                    f"give {wanted} by name",
                )
            given = {metadata.required_inputs[0].name: given}
        index, adapted = NameIndex(metadata.inputs, "input"), {}
        for key, value in given.items():
            info = metadata.inputs[index.find(key)]
            adapted[info.name] = InputAdapter(info, lambda info=info: info).adapt(value)  # type: ignore[misc]
        if missing := [t.name for t in metadata.required_inputs if t.name not in adapted]:
            raise TensorError(f"input {missing[0]!r} is missing", "give every input that is not optional")  # noqa: TRY301
    except TensorError as error:
        raise error.about(name) from error.__cause__
    return adapted


def are_twins(one: Model, other: Model) -> bool:
    """Return whether two models could be the same network."""
    return all(
        [math.prod(concrete_shape(t.shape)) for t in ours] == [math.prod(concrete_shape(t.shape)) for t in theirs]
        for ours, theirs in (
            (one.metadata().required_inputs, other.metadata().required_inputs),
            (one.metadata().outputs, other.metadata().outputs),
        )
    )


def compare_answers(references: Sequence[Reference], model: Model) -> dict[str, Any]:
    """Run a model on the same inputs and say how far apart the answers are, quantised outputs as real values.

    Returns
    -------
    dict
        ``inputs``: how many there were. ``top1``: the share of them where both have the same class first, None where
        the answer is no list of class scores. ``largest_difference``: between any two values, None for one that is not
        finite. ``range``: between the reference's smallest and largest value, to judge the difference by.
        ``of_range``: the largest difference of an output as a share of its own range, None where it is not finite.
        ``agrees``: whether top-1 is equal on all inputs, or ``of_range`` at most 5 %.
    """
    found = [one.against(model, "the reference", f"{model.backend} on {model.device}") for one in references]
    top1 = [one.top1 for one in found if one.top1 is not None]
    largest = max((one.largest for one in found), default=0.0)
    outputs = [list(same) for same in zip(*(one.outputs for one in found), strict=True)]
    extremes = [(out.low, out.high) for same in outputs for out in same if not math.isnan(out.low)]
    low, high = (min(low for low, _ in extremes), max(high for _, high in extremes)) if extremes else (0.0, math.inf)
    share = max(map(_of_range, outputs), default=0.0)
    return {
        "inputs": len(found),
        "top1": sum(top1) / len(top1) if top1 else None,
        "largest_difference": largest if math.isfinite(largest) else None,
        "range": high - low if math.isfinite(high - low) else None,
        "of_range": share if math.isfinite(share) else None,
        "agrees": share <= _WITHIN or (len(top1) == len(found) > 0 and min(top1) == 1),
    }


def _of_range(same: Sequence[OutputDifference]) -> float:
    """Return the largest difference of one output, on all inputs, as a share of its range.

    An output that is the same on all inputs has none: its value stands for it.
    """
    largest = max(out.largest for out in same)
    low, high = min(out.low for out in same), max(out.high for out in same)
    size = max(abs(low), abs(high))
    if not largest > _ROUNDING * size and math.isfinite(size):
        return 0.0
    spread = high - low or size
    return largest / spread if spread > 0 and math.isfinite(spread) else math.inf if largest else 0.0


class _Quiet:
    """Holds back the warnings of a conversion: random values saturate, which says nothing about the model."""

    def __enter__(self) -> None:
        self._log = logging.getLogger("accelerate")
        self._before = self._log.level
        self._log.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._log.setLevel(self._before)
