"""Which format that is read here a file is of, told by its first bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["judge"]

_FORMATS = {"tflite": "a TFLite model", "onnx": "an ONNX model", "openvino": "an OpenVINO IR model"}
#: An XML file of the element "net"; one with a document type is refused by its reader.
_NET = re.compile(rb"(?s)(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<net[\s>]|<!DOCTYPE\s+net\b)")

_VARINT, _BYTES = 0, 2
_LONG = 1024  # bytes: chance has no such fields
_TEXT = bytes(range(32, 127)) + b"\t\n\r"
#: The fields of onnx.proto's ModelProto: their wire types, and for those that are messages the fields of these.
_TEXTS = frozenset({2, 3, 4})
_MODEL = {1: _VARINT, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _VARINT, 6: _BYTES, 7: _BYTES, 8: _BYTES, 14: _BYTES,
          20: _BYTES, 25: _BYTES, 26: _BYTES}  # fmt: skip
_GRAPH = frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16})
_MESSAGES = {7: _GRAPH, 8: frozenset({1, 2}), 14: frozenset({1, 2}), 20: frozenset({1, 2, 3, 4}),
             25: frozenset(range(1, 15)), 26: frozenset({1, 2})}  # fmt: skip


def judge(head: bytes) -> tuple[str, str, str]:
    """Return a file's format ("" where none is known here), what a person calls it, and what to do with it then."""
    kind = "tflite" if head[4:8] == b"TFL3" else "openvino" if _NET.match(head) else "onnx" if _is_onnx(head) else ""
    if kind:
        return kind, _FORMATS[kind], ""
    from .likeness import of_content

    return "", *of_content(head)


def _is_onnx(head: bytes) -> bool:
    """Tell whether these are the first bytes of a ModelProto: ONNX has no magic number, and its fields no order.

    All fields that begin here must be of that message, and what a message within it begins with must be of that one.
    A whole file has a graph, or a version and a producer; what is cut shows a version, or a graph's beginning.
    """
    seen: set[int] = set()
    cut = False
    try:
        for number, wire, start, value in _fields(head, 0, len(head)):
            stop = start + value if wire == _BYTES else start
            cut = stop > len(head)
            if number not in _MODEL and 7 in seen:  # of a newer version, which runtimes skip
                continue
            if _MODEL.get(number) != wire or (number == 1 and not 0 < value < 0x80):
                return False
            if number in _TEXTS and not head[start:stop].decode(errors="replace").isprintable():
                return False
            if number in _MESSAGES and value:
                inner, inner_wire, at, size = next(_fields(head, start, min(stop, len(head))))
                if inner not in _MESSAGES[number] or (inner_wire == _BYTES and at + size > stop):
                    return False
            seen.add(number)
    except IndexError:  # within a field's first bytes
        cut = True
    except (ValueError, StopIteration):
        return False
    if cut:
        if not head.translate(None, _TEXT):  # ":0Z " begins like a graph; a model has other bytes before long
            return False
        return not seen.isdisjoint({1, 7} if len(head) <= _LONG else {1, *_MESSAGES})
    return 7 in seen or {1, 2} <= seen


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, wire type, the position of its content, its length or value) of a message's fields."""
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0 or wire not in (_VARINT, _BYTES):
            raise ValueError
        value, position = _varint(data, position)
        yield number, wire, position, value
        position += value if wire == _BYTES else 0


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError
