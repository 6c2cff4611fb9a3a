"""What `load` makes of its first argument."""

from __future__ import annotations

import array
import hashlib
import io
import mmap
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

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


def zipped(content: bytes) -> zipfile.ZipFile:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("model", content)
    return zipfile.ZipFile(archive)


def mapped(content: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(content))
    memory.write(content)
    return memory


@pytest.mark.parametrize(
    "form",
    [
        memoryview, mapped, io.BytesIO, lambda b: io.BufferedReader(io.BytesIO(b)),
        lambda b: zipped(b).open("model"), lambda b: zipfile.Path(zipped(b), "model"),
        lambda b: np.frombuffer(b, np.uint8), lambda b: np.frombuffer(b, np.int8), lambda b: array.array("B", b),
        lambda b: memoryview(b[::-1])[::-1], lambda b: np.repeat(np.frombuffer(b, np.uint8), 2)[::2],
    ],
)  # fmt: skip
def test_what_has_bytes_in_it(form: Callable[[bytes], Any]) -> None:
    given = form(DIGITS.read_bytes())
    source = Source(given)
    assert (source.format, source.read()) == ("tflite", DIGITS.read_bytes())


def test_memory_that_somebody_changes_or_closes_later() -> None:
    for given in (mapped(DIGITS.read_bytes()), bytearray(DIGITS.read_bytes())):
        with accelerate.load(given, backend="tflite_cpu") as model:
            given[:] = bytes(len(given))
            if isinstance(given, mmap.mmap):
                given.close()  # nobody holds on to it
            assert model.metadata().outputs[0].shape == (1, 10)
            with model.bind() as binding:
                binding.run()
                assert abs(int(binding.outputs["scores"].sum()) - 256) < 10


def test_an_open_file(tmp_path: Path) -> None:
    with DIGITS.open("rb") as file:
        assert Source(file).read() == DIGITS.read_bytes()
        with pytest.raises(OptionError, match=r"read to its end; rewind it: file\.seek\(0\)"):
            Source(file)
    with DIGITS.open(encoding="latin-1") as text, pytest.raises(OptionError, match=r"reads text; open it by .*'rb'"):
        Source(text)
    with (tmp_path / "new").open("wb") as writable:
        for unreadable in (file, writable):
            with pytest.raises(OptionError, match=r"cannot be read: .*; open it by open\(path, 'rb'\)"):
                Source(unreadable)


class Asynchronous:
    async def read(self) -> bytes:
        return b""


class Proto:
    """As protobuf's messages are."""

    def SerializeToString(self) -> bytes:
        return b""


def closed_map() -> mmap.mmap:
    memory = mapped(b"1234")
    memory.close()
    return memory


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Proto(), r"a Proto object; wanted the bytes of the model; give what its SerializeToString\(\) returns"),
        (np.zeros(3, np.float32), "a ndarray with items of format 'f'; wanted single bytes"),
        (io.StringIO("x"), "a StringIO that reads text"),
        (closed_map(), "a mmap that cannot be read: mmap closed"),
        ("file://elsewhere/model.tflite", "names the host 'elsewhere'; give file:///absolute/path"),
        ("file://", "give file:///absolute/path"),
    ],
)
def test_what_has_no_bytes_to_give_says_what_to_give(given: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        accelerate.load(given)


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_a_file_of_asyncio_is_none() -> None:
    with pytest.raises(OptionError, match="returns a coroutine; wanted bytes"):
        Source(Asynchronous())


@pytest.mark.parametrize("name", ["m.tflite", "a b#c?d%41.tflite", os.fsdecode(b"mod\xe8le.tflite")])
@pytest.mark.parametrize("prefix", ["file://", "FILE://localhost"])
def test_urls_of_files(tmp_path: Path, name: str, prefix: str) -> None:
    path = tmp_path / name
    path.write_bytes(DIGITS.read_bytes())
    assert Source(path.as_uri().replace("file://", prefix)).path == path
    if "%" not in name:
        assert Source(f"{prefix}{path}").path == path
    with pytest.raises(ModelNotFoundError):
        Source(f"{path.as_uri()}.none")


def test_urls_that_no_backend_takes() -> None:
    with pytest.raises(accelerate.NoBackendError, match=r"a model on a server is triton://host:8001/yolo") as caught:
        accelerate.load("grpc://host:8001/yolo")
    assert "convert it" not in str(caught.value)
    with pytest.raises(UnsupportedModelError, match="is a URL, not a TFLite model; give the path of a model file"):
        accelerate.load("https://host/model.tflite", backend="tflite_cpu")


@any_of(st.binary(min_size=1), st.integers(1, 3))
def test_the_bytes_are_those_that_were_given(content: bytes, step: int) -> None:
    strided = memoryview(bytes(np.repeat(np.frombuffer(content, np.uint8), step)))[::step]
    for given in (content, bytearray(content), strided, io.BytesIO(content)):
        assert Source(given).read() == content


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
