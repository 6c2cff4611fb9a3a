"""Frames into tensors, against slow formulas written out here, against `infer`, and one engine against another."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import accelerate
from accelerate import AssumptionWarning, Model, Normalization, OptionError, Quantization, TensorError, TensorInfo
from accelerate.calls.conversion import Array, InputAdapter
from accelerate.image import Geometry, geometry, read_picture, to_tensor

OPENCV, PILLOW = (importlib.util.find_spec(name) is not None for name in ("cv2", "PIL"))
pytestmark = pytest.mark.skipif(not (OPENCV or PILLOW), reason="needs an extra: vision or cli")
needs_opencv = pytest.mark.skipif(not OPENCV, reason="needs the extra: vision")
needs_pillow = pytest.mark.skipif(not PILLOW, reason="needs the extra: cli")
needs_infer_image = pytest.mark.skipif(not hasattr(Model, "infer_image"), reason="Model has no infer_image yet")

DATA = Path(accelerate.__file__).parent / "data"
YUV = ("NV12", "I420", "YUYV")
LAYOUTS = ("NHWC", "NCHW", "HWC", "CHW")
NORMALIZATIONS = (
    None,
    Normalization((127.5,), (127.5,), "metadata"),
    Normalization((0.0,), (255.0,), "user"),
    Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "user"),
    Normalization((10.0,), (1.0, 2.0, 3.0), "user"),
)
QUANTIZATIONS = (None, Quantization((1 / 128,), (0,)), Quantization((0.02, 0.03, 0.05), (3, 0, -7), -1))
RGB = TensorInfo("image", data_type="uint8", shape=(1, 12, 16, 3), layout="NHWC", color="RGB")


def tensor(
    data_type: str = "uint8", height: int = 12, width: int = 16, channels: int = 3, layout: str = "NHWC", **more: Any
) -> TensorInfo:
    sides = {"N": 1, "H": height, "W": width, "C": channels}
    shape = tuple(sides[axis] for axis in layout)
    return TensorInfo("image", data_type=data_type, shape=shape, layout=layout, **more)


def combinations() -> list[TensorInfo]:
    """Every tensor that pixels can become, with 3 channels."""
    infos = [tensor(t, layout=layout) for t, layout in product(("uint8", "int8", "int16", "int32", "int64"), LAYOUTS)]
    for layout, n in product(LAYOUTS, NORMALIZATIONS[1:]):
        infos += [tensor(t, layout=layout, normalization=n) for t in ("float32", "float16", "uint8", "int16")]
        for q in QUANTIZATIONS[1:]:
            axis = None if q.axis is None else layout.index("C")
            own = Quantization(q.scale, q.zero_point, axis)
            infos += [tensor(t, layout=layout, normalization=n, quantization=own) for t in ("int8", "int16")]
    return infos


def in_layout(pixels: Array, layout: str) -> Array:
    """Move the channels of (height, width, channels) to their place."""
    moved = pixels if layout.endswith("C") else np.moveaxis(pixels, -1, 0)
    return moved[np.newaxis] if layout.startswith("N") else moved


def formula(pixels: Array, info: TensorInfo) -> Array:
    """Make the values of pixels (height, width, channels), in the words of the README."""
    n, q = info.normalization, info.quantization
    if info.data_type in ("float32", "float16") and n is not None:
        real = (pixels.astype(np.float32) - np.array(n.mean, np.float32)) / np.array(n.std, np.float32)
        return in_layout(real.astype(info.data_type), info.layout)
    if info.data_type in ("int8", "int16") and n is not None and q is not None:
        real = (pixels.astype(np.float32) - np.array(n.mean, np.float32)) / np.array(n.std, np.float32)
        levels = np.rint(real / np.array(q.scale, np.float32) + np.array(q.zero_point, np.float32))
        limits = np.iinfo(info.data_type)
        return in_layout(np.clip(levels, limits.min, limits.max).astype(info.data_type), info.layout)
    if info.data_type == "int8":
        return in_layout((pixels.astype(np.int16) - 128).astype(np.int8), info.layout)
    return in_layout(pixels.astype(info.data_type), info.layout)


def bilinear(image: Array, height: int, width: int) -> Array:
    """Weigh the two by two pixels around each new pixel's centre."""

    def along(array: Array, new: int) -> Array:
        places = np.clip((np.arange(new) + 0.5) * len(array) / new - 0.5, 0, len(array) - 1)
        low = np.floor(places).astype(int)
        high, part = np.minimum(low + 1, len(array) - 1), (places - low).reshape(-1, 1, 1)
        mixed: Array = array[low] * (1 - part) + array[high] * part
        return mixed

    rows = along(image.astype(np.float64), height)
    scaled: Array = along(rows.swapaxes(0, 1), width).swapaxes(0, 1)
    return scaled


def nearest(image: Array, height: int, width: int) -> Array:
    rows, columns = (
        [(2 * i + 1) * old // (2 * new) for i in range(new)]
        for old, new in ((image.shape[0], height), (image.shape[1], width))
    )
    taken: Array = image[np.ix_(rows, columns)]
    return taken


def area(image: Array, height: int, width: int) -> Array:
    """Average what lies under each new pixel: every pixel is cut into as many as make both grids fit."""
    fine = image.repeat(height, 0).repeat(width, 1).astype(np.float64)
    blocks = fine.reshape(height, image.shape[0], width, image.shape[1], -1)
    mean: Array = blocks.mean((1, 3))
    return mean


def from_yuv(y: Array, u: Array, v: Array) -> Array:
    """Make RGB of BT.601 colours (ITU-R BT.601-7, 2.5.3 and 2.5.4: Y in 16..235, U and V in 16..240)."""
    brightness = 255 / 219 * (np.maximum(y, 16).astype(np.float64) - 16)
    blue, red = (255 / 224 * (plane.astype(np.float64) - 128) for plane in (u, v))
    green = 0.114 * 1.772 / 0.587 * blue + 0.299 * 1.402 / 0.587 * red
    return np.clip(np.stack([brightness + 1.402 * red, brightness - green, brightness + 1.772 * blue], -1), 0, 255)


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def off_by(one: Array, other: Array) -> float:
    return float(np.abs(one.astype(np.float64) - other).max())


sizes = st.integers(1, 40)
frames = st.tuples(sizes, sizes).flatmap(lambda size: hnp.arrays(np.uint8, (*size, 3)))


# Values


@pytest.mark.parametrize("info", combinations(), ids=str)
def test_values_follow_the_formula(info: TensorInfo) -> None:
    frame = np.arange(12 * 16 * 3).astype(np.uint8).reshape(12, 16, 3)  # every level in every channel
    got = to_tensor(frame, info)
    assert got.dtype == np.dtype(info.data_type)
    assert got.shape == info.shape
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, formula(frame, info))
    out = np.empty_like(got)
    assert to_tensor(frame, info, out=out) is out
    np.testing.assert_array_equal(out, got)


@pytest.mark.parametrize("info", combinations(), ids=str)
@pytest.mark.parametrize("size", [(37, 51), (7, 9)], ids=["smaller", "larger"])
def test_a_resized_frame_is_what_infer_makes_of_it(info: TensorInfo, size: tuple[int, int]) -> None:
    frame = noise(*size, 3)
    resized = to_tensor(frame, RGB)[0]
    want = InputAdapter(info, lambda: info).adapt(in_layout(resized, info.layout))
    np.testing.assert_array_equal(to_tensor(frame, info), want)


