"""Whether several models are the same network: their answers to the same inputs, set side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..calls.conversion import Array, dequantize
from ..calls.names import NameIndex
from ..errors import OptionError, TensorError
from ..metadata import TensorInfo
from ..model import Model

__all__ = ["Comparison", "OutputDifference", "Reference", "compare", "in_shape", "partners_of", "turned"]


@dataclass(frozen=True)
class OutputDifference:
    """How far one output of a model is from the reference's.

    Attributes
    ----------
    name : str
        The reference's name for it.
    largest : float
        The largest absolute difference, in real values (dequantised). Infinite where one of two values is NaN, where
        the shapes differ, and where strings do.
    at : tuple of int
        Where in the reference's output that is; empty where the shapes differ.
    top1 : float or None
        The share of the batch, from 0 to 1, whose greatest value is at the same place; a tie agrees if the places
        overlap, and one of all values with another such. None for an output that is not one row of two or more scores
        for each item, and for a model with several outputs: a detector's boxes and classes are rows, too, but no
        scores.
    low, high : float
        The smallest and the largest finite value of the reference's output, to judge the difference by; NaN without.
    """

    name: str
    largest: float
    at: tuple[int, ...]
    top1: float | None
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        agreement = "" if self.top1 is None else f"top-1 agrees on {self.top1:.1%}, "
        place = f" at {list(self.at)}" if self.at and self.largest else ""
        return f"{self.name!r}: {agreement}largest difference {self.largest:.6g}{place}"


@dataclass(frozen=True)
class Comparison:
    """One model set against the reference.

    Attributes
    ----------
    reference, model : str
        "0: tflite_cpu on cpu": place in the list, backend and device.
    outputs : tuple of OutputDifference
        In the order of the reference's outputs.
    """

    reference: str
    model: str
    outputs: tuple[OutputDifference, ...]

    @property
    def largest(self) -> float:
        """The largest difference of all outputs."""
        return max((output.largest for output in self.outputs), default=0.0)

    @property
    def top1(self) -> float | None:
        """The top-1 agreement of a model whose only output has one."""
        return self.outputs[0].top1 if len(self.outputs) == 1 else None

    def __str__(self) -> str:
        return "\n  ".join([f"{self.model} against {self.reference}", *map(str, self.outputs)])


def compare(models: Sequence[Model], inputs: Any) -> list[Comparison]:
    """Run several models of the same network on the same inputs and compare their answers with the first one's.

    Parameters
    ----------
    models : sequence of Model
        Two or more; the first is the reference.
    inputs : array_like, or Mapping of str to array_like
        What the first model takes: one array, or one for each of its inputs by any of their names (an optional one
        is given to all models or to none). Values are
        converted as `Model.infer` converts them; where the first model takes levels (uint8, say) and another one has
        neither that type nor a normalization, that one gets the levels' real values ``(q - zero_point) * scale``.
        Images may be N x H x W x C or N x C x H x W (or lack N), whichever layout a model has; a batch of N goes item
        by item through a model whose first dimension is 1.

    Returns
    -------
    list of Comparison
        One for each model but the first. Inputs and outputs are matched by name or alias where all of them can be,
        else by position.

    Raises
    ------
    OptionError
        There are fewer than two models.
    TensorError
        A model does not take the inputs, or has another number of inputs or outputs than the first.

    Examples
    --------
    >>> for comparison in compare([quantized, exported], frame):
    ...     print(comparison)
    1: onnxruntime on cpu against 0: tflite_cpu on cpu
      'probability': top-1 agrees on 100.0%, largest difference 0.00195 at [0, 283]
    """
    if len(models) < 2:
        raise OptionError(f"compare got {len(models)} models; wanted two or more of the same network")
    reference = Reference(models[0], inputs)
    labels = [f"{i}: {model.backend} on {model.device}" for i, model in enumerate(models)]
    return [reference.against(model, labels[0], label) for label, model in zip(labels[1:], models[1:], strict=True)]


class Reference:
    """A model's answer to some inputs, for those of other models to be set against.

    Parameters
    ----------
    model : Model
    inputs : array_like, or Mapping of str to array_like
        As for `compare`.
    """

    def __init__(self, model: Model, inputs: Any) -> None:
        self._tensors, self._given = _given(model, inputs)
        self._last = [_is_channels_last(t, a) for t, a in zip(self._tensors, self._given, strict=True)]
        self._outputs = model.metadata().outputs
        self._answers = _answers(model, self._tensors, self._given, self._last)

    def against(self, model: Model, own_label: str, label: str) -> Comparison:
        """Run a model on the same inputs; the errors are those of `compare`."""
        tensors, given = self._tensors, self._given
        theirs = _taken(model, {name for t in tensors for name in (t.name, *t.aliases)})
        order = partners_of(tensors, theirs, f"{label}: inputs")
        ours: list[Any] = [None] * len(order)
        last: list[bool | None] = [None] * len(order)
        for i, position in enumerate(order):
            ours[position], last[position] = _as_known_to(theirs[position], given[i], tensors[i]), self._last[i]
        answers = _answers(model, theirs, ours, last)
        partners = partners_of(self._outputs, model.metadata().outputs, f"{label}: outputs")
        differences = [
            _difference(info.name, want, answers[position], scores=len(self._answers) == 1)
            for info, want, position in zip(self._outputs, self._answers, partners, strict=True)
        ]
        return Comparison(own_label, label, tuple(differences))


# What goes in


def _given(model: Model, inputs: Any) -> tuple[list[TensorInfo], list[Array]]:
    """Return the first model's inputs that were given, and their values."""
    metadata = model.metadata()
    if not isinstance(inputs, Mapping):
        required = metadata.required_inputs
        inputs = {required[0].name if required else "0": inputs}
    index = NameIndex(metadata.inputs, "input")
    found = {index.find(name): np.asarray(value) for name, value in inputs.items()}
    missing = [t.name for i, t in enumerate(metadata.inputs) if i not in found and not t.optional]
    if missing:
        raise TensorError(f"compare needs every input of the first model; missing: {', '.join(map(repr, missing))}")
    return [metadata.inputs[i] for i in sorted(found)], [found[i] for i in sorted(found)]


