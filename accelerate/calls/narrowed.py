"""For runtimes that compute numbers of 64 bits in 32: what would become another number is refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ..errors import TensorError
from ..metadata import TensorInfo
from .conversion import Array

__all__ = ["check_narrowed", "may_narrow"]

_log = logging.getLogger("accelerate")
#: The numbers that int32 and float32 can hold, in whose place wider ones are computed.
_INTEGERS = (int(np.iinfo(np.int32).min), int(np.iinfo(np.int32).max))
_FLOATS = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))
_LIMITS = {**dict.fromkeys(("int64", "uint32", "uint64"), _INTEGERS), "float64": _FLOATS}


def may_narrow(tensors: Sequence[TensorInfo], where: str, runtime: str) -> bool:
    """Tell whether numbers of tensors may change, so that calls have to check them; where floats do, warn of it.

    Parameters
    ----------
    tensors : sequence of TensorInfo
    where, runtime : str
        The model, and what would run it, for the warning.
    """
    if any(info.data_type == "float64" for info in tensors):
        _log.warning("%s takes float64, which %s computes in float32 on this device", where, runtime)
    return any(info.data_type in _LIMITS for info in tensors)


def check_narrowed(tensors: Sequence[TensorInfo], feeds: Sequence[Array | None], device: str) -> None:
    """Refuse numbers that int32, or float32 for float64, cannot hold.

    Parameters
    ----------
    tensors : sequence of TensorInfo
    feeds : sequence of numpy.ndarray
        One each; None for an optional input that is left out.
    device : str
        What would change them, as the error calls it.

    Raises
    ------
    TensorError
    """
    for info, feed in zip(tensors, feeds, strict=True):
        limits = _LIMITS.get(info.data_type)
        if limits is None or feed is None or not feed.size:
            continue
        values = feed[~np.isnan(feed)] if limits is _FLOATS else feed
        low, high = (values.min(), values.max()) if values.size else (0, 0)
        if low < limits[0] or high > limits[1]:
            raise TensorError(
                f"input {info.name!r} holds numbers beyond 32 bits, {low} to {high}, which {device} would change",
                "run the model by the backend of its own format",
            )
