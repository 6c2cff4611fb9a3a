"""How pixels become values: what the user says of it, and what holds for an input in the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import OptionError, TensorError
from ..metadata import Normalization, TensorInfo
from .conversion import image_layout
from .names import NameIndex

__all__ = ["mean_and_std", "normalization_by_name", "parse_normalization", "with_image_meaning"]


def parse_normalization(given: Any) -> Mapping[str, Normalization] | Normalization | None:
    """Turn ``load(normalization=...)`` into Normalization objects with source "user".

    Parameters
    ----------
    given : Normalization, (mean, std), or a mapping from input name to one of these
        `mean` and `std` are numbers or one number per channel, in 0..255 units.

    Raises
    ------
    OptionError
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {str(name): _one_normalization(value) for name, value in given.items()}
    return _one_normalization(given)


def mean_and_std(said: Any) -> Any:
    """Return what a file of JSON says as `parse_normalization` takes it: {"mean": …, "std": …} is the pair of both."""
    if isinstance(said, Mapping) and said.keys() == {"mean", "std"}:
        return [said["mean"], said["std"]]
    return said


def normalization_by_name(
    given: Mapping[str, Normalization] | Normalization | None, inputs: Sequence[TensorInfo]
) -> Mapping[str, Normalization] | Normalization | None:
    """Put the inputs' canonical names in the place of any of their names.

    Raises
    ------
    OptionError
        No input has such a name.
    """
    if not isinstance(given, Mapping):
        return given
    index = NameIndex(inputs, "input")
    try:
        return {inputs[index.find(name)].name: one for name, one in given.items()}
    except TensorError as error:
        raise OptionError(f"normalization: {error.reason}", error.remedy) from error


def _one_normalization(given: Any) -> Normalization:
    try:
        mean, std = (given.mean, given.std) if isinstance(given, Normalization) else given
        means, stds = (tuple(float(x) for x in np.atleast_1d(v).ravel()) for v in (mean, std))
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(
            f"normalization is {given!r:.80}; wanted (mean, std), each a number or one number per channel in 0..255 "
            "units, such as (127.5, 127.5)"
        ) from error
    if not means or not stds or 0 in stds or not all(map(math.isfinite, means + stds)):
        raise OptionError(f"normalization (mean={means}, std={stds}) must be finite numbers with std other than 0")
    return Normalization(means, stds, "user")


def with_image_meaning(info: TensorInfo, user: Normalization | None, assumed: Normalization | None) -> TensorInfo:
    """Complete an input's layout and normalisation: the user's word first, then the metadata's, then `assumed`."""
    layout = info.layout
    if not layout and (user is not None or "content" not in info.extra):  # nobody says that it holds something else
        layout = image_layout(info.shape, known=user is not None)
    if user is not None:
        return replace(info, layout=layout, normalization=user)
    real = info.data_type in ("float32", "float16") or (info.data_type == "int16" and info.quantization is not None)
    if info.normalization is None and layout and real:
        # one of its own for each model: what is said of it is said once
        return replace(info, layout=layout, normalization=assumed and replace(assumed))
    return replace(info, layout=layout)
