"""Every row of the table of accepted inputs, against formulas written out here."""

from __future__ import annotations

import array
import logging
import mmap
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accelerate import AssumptionWarning, ModelError, Normalization, OptionError, Quantization, TensorError, TensorInfo
from accelerate.calls.conversion import Array, InputAdapter, dequantize, image_layout
from accelerate.calls.normalization import normalization_by_name, parse_normalization, with_image_meaning
from accelerate.image import to_tensor

QUANTISED = {"uint8": np.uint8, "int8": np.int8, "int16": np.int16}
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
ASSUMED = Normalization((127.5,), (127.5,), "assumed")


def adapt(info: TensorInfo, value: Any, *, strict: bool = False) -> Array:
    """Adapt as a model does, by the path that `infer` takes."""
    return InputAdapter(info, lambda: info, strict=strict).fast_path()(value)


def tensor(data_type: str, shape: tuple[int, ...], **more: Any) -> TensorInfo:
    return TensorInfo("x", data_type=data_type, shape=shape, **more)


shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)
reals = st.floats(-1e6, 1e6, width=32)


# Floating point into quantised


@given(
    data_type=st.sampled_from(sorted(QUANTISED)),
    values=hnp.arrays(np.float32, shapes, elements=reals),
    scale=st.floats(2**-13, 100, width=32),
    data=st.data(),
)
def test_floats_are_rounded_and_saturated(data_type: str, values: Array, scale: float, data: Any) -> None:
    limits = np.iinfo(data_type)
    zero = data.draw(st.integers(limits.min, limits.max)) if data_type != "int16" else 0
    info = tensor(data_type, values.shape, quantization=Quantization((scale,), (zero,)))
    got = adapt(info, values)
    want = np.clip(np.rint(values / np.float32(scale) + np.float32(zero)), limits.min, limits.max)
    assert got.dtype == np.dtype(data_type)
    np.testing.assert_array_equal(got, want.astype(data_type))
    # never truncated, never wrapped: within half a step of the real value wherever it can be held
    inside = (want > limits.min) & (want < limits.max)
    error = np.abs((got.astype(np.float64) - zero) * scale - values)
    assert np.all(error[inside] <= scale * (0.5 + 1e-2) + np.abs(values[inside]) * 1e-5)


@pytest.mark.parametrize("axis", [0, 2, 7])
def test_scales_that_do_not_fit_their_tensor_are_the_models_fault(axis: int) -> None:
    q = Quantization((0.1, 0.2, 0.3), (0, 0, 0), axis)
    with pytest.raises(ModelError, match=rf"3 scales along axis {axis} of a tensor of shape \[2, 3, 4\]"):
        dequantize(np.ones((2, 3, 4), np.int8), q)
    with pytest.raises(ModelError, match="3 scales"):
        adapt(tensor("int8", (2, 3, 4), quantization=q), np.ones((2, 3, 4), np.float32))


@given(values=hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(-50, 50, width=32)), axis=st.integers(0, 2))
def test_per_channel_scales_apply_along_their_axis(values: Array, axis: int) -> None:
    n = values.shape[axis]
    scales, zeros = tuple(0.25 * (i + 1) for i in range(n)), tuple(10 * i - 5 for i in range(n))
    got = adapt(tensor("int8", values.shape, quantization=Quantization(scales, zeros, axis)), values)
    for i in range(n):
        one = np.take(values, i, axis)
        want = np.clip(np.rint(one / np.float32(scales[i]) + np.float32(zeros[i])), -128, 127)
        np.testing.assert_array_equal(np.take(got, i, axis), want)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("data_type", sorted(QUANTISED))
def test_nan_has_no_quantised_value_and_infinity_saturates(data_type: str, dtype: Any) -> None:
    info = tensor(data_type, (3,), quantization=Quantization((0.5,), (0,)))
    limits = np.iinfo(data_type)
    got = adapt(info, np.array([np.inf, -np.inf, 1], dtype))
    assert got.tolist() == [limits.max, limits.min, 2]
    with pytest.raises(TensorError, match="NaN"):
        adapt(info, np.array([np.nan, 0, 1], dtype))


