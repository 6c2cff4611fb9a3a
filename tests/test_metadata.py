"""What `Model.metadata` tells: what the model's file says, the options of `load`, and guesses that are said to be."""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_metadata_writer as writer
from ai_edge_litert import schema_py_generated as schema
from tflite_writer import Graph, build

import accelerate
from accelerate import (
    AssociatedFile,
    AssumptionWarning,
    ClosedError,
    Metadata,
    Model,
    Normalization,
    OptionError,
    Quantization,
    TensorError,
    UnsupportedModelError,
)

DATA = Path(accelerate.__file__).parent / "data"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
COLORS = b"red\ngreen\nblue\n"
PIXEL = np.array([[[[0, 100, 255]]]], np.uint8)

IMAGE = writer.Tensor("image", "A pixel to be classified.", image="rgb", mean=[127.5], std=[127.5])
SCORES = writer.Tensor("scores", "How red, green and blue.")
LABELLED = replace(SCORES, files=[writer.File("labels.txt", type="tensor_axis_labels")])


# Models built by code


def classifier(
    metadata: bytes | None = None, dtype: str = "uint8", *, channels: int = 3, second: bytes | None = None
) -> bytes:
    """Return a model that takes one pixel for an image [1, 1, 1, channels] and for the scores of as many classes."""
    graph = Graph()
    quantised: dict[str, Any] = {"uint8": {"scale": 1 / 128, "zero_point": 128}, "int8": {"scale": 1 / 128}}.get(
        dtype, {}
    )
    image = graph.tensor("raw_in", [1, 1, 1, channels], dtype, **quantised)
    scores = graph.tensor("raw_out", [1, channels], dtype, **quantised)
    graph.op("RESHAPE", [image], [scores], schema.ReshapeOptionsT(newShape=[1, channels]))
    graph.inputs, graph.outputs = [image], [scores]
    # The writer takes a name once, so the entry of a second metadata is renamed in the file.
    spare = "x" * len(writer.ENTRY)
    entries = {name: data for name, data in ((writer.ENTRY, metadata), (spare, second)) if data is not None}
    signature = ("serving_default", 0, {"pixels": image}, {"answer": scores})
    return build([graph], signatures=[signature], metadata=entries).replace(spare.encode(), writer.ENTRY.encode())


def described(
    image: writer.Tensor = IMAGE, scores: writer.Tensor = SCORES, name: str = "Colours", **more: Any
) -> bytes:
    """Return metadata for `classifier`."""
    return writer.metadata(name, subgraphs=[writer.Subgraph([image], [scores])], **more)


def labelled(labels: bytes = COLORS, **more: Any) -> bytes:
    """Return `classifier` with metadata and a packed label file."""
    return writer.pack(classifier(described(scores=LABELLED), **more), {"labels.txt": labels})


def detector(outputs: Sequence[writer.Tensor] | None = None, description: str = "") -> bytes:
    """Return a model that finds the same two boxes in every image, with metadata for its outputs if there is any."""
    graph = Graph()
    values: dict[str, Any] = {
        "boxes": [[[0.0, 0, 1, 1], [0, 0, 0.5, 0.5]]],
        "classes": [[0.0, 2]],
        "scores": [[0.5, 0.25]],
        "n": [2.0],
    }
    graph.inputs = [graph.tensor("raw_in", [1, 4, 4, 3], "uint8")]
    for name, value in values.items():
        half = graph.constant(f"half of {name}", np.float32(value) / 2)
        graph.outputs.append(graph.tensor(name, np.shape(value), "float32"))
        graph.op("ADD", [half, half], [graph.outputs[-1]], schema.AddOptionsT())
    image = writer.Tensor("image", description, image="rgb")
    subgraphs = [] if outputs is None else [writer.Subgraph([image], outputs)]
    return build([graph], metadata={writer.ENTRY: writer.metadata("Boxes", subgraphs=subgraphs)} if subgraphs else {})


def found(boxes: writer.Boxes | None) -> list[writer.Tensor]:
    """Return the description of a detector's outputs."""
    labels = writer.File("labels.txt", "The colours.", "tensor_value_labels")
    return [
        writer.Tensor("location", boxes=boxes),
        writer.Tensor("category", files=[labels]),
        writer.Tensor("score"),
        writer.Tensor("number of detections"),
    ]


def load(model: Any, **options: Any) -> Model:
    return accelerate.load(model, backend="tflite_cpu", **options)


