"""What a .tflite file says about itself: real models, models built by code, and hostile ones."""

from __future__ import annotations

import contextlib
import io
import mmap
import random
import struct
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import flatbuffers
import pytest
import tflite_metadata_writer as writer
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_writer import Graph, build

from accelerate.errors import ModelError
from accelerate.formats.labels import read_labels
from accelerate.formats.tflite import assumptions as conventions
from accelerate.formats.tflite import file as tflite
from accelerate.formats.tflite import packed
from accelerate.formats.tflite import schema_names as tflite_names
from accelerate.formats.tflite.file import LabelsReading, ModelFile
from accelerate.metadata import LabelFile, Quantization, TensorInfo

MEMORY_LIMIT = 64 << 20

LABELS = b"cat\ndog\nfish\n"


def graph(inputs: int = 1, outputs: int = 1) -> Graph:
    """Return a graph with that many inputs and outputs, doubling its first input."""
    result = Graph()
    result.inputs = [result.tensor(f"x{i}", [-1, 3], "float32") for i in range(inputs)]
    result.outputs = [result.tensor(f"y{i}", [1, 3], "uint8", scale=0.5, zero_point=3) for i in range(outputs)]
    result.op("ADD", [0, 0], [inputs], schema.AddOptionsT())
    return result


def described() -> bytes:
    """Return metadata that uses all that the writer knows, for one input and two outputs."""
    image = writer.Tensor(
        "image", "To be classified.", image="rgb", mean=[127.5], std=[128.0], minimum=[-1], maximum=[1]
    )
    boxes = writer.Tensor("location", boxes=writer.Boxes())
    files = [writer.File("labels.txt", "The classes.", "tensor_axis_labels", "en")]
    scores = writer.Tensor("probability", files=files)
    return writer.metadata(
        "Pets",
        description="Tells pets.",
        version="v2",
        author="me",
        licence="Apache-2.0",
        subgraphs=[writer.Subgraph([image], [boxes, scores])],
    )


def model(metadata: bytes | None = None, inputs: int = 1, outputs: int = 2) -> bytes:
    """Return a model with such metadata."""
    return build([graph(inputs, outputs)], metadata={} if metadata is None else {writer.ENTRY: metadata})


def whole() -> bytes:
    """Return a model with metadata and packed files."""
    return writer.pack(model(described()), {"labels.txt": LABELS, "readme.txt": b"Pets." * 100})