@given(frame=hnp.arrays(np.uint8, (12, 16)), layout=st.sampled_from(LAYOUTS))
def test_one_channel(frame: Array, layout: str) -> None:
    for n in NORMALIZATIONS[1:3]:
        info = tensor("float32", channels=1, layout=layout, normalization=n, color="GRAYSCALE")
        for given_ in (frame, frame[..., np.newaxis]):
            want = formula(frame[..., np.newaxis], info)
            np.testing.assert_array_equal(to_tensor(given_, info), want)
            np.testing.assert_array_equal(to_tensor(given_, info, color="GRAY"), want)
    np.testing.assert_array_equal(to_tensor(frame, RGB)[0], np.stack([frame] * 3, -1))


@given(frame=frames)
def test_colour_becomes_grey(frame: Array) -> None:
    height, width = frame.shape[:2]
    want = frame.astype(np.float64) @ (0.299, 0.587, 0.114)  # ITU-R BT.601-7, 2.5.1
    grey = tensor(height=height, width=width, channels=1)
    assert off_by(to_tensor(frame, grey)[0, ..., 0], want) <= 0.51
    np.testing.assert_array_equal(to_tensor(frame[..., ::-1], grey, color="BGR"), to_tensor(frame, grey))


def test_a_model_may_want_bgr() -> None:
    frame = noise(20, 30, 3)
    want = to_tensor(frame, RGB)[..., ::-1]
    np.testing.assert_array_equal(to_tensor(frame, tensor(color="BGR")), want)
    np.testing.assert_array_equal(to_tensor(frame[..., ::-1], tensor(color="BGR"), color="BGR"), want)


def test_a_model_that_wants_bgr_is_said_to() -> None:
    frame = noise(20, 30, 3)
    got = to_tensor(frame, replace(RGB, color="BGR"))
    np.testing.assert_array_equal(got, to_tensor(frame, RGB)[..., ::-1])


@settings(deadline=None)
@given(
    frame=hnp.arrays(np.uint8, (12, 16, 3)),
    scale=st.floats(2**-8, 1, width=32),
    zero=st.integers(0, 255),
    layout=st.sampled_from(LAYOUTS),
)
def test_the_users_normalization_of_levels_is_for_frames(frame: Array, scale: float, zero: int, layout: str) -> None:
    n = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "user")
    info = tensor(layout=layout, normalization=n, quantization=Quantization((scale,), (zero,)))
    real = (frame - np.array(n.mean, np.float32)) / np.array(n.std, np.float32)
    levels = np.clip(np.rint(real / np.float32(scale) + np.float32(zero)), 0, 255)
    np.testing.assert_array_equal(to_tensor(frame, info), in_layout(levels, layout))
    metadata = replace(info, normalization=replace(n, source="metadata"))
    np.testing.assert_array_equal(to_tensor(frame, metadata), in_layout(frame, layout))


@pytest.mark.parametrize("data_type", ["uint8", "int8"])
def test_a_normalization_that_changes_nothing(data_type: str, caplog: pytest.LogCaptureFixture) -> None:
    to_tensor(noise(12, 16, 3), tensor(data_type, normalization=Normalization((99.0,), (7.0,), "user")))
    assert "no scale" in caplog.text


def test_the_layout_is_guessed_as_infer_guesses_it() -> None:
    frame = noise(12, 16, 3)
    first = to_tensor(frame, TensorInfo("x", data_type="uint8", shape=(1, 3, 12, 16)))
    np.testing.assert_array_equal(first, in_layout(frame, "NCHW"))


def test_what_infer_says_is_said_here_too() -> None:
    for _ in range(2):  # equal ones are two models'
        info = tensor("float32", 2, 2, normalization=Normalization((127.5,), (127.5,), "assumed"))
        with pytest.warns(AssumptionWarning, match="normalization=") as said:
            _ = [to_tensor(noise(2, 2, 3), info) for _ in range(3)]
        assert [warning.filename for warning in said] == [__file__]


# Sizes


@settings(deadline=None)
@given(frame=frames, height=sizes, width=sizes)
def test_bilinear_weighs_two_by_two_pixels(frame: Array, height: int, width: int) -> None:
    got = to_tensor(frame, tensor(height=height, width=width))[0]
    assert off_by(got, bilinear(frame, height, width)) <= 1


@settings(deadline=None)
@given(frame=frames, height=sizes, width=sizes)
def test_nearest_takes_the_pixel_under_the_centre(frame: Array, height: int, width: int) -> None:
    got = to_tensor(frame, tensor(height=height, width=width), resample="nearest")[0]
    np.testing.assert_array_equal(got, nearest(frame, height, width))


@settings(deadline=None)
@given(frame=frames, height=sizes, width=sizes)
def test_area_averages_along_shorter_sides(frame: Array, height: int, width: int) -> None:
    got = to_tensor(frame, tensor(height=height, width=width), resample="area")[0]
    shorter = area(frame, min(height, len(frame)), min(width, frame.shape[1]))
    assert off_by(got, bilinear(shorter, height, width)) <= 2  # two roundings


@needs_pillow
@settings(deadline=None)
@given(frame=frames, height=sizes, width=sizes, color=st.sampled_from(["RGB", "BGR", "RGBA", "GRAY"]))
def test_antialiased_scaling_is_pillows(frame: Array, height: int, width: int, color: str) -> None:
    from PIL import Image

    grey = color == "GRAY"
    picture = Image.fromarray(frame[..., 0] if grey else frame)
    given_ = frame[..., 0] if grey else frame[..., ::-1] if color == "BGR" else frame
    if color == "RGBA":
        given_ = np.concatenate([frame, noise(*frame.shape[:2], 1)], -1)
    info = tensor(height=height, width=width, channels=1 if grey else 3)
    for resample, theirs in (("lanczos", Image.Resampling.LANCZOS), ("bilinear-antialias", Image.Resampling.BILINEAR)):
        want = np.asarray(picture.resize((width, height), theirs)).reshape(info.shape)
        np.testing.assert_array_equal(to_tensor(given_, info, resample=resample, color=color), want)


