"""From a camera's frame to the model's tensor, and back from the tensor's coordinates to the frame's.

`to_tensor` resizes a frame, brings its colours into the model's order and makes them the tensor's values, into a buffer
that the caller may own. `geometry` says where the frame's pixels went.

OpenCV does the resizing where it is installed (extra ``vision``); else Pillow with the same two-tap bilinear scaling,
within one level. Neither averages over the pixels that are left out, for that is how models of this kind are used (the
TFLite Task Library scales so) and how published results are reproduced; the other ways of `resample` but "nearest" do.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from ..calls.conversion import Array
from ..calls.pixels import note_frame, warn_of_assumption
from ..errors import TensorError
from ..metadata import TensorInfo
from .converter import converter_of
from .fitting import Geometry, fit_frame, image_shape
from .frames import picture_height, read_picture

__all__ = ["Geometry", "geometry", "read_picture", "to_tensor"]


def to_tensor(
    frame: Any,
    info: TensorInfo,
    *,
    out: Array | None = None,
    resize: str = "stretch",
    resample: str = "bilinear",
    color: str = "RGB",
    anchor: str = "center",
    fill: int | Sequence[int] = 0,
) -> Array:
    """Make the tensor of one frame: what `Model.infer` would make of the resized frame.

    Parameters
    ----------
    frame : numpy.ndarray, PIL.Image.Image, str, os.PathLike, bytes, bytearray or memoryview
        uint8, of the shape that `color` says, with any strides (where the bytes of a row do not follow each other, as
        in a mirrored view, it is copied first); or a picture: a Pillow image, a path, or the bytes of a file, such as
        a JPEG. A picture is taken as a person sees it, turned as its EXIF data say.
    info : TensorInfo
        The image input, one of ``model.metadata().inputs``. It says height, width, channels, layout, dtype,
        normalisation, quantisation and order of colours. Where its height or width is dynamic, that of `out` counts,
        else the one that the model was exported for (``extra["default_shape"]``), else the frame's. For a model that
        wants blue first: ``dataclasses.replace(info, color="BGR")``.
    out : numpy.ndarray, optional
        C-contiguous array of the tensor's dtype and shape to write into, such as ``binding.inputs[info.name]``. For a
        tensor of several frames, the place of one: ``batch[i : i + 1]``. A frame of another size than the tensor
        needs no other array of the frame's size.
    resize : str
        "stretch" scales both sides on their own; "letterbox" keeps the proportions and fills the rest with `fill`;
        "crop" keeps the proportions and cuts off what is too much.
    resample : str
        "bilinear" weighs the four pixels around a place; "nearest" takes the pixel there; "area" takes the mean over
        all pixels that make up the new one, and is bilinear along a side that becomes longer; "bilinear-antialias" and
        "lanczos" are what ``PIL.Image.resize`` does by BILINEAR and LANCZOS (also torchvision's ``antialias=True`` for
        the former), and need Pillow.
    color : str
        What an array holds: "RGB", "BGR" (height, width, 3), "RGBA", "BGRA" (height, width, 4; alpha is dropped),
        "GRAY" (height, width) or (height, width, 1), "NV12" or "I420" (3/2 height, width) with even sides, or "YUYV"
        (height, width, 2) with even width. One channel is grey under "RGB" and "BGR" too. NV12 has U and V side by
        side under Y, I420 all of U and then all of V: nothing but their name tells them apart. The YUV formats have
        BT.601 colours in 16..235, as OpenCV takes them; when they are resized, so is each plane, before the conversion.
    anchor : str
        "center" leaves, or cuts off, half on each side; "top-left" all of it at the bottom and on the right.
    fill : int or sequence of int
        What "letterbox" puts around the frame, before the normalisation: a level from 0 to 255, or red, green and blue.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of the tensor's dtype and shape.

    Raises
    ------
    TensorError
        The frame, `info` or `out` cannot be used.
    OptionError
        An unknown `resize`, `resample`, `color` or `anchor`, a `fill` that is no colour; a picture that cannot be read;
        resizing needs an extra.

    Warns
    -----
    AssumptionWarning
        Once for each model: nothing says how pixels become the tensor's values, and a convention is followed.
    """
    converter = converter_of(info)
    tensor, _ = converter.convert(frame, out, resize, resample, color, anchor, fill)
    note_frame(tensor)
    if converter.assumed is not None:
        warn_of_assumption(info, converter.assumed)
    return tensor


def geometry(
    frame_size: Sequence[int],
    info: TensorInfo,
    resize: str = "stretch",
    *,
    anchor: str = "center",
    color: str = "RGB",
) -> Geometry:
    """Return where `to_tensor` puts a frame's pixels.

    Parameters
    ----------
    frame_size : sequence of int
        Rows and columns of the frame's array, ``frame.shape[:2]``: (height, width) in pixels, but (3/2 height, width)
        for "NV12" and "I420".
    info : TensorInfo
        As for `to_tensor`; a dynamic height or width is the one that the model was exported for, else the frame's.
    resize, anchor, color : str
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
    height = picture_height(height, color)
    shape = image_shape(info)
    return fit_frame(height, width, shape.height_for(height), shape.width_for(width), resize, anchor)
