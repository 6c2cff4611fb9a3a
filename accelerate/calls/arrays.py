"""What a caller gives as an array: whatever offers ``__array__``, the buffer protocol or DLPack is one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TensorError, one_line

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["as_array", "is_masked"]

#: The devices (DLDeviceType of dlpack.h) that NumPy reads: the CPU, and memory that CUDA or ROCm pins or manages.
_READABLE = frozenset({1, 3, 11, 13})


def as_array(given: Any, dtype: np.dtype[Any] | None = None) -> npt.NDArray[Any]:
    """Return NumPy's array of a value, by no copy where there is a way.

    Raises
    ------
    TensorError
        There is no array in it. The reason goes on after what the value is.
    """
    try:
        array = np.asarray(given, dtype)
    except ValueError as error:
        raise TensorError(f"this {type(given).__name__} is not a rectangular array") from error
    except Exception as error:  # what a stranger's __array__ raises: a tensor on a GPU, for one
        raise TensorError(f"NumPy makes no array of it: {one_line(error, 200)}", _way_back(given)) from error
    if dtype is None and array.dtype.kind in "OS" and not array.ndim and not isinstance(given, np.ndarray):
        return _lent(given, array)
    return array


def is_masked(given: Any) -> bool:
    """Return whether it is an array of which some values are masked; numpy.ma, which takes 10 ms, is not imported."""
    ma = sys.modules.get("numpy.ma")
    return ma is not None and isinstance(given, ma.MaskedArray) and not given.dtype.names and bool(np.any(given.mask))


def _lent(given: Any, taken: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array of what NumPy has `taken` for one thing: bytes, and what offers DLPack alone."""
    if isinstance(given, bytes):
        return np.frombuffer(given, np.uint8)
    if not hasattr(given, "__dlpack__"):
        return taken
    try:
        return np.from_dlpack(given)
    except Exception as error:
        reason = f"NumPy makes no array of its DLPack: {one_line(error, 200)}"
        raise TensorError(reason, _way_back(given)) from error


def _way_back(given: Any) -> str:
    """Return what to do about memory of another device; "" where it is not that."""
    try:
        kind, _ = given.__dlpack_device__()
    except Exception:
        return ""
    return "" if kind in _READABLE else "copy it to the CPU first: .cpu() in PyTorch, .get() in CuPy"
