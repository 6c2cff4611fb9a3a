"""What a frame may be, and what it is: an array of bytes and the name of what they mean."""

from __future__ import annotations

import operator
import os
import re
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calls.arrays import as_array, is_masked
from ..calls.conversion import Array
from ..calls.names import suggestion
from ..errors import OptionError, TensorError
from .engines import GREY

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["YUV", "as_color", "as_frame", "frame_size", "picture_height", "read_picture"]

_CHANNELS = {"RGB": 3, "BGR": 3, "RGBA": 4, "BGRA": 4, "GRAY": 1, "YUYV": 2, "NV12": 1, "I420": 1}
_SHAPES = {
    "GRAY": "[height, width] or [height, width, 1]",
    **dict.fromkeys(("NV12", "I420"), "[3/2 height, width]"),
    **{name: f"[height, width, {_CHANNELS[name]}]" for name in ("RGBA", "BGRA", "YUYV")},
    **dict.fromkeys(("RGB", "BGR"), "[height, width, 3], or one channel"),
}
_UINT8 = np.dtype(np.uint8)
_REVERSED = {"RGB": "BGR", "BGR": "RGB"}
#: The formats whose colours have fewer places than their brightness.
YUV = frozenset({"NV12", "I420", "YUYV"})
#: Those whose brightness stands above their colours.
_PLANAR = frozenset({"NV12", "I420"})


def as_frame(given: Any, color: Any) -> tuple[Array, str]:
    """Return a frame's bytes and what they mean.

    Returns
    -------
    array : numpy.ndarray
        uint8 (rows, columns, channels). The bytes of each row follow each other in memory; rows may have gaps.
    color : str
        "RGB", "BGR", "RGBA", "BGRA", "GRAY", "NV12", "I420" or "YUYV".
    """
    if type(given) is np.ndarray and given.dtype is _UINT8 and given.shape[2:] == (3,) and color in ("RGB", "BGR"):
        if given.flags.c_contiguous and given.size:  # the usual frame
            return given, color
    else:
        _check_color(color)
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
    if is_masked(given):
        raise TensorError("some of the frame's pixels are masked", "say what they are: frame.filled(value)")
    if not given.size:
        raise _refusal(given, color, "it is empty", "see whether the camera delivers anything")
    return _aligned(*_by_channels(given, color))