def archive(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a model with such files packed behind it."""
    buffer = io.BytesIO(model())
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", method) as file:
        for name, content in entries:
            file.writestr(name, content)
    return buffer.getvalue()


@contextlib.contextmanager
def memory_watched() -> Iterator[None]:
    """Assert that a block takes less memory than the limit, as Python counts it."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_LIMIT, f"{peak >> 20} MiB"


def read_everything(data: bytes) -> str:
    """Read all there is to read of a file, and return the problem of its metadata."""
    file = ModelFile(data)
    reading = file.metadata
    names = file.metadata_names()
    assert isinstance(names.problem, str)
    assert isinstance(reading.problem, str)
    assert all(isinstance(labels.problem, str) for labels in file.packed_labels())
    assert isinstance(file.exported.problem, str)
    for part in ("version", "description", "operators", "custom_operators", "subgraphs", "signatures"):
        getattr(file, part)
    for name in file.packed.names:
        read_labels(file.packed.read(name), name)
    return reading.problem


# Real models


REAL = {
    "coco_ssd_mobilenet_v1_1.0_quant.tflite": (
        "Coco SSD MobileNetV1",
        ("image",),
        ("locations", "classes", "scores", "number of detections"),
        {"labelmap.txt": 90},
    ),
    "mobilenet_v1_0.25_128_quant.tflite": (
        "ImageClassifier",
        ("image",),
        ("probability",),
        {"imagenet_labels.txt": 1001},
    ),
    "mobilenet_v1_0.25_128_quant_edgetpu.tflite": (
        "ImageClassifier",
        ("image",),
        ("probability",),
        {"imagenet_labels.txt": 1001},
    ),
    "mobilenet_v1_0.25_224_float_metadata.tflite": (
        "MobileNetV1 image classifier",
        ("image",),
        ("probability",),
        {"labels.txt": 1001},
    ),
    "mobilenet_v2_1.0_224_quant.tflite": (
        "ImageClassifier",
        ("image",),
        ("probability",),
        {"imagenet_labels.txt": 1001},
    ),
    "add_10x10.tflite": (None, ("", ""), ("",), {}),
    "coco_ssd_mobilenet_v1_1.0_quant_no_metadata.tflite": (None, ("",), ("", "", "", ""), {}),
    "gather_string.tflite": (None, ("", ""), ("",), {}),
    "model_invoking_error.tflite": (None, ("",), ("",), {}),
    "multi_signature_model.tflite": (None, ("", ""), ("",), {}),
    "posenet_custom_op.tflite": (None, ("",), ("", "", "", ""), {}),
    "simple_add_dynamic_shape.tflite": (None, ("", ""), ("",), {}),
    "vww_96_float.tflite": (None, ("",), ("",), {}),
    "yolox_nano_float16_quantize.tflite": (None, ("",), ("",), {}),
    "yolox_nano_int8_quantize.tflite": (None, ("",), ("",), {}),
    "vww_96_int8.tflite": (None, ("",), ("",), {}),
}


def test_every_real_model_is_listed_here(models_dir: Path) -> None:
    assert {path.name for path in models_dir.glob("*.tflite")} == set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_real_names_files_and_labels(models_dir: Path, name: str) -> None:
    title, inputs, outputs, labels = REAL[name]
    file = ModelFile((models_dir / name).read_bytes(), name)
    names, reading = file.metadata_names(), file.metadata
    assert (names.inputs, names.outputs, names.problem, reading.problem) == (inputs, outputs, "", "")
    assert (reading.metadata.name if reading.metadata else None) == title
    assert {n: len(read_labels(file.packed.read(n), n).labels()) for n in file.packed.names} == labels
    if reading.metadata:
        graph = reading.metadata.subgraphs[0]
        assert graph.inputs[0].normalization == ((127.5,), (127.5,))
        assert graph.inputs[0].color_space == "rgb"
        assert [one.file for one in file.packed_labels() if one.file] == list(labels)


@pytest.mark.parametrize("name", REAL)
def test_real_models_read_as_the_schema_package_reads_them(models_dir: Path, name: str) -> None:
    data = (models_dir / name).read_bytes()
    ours, theirs = ModelFile(data), schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    assert ours.description == theirs.description.decode()
    assert sum(ours.operators.values()) == sum(len(graph.operators) for graph in theirs.subgraphs)
    for mine, other in zip(ours.subgraphs, theirs.subgraphs, strict=True):
        for tensors, indices in ((mine.inputs, other.inputs), (mine.outputs, other.outputs)):
            assert [tensor.index for tensor in tensors] == list(indices)
            for tensor in tensors:
                wanted = other.tensors[tensor.index]
                assert tensor.name == (wanted.name or b"").decode()
                signature = [] if wanted.shapeSignature is None else wanted.shapeSignature
                shape = [] if wanted.shape is None else wanted.shape
                assert list(tensor.shape) == list(signature if len(signature) else shape)
                if tensor.quantization:
                    assert list(tensor.quantization.scale) == [float(s) for s in wanted.quantization.scale]
                    assert list(tensor.quantization.zero_point) == list(wanted.quantization.zeroPoint)


def test_real_detector(models_dir: Path) -> None:
    file = ModelFile((models_dir / "coco_ssd_mobilenet_v1_1.0_quant.tflite").read_bytes())
    metadata = file.metadata.metadata
    assert metadata is not None
    assert (metadata.version, metadata.author) == ("v1", "TensorFlow")
    assert metadata.license.startswith("Apache License. Version 2.0")
    locations, classes, *_ = metadata.subgraphs[0].outputs
    assert locations.bounding_box is not None
    assert locations.bounding_box.index == (1, 0, 3, 2)
    assert (locations.bounding_box.type, locations.bounding_box.coordinate_type) == ("boundaries", "ratio")
    assert locations.content == "bounding_box"
    assert classes.files[0].type == "tensor_value_labels"
    labels = read_labels(file.packed.read("labelmap.txt"), "labelmap.txt").labels()
    assert (labels[0], labels[11], labels[89]) == ("person", "???", "toothbrush")
    image = metadata.subgraphs[0].inputs[0]
    assert (image.stats_min, image.stats_max) == ((0.0,), (255.0,))
    assert file.operators["CONV_2D"] == 34
    assert file.custom_operators == ("TFLite_Detection_PostProcess",)


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("mobilenet_v1_0.25_128_quant_edgetpu.tflite", ("edgetpu-custom-op",)),
        ("posenet_custom_op.tflite", ("PosenetDecoderOp",)),
        ("model_invoking_error.tflite", ("fake-op-double",)),
        ("mobilenet_v2_1.0_224_quant.tflite", ()),
    ],
)
def test_real_custom_operators(models_dir: Path, name: str, operators: tuple[str, ...]) -> None:
    assert ModelFile((models_dir / name).read_bytes()).custom_operators == operators


