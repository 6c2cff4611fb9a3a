"""What a person calls a file or folder that is of no format read here, and what to do with it."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Collection, Sequence

__all__ = ["of_archive", "of_content", "of_folder"]

_SHOWN = 5
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
    (re.compile(rb"(?is)\s*(<!doctype html|<html)"), "a web page, as a failed download leaves it", "fetch it again"),
    # a message of protobuf each: SavedModel, CoreML's Model, GraphDef
    (re.compile(rb"(?s)\x08\x01\x12.{1,5}\x0a.{1,3}[\x12\x22]"), "a TensorFlow SavedModel (saved_model.pb)", _EXPORT),
    (re.compile(rb"(?s)\x08[\x01-\x20]\x12.{1,3}\x0a.{1,2}\x0a.\w"), "a Core ML model", _EXPORT),
    (re.compile(rb"(?s)\x0a.{1,5}?\x0a.[\w./-]+\x12.[A-Z]\w+[\x1a\x22\x2a]"), "a TensorFlow graph (.pb)", _EXPORT),
)  # fmt: skip


def of_content(head: bytes) -> tuple[str, str]:
    """Judge a file by its first bytes."""
    for offset, magic, name, remedy in _KINDS:
        if head.startswith(magic, offset):
            return name, remedy
    for pattern, name, remedy in _LIKE:
        if pattern.match(head):
            return name, remedy
    if not head.strip(b"\0"):
        return "a file of zeros, as a copy that failed leaves it", "fetch it again"
    text = _text(head)
    if text is None:
        return f"a file that starts with the bytes {head[:8].hex(' ')}", _CHECK
    return f"a text file that starts with {text.strip()[:40]!r}", _CHECK


def _text(head: bytes) -> str | None:
    if b"\0" in head:
        return None
    try:
        return getincrementaldecoder("utf-8")().decode(head)  # the last character may go on behind it
    except UnicodeDecodeError:
        return None


def of_archive(names: Collection[str]) -> tuple[str, str]:
    """Judge a zip archive by the files in it."""
    if not names:
        return "a zip archive without its list of files, which stands at the end", "fetch it again"
    if any(name.endswith("/data.pkl") for name in names):
        return "a PyTorch model (a zip archive with a pickle)", _EXPORT
    if "model.weights.h5" in names:
        return "a Keras model (.keras)", _EXPORT
    models = _models(names)
    if not models:
        return f"a zip archive of {len(names)} files, none of them a model that is known here", _CHECK
    return f"a zip archive with {_listed(models)}", f"unzip it and load {_one_of(models)}"


def of_folder(names: Collection[str]) -> tuple[str, str]:
    """Judge a folder by what is in it."""
    if "saved_model.pb" in names:
        return "the directory of a TensorFlow SavedModel", _EXPORT
    if "Manifest.json" in names and "Data" in names:
        return "a Core ML package (.mlpackage)", _EXPORT
    models = _models(names)
    return (f"a directory with {_listed(models)}", f"load {_one_of(models)}") if models else ("a directory", _CHECK)


def _models(names: Collection[str]) -> list[str]:
    alone = (name for name in names if name.endswith((".tflite", ".onnx", ".ort")))
    pairs = (name for name in names if name.endswith(".xml") and f"{name[:-4]}.bin" in names)
    return sorted((*alone, *pairs))


def _listed(models: Sequence[str]) -> str:
    more = len(models) - _SHOWN
    return ", ".join(models[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _one_of(models: Sequence[str]) -> str:
    return "it" if len(models) == 1 else "one of these"
