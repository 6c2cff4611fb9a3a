"""What pixels mean to an image tensor: which normalisation holds for them, and what is to be said about it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..metadata import Normalization, Quantization, TensorInfo

__all__ = [
    "QUANTISED",
    "AssumptionWarning",
    "another_range",
    "keeps_levels",
    "note_frame",
    "pixel_normalization",
    "warn_of_assumption",
    "warn_outside",
    "was_frame",
    "without_effect",
]

#: The types whose integers are levels where there is a scale.
QUANTISED = frozenset({"uint8", "int8", "int16"})
# What 16-bit activations are made of: TFLite's 16x8 models come of float ones, of which nearly all want [-1, 1].
_INT16 = Normalization((127.5,), (127.5,), "assumed")
#: How far 0 and 255 may lie outside of what a tensor holds: calibration often has not seen the whitest white. A
#: normalisation in other units than the tensor's misses by far more.
_MARGIN = 0.05

# by identity: each model has a normalisation of its own, in whatever copies of its TensorInfo
_told: WeakValueDictionary[int, TensorInfo | Normalization] = WeakValueDictionary()
_framed: WeakValueDictionary[int, np.ndarray[Any, Any]] = WeakValueDictionary()


class AssumptionWarning(UserWarning):
    """Pixels become the values of a tensor in a way that nobody gave."""


def pixel_normalization(info: TensorInfo) -> Normalization | None:
    """Return by what the pixels of a frame become values of an image tensor; None where they are its levels.

    For a floating-point tensor None means that nobody knows. For a quantised one the user's word counts; the metadata's
    only where black and white then fit the dtype, for some of it describes the model before it was quantised.
    """
    n, q = info.normalization, info.quantization
    if info.data_type not in QUANTISED:
        return n
    if q is None:
        return None
    if n is not None and n.source == "user":
        return n
    if info.data_type == "uint8":
        return None
    if n is not None and n.source != "assumed" and _fits(n, q, info.data_type):
        return n
    return _INT16 if info.data_type == "int16" else None


def warn_of_assumption(info: TensorInfo, n: Normalization) -> None:
    """Say of an input, once, that nobody gave the normalisation that its pixels get."""
    about = info.normalization or info
    if _told.get(id(about)) is about:
        return
    mean, std = n.mean[0], n.std[0]
    warn_outside(
        f"input {info.name!r}: nothing says how pixels become its values; assuming (pixel - {mean:g}) / {std:g}. "
        f"load(..., normalization=({mean:g}, {std:g})) confirms it, which ends this warning; a model that wants 0..1 "
        "takes (0, 255)"
    )
    _told[id(about)] = about  # after that: where such warnings are errors, each call is one


def warn_outside(message: str) -> None:
    """Warn of an assumption, at the line outside of this package that led here."""
    package = __name__.partition(".")[0]
    frame = sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == package:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        AssumptionWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        registry={},  # else the same words of another model, on the same line, would go unsaid
    )


def note_frame(tensor: np.ndarray[Any, Any]) -> None:
    """Note that a frame has become this tensor: what it shows says nothing of what its caller knows."""
    _framed[id(tensor)] = tensor


def was_frame(value: object) -> bool:
    """Return whether a frame has become this very array."""
    return _framed.get(id(value)) is value


def without_effect(info: TensorInfo) -> str:
    """Return what to say of a user's normalisation that changes none of an image's levels; "" where it would not."""
    n, q = info.normalization, info.quantization
    if not info.layout or n is None or n.source != "user" or keeps_levels(n, q):
        return ""
    if info.data_type == "uint8" and q is not None:
        why = "to `infer` uint8 arrays are levels; it applies to frames alone (infer_image, to_tensor)"
    else:
        why = "the tensor has no scale and zero point to quantise by"
    return f"input {info.name!r}: normalization= has no effect here: {why}"


def another_range(info: TensorInfo) -> str:
    """Return what to say of values that all lie in 0..1; "" where pixels become such, or nobody said otherwise."""
    n = pixel_normalization(info) if info.layout else None
    if n is None or n.source == "assumed":  # the caller knows better
        return ""
    low, high = _value_range(n)
    if not (low < -0.1 or high > 1.1):
        return ""
    return (
        f"input {info.name!r}: the first array's values all lie in 0..1, but by the {n.source}'s normalization pixels "
        f"become {low:.3g}..{high:.3g}; give such values, or the pixels themselves as uint8"
    )


def _fits(n: Normalization, q: Quantization, data_type: str) -> bool:
    limits = np.iinfo(data_type)
    margin = _MARGIN * (limits.max - limits.min)
    low, high = _value_range(n)
    return all(
        limits.min - margin <= low / scale + zero and high / scale + zero <= limits.max + margin
        for scale, zero in zip(q.scale, q.zero_point, strict=True)
    )


def _value_range(n: Normalization) -> tuple[float, float]:
    """Return the least and the greatest value that a pixel becomes in any channel."""
    ends = _normalized((0, 255), n)
    return float(ends.min()), float(ends.max())


def keeps_levels(n: Normalization, q: Quantization | None) -> bool:
    """Return whether pixels that are normalised and quantised are what they were, but for a level of rounding."""
    scale, zero = (q.scale, q.zero_point) if q is not None and q.axis is None else ((1.0,), (0,))
    levels = _normalized(range(256), n) / scale + zero
    return bool((np.abs(levels - np.arange(256)[:, np.newaxis]) <= 1).all())


def _normalized(pixels: Sequence[int], n: Normalization) -> np.ndarray[Any, Any]:
    """Return the values of pixels, (pixels, channels)."""
    try:
        values: np.ndarray[Any, Any] = (np.array(pixels)[:, np.newaxis] - np.array(n.mean)) / n.std
    except ValueError:  # for unlike numbers of channels, which a conversion refuses
        values = np.full((len(pixels), 1), np.nan)
    return values