def _taken(model: Model, names: AbstractSet[str]) -> list[TensorInfo]:
    """Return the inputs that a model is given: the optional ones only where they were given to the first one."""
    return [t for t in model.metadata().inputs if not t.optional or names & {t.name, *t.aliases}]


def _as_known_to(info: TensorInfo, given: Array, reference: TensorInfo) -> Array:
    """Return levels of the reference's input as real values, for a model to which they mean nothing."""
    levels = given.dtype == reference.data_type and given.dtype.kind in "iu"
    if levels and info.data_type != reference.data_type and info.normalization is None:
        return dequantize(given, reference.quantization)
    return given


def _is_channels_last(info: TensorInfo, array: Array) -> bool | None:
    """Return whether an image is given with its channels last; None for what is no image."""
    if not info.layout or array.ndim not in (3, 4):
        return None
    as_model = info.layout.endswith("HWC")
    return as_model if _fits(info, array) or not _fits(info, turned(array, as_model)) else not as_model


def _fits(info: TensorInfo, array: Array) -> bool:
    """Return whether an array has a model's shape, but for the size or the lack of a batch."""
    return all(want in (got, -1) for got, want in zip(array.shape[-3:], info.shape[-3:], strict=True))


def turned(image: Array, channels_last: bool) -> Array:
    """Return an image with channels last, or first."""
    return np.moveaxis(image, -3, -1) if channels_last else np.moveaxis(image, -1, -3)


