"""Converter: what is settled once for an image input, and the way of a frame through it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..calls.conversion import Array, dtype_of
from ..calls.pixels import pixel_normalization
from ..calls.shapes import default_shape
from ..errors import OptionError, TensorError
from ..metadata import TensorInfo
from .engines import RESAMPLES, Engine, current_engine
from .fitting import Geometry, fit_frame, image_shape
from .frames import YUV, as_color, as_frame, frame_size
from .levels import Part, writer_for

__all__ = ["Converter", "converter_of"]

# By identity first: to hash a `TensorInfo` takes 5 us, and several times as long just after a frame went through the
# processor's caches.
_known: dict[int, tuple[TensorInfo, Converter]] = {}
_KEPT = 64


def converter_of(info: TensorInfo) -> Converter:
    """Return the converter for an image input; equal ones share it."""
    known = _known.get(id(info))
    if known is not None and known[0] is info:
        return known[1]
    # what matters of it, without what has no hash
    layout, shape = image_shape(info).layout, tuple(info.shape)
    alike = TensorInfo(
        info.name, (), "", info.data_type, shape, info.quantization, info.normalization, layout, info.color,
        extra={"default_shape": default_shape(info)},
    )  # fmt: skip
    converter = _converter(alike)
    if len(_known) >= _KEPT:
        _known.clear()
    _known[id(info)] = (info, converter)
    return converter


@lru_cache(maxsize=_KEPT)
def _converter(info: TensorInfo) -> Converter:
    return Converter(info)


class Scratch:
    """Arrays of one call at a time, kept for the next."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def array(self, name: str, height: int, width: int, channels: int) -> Array:
        """Return the uint8 array of this name; what it holds is left over."""
        array = self._arrays.get(name)
        if array is None or array.shape != (height, width, channels):
            array = self._arrays[name] = np.empty((height, width, channels), np.uint8)
        return array


class Converter:
    """Makes the tensor of one image input, whose layout is known, from frames, from any thread."""

    def __init__(self, info: TensorInfo) -> None:
        self._info = info
        self._shape = image_shape(info)
        self._dtype = dtype_of(info)
        self._rows, self._columns = self._shape.layout.index("H"), self._shape.layout.index("W")
        self._fixed = self._shape_of(self._shape.height, self._shape.width)  # -1 is a dynamic side
        channels = self._shape.channels
        self._order = "GRAY" if channels == 1 else "BGR" if info.color == "BGR" else "RGB"
        # one channel first or last is the same memory
        self._channels_last = channels == 1 or self._shape.layout.endswith("C")
        self._writer = writer_for(info, self._shape)
        n = pixel_normalization(info)
        #: The normalisation, where nobody said that it is the model's.
        self.assumed = n if n is not None and n.source == "assumed" else None
        self._in_place = self._writer.in_place and self._channels_last
        self._idle: list[Scratch] = []  # its pop and append are atomic

    def convert(
        self, frame: Any, out: Array | None, resize: str, resample: str, color: str, anchor: str, fill: Any
    ) -> tuple[Array, Geometry]:
        """Do what `accelerate.image.to_tensor` says; return where the frame's pixels went, too."""
        if resample not in RESAMPLES:
            raise OptionError(f"resample is {resample!r}; wanted one of {', '.join(map(repr, RESAMPLES))}")
        fill = fill if type(fill) is int and 0 <= fill <= 255 else as_color(fill, self._order)
        source, color = as_frame(frame, color)
        own_height, own_width = frame_size(source, color)
        tensor = self._new(own_height, own_width) if out is None else self._checked(out)
        height, width = tensor.shape[self._rows], tensor.shape[self._columns]
        geometry = fit_frame(own_height, own_width, height, width, resize, anchor)
        if np.may_share_memory(source, tensor):
            source = source.copy()
        engine = current_engine()
        try:
            scratch = self._idle.pop()
        except IndexError:
            scratch = Scratch()
        drawn = tensor.view(np.uint8).reshape(height, width, -1) if self._in_place else None
        pixels = _draw(engine, scratch, source, color, geometry, resample, self._order, fill, drawn)
        self._writer.write(engine, self._parts(engine, pixels, tensor))
        self._idle.append(scratch)
        return tensor, geometry

    def _parts(self, engine: Engine, drawn: Array, tensor: Array) -> Sequence[Part]:
        height, width, channels = drawn.shape
        if self._channels_last:
            return [(drawn.reshape(height, -1), tensor.reshape(height, -1))]
        return list(zip(engine.planes(drawn), tensor.reshape(channels, height, width), strict=True))

    def _new(self, height: int, width: int) -> Array:
        if self._shape.frames > 1:
            raise self._refusal(
                "it takes several frames at once",
                "make an array for all of them and give the place of each in turn, out=batch[i : i + 1]",
            )
        return np.empty(self._shape_of(self._shape.height_for(height), self._shape.width_for(width)), self._dtype)

    def _checked(self, out: Array) -> Array:
        if not isinstance(out, np.ndarray):
            raise self._refusal(f"out is a {type(out).__name__}, wanted a numpy.ndarray")
        flags, problem = out.flags, ""
        if out.shape != self._fixed and not self._fits(out.shape):
            problem = f"wanted shape {list(self._fixed)}, the place of one frame"
        elif out.dtype != self._dtype:
            problem = f"wanted {self._dtype}"
        elif not flags.writeable:
            problem = "which is read-only; wanted memory to write into"
        elif not flags.c_contiguous:
            problem = f"whose strides are {list(out.strides)}; wanted a C-contiguous array"
        if problem:
            raise self._refusal(f"out is {out.dtype}{list(out.shape)}, {problem}")
        return out

    def _fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether it is the shape for one frame, whatever the dynamic sides are."""
        return (
            len(shape) == len(self._fixed)
            and min(shape) > 0
            and all(want in (got, -1) for got, want in zip(shape, self._fixed, strict=True))
        )

    def _shape_of(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape for one frame whose sides these are in the tensor."""
        sides = {"N": 1, "C": self._shape.channels, "H": height, "W": width}
        return tuple(sides[axis] for axis in self._shape.layout)

    def _refusal(self, problem: str, remedy: str = "") -> TensorError:
        about = f"input {self._info.name!r}, {self._info.data_type}{list(self._info.shape)}"
        return TensorError(f"{about}: {problem}", remedy)