def test_real_signatures(models_dir: Path) -> None:
    file = ModelFile((models_dir / "multi_signature_model.tflite").read_bytes())
    assert [(s.key, s.subgraph) for s in file.signatures] == [("add", 0), ("mul", 1), ("sub", 2)]
    assert file.signatures[0].inputs == {"a": 1, "b": 0}
    assert file.signatures[0].outputs == {"output": 2}
    assert file.subgraphs[0].inputs[0].index == 0


def test_an_mmap_can_be_closed_afterwards(models_dir: Path) -> None:
    path = models_dir / "coco_ssd_mobilenet_v1_1.0_quant.tflite"
    with path.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
    file = ModelFile(mapped)
    names, reading, content = file.metadata_names(), file.metadata, file.packed.read("labelmap.txt")
    mapped.close()
    assert names.inputs == ("image",)
    assert reading.metadata is not None
    assert len(content) == 661


def test_reading_takes_little_time(models_dir: Path) -> None:
    data = (models_dir / "coco_ssd_mobilenet_v1_1.0_quant.tflite").read_bytes()

    def best(read: object) -> float:
        times = []
        for _ in range(30):
            start = time.perf_counter()
            assert callable(read)
            read()
            times.append(time.perf_counter() - start)
        return min(times)

    # 0.06 ms and 0.8 ms on the machine that this was written on.
    assert best(lambda: ModelFile(data).metadata_names()) < 0.001
    assert best(lambda: read_everything(data)) < 0.010


# Models built by code


def test_everything_that_the_writer_writes() -> None:
    file = ModelFile(whole(), "pets.tflite")
    reading = file.metadata
    assert (reading.problem, file.metadata_names().problem) == ("", "")
    metadata = reading.metadata
    assert metadata is not None
    assert (metadata.name, metadata.description, metadata.version) == ("Pets", "Tells pets.", "v2")
    assert (metadata.author, metadata.license, metadata.min_parser_version) == ("me", "Apache-2.0", "1.0.0")
    image = metadata.subgraphs[0].inputs[0]
    boxes, scores = metadata.subgraphs[0].outputs
    assert image.normalization == ((127.5,), (128.0,))
    assert (image.stats_min, image.stats_max, image.content) == ((-1.0,), (1.0,), "image")
    assert boxes.bounding_box is not None
    assert boxes.bounding_box.index == (1, 0, 3, 2)
    assert (scores.content, scores.files[0].name) == ("feature", "labels.txt")
    assert scores.files[0].locale == "en"
    assert file.packed_labels() == (
        LabelsReading(), LabelsReading(LabelFile((("cat", "dog", "fish"),)), "labels.txt", "")
    )  # fmt: skip
    assert file.packed.names == ("labels.txt", "readme.txt")
    assert file.packed.read("labels.txt") == LABELS


