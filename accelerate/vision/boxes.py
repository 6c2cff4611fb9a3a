"""From the numbers that models write for a box to its corners in the tensor's pixels."""

from __future__ import annotations

import numpy as np

from ..calls.conversion import Array
from .grids import Grid
from .layout import CORNERS, Layout

__all__ = ["corners_of", "in_pixels", "points_from", "reach_of", "sigmoid", "softmax"]

_EXP_LIMIT = 80.0  # the logarithm of a side that no picture has


def sigmoid(values: Array) -> Array:
    """Return ``1 / (1 + exp(-x))``."""
    result: Array = 1 / (1 + np.exp(-np.clip(values, -_EXP_LIMIT, _EXP_LIMIT)))
    return result


def softmax(values: Array) -> Array:
    """Return ``exp(x) / sum(exp(x))`` along the last axis."""
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    result: Array = raised / raised.sum(axis=-1, keepdims=True)
    return result


def reach_of(values: Array) -> float:
    """Return how far from 0 the values lie, of those that are numbers: one that is none must not tell what all are."""
    return float(np.abs(values).max(initial=0, where=np.isfinite(values)))


def in_pixels(boxes: Array, form: str, unit: str, size: tuple[int, int]) -> Array:
    """Return boxes (n, 4) of corners, or of a corner or the middle with a size, as corners in pixels."""
    height, width = size
    if (places := CORNERS.get(form)) is not None:
        corners = boxes if form == "xyxy" else boxes.take(places, axis=1)
    else:
        first, sides = boxes[:, :2], boxes[:, 2:]
        if form in ("yxhw", "cycxhw"):
            first, sides = first[:, ::-1], sides[:, ::-1]
        if form.startswith("c"):
            first = first - sides / 2
        corners = np.concatenate((first, first + sides), axis=1)
    if unit == "relative":
        corners = corners * np.array((width, height, width, height), np.float32)
    return corners


def corners_of(
    codes: Array, places: Array, layout: Layout, size: tuple[int, int], cells: Grid | None, anchors: Array | None
) -> Array:
    """Return the boxes of a "dense" layout as corners in pixels.

    Parameters
    ----------
    codes : numpy.ndarray
        (n, 4), or (n, 4 * bins).
    places : numpy.ndarray
        (n,): which of all places each belongs to.
    layout : Layout
    size : tuple of int
        (height, width) of the tensor.
    cells : Grid or None
        Of the places, where the form of the boxes goes by them.
    anchors : numpy.ndarray or None
        (all places, 2 or 4), where the form goes by them.
    """
    form = layout.boxes
    if form in ("deltas", "deltas_yx"):
        assert anchors is not None
        return in_pixels(_from_deltas(codes, anchors[places], layout), "cxcywh", "relative", size)
    if cells is None:
        return in_pixels(codes, form, layout.unit, size)
    corner, stride = cells.corners[places], cells.strides[places]
    if form in ("ltrb", "bins"):
        distances = _expected(codes) if form == "bins" else codes
        middle: Array = corner + np.float32(0.5)
        if codes.shape[1] == 4 * _NANODET_BINS:  # its cells' middles are those of their pixels: (stride - 1) / 2
            middle = middle - np.float32(0.5) / stride
        return np.concatenate((middle - distances[:, :2], middle + distances[:, 2:]), axis=1) * stride
    if form == "grid":
        middle = (codes[:, :2] + corner) * stride
        half: Array = np.exp(np.minimum(codes[:, 2:4], _EXP_LIMIT)) * (stride / 2)
    else:  # "anchors": https://github.com/ultralytics/yolov5/issues/471
        assert anchors is not None
        shares = sigmoid(codes) if layout.score == "sigmoid" else codes
        middle = (2 * shares[:, :2] - np.float32(0.5) + corner) * stride
        half = np.square(2 * shares[:, 2:4]) * (anchors[places] / 2)
    return np.concatenate((middle - half, middle + half), axis=1)


_NANODET_BINS = 8


def _expected(codes: Array) -> Array:
    """Return the expected values of the distributions over whole numbers (Generalized Focal Loss, arXiv 2006.04388)."""
    bins = codes.reshape(len(codes), 4, codes.shape[1] // 4)
    expected: Array = softmax(bins) @ np.arange(bins.shape[2], dtype=np.float32)
    return expected


def _from_deltas(codes: Array, anchors: Array, layout: Layout) -> Array:
    """Return middles and sizes, as shares, of boxes that are given from others (SSD, arXiv 1512.02325, 2.2)."""
    given = codes[:, [1, 0, 3, 2]] if layout.boxes == "deltas_yx" else codes
    scaled = given[:, :4] / np.asarray(layout.scales, np.float32)
    sizes = scaled[:, 2:] if layout.linear else np.exp(np.minimum(scaled[:, 2:], _EXP_LIMIT))
    return np.concatenate((scaled[:, :2] * anchors[:, 2:] + anchors[:, :2], sizes * anchors[:, 2:]), axis=1)


def points_from(values: Array, anchors: Array, layout: Layout) -> Array:
    """Return keypoints that are given from anchors, as the middles of boxes are, as shares."""
    points = values.reshape(len(values), *layout.keypoints).astype(np.float32)
    points[..., :2] /= np.asarray(layout.scales[:2], np.float32)
    points[..., :2] *= anchors[:, np.newaxis, 2:]
    points[..., :2] += anchors[:, np.newaxis, :2]
    return points.reshape(values.shape)
