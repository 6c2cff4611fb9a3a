"""Where the pixels of a frame lie in a tensor."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .._records import record
from ..calls.conversion import Array, image_layout
from ..calls.shapes import default_shape
from ..errors import OptionError, TensorError
from ..metadata import TensorInfo

__all__ = ["Geometry", "ImageShape", "fit_frame", "image_shape"]


class ImageShape(NamedTuple):
    """What the shape of an image tensor says; -1 is a dynamic side."""

    layout: str
    frames: int
    height: int
    width: int
    channels: int
    usual_height: int  # a fixed side's own; of a dynamic one what the model was exported for, 1 where nobody says it
    usual_width: int

    def height_for(self, own: int) -> int:
        """Return the tensor's height for a frame whose own is given."""
        return own if self.height < 0 and self.usual_height == 1 else self.usual_height

    def width_for(self, own: int) -> int:
        """Return the tensor's width for a frame whose own is given."""
        return own if self.width < 0 and self.usual_width == 1 else self.usual_width


def image_shape(info: TensorInfo) -> ImageShape:
    """Read the shape of an image tensor.

    Raises
    ------
    TensorError
        It is no image with 1 or 3 channels.
    """
    layout = info.layout or ("" if "content" in info.extra else image_layout(info.shape))
    if layout not in ("NHWC", "NCHW", "HWC", "CHW") or len(layout) != len(info.shape):
        raise TensorError(
            f"input {info.name!r}, {info.data_type}{list(info.shape)}, is no image that a frame could become; wanted "
            "a tensor of layout NHWC, NCHW, HWC or CHW",
            "give `infer` an array",
        )
    sides = dict(zip(layout, info.shape, strict=True))
    channels = sides["C"]
    if channels < 0:
        channels = 1 if info.color == "GRAYSCALE" else 3
    if channels not in (1, 3) or 0 in info.shape:
        raise TensorError(
            f"input {info.name!r}, {info.data_type}{list(info.shape)} in {layout}, is no image that a frame could "
            "become; wanted 1 or 3 channels and no side of 0",
            "give `infer` an array",
        )
    usual = dict(zip(layout, default_shape(info), strict=True))
    return ImageShape(layout, sides.get("N", 1), sides["H"], sides["W"], channels, usual["H"], usual["W"])


@record(frozen=True)
class Geometry:
    """Where the pixels of a frame lie in a tensor.

    Coordinates are those of pixel edges: x runs from 0, the left edge of the first column, to the width, y from 0, the
    upper edge of the first row, to the height.

    Attributes
    ----------
    frame_size, tensor_size : tuple of int
        (height, width) in pixels.
    source : tuple of int
        (top, left, height, width) of the part of the frame that the tensor shows.
    target : tuple of int
        (top, left, height, width) of the part of the tensor that shows it; around it there is the fill.
    """

    frame_size: tuple[int, int]
    tensor_size: tuple[int, int]
    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]

    def points_to_frame(self, points: Any, *, relative: bool = False) -> Array:
        """Map points of the tensor to pixels of the frame; a point in the fill around it lies outside of the frame.

        Parameters
        ----------
        points : array_like
            (..., 2): x and y.
        relative : bool
            They are shares of the tensor's width and height, 0..1, not pixels.

        Returns
        -------
        numpy.ndarray
            float64, of the same shape.

        Raises
        ------
        TensorError
        """
        given = _numbers(points, 2)
        height, width = self.tensor_size
        top, left, target_height, target_width = self.target
        source_top, source_left, source_height, source_width = self.source
        scale = np.array((source_width / target_width, source_height / target_height))
        pixels = given * (width, height) if relative else given
        mapped: Array = (pixels - (left, top)) * scale + (source_left, source_top)
        return mapped

    def boxes_to_frame(self, boxes: Any, *, relative: bool = False) -> Array:
        """Map boxes of the tensor to pixels of the frame; they are not cut off at its edges.

        Parameters
        ----------
        boxes : array_like
            (..., 4): xmin, ymin, xmax, ymax.
        relative : bool
            As for `points_to_frame`, like what is returned and raised.
        """
        given = _numbers(boxes, 4)
        return self.points_to_frame(given.reshape(*given.shape[:-1], 2, 2), relative=relative).reshape(given.shape)


def _numbers(given: Any, count: int) -> Array:
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise TensorError(f"coordinates are a {type(given).__name__}; wanted numbers, shape (..., {count})") from error
    if not array.ndim or array.shape[-1] != count:
        raise TensorError(f"coordinates have shape {list(array.shape)}; wanted (..., {count})")
    return array


def fit_frame(
    height: int, width: int, tensor_height: int, tensor_width: int, resize: object, anchor: object
) -> Geometry:
    """Lay a frame into a tensor; all sizes are from 1.

    Raises
    ------
    OptionError
        `resize` or `anchor` is unknown.
    """
    if resize not in ("stretch", "letterbox", "crop"):
        raise OptionError(f"resize is {resize!r:.60}; wanted 'stretch', 'letterbox' or 'crop'")
    if anchor not in ("center", "top-left"):
        raise OptionError(f"anchor is {anchor!r:.60}; wanted 'center' or 'top-left'")
    return _fit_frame(height, width, tensor_height, tensor_width, str(resize), anchor == "center")


@lru_cache(maxsize=256)  # the sizes of a program's cameras and models
def _fit_frame(height: int, width: int, tensor_height: int, tensor_width: int, resize: str, centred: bool) -> Geometry:
    source, target = (0, 0, height, width), (0, 0, tensor_height, tensor_width)
    # compared as integers: with floating point a frame of the tensor's own proportions might lose a row
    wider = width * tensor_height - height * tensor_width
    if resize == "letterbox":
        if wider > 0:
            rows = _share(height * tensor_width, width)
            target = ((tensor_height - rows) // 2 if centred else 0, 0, rows, tensor_width)
        elif wider < 0:
            columns = _share(width * tensor_height, height)
            target = (0, (tensor_width - columns) // 2 if centred else 0, tensor_height, columns)
    elif resize == "crop":
        if wider > 0:
            left, columns = _middle(width, _share(height * tensor_width, tensor_height))
            source = (0, left if centred else 0, height, columns)
        elif wider < 0:
            top, rows = _middle(height, _share(width * tensor_height, tensor_width))
            source = (top if centred else 0, 0, rows, width)
    return Geometry((height, width), (tensor_height, tensor_width), source, target)


def _share(numerator: int, denominator: int) -> int:
    """Divide and round, to 1 at least."""
    return max(1, (2 * numerator + denominator) // (2 * denominator))


def _middle(whole: int, part: int) -> tuple[int, int]:
    """Return start and length of the middle part, both even: NV12 and YUYV are cut like every other frame."""
    length = min(part + part % 2, whole)
    start = (whole - length) // 2
    return start - start % 2, length