@needs_opencv
def test_antialiased_scaling_without_pillow_says_what_is_missing() -> None:
    code = """
import sys
sys.modules["PIL"] = None
import numpy as np
from accelerate import OptionError, TensorInfo
from accelerate.image import to_tensor
info = TensorInfo("x", data_type="uint8", shape=(1, 8, 8, 3), layout="NHWC")
try:
    to_tensor(np.zeros((20, 20, 3), np.uint8), info, resample="lanczos")
except OptionError as error:
    assert "Pillow" in error.reason and "pip install" in error.remedy, error
else:
    raise AssertionError("nothing was refused")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@given(height=sizes, width=sizes)
def test_dynamic_sides_keep_the_frames_size_or_take_that_of_out(height: int, width: int) -> None:
    frame = noise(height, width, 3)
    info = TensorInfo("x", data_type="uint8", shape=(-1, -1, -1, 3), layout="NHWC")
    np.testing.assert_array_equal(to_tensor(frame, info), frame[np.newaxis])
    half = TensorInfo("x", data_type="uint8", shape=(1, 3, -1, 9), layout="NCHW")
    assert to_tensor(frame, half).shape == (1, 3, height, 9)
    out = np.empty((1, 5, 7, 3), np.uint8)
    np.testing.assert_array_equal(to_tensor(frame, info, out=out), to_tensor(frame, tensor(height=5, width=7)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_of_changing_sizes(layout: str) -> None:
    n = NORMALIZATIONS[3]
    shape = tuple({"N": 1, "H": -1, "W": -1, "C": 3}[axis] for axis in layout)
    info = TensorInfo("x", shape=shape, layout=layout, normalization=n)
    for size in ((12, 16), (5, 7), (12, 16), (5, 16), (1, 1)):
        frame = noise(*size, 3)
        np.testing.assert_array_equal(to_tensor(frame, info), formula(frame, info))


@settings(deadline=None)
@given(frame=frames, height=sizes, width=sizes, layout=st.sampled_from(LAYOUTS))
def test_letterbox_keeps_proportions_and_fills_with_black(frame: Array, height: int, width: int, layout: str) -> None:
    info = tensor("float32", height, width, layout=layout, normalization=NORMALIZATIONS[1])
    top, left, rows, columns = geometry(frame.shape[:2], info, "letterbox").target
    inner = to_tensor(frame, tensor(height=rows, width=columns))[0]
    want = np.zeros((height, width, 3), np.uint8)
    want[top : top + rows, left : left + columns] = inner
    for _ in range(2):  # a second time into what the first one left behind
        np.testing.assert_array_equal(to_tensor(frame, info, resize="letterbox"), formula(want, info))


@settings(deadline=None)
@given(frame=frames, height=sizes, width=sizes, layout=st.sampled_from(LAYOUTS), fill=st.integers(0, 255))
def test_letterbox_at_the_top_left_with_a_fill(frame: Array, height: int, width: int, layout: str, fill: int) -> None:
    info = tensor("float32", height, width, layout=layout, normalization=NORMALIZATIONS[3])
    g = geometry(frame.shape[:2], info, "letterbox", anchor="top-left")
    rows, columns = g.target[2:]
    assert g == replace(geometry(frame.shape[:2], info, "letterbox"), target=(0, 0, rows, columns))
    for color in (fill, (fill, 255 - fill, 7)):
        want = np.empty((height, width, 3), np.uint8)
        want[...] = color
        want[:rows, :columns] = to_tensor(frame, tensor(height=rows, width=columns))[0]
        got = to_tensor(frame, info, resize="letterbox", anchor="top-left", fill=color)
        np.testing.assert_array_equal(got, formula(want, info))


def test_a_fill_is_red_green_and_blue_whatever_the_tensor_is() -> None:
    for fill in ((255, 0, 0), (10, 200, 30), (255, 255, 255)):
        for info in (tensor(height=20), tensor(height=20, color="BGR"), tensor(height=20, channels=1)):
            got = to_tensor(noise(10, 16, 3)[..., ::-1], info, resize="letterbox", fill=fill, color="BGR")
            painted = to_tensor(np.full((20, 16, 3), fill, np.uint8), info)
            np.testing.assert_array_equal(got[:, 0], painted[:, 0])


@settings(deadline=None)
@given(frame=frames, height=sizes, width=sizes)
def test_crop_at_the_top_left(frame: Array, height: int, width: int) -> None:
    info = tensor(height=height, width=width)
    top, left, rows, columns = geometry(frame.shape[:2], info, "crop", anchor="top-left").source
    assert (top, left) == (0, 0)
    assert (rows, columns) == geometry(frame.shape[:2], info, "crop").source[2:]
    got = to_tensor(frame, info, resize="crop", anchor="top-left")
    np.testing.assert_array_equal(got, to_tensor(frame[:rows, :columns], info))


@settings(deadline=None)
@given(frame=frames, height=sizes, width=sizes)
def test_crop_is_the_middle_of_the_frame(frame: Array, height: int, width: int) -> None:
    info = tensor(height=height, width=width)
    top, left, rows, columns = geometry(frame.shape[:2], info, "crop").source
    part = frame[top : top + rows, left : left + columns]
    np.testing.assert_array_equal(to_tensor(frame, info, resize="crop"), to_tensor(part, info))


# Camera formats


def yuv_planes(array: Array, color: str) -> tuple[Array, Array, Array]:
    """Return Y, U and V of an NV12, I420 or YUYV frame, the latter two as small as they are."""
    if color == "NV12":
        rows = array.shape[0] * 2 // 3
        return array[:rows], array[rows:, 0::2], array[rows:, 1::2]
    if color == "I420":
        rows, columns = array.shape[0] * 2 // 3, array.shape[1]
        values = array.ravel()[rows * columns :]
        u, v = values.reshape(2, rows // 2, columns // 2)
        return array[:rows], u, v
    return array[..., 0], array[:, 0::2, 1], array[:, 1::2, 1]


def camera_frame(color: str, height: int, width: int, seed: int = 0) -> Array:
    return noise(height, width, 2, seed=seed) if color == "YUYV" else noise(height * 3 // 2, width, seed=seed)


@pytest.mark.parametrize("color", YUV)
def test_yuv_of_the_tensors_size_is_only_converted(color: str) -> None:
    frame = camera_frame(color, 120, 160)
    y, u, v = yuv_planes(frame, color)
    u, v = (plane.repeat(y.shape[0] // len(plane), 0).repeat(2, 1) for plane in (u, v))
    got = to_tensor(frame, tensor(height=120, width=160), color=color)[0]
    assert off_by(got, from_yuv(y, u, v)) < 2


@needs_opencv
@pytest.mark.parametrize("color", YUV)
def test_yuv_colours_are_those_of_opencv(color: str) -> None:
    import cv2

    frame = camera_frame(color, 120, 160)
    code = {"NV12": cv2.COLOR_YUV2RGB_NV12, "I420": cv2.COLOR_YUV2RGB_I420, "YUYV": cv2.COLOR_YUV2RGB_YUY2}[color]
    got = to_tensor(frame, tensor(height=120, width=160), color=color)[0]
    assert off_by(got, np.asarray(cv2.cvtColor(frame, code))) <= 1


@settings(deadline=None)
@given(
    color=st.sampled_from(YUV),
    half=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    height=sizes,
    width=sizes,
    resample=st.sampled_from(["bilinear", "nearest", "area"]),
    seed=st.integers(0, 9),
)
@example(color="NV12", half=(15, 3), height=1, width=1, resample="nearest", seed=156)  # Y below 16
def test_yuv_planes_are_resized_before_they_are_converted(
    color: str, half: tuple[int, int], height: int, width: int, resample: str, seed: int
) -> None:
    frame = camera_frame(color, 2 * half[0], 2 * half[1], seed)
    info, grey = tensor(height=height, width=width), tensor(height=height, width=width, channels=1)
    planes = yuv_planes(frame, color)
    same = planes[0].shape == (height, width)
    y, u, v = (
        to_tensor(plane.copy(), grey, resample="nearest" if same and i else resample)[0, ..., 0]
        for i, plane in enumerate(planes)
    )
    got = to_tensor(frame, info, color=color, resample=resample)[0]
    # planes side by side may be resized to another level than one alone, and a level of U is up to 2.02 of blue
    assert off_by(got, from_yuv(y, u, v)) < (2 if resample == "nearest" else 5)


@pytest.mark.parametrize("color", YUV)
@pytest.mark.parametrize("size", [(8, 20), (24, 10), (12, 16)])
def test_yuv_crop_and_letterbox_are_those_of_rgb(color: str, size: tuple[int, int]) -> None:
    frame = camera_frame(color, 24, 36)
    info = tensor(height=size[0], width=size[1])
    whole = to_tensor(frame, tensor(height=24, width=36), color=color)[0]
    got = to_tensor(frame, info, color=color, resize="crop", resample="nearest")
    assert off_by(got, to_tensor(whole, info, resize="crop", resample="nearest")) <= 0
    got = to_tensor(frame, info, color=color, resize="letterbox", resample="nearest")
    assert off_by(got, to_tensor(whole, info, resize="letterbox", resample="nearest")) <= 0


@pytest.mark.parametrize("info", [tensor(), tensor(channels=1), tensor(color="BGR"), tensor("int8", layout="CHW")])
@pytest.mark.parametrize("size", [(12, 16), (30, 50)])
def test_orders_of_colours(info: TensorInfo, size: tuple[int, int]) -> None:
    rgb = noise(*size, 3)
    want = to_tensor(rgb, info)
    alpha = noise(*size, 1, seed=1)
    for color, frame in (
        ("BGR", rgb[..., ::-1].copy()),
        ("RGBA", np.concatenate([rgb, alpha], -1)),
        ("BGRA", np.concatenate([rgb[..., ::-1], alpha], -1)),
    ):
        np.testing.assert_array_equal(to_tensor(frame, info, color=color), want, color)


# Memory


def strided() -> list[tuple[str, Callable[[Array], Array]]]:
    def gaps(a: Array) -> Array:
        wide = np.zeros((a.shape[0], a.shape[1] + 5, *a.shape[2:]), np.uint8)
        wide[:, 2:-3] = a
        return wide[:, 2:-3]

    def spread(a: Array) -> Array:
        large = np.zeros([2 * n for n in a.shape], np.uint8)
        part = large[tuple(np.s_[::2] for _ in a.shape)]
        part[...] = a
        return part

    def read_only(a: Array) -> Array:
        a = a.copy()
        a.flags.writeable = False
        return a

    return [
        ("gaps", gaps),
        ("spread", spread),
        ("read only", read_only),
        ("fortran", np.asfortranarray),
        ("upside down", lambda a: a[::-1].copy()[::-1]),
        ("mirrored", lambda a: a[:, ::-1].copy()[:, ::-1]),
        ("transposed", lambda a: a.swapaxes(0, 1).copy().swapaxes(0, 1)),
        ("reversed channels", lambda a: a[..., ::-1].copy()[..., ::-1]),
        ("all reversed", lambda a: a[::-1, ::-1].copy()[::-1, ::-1]),
    ]


@pytest.mark.parametrize(("name", "view"), strided(), ids=[name for name, _ in strided()])
@pytest.mark.parametrize("color", ["RGB", "BGR", "RGBA", "BGRA", "GRAY", "NV12", "I420", "YUYV"])
@pytest.mark.parametrize("size", [(12, 16), (30, 50)])
def test_any_strides(color: str, size: tuple[int, int], name: str, view: Callable[[Array], Array]) -> None:
    channels = {"RGBA": 4, "BGRA": 4, "RGB": 3, "BGR": 3}
    frame = noise(*size, channels[color]) if color in channels else camera_frame(color, *size)
    if color == "GRAY":
        frame = noise(*size)
    looked_at = view(frame)
    np.testing.assert_array_equal(looked_at, frame)
    for resize in ("stretch", "crop", "letterbox"):
        for info in (tensor(), tensor("float32", layout="NCHW", normalization=NORMALIZATIONS[3])):
            got = to_tensor(looked_at, info, color=color, resize=resize)
            np.testing.assert_array_equal(got, to_tensor(frame, info, color=color, resize=resize))


def test_rows_may_even_be_one_and_the_same() -> None:
    row = noise(1, 30, 3)
    same = np.broadcast_to(row, (20, 30, 3))
    np.testing.assert_array_equal(to_tensor(same, RGB), to_tensor(same.copy(), RGB))
    overlapping = np.lib.stride_tricks.as_strided(noise(3000), (20, 30, 3), (50, 3, 1))
    np.testing.assert_array_equal(to_tensor(overlapping, RGB), to_tensor(overlapping.copy(), RGB))


@needs_opencv
@pytest.mark.parametrize(
    ("color", "view"),
    [
        ("RGB", lambda a: a),
        ("RGB", lambda a: a[..., ::-1]),
        ("RGB", lambda a: a[:, 100:-100]),
        ("BGR", lambda a: a[::2]),
        ("NV12", lambda a: a.reshape(-1, 1920)[:1620]),
        ("I420", lambda a: a.reshape(-1, 1920)[:1620]),
    ],
    ids=["plain", "reversed channels", "columns", "rows", "NV12", "I420"],
)
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
def test_nothing_of_the_frames_size_is_allocated(color: str, resize: str, view: Callable[[Array], Array]) -> None:
    frame = view(noise(1080, 1920, 3))
    info = tensor("float32", 120, 160, normalization=NORMALIZATIONS[1])
    out = np.empty(info.shape, np.float32)
    to_tensor(frame, info, out=out, resize=resize, color=color)
    tracemalloc.start()
    try:
        to_tensor(frame, info, out=out, resize=resize, color=color)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * out.nbytes


def test_out_may_lie_in_the_frame() -> None:
    memory = noise(1, 12, 16, 3)
    want = memory[..., ::-1].copy()
    to_tensor(memory[0], RGB, out=memory, color="BGR")
    np.testing.assert_array_equal(memory, want)
    memory = noise(20, 16, 3)  # the frame begins a few rows after the tensor
    want = to_tensor(memory[4:].copy(), RGB, color="BGR")
    got = to_tensor(memory[4:], RGB, color="BGR", out=memory[np.newaxis, :12])
    np.testing.assert_array_equal(got, want)
    memory = noise(20, 16, 3)
    want = to_tensor(memory[:16].copy(), RGB)
    np.testing.assert_array_equal(to_tensor(memory[:16], RGB, out=memory[np.newaxis, 8:]), want)


def test_a_place_in_a_batch() -> None:
    info = TensorInfo("x", data_type="uint8", shape=(3, 12, 16, 3), layout="NHWC")
    batch = np.zeros(info.shape, np.uint8)
    pictures = [noise(20, 30, 3, seed=i) for i in range(3)]
    for i, frame in enumerate(pictures):
        to_tensor(frame, info, out=batch[i : i + 1])
    for i, frame in enumerate(pictures):
        np.testing.assert_array_equal(batch[i], to_tensor(frame, RGB)[0])
    with pytest.raises(TensorError, match="out=batch"):
        to_tensor(pictures[0], info)
    with pytest.raises(TensorError, match="the place of one frame"):
        to_tensor(pictures[0], info, out=batch)


def test_threads_do_not_disturb_each_other() -> None:
    info = tensor("float32", 64, 64, normalization=NORMALIZATIONS[3])
    given_ = [noise(90 + i, 110, 3, seed=i) for i in range(8)]
    want = [to_tensor(frame, info, color="BGR", resize="letterbox") for frame in given_]
    wrong: list[int] = []

    def work(first: int) -> None:
        for i in range(200):
            j = (first + i) % len(given_)
            if not np.array_equal(to_tensor(given_[j], info, color="BGR", resize="letterbox"), want[j]):
                wrong.append(j)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Where the pixels went


@given(
    frame=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    target=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    resize=st.sampled_from(["stretch", "letterbox", "crop"]),
    points=hnp.arrays(np.float64, (5, 2), elements=st.floats(-0.5, 1.5)),
)
@example(frame=(1080, 1920), target=(300, 300), resize="letterbox", points=np.zeros((5, 2)))
def test_points_there_and_back(frame: tuple[int, int], target: tuple[int, int], resize: str, points: Array) -> None:
    g = geometry(frame, tensor(height=target[0], width=target[1]), resize)
    assert (g.frame_size, g.tensor_size) == (frame, target)
    there = points * (frame[1], frame[0])
    inner, part = np.array(g.target), np.array(g.source)
    in_tensor = (there - part[[1, 0]]) / part[[3, 2]] * inner[[3, 2]] + inner[[1, 0]]
    np.testing.assert_allclose(g.points_to_frame(in_tensor), there, atol=1e-6)
    relative = in_tensor / (target[1], target[0])
    np.testing.assert_allclose(g.points_to_frame(relative, relative=True), there, atol=1e-6)
    boxes = np.concatenate([in_tensor, in_tensor[::-1]], -1)
    np.testing.assert_allclose(g.boxes_to_frame(boxes), np.concatenate([there, there[::-1]], -1), atol=1e-6)
    assert g.boxes_to_frame(np.zeros((0, 4))).shape == (0, 4)


@given(
    frame=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    target=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
)
def test_proportions(frame: tuple[int, int], target: tuple[int, int]) -> None:
    info = tensor(height=target[0], width=target[1])
    stretched = geometry(frame, info)
    assert stretched == Geometry(frame, target, (0, 0, *frame), (0, 0, *target))
    boxed = geometry(frame, info, "letterbox")
    cropped = geometry(frame, info, "crop")
    if frame[0] * target[1] == frame[1] * target[0]:
        assert boxed == cropped == stretched
    top, left, rows, columns = boxed.target
    assert boxed.source == (0, 0, *frame)
    assert rows == target[0] or columns == target[1]
    scale = min(target[0] / frame[0], target[1] / frame[1])
    for length, own, start, whole in ((rows, frame[0], top, target[0]), (columns, frame[1], left, target[1])):
        assert abs(length - max(1, own * scale)) <= 0.5 + 1e-9
        assert start == (whole - length) // 2
    top, left, rows, columns = cropped.source
    assert cropped.target == (0, 0, *target)
    scale = max(target[0] / frame[0], target[1] / frame[1])
    for length, wanted, start, whole in ((rows, target[0], top, frame[0]), (columns, target[1], left, frame[1])):
        assert abs(length - max(1, wanted / scale)) <= 1.5 + 1e-9
        assert 0 <= start <= whole - length
        assert abs((whole - length) / 2 - start) <= 1.5
        assert start % 2 == 0
        assert length % 2 == 0 or length == whole


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(300, 300), (320, 180), (90, 640)])
@pytest.mark.parametrize(("anchor", "top", "left"), [("center", 200, 290), ("top-left", 4, 20)])
def test_a_box_is_found_where_it_was_painted(
    resize: str, size: tuple[int, int], anchor: str, top: int, left: int
) -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[top : top + 80, left : left + 60] = 255
    info = tensor(height=size[0], width=size[1], channels=1)
    seen = to_tensor(frame, info, resize=resize, anchor=anchor)[0, ..., 0] > 127
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    g = geometry(frame.shape[:2], info, resize, anchor=anchor)
    pixel = max(g.source[2] / g.target[2], g.source[3] / g.target[3])
    assert off_by(g.boxes_to_frame(box), np.array([left, top, left + 60, top + 80])) <= pixel


@pytest.mark.parametrize("color", YUV)
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
def test_the_geometry_of_camera_frames_is_that_of_their_pixels(color: str, resize: str) -> None:
    info = tensor(height=100, width=60)
    frame = camera_frame(color, 48, 64)
    assert geometry(frame.shape[:2], info, resize, color=color) == geometry((48, 64), info, resize)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((2, 3)), 5, "ab", [[1, 2], [3]], None])
def test_impossible_coordinates(wrong: Any) -> None:
    g = geometry((10, 10), RGB)
    for method in (g.points_to_frame, g.boxes_to_frame):
        with pytest.raises(TensorError, match="coordinates"):
            method(wrong)


def test_impossible_geometries() -> None:
    with pytest.raises(TensorError, match="frame_size"):
        geometry((0, 10), RGB)
    with pytest.raises(OptionError, match="'stretch', 'letterbox' or 'crop'"):
        geometry((10, 10), RGB, "fit")
    with pytest.raises(TensorError, match="is no image"):
        geometry((10, 10), TensorInfo("x", shape=(1, 10)))
    with pytest.raises(OptionError, match="anchor is 'left'"):
        geometry((10, 10), RGB, anchor="left")
    with pytest.raises(OptionError, match="color is 'YV12'"):
        geometry((10, 10), RGB, color="YV12")
    with pytest.raises(TensorError, match="10 rows is not I420"):
        geometry((10, 10), RGB, color="I420")


def test_geometry_wants_two_sides() -> None:
    for size in ((10, 10, 3), 5, None, (0, 4), ("a", "b"), (2.5, 4)):
        with pytest.raises(TensorError, match="frame_size"):
            geometry(size, RGB)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["resize", "resample", "color"])
@pytest.mark.parametrize("value", [["RGB"], None, 5])
def test_options_of_another_kind(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=option):
        to_tensor(np.zeros((4, 4, 3), np.uint8), RGB, **{option: value})


# What is refused


masked: Any = np.ma.masked_array  # some versions of NumPy do not say its types


class _OnAnotherDevice:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("this tensor is on another device")


@pytest.mark.parametrize(
    ("frame", "color", "message"),
    [
        (None, "RGB", "None"),
        (np.zeros((4, 4, 3), np.uint16), "RGB", r"uint16\[4, 4, 3\].*>> 8"),
        (np.zeros((4, 4, 3)), "RGB", r"float64\[4, 4, 3\].*255"),
        (np.zeros((4, 4, 3), bool), "RGB", "astype"),
        (np.zeros((4, 4, 3), np.int8), "RGB", "int8"),
        ([[[1, 2, 3]]], "RGB", "int64"),
        ([[1, 2], [3]], "RGB", "not a rectangular array"),
        (object(), "RGB", "object"),
        (_OnAnotherDevice(), "RGB", "another device"),
        (masked(np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=bool)[..., None].repeat(3, 2)), "RGB", "masked"),
        (np.zeros((0, 4, 3), np.uint8), "RGB", "empty"),
        (np.zeros((4, 0, 3), np.uint8), "BGR", "empty"),
        (np.zeros(0, np.uint8), "NV12", "empty"),
        (np.zeros((2, 0), np.uint8), "GRAY", "empty"),
        (np.zeros(12, np.uint8), "RGB", "reshape"),
        (np.uint8(7), "RGB", "reshape"),
        (np.zeros((1, 4, 4, 3), np.uint8), "RGB", "one frame at a time"),
        (np.zeros((3, 4, 5), np.uint8), "RGB", "moveaxis"),
        (np.zeros((4, 4, 4), np.uint8), "RGB", "'RGBA' or 'BGRA'"),
        (np.zeros((4, 4, 2), np.uint8), "RGB", "'YUYV'"),
        (np.zeros((4, 4, 3), np.uint8), "RGBA", "'RGB' or 'BGR'"),
        (np.zeros((4, 4, 3), np.uint8), "GRAY", "'RGB' or 'BGR'"),
        (np.zeros((4, 4), np.uint8), "BGRA", "'GRAY', 'NV12' or 'I420'"),
        (np.zeros((6, 4, 3), np.uint8), "NV12", "'RGB' or 'BGR'"),
        (np.zeros((5, 4, 7), np.uint8), "RGB", "that many channels"),
        (np.zeros((7, 4), np.uint8), "NV12", "even sides"),
        (np.zeros((6, 3), np.uint8), "NV12", "even sides"),
        (np.zeros((4, 3, 2), np.uint8), "YUYV", "even width"),
        (np.zeros((4, 4), np.uint8), "YUYV", "'GRAY', 'NV12' or 'I420'"),
    ],
)  # fmt: skip
def test_frames_that_are_none(frame: Any, color: str, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        to_tensor(frame, RGB, color=color)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "fit"}, "resize is 'fit'; wanted 'stretch'"),
        ({"resize": None}, "resize is None"),
        ({"resample": "cubic"}, "resample is 'cubic'; wanted one of 'bilinear'"),
        ({"color": "rgb"}, "color is 'rgb'"),
        ({"color": "I422"}, "wanted one of BGR"),
        ({"anchor": "left"}, "anchor is 'left'; wanted 'center' or 'top-left'"),
        ({"fill": 256}, "fill is 256; wanted a level from 0 to 255"),
        ({"fill": (0, 1)}, r"fill is \(0, 1\)"),
        ({"fill": "black"}, "fill is 'black'"),
        ({"fill": (0.5, 0, 0)}, "three of them"),
        ({"fill": None}, "fill is None"),
        ({"color": None}, "color is None"),
    ],
)
def test_unknown_options(options: dict[str, Any], message: str) -> None:
    for size in ((12, 16), (5, 5)):
        with pytest.raises(OptionError, match=message):
            to_tensor(noise(*size, 3), RGB, **options)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((1, 12, 15, 3), np.uint8), r"uint8\[1, 12, 15, 3\], wanted shape \[1, 12, 16, 3\]"),
        (np.zeros((12, 16, 3), np.uint8), "wanted shape"),
        (np.zeros((2, 12, 16, 3), np.uint8), "wanted shape"),
        (np.zeros((1, 12, 16, 3), np.float32), "wanted uint8"),
        (np.zeros((1, 12, 16, 3), np.int8), "wanted uint8"),
        (np.zeros((1, 12, 16, 6), np.uint8)[..., ::2], "C-contiguous"),
        (np.broadcast_to(np.uint8(0), (1, 12, 16, 3)), "read-only"),
        (bytearray(576), "bytearray"),
    ],
)
def test_out_that_cannot_be_written(out: Any, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        to_tensor(noise(20, 30, 3), RGB, out=out)


def test_foreign_byte_order_of_out() -> None:
    info = tensor("float32", normalization=NORMALIZATIONS[1])
    with pytest.raises(TensorError, match="wanted float32"):
        to_tensor(noise(12, 16, 3), info, out=np.zeros(info.shape, ">f4"))


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (TensorInfo("x", shape=(1, 10)), "is no image"),
        (TensorInfo("x", shape=(1, 4, 4, 2), layout="NHWC"), "wanted 1 or 3 channels"),
        (TensorInfo("x", shape=(1, 0, 4, 3), layout="NHWC"), "no side of 0"),
        (TensorInfo("x", shape=(4, 4, 3), layout="NHWC"), "is no image"),
        (TensorInfo("x", shape=(1, 4, 4, 3), extra={"content": "features"}), "is no image"),
        (tensor("float32"), r"got uint8\[1, 12, 16, 3\], wanted float32\[1, 12, 16, 3\].*normalization="),
        (tensor("float64", normalization=NORMALIZATIONS[1]), "float64"),
        (tensor("string"), "string"),
        (tensor("float32", normalization=Normalization((1.0, 2.0), (1.0,), "user")), "3 channels"),
        (tensor("int8", quantization=Quantization((1.0,) * 12, (0,) * 12, 1)), "one for each channel"),
    ],
)
def test_tensors_that_no_frame_becomes(info: TensorInfo, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        to_tensor(noise(12, 16, 3), info)


def test_one_scale_along_an_axis_is_one_for_all() -> None:
    plain = tensor("int8", normalization=NORMALIZATIONS[1], quantization=Quantization((0.01,), (3,)))
    along = tensor("int8", normalization=NORMALIZATIONS[1], quantization=Quantization((0.01,), (3,), 0))
    frame = noise(12, 16, 3)
    np.testing.assert_array_equal(to_tensor(frame, along), to_tensor(frame, plain))


# Pictures


@needs_pillow
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "YCbCr", "HSV"])
def test_pillow_images(mode: str) -> None:
    from PIL import Image

    picture = Image.fromarray(noise(30, 50, 3)).convert(mode)
    flat = np.asarray(picture.convert("L" if mode in ("L", "LA", "1") else "RGB"))
    np.testing.assert_array_equal(to_tensor(picture, RGB), to_tensor(flat, RGB))
    with pytest.raises(OptionError, match="describes arrays"):
        to_tensor(picture, RGB, color="BGR")


@needs_pillow
@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pictures_of_more_than_8_bits(tmp_path: Path, mode: str) -> None:
    from PIL import Image

    picture = Image.fromarray(np.zeros((8, 8), {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    with pytest.raises(TensorError, match="more than 8 bits"):
        to_tensor(picture, RGB)
    picture.save(tmp_path / "deep.tiff")
    with pytest.raises(TensorError, match=r"deep\.tiff has more than 8 bits"):
        to_tensor(tmp_path / "deep.tiff", RGB)


@needs_opencv
@needs_pillow
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bits_of_each_colour_are_refused_like_those_of_grey(tmp_path: Path, mode: str, kind: str) -> None:
    import cv2
    from PIL import Image

    path = tmp_path / f"deep.{kind}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 65536, (8, 9, len(mode)), np.uint16))
    with Image.open(path) as opened:
        for frame in (path, path.read_bytes(), opened):
            with pytest.raises(TensorError, match="more than 8 bits"):
                to_tensor(frame, RGB)


def as_given(path: Path) -> list[Any]:
    """Return a picture in all forms that a frame may have."""
    from PIL import Image

    data = path.read_bytes()
    with Image.open(path) as opened:
        opened.load()
    return [path, str(path), data, bytearray(data), memoryview(data), opened]


@needs_pillow
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "tiff"])
def test_pictures_are_read_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    from PIL import Image

    frame = noise(6, 10, 3).repeat(8, 0).repeat(8, 1)  # blocks that JPEG keeps apart
    exif = Image.Exif()
    exif[0x0112] = orientation  # EXIF 2.32, 4.6.4 A: where the first row and the first column are
    Image.fromarray(frame).save(tmp_path / f"turned.{kind}", exif=exif, quality=95)
    stored = frame
    if kind == "jpg":
        with Image.open(tmp_path / "turned.jpg") as opened:
            stored = np.asarray(opened)
    upright = [
        stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1],
        stored.swapaxes(0, 1), np.rot90(stored, -1), np.rot90(stored, 2).swapaxes(0, 1), np.rot90(stored),
    ][orientation - 1]  # fmt: skip
    np.testing.assert_array_equal(read_picture(tmp_path / f"turned.{kind}"), upright)
    for given_ in as_given(tmp_path / f"turned.{kind}"):
        np.testing.assert_array_equal(to_tensor(given_, RGB), to_tensor(upright.copy(), RGB))
        with pytest.raises(OptionError, match="describes arrays"):
            to_tensor(given_, RGB, color="BGR")


def test_bytes_that_are_no_picture(tmp_path: Path) -> None:
    for given_ in (b"", b"no picture", noise(300).tobytes(), memoryview(bytes(300))):
        with pytest.raises(OptionError, match=r"bytes is not a picture.*give raw pixels as a uint8 array"):
            to_tensor(given_, RGB)
    with pytest.raises(OptionError, match="in 200 bytes cannot be read"):
        to_tensor((DATA / "digit.png").read_bytes()[:200], RGB)


@needs_pillow
def test_a_pillow_image_whose_file_is_cut(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "cut.png").write_bytes((DATA / "digit.png").read_bytes()[:200])
    with Image.open(tmp_path / "cut.png") as opened, pytest.raises(TensorError, match="picture that cannot be read"):
        to_tensor(opened, RGB)


def test_pixels_in_a_buffer_or_behind_dlpack_are_a_frame() -> None:
    class Lent:
        def __dlpack__(self, **options: Any) -> Any:
            return frame.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return frame.__dlpack_device__()

    frame = noise(20, 30, 3)
    for given_ in (frame.data, Lent()):
        np.testing.assert_array_equal(to_tensor(given_, RGB), to_tensor(frame, RGB))


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="No such file"):
        to_tensor(tmp_path / "missing.png", RGB)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(OptionError, match="not a picture"):
        to_tensor(tmp_path / "text.png", RGB)
    (tmp_path / "empty.png").touch()
    with pytest.raises(OptionError, match="not a picture"):
        to_tensor(tmp_path / "empty.png", RGB)
    (tmp_path / "cut.png").write_bytes((DATA / "digit.png").read_bytes()[:200])
    with pytest.raises(OptionError, match=r"cut\.png"):
        to_tensor(tmp_path / "cut.png", RGB)


# One engine against another


# What is computed in processes that differ in what is installed.
ANSWERS = """
import sys
for name in {hidden!r}:
    sys.modules[name] = None