def test_the_graph() -> None:
    file = ModelFile(build([graph()], description="by hand", signatures=[("f", 0, {"a": 0}, {"b": 1})]))
    (subgraph,) = file.subgraphs
    assert (file.version, file.description, file.operators) == (3, "by hand", {"ADD": 1})
    assert (subgraph.inputs[0].shape, subgraph.inputs[0].data_type) == ((-1, 3), "float32")
    assert subgraph.inputs[0].quantization is None
    assert subgraph.outputs[0].quantization == Quantization((0.5,), (3,), None)
    assert file.signatures[0].outputs == {"b": 1}


def test_quantisation_per_channel() -> None:
    built = Graph()
    built.inputs = [built.tensor("x", [2, 3], "int8", scale=[0.5, 1, 2], zero_point=[1, 2, 3], axis=1)]
    assert ModelFile(build([built])).subgraphs[0].inputs[0].quantization == Quantization((0.5, 1.0, 2.0), (1, 2, 3), 1)


def test_numbers_stand_for_the_names_of_the_schema() -> None:
    codes = {name: code for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    types = {name.lower(): code for name, code in vars(schema.TensorType).items() if name[0] != "_"}
    assert {name: code for code, name in enumerate(tflite_names.OPERATORS)} == codes
    assert {name: code for code, name in enumerate(tflite_names.DATA_TYPES)} == types


def test_unknown_numbers_are_kept() -> None:
    assert tflite_names.name_of(["a"], 37) == "unknown(37)"
    assert tflite_names.name_of(["a"], -1) == "unknown(-1)"
    odd = graph()
    odd._tensors[0].type = 99
    assert ModelFile(build([odd])).subgraphs[0].inputs[0].data_type == "unknown(99)"


def test_a_newer_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "IMAGE_CONTENT", 37)
    monkeypatch.setattr(writer, "NORMALIZATION_UNIT", 38)
    monkeypatch.setattr(writer, "FILE_TYPES", [*["unknown"] * 39, "tensor_axis_labels"])
    reading = ModelFile(model(described())).metadata
    assert reading.metadata is not None
    assert reading.problem == ""
    image, scores = reading.metadata.subgraphs[0].inputs[0], reading.metadata.subgraphs[0].outputs[1]
    assert (image.content, image.color_space) == ("unknown(37)", "")
    assert image.normalization is None
    assert scores.files[0].type == "unknown(39)"


def test_an_older_schema_lacks_fields() -> None:
    builder = flatbuffers.Builder(64)
    name = builder.CreateString("old")
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.Finish(builder.EndObject(), writer.IDENTIFIER)
    metadata = ModelFile(model(bytes(builder.Output()))).metadata.metadata
    assert metadata is not None
    assert (metadata.name, metadata.author, metadata.subgraphs) == ("old", "", ())


# Odd and broken metadata: the model stays usable, and the reason is told


def test_metadata_for_another_number_of_tensors() -> None:
    file = ModelFile(model(described(), inputs=2), "pets.tflite")
    names, reading = file.metadata_names(), file.metadata
    assert names.inputs == ("", "")
    assert names.outputs == ("location", "probability")
    assert "pets.tflite: TFLite metadata: it describes 1 inputs, but the model has 2" in names.problem
    assert reading.problem == names.problem
    assert reading.metadata is not None
    assert reading.metadata.subgraphs[0].inputs == ()
    assert len(reading.metadata.subgraphs[0].outputs) == 2


