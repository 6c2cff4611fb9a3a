"""What happens to a tensor between the caller and the runtime: shape, dtype, quantisation, normalisation.

`InputAdapter` implements the table of accepted inputs (README, "What `infer` accepts"); `dequantize` is the way back.
Nothing here truncates or wraps: a value that does not fit is an error, or saturates where the table says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import OptionError, TensorError, one_line
from ..metadata import Normalization, Quantization, TensorInfo
from .names import NameIndex

__all__ = [
    "Array",
    "InputAdapter",
    "blank",
    "concrete_shape",
    "dequantize",
    "dtype_of",
    "image_layout",
    "normalization_by_name",
    "parse_normalization",
    "with_image_meaning",
]

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]
else:  # importing numpy.typing takes 0.6 ms, for annotations that nothing evaluates
    Array = np.ndarray

_log = logging.getLogger("accelerate")
_QUANTISED = frozenset({"uint8", "int8", "int16"})
_SATURATION_SHARE = 0.05
_SMALLEST_SIDE = 16  # of a picture with one channel that nobody calls one


def dtype_of(info: TensorInfo) -> np.dtype[Any]:
    """Return the NumPy dtype of a tensor's arrays; strings are object arrays."""
    return np.dtype(object if info.data_type == "string" else info.data_type)


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
    scale, zero = _per_axis(quantization, values.ndim, work)
    with np.errstate(over="ignore"):  # a scale near the end of float32's range
        real: Array = np.subtract(values, zero, dtype=work)
        real *= scale
        return real.astype(np.float32, copy=False)


def _per_axis(q: Quantization, rank: int, dtype: type[np.floating[Any]]) -> tuple[Any, Any]:
    """Scale and zero point, shaped to broadcast over a tensor of this rank."""
    if q.axis is None:
        return dtype(q.scale[0]), dtype(q.zero_point[0])
    shape = [1] * rank
    shape[q.axis] = -1
    return np.asarray(q.scale, dtype).reshape(shape), np.asarray(q.zero_point, dtype).reshape(shape)


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