import numpy as np
from accelerate import Normalization, OptionError, TensorInfo
from accelerate.image import to_tensor

def noise(*shape, seed):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)

answers = {{}}
sizes = np.random.default_rng(1).integers(1, 60, (60, 4)).tolist() + [[480, 640, 300, 300], [37, 37, 74, 74]]
for i, (height, width, new_height, new_width) in enumerate(sizes):
    height, width = 2 * height, 2 * width
    frames = {{
        "RGB": noise(height, width, 3, seed=i), "BGRA": noise(height, width, 4, seed=i),
        "GRAY": noise(height, width, seed=i), "YUYV": noise(height, width, 2, seed=i),
        "NV12": noise(height * 3 // 2, width, seed=i), "I420": noise(height * 3 // 2, width, seed=i),
    }}
    for color, frame in frames.items():
        for resample in {resamples!r}:
            for resize in ("stretch", "letterbox", "crop"):
                for channels in (1, 3):
                    info = TensorInfo("x", data_type="uint8", shape=(1, new_height, new_width, channels), layout="NHWC")
                    key = f"{{color}} {{resample}} {{resize}} {{channels}} {{i}}"
                    try:
                        answers[key] = to_tensor(frame, info, resize=resize, resample=resample, color=color)
                    except OptionError as error:
                        assert "edge-accelerate[vision]" in str(error), error
    n = Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "user")
    for data_type in ("float32", "float16", "int16"):
        for layout, shape in (("NHWC", (1, height, width, 3)), ("NCHW", (1, 3, height, width))):
            info = TensorInfo("x", data_type=data_type, shape=shape, layout=layout, normalization=n)
            answers[f"same {{data_type}} {{layout}} {{i}}"] = to_tensor(frames["RGB"], info)
