"""Reads the INPUT of ``edge-accelerate run``: a picture, or NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from ..errors import OptionError, TensorError
from ..metadata import TensorInfo
from ..tensors import Array

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["read_input"]

_NPY = b"\x93NUMPY"
_NPZ = (b"PK\x03\x04", b"PK\x05\x06")
_MODES = {1: "L", 3: "RGB"}


def read_input(path: Path, inputs: Sequence[TensorInfo]) -> Array | dict[str, Array]:
    """Read a file, whose kind its content tells, into what `Model.infer` takes.

    Parameters
    ----------
    path : pathlib.Path
        A picture for a model whose only input is an image, an .npy file for a model with one input, or an .npz file
        with an array for each input by name.
    inputs : sequence of TensorInfo
        The model's inputs.

    Returns
    -------
    numpy.ndarray or dict of str to numpy.ndarray
        A picture comes in the layout and size of the model's image, as uint8.

    Raises
    ------
    OptionError
        The file cannot be read.
    TensorError
        It is of another kind than the model's inputs need.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_NPY))
    except OSError as error:
        raise OptionError(f"the input {path} cannot be read: {error.strerror}; check the path") from error
    if head.startswith(_NPY):
        if len(inputs) != 1:
            raise TensorError(
                f"{path} holds one array, but the model has {len(inputs)} inputs: give an .npz file with an array for "
                f"each of {_listing(inputs)}"
            )
        return _read_arrays(path)
    if head.startswith(_NPZ):
        return _read_arrays(path)
    return _read_picture(path, inputs)


def _read_arrays(path: Path) -> Array | dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return dict(loaded)
    except (OSError, ValueError, EOFError, BadZipFile, ZlibError) as error:
        raise OptionError(f"the arrays in {path} cannot be read: {error}") from error


def _read_picture(path: Path, inputs: Sequence[TensorInfo]) -> Array:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)  # as a person sees it, however the camera was held
    except UnidentifiedImageError as error:
        raise OptionError(f"the input {path} is neither a picture that Pillow can read nor .npy nor .npz") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise OptionError(f"the picture {path} cannot be read: {error}") from error
    if picture.mode.startswith(("I", "F")):
        raise OptionError(f"the picture {path} has more than 8 bits a channel; convert it, or give an .npy file")
    return _fit(picture, _image_input(path, inputs))


def _image_input(path: Path, inputs: Sequence[TensorInfo]) -> TensorInfo:
    if len(inputs) == 1 and inputs[0].layout and inputs[0].shape[inputs[0].layout.index("C")] in _MODES:
        return inputs[0]
    raise TensorError(
        f"{path} is a picture, but the model does not have one image as its only input: give an .npy file, or .npz "
        f"with an array for each of {_listing(inputs)}"
    )


def _fit(picture: Picture, info: TensorInfo) -> Array:
    """Stretch a picture to the model's height and width, and return it in the model's layout."""
    from PIL import Image

    extent = dict(zip(info.layout, info.shape, strict=True))
    own_width, own_height = picture.size
    width, height = (own if n < 0 else n for n, own in ((extent["W"], own_width), (extent["H"], own_height)))
    # Not resize(), which averages over all pixels when it makes a picture smaller: models of this kind are used with
    # two-tap bilinear scaling, as the TFLite Task Library does it.
    scaled = picture.convert(_MODES[extent["C"]]).transform(
        (width, height),
        Image.Transform.AFFINE,
        (own_width / width, 0, 0, 0, own_height / height, 0),
        resample=Image.Resampling.BILINEAR,
    )
    pixels = np.asarray(scaled).reshape(height, width, extent["C"])
    return pixels if info.layout.endswith("HWC") else np.moveaxis(pixels, -1, 0)


def _listing(inputs: Sequence[TensorInfo]) -> str:
    return ", ".join(f"{t.name!r} ({t.data_type}{list(t.shape)})" for t in inputs)
