"""What `run` shows and draws of pictures, and what `inspect` says of vision models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("click", reason="needs the extra: cli")
pytest.importorskip("rich", reason="needs the extra: cli")

from test_cli import DIGITS, SEVEN, call, call_json, refusal

from accelerate import OptionError, TensorError
from accelerate.calls.conversion import Array
from accelerate.metadata import Metadata
from accelerate.vision import Classifications, Detections, Poses, Segmentation, draw

Image = pytest.importorskip("PIL.Image", reason="needs the extra: cli")

COCO = "coco_ssd_mobilenet_v1_1.0_quant.tflite"
METADATA = Metadata("", "", "", (), (), ("ant", "bee", "cat"))
GREY = (90, 90, 90)


@pytest.fixture
def pictures(models_dir: Path) -> Path:
    folder = models_dir.parent / "images"
    if not folder.is_dir():
        pytest.skip(f"the photographs are not here: {folder}")
    return folder


@pytest.fixture
def street(tmp_path: Path) -> Path:
    path = tmp_path / "street.png"
    Image.new("RGB", (256, 192), GREY).save(path)
    return path


def built(folder: Path, outputs: dict[str, Array], labels: Sequence[str] = (), **told: Any) -> Sequence[object]:
    """Write a model that answers the same to every picture; return it as the first arguments of `run`."""
    pytest.importorskip("onnxruntime", reason="needs the extra: onnxruntime")
    pytest.importorskip("onnx", reason="needs onnx")
    import vision_models

    case = vision_models.Case(outputs, vision_models.NOTHING, labels=labels, told=told)
    path, options = vision_models.write(case, "onnx", folder)
    more = ["--labels", options["label_path"]] if "label_path" in options else []
    return [path, *more, "--option", "normalization=[0, 255]"]


# Classes


def test_a_picture_is_classified_as_the_task_says() -> None:
    report = call_json("run", DIGITS, SEVEN)
    assert report["task"] == "classifier"
    assert report["layout"].startswith("scores")
    assert report["preparation"]["resize"] == "stretch"
    assert report["preparation"]["sources"]["resize"] == "usual"
    assert report["results"][0] == {"index": 7, "label": "seven", "score": pytest.approx(0.99609375)}
    assert len(report["results"]) == 5
    assert [one["label"] for one in call_json("run", DIGITS, SEVEN, "--min-score", 0.5)["results"]] == ["seven"]
    assert "wanted" in refusal("run", DIGITS, SEVEN, "--option", "dequantize=7")
    assert "is not in the range 0<=x<=1" in call("run", DIGITS, SEVEN, "--min-score", 2, status=2).stderr


def test_arrays_show_what_they_did(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((1, 8, 8, 1), np.uint8))
    report = call_json("run", DIGITS, tmp_path / "one.npy", "--top", 3)
    assert (report["task"], report["layout"], report["preparation"]) == (None, None, None)
    assert len(report["results"]) == 3
    assert call_json("run", DIGITS, tmp_path / "one.npy", "--min-score", 1)["results"] == []
    assert "holds arrays" in refusal("run", DIGITS, tmp_path / "one.npy", "--out", tmp_path / "x.png")


def test_raw_shows_the_tensors(tmp_path: Path) -> None:
    done = call("run", DIGITS, SEVEN, "--raw", "--out", tmp_path / "out.png")
    assert done.stdout.splitlines()[2].split()[:4] == ["scores", "uint8", "[1,", "10]"]
    assert (tmp_path / "out.png").exists()
    assert call_json("run", DIGITS, SEVEN, "--raw")["results"] is None


# Objects


def test_objects_of_a_photograph(models_dir: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "cat.png"
    report = call_json("run", models_dir / COCO, pictures / "cat.bmp", "--out", out, "--top", 2)
    assert report["task"] == "detector"
    assert report["annotated"] == str(out)
    assert len(report["results"]) == 2
    best = report["results"][0]
    assert best["label"] == "cat"
    assert best["box"] == pytest.approx([47, 45, 363, 333], abs=8)
    before, after = (np.asarray(Image.open(path).convert("RGB"), int) for path in (pictures / "cat.bmp", out))
    assert after.shape == before.shape
    changed = np.argwhere(np.abs(after - before).sum(axis=2) > 30)
    assert 0.005 < len(changed) / before[..., 0].size < 0.2
    table = call("run", models_dir / COCO, pictures / "cat.bmp").stdout
    assert table.splitlines()[0].split(maxsplit=3) == ["score", "index", "label", "box (xmin, ymin, xmax, ymax)"]
    assert table.splitlines()[2].split()[2] == "cat"


def test_several_pictures_are_drawn_into_a_folder(models_dir: Path, pictures: Path, tmp_path: Path) -> None:
    inputs, out = [pictures / "cat.bmp", pictures / "parrot.jpg"], tmp_path / "new" / "folder"
    more = ("--labels", models_dir / "coco80_labels.txt", "--out", out)
    done = call("run", models_dir / "yolox_nano.onnx", *inputs, *more, COLUMNS="1000")
    assert [path for path in map(str, inputs) if path in done.stdout.splitlines()] == list(map(str, inputs))
    assert sorted(path.name for path in out.iterdir()) == ["cat.bmp", "parrot.jpg"]
    assert done.stdout.count("drawn in ") == 2
    assert "later calls " in done.stdout
    assert done.stderr.count("warning: ") == done.stderr.count("\n") == 1, "it is said once what is assumed"
    report = call_json("run", models_dir / "yolox_nano.onnx", *inputs, *more)
    assert [one["results"][0]["label"] for one in report["inputs"]] == ["cat", "bird"]
    assert report["layout"].startswith("dense, boxes grid"), "by the values of the first answers"
    assert report["preparation"]["anchor"] == "top-left"
    assert report["preparation"]["sources"]["anchor"] == "assumed"
    assert report["milliseconds"]["mean_call"] == pytest.approx(report["inputs"][1]["milliseconds"])


def test_why_a_detector_shows_tensors(models_dir: Path, pictures: Path, tmp_path: Path) -> None:
    """Its outputs were quantised by a scale that cuts its boxes off."""
    given = ("run", models_dir / "yolox_nano_int8_quantize.tflite", pictures / "cat.bmp")
    told = ("--option", "normalization=[0, 1]")
    done = call(*given, *told)
    assert done.stdout.startswith("output")
    assert done.stderr.startswith("warning: the outputs are shown as they are: output 'output' was quantised")
    assert done.stderr.count("\n") == 1
    asked = call(*given, *told, "--out", tmp_path / "x.png", status=1)
    assert asked.stdout.startswith("output")
    assert asked.stderr.startswith("error: nothing is drawn: output 'output' was quantised")
    assert not (tmp_path / "x.png").exists()


def test_an_unknown_model_says_no_more_than_its_tensors(tmp_path: Path, street: Path) -> None:
    given = built(tmp_path, {"a": np.zeros((3, 7), np.float32), "b": np.zeros((2, 5), np.float32)})
    done = call("run", *given, street)
    assert done.stderr == ""
    assert done.stdout.splitlines()[2].split()[:2] == ["a", "float32"]
    asked = call("run", *given, street, "--out", tmp_path / "x.png", status=1)
    assert asked.stderr.startswith("error: nothing is drawn: nothing tells what the outputs of this model hold")


def test_an_unknown_model_of_any_size_says_no_more_either(tmp_path: Path, street: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra: onnxruntime")
    pytest.importorskip("onnx", reason="needs onnx")
    import odd_onnx

    (tmp_path / "halved.onnx").write_bytes(odd_onnx.halved())
    given = ("run", tmp_path / "halved.onnx", street, "--option", "normalization=[0, 1]")
    done = call(*given)
    assert done.stderr == ""
    assert done.stdout.startswith("output")
    assert call_json(*given)["task"] is None


# Areas and bodies, by models that are built


def test_areas_and_their_shares(tmp_path: Path, street: Path) -> None:
    area = np.zeros((96, 128), np.int64)
    area[48:, 32:] = 2
    given = built(tmp_path, {"mask": area}, ("background", "bee", "cat"))
    report = call_json("run", *given, street, "--out", tmp_path / "out.png")
    assert report["task"] == "segmenter"
    assert report["results"] is None
    assert report["classes"] == [
        {"index": 0, "label": "background", "share": 0.625},
        {"index": 2, "label": "cat", "share": 0.375},
    ]
    drawn = Image.open(tmp_path / "out.png")
    assert drawn.getpixel((20, 150)) == GREY
    assert drawn.getpixel((200, 150)) not in (GREY, (0, 0, 0))
    assert "37.50%" in call("run", *given, street).stdout
    assert len(call_json("run", *given, street, "--top", 1)["classes"]) == 1


def test_bodies(tmp_path: Path, street: Path) -> None:
    points = np.full((1, 1, 17, 3), 0.5, np.float32)  # MoveNet's
    points[..., 1] = np.linspace(0.25, 0.75, 17)  # x; y comes first
    points[..., 16, 2] = 0.1
    given = built(tmp_path, {"points": points})
    report = call_json("run", *given, street, "--out", tmp_path / "out.png")
    assert report["task"] == "pose estimator"
    (body,) = report["results"]
    assert body["keypoints"][0] == [64, 96, 0.5]
    assert body["box"] == [64, 96, 192, 96]
    drawn = Image.open(tmp_path / "out.png")
    assert drawn.getpixel((64, 96)) != GREY
    assert drawn.getpixel((192, 96)) == GREY, "a point of low score"
    assert "16 of 17" in call("run", *given, street).stdout
    assert call("run", *given, street, "--min-score", 0.9).stdout.startswith("nothing found")


# Where pictures are written


def test_nothing_is_written_over_an_input(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"
    for path in (one, other):
        path.parent.mkdir()
        path.write_bytes(SEVEN.read_bytes())
    assert "would overwrite the input" in refusal("run", DIGITS, one, "--out", one)
    assert "would overwrite the input" in refusal("run", DIGITS, one, "--out", one.parent)
    assert "would both be written to" in refusal("run", DIGITS, one, other, "--out", tmp_path / "c")
    assert "is a file" in refusal("run", DIGITS, one, SEVEN, "--out", other)
    assert one.read_bytes() == other.read_bytes() == SEVEN.read_bytes()
    assert not (tmp_path / "c").exists()


def test_the_format_goes_by_the_name(tmp_path: Path) -> None:
    assert "does not end as the name of a picture does" in refusal("run", DIGITS, SEVEN, "--out", tmp_path / "x.txt")
    call("run", DIGITS, SEVEN, "--out", tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as written:
        assert written.format == "JPEG"
    (tmp_path / "bare").write_bytes(SEVEN.read_bytes())
    call("run", DIGITS, tmp_path / "bare", SEVEN, "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bare.png", "digit.png"]


def test_a_missing_input_stops_all_before_anything_runs(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal("run", DIGITS, SEVEN, tmp_path / "missing.png")


# Drawing


def objects(boxes: Sequence[Sequence[float]], classes: Sequence[int] | None = None, **more: Any) -> Detections:
    count = len(boxes)
    scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
    numbers = np.array(range(count) if classes is None else classes, np.int64)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, numbers, METADATA, **more)


def ground(width: int, height: int) -> Array:
    return np.full((height, width, 3), GREY, np.uint8)


@pytest.mark.parametrize("width", [640, 4000])
def test_a_box_lies_on_its_edges(width: int) -> None:
    side = width // 4
    box = (side, side, 3 * side, 2 * side)
    after = np.asarray(draw(ground(width, 3 * side), objects([box], [1])), int)
    changed = np.abs(after - GREY).sum(axis=2) > 0
    rows, columns = np.flatnonzero(changed[:, 2 * side]), np.flatnonzero(changed[3 * side // 2])
    line = width // 320
    for found, (low, high) in ((rows, (box[1], box[3])), (columns, (box[0], box[2]))):
        edges = found[np.abs(found - low) < 4 * line], found[np.abs(found - high) < 4 * line]
        assert len(edges[0]) + len(edges[1]) == len(found), "there is nothing between"
        for edge, wanted in zip(edges, (low, high), strict=True):
            assert abs(edge.mean() - wanted) <= line
            assert line <= len(edge) <= 3 * line


def test_classes_have_colours_of_their_own() -> None:
    def color(index: int) -> Any:
        return draw(ground(300, 300), objects([(100, 100, 200, 200)], [index])).getpixel((150, 200))

    assert color(0) == color(0)
    assert len({color(index) for index in range(80)}) == 80


@pytest.mark.parametrize(
    "box", [(-1e30, -1e30, 1e30, 1e30), (0, 0, 20, 10), (300, 220, 319, 239), (400, 300, 500, 400), (-50, -50, -5, -5)]
)
def test_a_tag_stays_inside(box: tuple[float, ...]) -> None:
    """All of it is to be seen: no fewer pixels than where nothing else is drawn."""

    def changed(box: Sequence[float]) -> int:
        after = np.asarray(draw(ground(320, 240), objects([box], [0])), int)
        return int((after != GREY).any(axis=2).sum())

    alone = changed((1000, 100, 1100, 120))
    assert alone > 30 * 12
    assert changed(box) >= alone


def test_tags_do_not_cover_each_other() -> None:
    apart = np.asarray(draw(ground(640, 480), objects([(50, 100, 150, 200), (350, 100, 450, 200)], [0, 0])), int)
    close = np.asarray(draw(ground(640, 480), objects([(50, 100, 150, 200), (52, 102, 152, 202)], [0, 0])), int)
    green = apart[100, 100]
    assert (close == green).all(axis=2).sum() > 0.9 * (apart == green).all(axis=2).sum() - 2 * 400


def test_masks_tint_what_they_cover() -> None:
    def masks(rows: Any) -> Array:
        drawn = np.zeros((1, 100, 200), bool)
        drawn[:, 40:60, 50:150] = True
        some: Array = drawn[rows]
        return some

    after = draw(ground(200, 100), objects([(50, 40, 150, 60)], [1], draw_masks=masks))
    assert after.getpixel((100, 50)) not in (GREY, (0, 0, 0))
    assert after.getpixel((10, 90)) == GREY
    with pytest.raises(TensorError, match="a mask is"):
        draw(ground(201, 100), objects([(50, 40, 150, 60)], [1], draw_masks=masks))


def test_slanted_boxes_and_points() -> None:
    corners = np.array([[(100, 20), (180, 100), (100, 180), (20, 100)]], np.float32)
    points = np.array([[(100, 100, 0.9), (np.nan, 5, 0.9), (30, 30, 0.1)]], np.float32)
    after = draw(ground(200, 200), objects([(20, 20, 180, 180)], [1], corners=corners, keypoints=points))
    assert after.getpixel((140, 60)) != GREY, "on a slanted side"
    assert after.getpixel((179, 40)) == GREY, "not on the upright one"
    assert after.getpixel((100, 100)) != GREY
    assert after.getpixel((30, 30)) == GREY


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 500), (500, 3), (32, 32)])
def test_small_pictures(size: tuple[int, int]) -> None:
    some = Classifications(np.array([0.9, 0.1]), np.array([0, 7]), METADATA)
    for results in (some, objects([(0, 0, 3, 3)]), objects([])):
        assert draw(ground(*size), results).size == size


def test_what_draw_takes(tmp_path: Path) -> None:
    found = objects([(10, 10, 50, 50)])
    Image.new("RGB", (80, 60), GREY).save(tmp_path / "x.png")
    wanted = draw(ground(80, 60), found).tobytes()
    before = ground(80, 60)
    for picture in (tmp_path / "x.png", (tmp_path / "x.png").read_bytes(), Image.open(tmp_path / "x.png"), before):
        assert draw(picture, found).tobytes() == wanted
    assert (before == GREY).all(), "the picture stays as it was"
    assert draw(before[..., 0], found).mode == "RGB"
    assert draw(before[:, ::-1, ::-1], found).tobytes() == wanted
    with pytest.raises(OptionError, match=r"wanted what a task returned: Classifications, "):
        draw(before, [found[0]])  # type: ignore[arg-type]


def test_labels_are_one_clean_line() -> None:
    odd = Metadata("", "", "", (), (), ("a\n\x1b[2J" + "b" * 500,))
    draw(ground(200, 100), Classifications(np.array([0.9]), np.array([0]), odd))
    draw(ground(200, 100), Poses(np.array([0.9]), np.zeros((1, 3, 3), np.float32), np.array([(0, 0, 9, 9)])))
    draw(ground(20, 10), Segmentation(np.full((10, 20), 255, np.uint8), ()))


# inspect


def test_inspect_says_what_the_model_is_for(models_dir: Path) -> None:
    vision = call_json("inspect", models_dir / COCO)["vision"]
    assert vision["task"] == "detector"
    assert vision["layout"].startswith("list, boxes yxyx")
    assert vision["layout_source"] == "metadata"
    assert vision["preparation"]["resize"] == "stretch"
    done = call("inspect", models_dir / "yolox_nano.onnx", COLUMNS="200")
    assert done.stderr == "", "what is assumed is shown, not warned of"
    assert "letterbox, assumption: nothing says so" in done.stdout
    assert "by the outputs' shapes" in done.stdout


def test_inspect_of_what_is_not_recognised(models_dir: Path, tmp_path: Path) -> None:
    given = partial(built, tmp_path, {"a": np.zeros((3, 7), np.float32), "b": np.zeros((2, 5), np.float32)})
    path = given()[0]
    assert call_json("inspect", path)["vision"]["task"] is None
    lines = call("inspect", path, COLUMNS="1000").stdout.splitlines()
    (line,) = [line for line in lines if "not recognised" in line]
    assert line.startswith("task ")
    assert call_json("inspect", models_dir / "add_10x10.tflite")["vision"] is None
    assert "Vision" not in call("inspect", models_dir / "add_10x10.tflite").stdout


def test_inspect_of_the_projects_own_model() -> None:
    vision = json.loads(call("inspect", DIGITS, "--json").stdout)["vision"]
    assert vision["task"] == "classifier"
    assert vision["preparation"]["color"] == "GRAYSCALE"
