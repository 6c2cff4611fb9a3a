"""Whose names the classes have, and how many classes there are: packed for each output, by exporters, in the graph."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import labelled_models
import numpy as np
import pytest
import tflite_metadata_writer as writer
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.flexbuffers import Dumps
from hypothesis import given
from hypothesis import strategies as st
from tflite_writer import Graph, build

import accelerate
from accelerate import Metadata
from accelerate.cli.inspection import inspect_model
from accelerate.formats.tflite.detection import number_in_map

NAMES = ("cat", "", "dog")


def metadata_of(model: bytes, **options: Any) -> Metadata:
    with accelerate.load(model, backend="tflite_cpu", **options) as loaded:
        return loaded.metadata()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings so far."""
    caplog.set_level(logging.WARNING, logger="accelerate")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def label_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a label file."""

    def write(*labels: str) -> Path:
        path = tmp_path / "mine.txt"
        path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        return path

    return write


def shaped(*outputs: list[int], x: list[int], files: Mapping[str, bytes] | None = None, about: bytes = b"") -> bytes:
    """Return a model that gives its float32 input x in other shapes, each of the same size, with files behind it."""
    graph = Graph()
    graph.inputs = [graph.tensor("x", x, "float32")]
    for n, shape in enumerate(outputs):
        graph.outputs.append(graph.tensor(f"y{n}", shape, "float32"))
        wanted = graph.constant(f"shape {n}", np.array(shape, np.int32))
        graph.op("RESHAPE", [graph.inputs[0], wanted], graph.outputs[-1:], schema.ReshapeOptionsT(newShape=shape))
    return writer.pack(build([graph], metadata={writer.ENTRY: about} if about else {}), files or {})


# The labels of each output


def test_each_output_has_its_own_labels(said: Callable[[], list[str]], label_file: Callable[..., Path]) -> None:
    metadata = metadata_of(labelled_models.two_heads())
    colour, shape = metadata.outputs
    assert colour.labels == metadata.labels == ("red", "green", "blue", "black")  # in no language, not in the first
    assert shape.labels == ("cube", "ball", "", "ring")
    mine = metadata_of(labelled_models.two_heads(), label_path=label_file("a", "b", "c", "d"))
    assert mine.labels == ("a", "b", "c", "d")
    assert [t.labels for t in mine.outputs] == [colour.labels, shape.labels]
    assert said() == []


def test_the_labels_of_a_detector_are_those_of_its_classes() -> None:
    axis = [writer.File("quality.txt", type="tensor_axis_labels")]
    value = [writer.File("notes.txt"), writer.File("kinds.txt", type="tensor_value_labels")]
    outputs = [writer.Tensor("sharp", files=axis), writer.Tensor("kind", files=value), writer.Tensor("more")]
    about = writer.metadata("m", subgraphs=[writer.Subgraph([writer.Tensor("x")], outputs)])
    files = {"quality.txt": b"good\nbad\n", "kinds.txt": b"1 car\n2 bus\n", "notes.txt": b"{"}
    metadata = metadata_of(shaped([1, 2], [1, 2], [1, 2], x=[2], files=files, about=about))
    assert metadata.labels == ("", "car", "bus")
    assert [t.labels for t in metadata.outputs] == [("good", "bad"), ("", "car", "bus"), ()]


# What exporters write


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metadata.json", '{"task": "detect", "stride": 32, "imgsz": [4, 4], "names": {"0": "cat", "2": "dog"}}'),
        ("TFLITE_ULTRALYTICS_METADATA.json", '{"names": ["cat", null, "dog"], "imgsz": [4, 4], "task": "detect"}'),
        ("temp_meta.txt", "{'task': 'detect', 'imgsz': [4, 4], 'names': {0: 'cat', 2: 'dog'}}"),
        ("meta.txt", "{'stride': 32, 'task': 'detect', 'names': ['cat', '', 'dog'], 'imgsz': (4, 4)}"),
    ],
)
@pytest.mark.parametrize("typed", [False, True])
def test_what_an_exporter_packs(file: str, content: str, typed: bool, said: Callable[[], list[str]]) -> None:
    # some give the file the type of labels, on each output, and the input the same description for every task
    files = [writer.File(file, type="tensor_axis_labels")]
    graph = writer.Subgraph(
        [writer.Tensor("image", "Input image to be classified.", image="rgb")],
        [writer.Tensor("output", files=files), writer.Tensor("protos", files=files)],
    )
    about = writer.metadata("Pets", author="me", subgraphs=[graph], files=files) if typed else b""
    metadata = metadata_of(shaped([1, 6, 8], [1, 4, 4, 3], x=[1, 4, 4, 3], files={file: content.encode()}, about=about))
    assert (metadata.labels, metadata.label(1), metadata.type) == (NAMES, "1", "tflite_detector")
    assert [t.labels for t in metadata.outputs] == [(), ()]
    assert metadata.extra["imgsz"] in ("[4, 4]", "(4, 4)")
    assert "type_guessed" not in metadata.extra
    assert metadata.extra.get("author") == ("me" if typed else None)
    assert said() == []


@pytest.mark.parametrize(
    ("task", "kind"),
    [("detect", "detector"), ("classify", "classifier"), ("segment", "segmenter"), ("pose", "pose"), ("obb", "obb")],
)
def test_the_type_is_named_alike_for_every_format(task: str, kind: str) -> None:
    odd_onnx = pytest.importorskip("odd_onnx", reason="needs the package: onnx")
    pytest.importorskip("onnxruntime", reason="needs the package: onnxruntime")
    properties = {"task": task, "stride": "32", "names": "{0: 'cat', 2: 'dog'}", "imgsz": "[4, 4]", "license": "AGPL"}
    ours = metadata_of(labelled_models.exported(str({**properties, "names": {0: "cat", 2: "dog"}, "imgsz": [4, 4]})))
    with accelerate.load(odd_onnx.with_properties(properties), backend="onnxruntime") as model:
        theirs = model.metadata()
    assert (ours.type, theirs.type) == (f"tflite_{kind}", f"onnx_{kind}")
    assert ours.labels == theirs.labels == NAMES
    assert ours.extra == properties | {"names": '{"0": "cat", "2": "dog"}'}
    assert {key: theirs.extra[key] for key in properties} == properties


def test_a_packed_label_file_goes_before_the_exporters_names(label_file: Callable[..., Path]) -> None:
    exporters = {"metadata.json": b'{"task": "classify", "names": ["a", "b", "c"]}'}
    outputs = [writer.Tensor("y", files=[writer.File("labels.txt", type="tensor_axis_labels")])]
    about = writer.metadata("m", subgraphs=[writer.Subgraph([writer.Tensor("x")], outputs)])
    model = shaped([1, 3], x=[3], files={**exporters, "labels.txt": b"x\ny\nz\n"}, about=about)
    assert metadata_of(model).labels == ("x", "y", "z")
    assert metadata_of(model, label_path=label_file("r", "s", "t")).labels == ("r", "s", "t")


def test_an_exporters_task_makes_a_picture_of_the_input(tmp_path: Path) -> None:
    small = {"metadata.json": b'{"task": "classify", "names": ["a"], "imgsz": [8, 8]}'}
    assert metadata_of(shaped([1, 64], x=[1, 8, 8, 1], files=small)).inputs[0].layout == "NHWC"
    assert metadata_of(shaped([1, 64], x=[1, 8, 8, 1])).inputs[0].layout == ""
    path = tmp_path / "m.tflite"
    path.write_bytes(shaped([1, 64], x=[1, 8, 8, 1], files=small))
    content = inspect_model(str(path))["content"]
    assert content["labels"] == {"file": "metadata.json", "count": 1}
    assert content["metadata"] == {"task": "classify", "imgsz": "[8, 8]"}
    assert (content["graphs"][0]["type"], content["graphs"][0]["inputs"][0]["layout"]) == ("tflite_classifier", "NHWC")


@pytest.mark.parametrize(
    "content",
    [
        b"{'task': 'detect', 'names': __import__('os').abort()}",
        b"{'names': ['a']}",
        b'{"license": "x"}',
        b"[1]",
        b"{" * 10_000,
        b'{"names": ["a"], "task": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"{'names': ['a'], 'stride': 0x" + b"f" * 10_000 + b"}",
        b"{'names': ['a'], 'stride': 1, 'more': '" + b"a" * (2 << 20) + b"'}",
        b"\xff\xfe",
        b"",
    ],
)  # fmt: skip
def test_hostile_files_of_exporters(content: bytes) -> None:
    metadata = metadata_of(shaped([1, 3], x=[3], files={"metadata.json": content}))
    assert metadata.labels in ((), ("a",))
    assert (metadata.type, metadata.extra.get("type_guessed")) == ("tflite_classifier", True) or metadata.labels


@given(
    names=st.dictionaries(st.integers(0, 200), st.text(min_size=1).map(str.strip).filter(bool), min_size=1),
    more=st.dictionaries(st.sampled_from(["stride", "imgsz", "batch", "channels"]), st.integers(), min_size=1),
)
def test_every_form_of_an_exporters_names(names: dict[int, str], more: dict[str, int]) -> None:
    said = {**more, "stride": 32, "names": names}
    wanted = tuple(names.get(index, "") for index in range(max(names) + 1))
    for content in (json.dumps(said), str(said), json.dumps(said, ensure_ascii=False, indent=2)):
        metadata = metadata_of(labelled_models.exported(content))
        assert metadata.labels == wanted
        assert metadata.extra.items() >= {key: str(value) for key, value in more.items() if key != "stride"}.items()


def test_a_model_may_have_many_classes() -> None:
    names = {str(index): f"class {index}" for index in range(20_000)}
    assert len(metadata_of(labelled_models.exported(json.dumps({"names": names, "task": "classify"}))).labels) == 20_000


# The number of classes


def detected(classes: int, **options: Any) -> Metadata:
    return metadata_of(labelled_models.detection(classes), **options)


def test_a_detector_says_how_many_classes_it_has() -> None:
    with accelerate.load(labelled_models.detection(3), backend="tflite_cpu") as model:
        scores = np.zeros((1, 5, 4), np.float32)
        scores[0, 1, 3] = 0.75
        found = model.infer({"boxes": np.zeros((1, 5, 4), np.float32), "scores": scores})
        assert (found["classes"][0, 0], found["scores"][0, 0]) == (2, 0.75)  # of the classes that it has, the last
        assert [t.extra.get("num_classes") for t in model.metadata().outputs] == [None, 3, None, None]


@pytest.mark.parametrize(("classes", "labels"), [(2, ("car", "bus")), (3, ("car", "", "bus")), (4, ("car", "", "bus"))])
def test_the_number_of_a_detectors_classes_settles_what_a_blank_line_is(
    classes: int, labels: tuple[str, ...], label_file: Callable[..., Path], said: Callable[[], list[str]]
) -> None:
    path = label_file("car", "", "bus")
    packed = labelled_models.detection(classes, {"kinds.txt": path.read_bytes()})
    assert detected(classes, label_path=path).labels == metadata_of(packed).labels == labels
    assert metadata_of(packed).outputs[1].labels == labels
    assert len(said()) == 3 * (classes == 4)


@pytest.mark.parametrize(
    ("model", "classes", "whose"),
    [
        (labelled_models.detection(3), {3}, "output 'classes'"),
        (labelled_models.exported(), {3}, "the model"),
        (shaped([1, 8, 4], [1, 8, 4], x=[32]), {3, 4}, "output 'y1'"),
        (shaped([1, 4, 8], [1, 4, 8], x=[32]), {3, 4}, "output 'y1'"),
        (shaped([1, 5], x=[5]), {5}, "output 'y0'"),
        (shaped([5], x=[5]), {5}, "output 'y0'"),
        (shaped([1, 5, 1, 1], x=[5]), {5}, "output 'y0'"),
        (shaped([5, 7], x=[35]), None, ""),
        (shaped([1, 6, 8], x=[48]), None, ""),
        (shaped([1, 4], [1, 4], [1, 4], x=[4]), None, ""),
        (shaped([1, 1], x=[1]), None, ""),
    ],
)  # fmt: skip
def test_a_number_of_labels_that_does_not_fit_is_said_once(
    model: bytes, classes: set[int] | None, whose: str, label_file: Callable[..., Path], said: Callable[[], list[str]]
) -> None:
    for count in range(2, 7):
        before = len(said())
        with accelerate.load(model, backend="tflite_cpu", label_path=label_file(*"abcdef"[:count])) as loaded:
            assert len(loaded.metadata().labels) == len(loaded.metadata().labels) == count
        new = said()[before:]
        if classes is None or count in classes:
            assert new == []
        else:
            (warning,) = new
            assert f"{count} labels for {' or '.join(map(str, sorted(classes)))} classes of {whose}" in warning
            assert ("'background'" in warning) == any(abs(count - n) == 1 for n in classes)


@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
        st.integers(-(2**40), 2**40) | st.floats(width=32, allow_nan=False) | st.booleans() | st.text(max_size=5),
        max_size=12,
    ),
    st.integers(0, 2**40),
)
def test_a_number_in_a_flexbuffer(options: dict[str, Any], number: int) -> None:
    data = bytes(Dumps({**options, "num_classes": number}))
    assert number_in_map(data, b"num_classes") == number
    for key, value in options.items():
        if key != "num_classes" and (type(value) is not int or value < 0):
            assert number_in_map(data, key.encode()) is None or type(value) is int
    assert number_in_map(data, b"num classes") is None
    for end in range(len(data)):
        number_in_map(data[:end], b"num_classes")


@given(st.binary(max_size=200), st.integers(0, 250), st.binary(max_size=4))
def test_any_bytes_for_a_flexbuffer(junk: bytes, place: int, patch: bytes) -> None:
    assert number_in_map(junk, b"num_classes") is None or b"num_classes\0" in junk
    data = bytes(Dumps({"max_detections": 10, "num_classes": 90, "y_scale": 10.0}))
    found = number_in_map(data[:place] + patch + data[place + len(patch) :], b"num_classes")
    assert found is None or found >= 0
