"""Masks of objects: sums of prototypes, as YOLACT (arXiv 1904.02689) has them."""

from __future__ import annotations

import numpy as np

from ..calls.conversion import Array
from ..image.engines import current_engine
from ..image.fitting import Geometry
from .boxes import sigmoid

__all__ = ["draw_masks", "to_frame"]


def draw_masks(protos: Array, coefficients: Array, boxes: Array, geometry: Geometry, rows: slice | Array) -> Array:
    """Return the masks of some objects in the frame.

    Parameters
    ----------
    protos : numpy.ndarray
        (1, 32, h, w) or (1, h, w, 32).
    coefficients : numpy.ndarray
        (n, 32).
    boxes : numpy.ndarray
        (n, 4) in the frame; outside of its box an object has no mask.
    geometry : Geometry
    rows : slice or numpy.ndarray
        Which of the objects.

    Returns
    -------
    numpy.ndarray
        bool (objects, H, W).
    """
    maps = protos[0] if protos.ndim == 4 else protos
    if maps.shape[0] != coefficients.shape[1]:
        maps = np.moveaxis(maps, -1, 0)
    height, width = geometry.frame_size
    drawn = np.zeros((len(coefficients[rows]), height, width), bool)
    for mask, own, box in zip(drawn, coefficients[rows], boxes[rows].tolist(), strict=True):
        shares = sigmoid(np.tensordot(own.astype(np.float32), maps, 1))
        left, top = max(0, int(box[0])), max(0, int(box[1]))
        right, bottom = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
        if left < right and top < bottom:
            mask[top:bottom, left:right] = to_frame(shares, geometry)[top:bottom, left:right] >= 0.5
    return drawn


def to_frame(shares: Array, geometry: Geometry) -> Array:
    """Return a map (h, w) of shares, 0..1, of the whole tensor as float32 (H, W) of the frame.

    0 where the frame was not in the tensor. In between it is as exact as 256 levels are.
    """
    levels = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)[:, :, np.newaxis]
    levels = _resized(levels, *geometry.tensor_size)
    top, left, height, width = geometry.target
    seen = _resized(np.ascontiguousarray(levels[top : top + height, left : left + width]), *geometry.source[2:])
    frame = np.zeros(geometry.frame_size, np.float32)
    top, left, height, width = geometry.source
    frame[top : top + height, left : left + width] = seen[:, :, 0]
    frame *= np.float32(1 / 255)
    return frame


def _resized(levels: Array, height: int, width: int) -> Array:
    if levels.shape[:2] == (height, width):
        return levels
    target = np.empty((height, width, 1), np.uint8)
    current_engine().resize(levels, target, "bilinear")
    return target