def test_widespread_saturation_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    info = tensor("uint8", (100,), quantization=Quantization((1 / 255,), (0,)))
    adapter = InputAdapter(info, lambda: info)
    with caplog.at_level(logging.WARNING, "accelerate"):
        values = np.zeros(100, np.float32)
        values[:5] = 2
        adapter.adapt(values)  # 5 % exactly
        assert not caplog.records
        for _ in range(3):
            adapter.adapt(np.full(100, 200.0))
    assert len(caplog.records) == 1
    assert "100 of 100" in caplog.text


@pytest.mark.parametrize("data_type", [*INTEGERS, "bool", "string"])
def test_floats_without_a_scale_are_refused(data_type: str) -> None:
    with pytest.raises(TensorError, match=rf"input 'x' got float32\[2\], wanted {data_type}\[2\]"):
        adapt(tensor(data_type, (2,)), np.zeros(2, np.float32))


# Pixels


@given(frame=hnp.arrays(np.uint8, (1, 4, 5, 3)), data_type=st.sampled_from(["float32", "float16"]))
def test_pixels_are_normalised(frame: Array, data_type: str) -> None:
    for mean, std in [((127.5,), (127.5,)), ((0.0,), (255.0,)), ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))]:
        n = Normalization(mean, std, "metadata")
        want = (frame - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
        last = tensor(data_type, (1, 4, 5, 3), normalization=n, layout="NHWC")
        np.testing.assert_array_equal(adapt(last, frame), want.astype(data_type))
        first = tensor(data_type, (1, 3, 4, 5), normalization=n, layout="NCHW")
        got = adapt(first, frame.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(got, want.astype(data_type).transpose(0, 3, 1, 2))
        assert got.flags.c_contiguous


def test_assumed_normalisation_is_said_once_for_each_model() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    for _ in range(2):
        info = with_image_meaning(tensor("float32", (1, 2, 2, 3)), None, ASSUMED)
        adapter = InputAdapter(info, lambda info=info: info)  # type: ignore[misc]
        with pytest.warns(AssumptionWarning, match=r"normalization=\(127\.5, 127\.5\)") as said:
            got = [*(adapter.adapt(frame) for _ in range(3)), to_tensor(frame, info)]
        np.testing.assert_allclose(np.concatenate(got), np.stack([frame / 127.5 - 1] * 4), rtol=1e-6)
        assert [warning.filename for warning in said] == [__file__]


def test_each_of_several_models_says_what_it_assumes_whatever_copies_there_are_of_its_input() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    infos = [with_image_meaning(tensor("float32", (1, 2, 2, 3)), None, ASSUMED) for _ in range(3)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for info in infos:
            for _ in range(2):
                to_tensor(frame, replace(info, color="BGR"))
    assert len(said) == 3
    info = with_image_meaning(tensor("float32", (1, 2, 2, 3)), None, ASSUMED)
    for _ in range(2):  # where it is an error, no second call goes through
        with pytest.raises(AssumptionWarning):
            to_tensor(frame, info)


def test_what_a_frame_has_become_says_nothing_of_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    bright = np.full((2, 2, 3), 180, np.uint8)
    n = Normalization((127.5,), (127.5,), "metadata")
    info = tensor("float32", (1, 2, 2, 3), normalization=n, layout="NHWC")
    InputAdapter(info, lambda: info).adapt(to_tensor(bright, info))
    levels = tensor("uint8", (1, 2, 2, 3), quantization=Quantization((1.0,), (0,)), layout="NHWC")
    levels = replace(levels, normalization=Normalization((0.0,), (255.0,), "user"))
    InputAdapter(levels, lambda: levels).adapt(to_tensor(bright, levels))
    assert not caplog.records
    other = replace(info, normalization=replace(n))
    InputAdapter(other, lambda: other).adapt(np.full((1, 2, 2, 3), 0.5, np.float32))
    assert "all lie in 0..1" in caplog.text


@pytest.mark.parametrize("given", [2.0, np.float32(2), np.array(2.0), [2.0]])
def test_quantised_scalars_are_arrays(given: Any) -> None:
    q = Quantization((0.5,), (1,))
    info = tensor("int8", () if np.ndim(given) == 0 else (1,), quantization=q)
    levels = InputAdapter(info, lambda: info).adapt(given)
    assert type(levels) is np.ndarray
    assert (levels.dtype.name, levels.ravel().tolist()) == ("int8", [5])
    real = dequantize(levels, q)
    assert type(real) is np.ndarray
    assert (real.dtype.name, real.ravel().tolist()) == ("float32", [2])


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "longdouble", "float64"])
def test_any_float_is_quantised(dtype: str) -> None:
    pytest.importorskip("ml_dtypes")
    info = tensor("int8", (3,), quantization=Quantization((0.25,), (1,)))
    assert InputAdapter(info, lambda: info).adapt(np.array([-1, 0, 2]).astype(dtype)).tolist() == [-3, 1, 9]


@settings(deadline=None)
@given(frame=hnp.arrays(np.uint8, (1, 4, 5, 3)), scale=st.floats(2**-16, 2**-7, width=32))
def test_pixels_into_int16_are_normalised_and_quantised(frame: Array, scale: float) -> None:
    def levels(mean: float, std: float) -> Array:
        real = (frame - np.float32(mean)) / np.float32(std)
        quantised: Array = np.clip(np.rint(real / np.float32(scale)), -32768, 32767)
        return quantised

    image = tensor("int16", (1, 4, 5, 3), quantization=Quantization((scale,), (0,)), layout="NHWC")
    with pytest.warns(AssumptionWarning, match=r"assuming \(pixel - 127\.5\) / 127\.5"):
        np.testing.assert_array_equal(adapt(image, frame), levels(127.5, 127.5))
    user = replace(image, normalization=Normalization((0.0,), (10.0,), "user"))
    np.testing.assert_array_equal(adapt(user, frame), levels(0, 10))
    metadata = replace(image, normalization=Normalization((0.0,), (255.0,), "metadata"))
    if 1 / scale < 32768:
        np.testing.assert_array_equal(adapt(metadata, frame), levels(0, 255))
    elif 1 / scale > 1.1 * 32768:
        with pytest.warns(AssumptionWarning):
            np.testing.assert_array_equal(adapt(metadata, frame), levels(127.5, 127.5))


@pytest.mark.parametrize(("std", "quantised"), [(255.0, True), (250.0, True), (1.0, False), (127.5, False)])
def test_the_metadata_counts_for_int8_where_black_and_white_fit(std: float, quantised: bool) -> None:
    frame = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    n = Normalization((0.0,), (std,), "metadata")
    info = tensor("int8", (8, 8, 3), quantization=Quantization((1 / 255,), (-128,)), layout="HWC", normalization=n)
    levels = np.clip(np.rint(frame / np.float32(std) / np.float32(1 / 255) - 128), -128, 127)
    np.testing.assert_array_equal(adapt(info, frame), levels if quantised else frame.astype(int) - 128)


@pytest.mark.parametrize(
    ("n", "q", "message"),
    [
        (Normalization((10.0,), (50.0,), "user"), Quantization((0.02,), (114,)), "frames alone"),
        (Normalization((10.0,), (50.0,), "user"), None, "no scale"),
        (Normalization((127.5,), (127.5,), "user"), Quantization((1 / 127.5,), (127,)), None),  # it keeps the levels
        (Normalization((0.0,), (1.0,), "user"), None, None),
        (Normalization((10.0,), (50.0,), "metadata"), Quantization((0.02,), (114,)), None),
    ],
)
def test_levels_are_untouched_by_infer_and_that_is_said(
    n: Normalization, q: Quantization | None, message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    frame = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    info = tensor("uint8", (1, 4, 4, 3), quantization=q, layout="NHWC", normalization=n)
    passed = InputAdapter(info, lambda: info).fast_path()
    for _ in range(3):
        assert passed(frame) is frame
    assert len(caplog.records) == (message is not None)
    assert (message or "") in caplog.text


# Floats that look like pixels


@pytest.mark.parametrize(
    "n",
    [
        Normalization((127.5,), (127.5,), "user"),
        Normalization((0.0,), (1.0,), "metadata"),
        Normalization((124.0, 116.0, 104.0), (58.0, 57.0, 57.0), "user"),
    ],
)
@pytest.mark.parametrize("data_type", ["float32", "int8"])
def test_values_within_0_and_1_for_another_range_are_noticed_once(
    data_type: str, n: Normalization, caplog: pytest.LogCaptureFixture
) -> None:
    q = Quantization((5.0,), (-128,)) if data_type == "int8" else None
    info = tensor(data_type, (1, 4, 5, 3), layout="NHWC", quantization=q, normalization=n)
    value = np.random.default_rng(0).random((1, 4, 5, 3), np.float32)
    passed = InputAdapter(info, lambda: info).fast_path()
    for _ in range(3):
        passed(value)
    assert len(caplog.records) == 1
    assert f"all lie in 0..1, but by the {n.source}'s normalization" in caplog.text


@pytest.mark.parametrize("source", ["user", "metadata", "assumed"])
def test_nothing_is_noticed_where_nothing_is_odd(source: str, caplog: pytest.LogCaptureFixture) -> None:
    value = np.random.default_rng(0).random((1, 4, 5, 3), np.float32)
    minus_1_to_1, unit = Normalization((127.5,), (127.5,), source), Normalization((0.0,), (255.0,), source)
    for n, given_ in (
        (unit, value), (minus_1_to_1, value * 2 - 1), (minus_1_to_1, value * 0), (minus_1_to_1, value * 255),
        (None, value), (minus_1_to_1 if source == "assumed" else unit, value),
    ):  # fmt: skip
        info = tensor("float32", (1, 4, 5, 3), layout="NHWC", normalization=n)
        adapt(info, given_)
        adapt(tensor("float32", (1, 4, 5, 3), normalization=n), given_)  # no image
    assert not caplog.records


def test_pixels_without_any_normalisation_are_refused() -> None:
    info = with_image_meaning(tensor("float32", (1, 3, 4, 4)), None, None)
    with pytest.raises(TensorError, match="normalization="):
        adapt(info, np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(TensorError, match="pixels or plain numbers"):
        adapt(tensor("float32", (4,)), np.zeros(4, np.uint8))  # no image: no guess


@given(frame=hnp.arrays(np.uint8, (1, 4, 5, 3)))
def test_pixels_into_int8_use_its_full_range_or_the_normalisation(frame: Array) -> None:
    q = Quantization((1 / 255,), (-128,))
    plain = tensor("int8", (1, 4, 5, 3), quantization=q, layout="NHWC")
    np.testing.assert_array_equal(adapt(plain, frame), frame.astype(int) - 128)
    unit = Normalization((0.0,), (255.0,), "user")
    scaled = tensor("int8", (1, 4, 5, 3), quantization=q, layout="NHWC", normalization=unit)
    np.testing.assert_array_equal(adapt(scaled, frame), frame.astype(int) - 128)
    centred = Normalization((127.5,), (255.0,), "user")
    shifted = tensor("int8", (1, 4, 5, 3), quantization=q, layout="NHWC", normalization=centred)
    real = (frame - np.float32(127.5)) / np.float32(255)
    want = np.clip(np.rint(real / np.float32(1 / 255) - 128), -128, 127)
    np.testing.assert_array_equal(adapt(shifted, frame), want)


def test_normalisation_for_another_number_of_channels() -> None:
    n = Normalization((1.0, 2.0), (1.0, 1.0), "user")
    with pytest.raises(TensorError, match="3 channels"):
        adapt(tensor("float32", (1, 2, 2, 3), layout="NHWC", normalization=n), np.zeros((1, 2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 4, 5, 3), "NHWC"), ((1, 3, 4, 5), "NCHW"), ((4, 5, 1), ""), ((1, 4, 5), ""), ((16, 17, 1), "HWC"),
        ((1, 16, 17), "CHW"), ((1, 15, 17, 1), ""), ((1, 17, 15, 1), ""),
        ((1, -1, -1, 1), "NHWC"), ((1, -1, 15, 1), ""),
        ((-1, 96, 96, 3), "NHWC"), ((1, 128, 4, 2), ""), ((10, 10), ""), ((3,), ""), ((1, 3, 4, 3), "NHWC"),
        ((49, 10, 1), ""), ((1, 49, 10, 1), ""), ((1, 15600), ""), ((1, 1, 1, 1001), ""), ((-1, 3, -1, -1), "NCHW"),
    ],
)  # fmt: skip
def test_what_looks_like_an_image(shape: tuple[int, ...], layout: str) -> None:
    assert image_layout(shape) == layout


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 8, 8, 1), "NHWC"), ((1, 1, 8, 8), "NCHW"), ((49, 10, 1), "HWC"), ((1, 64, 48, 4), "NHWC"),
        ((1, 4, 64, 48), "NCHW"), ((1, 10, -1, -1), "NCHW"), ((1, -1, -1, 6), "NHWC"),
        ((10, 10), ""), ((1, 9, 9, 9), "NHWC"),
    ],
)  # fmt: skip
def test_a_normalization_makes_an_image_of_an_input(shape: tuple[int, ...], layout: str) -> None:
    user = Normalization((0.0,), (255.0,), "user")
    for extra in ({}, {"content": "feature"}):
        silent = with_image_meaning(tensor("float32", shape, extra=extra), None, ASSUMED)
        assert (silent.layout, silent.normalization) == ("", None)
        assert with_image_meaning(tensor("float32", shape, extra=extra), user, ASSUMED).layout == layout


