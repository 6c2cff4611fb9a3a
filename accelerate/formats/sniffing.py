"""What a file is, told by its first bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["archive_of", "judge"]

_FORMATS = {"tflite": "a TFLite model", "onnx": "an ONNX model"}
_CHECK = "check the path"
_CONVERT = "load the .onnx or .tflite file that it was made from"
_EXPORT = "export the model to ONNX or TFLite"
_UNZIP = "unzip it"

#: Where the bytes stand that tell a kind of file, these, what a person calls it, and what to do with it. The magic
#: numbers are those that each format's own reader checks.
_KINDS: Sequence[tuple[int, bytes, str, str]] = (
    (0, b"\x01HEF", "a model compiled for a Hailo device (HEF)", _CONVERT),
    (0, b"RKNN", "a model compiled for a Rockchip NPU (RKNN)", _CONVERT),
    (0, b"ftrt", "a TensorRT engine, for one kind of GPU and one version of TensorRT", _CONVERT),
    (4, b"ET12", "an ExecuTorch program (.pte)", _EXPORT),
    (4, b"ORTM", "a model in ORT format (.ort)", "load the .onnx file that it was made from"),
    (0, b"7767517", "an NCNN network (.param)", _CONVERT),
    (0, b"GGUF", "a language model in GGUF", "run it with a program for GGUF"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as a Keras model (.h5)", _EXPORT),
    (0, b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", "a PyTorch checkpoint", _EXPORT),
    (0, b"PK\x03\x04", "a zip archive", _UNZIP),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
    (0, b"\x89PNG", "a PNG picture", _CHECK),
    (0, b"\xff\xd8\xff", "a JPEG picture", _CHECK),
    (0, b"\x7fELF", "a native library or program", _CHECK),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run: git lfs pull"),
)
#: The same by expressions, where no fixed bytes tell it.
_LIKE: Sequence[tuple[re.Pattern[bytes], str, str]] = (
    (re.compile(rb"(?s).{4}\x00{4}\{"), "weights without a model (safetensors)", _EXPORT),
    (re.compile(rb"(?s)\s*(<\?xml[^>]*>\s*)?<net\s"), "the .xml file of an OpenVINO model", _CONVERT),
    (re.compile(rb"(?is)\s*(<!doctype html|<html)"), "a web page, as a failed download leaves it", "fetch it again"),
    # a message of protobuf each: SavedModel, CoreML's Model, GraphDef
    (re.compile(rb"(?s)\x08\x01\x12.{1,5}\x0a.{1,3}[\x12\x22]"), "a TensorFlow SavedModel (saved_model.pb)", _EXPORT),
    (re.compile(rb"(?s)\x08[\x01-\x20]\x12.{1,3}\x0a.{1,2}\x0a.\w"), "a Core ML model", _EXPORT),
    (re.compile(rb"(?s)\x0a.{1,5}?\x0a.[\w./-]+\x12.[A-Z]\w+[\x1a\x22\x2a]"), "a TensorFlow graph (.pb)", _EXPORT),
)  # fmt: skip

_VARINT, _BYTES = 0, 2
_LONG = 1024  # bytes: chance has no such fields
#: The fields of onnx.proto's ModelProto: their wire types, and for those that are messages the fields of these.
_TEXTS = frozenset({2, 3, 4})
_MODEL = {1: _VARINT, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _VARINT, 6: _BYTES, 7: _BYTES, 8: _BYTES, 14: _BYTES,
          20: _BYTES, 25: _BYTES, 26: _BYTES}  # fmt: skip
_GRAPH = frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16})
_MESSAGES = {7: _GRAPH, 8: frozenset({1, 2}), 14: frozenset({1, 2}), 20: frozenset({1, 2, 3, 4}),
             25: frozenset(range(1, 15)), 26: frozenset({1, 2})}  # fmt: skip


def judge(head: bytes) -> tuple[str, str, str]:
    """Return a file's format ("" where none is known here), what a person calls it, and what to do with it then."""
    if head[4:8] == b"TFL3":
        return "tflite", _FORMATS["tflite"], ""
    if _is_onnx(head):
        return "onnx", _FORMATS["onnx"], ""
    for offset, magic, name, remedy in _KINDS:
        if head.startswith(magic, offset):
            return "", name, remedy
    for pattern, name, remedy in _LIKE:
        if pattern.match(head):
            return "", name, remedy
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return "", f"a file that starts with the bytes {head[:8].hex(' ')}", _CHECK
    return "", f"a text file that starts with {text.strip()[:40]!r}", _CHECK


def archive_of(names: Sequence[str]) -> tuple[str, str]:
    """Return what a person calls a zip archive with these files, and what to do with it."""
    if not names:
        return "a zip archive without its list of files, which stands at the end", "fetch it again"
    if any(name.endswith("/data.pkl") for name in names):
        return "a PyTorch model (a zip archive with a pickle)", _EXPORT
    if "model.weights.h5" in names:
        return "a Keras model (.keras)", _EXPORT
    models = [name for name in names if name.endswith((".tflite", ".onnx", ".ort"))]
    listed = f"{', '.join(models[:5])}{f' and {len(models) - 5} more' if len(models) > 5 else ''}"
    if not models:
        return f"a zip archive of {len(names)} files, none of them a model that is known here", _CHECK
    return f"a zip archive with {listed}", f"unzip it and load {'it' if len(models) == 1 else 'one of these'}"


def _is_onnx(head: bytes) -> bool:
    """Tell whether these are the first bytes of a ModelProto: ONNX has no magic number, and its fields no order.

    All fields that begin here must be of that message, and what a message within it begins with must be of that one.
    A whole file has a graph; what is cut shows the graph's beginning, or a version.
    """
    seen: set[int] = set()
    cut = False
    try:
        for number, wire, start, value in _fields(head, 0, len(head)):
            stop = start + value if wire == _BYTES else start
            cut = stop > len(head)
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
    return 7 in seen or (cut and (1 in seen or (len(head) > _LONG and not seen.isdisjoint(_MESSAGES))))


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