def frame_size(array: Array, color: str) -> tuple[int, int]:
    """Return (height, width) in pixels of what `as_frame` returned."""
    rows, columns, _ = array.shape
    return (rows // 3 * 2 if color in _PLANAR else rows), columns


def picture_height(rows: int, color: Any) -> int:
    """Return the height in pixels of a frame whose array has so many rows."""
    _check_color(color)
    if color in _PLANAR and rows % 3:
        raise TensorError(
            f"a frame of {rows} rows is not {color}, which has half as many rows of colours below those of its "
            "brightness",
            "give the size of the whole array, frame.shape[:2], or color='RGB' with the size of the picture",
        )
    return rows // 3 * 2 if color in _PLANAR else rows


def as_color(fill: Any, order: str) -> int | list[int]:
    """Return the level, or the levels in the tensor's order of colours, of what `to_tensor` calls `fill`."""
    try:
        levels = [operator.index(level) for level in (fill if np.ndim(fill) else (fill,))]
    except (TypeError, ValueError):
        levels = []
    if len(levels) not in (1, 3) or min(levels) < 0 or max(levels) > 255:
        raise OptionError(f"fill is {fill!r:.80}; wanted a level from 0 to 255, or three of them: red, green and blue")
    if len(levels) == 1:
        return levels[0]
    if order == "GRAY":
        return (sum(GREY[color] * level for color, level in zip("RGB", levels, strict=True)) + (1 << 14)) >> 15
    return levels if order == "RGB" else levels[::-1]


def _check_color(color: Any) -> None:
    if not isinstance(color, str) or color not in _CHANNELS:
        raise OptionError(
            f"color is {color!r}{suggestion(str(color), _CHANNELS)}; wanted one of {', '.join(sorted(_CHANNELS))}"
        )


def _by_channels(array: Array, color: str) -> tuple[Array, str]:
    """Give every frame three axes, after checking that they are what `color` says."""
    flat = array[:, :, np.newaxis] if array.ndim == 2 else array
    if flat.ndim != 3:
        remedies = {
            4: "give one frame at a time",
            1: "reshape it; an encoded picture is given as bytes: frame.tobytes()",
        }
        raise _refusal(array, color, "", remedies.get(flat.ndim, "reshape it"))
    rows, columns, channels = flat.shape
    if channels == 1 and color in _REVERSED:
        return flat, "GRAY"
    if channels != _CHANNELS[color]:
        raise _refusal(array, color, *_about_channels(flat.shape))
    if color in _PLANAR and (rows % 3 or columns % 2):
        raise _refusal(array, color, f"{color} has even sides: rows of Y, then half as many of U and V")
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
        return as_array(given)
    except TensorError as error:
        raise TensorError(f"the frame is a {type(given).__name__}: {error.reason}", error.remedy) from error.__cause__


def _about_dtype(dtype: np.dtype[Any]) -> tuple[str, str]:
    if dtype == np.uint16:
        return "", "bring 16 bits down to 8 first: (frame >> 8).astype('uint8') where all of them are used"
    if dtype.kind == "f":
        return "`infer` takes real values as they are", "for 0..1, give (frame * 255).round().astype('uint8')"
    return "", "convert it first: frame.astype('uint8')"


def _about_channels(shape: tuple[int, ...]) -> tuple[str, str]:
    if shape[0] in (1, 3, 4) and shape[2] not in _CHANNELS.values():
        return "its channels come first", "give np.moveaxis(frame, 0, -1)"
    fitting = {3: "'RGB' or 'BGR'", 4: "'RGBA' or 'BGRA'", 1: "'GRAY', 'NV12' or 'I420'", 2: "'YUYV'"}.get(shape[2])
    if not fitting:
        return "nothing here has that many channels", ""
    return "", f"say what {shape[2]} channels are: color={fitting}"


def _refusal(given: Array, color: str, problem: str, remedy: str = "") -> TensorError:
    about = f": {problem}" if problem else ""
    wanted = f"wanted uint8{_SHAPES[color]} for color={color!r}"
    return TensorError(f"the frame is {given.dtype}{list(given.shape)}, {wanted}{about}", remedy)


# Pictures

#: Where Pillow says how the file's channels are stored: two bytes each, of which it would keep the upper one. (Without
#: the letter two bytes are a whole pixel.)
_TWO_BYTES = re.compile(";16[BLNS]")
_ORIENTATION = 0x0112  # EXIF 2.32, 4.6.4 A
#: What Pillow raises of a damaged file.
_DAMAGE = (OSError, ValueError, SyntaxError)


def read_picture(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> Array:
    """Read a picture file as a person sees it, however the camera was held.

    Parameters
    ----------
    source : str, os.PathLike, bytes, bytearray or memoryview
        The path of a file, or what is in one: JPEG, PNG or another form that Pillow can read; where only OpenCV is
        installed, that it can read.

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
    name = str(source) if isinstance(source, (str, os.PathLike)) else f"in {len(source)} bytes"
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        return _read_by_opencv(source, name)
    try:
        with Image.open(source if isinstance(source, (str, os.PathLike)) else BytesIO(source)) as file:
            return _pixels(file, f"the picture {name}")
    except TensorError:
        raise
    except UnidentifiedImageError as error:
        raise _no_picture(name, "Pillow", source) from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise _unreadable(name, error) from error


def _read_by_opencv(source: Any, name: str) -> Array:
    try:
        import cv2
    except ImportError as error:
        raise OptionError(
            f"nothing is installed that could read the picture {name}",
            'pip install "edge-accelerate[cli]" (Pillow) or "edge-accelerate[vision]" (OpenCV)',
        ) from error
    from_file = isinstance(source, (str, os.PathLike))
    try:
        data = np.fromfile(source, np.uint8) if from_file else np.frombuffer(source, np.uint8)
        picture: Any = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except OSError as error:
        raise _unreadable(name, error) from error
    except cv2.error as error:
        raise _no_picture(name, "OpenCV", source) from error
    if picture is None:
        raise _no_picture(name, "OpenCV", source)
    if picture.dtype != np.uint8:
        raise _deep(f"the picture {name}")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def _opened(given: Any) -> Array | None:
    """Return the pixels of a path, of a picture's bytes or of a Pillow image; None for anything else."""
    if isinstance(given, (str, os.PathLike, bytes, bytearray)):
        return read_picture(given)
    if isinstance(given, memoryview):
        return read_picture(given) if (given.ndim, given.itemsize) == (1, 1) else None
    pillow = sys.modules.get("PIL.Image")  # without it nobody has an image of its
    if pillow is not None and isinstance(given, pillow.Image):
        try:
            return _pixels(given, "the frame")
        except TensorError:
            raise
        except _DAMAGE as error:  # it is read from its file only now
            raise TensorError(f"the frame is a picture that cannot be read: {error}") from error
    return None


def _pixels(picture: Picture, what: str) -> Array:
    tiles = getattr(picture, "tile", None) or ()  # of a file that has not been read yet
    if picture.mode.startswith(("I", "F")) or _TWO_BYTES.search(str(tiles)):
        raise _deep(what)
    picture.load()  # here what is damaged says so
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        from PIL import ImageOps

        picture = ImageOps.exif_transpose(picture)
    mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    try:
        return np.asarray(picture if picture.mode == mode else picture.convert(mode))
    except ValueError as error:
        raise TensorError(f"{what} has the mode {picture.mode}", "convert it to RGB") from error


def _no_picture(name: str, reader: str, source: object) -> OptionError:
    if isinstance(source, (str, os.PathLike)):
        return OptionError(f"{name} is not a picture that {reader} can read")
    return OptionError(
        f"the frame {name} is not a picture that {reader} can read",
        "give raw pixels as a uint8 array of (height, width, 3)",
    )


def _unreadable(name: str, error: Exception) -> OptionError:
    reason = getattr(error, "strerror", None) or error
    return OptionError(f"the picture {name} cannot be read: {reason}")


def _deep(what: str) -> TensorError:
    return TensorError(f"{what} has more than 8 bits a channel", "bring it down to 8, or give `infer` an array")