class InputAdapter:
    """Makes one input ready for the runtime: a C-contiguous array of the tensor's dtype and a fitting shape.

    Parameters
    ----------
    info : TensorInfo
        Name, dtype, shape and quantisation suffice for an array that already fits.
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

    def fast_path(self) -> Callable[[Any], Array]:
        """Return a function that passes an array which fits through untouched and adapts every other value."""
        if self._dtype.hasobject:
            return self.adapt
        dtype, adapt, ndarray = self._dtype, self.adapt, np.ndarray
        fitting = None if self._dynamic else self.info.shape  # of a dynamic one, the shape that came last

        def pass_or_adapt(value: Any) -> Array:
            nonlocal fitting
            # `is`: NumPy has one object for each native built-in dtype, and comparing identities is 10 times cheaper
            if type(value) is ndarray and value.dtype is dtype and value.shape == fitting and value.flags.c_contiguous:
                return value
            array = adapt(value)
            fitting = array.shape
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
        if self._dtype.hasobject:
            array = self._strings(array)
        elif array.dtype != self._dtype:
            array = self._convert(array)
        elif array.dtype.num != self._dtype.num:  # C's long long: a number of its own, by which runtimes go
            array = array.view(self._dtype)
        return np.ascontiguousarray(array) if array.ndim else array.copy()

    def _as_array(self, value: Any) -> Array:
        if isinstance(value, np.ma.MaskedArray) and not value.dtype.names and np.any(value.mask):
            raise self._refusal(value, "some of its values are masked", "say what they are: array.filled(value)")
        if self._dtype.hasobject and not isinstance(value, np.ndarray):
            # as objects: NumPy's own strings end at the first of the NULs behind them, and turn numbers into text
            return self._to_array(value, np.dtype(object))
        array = self._to_array(value, None)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return array

    def _to_array(self, value: Any, dtype: np.dtype[Any] | None) -> Array:
        try:
            return np.asarray(value, dtype)
        except ValueError as error:  # ragged lists
            raise self._refusal(value, f"this {type(value).__name__} is not a rectangular array") from error
        except Exception as error:  # what a stranger's __array__ raises: a tensor on a GPU, for one
            reason = one_line(error, 200)
            raise self._refusal(value, f"NumPy makes no array of it: {reason}") from error

    def _fit_shape(self, array: Array) -> Array:
        want, got = self.info.shape, array.shape
        if self._any_shape:
            return array
        if len(got) == len(want) and all(w in (g, -1) for g, w in zip(got, want, strict=True)):
            return array
        if (
            len(got) == len(want) - 1
            and want[0] in (1, -1)
            and all(w in (g, -1) for g, w in zip(got, want[1:], strict=True))
        ):
            return array[np.newaxis]
        if array.ndim <= 1 and not self._dynamic and array.size == math.prod(want):
            return array.reshape(want)
        raise self._refusal(array, *self._about_shape(got))

    def _about_shape(self, got: tuple[int, ...]) -> tuple[str, str]:
        layout = self._details().layout
        if layout.endswith("CHW") and image_layout(got).endswith("HWC"):
            return "the model wants channels first", "move the last axis: np.moveaxis(array, -1, -3)"
        if layout and image_layout(got)[-3:] == layout[-3:]:
            return "", "resize the frame to the model's height and width first"
        return "only dimensions shown as -1 may vary", "reshape or resize it"

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
        floats = _is_float(array.dtype) and _is_float(want)
        if self._strict:
            raise self._refusal(array, "strict=True converts nothing", f"convert it first: array.astype('{want}')")
        pixels = array.dtype == np.uint8 and want.name in ("float32", "float16", "int8", "int16")
        if pixels and (converted := self._from_pixels(array)) is not None:
            return converted
        if floats:
            with np.errstate(over="ignore"):  # IEEE: what exceeds the narrower type becomes infinite
                return array.astype(want)
        if kind == "f" and want.name in _QUANTISED and self.info.quantization is not None:
            return self._quantize(array, self.info.quantization)
        if kind in "iub" and want.kind in "iu":
            return self._cast_integers(array)
        raise self._refusal(array, *self._about_dtype(array))

    def _from_pixels(self, array: Array) -> Array | None:
        """Convert a uint8 frame for an image tensor; None where the tensor is no image."""
        info = self._details()
        if not info.layout:
            return None
        if info.normalization is not None:
            real = self._normalize(array, info.normalization, info.layout)
            if self._dtype.kind == "f":
                with np.errstate(over="ignore"):
                    return real.astype(self._dtype, copy=False)
            if info.quantization is not None:
                return self._quantize(real, info.quantization)
        if self._dtype == np.int8:  # the tensor's full range
            return (array ^ 0x80).view(np.int8)
        if self._dtype == np.int16:  # holds them as they are
            return None
        raise self._refusal(
            array,
            "the model does not say how pixels become its values",
            "say it: load(..., normalization=(mean, std)) in 0..255 units, such as (127.5, 127.5) for [-1, 1] or "
            "(0, 255) for [0, 1]",
        )

    def _normalize(self, pixels: Array, n: Normalization, layout: str) -> Array:
        if n.source == "assumed":
            self._say_once(
                "assumed",
                "input %r: nothing says how pixels become its values; assuming (pixel - %g) / %g. "
                "load(..., normalization=(mean, std)) settles it",
                self.info.name,
                n.mean[0],
                n.std[0],
            )
        channels = pixels.shape[layout.index("C")]
        if len(n.mean) not in (1, channels) or len(n.std) not in (1, channels):
            raise self._refusal(
                pixels,
                f"its normalization has {len(n.mean)} means and {len(n.std)} stds for {channels} channels",
                "give load(..., normalization=(mean, std)), which goes before it",
            )
        shape = (-1,) if layout.endswith("C") else (-1, 1, 1)
        real: Array = np.subtract(pixels, np.asarray(n.mean, np.float32).reshape(shape), dtype=np.float32)
        with np.errstate(over="ignore"):  # as for any float
            real /= np.asarray(n.std, np.float32).reshape(shape)
        return real

    def _quantize(self, real: Array, q: Quantization) -> Array:
        """``clip(rint(x/s + z))`` to the range of the dtype."""
        work = np.float64 if real.dtype == np.float64 else np.float32
        scale, zero = _per_axis(q, real.ndim, work)
        limits = np.iinfo(self._dtype)
        with np.errstate(over="ignore"):  # an infinite quotient saturates like any other large value
            levels: Array = np.divide(real, scale, dtype=work)
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
        if array.dtype.kind == "f" and self._dtype.name in _QUANTISED:
            return "the tensor carries no scale and zero_point, so a real value has no level", "convert it yourself"
        remedy = f"convert it first: array.astype({self.info.data_type!r})"
        if array.dtype.kind in "iub" and self._dtype.kind == "f":
            return "these may be levels, pixels or plain numbers", remedy
        return "", remedy

    def _refusal(self, value: Any, problem: str, remedy: str = "") -> TensorError:
        got = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        want = f"{self.info.data_type}{list(self.info.shape)}"
        about = f": {problem}" if problem else ""
        return TensorError(f"input {self.info.name!r} got {got}, wanted {want}{about}", remedy)

    def _say_once(self, topic: str, message: str, *values: object) -> None:
        if topic not in self._said:
            self._said.add(topic)
            _log.warning(message, *values)


def _is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether values of a dtype are real numbers; to NumPy those of ml_dtypes (bfloat16) are of kind "V"."""
    return dtype.kind == "f" or "float" in dtype.name


def with_image_meaning(info: TensorInfo, user: Normalization | None, assumed: Normalization | None) -> TensorInfo:
    """Complete an input's layout and normalisation: the user's word first, then the metadata's, then `assumed`."""
    layout = info.layout
    if not layout and (user is not None or "content" not in info.extra):  # nobody says that it holds something else
        layout = image_layout(info.shape, known=user is not None)
    if user is not None:
        return replace(info, layout=layout, normalization=user)
    if info.normalization is None and layout and info.data_type in ("float32", "float16"):
        return replace(info, layout=layout, normalization=assumed)
    return replace(info, layout=layout)