# Integers, booleans, floats, strings


@given(
    value=hnp.arrays(st.sampled_from([np.dtype(t) for t in INTEGERS]), st.integers(0, 6)),
    data_type=st.sampled_from(INTEGERS),
)
def test_integers_are_cast_only_if_every_value_fits(value: Array, data_type: str) -> None:
    info, limits = tensor(data_type, value.shape), np.iinfo(data_type)
    if all(limits.min <= int(v) <= limits.max for v in value):
        got = adapt(info, value)
        assert got.dtype == np.dtype(data_type)
        assert [int(v) for v in got] == [int(v) for v in value]
    else:
        with pytest.raises(TensorError, match="do not fit"):
            adapt(info, value)


@pytest.mark.parametrize("data_type", INTEGERS)
def test_booleans_are_integers(data_type: str) -> None:
    assert adapt(tensor(data_type, (2,)), np.array([True, False])).tolist() == [1, 0]


@given(value=hnp.arrays(st.sampled_from([np.float16, np.float32, np.float64]), shapes, elements=st.floats(width=16)))
def test_floats_are_cast_to_floats(value: Array) -> None:
    for data_type in ("float16", "float32", "float64"):
        got = adapt(tensor(data_type, value.shape), value)
        assert got.dtype == np.dtype(data_type)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(got, value.astype(data_type))


