"""The .xml and .bin of OpenVINO's models: what they say, and what is done with damaged and hostile ones."""

from __future__ import annotations

import logging
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("onnx")  # builds models

import odd_onnx
from onnx import TensorProto
from openvino_models import read, written

import accelerate
from accelerate.cli.inspection import inspect_model
from accelerate.formats.description import describe_source
from accelerate.formats.openvino.file import ModelFile
from accelerate.source import Source

_HEAD = '<?xml version="1.0"?>\n<net name="small" version="11"><layers>'
_INPUT = (
    '<layer id="0" name="x" type="Parameter" version="opset1"><data shape="3" element_type="f32"/><output>'
    '<port id="0" precision="FP32" names="x"><dim>3</dim></port></output></layer>'
)
_OUTPUT = (
    '<layer id="1" name="r" type="Result" version="opset1"><input><port id="0" precision="FP32"><dim>3</dim></port>'
    "</input></layer>"
)
_EDGES = '</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges>'
SMALL = f"{_HEAD}{_INPUT}{_OUTPUT}{_EDGES}<rt_info/></net>"

#: Eleven entities, each ten times the one before.
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY e0 "ha">'
    + "".join(f'<!ENTITY e{n} "' + f"&e{n - 1};" * 10 + '">' for n in range(1, 12))
    + ']><net name="&e11;" version="11"/>'
)


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with weights."""
    return written(odd_onnx.convolution(), tmp_path_factory.mktemp("convolution") / "model.xml")


@pytest.fixture
def pair(convolution: Path, tmp_path: Path) -> Path:
    for path in (convolution, convolution.with_suffix(".bin")):
        shutil.copy(path, tmp_path)
    return tmp_path / convolution.name


def refused(path: Path) -> str:
    """Return why a model cannot be loaded, which a plan says in the same words."""
    with pytest.raises(accelerate.ModelError) as caught:
        accelerate.load(path, backend="openvino")
    (row,) = accelerate.plan(path, backend="openvino").skipped
    assert str(caught.value) == f"{row.reason}; {row.remedy}"
    return str(caught.value)


# What they say


def test_names_types_and_shapes_are_those_that_openvino_has(tmp_path: Path) -> None:
    for make in (odd_onnx.add, odd_onnx.double, odd_onnx.nonzero, odd_onnx.reversed_strings, odd_onnx.aliased_outputs):
        path = written(make(), tmp_path / f"{make.__name__}.xml")
        told, theirs = describe_source(Source(path)), read(path)
        assert told is not None
        for ours, ports in ((told.inputs, theirs.inputs), (told.outputs, theirs.outputs)):
            for info, port in zip(ours, ports, strict=True):
                assert {info.name, *info.aliases} >= port.get_names()
                shape = tuple(n.get_length() if n.is_static else -1 for n in port.get_partial_shape())
                assert info.shape == shape
        with accelerate.load(path, backend="openvino") as model:
            assert model.metadata() == told


def test_what_the_exporter_noted(tmp_path: Path) -> None:
    """The keys are those that Ultralytics' exporter writes."""
    info: dict[str, Any] = {
        "model_type": "YOLO", "reverse_input_channels": True, "pad_value": 114, "scale_values": [255.0],
        "iou_threshold": 0.7, "labels": ["person", "traffic_light"], "resize_type": "fit_to_window_letterbox",
    }  # fmt: skip
    path = written(odd_onnx.image((1, 3, 32, 32)), tmp_path / "yolo.xml", **info)
    with accelerate.load(path) as model:
        metadata = model.metadata()
        (tensor,) = metadata.inputs
        assert metadata.labels == ("person", "traffic_light")
        assert metadata.extra["resize_type"] == "fit_to_window_letterbox"
        assert (tensor.layout, tensor.color) == ("NCHW", "RGB")
        assert tensor.normalization == accelerate.Normalization((0.0,), (255.0,), "metadata")
        frame = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32)).astype(np.uint8)
        (output,) = model.infer(frame).values()
        np.testing.assert_allclose(output, frame / np.float32(255), rtol=1e-6)
    prepared = written(
        odd_onnx.image(), tmp_path / "prepared.xml", embedded_processing=True, mean_values=[1.0, 2.0, 3.0]
    )
    told = describe_source(Source(prepared))
    assert told is not None
    assert told.inputs[0].normalization is None


