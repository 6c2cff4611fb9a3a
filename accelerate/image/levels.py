"""From the colours of the resized frame, 0..255, to the values of a tensor: what `InputAdapter` says, but in place.

`InputAdapter` is asked once, for all 256 levels; so its rules, its refusals and its warnings hold here, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, TypeAlias

import numpy as np

from ..calls.conversion import Array, InputAdapter, concrete_shape
from ..calls.pixels import pixel_normalization
from ..errors import TensorError
from ..metadata import Normalization, Quantization, TensorInfo
from .engines import Engine
from .fitting import ImageShape

__all__ = ["Levels", "Part", "writer_for"]

_FLIP = np.uint8(0x80)

#: uint8 pixels and where their values go, both (height, columns): all channels side by side, or one of them.
Part: TypeAlias = tuple[Array, Array]


class Levels:
    """The level itself."""

    #: Whether pixels may be drawn where the values go, and be changed there.
    in_place: ClassVar[bool] = True

    def write(self, engine: Engine, parts: Sequence[Part]) -> None:
        """Write the values of all pixels."""
        for source, target in parts:
            np.copyto(target, source)


class FlippedLevels(Levels):
    """``level - 128`` as int8, which has the bits of the level but for the highest."""

    def write(self, engine: Engine, parts: Sequence[Part]) -> None:
        for source, target in parts:
            np.bitwise_xor(source, _FLIP, out=target.view(np.uint8))


class NormalizedLevels(Levels):
    """``(level - mean) / std`` as float32: two passes of arithmetic take less time than a look-up in a table."""

    in_place = False

    def __init__(self, normalization: Normalization) -> None:
        self._mean = np.asarray(normalization.mean, np.float32)
        self._std = np.asarray(normalization.std, np.float32)
        self._rows: tuple[int, Array, Array] = (0, self._mean, self._std)

    def write(self, engine: Engine, parts: Sequence[Part]) -> None:
        if len(parts) == 1:
            source, target = parts[0]
            mean, std = self._row(source.shape[1])
            np.subtract(source, mean, out=target, dtype=np.float32)
            np.divide(target, std, out=target)
            return
        for i, (source, target) in enumerate(parts):
            np.subtract(source, self._mean[i % self._mean.size], out=target, dtype=np.float32)
            np.divide(target, self._std[i % self._std.size], out=target)

    def _row(self, columns: int) -> tuple[Array, Array]:
        """Return mean and std for a row: broadcasting along three channels takes five times as long."""
        known, mean, std = self._rows
        if known != columns:
            mean, std = (v[0] if v.size == 1 else np.tile(v, columns // v.size) for v in (self._mean, self._std))
            self._rows = (columns, mean, std)
        return mean, std


class TabledLevels(Levels):
    """Any other value, one for each level."""

    in_place = False

    def __init__(self, table: Array) -> None:
        self._table = table

    def write(self, engine: Engine, parts: Sequence[Part]) -> None:
        for i, (source, target) in enumerate(parts):
            own = self._table if len(parts) == 1 else self._table[:, i % self._table.shape[1], np.newaxis].copy()
            engine.look_up(own, source, target)


def writer_for(info: TensorInfo, shape: ImageShape) -> Levels:
    """Return what writes the values of an image input."""
    table = _table(info, shape)
    levels = np.arange(256, dtype=np.uint8)[:, np.newaxis]
    if table.dtype == np.uint8 and np.array_equal(table, levels):
        return Levels()
    if table.dtype == np.int8 and np.array_equal(table.view(np.uint8), levels ^ _FLIP):
        return FlippedLevels()
    if table.dtype == np.float32 and info.normalization is not None:
        return NormalizedLevels(info.normalization)
    return TabledLevels(table)


def _table(info: TensorInfo, shape: ImageShape) -> Array:
    """Return the values of all levels, (256, channels), or (256, 1) where they are the same in all channels."""
    sides = {"N": 1, "H": 16, "W": 16, "C": shape.channels}
    n = pixel_normalization(info)
    small = replace(
        info,
        shape=tuple(sides[axis] for axis in shape.layout),
        quantization=_along_channels(info, shape.layout),
        # as the user's: `converter_of` says what is assumed, for each model
        normalization=replace(n, source="user") if n is not None else info.normalization,
    )
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    channels_last = shape.layout.endswith("C")
    ramp = np.broadcast_to(levels[..., np.newaxis] if channels_last else levels, small.shape)
    try:
        values = InputAdapter(small, lambda: small).adapt_frame(ramp)
    except TensorError:
        # the same refusal, with the shapes that the caller knows
        InputAdapter(info, lambda: info).adapt_frame(np.zeros(concrete_shape(info.shape), np.uint8))
        raise
    by_level = values.reshape(256, -1) if channels_last else values.reshape(-1, 256).T
    same = bool((by_level == by_level[:, :1]).all())
    return np.ascontiguousarray(by_level[:, :1] if same else by_level)


def _along_channels(info: TensorInfo, layout: str) -> Quantization | None:
    """Return the quantisation without an axis that says nothing."""
    q = info.quantization
    if q is None or q.axis is None or layout[q.axis] == "C":
        return q
    if len(q.scale) == 1:
        return replace(q, axis=None)
    raise TensorError(
        f"input {info.name!r} has a scale for each index along axis {q.axis} of {layout}; "
        "wanted one for all or one for each channel",
        "give `infer` an array",
    )
