"""Reads the INPUT of ``edge-accelerate run``: a picture, or NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from ..calls.conversion import Array
from ..errors import OptionError, TensorError
from ..image import read_picture, to_tensor
from ..metadata import TensorInfo

__all__ = ["read_input"]

_NPY = b"\x93NUMPY"
_NPZ = (b"PK\x03\x04", b"PK\x05\x06")


def read_input(path: Path, inputs: Sequence[TensorInfo]) -> Array | dict[str, Array]:
    """Read a file, whose kind its content tells, into what `Model.infer` takes.

    That is a picture for a model whose only input is an image, stretched to the model's size; an .npy file for a model
    with one input; or an .npz file with an array for each input by name.

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
        raise OptionError(f"the input {path} cannot be read: {error.strerror}", "check the path") from error
    if head.startswith(_NPY):
        if len(inputs) != 1:
            raise TensorError(
                f"{path} holds one array, but the model has {len(inputs)} inputs",
                f"give an .npz file with an array for each of {_listing(inputs)}",
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
        raise OptionError(
            f"the arrays in {path} cannot be read: {error}", "save them again with numpy.save or numpy.savez"
        ) from error


def _read_picture(path: Path, inputs: Sequence[TensorInfo]) -> Array:
    try:
        picture = read_picture(path)
    except OptionError as error:
        raise OptionError(error.reason, error.remedy or "give a picture, an .npy file or an .npz file") from error
    if len(inputs) != 1 or not inputs[0].layout:
        remedy = f"give an .npy file, or .npz with an array for each of {_listing(inputs)}"
        if len(inputs) == 1 and len(inputs[0].shape) in (3, 4):
            remedy += '; or say that it is an image: --option "normalization=[127.5, 127.5]", a mean and a deviation'
        raise TensorError(f"{path} is a picture, but the model does not have one image as its only input", remedy)
    return to_tensor(picture, inputs[0])


def _listing(inputs: Sequence[TensorInfo]) -> str:
    return ", ".join(f"{t.name!r} ({t.data_type}{list(t.shape)})" for t in inputs)