def test_a_mean_alone_and_numbers_that_cannot_be(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"mean_values": [1.0, 2.0, 3.0]}, ((1.0, 2.0, 3.0), (1.0,))),
        ({"scale_values": [0.0]}, None),
        ({"scale_values": [1.0, 2.0]}, None),
        ({"mean_values": "many"}, None),
    ]
    for values, wanted in cases:
        told = describe_source(Source(written(odd_onnx.image(), tmp_path / "m.xml", **values)))
        assert told is not None
        found = told.inputs[0].normalization
        assert (found and (found.mean, found.std)) == wanted


def test_inspect_shows_both_files(pair: Path) -> None:
    report = inspect_model(str(pair))
    assert report["file"]["format"] == "openvino"
    assert report["content"]["external_files"] == ["model.bin"]
    assert report["content"]["operators"]["Convolution"] == 1
    assert report["content"]["problems"] == []
    pair.with_suffix(".bin").unlink()
    report = inspect_model(str(pair))
    (problem,) = report["content"]["problems"]
    assert "its weights are missing" in problem
    assert report["file"]["sha256"] is None


def test_the_digest_is_that_of_both_files_whatever_they_are_called(pair: Path) -> None:
    before = Source(pair).digest()
    weights = pair.with_suffix(".bin")
    renamed = [shutil.copy(path, path.with_stem("other")) for path in (pair, weights)]
    assert Source(renamed[0]).digest() == before
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)
    assert Source(pair).digest() not in (before, None)


def test_a_folder_with_one_says_which_file_to_load(pair: Path) -> None:
    (pair.parent / "settings.xml").write_text("<settings/>")
    with pytest.raises(accelerate.ModelError, match=r"a directory with model\.xml.*; load it"):
        accelerate.load(pair.parent)


def test_a_path_that_is_no_utf8(pair: Path) -> None:
    folder = pair.parent / "caf\udce9"
    try:
        folder.mkdir()
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has UTF-8 names alone")
    for path in (pair, pair.with_suffix(".bin")):
        shutil.copy(path, folder)
    with accelerate.load(folder / "model.xml") as model, accelerate.load(pair) as other:
        inputs = {t.name: np.random.default_rng(0).random(t.shape, np.float32) for t in model.metadata().inputs}
        for one, two in zip(model.infer(inputs).values(), other.infer(inputs).values(), strict=True):
            np.testing.assert_array_equal(one, two)


# What is wrong with them


def test_without_its_weights(pair: Path) -> None:
    pair.with_suffix(".bin").rename(pair.parent / "weights.bin")
    assert f"there is no file {pair.with_suffix('.bin')}; copy the .bin" in refused(pair)
    (pair.parent / "elsewhere").mkdir()
    (pair.parent / "weights.bin").rename(pair.parent / "elsewhere" / "model.bin")
    assert "its weights are missing" in refused(pair)
    with pytest.raises(accelerate.ModelError, match=r"in another file, the \.bin; load the model by the path"):
        accelerate.load(pair.read_bytes(), backend="openvino")


