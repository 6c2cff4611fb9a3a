"""What works on pixels: OpenCV where it is installed, else Pillow, and NumPy for what needs neither.

All arrays here are uint8 (height, width, channels) whose rows are contiguous, unless said otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ..calls.conversion import Array
from ..errors import OptionError

__all__ = ["GREY", "RESAMPLES", "Engine", "current_engine"]

_log = logging.getLogger("accelerate")

RESAMPLES = ("bilinear", "nearest", "area", "bilinear-antialias", "lanczos")
#: Pillow's names of those whose reach grows with the pixels that are left out.
_ANTIALIASED = {"bilinear-antialias": "BILINEAR", "lanczos": "LANCZOS"}
# BT.601 with Y in 16..235 and U, V in 16..240, in 2**-20, and the weights of grey in 2**-15: OpenCV's own numbers
# (modules/imgproc/src/color_yuv.simd.hpp, color.simd_helpers.hpp), so that each engine rounds alike.
_Y, _V_RED, _U_GREEN, _V_GREEN, _U_BLUE = 1220542, 1673527, -409993, -852492, 2116026
GREY = {"R": 9798, "G": 19235, "B": 3735}


class Engine:
    """NumPy: everything but bilinear scaling."""

    def resize(self, source: Array, target: Array, resample: str) -> None:
        """Scale `source` to the size of `target`, another one than its own."""
        if resample == "bilinear":
            self._bilinear(source, target)
        elif resample == "nearest":
            _nearest(source, target)
        elif resample in _ANTIALIASED:
            _antialiased(source, target, resample)
        else:
            height, width = np.minimum(source.shape[:2], target.shape[:2])
            if (height, width) == target.shape[:2]:
                self._mean(source, target)
            elif (height, width) == source.shape[:2]:
                self._bilinear(source, target)
            else:  # one side becomes shorter and the other one longer
                middle = np.empty((height, width, source.shape[2]), np.uint8)
                self._mean(source, middle)
                self._bilinear(middle, target)

    def recolor(self, source: Array, have: str, want: str, target: Array) -> None:
        """Change the order or the number of colours: "RGB", "BGR", "RGBA", "BGRA", "GRAY" to "RGB", "BGR", "GRAY"."""
        if have == "GRAY":
            np.copyto(target, source)
        elif want == "GRAY":
            grey = np.full(source.shape[:2], 1 << 14, np.uint32)
            for color, weight in GREY.items():
                grey += np.multiply(source[..., have.index(color)], weight, dtype=np.uint32)
            grey >>= 15
            target[..., 0] = grey
        else:
            for i, color in enumerate(want):
                np.copyto(target[..., i], source[..., have.index(color)])

    def yuv_to_rgb(self, luma: Array, chroma: Sequence[Array], target: Array) -> None:
        """Convert planes of one size.

        Y is the first channel of `luma`. The channels of all of `chroma` are U, V or, as in YUYV, Y, U, Y, V.
        """
        y = np.maximum(luma[..., 0], np.uint8(16)).astype(np.int32)
        channels = [plane[..., i] for plane in chroma for i in range(plane.shape[2])]
        u, v = (channels[i].astype(np.int32) - 128 for i in _chroma_channels(chroma))
        y -= 16
        y *= _Y
        y += 1 << 19
        for i, value in enumerate((y + _V_RED * v, y + _U_GREEN * u + _V_GREEN * v, y + _U_BLUE * u)):
            value >>= 20
            np.clip(value, 0, 255, out=value)
            target[..., i] = value

    def planes(self, source: Array) -> Sequence[Array]:
        """Return the channels, each (height, width)."""
        return [source[..., i] for i in range(source.shape[2])]

    def look_up(self, table: Array, source: Array, target: Array) -> None:
        """Write the table's value for each byte of `source`, (..., columns), into `target`, of the table's dtype.

        A table (256, 1) serves all channels; one of (256, channels) has values for each.
        """
        for i in range(table.shape[1]):
            columns = np.s_[..., i :: table.shape[1]]
            target[columns] = table[:, i][source[columns]]

    def _bilinear(self, source: Array, target: Array) -> None:
        raise OptionError(
            f"the frame has {source.shape[0]} x {source.shape[1]} pixels and must have {target.shape[0]} x "
            f"{target.shape[1]}, but neither OpenCV nor Pillow is installed, one of which bilinear resizing needs",
            'pip install "edge-accelerate[vision]"',
        )

    def _mean(self, source: Array, target: Array) -> None:
        """Average over the pixels that make up each new one."""
        mean = _mean_along(_mean_along(source, target.shape[0], 0), target.shape[1], 1)
        target[...] = np.rint(mean)


#: Not RGBA, whose colours Pillow would weigh by their alpha.
_PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBX"}


class PillowEngine(Engine):
    """NumPy, with Pillow for bilinear scaling."""

    def __init__(self) -> None:
        from PIL import Image

        self._image: Any = Image

    def _bilinear(self, source: Array, target: Array) -> None:
        height, width, channels = target.shape
        if channels not in _PILLOW_MODES:
            for i in range(channels):
                self._bilinear(source[..., i : i + 1], target[..., i : i + 1])
            return
        # Not resize(), which averages over all pixels when it makes a picture smaller
        scaled = _picture(source).transform(
            (width, height),
            self._image.Transform.AFFINE,
            (source.shape[1] / width, 0, 0, 0, source.shape[0] / height, 0),
            resample=self._image.Resampling.BILINEAR,
        )
        target[...] = np.asarray(scaled).reshape(target.shape)


def _picture(source: Array) -> Any:
    from PIL import Image

    height, width, channels = source.shape
    mode = _PILLOW_MODES[channels]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(source), "raw", mode, 0, 1)


def _antialiased(source: Array, target: Array, resample: str) -> None:
    """Resize by Pillow, whichever engine does the rest: these are its ways, and what models were trained with."""
    try:
        from PIL import Image
    except ImportError as error:
        raise OptionError(
            f"resample={resample!r} is Pillow's, which is not installed", 'pip install "edge-accelerate[cli]"'
        ) from error
    height, width, channels = target.shape
    if channels not in _PILLOW_MODES:
        for i in range(channels):
            _antialiased(source[..., i : i + 1], target[..., i : i + 1], resample)
        return
    scaled = _picture(source).resize((width, height), Image.Resampling[_ANTIALIASED[resample]])
    target[...] = np.asarray(scaled).reshape(target.shape)


class OpenCVEngine(Engine):
    """OpenCV for nearly everything."""

    def __init__(self) -> None:
        import cv2

        self._cv2: Any = cv2
        self._resize, self._linear, self._area = cv2.resize, cv2.INTER_LINEAR, cv2.INTER_AREA
        self._codes = {
            (have, want): getattr(cv2, f"COLOR_{have}2{want}")
            for have in ("RGB", "BGR", "RGBA", "BGRA", "GRAY")
            for want in ("RGB", "BGR", "GRAY")
            if have != want
        }
        matrix = np.array(((_Y, 0, _V_RED), (_Y, _U_GREEN, _V_GREEN), (_Y, _U_BLUE, 0))) / (1 << 20)
        self._yuv = np.column_stack((matrix, -matrix @ (16, 128, 128))).astype(np.float32)

    def recolor(self, source: Array, have: str, want: str, target: Array) -> None:
        self._cv2.cvtColor(source, self._codes[have, want], dst=target)

    def yuv_to_rgb(self, luma: Array, chroma: Sequence[Array], target: Array) -> None:
        # OpenCV's own conversions want half as many colours as pixels, which is no longer so after the resizing
        yuv = np.empty_like(target)
        first = luma.shape[2]
        u, v = _chroma_channels(chroma)
        luma = np.maximum(luma, np.uint8(16))  # not cv2.max, which takes one pixel for a scalar
        self._cv2.mixChannels([luma, *chroma], [yuv], [0, 0, first + u, 1, first + v, 2])
        self._cv2.transform(yuv, self._yuv, dst=target)

    def planes(self, source: Array) -> Sequence[Array]:
        planes: Sequence[Array] = self._cv2.split(source)
        return planes

    def look_up(self, table: Array, source: Array, target: Array) -> None:
        bits = _BITS.get(table.itemsize)
        if bits is None:
            super().look_up(table, source, target)
        elif table.shape[1] == 1:
            self._cv2.LUT(source, table.view(bits).reshape(256), dst=target.view(bits))
        else:
            pixels = (source.shape[0], -1, table.shape[1])
            self._cv2.LUT(source.reshape(pixels), table.view(bits)[None], dst=target.view(bits).reshape(pixels))

    def _bilinear(self, source: Array, target: Array) -> None:
        self._resize(source, target.shape[1::-1], target, interpolation=self._linear)

    def _mean(self, source: Array, target: Array) -> None:
        self._resize(source, target.shape[1::-1], target, interpolation=self._area)


#: Types of the same size that OpenCV has tables of: what a table holds is only copied.
_BITS = {1: np.uint8, 2: np.int16, 4: np.int32}


@cache
def current_engine() -> Engine:
    """Return the best engine that is installed."""
    try:
        return OpenCVEngine()
    except ImportError as error:
        if error.name != "cv2":
            _log.warning("OpenCV is installed but cannot be imported (%s); frames are resized by Pillow", error)
    try:
        return PillowEngine()
    except ImportError:
        return Engine()


def _chroma_channels(chroma: Sequence[Array]) -> tuple[int, int]:
    return (0, 1) if sum(plane.shape[2] for plane in chroma) == 2 else (1, 3)


def _nearest(source: Array, target: Array) -> None:
    """Take the pixel in which the new one's centre falls.

    Not by OpenCV or Pillow: they differ from each other and from version to version where it falls on an edge.
    """
    (height, width, channels), (own_height, own_width) = target.shape, source.shape[:2]
    rows = _centres(own_height, height)
    columns = (_centres(own_width, width)[:, np.newaxis] * channels + np.arange(channels)).ravel()
    flat = source.reshape(own_height, -1)
    # the shorter array in between
    scaled = flat.take(rows, 0).take(columns, 1) if height <= own_height else flat.take(columns, 1).take(rows, 0)
    target[...] = scaled.reshape(target.shape)


def _centres(own: int, new: int) -> Array:
    centres: Array = (2 * np.arange(new) + 1) * own // (2 * new)
    return centres


def _mean_along(array: Array, new: int, axis: int) -> Array:
    """Average along an axis to `new` places, fewer than or as many as there are; float32."""
    own = array.shape[axis]
    lines = np.moveaxis(array, axis, 0)
    mean = np.empty((new, *lines.shape[1:]), np.float32)
    for i in range(new):
        # in units of 1/new of a place, in which all ends are whole numbers
        start, end = i * own, (i + 1) * own
        first, last = start // new, -(-end // new)
        starts = np.arange(first, last) * new
        shares = np.minimum(starts + new, end) - np.maximum(starts, start)
        mean[i] = np.tensordot((shares / own).astype(np.float32), lines[first:last], 1)
    return np.moveaxis(mean, 0, axis)
