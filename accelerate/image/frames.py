"""What a frame may be, and what it is: an array of bytes and the name of what they mean."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calls.conversion import Array
from ..calls.names import suggestion
from ..errors import OptionError, TensorError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["YUV", "as_frame", "frame_size", "read_picture"]

_CHANNELS = {"RGB": 3, "BGR": 3, "RGBA": 4, "BGRA": 4, "GRAY": 1, "YUYV": 2, "NV12": 1}
_SHAPES = {
    "GRAY": "[height, width] or [height, width, 1]",
    "NV12": "[3/2 height, width]",
    **{name: f"[height, width, {_CHANNELS[name]}]" for name in ("RGBA", "BGRA", "YUYV")},
    **dict.fromkeys(("RGB", "BGR"), "[height, width, 3], or one channel"),
}
_UINT8 = np.dtype(np.uint8)
_REVERSED = {"RGB": "BGR", "BGR": "RGB"}
#: The formats whose colours have fewer places than their brightness.
YUV = frozenset({"NV12", "YUYV"})


def as_frame(given: Any, color: Any) -> tuple[Array, str]:
    """Return a frame's bytes and what they mean.

    Returns
    -------
    array : numpy.ndarray
        uint8 (rows, columns, channels). The bytes of each row follow each other in memory; rows may have gaps.
    color : str
        "RGB", "BGR", "RGBA", "BGRA", "GRAY", "NV12" or "YUYV".
    """
    if type(given) is np.ndarray and given.dtype is _UINT8 and given.shape[2:] == (3,) and color in ("RGB", "BGR"):
        if given.flags.c_contiguous and given.size:  # the usual frame
            return given, color
    elif not isinstance(color, str) or color not in _CHANNELS:
        raise OptionError(
            f"color is {color!r}{suggestion(str(color), _CHANNELS)}; wanted one of {', '.join(sorted(_CHANNELS))}"
        )
    if not isinstance(given, np.ndarray):
        if (opened := _opened(given)) is None:
            given = _as_array(given)
        elif color == "RGB":
            given = opened
        else:
            raise OptionError(
                f"color is {color!r}; it describes arrays, and a picture says by itself what it holds", "leave it out"
            )
    if given.dtype != np.uint8:
        raise _refusal(given, color, *_about_dtype(given.dtype))
    if isinstance(given, np.ma.MaskedArray) and np.any(given.mask):
        raise TensorError("some of the frame's pixels are masked", "say what they are: frame.filled(value)")
    if not given.size:
        raise _refusal(given, color, "it is empty", "see whether the camera delivers anything")
    return _aligned(*_by_channels(given, color))


def frame_size(array: Array, color: str) -> tuple[int, int]:
    """Return (height, width) in pixels of what `as_frame` returned."""
    rows, columns, _ = array.shape
    return (rows // 3 * 2 if color == "NV12" else rows), columns


def _by_channels(array: Array, color: str) -> tuple[Array, str]:
    """Give every frame three axes, after checking that they are what `color` says."""
    flat = array[:, :, np.newaxis] if array.ndim == 2 else array
    if flat.ndim != 3:
        raise _refusal(array, color, "", "give one frame at a time" if flat.ndim == 4 else "reshape it")
    rows, columns, channels = flat.shape
    if channels == 1 and color in _REVERSED:
        return flat, "GRAY"
    if channels != _CHANNELS[color]:
        raise _refusal(array, color, *_about_channels(flat.shape))
    if color == "NV12" and (rows % 3 or columns % 2):
        raise _refusal(array, color, "NV12 has even sides: rows of Y, then half as many of U and V side by side")
    if color == "YUYV" and columns % 2:
        raise _refusal(array, color, "YUYV has an even width, for two pixels share one U and one V")
    return flat, color


def _aligned(array: Array, color: str) -> tuple[Array, str]:
    """Make the bytes of each row follow each other, by a copy only where nothing else does it."""
    if array.flags.c_contiguous:
        return array, color
    columns, channels = array.shape[1:]
    if array.strides[2] == -1 and color in _REVERSED:  # frame[..., ::-1]: to copy it takes longer than all the rest
        array, color = array[..., ::-1], _REVERSED[color]
    row, column, channel = array.strides
    if (channel == 1 or channels == 1) and (column == channels or columns == 1) and row >= columns * channels:
        return array, color
    return np.ascontiguousarray(array), color


def _as_array(given: Any) -> Array:
    if given is None:
        raise TensorError("the frame is None, which is what some cameras and decoders return when they have none")
    try:
        return np.asarray(given)
    except ValueError as error:
        raise TensorError(f"the frame is a {type(given).__name__}, not a rectangular array") from error
    except Exception as error:  # what a stranger's __array__ raises: a tensor on a GPU, for one
        reason = one_line(error, 200)
        raise TensorError(f"the frame is a {type(given).__name__}, and NumPy makes no array of it: {reason}") from error


def _about_dtype(dtype: np.dtype[Any]) -> tuple[str, str]:
    if dtype == np.uint16:
        return "", "bring 16 bits down to 8 first: (frame >> 8).astype('uint8') where all of them are used"
    if dtype.kind == "f":
        return "`infer` takes real values as they are", "for 0..1, give (frame * 255).round().astype('uint8')"
    return "", "convert it first: frame.astype('uint8')"


def _about_channels(shape: tuple[int, ...]) -> tuple[str, str]:
    if shape[0] in (1, 3, 4) and shape[2] not in _CHANNELS.values():
        return "its channels come first", "give np.moveaxis(frame, 0, -1)"
    fitting = {3: "'RGB' or 'BGR'", 4: "'RGBA' or 'BGRA'", 1: "'GRAY' or 'NV12'", 2: "'YUYV'"}.get(shape[2])
    if not fitting:
        return "nothing here has that many channels", ""
    return "", f"say what {shape[2]} channels are: color={fitting}"


def _refusal(given: Array, color: str, problem: str, remedy: str = "") -> TensorError:
    about = f": {problem}" if problem else ""
    wanted = f"wanted uint8{_SHAPES[color]} for color={color!r}"
    return TensorError(f"the frame is {given.dtype}{list(given.shape)}, {wanted}{about}", remedy)


# Pictures


def read_picture(path: str | os.PathLike[str]) -> Array:
    """Read a picture file as a person sees it, however the camera was held.

    Parameters
    ----------
    path : str or os.PathLike
        Of any form that Pillow can read; where only OpenCV is installed, that it can read.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width, 3) RGB, or (height, width) grey.

    Raises
    ------
    OptionError
        It cannot be read, or neither Pillow nor OpenCV is installed.
    TensorError
        It has more than 8 bits a channel.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        return _read_by_opencv(path)
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
    except UnidentifiedImageError as error:
        raise OptionError(f"{path} is not a picture that Pillow can read") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    return _pixels(picture, f"the picture {path}")