@pytest.mark.parametrize(
    ("data_type", "given_", "largest"),
    [
        ("float16", np.array([1, -7e4, 6e4], np.float32), "-70000"),
        ("float32", np.array([1.0, 1e300, -1e200]), "1e\\+300"),
        ("float32", [1.0, 1e39, 2.0], "1e\\+39"),
    ],
)
def test_a_finite_value_never_becomes_infinite(data_type: str, given_: Any, largest: str) -> None:
    with pytest.raises(TensorError, match=f"its value {largest} is beyond what {data_type} can hold; scale or clip"):
        adapt(tensor(data_type, (3,)), given_)
    infinite = np.array([np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(adapt(tensor(data_type, (3,)), infinite), infinite)


@pytest.mark.parametrize(("data_type", "std"), [("float16", 1e-3), ("float32", 1e-40)])
def test_normalised_pixels_do_not_become_infinite_either(data_type: str, std: float) -> None:
    n = Normalization((0.0,), (std,), "user")
    info = tensor(data_type, (1, 2, 2, 3), layout="NHWC", normalization=n)
    frame = np.full((1, 2, 2, 3), 255, np.uint8)
    with pytest.raises(TensorError, match=f"is beyond what {data_type} can hold"):
        adapt(info, frame)
    with pytest.raises(TensorError, match=f"is beyond what {data_type} can hold"):
        to_tensor(frame[0], info)
    np.testing.assert_array_equal(adapt(info, frame * 0), np.zeros((1, 2, 2, 3)))


def test_sound_is_told_from_numbers() -> None:
    with pytest.raises(TensorError, match="array / 32768"):
        adapt(tensor("float32", (1, 8)), np.arange(8, dtype=np.int16))
    with pytest.raises(TensorError) as raised:
        adapt(tensor("float32", (1, 8)), np.arange(8, dtype=np.int32))
    assert "32768" not in str(raised.value)


# Whatever is an array


class _DLPack:
    """An array of another library, on a device of its own."""

    def __init__(self, held: Array, device: int = 1) -> None:
        self._held, self._device = held, device

    def __dlpack__(self, **options: Any) -> Any:
        if self._device != 1:
            raise BufferError("Cannot export it to the CPU")
        return self._held.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device, 0


@settings(deadline=None)
@given(values=hnp.arrays(np.float32, (6,), elements=st.floats(-9, 9, width=32)))
def test_buffers_and_dlpack_are_arrays(values: Array) -> None:
    info, whole = tensor("float32", (2, 3)), mmap.mmap(-1, 24)
    whole[:] = values.tobytes()
    table = values.reshape(2, 3)
    for given_ in (
        array.array("f", values), values.data, memoryview(values.tobytes()).cast("f", (2, 3)), _DLPack(table),
        memoryview(whole).cast("f"),
    ):  # fmt: skip
        np.testing.assert_array_equal(adapt(info, given_), table)
    levels = values.astype(np.int8).view(np.uint8)
    for lent in (levels.tobytes(), bytearray(levels.tobytes()), levels.data, _DLPack(levels)):
        np.testing.assert_array_equal(adapt(tensor("uint8", (2, 3)), lent), levels.reshape(2, 3))


def test_an_array_on_another_device_is_to_be_copied_first() -> None:
    with pytest.raises(TensorError, match=r"DLPack: Cannot export it to the CPU; copy it to the CPU first: \.cpu"):
        adapt(tensor("float32", (2, 3)), _DLPack(np.zeros((2, 3), np.float32), device=2))


@pytest.mark.parametrize("given_", [np.zeros(2, np.complex64), np.zeros(2, "M8[s]"), np.array([None, 1]), "ab"])
@pytest.mark.parametrize("data_type", ["float32", "int32", "bool"])
def test_anything_else_is_refused(data_type: str, given_: Any) -> None:
    with pytest.raises(TensorError, match=rf"wanted {data_type}\[2\]"):
        adapt(tensor(data_type, (2,)), given_)


@given(st.lists(st.one_of(st.text(), st.binary()), min_size=1, max_size=5))
def test_text_becomes_utf8(words: list[str | bytes]) -> None:
    value = np.empty(len(words), object)
    value[:] = words
    got = adapt(tensor("string", (len(words),)), value)
    assert got.tolist() == [w.encode() if isinstance(w, str) else w for w in words]


def test_numpy_text_and_lists_of_text() -> None:
    info = tensor("string", (2,))
    assert adapt(info, np.array(["ä", "bc"])).tolist() == ["ä".encode(), b"bc"]
    assert adapt(info, np.array([b"a", b"bc"])).tolist() == [b"a", b"bc"]
    assert adapt(info, ["ä", "bc"]).tolist() == ["ä".encode(), b"bc"]
    for wrong in ([1, 2], [None, "a"], np.zeros(2)):
        with pytest.raises(TensorError, match="str or bytes"):
            adapt(info, wrong)
    with pytest.raises(TensorError, match="no UTF-8 form"):
        adapt(info, ["\ud800", "a"])


@pytest.mark.parametrize("value", [[[1.0], [1.0, 2.0]], [1.0, [2.0]]])
def test_ragged_lists(value: Any) -> None:
    with pytest.raises(TensorError, match="rectangular"):
        adapt(tensor("float32", (2,)), value)


# Strict


@pytest.mark.parametrize(
    "value",
    [np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3), np.float64), np.zeros((1, 2, 2, 3), np.int32)],
)
def test_strict_converts_nothing(value: Array) -> None:
    info = tensor("float32", (1, 2, 2, 3), layout="NHWC", normalization=ASSUMED)
    with pytest.raises(TensorError, match="strict"):
        adapt(info, value, strict=True)