def test_with_other_weights(pair: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = pair.with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    assert f"has {len(whole) - 4} bytes, and model.xml reads {len(whole)} of it" in refused(pair)
    weights.write_bytes(b"")
    assert "has 0 bytes" in refused(pair)
    weights.unlink()
    weights.mkdir()
    assert "its weights are missing" in refused(pair)
    weights.rmdir()
    weights.write_bytes(whole + bytes(100))  # what the runtime takes is loaded, and said
    with caplog.at_level(logging.WARNING, "accelerate"), accelerate.load(pair, backend="openvino"):
        assert "it may belong to another model" in caplog.text


def test_weights_that_change_under_a_model_do_not_change_it(pair: Path) -> None:
    with accelerate.load(pair, backend="openvino", config={"CACHE_DIR": ""}) as model:
        inputs = {t.name: np.random.default_rng(0).random(t.shape, np.float32) for t in model.metadata().inputs}
        before = model.infer(inputs)
        with pair.with_suffix(".bin").open("r+b") as file:
            file.write(bytes(16))
            file.truncate(20)
        for name, value in model.infer(inputs).items():
            np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]><net name="&x;"/>', "has a document type"),
        ('<!DOCTYPE net SYSTEM "http://127.0.0.1:9/net.dtd"><net name="m" version="11"></net>', "has a document type"),
        (LAUGHS, "has a document type"),
        ('<net name="&x;" version="11">', "undefined entity"),
        (SMALL[:300], "is damaged"),
        (SMALL.replace('version="11"', 'version="7"'), "version 7 of its format"),
        (SMALL.replace('version="11"', 'version="eleven"'), "version is 'eleven', wanted a number"),
        (SMALL.replace("<dim>3</dim>", "<dim>three</dim>"), "a dimension of 'x' is 'three'"),
        (SMALL.replace("<dim>3</dim>", "<dim>-7</dim>"), "a dimension of 'x' is '-7'"),
        (SMALL.replace('to-layer="1"', 'to-layer="9"'), "nothing leads to its output"),
        (SMALL.replace('<layer id="1"', '<layer id="0"'), "two layers with the id 0"),
        ('<net name="m" version="11"></net>', "it has no layers"),
        (SMALL.replace("<rt_info/>", "<rt_info>" + "<a>" * 200 + "</a>" * 200 + "</rt_info>"), "one inside of the"),
        (SMALL.replace("<data shape", '<data offset="99999999999999999999" size="1" shape'), "offset is '9999"),
        (SMALL.replace("<data shape", '<data offset="8" size="8" shape'), "its weights are missing"),
    ],
)  # fmt: skip
def test_damaged_and_hostile_files(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text(text)
    assert problem in refused(path)


def test_a_sound_small_file_is_read() -> None:
    file = ModelFile(SMALL.encode())
    assert [(port.names, port.shape) for port in (*file.inputs, *file.outputs)] == [(("x",), (3,)), (("x",), (3,))]


@pytest.mark.parametrize("element", ["<a/>", "<dim>1</dim>", "<layer/>"])
def test_ten_million_elements_are_refused_before_they_are_read(element: str) -> None:
    content = (_HEAD + element * (10_000_000 * 4 // len(element))).encode()
    tracemalloc.start()
    try:
        with pytest.raises(accelerate.ModelError, match="elements"):
            ModelFile(content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(accelerate.ModelError, match=r"of an \.xml of a model at most"):
        ModelFile(bytes((64 << 20) + 1))


def test_many_elements_take_bounded_memory() -> None:
    filler = "<layer id='{0}' type='Const' name='c'><output><port id='0' names='n{0}'/></output></layer>"
    layers = "".join(filler.format(number) for number in range(2, 50_002))
    content = f"{_HEAD}{_INPUT}{_OUTPUT}{layers}{_EDGES}</net>".encode()
    tracemalloc.start()
    try:
        file = ModelFile(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file.operators["Const"] == 50_000
    assert peak < 8 * len(content)


def test_texts_that_come_back_as_they_came_are_refused() -> None:
    """OpenVINO would free them twice, which ends the program."""
    with pytest.raises(accelerate.UnsupportedModelError, match="gives texts back as they came"):
        accelerate.load(odd_onnx.identity(TensorProto.STRING), backend="openvino")
