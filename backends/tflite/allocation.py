"""Gives an interpreter's inputs their shapes, and its tensors their memory."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from accelerate.contract import LoadOptions, held_back, settle
from accelerate.errors import OptionError, TensorError, one_line
from accelerate.formats.interface import Interface
from accelerate.metadata import TensorInfo

from .calls import ENGINE_ERRORS, Calls
from .engines import LINES

__all__ = ["allocate_for", "allocate_tensors", "settled_interface"]

_CRASHES_AT_SCALARS = platform.machine() == "aarch64"  # LiteRT 2.3.0, in ResizeInputTensor


def settled_interface(told: Interface, options: LoadOptions) -> Interface:
    """Return an interface whose inputs have the shapes that were given to `load`."""
    return replace(told, inputs=settle(told.inputs, options.shapes, options.tensor_names))


def allocate_tensors(calls: Calls, indices: Sequence[int], inputs: Sequence[TensorInfo], options: LoadOptions) -> None:
    """Make room for the tensors; the inputs have their settled shapes already, as what follows from them has then.

    Raises
    ------
    OptionError
        The model cannot run with the shapes that were given.
    """
    if not options.shapes:
        with held_back(LINES):
            calls.allocate()
        return
    fixed = {i: info.shape for i, info in zip(indices, inputs, strict=True) if min(info.shape, default=0) >= 0}
    try:
        allocate_for(calls, fixed)
    except TensorError as error:
        raise OptionError(f"shapes: {error.reason}", "give others, or leave them out") from error.__cause__


def allocate_for(calls: Calls, shapes: Mapping[int, tuple[int, ...]]) -> None:
    """Give inputs, by their index, these shapes.

    Raises
    ------
    TensorError
        The model cannot run with them.
    """
    changed = {index: shape for index, shape in shapes.items() if calls.shape(index) != shape}
    if _CRASHES_AT_SCALARS and () in changed.values():
        raise TensorError(
            "the TFLite interpreter would crash on this processor where an input becomes a scalar again",
            "give it a dimension of 1, or load the model again",
        )
    try:
        with held_back(LINES):
            for index, shape in changed.items():
                calls.resize(index, np.asarray(shape, np.int32))
            calls.allocate()
    except ENGINE_ERRORS as error:
        raise TensorError(
            f"the model cannot run with inputs of shape {', '.join(str(list(s)) for s in shapes.values())}: "
            f"{one_line(error)}"
        ) from error
