"""The backend for Viam machines against a server of Viam's own SDK: tensors, metadata, addresses and keys."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelerate
from accelerate.errors import (
    ClosedError,
    InferenceError,
    InferenceTimeoutError,
    ModelError,
    OptionError,
    ServerError,
    TensorError,
    UnsupportedModelError,
)
from accelerate.formats.flat_tensors import DTYPES, LIMIT
from accelerate.metadata import Quantization
from accelerate.testing.inputs import random_inputs

pytest.importorskip("viam", reason="needs the extra: viam")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

from viam_server import DIGITS, KEY, KEY_ID, ViamServer, make_certificate

from accelerate.backends.viam.address import Address, Credentials
from accelerate.backends.viam.description import Description

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)


# What goes over


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_dtype_goes_there_and_back(url: Callable[[str], str], dtype: str) -> None:
    with accelerate.load(url(f"same_{dtype}")) as model:
        limits = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
        x = np.array([[limits.min, limits.max, 0], [1, 2, 3]], dtype)
        outputs = model.infer({"x": x}, timeout=10)
        assert outputs["y"].dtype == x.dtype
        assert outputs["y"].tobytes() == x.tobytes()


def test_a_real_model_answers_as_it_does_here(url: Callable[[str], str]) -> None:
    with accelerate.load(url("digits")) as there, accelerate.load(DIGITS, backend="tflite_cpu") as here:
        for seed in range(3):
            image = random_inputs(there, seed)
            (scores,) = there.infer(image).values()
            (wanted,) = here.infer(image["image"]).values()
            np.testing.assert_array_equal(scores, wanted)


def test_pixels_become_minus_one_to_one_and_that_is_said(url: Callable[[str], str]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    with accelerate.load(url("mean")) as model:
        with pytest.warns(accelerate.AssumptionWarning):
            (mean,) = model.infer({"image": frame}).values()
        np.testing.assert_allclose(mean, (frame / 127.5 - 1).mean((1, 2)), rtol=1e-4, atol=1e-6)
    with accelerate.load(url("mean"), normalization=(0, 255)) as model, warnings.catch_warnings():
        warnings.simplefilter("error")
        (mean,) = model.infer({"image": frame}).values()
        np.testing.assert_allclose(mean, (frame / 255).mean((1, 2)), rtol=1e-4)


def test_wrong_names_and_dtypes_are_the_callers_errors(url: Callable[[str], str]) -> None:
    with accelerate.load(url("plain")) as model:
        for wrong in ({"a": A}, {"a": A, "c": B}, {"a": A, "b": B.astype("U3")}, {"a": A, "b": B[:1]}):
            with pytest.raises(TensorError):
                model.infer(wrong)
        np.testing.assert_array_equal(model.infer({"a": A, "b": B})["y"], A + B)


def test_empty_tensors(url: Callable[[str], str]) -> None:
    with accelerate.load(url("dynamic")) as model:
        assert model.infer({"x": np.zeros((0, 3), np.float32)})["y"].shape == (0, 3)
    with accelerate.load(url("empty")) as model:
        assert model.infer({"x": np.ones(3, np.float32)})["y"].shape == (0,)


def test_more_than_a_message_holds_is_refused(url: Callable[[str], str]) -> None:
    with accelerate.load(url("dynamic")) as model:
        with pytest.raises(TensorError, match="32 MiB"):
            model.infer({"x": np.zeros((LIMIT // 12 + 1, 3), np.float32)})
        assert model.infer({"x": B})["y"].shape == (2, 3)


def test_services_that_say_little_or_what_is_not_so(
    url: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    with accelerate.load(url("silent")) as model:  # one input without a name, outputs without any
        assert [t.name for t in model.metadata().outputs] == ["a", "b"]
        outputs = model.infer(np.array([[1, 2]], np.uint8))
        assert {name: a.tolist() for name, a in outputs.items()} == {"a": [1, 2], "b": [[2, 4]]}
    with accelerate.load(url("shapeless")) as model:
        assert "shape unknown" in str(model.metadata().outputs[0])
        assert model.infer(np.ones(3, np.float32))["y"].shape == (3,)
    with accelerate.load(url("typeless")) as model:
        assert model.metadata().outputs[0].data_type == "int16"
        assert model.infer(np.ones(3, np.int16))["y"].dtype == np.int16
    with accelerate.load(url("liar")) as model, pytest.raises(InferenceError, match=r"no 'y'.*others in it: 'z'"):
        model.infer(np.ones(3, np.float32))
    with accelerate.load(url("doubled")) as model:
        assert list(model.infer(np.ones(3, np.float32))) == [t.name for t in model.metadata().outputs] == ["y"]
    assert "two outputs have one name" in caplog.text
    caplog.clear()
    with accelerate.load(url("talker")) as model:
        for _ in range(2):
            assert list(model.infer(np.ones(3, np.float32))) == ["y"]
    assert [r.getMessage().partition(": ")[2] for r in caplog.records if r.levelno == logging.WARNING] == [
        "output 'y' is float32; its metadata says float64",
        "outputs that its metadata does not list are left out: 'z'",
    ]
    for name, says in (
        ("nothing", "no inputs"),
        ("words", "'string'"),
        ("twins", "one name"),
        ("unknown_type", "calls input 'x' ''"),
    ):
        with pytest.raises(UnsupportedModelError, match=says):
            accelerate.load(url(name))
    with pytest.raises(ModelError, match=r"impossible shape \[-5\]"):
        accelerate.load(url("impossible"))


def test_commands(url: Callable[[str], str]) -> None:
    with accelerate.load(url("plain")) as model:
        model.infer({"a": A, "b": B})
        assert model.do_command({"command": "stats"})["calls"] == 1
        assert model.do_command({"command": "warmup", "runs": 2}, timeout=5)["runs"] == 2
        with pytest.raises(NotImplementedError, match=r"reset, stats, warmup"):
            model.do_command({"command": "dance", "arguments": "here"}, timeout=5)
    with accelerate.load(url("slow")) as model, pytest.raises(InferenceTimeoutError):
        model.do_command({"command": "warmup", "runs": 100}, timeout=0.5)


def test_a_closed_model_is_closed(url: Callable[[str], str]) -> None:
    model = accelerate.load(url("plain"))
    model.close()
    model.close()
    with pytest.raises(ClosedError):
        model.infer({"a": A, "b": B})


def test_the_command_line_takes_the_url(url: Callable[[str], str], tmp_path: Path) -> None:
    pytest.importorskip("rich", reason="needs the extra: cli")
    np.savez(tmp_path / "x.npz", a=A, b=B)
    done = subprocess.run(
        [sys.executable, "-m", "accelerate", "run", "--json", url("plain"), tmp_path / "x.npz"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backend"] == "viam"


# Metadata


def test_all_of_the_metadata_is_read(tmp_path: Path) -> None:
    from google.protobuf.struct_pb2 import Struct
    from viam.proto.service.mlmodel import File, LabelType, Metadata, TensorInfo

    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n", encoding="utf-8")
    extra = Struct()
    extra.update({"labels": str(labels), "boxOrder": [1, 0, 3, 2], "more": {"a": [True, None, "x"]}})
    files = [
        File(name="labelmap.txt", description="words", label_type=LabelType.LABEL_TYPE_TENSOR_AXIS),
        File(name="b.txt", label_type=LabelType.LABEL_TYPE_TENSOR_VALUE),
        File(name="c.txt"),
    ]
    message = Metadata(
        name="detector",
        type="tflite_detector",
        description="finds things",
        input_info=[TensorInfo(name="image", description="a picture", data_type="float", shape=[1, -1, -1, 3])],
        output_info=[
            TensorInfo(name="location", data_type="float32", shape=[1, 25, 4], extra=extra, associated_files=files),
            TensorInfo(name="score", data_type="", shape=[]),
        ],
    )
    read = Description.read("here", message)
    told = read.told(read.inputs, read.outputs, labels=True)
    assert (told.name, told.type, told.description) == ("detector", "tflite_detector", "finds things")
    (image,), (location, score) = told.inputs, told.outputs
    assert (image.data_type, image.shape, image.description) == ("float32", (1, -1, -1, 3), "a picture")
    assert [(f.name, f.description, f.label_type) for f in location.associated_files] == [
        ("labelmap.txt", "words", "tensor_axis"),
        ("b.txt", "", "tensor_value"),
        ("c.txt", "", "unspecified"),
    ]
    assert location.extra == {"labels": str(labels), "boxOrder": (1, 0, 3, 2), "more": {"a": [True, None, "x"]}}
    assert score.extra == {"rank": "unknown"}
    assert told.labels == location.labels == ("cat", "dog")
    assert read.told(read.inputs, read.outputs, labels=False).labels == ()


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"scale": [0.5], "zero_point": [3]}, Quantization((0.5,), (3,))),
        ({"scale": [0.5, 2], "zero_point": [0, 0], "axis": 1}, Quantization((0.5, 2.0), (0, 0), 1)),
        ({"scale": [0.5, 2], "zero_point": [0, 0]}, None),
        ({"scale": [0], "zero_point": [3]}, None),
        ({"scale": ["x"], "zero_point": [3]}, None),
        ({"scale": [float("nan")], "zero_point": [float("inf")]}, None),
        ("none", None),
    ],
)
def test_scales_come_from_modules_of_ours(said: Any, wanted: Quantization | None) -> None:
    from google.protobuf.struct_pb2 import Struct
    from viam.proto.service.mlmodel import Metadata, TensorInfo

    extra = Struct()
    extra.update({"quantization": said})
    there = [TensorInfo(name="x", data_type="float32", shape=[1])]
    given = [TensorInfo(name="y", data_type="uint8", shape=[1, 9], extra=extra)]
    read = Description.read("here", Metadata(input_info=there, output_info=given))
    assert read.outputs[0].quantization == wanted


@pytest.mark.parametrize("what", ["gone", "folder", "pipe", "binary", "nul", "number"])
def test_label_files_that_are_not_here_are_left_alone(tmp_path: Path, what: str, caplog: Any) -> None:
    from google.protobuf.struct_pb2 import Struct
    from viam.proto.service.mlmodel import Metadata, TensorInfo

    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "binary":
        path.write_bytes(b"\xff\xfe\0")
    extra = Struct()
    extra.update({"labels": {"nul": "a\0b", "number": 5}.get(what, str(path))})
    tensors = [TensorInfo(name="x", data_type="float32", shape=[2], extra=extra)]
    read = Description.read("here", Metadata(input_info=tensors, output_info=tensors))
    told = read.told(read.inputs, read.outputs, labels=True)
    assert told.labels == ()
    assert told.outputs[0].extra["labels"] == extra["labels"]
    assert ("cannot be used" in caplog.text) is (what == "binary")


# Which machine, and who asks


@pytest.mark.parametrize(
    ("url", "host", "port", "service"),
    [
        ("viam://robot.local/eyes", "robot.local", 8080, "eyes"),
        ("VIAM://10.0.0.7:9000/my%20eyes", "10.0.0.7", 9000, "my eyes"),
        ("viam://[::1]:9000/remote:eyes/", "::1", 9000, "remote:eyes"),
    ],
)
def test_addresses(url: str, host: str, port: int, service: str) -> None:
    address = Address.parse(url)
    assert (address.host, address.port, address.service) == (host, port, service)


def test_a_key_comes_from_options_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIAM_API_KEY", raising=False)
    monkeypatch.delenv("VIAM_API_KEY_ID", raising=False)
    assert Credentials.find({}) is None
    given = Credentials.find({"api_key": "secret", "api_key_id": KEY_ID})
    assert given == Credentials("secret", KEY_ID)
    assert "secret" not in repr(given)
    monkeypatch.setenv("VIAM_API_KEY", "other")
    with pytest.raises(OptionError, match="VIAM_API_KEY is given without VIAM_API_KEY_ID"):
        Credentials.find({})
    monkeypatch.setenv("VIAM_API_KEY_ID", KEY_ID)
    assert Credentials.find({}) == Credentials("other", KEY_ID, ambient=True)
    assert Credentials.find({"api_key": "secret", "api_key_id": KEY_ID}) == given
    monkeypatch.setenv("VIAM_API_KEY_ID", "nothing like it")
    with pytest.raises(OptionError, match="VIAM_API_KEY_ID is no UUID") as caught:
        Credentials.find({})
    assert "other" not in str(caught.value)


def test_a_key_is_never_sent_in_the_clear(url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerError, match="in the clear") as caught:
        accelerate.load(url("plain"), api_key="secret", api_key_id=KEY_ID)
    assert "secret" not in str(caught.value)
    # viam-server gives a module a key, which is not for another module on this machine
    monkeypatch.setenv("VIAM_API_KEY", "secret")
    monkeypatch.setenv("VIAM_API_KEY_ID", KEY_ID)
    with accelerate.load(url("plain")) as model:
        np.testing.assert_array_equal(model.infer({"a": A, "b": B})["y"], A + B)


def test_a_key_opens_a_machine_with_tls(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    with ViamServer(str(tmp_path)) as server:
        with accelerate.load(server.url("plain"), api_key=KEY, api_key_id=KEY_ID) as model:
            np.testing.assert_array_equal(model.infer({"a": A, "b": B}, timeout=5)["y"], A + B)
            server.kill()
            with pytest.raises(ServerError):
                model.infer({"a": A, "b": B}, timeout=5)
            server.start()
            np.testing.assert_array_equal(model.infer({"a": A, "b": B}, timeout=5)["y"], A + B)
        with pytest.raises(ServerError, match=r"invalid credentials.*VIAM_API_KEY") as caught:
            accelerate.load(server.url("plain"), api_key="wrong", api_key_id=KEY_ID)
        assert "wrong" not in str(caught.value)
        with pytest.raises(ServerError):
            accelerate.load(server.url("plain"))
