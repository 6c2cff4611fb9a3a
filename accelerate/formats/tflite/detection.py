"""How many classes the operator that ends the first TFLite detectors tells apart.

``TFLite_Detection_PostProcess`` (tensorflow/lite/kernels/detection_postprocess.cc of tensorflow/tensorflow) gives
boxes, classes, scores and their number. Its options are a FlexBuffer (https://flatbuffers.dev/flexbuffers/), a map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..exporters import INDEX_LIMIT
from ..flatbuffer import INT32, UINT32, Table

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["detected_classes", "number_in_map"]

_CLASSES = 1  # of its outputs
_KEYS_LIMIT = 64  # it has ten options
_INT, _UINT, _MAP = 1, 2, 9


def detected_classes(operators: Iterable[Table], codes: Sequence[bool], buffer: bytes | mmap) -> dict[int, int]:
    """Return the number of classes by the index of the tensor that names them.

    `codes` tells of each operator code whether it is this operator's.
    """
    found = {}
    for operator in operators:
        code = operator.number(0, UINT32)
        if code < len(codes) and codes[code] and len(outputs := operator.numbers(2, INT32)) > _CLASSES:
            start, length = operator.span(5)
            classes = number_in_map(bytes(buffer[start : start + length]), b"num_classes")
            if classes is not None and 0 < classes <= INDEX_LIMIT:
                found[outputs[_CLASSES]] = classes
    return found


def number_in_map(data: bytes, wanted: bytes) -> int | None:
    """Return a whole number from a FlexBuffer that is a map, None where there is none or the buffer is another."""
    try:
        return _number_in_map(data, wanted)
    except (IndexError, ValueError):  # it leads outside
        return None


def _number_in_map(data: bytes, wanted: bytes) -> int | None:
    kind, width = data[-2], data[-1]  # of the root: type and width of what it leads to, and its own width
    if kind >> 2 != _MAP:
        return None
    values = _followed(data, len(data) - 2 - width, width)
    width = 1 << (kind & 3)
    size, keys_width = _number(data, values - width, width), _number(data, values - 2 * width, width)
    keys = _followed(data, values - 3 * width, width)
    for n in range(min(size, _KEYS_LIMIT)):
        key = _followed(data, keys + n * keys_width, keys_width)
        if data[key : data.index(b"\0", key)] == wanted:
            is_whole = data[values + size * width + n] >> 2 in (_INT, _UINT)
            return _number(data, values + n * width, width) if is_whole else None
    return None


def _followed(data: bytes, position: int, width: int) -> int:
    target = position - _number(data, position, width)
    if target < 0:
        raise IndexError(target)
    return target


def _number(data: bytes, position: int, width: int) -> int:
    if width not in (1, 2, 4, 8) or not 0 <= position <= len(data) - width:
        raise IndexError(position)
    return int.from_bytes(data[position : position + width], "little")
