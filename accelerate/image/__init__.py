"""From a camera's frame to the model's tensor, and back from the tensor's coordinates to the frame's.

`to_tensor` resizes a frame, brings its colours into the model's order and makes them the tensor's values, into a buffer
that the caller may own. `geometry` says where the frame's pixels went.

OpenCV does the resizing where it is installed (extra ``vision``); else Pillow with the same two-tap bilinear scaling,
within one level. Neither averages over the pixels that are left out, for that is how models of this kind are used (the
TFLite Task Library scales so) and how published results are reproduced; ``resample="area"`` does average.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from ..calls.conversion import Array
from ..errors import TensorError
from ..metadata import TensorInfo
from .converter import converter_of
from .fitting import Geometry, fit_frame, image_shape
from .frames import read_picture

__all__ = ["Geometry", "geometry", "read_picture", "to_tensor"]


def to_tensor(
    frame: Any,
    info: TensorInfo,
    *,
    out: Array | None = None,
    resize: str = "stretch",
    resample: str = "bilinear",
    color: str = "RGB",
) -> Array:
    """Make the tensor of one frame: what `Model.infer` would make of the resized frame.

    Parameters
    ----------
    frame : numpy.ndarray, PIL.Image.Image, str or os.PathLike
        uint8, of the shape that `color` says, with any strides (where the bytes of a row do not follow each other, as
        in a mirrored view, it is copied first); or a Pillow image; or the path of a picture, which is read upright.
    info : TensorInfo
        The image input, one of ``model.metadata().inputs``. It says height, width, channels, layout, dtype,
        normalisation, quantisation and order of colours. Where its height or width is dynamic, that of `out` counts,
        else the one that the model was exported for (``extra["default_shape"]``), else the frame's.
    out : numpy.ndarray, optional
        C-contiguous array of the tensor's dtype and shape to write into, such as ``binding.inputs[info.name]``. For a
        tensor of several frames, the place of one: ``batch[i : i + 1]``. A frame of another size than the tensor
        needs no other array of the frame's size.
    resize : str
        "stretch" scales both sides on their own; "letterbox" keeps the proportions and fills the rest with black,
        half on each side; "crop" keeps the proportions and cuts off, half on each side, what is too much.
    resample : str
        "bilinear" weighs the four pixels around a place; "nearest" takes the pixel there; "area" takes the mean over
        all pixels that make up the new one, and is bilinear along a side that becomes longer.
    color : str
        What an array holds: "RGB", "BGR" (height, width, 3), "RGBA", "BGRA" (height, width, 4; alpha is dropped),
        "GRAY" (height, width) or (height, width, 1), "NV12" (3/2 height, width) with even sides, or "YUYV" (height,
        width, 2) with even width. One channel is grey under "RGB" and "BGR" too. The YUV formats have BT.601 colours
        in 16..235, as OpenCV takes them; when they are resized, so is each plane, before the conversion.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of the tensor's dtype and shape.

    Raises
    ------
    TensorError
        The frame, `info` or `out` cannot be used.
    OptionError
        An unknown `resize`, `resample` or `color`; a picture that cannot be read; resizing needs an extra.
    """
    return converter_of(info).convert(frame, out, resize, resample, color)


def geometry(frame_size: Sequence[int], info: TensorInfo, resize: str = "stretch") -> Geometry:
    """Return where `to_tensor` puts a frame's pixels.

    Parameters
    ----------
    frame_size : sequence of int
        (height, width) in pixels, such as ``frame.shape[:2]``.
    info : TensorInfo
        As for `to_tensor`; a dynamic height or width is the one that the model was exported for, else the frame's.
    resize : str
        As for `to_tensor`.

    Raises
    ------
    TensorError, OptionError
    """
    try:
        height, width = map(operator.index, frame_size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise TensorError(
            f"frame_size is {frame_size!r:.80}; wanted (height, width), each from 1", "give frame.shape[:2]"
        )
    shape = image_shape(info)
    return fit_frame(height, width, shape.height_for(height), shape.width_for(width), resize)
