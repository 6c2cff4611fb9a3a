"""What kind of file a model is, by its content: formats that run here, and those that are named for what they are."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import odd_models
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import accelerate
from accelerate import ModelError, Source
from accelerate.cli.inspection import inspect_model
from accelerate.formats.protobuf import Message
from accelerate.formats.sniffing import judge

DIGITS = (Path(accelerate.__file__).parent / "data" / "digits.onnx").read_bytes()


def fields_of(model: bytes) -> list[bytes]:
    """Return the fields of a message, each with its tag."""
    message, parts, start = Message(model, "model"), [], 0
    for _, wire, (first, second) in message.fields():
        end = second if wire in (0, 1, 2, 5) else first
        parts.append(model[start:end])
        start = end
    return parts


@given(st.permutations(fields_of(DIGITS)))
def test_the_fields_of_an_onnx_model_have_no_order(fields: list[bytes]) -> None:
    assert judge(b"".join(fields)[:4096])[0] == "onnx"


def test_a_model_that_begins_with_its_graph_runs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "graph_first.onnx"
    largest_first: list[bytes] = sorted(fields_of(DIGITS), key=len, reverse=True)
    path.write_bytes(b"".join(largest_first))
    assert path.read_bytes()[0] == 0x3A
    pixels = np.random.default_rng(0).integers(0, 16, (1, 8, 8, 1)).astype(np.float32)
    with accelerate.load(DIGITS, backend="onnxruntime") as plain, accelerate.load(path) as turned:
        name = plain.metadata().inputs[0].name
        pixels = pixels.reshape(plain.metadata().inputs[0].shape)
        assert str(turned.infer({name: pixels})) == str(plain.infer({name: pixels}))


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_anything_gets_a_name(content: bytes) -> None:
    kind, likeness, remedy = judge(content)
    assert likeness
    assert kind or remedy


@example(":0h0")
@example(":0Z " + "a line of text\n" * 10)
@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=5000))
def test_text_is_no_onnx_model(text: str) -> None:
    assert judge(text.encode()[:4096])[0] == ""


def test_random_bytes_are_no_onnx_model() -> None:
    random = np.random.default_rng(0)
    judged = [judge(random.bytes(size))[0] for size in (8, 64, 4096) for _ in range(5000)]
    assert judged.count("onnx") <= 15  # what is cut after a version and a tag looks like one


def test_models_in_ort_format(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx").helper
    values = [helper.make_tensor_value_info(name, 1, [3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "saved.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    content = (tmp_path / "saved.ort").read_bytes()
    (tmp_path / "renamed.bin").write_bytes(content)
    for source in (tmp_path / "saved.ort", tmp_path / "renamed.bin", content):
        for backend in ("auto", "onnxruntime"):
            with accelerate.load(source, backend=backend) as loaded:
                assert loaded.infer(np.array([-1, 2, 3], np.float32))["y"].tolist() == [0, 2, 3]
                assert [t.shape for t in loaded.metadata().inputs] == [(3,)]
    with pytest.raises(accelerate.OptionError, match="no signatures"):
        accelerate.load(content, signature="x")
    with pytest.raises(accelerate.UnsupportedModelError, match="ORT format, not a TFLite model"):
        accelerate.load(content, backend="tflite_cpu")
    with pytest.raises(ModelError, match="ONNX Runtime"):
        accelerate.load(content[: len(content) // 2], backend="onnxruntime")
    inspected = inspect_model(str(tmp_path / "renamed.bin"))
    assert inspected["file"]["format"] == "ort"
    assert inspected["plan"]["chosen"]["backend"] == "onnxruntime"


def archive(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, data in files.items():
            made.writestr(name, data)
    return content.getvalue()


def message(*fields: tuple[int, bytes]) -> bytes:
    """Return a protobuf message of strings and messages shorter than 128 bytes."""
    return b"".join(bytes([number << 3 | 2, len(content)]) + content for number, content in fields)


_NODE = message((1, b"input"), (2, b"Placeholder"), (5, message((1, b"dtype"), (2, b"0\x01"))))
_WEIGHTS = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
FILES: Mapping[str, tuple[bytes, str, str]] = {
    "Hailo": (b"\x01HEF\0\0\0\x02" + bytes(40), "compiled for a Hailo device", "made from"),
    "Rockchip": (b"RKNN\0\0\0\0" + bytes(40), "RKNN", "made from"),
    "TensorRT": (b"ftrt" + bytes(40), "TensorRT engine", "made from"),
    "ExecuTorch": (b"\x1c\0\0\0ET12" + bytes(40), "ExecuTorch", "export"),
    "NCNN": (b"7767517\n75 83\nInput data 0 1 data\n", "NCNN", "made from"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(40), "GGUF", "program for GGUF"),
    "Keras 2": (b"\x89HDF\r\n\x1a\n" + bytes(40), "Keras", "export"),
    "Keras 3": (archive({"config.json": b"{}", "model.weights.h5": b""}), "a Keras model", "export"),
    "PyTorch": (archive({"net/data.pkl": b"", "net/version": b"3"}), "PyTorch model", "export"),
    "safetensors": (len(_WEIGHTS).to_bytes(8, "little") + _WEIGHTS, "safetensors", "export"),
    "SavedModel": (b"\x08\x01" + message((2, message((1, message((4, b"serve")))))), "SavedModel", "export"),
    "GraphDef": (message((1, _NODE), (1, _NODE)), "a TensorFlow graph", "export"),
    "Core ML": (b"\x08\x04" + message((2, message((1, message((1, b"image")))))), "Core ML", "export"),
    "web page": (b"<!DOCTYPE html>\n<html><title>Sign in</title>", "web page", "fetch it again"),
    "tar": (bytes(257) + b"ustar\x0000", "tar archive", "unpack it"),
    "pictures": (archive({"a.png": b"", "b.png": b""}), "zip archive of 2 files", "check the path"),
    "half a zip": (archive({"a.tflite": bytes(99)})[:60], "a zip archive without", "fetch it again"),
    "bundle": (
        archive({"hand_detector.tflite": b"", "hand_landmarks.tflite": b"", "x.txt": b""}),
        "a zip archive with hand_detector.tflite, hand_landmarks.tflite,", "unzip it and load one of these",
    ),
    "one of many": (archive({f"{n}.onnx": b"" for n in range(9)}), "4.onnx and 4 more", "one of these"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_runtimes_are_called_by_their_names(name: str, tmp_path: Path) -> None:
    content, likeness, remedy = FILES[name]
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    for source, backend in itertools.product((path, content), ("auto", "tflite_cpu")):
        with pytest.raises(ModelError) as caught:
            accelerate.load(source, backend=backend)
        assert likeness in str(caught.value)
        assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("names", "likeness", "remedy"),
    [
        (["saved_model.pb", "variables"], "the directory of a TensorFlow SavedModel", "export"),
        (["Manifest.json", "Data"], r"Core ML package \(.mlpackage\)", "export"),
        (["b.onnx", "labels.txt", "a.tflite"], "a directory with a.tflite, b.onnx", "load one of these"),
        (["net.tflite"], "a directory with net.tflite", "load it"),
        ([], "a directory", "check the path"),
    ],
)
def test_folders(names: list[str], likeness: str, remedy: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    for backend in ("auto", "tflite_cpu"):
        with pytest.raises(ModelError, match=f" is .*{likeness}, not a") as caught:
            accelerate.load(tmp_path, backend=backend)
        assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize("make", [odd_models.add3, lambda: DIGITS])
def test_what_runs_here_has_no_remedy(make: Callable[[], bytes]) -> None:
    assert Source(make()).remedy == ""