def test_strict_allows_what_changes_no_value() -> None:
    value = np.arange(6, dtype=">f4").reshape(2, 3)[:, ::-1]
    got = adapt(tensor("float32", (1, 2, 3)), value, strict=True)
    assert got.dtype.isnative
    np.testing.assert_array_equal(got[0], value)


# Shapes


@given(data=st.data(), shape=shapes)
def test_a_fitting_array_goes_through_untouched(data: Any, shape: tuple[int, ...]) -> None:
    value = data.draw(hnp.arrays(np.float32, shape))
    assert adapt(tensor("float32", shape), value) is value


@given(shape=shapes, got=shapes, dynamic=st.sets(st.integers(0, 3)))
def test_only_dynamic_dimensions_may_change(shape: tuple[int, ...], got: tuple[int, ...], dynamic: set[int]) -> None:
    want = tuple(-1 if i in dynamic else n for i, n in enumerate(shape))
    value = np.random.default_rng(0).random(got).astype(np.float32)

    def fits(given_shape: tuple[int, ...]) -> bool:
        return len(given_shape) == len(want) and all(w in (-1, g) for g, w in zip(given_shape, want, strict=True))

    expected: tuple[int, ...] | None = None
    if fits(got):
        expected = got
    elif want[0] in (1, -1) and fits((1, *got)):
        expected = (1, *got)
    elif len(got) == 1 and -1 not in want and got[0] == np.prod(want):
        expected = want
    elif len(got) == 1 and want.count(-1) == 1 and got[0] % np.prod([n for n in want if n > 0], dtype=int) == 0:
        found = got[0] // int(np.prod([n for n in want if n > 0]))
        expected = tuple(found if n < 0 else n for n in want)
    if expected is None:
        with pytest.raises(TensorError, match="got float32"):
            adapt(tensor("float32", want), value)
    else:
        result = adapt(tensor("float32", want), value)
        assert result.shape == expected
        np.testing.assert_array_equal(result.ravel(), value.ravel())