def _answers(
    model: Model, tensors: Sequence[TensorInfo], given: Sequence[Array], channels_last: Sequence[bool | None]
) -> list[Array]:
    """Return a model's real outputs, in its order."""
    feeds = {}
    for info, array, last in zip(tensors, given, channels_last, strict=True):
        wants_last = info.layout.endswith("HWC") if info.layout else last
        feeds[info.name] = array if last is None or last == wants_last else turned(array, bool(wants_last))
    batch = {feeds[t.name].shape[0] for t in tensors if _holds_a_batch(t, feeds[t.name])}
    if len(batch) != 1:
        return list(model.infer(feeds, dequantize=True).values())
    items = [
        model.infer(
            {t.name: feeds[t.name][n : n + 1] if _holds_a_batch(t, feeds[t.name]) else feeds[t.name] for t in tensors},
            dequantize=True,
        )
        for n in range(batch.pop())
    ]
    return [np.concatenate([np.atleast_1d(item[name]) for item in items]) for name in items[0]]


def _holds_a_batch(info: TensorInfo, array: Array) -> bool:
    return array.ndim == len(info.shape) > 1 and info.shape[0] == 1 < array.shape[0]


def partners_of(reference: Sequence[TensorInfo], other: Sequence[TensorInfo], what: str) -> list[int]:
    """Return the position in `other` of each tensor of `reference`."""
    if len(reference) != len(other):
        raise TensorError(
            f"{what}: {len(other)}, but the reference has {len(reference)}", "give models of the same network"
        )
    by_name = []
    for tensor in reference:
        names = {tensor.name, *tensor.aliases}
        same = [i for i, t in enumerate(other) if t.name == tensor.name] or [
            i for i, t in enumerate(other) if names & {t.name, *t.aliases}
        ]
        by_name += same[:1]
    return by_name if len(set(by_name)) == len(reference) else list(range(len(reference)))


# What comes out


def _difference(name: str, want: Array, got: Array, *, scores: bool) -> OutputDifference:
    got = in_shape(got, want)
    rows = _score_rows(want) if scores else None
    finite = want[np.isfinite(want)] if want.dtype.kind in "biuf" else want[:0]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)
    if got.shape != want.shape:
        return OutputDifference(name, math.inf, (), None if rows is None else 0.0, low, high)
    if want.dtype.hasobject or got.dtype.hasobject:
        distance = np.where(want == got, 0.0, math.inf)
    else:
        real, theirs = (a.astype(np.complex128 if a.dtype.kind == "c" else np.float64) for a in (want, got))
        with np.errstate(invalid="ignore"):
            distance = np.abs(real - theirs)
        distance = np.where((real == theirs) | (np.isnan(real) & np.isnan(theirs)), 0.0, distance)
        distance = np.where(np.isnan(distance), math.inf, distance)
    at = tuple(map(int, np.unravel_index(int(distance.argmax()), distance.shape))) if distance.size else ()
    agreement = None if rows is None else _top1(rows, got.reshape(rows.shape))
    return OutputDifference(name, float(distance.max(initial=0.0)), at, agreement, low, high)


def in_shape(got: Array, want: Array) -> Array:
    """Return an output in the other's shape where only dimensions of 1 or the place of the channels differ."""
    if got.shape == want.shape:
        return got
    if [n for n in got.shape if n != 1] == [n for n in want.shape if n != 1]:
        return got.reshape(want.shape)
    if got.ndim == want.ndim and got.ndim in (3, 4):
        for other in (turned(got, True), turned(got, False)):
            if other.shape == want.shape:
                return other
    return got


def _score_rows(output: Array) -> Array | None:
    """Return an output as [items, scores], or None where it is something else."""
    if output.dtype.kind not in "fiu" or not output.size:
        return None
    rows = output.reshape(1, -1) if output.ndim <= 1 else output.reshape(output.shape[0], -1)
    scores = rows.shape[1]
    return rows if scores > 1 and max(output.shape[1:] or output.shape) == scores else None


def _top1(one: Array, other: Array) -> float:
    """Return the share of rows whose greatest values are at the same place."""
    best = [rows == rows.max(axis=1, keepdims=True) for rows in (one, other)]
    none_first = [places.all(axis=1) for places in best]  # as what computes nothing answers: zeros everywhere
    return float(np.mean((best[0] & best[1]).any(axis=1) & (none_first[0] == none_first[1])))