assert not set({hidden!r}) & {{n for n, m in sys.modules.items() if m is not None}}
np.savez({path!r}, **answers)
"""


def answers(path: Path, *hidden: str, resamples: tuple[str, ...]) -> dict[str, Array]:
    code = ANSWERS.format(hidden=hidden, resamples=resamples, path=str(path))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    with np.load(path) as loaded:
        return dict(loaded)


@needs_opencv
@needs_pillow
@pytest.mark.long
def test_pillow_gives_what_opencv_gives(tmp_path: Path) -> None:
    resamples = ("bilinear", "nearest", "area")
    opencv = answers(tmp_path / "opencv.npz", resamples=resamples)
    pillow = answers(tmp_path / "pillow.npz", "cv2", resamples=resamples)
    assert opencv.keys() == pillow.keys()
    for key, want in opencv.items():
        color, resample, *_ = key.split()
        if color == "same" or (resample == "nearest" and color not in YUV):
            np.testing.assert_array_equal(pillow[key], want, key)
        # a level of U or V is up to 2.02 levels of a colour, and each of the three planes may be one level off
        elif color in YUV:
            assert off_by(pillow[key], want) <= (1 if resample == "nearest" else 5), key
        else:
            assert off_by(pillow[key], want) <= (2 if resample == "area" else 1), key


@pytest.mark.slow
def test_without_either_only_bilinear_scaling_is_refused(tmp_path: Path) -> None:
    numpy = answers(tmp_path / "numpy.npz", "cv2", "PIL", resamples=("bilinear", "nearest"))
    best = answers(tmp_path / "best.npz", resamples=("bilinear", "nearest"))
    assert {key.split()[1] for key in best.keys() - numpy.keys()} == {"bilinear"}
    assert any(" bilinear " in key for key in numpy)  # where nothing was to be resized
    for key, got in numpy.items():
        assert off_by(got, best[key]) <= (1 if key.startswith(YUV) else 0), key


@pytest.mark.parametrize("hidden", [("cv2",), ("cv2", "PIL")])
def test_reading_a_picture_with_less_installed(hidden: tuple[str, ...]) -> None:
    code = (
        f"import sys\nfor name in {hidden!r}: sys.modules[name] = None\n"
        f"from accelerate.image import read_picture\nprint(read_picture({str(DATA / 'digit.png')!r}).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if hidden == ("cv2",) and PILLOW:
        assert done.returncode == 0, done.stderr
    else:
        assert "OptionError: nothing is installed that could read the picture" in done.stderr
        assert 'pip install "edge-accelerate[cli]" (Pillow) or "edge-accelerate[vision]" (OpenCV)' in done.stderr


@needs_opencv
def test_opencv_alone_reads_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    code = f"""
import sys
sys.modules["PIL"] = None
import numpy as np, cv2
from accelerate import OptionError, TensorError
from accelerate.image import read_picture
folder = {str(tmp_path)!r}
frame = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
cv2.imwrite(folder + "/frame.png", frame[..., ::-1])
cv2.imwrite(folder + "/deep.png", frame.astype(np.uint16))
assert np.array_equal(read_picture(folder + "/frame.png"), frame)
assert np.array_equal(read_picture(open(folder + "/frame.png", "rb").read()), frame)
for name, kind, text in (
    ("deep", TensorError, "more than 8 bits"), ("text", OptionError, "not a picture"),
    ("empty", OptionError, "not a picture"), ("missing", OptionError, "No such file"),
):
    try:
        read_picture(f"{{folder}}/{{name}}.png")
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_broken_opencv_is_said(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    code = (
        "import logging\nlogging.basicConfig()\n"
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "from accelerate.image.engines import current_engine\nprint(type(current_engine()).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ("PillowEngine" if PILLOW else "Engine")
    assert "OpenCV is installed but cannot be imported (libGL.so.1" in done.stderr


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, accelerate\n"
        "assert not {'cv2', 'PIL', 'accelerate.image'} & set(sys.modules)\n"
        "import accelerate.image\n"
        "assert not {'cv2', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Models


@pytest.fixture
def digits() -> Any:
    pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")
    with accelerate.load(DATA / "digits_float.tflite") as model:
        yield model


@needs_pillow
def test_a_model_answers_as_for_the_resized_frame(digits: Model) -> None:
    (info,) = digits.metadata().inputs
    levels = tensor("uint8", 8, 8, 1)
    want = digits.infer(to_tensor(DATA / "digit.png", levels))
    got = digits.infer(to_tensor(DATA / "digit.png", info))
    for name, values in want.items():
        np.testing.assert_array_equal(got[name], values)
    assert next(iter(got.values())).argmax() == 7


def test_into_a_binding(digits: Model) -> None:
    (info,) = digits.metadata().inputs
    with digits.bind() as binding:
        to_tensor(DATA / "digit.png", info, out=binding.inputs[info.name])
        binding.run()
        assert next(iter(binding.outputs.values())).argmax() == 7


@needs_infer_image
def test_infer_image(digits: Any) -> None:
    (info,) = digits.metadata().inputs
    frame = read_picture(DATA / "digit.png")
    for resize, resample in product(("stretch", "letterbox", "crop"), ("bilinear", "nearest", "area")):
        want = digits.infer(to_tensor(frame, info, resize=resize, resample=resample))
        for given_ in (frame, DATA / "digit.png"):
            got = digits.infer_image(given_, resize=resize, resample=resample, timeout=30)
            assert got.keys() == want.keys()
            for name, values in want.items():
                np.testing.assert_array_equal(got[name], values)
    with pytest.raises(OptionError, match="resize is 'fit'"):
        digits.infer_image(frame, resize="fit")
    with pytest.raises(TensorError, match="None"):
        digits.infer_image(None)
    digits.close()
    with pytest.raises(accelerate.ClosedError):
        digits.infer_image(frame)


@needs_infer_image
def test_infer_image_warns_of_what_it_assumes_and_of_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")
    white = np.full((9, 9, 3), 255, np.uint8)  # whose values are those of a caller who has divided by 255
    with accelerate.load(odd_models.image_float()) as model:
        with pytest.warns(AssumptionWarning, match=r"normalization=\(127\.5, 127\.5\)") as said:
            answers = [model.infer_image(white), model.infer_image(white), model.infer(white[:4, :4])]
        assert [warning.filename for warning in said] == [__file__]
        assert all((answer["y"] == 1).all() for answer in answers)
    with accelerate.load(odd_models.image_float(), normalization=(127.5, 127.5)) as model:
        assert (model.infer_image(white)["y"] == 1).all()
    assert not caplog.records


@needs_infer_image
def test_infer_image_normalises_for_a_model_of_levels(models_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")
    frame = noise(160, 200, 3)
    path = models_dir / "mobilenet_v1_0.25_128_quant.tflite"
    with accelerate.load(path, normalization=(100, 150)) as model:
        (info,) = model.metadata().inputs
        pixels = to_tensor(frame, replace(info, normalization=None)).astype(np.float32)
        want = model.infer((pixels - 100) / 150)  # real values, which `infer` quantises
        caplog.clear()
        got = model.infer_image(frame)
        assert not caplog.records
        for name, values in want.items():
            np.testing.assert_array_equal(got[name], values)
        model.infer(pixels.astype(np.uint8))
        assert "frames alone" in caplog.text


@needs_infer_image
def test_infer_image_and_models_without_one_image(models_dir: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")
    with (
        accelerate.load(models_dir / "add_10x10.tflite") as model,
        pytest.raises(TensorError, match="one input is an image"),
    ):
        model.infer_image(noise(10, 10, 3))


@needs_infer_image
@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_infer_image_on_twins(models_dir: Path, suffix: str) -> None:
    """Channels last as uint8, and channels first as float32, give the class and the score of models/README.md."""
    pytest.importorskip("ai_edge_litert" if suffix == "tflite" else "onnxruntime")
    cat = models_dir.parent / "images" / "cat.bmp"
    if not cat.is_file():
        pytest.skip(f"{cat} is not here")
    path = models_dir / f"mobilenet_v1_0.25_128_quant.{suffix}"
    with accelerate.load(path, normalization=(127.5, 127.5), dequantize=True) as model:
        (scores,) = model.infer_image(cat).values()
    assert scores.argmax() in range(282, 288)  # the cats, counted from 1
    assert scores.max() > 0.2


@pytest.mark.parametrize(
    ("model", "picture", "label"),
    [
        ("mobilenet_v2_1.0_224_quant.tflite", "cat.bmp", "cat"),
        ("mobilenet_v2_1.0_224_quant.tflite", "parrot.jpg", "macaw"),
        ("mobilenet_v1_0.25_224_float_metadata.tflite", "parrot.jpg", "macaw"),
        ("mobilenet_v2_1.0_224_quant.tflite", "grace_hopper.bmp", "uniform"),
    ],
)
@needs_pillow
def test_photographs(models_dir: Path, model: str, picture: str, label: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")
    path = models_dir.parent / "images" / picture
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    labels = (models_dir / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines()
    with accelerate.load(models_dir / model) as loaded:
        (info,) = loaded.metadata().inputs
        for resize in ("stretch", "crop"):
            (scores,) = loaded.infer(to_tensor(path, info, resize=resize)).values()
            assert label in labels[scores.argmax()], (resize, labels[scores.argmax()])