def test_scalars() -> None:
    info = tensor("float32", ())
    for value in (np.float32(2), 2.0, np.array(2.0), [2.0]):
        got = adapt(info, value)
        assert isinstance(got, np.ndarray)
        assert got.shape == ()
        assert got == 2
    assert adapt(tensor("float32", (1,)), 2.0).tolist() == [2]


def test_remedies_for_frames() -> None:
    chw = tensor("float32", (1, 3, 8, 8), layout="NCHW", normalization=ASSUMED)
    with pytest.raises(TensorError, match="channels first"):
        adapt(chw, np.zeros((8, 8, 3), np.uint8))
    hwc = tensor("uint8", (1, 8, 8, 3), layout="NHWC")
    with pytest.raises(TensorError, match="channels last"):
        adapt(hwc, np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(TensorError, match="resize the frame"):
        adapt(hwc, np.zeros((480, 640, 3), np.uint8))
    with pytest.raises(TensorError, match="resize the frame"):
        adapt(tensor("uint8", (8, 8, 3), layout="HWC"), np.zeros((9, 8, 3), np.uint8))


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (1, 3, 8, 8), (1, 10), (2, 10)])
def test_a_batch_of_another_size_than_the_models(shape: tuple[int, ...]) -> None:
    info = with_image_meaning(tensor("float32", shape), None, ASSUMED)
    wanted = "call once per item" if shape[0] == 1 else "give 2 items in each call"
    with pytest.raises(TensorError, match=f"batch is {shape[0]}; {wanted}, or export it with a dynamic batch"):
        adapt(info, np.zeros((4, *shape[1:]), np.float32))


