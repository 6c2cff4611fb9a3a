"""Which operators make the outputs of a .tflite graph, and what the one that ends the first detectors says of itself.

``TFLite_Detection_PostProcess`` (tensorflow/lite/kernels/detection_postprocess.cc of tensorflow/tensorflow) gives
boxes, classes, scores and their number. Its options are a FlexBuffer (https://flatbuffers.dev/flexbuffers/), a map.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..exporters import INDEX_LIMIT
from ..flatbuffer import INT32, UINT32, Table

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["number_in_map", "producers"]

_CLASSES = 1  # of the detection's outputs
_KEYS_LIMIT = 64  # it has ten options
_INT, _UINT, _MAP = 1, 2, 9
#: Operators that leave the meaning of values as it is, if not their form.
_PASSING = frozenset({"CAST", "DEQUANTIZE", "EXPAND_DIMS", "QUANTIZE", "RESHAPE", "SQUEEZE", "TRANSPOSE"})


def producers(
    operators: Iterable[Table], names: Sequence[str], outputs: Collection[int], detection: str, buffer: bytes | mmap
) -> dict[int, dict[str, Any]]:
    """Return what the graph tells of each output, by its tensor's index: ``operator`` and ``port``.

    The operator is the last one that makes something new of its inputs, the port which of its outputs it is. A detector
    that lists its findings has ``num_classes`` with the output that names them. ``through`` has the tensors on the way.

    Parameters
    ----------
    operators : iterable of Table
        Those of the graph.
    names : sequence of str
        Of the operators, by their codes.
    outputs : collection of int
    detection : str
        The name of the detectors' operator.
    buffer : bytes or mmap
        Of the file.
    """
    makers: dict[int, tuple[str, int, Table]] = {}
    for operator in operators:
        code = operator.number(0, UINT32)
        if code < len(names):
            for port, tensor in enumerate(operator.numbers(2, INT32)):
                makers[tensor] = (names[code], port, operator)
    found = {}
    for output in outputs:
        tensor, through = output, []
        while tensor in makers and tensor not in through:
            through.append(tensor)
            name, port, operator = makers[tensor]
            inputs = operator.numbers(1, INT32)
            if name not in _PASSING or not inputs:
                told: dict[str, Any] = {"operator": name, "port": port, "through": tuple(through)}
                if name == detection and port == _CLASSES:
                    start, length = operator.span(5)
                    classes = number_in_map(bytes(buffer[start : start + length]), b"num_classes")
                    if classes is not None and 0 < classes <= INDEX_LIMIT:
                        told["num_classes"] = classes
                found[output] = told
                break
            tensor = inputs[0]
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