@pytest.mark.parametrize("identifier", [b"M002", b"\0\0\0\0"])
def test_another_identifier(identifier: bytes) -> None:
    file = ModelFile(model(writer.metadata("Pets", identifier=identifier)))
    assert file.metadata.metadata is None
    assert "identifier b'M001' at byte 4" in file.metadata.problem
    assert file.metadata_names().problem == file.metadata.problem
    assert file.metadata_names().outputs == ("", "")


@pytest.mark.parametrize("length", [0, 3, 7, 8, 12, 100])
def test_metadata_cut_short(length: int) -> None:
    file = ModelFile(model(described()[:length]))
    assert file.metadata.metadata is None
    assert file.metadata.problem
    assert file.metadata_names().problem


def test_two_metadata_buffers() -> None:
    # The writer takes a name once, so the second is renamed in the file.
    twice = build([graph()], metadata={writer.ENTRY: writer.metadata("first"), "x" * 15: writer.metadata("2nd")})
    file = ModelFile(twice.replace(b"x" * 15, writer.ENTRY.encode()))
    assert file.metadata.metadata is not None
    assert file.metadata.metadata.name == "first"
    assert "there are 2 of it; the first is used" in file.metadata.problem
    assert file.metadata_names().problem == file.metadata.problem


def test_metadata_in_a_buffer_that_is_not_there() -> None:
    data = bytearray(model(described()))
    entry = schema.Model.GetRootAs(data, 0).Metadata(0)._tab
    struct.pack_into("<I", data, entry.Pos + entry.Offset(6), 1000)
    file = ModelFile(bytes(data))
    assert "Buffer 1000 is asked for, but there are" in file.metadata.problem
    assert file.subgraphs[0].inputs[0].name == "x0"


def test_metadata_too_large() -> None:
    file = ModelFile(model(described() + bytes(tflite.METADATA_LIMIT)))
    assert "at most 4194304 are read" in file.metadata.problem


# Hostile models


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x1c\0\0\0TFL", b"PK\5\6" + bytes(18), bytes(1000)])
def test_not_a_model(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"not a \.tflite file"):
        ModelFile(data)


@pytest.mark.parametrize("offset", [0, 9, 0x7FFFFFFF, 0xFFFFFFFF])
def test_root_out_of_the_file(offset: int) -> None:
    with pytest.raises(ModelError, match="byte"):
        _ = ModelFile(struct.pack("<I", offset) + b"TFL3\0").version


def test_a_message_says_what_was_read_where() -> None:
    data = bytearray(model())
    root = schema.Model.GetRootAs(data, 0)._tab
    field = root.Pos + root.Offset(4 + 2 * 2)
    struct.pack_into("<I", data, field, 0x7FFFFFF0)
    with pytest.raises(ModelError, match=rf"m\.tflite: the offset of field 2 of Model .* at byte {field},"):
        _ = ModelFile(bytes(data), "m.tflite").subgraphs


def test_a_vector_longer_than_the_file() -> None:
    data = bytearray(model())
    root = schema.Model.GetRootAs(data, 0)._tab
    start = root.Vector(root.Offset(4 + 2 * 2)) - 4
    struct.pack_into("<I", data, start, 0xFFFFFFFF)
    with pytest.raises(ModelError, match="field 2 of Model would take 17179869180 bytes"):
        _ = ModelFile(bytes(data)).operators


def unfolding(shared: int) -> bytes:
    """Return metadata of which one vector leads `shared` times to the same small tensor."""
    builder = flatbuffers.Builder(8 * shared)
    text = builder.CreateString("x" * 500)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    builder.PrependUOffsetTRelativeSlot(1, text, 0)
    tensor = builder.EndObject()
    builder.StartVector(4, shared, 4)
    for _ in range(shared):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(2, tensors, 0)
    builder.PrependUOffsetTRelativeSlot(3, tensors, 0)
    subgraph = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(3, subgraphs, 0)
    builder.Finish(builder.EndObject(), writer.IDENTIFIER)
    return bytes(builder.Output())


