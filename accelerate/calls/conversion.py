"""What happens to a tensor between the caller and the runtime: shape, dtype, quantisation, normalisation.

`InputAdapter` implements the table of accepted inputs (README, "What `infer` accepts"); `dequantize` is the way back.
Nothing here truncates or wraps: a value that does not fit is an error, or saturates where the table says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import ModelError, TensorError
from ..metadata import Normalization, Quantization, TensorInfo
from .arrays import as_array, is_masked
from .pixels import QUANTISED, another_range, pixel_normalization, warn_of_assumption, was_frame, without_effect

__all__ = [
    "Array",
    "InputAdapter",
    "blank",
    "concrete_shape",
    "dequantize",
    "dtype_of",
    "fits",
    "image_layout",
    "is_float",
]

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]
else:  # importing numpy.typing takes 0.6 ms, for annotations that nothing evaluates
    Array = np.ndarray

_log = logging.getLogger("accelerate")
_SATURATION_SHARE = 0.05
_SMALLEST_SIDE = 16  # of a picture with one channel that nobody calls one


def dtype_of(info: TensorInfo) -> np.dtype[Any]:
    """Return the NumPy dtype of a tensor's arrays; strings are object arrays.

    Types such as bfloat16 NumPy learns from ml_dtypes: importing that takes as long as a load, so only they cost it.

    Raises
    ------
    TypeError
        Neither has such a type here.
    """
    if info.data_type == "string":
        return np.dtype(object)
    try:
        return np.dtype(info.data_type)
    except TypeError:
        with suppress(ImportError):
            import_module("ml_dtypes")
        return np.dtype(info.data_type)


def concrete_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape to allocate, with 1 for each dynamic dimension."""
    return tuple(1 if n < 0 else n for n in shape)


def blank(info: TensorInfo, shape: Sequence[int]) -> Array:
    """Return a tensor's array of zeros, or of empty strings."""
    dtype = dtype_of(info)
    return np.full(shape, b"", object) if dtype.hasobject else np.zeros(shape, dtype)


def image_layout(shape: Sequence[int], *, known: bool = False) -> str:
    """Tell the layout of an image tensor from its shape.

    Parameters
    ----------
    shape : sequence of int
        -1 is a dynamic dimension.
    known : bool
        Whether somebody says that it is an image. Else it is taken for one with 3 channels, last or first, or with 1
        channel and both sides from 16: what is smaller is more often a table of features.

    Returns
    -------
    str
        "NHWC", "NCHW", "HWC", "CHW", or "" where it does not look like an image.
    """
    if len(shape) not in (3, 4):
        return ""
    batch = "N" if len(shape) == 4 else ""
    for channels, sides, layout in ((shape[-1], shape[-3:-1], "HWC"), (shape[-3], shape[-2:], "CHW")):
        if channels == 3 or (channels == 1 and (known or all(n < 0 or n >= _SMALLEST_SIDE for n in sides))):
            return batch + layout
    if not known:
        return ""
    first, last = (n if n > 0 else math.inf for n in (shape[-3], shape[-1]))
    return batch + ("CHW" if first < last else "HWC")


def dequantize(values: Array, quantization: Quantization | None) -> Array:
    """Return the real values of a quantised tensor: ``(q - zero_point) * scale`` as float32.

    The formula is that of the TFLite quantisation specification (ai.google.dev/edge/litert/models/quantization_spec).
    A tensor without quantisation is returned as it is.
    """
    if quantization is None or values.dtype.kind not in "iu":
        return values
    # float32 holds every 16-bit difference exactly; wider integers need float64 on the way
    work = np.float32 if values.dtype.itemsize <= 2 else np.float64
    scale, zero = _per_axis(quantization, values.shape, work)
    with np.errstate(over="ignore"):  # a scale near the end of float32's range
        real: Array = np.asarray(np.subtract(values, zero, dtype=work))  # of no dimension NumPy makes a number
        real *= scale
        return real.astype(np.float32, copy=False)


def _per_axis(q: Quantization, sides: Sequence[int], dtype: type[np.floating[Any]]) -> tuple[Any, Any]:
    """Scale and zero point, shaped to broadcast over a tensor of this shape."""
    if q.axis is None:
        return dtype(q.scale[0]), dtype(q.zero_point[0])
    if not -len(sides) <= q.axis < len(sides) or len(q.scale) not in (1, sides[q.axis]):  # no engine looks at that
        raise ModelError(
            f"the model gives {len(q.scale)} scales along axis {q.axis} of a tensor of shape {list(sides)}",
            "its real values cannot be had: leave dequantize out, and give levels",
        )
    shape = [1] * len(sides)
    shape[q.axis] = -1
    return np.asarray(q.scale, dtype).reshape(shape), np.asarray(q.zero_point, dtype).reshape(shape)


