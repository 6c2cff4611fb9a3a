"""Between a caller, who knows the first model of a failover, and another one: names, layout, and what numbers mean.

Each model converts for itself what means the same to all: pixels, and real numbers. What is left is done here: levels
of the first model's quantisation, real numbers by its normalisation, and pictures with the channels at the other end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...calls.arrays import as_array, is_masked
from ...calls.conversion import Array, InputAdapter, dequantize, is_float
from ...calls.names import NameIndex, Outputs
from ...calls.pixels import QUANTISED, keeps_levels, note_frame, was_frame
from ...errors import TensorError
from ...metadata import Metadata, Normalization, TensorInfo

__all__ = ["Translation", "is_transposed", "transposed_shape"]


class Translation:
    """See the module.

    Parameters
    ----------
    ours, theirs : Metadata
        Of the first model and of the other, which have been compared.
    inputs, outputs : NameIndex
        Of `ours`.
    """

    def __init__(self, ours: Metadata, theirs: Metadata, inputs: NameIndex, outputs: NameIndex) -> None:
        others = {t.name: t for t in theirs.inputs}
        ways = {t.name: self.of_input(t, others[t.name]) for t in ours.inputs}
        self._ways = {name: way for name, way in ways.items() if way is not None}
        self._names = frozenset(others)
        self._required = [t.name for t in ours.required_inputs]
        self._inputs, self._outputs = inputs, outputs
        self._order = tuple(t.name for t in ours.outputs)
        #: whether both give their outputs in one order under the same names
        self._alike = [(t.name, t.aliases) for t in ours.outputs] == [(t.name, t.aliases) for t in theirs.outputs]

    @staticmethod
    def of_input(mine: TensorInfo, other: TensorInfo) -> Callable[[Any], Any] | None:
        """Return what makes a value for the other model of one for ours; None where it is the same."""
        if mine.data_type == "string":
            return None
        transpose, levels, rescale = is_transposed(mine, other), _levels_differ(mine, other), _rescaling(mine, other)
        return _Way(mine, transpose, levels, rescale) if transpose or levels or rescale is not None else None

    def inputs(self, given: Any) -> Any:
        """Return what the other model's `infer` takes for what a caller gives.

        Raises
        ------
        TensorError
        """
        if not isinstance(given, Mapping):
            if not self._ways or len(self._required) != 1:
                return given
            given = {self._required[0]: given}
        elif not self._ways and given.keys() <= self._names:
            return given
        values: dict[str, Any] = {}
        for key, value in given.items():
            name = key if key in self._names else self._inputs.name_of(key)
            if name in values:
                raise TensorError(f"input {name!r} is given twice, at last as {key!r}")
            way = self._ways.get(name)
            values[name] = value if way is None else way(value)
        return values

    def outputs(self, answer: dict[str, Array]) -> dict[str, Array]:
        """Return an answer of the other model as ours would have given it."""
        if self._alike:
            return answer
        mine = Outputs({name: answer[name] for name in self._order})
        mine.index = self._outputs
        return mine


class _Way:
    """How one input's value becomes the other model's."""

    def __init__(self, mine: TensorInfo, transpose: bool, levels: bool, rescale: tuple[Array, Array] | None) -> None:
        self._mine = mine
        self._transpose = transpose
        self._levels = levels
        self._rescale = rescale

    def __call__(self, value: Any) -> Any:
        if value is None or is_masked(value) or isinstance(value, (str, bytes)):
            return value  # what the model refuses, it refuses in its own words
        array = as_array(value)
        if array.dtype.hasobject or array.dtype.type is np.void:
            return value
        mine = self._mine
        pixels = bool(mine.layout) and array.dtype == np.uint8
        levels = mine.data_type in QUANTISED and array.dtype.kind in "iub" and (not pixels or mine.data_type == "uint8")
        # as the first model takes it: a flat array is one of its shape, and any whole numbers are its levels
        info = replace(mine, normalization=None)
        if not levels:
            info = replace(info, data_type=array.dtype.name, quantization=None)
        array = InputAdapter(info, lambda: info).adapt(array)
        if levels and self._levels:
            array = dequantize(array, mine.quantization)
        if self._rescale is not None and is_float(array.dtype):
            factor, summand = self._rescale
            array = array * factor + summand
        if self._transpose:
            last = self._mine.layout.endswith("C")
            array = np.ascontiguousarray(np.moveaxis(array, -1, -3) if last else np.moveaxis(array, -3, -1))
        if was_frame(value):
            note_frame(array)
        return array


def is_transposed(mine: TensorInfo, other: TensorInfo) -> bool:
    """Return whether two inputs are pictures, one with the channels first and one with the channels last."""
    return bool(mine.layout and other.layout) and mine.layout != other.layout and len(mine.shape) == len(other.shape)


def transposed_shape(shape: Sequence[int], layout: str) -> tuple[int, ...]:
    """Return the shape with the channels at the other end."""
    *batch, a, b, c = shape
    return (*batch, c, a, b) if layout.endswith("C") else (*batch, b, c, a)


def _levels_differ(mine: TensorInfo, other: TensorInfo) -> bool:
    """Return whether whole numbers of our type are levels that the other model would take for something else."""
    if mine.quantization is None or mine.data_type not in QUANTISED:
        return False
    if (mine.data_type, mine.quantization) == (other.data_type, other.quantization):
        return False
    if mine.data_type != "uint8" or not mine.layout:
        return True
    # of a picture they are its pixels to all models, unless they are made by a normalisation that changes them
    n = mine.normalization
    return n is not None and n.source == "user" and not keeps_levels(n, mine.quantization)


def _rescaling(mine: TensorInfo, other: TensorInfo) -> tuple[Array, Array] | None:
    """Return by which factor and summand our real numbers become the other model's: pixels go between."""
    a, b = _said_normalization(mine), _said_normalization(other)
    if a is None or b is None or (a.mean, a.std) == (b.mean, b.std):
        return None
    shape = (-1,) if mine.layout.endswith("C") else (-1, 1, 1)
    (mean_a, std_a), (mean_b, std_b) = _columns(a, shape), _columns(b, shape)
    return std_a / std_b, (mean_a - mean_b) / std_b


def _said_normalization(info: TensorInfo) -> Normalization | None:
    """Return how pixels become the real numbers of a picture; None where nobody says it of these."""
    n, q = info.normalization, info.quantization
    if not info.layout or n is None or n.source == "assumed":
        return None
    if q is not None:  # it may be that of the model before it was quantised
        shifted = replace(q, zero_point=tuple(z + 128 for z in q.zero_point)) if info.data_type == "int8" else q
        return n if keeps_levels(n, shifted) else None
    return n


def _columns(n: Normalization, shape: tuple[int, ...]) -> tuple[Array, Array]:
    return np.asarray(n.mean, np.float32).reshape(shape), np.asarray(n.std, np.float32).reshape(shape)
