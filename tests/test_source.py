"""What `load` makes of its first argument."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import odd_models
import pytest

import accelerate
from accelerate import ModelError, ModelNotFoundError, OptionError, Source, UnsupportedModelError

DIGITS = Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite"
ONNX = bytes.fromhex("0807120c6261636b656e642d746573743a0b0a01780a0179120179")


@pytest.mark.parametrize("form", [str, Path, os.fsencode, Path.read_bytes, lambda p: bytearray(p.read_bytes())])
def test_forms_of_a_model(form: Any) -> None:
    if form is os.fsencode:
        with pytest.raises(ModelError):  # bytes are a model's content, never its path
            accelerate.load(form(DIGITS))
        return
    with accelerate.load(form(DIGITS), backend="tflite_cpu") as model:
        assert model.metadata().inputs[0].shape == (1, 8, 8, 1)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(DIGITS.read_bytes())
    assert Source(tmp_path / "model.onnx").format == "tflite"
    (tmp_path / "model.tflite").write_bytes(ONNX)
    assert Source(tmp_path / "model.tflite").format == "onnx"
    with pytest.raises(UnsupportedModelError, match=r"model\.tflite is an ONNX model"):
        accelerate.load(tmp_path / "model.tflite", backend="tflite_cpu")


def test_reading() -> None:
    content = DIGITS.read_bytes()
    for source in (Source(DIGITS), Source(content)):
        assert source.read() == content
        assert bytes(source.buffer()) == content
        assert source.digest() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("backend", ["auto", "tflite_cpu"])
@pytest.mark.parametrize(
    ("content", "likeness"),
    [
        (b"", "empty"),
        (b"hello world, this is text", "a text file that starts with 'hello world"),
        (b"\x89PNG\r\n\x1a\n....", "PNG"),
        (b"\x7fELF\x02\x01\x01\x00", "native library"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (bytes(range(200, 250)), "starts with the bytes c8 c9"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, backend: str, content: bytes, likeness: str) -> None:
    (tmp_path / "x.tflite").write_bytes(content)
    for given in (tmp_path / "x.tflite", content):
        with pytest.raises(ModelError, match=re.escape(likeness)):
            accelerate.load(given, backend=backend)


@pytest.mark.parametrize("backend", ["auto", "tflite_cpu"])
def test_paths_that_are_no_files(tmp_path: Path, backend: str) -> None:
    with pytest.raises(ModelError, match="is a directory"):
        accelerate.load(tmp_path, backend=backend)
    with pytest.raises(ModelNotFoundError, match=r"the folder .* exists") as caught:
        accelerate.load(tmp_path / "no.tflite", backend=backend)
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(ModelNotFoundError, match="nor is there a folder"):
        accelerate.load(tmp_path / "none" / "no.tflite", backend=backend)


@pytest.mark.parametrize("given", [None, 5, [1], {"a": 1}, Source(odd_models.add3())])
def test_things_that_are_no_source(given: Any) -> None:
    with pytest.raises(OptionError, match="load\\(\\) was given"):
        accelerate.load(given)


def test_objects_of_strangers() -> None:
    with pytest.raises(UnsupportedModelError, match=r"<builtins\.object> is no TFLite interpreter"):
        accelerate.load(object(), backend="tflite_cpu")
    with pytest.raises(accelerate.NoBackendError, match="no TFLite interpreter"):
        accelerate.load(object())
    with pytest.raises(accelerate.NoBackendError):
        accelerate.load("nothing://here")
