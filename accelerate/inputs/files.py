"""Reads a file that a model is to be run on: a picture, or NumPy arrays."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..calls.conversion import Array
from ..errors import OptionError, TensorError
from ..image import read_picture, to_tensor
from ..metadata import TensorInfo

__all__ = ["is_picture", "no_picture", "open_picture", "picture_tensor", "read_arrays"]

_NPY = b"\x93NUMPY"
_NPZ = (b"PK\x03\x04", b"PK\x05\x06")


def is_picture(path: Path) -> bool:
    """Return whether a file is to be read as a picture: its content shows that it holds no arrays.

    Raises
    ------
    OptionError
        The file cannot be read.
    """
    return not _head(path).startswith((_NPY, *_NPZ))


def _head(path: Path) -> bytes:
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise OptionError(f"the input {path} is a folder", f"give its files: {path}/*")
        if not stat.S_ISREG(kind):  # a pipe may never be written to, and who reads it waits for ever
            raise OptionError(f"the input {path} is no file, but a pipe, a socket or a device", "give a file")
        with path.open("rb") as file:
            return file.read(len(_NPY))
    except OSError as error:
        raise OptionError(f"the input {path} cannot be read: {error.strerror}", "check the path") from error


def read_arrays(path: Path, inputs: Sequence[TensorInfo]) -> Array | dict[str, Array]:
    """Read what `Model.infer` takes: an .npy file for a model with one input, or an array for each input by name.

    Raises
    ------
    OptionError
        The file cannot be read.
    TensorError
        It holds one array, and the model has several inputs.
    """
    if len(inputs) != 1 and _head(path).startswith(_NPY):
        raise TensorError(
            f"{path} holds one array, but the model has {len(inputs)} inputs",
            f"give an .npz file with an array for each of {_listing(inputs)}",
        )
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return dict(loaded)
    except Exception as error:  # of damaged, encrypted and lying files each has another one, MemoryError included
        raise OptionError(
            f"the arrays in {path} cannot be read: {error}", "save them again with numpy.save or numpy.savez"
        ) from error


def open_picture(path: Path) -> Array:
    """Read a picture, uint8 RGB (height, width, 3) or grey (height, width), as a person sees it.

    Raises
    ------
    OptionError, TensorError
        It is none, or none that can be used.
    """
    try:
        return read_picture(path)
    except OptionError as error:
        raise OptionError(error.reason, error.remedy or "give a picture, an .npy file or an .npz file") from error


def picture_tensor(picture: Array, path: Path, inputs: Sequence[TensorInfo]) -> Array:
    """Return a picture, stretched to the model's size, as the tensor of its only input.

    Raises
    ------
    TensorError
        The model has another input than one image.
    """
    if len(inputs) != 1 or not inputs[0].layout:
        raise no_picture(path, inputs)
    return to_tensor(picture, inputs[0])


def no_picture(path: Path, inputs: Sequence[TensorInfo]) -> TensorError:
    """Return the error for a picture that is given to a model that takes more than one, or none."""
    remedy = f"give an .npy file, or .npz with an array for each of {_listing(inputs)}"
    if len(inputs) == 1 and len(inputs[0].shape) in (3, 4):
        remedy += '; or say that it is an image: --option "normalization=[127.5, 127.5]", a mean and a deviation'
    return TensorError(f"{path} is a picture, but the model does not have one image as its only input", remedy)


def _listing(inputs: Sequence[TensorInfo]) -> str:
    return ", ".join(f"{t.name!r} ({t.data_type}{list(t.shape)})" for t in inputs)