def test_one_small_tensor_a_million_times_over() -> None:
    data = model(unfolding(900_000))
    with memory_watched():
        file = ModelFile(data)
        assert "more than this reader takes" in file.metadata.problem
        assert "more than this reader takes" in file.metadata_names().problem


def test_a_million_outputs() -> None:
    data = bytearray(model(bytes(3_000_000)))
    graph_table = schema.Model.GetRootAs(data, 0).Subgraphs(0)._tab
    start = graph_table.Vector(graph_table.Offset(8)) - 4
    struct.pack_into("<I", data, start, (len(data) - start - 4) // 4)
    with memory_watched(), pytest.raises(ModelError):
        _ = ModelFile(bytes(data)).subgraphs


def mutants(data: bytes, seed: int, count: int) -> list[bytes]:
    """Return copies of a file, each damaged in the metadata, in the zip part, or cut off."""
    chance = random.Random(seed)
    metadata, tail = data.index(b"M001") - 4, data.index(b"PK\3\4")
    spans = [(metadata, metadata + len(described())), (tail, len(data)), (0, len(data))]
    result = []
    for _ in range(count):
        mutant = bytearray(data)
        start, end = chance.choice(spans)
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(start, end - 4)
            kind = chance.randrange(3)
            if kind == 0:
                mutant[place] ^= 1 << chance.randrange(8)
            elif kind == 1:
                mutant[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            else:
                struct.pack_into("<I", mutant, place, chance.choice((0, 0xFFFFFFFF, 1 << 31, chance.getrandbits(12))))
        if chance.random() < 0.1:
            del mutant[chance.randrange(len(mutant)) :]
        result.append(bytes(mutant))
    return result


@pytest.mark.parametrize("count", [1500, pytest.param(20_000, marks=pytest.mark.long)])
def test_mutants(count: int) -> None:
    outcomes = {"error": 0, "problem": 0, "sound": 0}
    with memory_watched():
        for mutant in mutants(whole(), 20, count):
            try:
                outcomes["problem" if read_everything(mutant) else "sound"] += 1
            except ModelError:
                outcomes["error"] += 1
    assert sum(outcomes.values()) == count
    assert min(outcomes.values()) > count / 20, outcomes


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
def test_any_bytes_in_the_metadata(junk: bytes, place: int, behind: bool) -> None:
    data = described()
    mutated = data[:place] + junk + (data[place + len(junk) :] if behind else b"")
    file = ModelFile(model(mutated))
    assert file.metadata.metadata is not None or file.metadata.problem
    assert len(file.metadata_names().outputs) == 2
    assert file.subgraphs[0].inputs[0].name == "x0"


# Packed files


def test_labels_that_cannot_be_read() -> None:
    file = ModelFile(model(described()), "pets.tflite")
    assert file.packed_labels()[1] == LabelsReading(
        None, "labels.txt", "pets.tflite: no file 'labels.txt' is packed into the model; it has: none"
    )
    file = ModelFile(writer.pack(model(described()), {"labels.txt": b"cat\n\xff\n"}), "pets.tflite")
    assert file.packed_labels()[1].problem == (
        "pets.tflite: the packed file 'labels.txt': byte 4 (line 2) is not UTF-8: 0xff; save the label file as UTF-8"
    )


def test_a_label_file_of_the_model_as_a_whole_is_not_one_of_classes() -> None:
    # Ultralytics gives its file of settings this type, on the model.
    settings_file = writer.File("temp_meta.txt", type="tensor_axis_labels")
    subgraph = writer.Subgraph([writer.Tensor("image")], [writer.Tensor("boxes"), writer.Tensor("scores")])
    metadata = writer.metadata("YOLO", subgraphs=[subgraph], files=[settings_file])
    file = ModelFile(writer.pack(model(metadata), {"temp_meta.txt": b"{'names': {0: 'cat', 1: 'dog'}}"}))
    assert file.metadata.metadata is not None
    assert file.packed_labels() == (LabelsReading(), LabelsReading())


def test_without_packed_files() -> None:
    file = ModelFile(model())
    assert file.packed.names == ()
    with pytest.raises(ModelError, match=r"no file 'labels.txt' is packed into the model; it has: none"):
        file.packed.read("labels.txt")


def test_a_name_that_is_not_packed() -> None:
    with pytest.raises(ModelError, match=r"no file 'other.txt' .* it has: 'labels.txt', 'readme.txt'"):
        ModelFile(whole()).packed.read("other.txt")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:\\x", "a/../b", "con", "ä\n"])
def test_names_are_only_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = ModelFile(archive((name, b"cat\n")))
    assert file.packed.names == (name,)
    assert file.packed.read(name) == b"cat\n"
    assert list(tmp_path.iterdir()) == []


def test_a_name_twice_means_the_last() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = archive(("labels.txt", b"cat\n"), ("labels.txt", b"dog\n"))
    file = ModelFile(data)
    assert file.packed.names == ("labels.txt",)
    assert file.packed.read("labels.txt") == b"dog\n"


def test_a_zip_bomb() -> None:
    data = archive(("labels.txt", bytes(200 << 20)))
    assert len(data) < 1 << 20
    with memory_watched(), pytest.raises(ModelError, match=r"has 209715200 bytes; at most 4194304 are read"):
        ModelFile(data).packed.read("labels.txt")


def test_a_zip_bomb_that_claims_to_be_small() -> None:
    data = bytearray(archive(("labels.txt", bytes(200 << 20))))
    directory = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, directory + 24, 1000)
    with memory_watched(), pytest.raises(ModelError, match=r"'labels\.txt' is damaged"):
        ModelFile(bytes(data)).packed.read("labels.txt")


def test_the_largest_label_file_that_can_be_packed() -> None:
    lines = packed.FILE_LIMIT // 9
    data = archive(("labels.txt", b"12345678\n" * lines))
    with memory_watched():
        file = ModelFile(data).packed
        assert len(read_labels(file.read("labels.txt"), "labels.txt").labels()) == lines


def test_a_directory_of_many_files() -> None:
    data = archive(*((str(i), b"") for i in range(20_000)))
    with memory_watched(), pytest.raises(ModelError, match="its directory is larger than the 524288 bytes"):
        _ = ModelFile(data).packed


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_unusual_compression(method: int) -> None:
    with pytest.raises(ModelError, match=r"compressed by method 1[24]; pack it by deflate"):
        ModelFile(archive(("labels.txt", LABELS), method=method)).packed.read("labels.txt")


def test_an_encrypted_file() -> None:
    data = bytearray(archive(("labels.txt", LABELS)))
    data[data.rindex(b"PK\1\2") + 8] |= 1
    with pytest.raises(ModelError, match=r"'labels\.txt' is encrypted"):
        ModelFile(bytes(data)).packed.read("labels.txt")


def test_a_wrong_checksum() -> None:
    data = archive(("labels.txt", LABELS), method=zipfile.ZIP_STORED).replace(b"cat", b"bat")
    with pytest.raises(ModelError, match=r"'labels.txt' is damaged: Bad CRC-32"):
        ModelFile(data).packed.read("labels.txt")


def test_an_archive_cut_short() -> None:
    data = whole()
    broken = data[: data.index(b"PK\3\4")] + data[-30:]
    file = ModelFile(broken, "pets.tflite")
    with pytest.raises(ModelError, match=r"pets\.tflite: the archive of packed files behind the model is damaged"):
        _ = file.packed
    assert file.metadata_names().outputs == ("location", "probability")


def test_zipfile_is_imported_only_for_packed_files() -> None:
    import subprocess

    code = (
        "import sys; from accelerate.formats.tflite.file import ModelFile;"
        "m = ModelFile(sys.stdin.buffer.read()); m.metadata_names(); m.metadata;"
        "assert 'zipfile' not in sys.modules; assert m.packed.names; assert 'zipfile' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], input=whole(), check=True, timeout=60)


# The conventions for a model that says nothing


def outputs(*shapes: tuple[int, ...], name: str = "out") -> list[TensorInfo]:
    """Return tensors of such shapes."""
    return [TensorInfo(name, shape=shape) for shape in shapes]


@pytest.mark.parametrize(
    ("texts", "found", "kind"),
    [
        (["Input image to be detected."], outputs((1, 1001)), ("tflite_classifier", True)),
        (["Detects a hand's landmarks."], outputs((1, 63), (1, 1), (1, 1), (1, 63)), ("", False)),
        (["Detects a face."], outputs((1, 1, 1, 1404), (1, 1, 1, 1)), ("", False)),
        (["Detects nothing. Classifies"], outputs((1, 5)), ("tflite_classifier", False)),
        (["Detects."], outputs((1, 896, 16), (1, 896, 1)), ("tflite_detector", False)),
        (["Detects."], outputs((1, 1, 4), (1, 1), (1, 1), (1,)), ("tflite_detector", False)),
        (["Detects."], outputs((1, 1, 200, 7)), ("tflite_detector", False)),
        (["Detects."], outputs((-1, 7)), ("tflite_detector", False)),
        (["Detects."], outputs((), (), ()), ("tflite_detector", False)),
        (["Image to be Classified."], outputs((1, 10, 4)), ("tflite_classifier", False)),
        (["To be classified after detection"], outputs(), ("tflite_classifier", False)),
        (["", "ObjectDetector"], outputs(), ("tflite_detector", False)),
        ([], [TensorInfo("location", extra={"boxOrder": [1, 0, 3, 2]})], ("tflite_detector", False)),
        ([], outputs((1, 10, 4), (1, 10), (1, 10), (1,)), ("tflite_detector", True)),
        ([], outputs((), (), (), (), name=conventions.DETECTION_OPERATOR + ":1"), ("tflite_detector", True)),
        ([], outputs((1, 1001)), ("tflite_classifier", True)),
        ([], outputs((-1, 7)), ("", False)),
        ([], outputs((10, 10)), ("", False)),
        ([], outputs((1, 1)), ("", False)),
        ([], outputs((1, 28, 28, 3)), ("", False)),
        ([], outputs(), ("", False)),
    ],
)
def test_the_kind_of_a_model(texts: list[str], found: list[TensorInfo], kind: tuple[str, bool]) -> None:
    assert conventions.guess_type(texts, outputs((1, 224, 224, 3)), found) == kind


def test_a_dynamic_dimension_is_a_batch_only_where_the_input_has_one() -> None:
    for inputs, kind in [(outputs((-1, 96, 96, 3)), "tflite_classifier"), (outputs((1, 96, 96, 3)), "")]:
        assert conventions.guess_type([], inputs, outputs((-1, 2))) == (kind, bool(kind))


def test_the_conventions_are_those_of_the_real_detector(models_dir: Path) -> None:
    file = ModelFile((models_dir / "coco_ssd_mobilenet_v1_1.0_quant.tflite").read_bytes())
    assert file.metadata.metadata is not None
    graph = file.metadata.metadata.subgraphs[0]
    assert graph.outputs[0].bounding_box is not None
    assert graph.outputs[0].bounding_box.index == conventions.BOX_ORDER
    names = file.metadata_names().outputs
    assert [names[i] for i in conventions.BOXES_CLASSES_SCORES] == ["locations", "classes", "scores"]
    assumed = conventions.ASSUMED_NORMALIZATION
    assert graph.inputs[0].normalization == (assumed.mean, assumed.std)