class InputAdapter:
    """Makes one input ready for the runtime: a C-contiguous array of the tensor's dtype and a fitting shape.

    Parameters
    ----------
    info : TensorInfo
        Name, dtype, shape and quantisation suffice for an array that already fits; a user's normalisation has to be
        there.
    details : callable
        Returns the complete TensorInfo; asked only when a conversion needs the layout or the normalisation.
    strict : bool
        Refuse every conversion of values.
    """

    def __init__(self, info: TensorInfo, details: Callable[[], TensorInfo], *, strict: bool = False) -> None:
        self.info = info
        self._details = details
        self._strict = strict
        self._dtype = dtype_of(info)
        self._any_shape = "rank" in info.extra  # nobody says which: the runtime judges it
        self._dynamic = self._any_shape or min(info.shape, default=0) < 0
        self._said: set[str] = set()
        # the first array is looked at, for what it shows of how the caller understands an image; of levels those that
        # the user has a normalisation for
        self._unseen = len(info.shape) in (3, 4) and (
            self._dtype.name in ("float32", "float16", "int8", "int16")
            or (self._dtype == np.uint8 and info.normalization is not None and info.normalization.source == "user")
        )

    def fast_path(self) -> Callable[[Any], Array]:
        """Return a function that passes an array which fits through untouched and adapts every other value."""
        if self._dtype.hasobject:
            return self.adapt
        dtype, adapt, ndarray = self._dtype, self.adapt, np.ndarray
        # of a dynamic one, the shape that came last
        fitting = None if self._dynamic or self._unseen else self.info.shape

        def pass_or_adapt(value: Any) -> Array:
            nonlocal fitting
            # `is`: NumPy has one object for each native built-in dtype, and comparing identities is 10 times cheaper
            if type(value) is ndarray and value.dtype is dtype and value.shape == fitting and value.flags.c_contiguous:
                return value
            array = adapt(value)
            fitting = None if self._unseen else array.shape
            return array

        return pass_or_adapt

    def adapt(self, value: Any) -> Array:
        """Convert `value` as the input table says.

        Raises
        ------
        TensorError
            Naming the tensor, what it got, what it wanted, and the remedy.
        """
        array = self._as_array(value)
        array = self._fit_shape(array)
        if self._unseen and not was_frame(value):
            self._look_at(array)
        if self._dtype.hasobject:
            array = self._strings(array)
        elif array.dtype != self._dtype:
            array = self._convert(array)
        elif array.dtype.num != self._dtype.num:  # C's long long: a number of its own, by which runtimes go
            array = array.view(self._dtype)
        return np.ascontiguousarray(array) if array.ndim else array.copy()

    def adapt_frame(self, pixels: Array) -> Array:
        """Convert a frame's pixels, uint8: as `adapt`, but into a uint8 tensor by the user's normalisation, too."""
        info = self._details()
        n, q = pixel_normalization(info), info.quantization
        if self._dtype == np.uint8 and info.layout:
            if n is not None and q is not None:
                return self._quantize(self._normalize(pixels, n, info.layout), q)
            self._say_once("no effect", without_effect(info))
        return self.adapt(pixels)

    def _look_at(self, array: Array) -> None:
        """Say what the first array shows that the caller may not know."""
        if self._dtype == np.uint8 and array.dtype != np.uint8:
            return
        self._unseen = False
        info = self._details()
        if self._dtype == np.uint8:
            self._say_once("no effect", without_effect(info))
        elif array.dtype.kind == "f" and array.size and array.min() >= 0 and 0 < array.max() <= 1:
            self._say_once("range", another_range(info))

    def _as_array(self, value: Any) -> Array:
        if value is None:
            remedy = "leave the input out" if self.info.optional else "see where it comes from"
            raise self._refusal(value, "there is no value", remedy)
        if isinstance(value, str) and not self._dtype.hasobject:
            raise self._refusal(value, "a text is no array", "for the path of a picture there is infer_image")
        if is_masked(value):
            raise self._refusal(value, "some of its values are masked", "say what they are: array.filled(value)")
        # as objects: NumPy's own strings end at the first of the NULs behind them, and turn numbers into text
        wanted = np.dtype(object) if self._dtype.hasobject and not isinstance(value, np.ndarray) else None
        try:
            array: Array = as_array(value, wanted)
        except TensorError as error:
            raise self._refusal(value, error.reason, error.remedy) from error.__cause__
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return array

    def _fit_shape(self, array: Array) -> Array:
        want, got = self.info.shape, array.shape
        if self._any_shape:
            return array
        if fits(got, want):
            return array
        if len(got) == len(want) - 1 and want[0] in (1, -1) and fits(got, want[1:]):
            return array[np.newaxis]
        if array.ndim <= 1 and (shape := _unflattened(array.size, want)) is not None:
            return array.reshape(shape)
        raise self._refusal(array, *self._about_shape(got))

    def _about_shape(self, got: tuple[int, ...]) -> tuple[str, str]:
        want, layout = self.info.shape, self._details().layout
        if layout.endswith("CHW") and image_layout(got).endswith("HWC"):
            return "the model wants channels first", "move the last axis: np.moveaxis(array, -1, -3)"
        if layout.endswith("HWC") and image_layout(got).endswith("CHW"):
            return "the model wants channels last", "move the first of the last three axes: np.moveaxis(array, -3, -1)"
        if len(got) == len(want) > 1 and fits(got[1:], want[1:]) and layout[:1] in ("", "N"):
            once = "call once per item" if want[0] == 1 else f"give {want[0]} items in each call"
            return f"the model's batch is {want[0]}", f"{once}, or export it with a dynamic batch"
        if layout and image_layout(got)[-3:] == layout[-3:]:
            return "", "resize the frame to the model's height and width first: infer_image does"
        if len(got) == 1 and want.count(-1) == 1:
            return f"its {got[0]} values fill no whole number of the dimension shown as -1", "reshape it"
        return "only dimensions shown as -1 may vary" if self._dynamic else "its shape is fixed", "reshape or resize it"

    def _strings(self, array: Array) -> Array:
        words = array.ravel().tolist() if array.dtype.kind in "USOT" else [None]
        if not all(isinstance(word, (str, bytes)) for word in words):
            raise self._refusal(array, "", "give str or bytes")
        encoded = np.empty(array.shape, object)
        try:
            encoded.ravel()[:] = [word.encode() if isinstance(word, str) else word for word in words]
        except UnicodeEncodeError as error:
            raise self._refusal(array, f"it holds text that has no UTF-8 form ({error.reason})") from error
        return encoded

    def _convert(self, array: Array) -> Array:
        want, kind = self._dtype, array.dtype.kind
        if self._strict:
            raise self._refusal(array, "strict=True converts nothing", f"convert it first: array.astype('{want}')")
        pixels = array.dtype == np.uint8 and want.name in ("float32", "float16", "int8", "int16")
        if pixels and (converted := self._from_pixels(array)) is not None:
            return converted
        if is_float(array.dtype) and is_float(want):
            return self._cast_floats(array)
        if is_float(array.dtype) and want.name in QUANTISED and self.info.quantization is not None:
            return self._quantize(array, self.info.quantization)
        if kind in "iub" and want.kind in "iu":
            return self._cast_integers(array)
        raise self._refusal(array, *self._about_dtype(array))

    def _from_pixels(self, array: Array) -> Array | None:
        """Convert a uint8 frame for an image tensor; None where the tensor is no image."""
        info = self._details()
        if not info.layout:
            return None
        n, q = pixel_normalization(info), info.quantization
        if n is not None:
            real = self._normalize(array, n, info.layout)
            if n.source == "assumed":
                warn_of_assumption(info, n)
            if self._dtype.kind == "f":
                return self._cast_floats(real)
            if q is not None:
                return self._quantize(real, q)
        self._say_once("no effect", without_effect(info))
        if self._dtype == np.int8:  # the tensor's full range
            return (array ^ 0x80).view(np.int8)
        if self._dtype == np.int16:  # nothing says what its levels stand for
            return None
        raise self._refusal(
            array,
            "the model does not say how pixels become its values",
            "say it: load(..., normalization=(mean, std)) in 0..255 units, such as (127.5, 127.5) for [-1, 1] or "
            "(0, 255) for [0, 1]",
        )

    def _normalize(self, pixels: Array, n: Normalization, layout: str) -> Array:
        channels = pixels.shape[layout.index("C")]
        if len(n.mean) not in (1, channels) or len(n.std) not in (1, channels):
            raise self._refusal(
                pixels,
                f"its normalization has {len(n.mean)} means and {len(n.std)} stds for {channels} channels",
                "give load(..., normalization=(mean, std)), which goes before it",
            )
        shape = (-1,) if layout.endswith("C") else (-1, 1, 1)
        real: Array = np.subtract(pixels, np.asarray(n.mean, np.float32).reshape(shape), dtype=np.float32)
        with np.errstate(over="ignore"):
            real /= np.asarray(n.std, np.float32).reshape(shape)
        if self._dtype.kind == "f":
            self._check_finite(pixels, real)
        return real

    def _cast_floats(self, array: Array) -> Array:
        with np.errstate(over="ignore"):
            cast = array.astype(self._dtype)
        if self._dtype.itemsize <= array.dtype.itemsize:
            self._check_finite(array, cast)
        return cast

    def _check_finite(self, before: Array, after: Array) -> None:
        """Refuse what has become infinite, or NaN where the dtype has no infinity."""
        if np.isfinite(after).all():
            return
        lost = before[np.isfinite(before) & ~np.isfinite(after)]
        if lost.size:
            largest = lost[np.argmax(np.abs(lost.astype(np.float64)))]
            raise self._refusal(
                before, f"its value {float(largest):g} is beyond what {after.dtype} can hold", "scale or clip it first"
            )

    def _quantize(self, real: Array, q: Quantization) -> Array:
        """``clip(rint(x/s + z))`` to the range of the dtype."""
        work = np.float64 if real.dtype.itemsize >= 8 else np.float32
        scale, zero = _per_axis(q, real.shape, work)
        limits = np.iinfo(self._dtype)
        with np.errstate(over="ignore"):  # an infinite quotient saturates like any other large value
            levels: Array = np.asarray(np.divide(real.astype(work, copy=False), scale))
        levels += zero
        if np.isnan(levels).any():
            raise self._refusal(real, "it contains NaN, which has no quantised value", "replace it first")
        np.rint(levels, out=levels)
        if "saturated" not in self._said:
            outside = np.count_nonzero((levels < limits.min) | (levels > limits.max))
            if outside > _SATURATION_SHARE * levels.size:
                self._say_once(
                    "saturated",
                    "input %r: %d of %d values lie outside what %s with scale %g can hold and were saturated; "
                    "are they normalised for this model?",
                    self.info.name,
                    outside,
                    levels.size,
                    self._dtype,
                    q.scale[0],
                )
        np.clip(levels, limits.min, limits.max, out=levels)
        return levels.astype(self._dtype)

    def _cast_integers(self, array: Array) -> Array:
        limits = np.iinfo(self._dtype)
        if array.size and array.dtype.kind != "b":
            low, high = int(array.min()), int(array.max())
            if low < limits.min or high > limits.max:
                raise self._refusal(
                    array, f"its values {low}..{high} do not fit {limits.min}..{limits.max}", "rescale them first"
                )
        return array.astype(self._dtype)

    def _about_dtype(self, array: Array) -> tuple[str, str]:
        if is_float(array.dtype) and self._dtype.name in QUANTISED:
            return "the tensor carries no scale and zero_point, so a real value has no level", "convert it yourself"
        remedy = f"convert it first: array.astype({self.info.data_type!r})"
        if array.dtype == np.int16 and self._dtype.kind == "f" and not self._details().layout:
            return (
                "these may be samples of sound or plain numbers",
                f"for samples in -1..1 give array / 32768; else {remedy}",
            )
        if array.dtype.kind in "iub" and self._dtype.kind == "f":
            return "these may be levels, pixels or plain numbers", remedy
        return "", remedy

    def _refusal(self, value: Any, problem: str, remedy: str = "") -> TensorError:
        got = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        want = f"{self.info.data_type}{list(self.info.shape)}"
        about = f": {problem}" if problem else ""
        return TensorError(f"input {self.info.name!r} got {got}, wanted {want}{about}", remedy)

    def _say_once(self, topic: str, message: str, *values: object) -> None:
        """Log a warning, unless there is none or it has been said."""
        if message and topic not in self._said:
            self._said.add(topic)
            _log.warning(message, *values)


def fits(got: Sequence[int], want: Sequence[int]) -> bool:
    """Return whether a shape is the wanted one, where -1 is any side."""
    return len(got) == len(want) and all(w in (g, -1) for g, w in zip(got, want, strict=True))


def _unflattened(size: int, want: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that so many values fill, where no more than one dimension is left to find."""
    known = math.prod(n for n in want if n >= 0)
    if -1 not in want:
        return want if size == known else None
    if want.count(-1) > 1 or not known or not size or size % known:
        return None
    return tuple(size // known if n < 0 else n for n in want)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether values of a dtype are real numbers; to NumPy those of ml_dtypes (bfloat16) are of kind "V"."""
    return dtype.kind == "f" or "float" in dtype.name