# The way back, and the normalization option


@given(
    levels=st.sampled_from(["uint8", "int8", "int16", "int32"]).flatmap(lambda t: hnp.arrays(np.dtype(t), (2, 3))),
    scale=st.floats(2**-13, 100, width=32),
    zero=st.integers(-128, 255),
)
def test_dequantize(levels: Array, scale: float, zero: int) -> None:
    got = dequantize(levels, Quantization((scale,), (zero,)))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, ((levels.astype(np.float64) - zero) * scale).astype(np.float32))


def test_dequantize_leaves_other_tensors_alone() -> None:
    for value in (np.arange(3), np.ones(3, np.float32)):
        assert dequantize(value, None) is value


@settings(max_examples=30)
@given(levels=hnp.arrays(np.int8, (2, 3)))
def test_quantised_levels_survive_the_round_trip(levels: Array) -> None:
    q = Quantization((0.5, 0.25, 2.0), (0, 10, -20), 1)
    back = adapt(tensor("int8", (2, 3), quantization=q), dequantize(levels, q))
    np.testing.assert_array_equal(back, levels)


@pytest.mark.parametrize(
    "given_",
    [(127.5, 127.5), ((127.5,), [127.5]), Normalization((127.5,), (127.5,), "metadata"), (np.float32(127.5),) * 2],
)
def test_normalization_option(given_: Any) -> None:
    assert parse_normalization(given_) == Normalization((127.5,), (127.5,), "user")
    assert parse_normalization({"x": given_}) == {"x": Normalization((127.5,), (127.5,), "user")}