def _draw(
    engine: Engine,
    scratch: Scratch,
    source: Array,
    color: str,
    geometry: Geometry,
    resample: str,
    order: str,
    fill: Any,
    canvas: Array | None,
) -> Array:
    """Draw the frame in the tensor's size and order of colours, on the canvas if there is one.

    Without one it is drawn anywhere, be it that the frame itself is the drawing.
    """
    height, width = size = geometry.tensor_size
    if canvas is None:
        if color == order and geometry.source[2:] == geometry.frame_size == geometry.target[2:] == size:
            return source
        canvas = scratch.array("canvas", height, width, 1 if order == "GRAY" else 3)
    top, left, rows, columns = geometry.target
    if (rows, columns) == size:
        target = canvas
        if color == order and geometry.source[2:] == geometry.frame_size != size:  # the usual frame, at once
            engine.resize(source, canvas, resample)
            return canvas
    else:
        canvas[:top] = canvas[top + rows :] = fill
        canvas[:, :left] = canvas[:, left + columns :] = fill
        target = canvas[top : top + rows, left : left + columns]
    first, *others = _planes(source, color, geometry.source)
    if others:
        # as OpenCV's conversions do, where nothing is resized: each colour for all of its pixels
        resampled = "nearest" if first.shape[:2] == (rows, columns) else resample
        luma = _scaled(engine, scratch, "luma", first, rows, columns, resample)
        names = ("chroma", "second chroma")
        chroma = [
            _scaled(engine, scratch, name, plane, rows, columns, resampled)
            for name, plane in zip(names, others, strict=False)
        ]
        color, first = "RGB", target if order == "RGB" else scratch.array("rgb", rows, columns, 3)
        engine.yuv_to_rgb(luma, chroma, first)
        if first is target:
            return canvas
    if color != order:
        engine.recolor(_scaled(engine, scratch, "resized", first, rows, columns, resample), color, order, target)
    elif first.shape == target.shape:
        np.copyto(target, first)
    else:
        engine.resize(first, target, resample)
    return canvas


def _scaled(
    engine: Engine, scratch: Scratch, name: str, source: Array, height: int, width: int, resample: str
) -> Array:
    if source.shape[:2] == (height, width):
        return source
    target = scratch.array(name, height, width, source.shape[2])
    engine.resize(source, target, resample)
    return target


def _planes(source: Array, color: str, part: tuple[int, int, int, int]) -> list[Array]:
    """Return a part of the frame; of the YUV formats brightness and colours apart, as `yuv_to_rgb` wants them."""
    top, left, height, width = part
    bottom, right = top + height, left + width
    if color not in YUV:
        return [source[top:bottom, left:right]]
    rows, columns = frame_size(source, color)
    # the part's ends are even, see `fit_frame`
    if color in ("NV12", "I420"):
        sides = (rows // 2, columns // 2)
        colors = source[rows:].reshape(1, *sides, 2) if color == "NV12" else source[rows:].reshape(2, *sides, 1)
        part_of_them = colors[:, top // 2 : bottom // 2, left // 2 : right // 2]
        return [source[top:bottom, left:right], *part_of_them]
    pairs = source.reshape(rows, columns // 2, 4)
    return [source[top:bottom, left:right], pairs[top:bottom, left // 2 : right // 2]]
