"""Pictures as Viam's cameras and clients send them: what they are says their content, and nothing else is believed."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from viam.media.video import CameraMimeType, ViamImage

from ...errors import TensorError

__all__ = ["frame_of", "is_picture", "labelled"]

_RGBA, _DEPTH = b"RGBA", b"DEPTHMAP"
_TYPES = ((b"\xff\xd8\xff", CameraMimeType.JPEG), (b"\x89PNG\r\n\x1a\n", CameraMimeType.PNG))


def frame_of(data: bytes) -> tuple[Any, str]:
    """Return what the vision tasks take for a picture: a frame, and its `color`.

    Viam's own form of raw pixels is "RGBA", width and height as big-endian 32-bit numbers, and four bytes for each
    pixel (viam.media.viam_rgba).

    Raises
    ------
    TensorError
        It holds depths, or other pixels than its header says.
    """
    if not is_picture(data):
        raise TensorError("the picture holds depths; wanted colours", "choose the camera's colour stream")
    if not data.startswith(_RGBA):
        return data, "RGB"
    width, height = struct.unpack(">II", data[4:12]) if len(data) >= 12 else (0, 0)
    if not width * height or len(data) != 12 + 4 * width * height:
        raise TensorError(f"the picture says that it has {width} x {height} pixels, and has {len(data) - 12} bytes")
    return np.frombuffer(data, np.uint8, offset=12).reshape(height, width, 4), "RGBA"


def is_picture(data: bytes) -> bool:
    """Return whether this is no depth map."""
    return not data.startswith(_DEPTH)


def labelled(image: ViamImage) -> ViamImage:
    """Return an image with the MIME type of its content, where that is known."""
    kind = next((kind for magic, kind in _TYPES if image.data.startswith(magic)), None)
    if kind is None or kind == image.mime_type:
        return image
    try:
        return ViamImage(image.data, kind)
    except IndexError:  # of the SDK, where the JPEG is cut off
        return image