@pytest.mark.parametrize(
    "given_", [5, (1,), (1, 2, 3), ("a", "b"), (0, 0), (float("nan"), 1), ((1, 2), (1, 0)), "[-1,1]"]
)
def test_impossible_normalizations(given_: Any) -> None:
    with pytest.raises(OptionError, match="normalization"):
        parse_normalization(given_)
    with pytest.raises(OptionError, match="normalization: the model has no input"):
        normalization_by_name(parse_normalization({"y": (0, 1)}), [tensor("float32", (2,))])


def test_floats_of_ml_dtypes_are_floats() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    info = tensor("bfloat16", (3,))
    got = adapt(info, np.array([1.0, 2.5, -3.0]))
    assert got.dtype == ml_dtypes.bfloat16
    assert got.astype(float).tolist() == [1.0, 2.5, -3.0]
    assert adapt(tensor("float32", (3,)), got).tolist() == [1.0, 2.5, -3.0]
    with pytest.raises(TensorError):
        adapt(tensor("int32", (3,)), got)


def test_an_array_of_cs_long_long_is_of_the_models_own_type() -> None:
    given = np.array([1, 2], "q")
    adapted = InputAdapter(tensor("int64", (2,)), lambda: tensor("int64", (2,)), strict=True).adapt(given)
    assert adapted.dtype.num == np.dtype(np.int64).num
    np.testing.assert_array_equal(adapted, given)


def test_what_is_no_value_at_all() -> None:
    for extra, remedy in (({}, "see where it comes from"), ({"optional": True}, "leave the input out")):
        with pytest.raises(TensorError, match=f"there is no value; {remedy}"):
            adapt(replace(tensor("float32", (2,)), extra=extra), None)
    with pytest.raises(TensorError, match=r"a text is no array; .* infer_image"):
        adapt(tensor("float32", (1, 2, 2, 3)), "cat.png")