def metadata_of(model: Any, **options: Any) -> Metadata:
    with load(model, **options) as loaded:
        return loaded.metadata()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings so far."""
    caplog.set_level(logging.WARNING, logger="accelerate")
    return lambda: [record.getMessage() for record in caplog.records]


# Names


def test_names_come_from_the_metadata_and_the_others_are_aliases() -> None:
    with load(labelled()) as model:
        metadata = model.metadata()
        image, scores = metadata.inputs[0], metadata.outputs[0]
        assert (image.name, image.aliases) == ("image", ("pixels", "raw_in"))
        assert (scores.name, scores.aliases) == ("scores", ("answer", "raw_out"))
        assert (image.description, scores.description) == ("A pixel to be classified.", "How red, green and blue.")
        for name in ("image", "pixels", "raw_in", "0"):
            assert set(model.infer({name: PIXEL})) == {"scores"}


def test_statistics_and_scores() -> None:
    scores = replace(SCORES, minimum=[0.0], maximum=[1.0], threshold=0.25, calibrated=-0.5)
    (told,) = metadata_of(classifier(described(scores=scores))).outputs
    assert told.extra["stats"] == {"min": (0.0,), "max": (1.0,)}
    assert told.extra["scoreThreshold"] == 0.25
    assert told.extra["scoreCalibration"] == {"transformation": "log", "default": -0.5}
    (silent,) = metadata_of(classifier(described())).outputs
    assert not {"stats", "scoreThreshold", "scoreCalibration"} & set(silent.extra)


def test_names_without_metadata() -> None:
    metadata = metadata_of(classifier())
    assert (metadata.inputs[0].name, metadata.inputs[0].aliases) == ("pixels", ("raw_in",))
    assert (metadata.outputs[0].name, metadata.name, metadata.description, metadata.extra) == (
        "answer", "", "", {"type_guessed": True},
    )  # fmt: skip


def test_a_tensor_that_the_metadata_leaves_nameless_keeps_its_name() -> None:
    metadata = metadata_of(classifier(described(image=writer.Tensor("", "A picture.", image="rgb"))))
    assert (metadata.inputs[0].name, metadata.inputs[0].aliases) == ("pixels", ("raw_in",))
    assert metadata.inputs[0].description == "A picture."


def test_a_name_that_the_metadata_gives_twice_is_numbered() -> None:
    boxes, category, *_ = found(writer.Boxes())
    with load(detector([boxes, category, category, category])) as model:
        names = [t.name for t in model.metadata().outputs]
        assert names == ["location", "category", "category:1", "category:2"]
        assert set(model.infer(np.zeros((4, 4, 3), np.uint8))) == set(names)
        assert model.metadata().outputs[1].aliases == ("classes",)


def test_what_the_metadata_says_stays_with_a_renamed_tensor() -> None:
    names = {"inputs": {"raw_in": "frame"}, "outputs": {"location": "boxes here", "category": "kind"}}
    metadata = metadata_of(detector(found(writer.Boxes()), "Detects."), tensor_names=names)
    assert (metadata.inputs[0].name, metadata.inputs[0].aliases) == ("frame", ("image", "raw_in"))
    assert (metadata.inputs[0].description, metadata.inputs[0].color) == ("Detects.", "RGB")
    assert (metadata.outputs[0].name, metadata.outputs[0].extra["boxOrder"]) == ("boxes here", [1, 0, 3, 2])
    assert (metadata.outputs[1].name, metadata.outputs[1].aliases) == ("kind", ("category", "classes"))


def test_the_model_says_who_made_it() -> None:
    written = described(description="Names a colour.", author="me", licence="Apache-2.0", version="v2")
    metadata = metadata_of(classifier(written))
    assert (metadata.name, metadata.description) == ("Colours", "Names a colour.")
    assert metadata.extra == {"author": "me", "license": "Apache-2.0", "version": "v2"}


# The meaning of an input


@pytest.mark.parametrize(
    ("image", "options", "wanted"),
    [
        (IMAGE, {}, Normalization((127.5,), (127.5,), "metadata")),
        (IMAGE, {"normalization": (0, 255)}, Normalization((0.0,), (255.0,), "user")),
        (IMAGE, {"normalization": {"image": ([1, 2, 3], 4)}}, Normalization((1.0, 2.0, 3.0), (4.0,), "user")),
        (writer.Tensor("image", image="rgb"), {}, Normalization((127.5,), (127.5,), "assumed")),
        (writer.Tensor("image"), {}, None),  # it is said to be something else
        (None, {}, Normalization((127.5,), (127.5,), "assumed")),
    ],
    ids=["metadata", "user", "user by name", "an image", "no image", "silent"],
)
def test_normalization_has_a_source(
    image: writer.Tensor | None,
    options: dict[str, Any],
    wanted: Normalization | None,
) -> None:
    with load(classifier(described(image) if image else None, "float32"), **options) as model:
        assert model.metadata().inputs[0].normalization == wanted
        if wanted is None:
            with pytest.raises(TensorError, match=r"array\.astype\('float32'\)"):
                model.infer(PIXEL)
            return
        assumed = pytest.warns(AssumptionWarning) if wanted.source == "assumed" else contextlib.nullcontext()
        with assumed:
            (got,) = model.infer(PIXEL).values()
        real = (PIXEL.astype(np.float64) - wanted.mean) / wanted.std
        np.testing.assert_allclose(got, real.reshape(1, 3), rtol=1e-6)


def test_a_mean_and_a_deviation_for_each_channel() -> None:
    image = writer.Tensor("image", image="rgb", mean=[123.5, 116.25, 103.5], std=[58.0, 57.0, 57.5])
    with load(classifier(described(image), "float32")) as model:
        normalization = model.metadata().inputs[0].normalization
        assert normalization == Normalization((123.5, 116.25, 103.5), (58.0, 57.0, 57.5), "metadata")
        (got,) = model.infer(PIXEL).values()
    np.testing.assert_allclose(got[0], [-123.5 / 58, -16.25 / 57, 151.5 / 57.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "layout", "color", "content"),
    [
        (writer.Tensor("image", image="rgb"), "NHWC", "RGB", "image"),
        (writer.Tensor("image", image="grayscale"), "NHWC", "GRAYSCALE", "image"),
        (writer.Tensor("image", image="unknown"), "NHWC", "", "image"),
        (writer.Tensor("image"), "", "", "feature"),
        (None, "NHWC", "", None),
    ],
)
def test_layout_and_colour(image: writer.Tensor | None, layout: str, color: str, content: str | None) -> None:
    info = metadata_of(classifier(described(image) if image else None)).inputs[0]
    assert (info.layout, info.color, info.extra.get("content")) == (layout, color, content)
    assert (info.data_type, info.shape) == ("uint8", (1, 1, 1, 3))


@pytest.mark.parametrize("metadata", [described(), None], ids=["described", "silent"])
def test_quantization_is_the_runtimes(metadata: bytes | None) -> None:
    for dtype, wanted in (
        ("uint8", Quantization((1 / 128,), (128,), None)),
        ("int8", Quantization((1 / 128,), (0,), None)),
        ("float32", None),
    ):
        tensors = metadata_of(classifier(metadata, dtype))
        assert tensors.inputs[0].quantization == tensors.outputs[0].quantization == wanted


# Labels


def test_labels_packed_in_the_model(said: Callable[[], list[str]]) -> None:
    metadata = metadata_of(labelled(b"\xef\xbb\xbfred\r\n\r\n gr\xc3\xbcn \r\nblue"))
    assert metadata.labels == ("red", "grün", "blue")
    assert metadata.outputs[0].associated_files == (AssociatedFile("labels.txt", "", "tensor_axis"),)
    assert "labels" not in metadata.outputs[0].extra
    assert [metadata.label(i) for i in (0, 2, 3)] == ["red", "blue", "3"]
    assert said() == []


def test_without_labels_a_class_reads_as_its_index() -> None:
    for model in (classifier(), classifier(described())):
        metadata = metadata_of(model)
        assert metadata.labels == ()
        assert metadata.label(7) == "7"


@pytest.mark.parametrize("kind", [str, Path])
def test_label_path_goes_before_the_packed_labels(kind: type[str | Path], tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("Rot, Grün, Blau", encoding="utf-8")
    metadata = metadata_of(labelled(), label_path=kind(mine))
    assert metadata.labels == ("Rot", "Grün", "Blau")
    assert metadata.outputs[0].extra["labels"] == str(mine)


def test_the_path_of_the_labels_is_on_every_output_beside_the_rest(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_bytes(COLORS)
    for model, orders in (
        (detector(found(writer.Boxes())), [[1, 0, 3, 2], None, None, None]),
        (detector(), [None] * 4),
    ):
        metadata = metadata_of(model, label_path=mine)
        assert [t.extra["labels"] for t in metadata.outputs] == [str(mine)] * 4
        assert [t.extra.get("boxOrder") for t in metadata.outputs] == orders
        assert "labels" not in metadata.inputs[0].extra
        assert metadata.labels == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory; check the path"),
        (b"red\ngr\xfcn\n", r"byte 6 \(line 2\) is not UTF-8: 0xfc"),
        (b"", "has no labels"),
        (b" \r\n\n", "has no labels"),
        (b"\n" * 10_000_000, "more than 500000 entries"),
        (b"a\n" * 10_000_000, "may have 16 MiB"),
    ],
    ids=["missing", "not UTF-8", "empty", "blank", "ten million blank lines", "ten million lines"],
)
def test_a_bad_label_file_is_an_error_at_once(content: bytes | None, message: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    if content is not None:
        mine.write_bytes(content)
    with pytest.raises(OptionError, match=rf"label_path='.*mine\.txt': .*{message}"):
        load(labelled(), label_path=mine)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (b"red\ngreen\n", "2 labels for 3 classes of output 'scores': from the first missing one on"),
        (b"background\n" + COLORS, "4 labels for 3 classes of output 'scores'"),
        (COLORS * 4, "12 labels for 3 classes of output 'scores'"),
        (COLORS, None),
    ],
)
def test_the_number_of_labels_is_checked_once(
    labels: bytes, message: str | None, tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_bytes(labels)
    for done, (model, options) in enumerate([(labelled(labels), {}), (labelled(), {"label_path": mine})]):
        with load(model, **options) as loaded:
            loaded.infer(PIXEL)
            loaded.infer(PIXEL)
            assert len(said()) == done * (message is not None)
            assert loaded.metadata() is loaded.metadata()
            loaded.infer(PIXEL)
        assert len(said()) == (done + 1) * (message is not None)
    if message:
        assert all(message in warning for warning in said())
        assert all(("'background'" in warning) == (len(labels) < 35) for warning in said())


def test_too_few_labels_name_the_models_own(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"cat\ndog\n")
    with load(labelled(COLORS), label_path=mine) as loaded:
        loaded.metadata()
    (warning,) = said()
    assert "names before it may be those of other classes" in warning
    assert "the model has 3 labels of its own, which hold where none are given" in warning


def test_a_detector_may_have_more_labels_than_boxes(said: Callable[[], list[str]]) -> None:
    assert metadata_of(writer.pack(detector(found(writer.Boxes())), {"labels.txt": COLORS})).labels[2] == "blue"
    assert said() == []


# Detectors and types


@pytest.mark.parametrize(
    ("boxes", "extra"),
    [
        (writer.Boxes(), {"boxOrder": [1, 0, 3, 2], "boxType": "boundaries", "boxCoordinates": "ratio"}),
        (
            writer.Boxes((0, 1, 2, 3), "center", "pixel"),
            {"boxOrder": [0, 1, 2, 3], "boxType": "center", "boxCoordinates": "pixel"},
        ),
        (writer.Boxes((), "upper_left"), {"boxOrder": [0, 1, 2, 3], "boxType": "upper_left"}),
        (None, {}),
    ],
)
def test_the_order_of_a_box(boxes: writer.Boxes | None, extra: Mapping[str, Any]) -> None:
    location, category, *_ = metadata_of(detector(found(boxes))).outputs
    assert extra.items() <= location.extra.items()
    assert "boxOrder" not in category.extra
    assert ("boxOrder" in location.extra) == (boxes is not None)
    assert category.associated_files == (AssociatedFile("labels.txt", "The colours.", "tensor_value"),)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (detector(found(writer.Boxes()), "The picture to be classified."), "tflite_classifier"),  # as Viam reads it
        (detector(found(writer.Boxes()), "Where to detect."), "tflite_detector"),
        (detector(found(writer.Boxes()), "A picture."), "tflite_detector"),
        (classifier(described()), "tflite_classifier"),
        (classifier(described(writer.Tensor("image"), description="Classifies.")), "tflite_classifier"),
    ],
)
def test_the_type_that_the_metadata_tells(model: bytes, wanted: str) -> None:
    metadata = metadata_of(model)
    assert metadata.type == wanted
    assert "type_guessed" not in metadata.extra
    assert "guessed" not in str(metadata)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (detector(), "tflite_detector"),
        (detector(found(None), "A picture."), "tflite_detector"),
        (classifier(), "tflite_classifier"),
        (classifier(described(writer.Tensor("x"))), "tflite_classifier"),
        (classifier(described(writer.Tensor("image"), name="Colour detector")), "tflite_classifier"),
    ],
)
def test_a_guessed_type_is_said_to_be_one(model: bytes, wanted: str) -> None:
    metadata = metadata_of(model)
    assert (metadata.type, metadata.extra["type_guessed"]) == (wanted, True)
    assert f"{wanted} (guessed)" in str(metadata)


def test_no_type_where_nothing_tells() -> None:
    metadata = metadata_of(classifier(channels=1))
    assert metadata.type == ""
    assert "type_guessed" not in metadata.extra


# Broken and hostile metadata: the model runs, and one warning says what is lost


def broken_archive() -> bytes:
    """Return a model whose directory of packed files is damaged."""
    data = bytearray(labelled())
    data[data.rindex(b"PK\1\2")] = 0
    return bytes(data)


def broken_description() -> bytes:
    """Return a model with metadata of which all but the names of the tensors is damaged."""
    mark = "y" * 32
    data = bytearray(classifier(described(description=mark)))
    struct.pack_into("<I", data, data.index(mark.encode()) - 4, 0x7FFFFFFF)
    return bytes(data)


def for_tensors(inputs: int, outputs: int) -> bytes:
    """Return `classifier` with metadata for so many tensors, and labels."""
    subgraph = writer.Subgraph([IMAGE] * inputs, [LABELLED] * outputs)
    return writer.pack(classifier(writer.metadata("Odd", subgraphs=[subgraph])), {"labels.txt": COLORS})


# What is wrong: the model, the names that its tensors go by, its labels, and the warning.
BROKEN = {
    "more inputs": (for_tensors(2, 1), "pixels", "scores", 3, "describes 2 inputs, but the model has 1"),
    "more outputs": (for_tensors(1, 3), "image", "answer", 0, "describes 3 outputs, but the model has 1"),
    "no outputs": (for_tensors(1, 0), "image", "answer", 0, None),
    "other tensors": (for_tensors(4, 5), "pixels", "answer", 0, "4 inputs, but the model has 1 and 5 outputs"),
    "two buffers": (
        classifier(described(), second=described(writer.Tensor("other"))),
        "image", "scores", 0, "there are 2 of it; the first is used",
    ),
    "no identifier": (
        classifier(described(identifier=b"\0\0\0\0")), "pixels", "answer", 0, "should have the file identifier b'M001'",
    ),
    "cut short": (classifier(described()[:60]), "pixels", "answer", 0, "TFLite metadata"),
    "empty": (classifier(b""), "pixels", "answer", 0, "TFLite metadata"),
    "damaged past the names": (broken_description(), "image", "scores", 0, "TFLite metadata"),
    "no packed file": (classifier(described(scores=LABELLED)), "image", "scores", 0, "no file 'labels.txt' is packed"),
    "a broken archive": (broken_archive(), "image", "scores", 0, "archive of packed files behind the model is damaged"),
    "a zip bomb": (labelled(bytes(20 << 20)), "image", "scores", 0, "has 20971520 bytes; at most 4194304 are read"),
    "labels not UTF-8": (labelled(b"red\n\xff\n"), "image", "scores", 0, r"byte 4 (line 2) is not UTF-8: 0xff"),
    "too many labels": (labelled(b"\n" * 4_000_000), "image", "scores", 0, "has more than 500000 entries"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_metadata_costs_one_warning_and_no_answer(case: str, said: Callable[[], list[str]]) -> None:
    model, image, scores, labels, warning = BROKEN[case]
    with load(model) as loaded:
        answer = loaded.infer({"raw_in": PIXEL})
        metadata = loaded.metadata()
        assert loaded.infer(PIXEL).keys() == answer.keys() == {scores}
    np.testing.assert_array_equal(answer[scores], PIXEL.reshape(1, 3))
    assert ([t.name for t in metadata.inputs], [t.name for t in metadata.outputs]) == ([image], [scores])
    assert len(metadata.labels) == labels
    assert len(said()) == (warning is not None), said()
    assert all(str(warning) in line for line in said())


def test_what_a_newer_schema_added_is_left_out_quietly(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    later = ["later"] * 99
    for name in ("FILE_TYPES", "COLOR_SPACES", "BOX_TYPES", "COORDINATE_TYPES"):
        monkeypatch.setattr(writer, name, [*getattr(writer, name), *later])
    monkeypatch.setattr(writer, "NORMALIZATION_UNIT", 99)
    boxes, _, *others = found(writer.Boxes((1, 0, 3, 2), "later", "later"))
    category = writer.Tensor("category", files=[writer.File("labels.txt", type="later")])
    metadata = metadata_of(writer.pack(detector([boxes, category, *others]), {"labels.txt": COLORS}))
    assert [t.name for t in metadata.outputs] == ["location", "category", "score", "number of detections"]
    assert metadata.outputs[0].extra["boxOrder"] == [1, 0, 3, 2]
    assert metadata.outputs[0].extra["boxType"] == "unknown(4)"
    assert metadata.outputs[1].associated_files == (AssociatedFile("labels.txt", "", "unspecified"),)
    assert metadata.labels == ()
    image = writer.Tensor("image", image="later", mean=[1], std=[2])
    info = metadata_of(classifier(described(image))).inputs[0]
    assert (info.name, info.layout, info.color, info.normalization) == ("image", "NHWC", "", None)
    assert said() == []


@pytest.mark.parametrize("absolute", [False, True])
def test_no_path_from_inside_the_model_is_followed(
    absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    outside, inside = tmp_path / "labels.txt", tmp_path / "models"
    outside.write_bytes(b"a\nsecret\nfile\n")
    inside.mkdir()
    monkeypatch.chdir(inside)
    name = str(outside) if absolute else "../labels.txt"
    scores = writer.Tensor("scores", files=[writer.File(name, type="tensor_axis_labels")])
    silent = inside / "silent.tflite"
    silent.write_bytes(classifier(described(scores=scores)))
    assert metadata_of(silent).labels == ()
    assert len(said()) == 1
    assert f"no file {name!r} is packed into the model" in said()[0]
    assert metadata_of(writer.pack(silent.read_bytes(), {name: COLORS})).labels == ("red", "green", "blue")
    assert len(said()) == 1
    assert outside.read_bytes() == b"a\nsecret\nfile\n"
    assert [path.name for path in inside.iterdir()] == ["silent.tflite"]


# When it is read


def test_nothing_but_the_names_is_read_before_it_is_asked_for(said: Callable[[], list[str]]) -> None:
    for model in (broken_archive(), broken_description(), labelled(b"\xff")):
        before = len(said())
        with load(model) as loaded:
            loaded.infer({"image": PIXEL})
            with loaded.bind() as binding:
                binding.run()
            loaded.warmup()
            assert len(said()) == before
            loaded.metadata()
            assert len(said()) == before + 1


def test_a_conversion_reads_what_it_needs_and_warns_no_second_time(said: Callable[[], list[str]]) -> None:
    with load(labelled(b"\xff", dtype="float32")) as loaded:
        (scores,) = loaded.infer(PIXEL).values()
        np.testing.assert_allclose(scores, (PIXEL.reshape(1, 3) - 127.5) / 127.5, rtol=1e-6)
        loaded.infer(PIXEL)
        loaded.metadata()
    assert len(said()) == 1


def test_metadata_is_there_when_the_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(labelled())
    with load(path) as loaded:
        path.unlink()
        assert loaded.metadata().labels == ("red", "green", "blue")


def test_a_small_file_that_is_written_to_after_the_load(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(labelled())
    with load(path) as loaded:
        with path.open("r+b") as file:  # in place, as `cp` does; a mapped page that is gone would end the process
            file.truncate()
            file.write(b"TFL3" * 10)
        assert loaded.metadata().labels == ("red", "green", "blue")


def test_a_large_file_that_is_written_to_after_the_load(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(labelled() + bytes(17 << 20))
    with load(path) as loaded:
        with path.open("r+b") as file:
            file.truncate(1 << 20)
        with pytest.raises(accelerate.ModelError, match=r"was written to after it was loaded.*load it again"):
            loaded.metadata()


def test_many_threads_get_one_whole_object(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    count, labels = 16, tmp_path / "labels.txt"
    labels.write_bytes(b"red\ngreen\n")
    for _ in range(20):
        got: list[Metadata] = []
        before, barrier = len(said()), threading.Barrier(count)

        def ask(model: Model, barrier: threading.Barrier, got: list[Metadata]) -> None:
            barrier.wait()
            got.append(model.metadata())

        with load(labelled(), label_path=labels) as model:
            threads = [threading.Thread(target=ask, args=(model, barrier, got)) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(got) == count
        assert {id(metadata) for metadata in got} == {id(got[0])}
        assert (got[0].name, got[0].labels, got[0].inputs[0].color) == ("Colours", ("red", "green"), "RGB")
        assert got[0].outputs[0].extra["labels"] == str(labels)
        assert len(said()) == before + 1


def test_after_close() -> None:
    model = load(labelled())
    model.metadata()
    model.close()
    with pytest.raises(ClosedError):
        model.metadata()


# What it looks like


def test_it_reads_well_in_print() -> None:
    lines = str(metadata_of(labelled(b"a\nb\nc\nd\ne\nf\n"))).splitlines()
    assert lines == [
        "Colours · tflite_classifier",
        "  in   image: uint8[1, 1, 1, 3]  image NHWC RGB  scale 0.0078125 zero_point 128  "
        "(pixel - 127.5) / 127.5 [metadata]  also 'pixels', 'raw_in'",
        "  out  scores: uint8[1, 3]  scale 0.0078125 zero_point 128  also 'answer', 'raw_out'",
        "  6 labels: a | b | c | d | e | ...",
    ]
    assert str(metadata_of(classifier(dtype="float32"))).splitlines() == [
        "tflite_classifier (guessed)",
        "  in   pixels: float32[1, 1, 1, 3]  image NHWC  (pixel - 127.5) / 127.5 [assumed]  also 'raw_in'",
        "  out  answer: float32[1, 3]  also 'raw_out'",
    ]


# The project's own models and real ones


@pytest.mark.parametrize(
    ("form", "dtype", "scale", "zero_points"),
    [("float", "float32", None, None), ("uint8", "uint8", 2 / 255, (128, 0)), ("int8", "int8", 2 / 255, (0, -128))],
)
def test_the_projects_own_models(
    form: str, dtype: str, scale: float | None, zero_points: tuple[int, int] | None, said: Callable[[], list[str]]
) -> None:
    with load(DATA / f"digits_{form}.tflite") as model:
        metadata = model.metadata()
        flat = np.linspace(0, 255, 64).astype(np.uint8)
        scores = model.infer(flat, dequantize=True)["scores"]
    image, output = metadata.inputs[0], metadata.outputs[0]
    assert (metadata.name, metadata.type) == ("Digits", "tflite_classifier")
    assert metadata.extra == {
        "author": "The edge-accelerate authors", "license": "Apache License 2.0", "version": "1",
    }  # fmt: skip
    assert metadata.labels == tuple(DIGITS)
    assert (image.name, image.aliases, image.data_type, image.shape) == ("image", (), dtype, (1, 8, 8, 1))
    assert (image.layout, image.color) == ("NHWC", "GRAYSCALE")
    assert image.description.endswith("to be classified.")
    assert image.normalization == Normalization((127.5,), (127.5,), "metadata")
    assert (output.name, output.aliases, output.data_type, output.shape) == ("scores", (), dtype, (1, 10))
    assert output.description
    assert [(f.name, f.label_type) for f in output.associated_files] == [("labels.txt", "tensor_axis")]
    if scale is None or zero_points is None:
        assert image.quantization is output.quantization is None
    else:
        assert image.quantization == Quantization((float(np.float32(scale)),), (zero_points[0],), None)
        assert output.quantization == Quantization((1 / 256,), (zero_points[1],), None)
    assert scores.sum() == pytest.approx(1, abs=0.04)
    assert said() == []


@pytest.mark.parametrize("form", ["uint8", "int8"])
def test_the_forms_of_the_projects_own_model_agree(form: str) -> None:
    frames = np.random.default_rng(4).integers(0, 256, (50, 8, 8), np.uint8)
    with load(DATA / "digits_float.tflite") as exact, load(DATA / f"digits_{form}.tflite") as model:
        wanted = np.stack([exact.infer(frame.ravel())["scores"] for frame in frames])
        got = np.stack([model.infer(frame.ravel(), dequantize=True)["scores"] for frame in frames])
    assert np.abs(got - wanted).mean() < 0.02
    assert (got.argmax(-1) == wanted.argmax(-1)).mean() > 0.8


def test_the_onnx_twin() -> None:
    onnx = pytest.importorskip("onnx", reason="needs the package: onnx")
    runtime = pytest.importorskip("onnxruntime", reason="needs the package: onnxruntime")
    path = DATA / "digits.onnx"
    twin = onnx.load(path)
    onnx.checker.check_model(twin, full_check=True)
    assert (twin.ir_version, [(entry.domain, entry.version) for entry in twin.opset_import]) == (8, [("", 13)])
    said = {entry.key: entry.value for entry in twin.metadata_props}
    assert said["names"] == str(dict(enumerate(DIGITS)))
    assert (said["task"], said["stride"]) == ("classify", "1")
    frames = np.random.default_rng(5).integers(0, 256, (20, 8, 8, 1), np.uint8)
    batch = ((np.moveaxis(frames, -1, 1) - 127.5) / 127.5).astype(np.float32)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (got,) = session.run(["scores"], {"image": batch})
    with load(DATA / "digits_float.tflite") as model:
        metadata = model.metadata()
        wanted = np.concatenate([model.infer(frame)["scores"] for frame in frames])
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert twin.doc_string == metadata.description
    assert twin.graph.input[0].doc_string == metadata.inputs[0].description
    assert twin.graph.output[0].doc_string == metadata.outputs[0].description
    assert metadata.extra.items() <= said.items()


DETECTIONS = [f"TFLite_Detection_PostProcess{number}" for number in ("", ":1", ":2", ":3")]
PLAIN = ("", "", 0, False)
# The names of inputs and outputs; type, first label, number of labels, and whether the type is guessed.
REAL: dict[str, tuple[list[str], list[str], tuple[str, str, int, bool]]] = {
    "mobilenet_v1_0.25_128_quant": (["image"], ["probability"], ("tflite_classifier", "background", 1001, False)),
    "mobilenet_v1_0.25_224_float_metadata": (
        ["image"], ["probability"], ("tflite_classifier", "background", 1001, False),
    ),
    "mobilenet_v2_1.0_224_quant": (["image"], ["probability"], ("tflite_classifier", "background", 1001, False)),
    "coco_ssd_mobilenet_v1_1.0_quant": (
        ["image"],
        ["locations", "classes", "scores", "number of detections"],
        ("tflite_detector", "person", 90, False),
    ),
    "coco_ssd_mobilenet_v1_1.0_quant_no_metadata": (
        ["normalized_input_image_tensor"], DETECTIONS, ("tflite_detector", "", 0, True),
    ),
    "vww_96_int8": (["input_1_int8"], ["Identity_int8"], ("tflite_classifier", "", 0, True)),
    "vww_96_float": (["input_1"], ["Identity"], ("tflite_classifier", "", 0, True)),
    "yolox_nano_float16_quantize": (["images"], ["output"], ("", "", 0, False)),
    "yolox_nano_int8_quantize": (["images"], ["output"], ("", "", 0, False)),
    "add_10x10": (["a", "b"], ["Identity"], PLAIN),
    "multi_signature_model": (["b", "a"], ["output"], PLAIN),
    "simple_add_dynamic_shape": (["arg0", "arg1"], ["tfl.add"], PLAIN),
    "gather_string": (["input", "indices"], ["output"], PLAIN),
}  # fmt: skip


def test_every_real_model_that_runs_on_the_cpu_is_listed_here(models_dir: Path) -> None:
    for path in sorted(models_dir.glob("*.tflite")):
        if path.stem not in REAL:
            with pytest.raises(UnsupportedModelError):
                load(path)


@pytest.mark.parametrize("name", REAL)
def test_real_models(models_dir: Path, name: str, said: Callable[[], list[str]]) -> None:
    inputs, outputs, (kind, label, count, guessed) = REAL[name]
    with load(models_dir / f"{name}.tflite") as model:
        metadata = model.metadata()
    assert ([t.name for t in metadata.inputs], [t.name for t in metadata.outputs]) == (inputs, outputs)
    assert (metadata.type, metadata.extra.get("type_guessed", False)) == (kind, guessed)
    assert (metadata.labels[0] if metadata.labels else "", len(metadata.labels)) == (label, count)
    for tensor in metadata.inputs:
        assert tensor.layout == ("NCHW" if "yolox" in name else "NHWC" if kind else "")
        assert tensor.color == ("RGB" if count else "")
        source = "metadata" if count else "assumed" if name.startswith(("vww_96_float", "yolox")) else None
        normalization = source and Normalization((127.5,), (127.5,), source)
        assert tensor.normalization == (normalization or None)
    orders = [t.extra.get("boxOrder") for t in metadata.outputs]
    assert orders == [[1, 0, 3, 2] if t.name == "locations" else None for t in metadata.outputs]
    assert said() == []


def test_quantization_of_real_models(models_dir: Path) -> None:
    for name, image, scores in (
        ("mobilenet_v1_0.25_128_quant", (1 / 128, 128), (1 / 256, 0)),
        ("vww_96_int8", (float(np.float32(1 / 255)), -128), (1 / 256, -128)),
    ):
        metadata = metadata_of(models_dir / f"{name}.tflite")
        for tensor, (scale, zero_point) in ((metadata.inputs[0], image), (metadata.outputs[0], scores)):
            assert tensor.quantization == Quantization((scale,), (zero_point,), None)


def test_label_files_of_real_models(models_dir: Path) -> None:
    detector_file = models_dir / "coco_ssd_mobilenet_v1_1.0_quant.tflite"
    labels = metadata_of(detector_file, label_path=models_dir / "coco_labels.txt").labels
    assert (len(labels), labels[0], labels[11]) == (90, "person", "n/a")
    classifier_file = models_dir / "mobilenet_v2_1.0_224_quant.tflite"
    labels = metadata_of(classifier_file, label_path=models_dir / "imagenet_labels.txt").labels
    assert labels[0] == "background"
    assert labels == metadata_of(classifier_file).labels


# Metadata that reads well and means nothing


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.0], [0.0]), ([float("nan")], [1.0]), ([1.0], [float("inf")]), ([1.0], [])],
    ids=["std 0", "mean NaN", "std infinite", "no std"],
)
def test_a_normalization_that_cannot_be(mean: list[float], std: list[float], said: Callable[[], list[str]]) -> None:
    image = writer.Tensor("image", image="rgb", mean=mean, std=std)
    with load(classifier(described(image), "float32")) as model:
        normalization = model.metadata().inputs[0].normalization
        assert normalization == Normalization((127.5,), (127.5,), "assumed")
        assert len(said()) == 1
        assert "which cannot be" in said()[0]
        with pytest.warns(AssumptionWarning):
            assert np.isfinite(model.infer(PIXEL)["scores"]).all()


@pytest.mark.parametrize("index", [(7, 9, 1, 0), (0, 0, 1, 2), (1, 0)])
def test_an_order_of_a_box_that_cannot_be(index: tuple[int, ...], said: Callable[[], list[str]]) -> None:
    metadata = metadata_of(writer.pack(detector(found(writer.Boxes(index))), {"labels.txt": COLORS}))
    assert "boxOrder" not in metadata.outputs[0].extra
    assert len(said()) == 1


def test_an_image_that_has_no_room_for_channels() -> None:
    graph = Graph()
    graph.inputs, graph.outputs = [graph.tensor("x", [3], "float32")], [graph.tensor("y", [3], "float32")]
    graph.op("ADD", [0, 0], [1], schema.AddOptionsT())
    with load(build([graph], metadata={writer.ENTRY: described()})) as model:
        assert model.metadata().inputs[0].layout == ""
        with pytest.raises(TensorError):
            model.infer(np.zeros(3, np.uint8))


def test_two_things_wrong_are_two_warnings(said: Callable[[], list[str]]) -> None:
    mark = "y" * 32
    data = bytearray(classifier(described(description=mark), second=described()))
    struct.pack_into("<I", data, data.index(mark.encode()) - 4, 0x7FFFFFFF)
    metadata = metadata_of(bytes(data))
    assert (metadata.name, metadata.inputs[0].name) == ("", "image")
    assert len(said()) == 2
    assert "there are 2 of it" in said()[0]


def test_text_of_the_file_cannot_steer_a_terminal() -> None:
    metadata = described(scores=LABELLED, name="\x1b[2Jhi\nfake line")
    text = str(metadata_of(writer.pack(classifier(metadata), {"labels.txt": b"\x1b]0;x\x07a\nb\nc"})))
    assert len(text.splitlines()) == 4
    assert all(line.isprintable() for line in text.splitlines())
    assert text.startswith(r"\x1b[2Jhi\nfake line")


def test_a_label_path_that_is_no_path() -> None:
    wrong: Any = 5
    with pytest.raises(OptionError, match="label_path is 5"):
        load(labelled(), label_path=wrong)


def test_surplus_labels_are_said_to_be_surplus(said: Callable[[], list[str]]) -> None:
    metadata_of(labelled(COLORS * 2))
    assert "those beyond the last class are never used" in said()[0]