def _read_by_opencv(path: str | os.PathLike[str]) -> Array:
    try:
        import cv2
    except ImportError as error:
        raise OptionError(
            f"nothing is installed that could read the picture {path}",
            'pip install "edge-accelerate[cli]" (Pillow) or "edge-accelerate[vision]" (OpenCV)',
        ) from error
    try:
        data = np.fromfile(path, np.uint8)
        picture: Any = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except OSError as error:
        raise _unreadable(path, error) from error
    except cv2.error as error:
        raise OptionError(f"{path} is not a picture that OpenCV can read: {error.err}") from error
    if picture is None:
        raise OptionError(f"{path} is not a picture that OpenCV can read")
    if picture.dtype != np.uint8:
        raise _deep(f"the picture {path}")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def _opened(given: Any) -> Array | None:
    """Return the pixels of a path or of a Pillow image; None for anything else."""
    if isinstance(given, (str, os.PathLike)):
        return read_picture(given)
    pillow = sys.modules.get("PIL.Image")  # without it nobody has an image of its
    if pillow is not None and isinstance(given, pillow.Image):
        return _pixels(given, "the frame")
    return None


def _pixels(picture: Picture, what: str) -> Array:
    if picture.mode.startswith(("I", "F")):
        raise _deep(what)
    mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    try:
        return np.asarray(picture if picture.mode == mode else picture.convert(mode))
    except ValueError as error:
        raise TensorError(f"{what} has the mode {picture.mode}", "convert it to RGB") from error


def _unreadable(path: str | os.PathLike[str], error: Exception) -> OptionError:
    reason = getattr(error, "strerror", None) or error
    return OptionError(f"the picture {path} cannot be read: {reason}")


def _deep(what: str) -> TensorError:
    return TensorError(f"{what} has more than 8 bits a channel", "bring it down to 8, or give `infer` an array")
