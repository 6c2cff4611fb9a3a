"""The description that a user writes beside a model, or lets `inspect --write-description` begin."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from test_vision import constant, frame, listing

import accelerate
from accelerate import OptionError, TensorError
from accelerate.cli.inspect import inspect
from accelerate.formats.beside import read_beside
from accelerate.vision import Classifier, Detector


def described(folder: Path, **said: Any) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(listing())
    (folder / "model.onnx.json").write_text(json.dumps({"edge-accelerate": 1, **said}))
    return path


def test_a_description_says_what_load_and_detector_would_be_told(tmp_path: Path) -> None:
    path = described(
        tmp_path, labels=["cat", "dog"], normalization=[10, 2], color="BGR", resize="letterbox", anchor="top-left",
        fill=[1, 2, 3], layout={"offset": 0, "unit": "pixels"},
    )  # fmt: skip
    with accelerate.load(path) as model:
        metadata = model.metadata()
        assert metadata.labels == ("cat", "dog")
        assert metadata.inputs[0].normalization == accelerate.Normalization((10.0,), (2.0,), "user")
        detect = Detector(model)
        prepared = detect.preparation
        assert (prepared.resize, prepared.anchor, prepared.fill, prepared.info.color) == (
            "letterbox", "top-left", [1, 2, 3], "BGR",
        )  # fmt: skip
        assert {*prepared.sources.values()} == {"model.onnx.json", "user"}
        assert detect.layout is not None
        assert (detect.layout.offset, detect.layout.unit) == (0, "pixels")
        assert detect(frame())[1].label == "dog"
        assert Detector(model, resize="crop", layout={"unit": "relative"}).preparation.resize == "crop"
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    with accelerate.load(path, label_path=labels, normalization=(0, 1)) as model:  # what the caller says goes before
        assert model.metadata().labels == ("a", "b")
        assert model.metadata().inputs[0].normalization == accelerate.Normalization((0.0,), (1.0,), "user")


@pytest.mark.parametrize("text", ['{"edge-accelerate": {}, "x": 1}', "{}", "[1, 2]", "\x00", '{"labels": ["cat"]}', ""])
def test_a_file_of_somebody_else_is_ignored(tmp_path: Path, text: str) -> None:
    path = described(tmp_path)
    (tmp_path / "model.onnx.json").write_text(text.replace('"edge-accelerate": {}, ', ""))
    with accelerate.load(path, normalization=(0, 1)) as model:
        assert not model.metadata().labels
        assert "vision" not in model.metadata().extra


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"edge-accelerate": 2}, "is of version 2; known is 1"),
        ({"colour": "BGR"}, r"has the key 'colour' \(did you mean 'color'\?\)"),
        ({"color": "GBR"}, "says color 'GBR'; wanted one of 'RGB', 'BGR'"),
        ({"resize": "fit"}, "says resize 'fit'"),
        ({"fill": 256}, "says fill 256"),
        ({"labels": [[1]]}, "says labels"),
        ({"normalization": [1]}, "says normalization is"),
        ({"normalization": {"mean": 0, "std": 1, "x": 2}}, "says normalization is"),
        ({"normalization": {"images": [0, 1]}}, r"inputs by name; wanted \[mean, std\]"),
        ({"layout": []}, r"says layout \[\]"),
    ],
)
def test_a_wrong_description_is_named(tmp_path: Path, said: Mapping[str, Any], wrong: str) -> None:
    with pytest.raises(OptionError, match=f"model.onnx.json .*{wrong}.*correct it, or remove it|{wrong}"):
        accelerate.load(described(tmp_path, **said))
    (tmp_path / "model.onnx.json").write_text('{"edge-accelerate": 1,')
    with pytest.raises(OptionError, match="is no JSON"):
        accelerate.load(tmp_path / "model.onnx")


def test_inspect_shows_the_labels_that_hold(tmp_path: Path) -> None:
    path = described(tmp_path, labels=["cat", "dog"])
    done = CliRunner().invoke(inspect, [str(path), "--json"])
    assert json.loads(done.output)["content"]["labels"] == {"file": "model.onnx.json", "count": 2}


def test_what_cannot_be_a_description_is_passed_by(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = described(tmp_path)
    beside = tmp_path / "model.onnx.json"
    beside.unlink()
    beside.mkdir()
    accelerate.load(path).close()
    beside.rmdir()
    beside.symlink_to("nowhere")
    accelerate.load(path).close()
    beside.unlink()
    os.mkfifo(beside)
    accelerate.load(path).close()
    assert not caplog.records


def test_a_description_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = described(tmp_path)

    def refuse(*_: Any) -> Any:  # as for other users than root
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert read_beside(path) is None
    assert "which may be a description of the model, cannot be read: Permission denied" in caplog.text


def test_a_description_of_many_megabytes_is_refused(tmp_path: Path) -> None:
    path = described(tmp_path, labels=["x" * (16 << 20)])
    with pytest.raises(OptionError, match="has more than 16 MiB; shorten it, or remove it"):
        accelerate.load(path)


def test_a_description_that_contradicts_the_model_is_refused(tmp_path: Path) -> None:
    for layout, said in (
        ({"kind": "rows"}, "says that the outputs are of kind 'rows', and what is recognised is 'list'"),
        ({"outputs": {"boxes": "nowhere"}}, "the model has no output 'nowhere'"),
        ({"kind": "dense", "outputs": {"rows": "detection_boxes"}}, r"no room for a box"),
    ):
        with (
            accelerate.load(described(tmp_path, layout=layout), normalization=(0, 1)) as model,
            pytest.raises((OptionError, TensorError), match=said),
        ):
            Detector(model)(frame())


def test_what_is_known_is_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(constant({"output": np.zeros((1, 21, 85), np.float32)}))
    done = CliRunner().invoke(inspect, [str(path), "--write-description"])
    assert done.exit_code == 0, done.output
    said = json.loads((tmp_path / "net.onnx.json").read_text())
    assert said == {
        "edge-accelerate": 1,
        "normalization": [0.0, 1.0],
        "color": "BGR",
        "resize": "letterbox",
        "anchor": "top-left",
        "fill": 114,
        "layout": {"kind": "dense", "outputs": {"rows": "output"}, "boxes": "", "objectness": True},
    }
    with accelerate.load(path) as model:  # what was an assumption is none any more
        detect = Detector(model)
        detect(frame())
        assert {*detect.preparation.sources.values()} == {"net.onnx.json", "user"}
    again = CliRunner().invoke(inspect, [str(path), "--write-description"])
    assert isinstance(again.exception, OptionError)
    assert "there is a description already" in str(again.exception)


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1_0.25_224_float_metadata.tflite"])
def test_what_is_written_changes_no_answer(name: str, models_dir: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(models_dir / name, tmp_path))
    with accelerate.load(path) as model:
        before = Classifier(model)(frame(300, 200))
    assert CliRunner().invoke(inspect, [str(path), "--write-description"]).exit_code == 0
    with accelerate.load(path) as model:
        after = Classifier(model)(frame(300, 200))
    assert (after.classes.tolist(), after.scores.tolist()) == (before.classes.tolist(), before.scores.tolist())


def test_what_takes_no_picture_has_no_description(models_dir: Path) -> None:
    done = CliRunner().invoke(inspect, [str(models_dir / "add_10x10.tflite"), "--write-description"])
    assert isinstance(done.exception, OptionError)
    assert "the model takes no picture" in str(done.exception)
    assert not (models_dir / "add_10x10.tflite.json").exists()


def test_what_is_wrong_with_a_file_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = onnx.load_from_string(listing())
    onnx.helper.set_model_props(model, {"names": "no names", "task": "detect"})
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    caplog.set_level(logging.WARNING, logger="accelerate")
    assert CliRunner().invoke(inspect, [str(path)]).exit_code == 0
    assert len([one for one in caplog.records if "the model's property 'names'" in one.getMessage()]) == 1
