"""What a file is, told by its first bytes."""

from __future__ import annotations

__all__ = ["judge"]

_FORMATS = {"tflite": "a TFLite model", "onnx": "an ONNX model"}
_NOT_MODELS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x1f\x8b": "a gzip archive",
    b"\x7fELF": "a native library or program",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself (run: git lfs pull)",
}
# producer_name, producer_version, domain, model_version, doc_string, graph, opset_import
_ONNX_TAGS = frozenset({0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42})


def judge(head: bytes) -> tuple[str, str]:
    """Return a file's format, "" where none is known here, and what a person calls such a file."""
    kind = _format(head)
    return kind, _FORMATS[kind] if kind else _likeness(head)


def _format(head: bytes) -> str:
    """Tell the formats of models.

    A TFLite flatbuffer has the file identifier "TFL3" at byte 4. ONNX has no magic number: it is a protobuf whose
    first field is ``ir_version`` (onnx.proto, ModelProto field 1), followed by another field of ModelProto.
    """
    if head[4:8] == b"TFL3":
        return "tflite"
    if len(head) > 3 and head[0] == 0x08 and head[1] < 0x80 and head[2] in _ONNX_TAGS:
        return "onnx"
    return ""


def _likeness(head: bytes) -> str:
    for magic, name in _NOT_MODELS.items():
        if head.startswith(magic):
            return name
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return f"a file that starts with the bytes {head[:8].hex(' ')}"
    return f"a text file that starts with {text.strip()[:40]!r}"
