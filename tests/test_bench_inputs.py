"""``bench --inputs``: what own pictures tell of twins, of a damaged one too, and folders that cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("click", reason="needs the extra: cli")
pytest.importorskip("rich", reason="needs the extra: cli")
pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
pytest.importorskip("onnx", reason="makes the damaged twins")
pytest.importorskip("PIL", reason="needs the extra: cli")

import onnx
from PIL import Image, ImageDraw, ImageFont

import accelerate
from accelerate.bench.agreement import adapted_feeds, feeds_from, real_values
from accelerate.bench.gates import Gate, compare_reports, judge, read_report
from accelerate.bench.own_inputs import OwnInputs
from accelerate.bench.page import make_page
from accelerate.bench.report_inputs import tables
from accelerate.bench.rows import Subject
from accelerate.bench.statistics import summarize
from accelerate.bench.verdicts import Answer, Difference, compared, is_suspect, matched, off_by
from accelerate.cli.bench import bench as command
from accelerate.errors import OptionError
from accelerate.inputs.folder import find_inputs
from accelerate.vision import Detections

DATA = Path(accelerate.__file__).parent / "data"
FORMS = ("digits_float.tflite", "digits_uint8.tflite", "digits_int8.tflite", "digits.onnx", "digits_uint8.onnx")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def draw_digit(random: np.random.Generator) -> tuple[Any, str]:
    """Draw a digit as the network saw them: 8 x 8, white on black, a little turned and moved."""
    digit = int(random.integers(10))
    picture = Image.new("L", (64, 64), 0)
    font = ImageFont.load_default(size=int(random.integers(76, 92)))
    place = (32 + int(random.integers(-4, 5)), 32 + int(random.integers(-4, 5)))
    ImageDraw.Draw(picture).text(place, str(digit), fill=255, font=font, anchor="mm")
    small = np.asarray(picture.rotate(float(random.uniform(-12, 12))).resize((8, 8), Image.Resampling.BOX))
    noisy = small * random.uniform(0.8, 1.3) + random.normal(0, 8, (8, 8))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), WORDS[digit]


def write_pictures(folder: Path, count: int, seed: int, *, sorted_by_label: bool = True) -> Path:
    random = np.random.default_rng(seed)
    for n in range(count):
        picture, word = draw_digit(random)
        place = folder / word if sorted_by_label else folder
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{n:02}.png")
    return folder


def damage(path: Path, channel: int, into: Path) -> Path:
    """Double the scale of one channel of the hidden layer."""
    model = onnx.load(path)
    (weights,) = (one for one in model.graph.initializer if one.name == "hidden_weights")
    values = onnx.numpy_helper.to_array(weights).copy()
    values[channel] *= 2
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    onnx.save(model, into)
    return into


def judged(
    models: list[Path], folder: Path, ran_before: Mapping[str, Any] | None = None, **onnx_options: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Compare models on a folder, without measuring them; return what is said of the folder, and the rows."""
    subjects = []
    for path in models:
        backend = "tflite_cpu" if path.suffix == ".tflite" else "onnxruntime"
        row = {
            "model": path.name,
            "path": str(path),
            "backend": backend,
            "device": "cpu",
            "kind": "cpu",
            "status": "ok",
        }
        subjects.append(Subject(row, feeds=dict(ran_before or {})))
        options = onnx_options if backend == "onnxruntime" else {}
        subjects[-1].model = accelerate.load(path, backend=backend, **options)
    own = OwnInputs(find_inputs(folder, 200), lambda what, done: None)
    try:
        own.judge(subjects, subjects[0])
    finally:
        for subject in subjects:
            subject.close()
    return own.report(), [subject.row for subject in subjects]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 20, seed=3)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damage(DATA / "digits.onnx", 1, tmp_path_factory.mktemp("damaged") / "damaged.onnx")


# The verdict


def test_a_damaged_twin_is_found_and_equal_ones_are_not_accused(pictures: Path, damaged: Path) -> None:
    _, rows = judged([*(DATA / form for form in FORMS), damaged], pictures)
    *equal, broken = (row["on_inputs"] for row in rows)
    assert [one["agrees"] for one in equal] == [True] * len(FORMS)
    assert not broken["agrees"]
    assert broken["off"] > 1
    assert broken["top1"] < 1
    first = broken["worst"][0]
    assert first["off"] == max(one["off"] for one in broken["worst"])
    assert first["reference"][0]["label"] in WORDS
    assert first["answer"] != first["reference"]
    assert Path(first["path"]).is_file()


@pytest.mark.slow
def test_50_equal_pairs_are_not_accused_and_damaged_ones_mostly_are(tmp_path: Path) -> None:
    pairs = [(one, other) for one in FORMS for other in FORMS if one != other]
    accused, found = [], 0
    for n in range(50):
        one, other = pairs[n % len(pairs)]
        folder = write_pictures(tmp_path / f"{n}", 20, seed=100 + n)
        broken = damage(DATA / "digits.onnx", n % 48, tmp_path / f"{n}.onnx")
        pixels: dict[str, Any] = {"normalization": (127.5, 127.5)}
        _, (_, twin, last) = judged([DATA / one, DATA / other, broken], folder, **pixels)
        if not twin["on_inputs"]["agrees"]:
            accused.append((n, one, other))
        found += not last["on_inputs"]["agrees"]
    assert accused == []
    assert found >= 33  # of 48 channels some are never used, and no picture can tell


def test_accuracy_by_sub_folders_is_that_of_the_raw_answers(pictures: Path) -> None:
    _, (row,) = judged([DATA / "digits_uint8.tflite"], pictures)
    right = []
    with accelerate.load(DATA / "digits_uint8.tflite") as model:
        for path in sorted(pictures.rglob("*.png")):
            scores = next(iter(model.infer_image(path).values()))
            right.append(WORDS[int(scores.argmax())] == path.parent.name)
    assert row["on_inputs"]["accuracy"] == {**row["on_inputs"]["accuracy"], "inputs": 20, "top1": sum(right) / 20}


def test_reference_and_answers_of_the_same_file_are_equal(pictures: Path) -> None:
    _, rows = judged([DATA / "digits_float.tflite", DATA / "digits.onnx"], pictures)
    assert rows[1]["on_inputs"]["top1"] == rows[1]["on_inputs"]["top5"] == 1
    assert rows[1]["on_inputs"]["most_off"] < 1e-4
    assert rows[1]["on_inputs"]["worst"] == []


def found(*objects: tuple[int, float, tuple[float, float, float, float]]) -> Detections:
    classes, scores, boxes = zip(*objects, strict=True) if objects else ((), (), ())
    with accelerate.load(DATA / "digits_uint8.tflite") as model:
        metadata = model.metadata()
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, np.int64), metadata
    )


def test_boxes_are_matched_by_class_and_overlap() -> None:
    box, beside, far = (0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60)
    assert matched(found((1, 0.9, box)), found((1, 0.8, beside))) == (2, 2)
    assert matched(found((1, 0.9, box)), found((2, 0.8, beside))) == (0, 2)
    assert matched(found((1, 0.9, box)), found((1, 0.8, far))) == (0, 2)
    # on the edge of the threshold one is found, and the other one is not: chance
    assert matched(found((1, 0.41, box)), found((1, 0.39, beside))) == (1, 1)
    # a box is one other's partner only
    assert matched(found((1, 0.9, box), (1, 0.8, beside)), found((1, 0.9, box))) == (2, 3)
    assert matched(found(), found()) == (0, 0)
    assert compared(Answer([], found((1, 0.9, box))), Answer([], found())).boxes == (0, 1)


def test_values_count_by_the_range_of_their_output() -> None:
    large, small = np.linspace(0, 1000, 50), np.linspace(0, 1, 50)
    near = compared(Answer([large, small]), Answer([large + 10, small]))
    off = compared(Answer([large, small]), Answer([large, small + 0.5]))
    assert off_by([near, off]) == pytest.approx([0.01, 0.5])
    assert suspect([near, off])
    nothing = compared(Answer([small]), Answer([np.full(50, np.nan)]))
    json.dumps(off_by([nothing]), allow_nan=False)
    assert suspect([nothing])


def suspect(differences: list[Difference]) -> bool:
    return is_suspect(differences, off_by(differences))


def shares(*off: float) -> list[Difference]:
    return [Difference(((one, 0.0, 1.0),)) for one in off]


def test_one_odd_answer_of_many_is_rounding() -> None:
    assert not suspect(shares(0.1, *[0.0] * 19))
    assert suspect(shares(0.1, 0.1, *[0.0] * 18))
    assert suspect(shares(0.3, *[0.0] * 19))
    assert not suspect(shares(*[0.1] * 4, *[0.0] * 196))
    assert not suspect(shares(*[0.025] * 20))
    assert suspect(shares(*[0.035] * 20))


def test_a_box_in_ten_may_lack_its_partner() -> None:
    def lacking(missing: int, of: int) -> bool:
        return suspect([Difference(((0.5, 0.0, 1.0),), boxes=(of - missing, of))])

    assert not lacking(2, 4)
    assert lacking(3, 4)
    assert not lacking(10, 100)
    assert lacking(11, 100)


def test_who_says_what_pixels_mean_prepares_the_pictures(pictures: Path) -> None:
    _, rows = judged([DATA / "digits.onnx", DATA / "digits_float.tflite"], pictures)
    assert rows[1]["on_inputs"]["top1"] == 1
    with pytest.raises(OptionError, match="normalization"):
        judged([DATA / "digits.onnx", DATA / "digits_uint8.onnx"], pictures)


@pytest.mark.parametrize("form", ["digits_float.tflite", "digits_uint8.tflite", "digits_int8.tflite"])
@pytest.mark.parametrize("bare", ["digits_uint8.onnx", "digits_int8.onnx"])
def test_integers_that_nobody_explains_get_the_levels_of_the_pixels(form: str, bare: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8)
    with accelerate.load(DATA / form) as model, accelerate.load(DATA / bare, backend="onnxruntime") as twin:
        real = real_values(model, adapted_feeds(model.metadata(), "pixels", pixels))
        (levels,) = feeds_from(real, model, twin).values()
    wanted = pixels.astype(int) - (128 if "int8" in bare and "uint8" not in bare else 0)
    assert np.abs(levels.astype(int) - wanted.reshape(1, 1, 8, 8)).max() <= 1  # pixels lie between levels of int8


def test_arrays_and_pictures_may_be_mixed(tmp_path: Path) -> None:
    write_pictures(tmp_path, 3, seed=1, sorted_by_label=False)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (1, 8, 8, 1), np.uint8)
    np.save(tmp_path / "one.npy", pixels)
    np.savez(tmp_path / "two.npz", image=pixels)
    (tmp_path / "notes.txt").write_text("no input")
    report, rows = judged([DATA / "digits_uint8.tflite", DATA / "digits.onnx"], tmp_path)
    assert (report["taken"], report["left_out"]) == (5, [])
    assert rows[1]["on_inputs"]["inputs"] == 5
    assert "accuracy" not in rows[1]["on_inputs"]


# What of a folder cannot be used


def test_broken_files_are_named_and_the_rest_goes_on(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    shutil.copytree(pictures, folder)
    whole = next(folder.rglob("*.png")).read_bytes()
    (folder / "cut.png").write_bytes(whole[:60])
    (folder / "text.jpg").write_text("no picture")
    np.save(folder / "odd.npy", np.zeros((3, 5), np.uint8))
    report, (row,) = judged([DATA / "digits_uint8.tflite"], folder)
    assert sorted(one["name"] for one in report["left_out"]) == ["cut.png", "odd.npy", "text.jpg"]
    assert all(one["reason"] for one in report["left_out"])
    assert row["on_inputs"]["inputs"] == 20


def test_a_folder_of_which_nothing_fits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"there are no files in {tmp_path}"):
        find_inputs(tmp_path, 10)
    with pytest.raises(OptionError, match="gone cannot be read"):
        find_inputs(tmp_path / "gone", 10)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(OptionError, match="give a folder of pictures"):
        find_inputs(tmp_path, 10)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(
        OptionError, match=r"none of the 1 files .* can be given to digits_uint8.tflite; the first, text"
    ):
        judged([DATA / "digits_uint8.tflite"], tmp_path)


def test_an_input_that_does_not_fit_one_row_is_left_out_for_it(tmp_path: Path) -> None:
    for n in range(3):
        np.save(tmp_path / f"{n}.npy", np.full((1, 8, 8, 1), 0.1 * n, np.float32))
    np.save(tmp_path / "nan.npy", np.full((1, 8, 8, 1), np.nan, np.float32))
    report, rows = judged([DATA / "digits_float.tflite", DATA / "digits_int8.tflite"], tmp_path)
    assert [(row["status"], row["on_inputs"]["inputs"]) for row in rows] == [("ok", 4), ("ok", 3)]
    (one,) = report["left_out"]
    assert (one["name"], one["row"]) == ("nan.npy", "tflite_cpu:cpu, digits_int8.tflite")
    assert "it contains NaN" in one["reason"]
    for n in range(3):
        (tmp_path / f"{n}.npy").unlink()
    report, (_, row) = judged([DATA / "digits_float.tflite", DATA / "digits_int8.tflite"], tmp_path)
    assert row["status"] == "failed"  # none fits it
    assert report["left_out"] == []


def test_a_batch_among_single_arrays_is_left_out_wherever_it_stands(tmp_path: Path) -> None:
    for name, count in (("1.npy", 1), ("2.npy", 1), ("3.npy", 4)):
        np.save(tmp_path / name, np.zeros((count, 1, 8, 8), np.float32))
    for batch in ("3.npy", "0.npy"):
        report, (row,) = judged([DATA / "digits.onnx"], tmp_path)
        assert (row["status"], row["on_inputs"]["kind"], row["on_inputs"]["inputs"]) == ("ok", "classes", 2)
        (one,) = report["left_out"]
        assert (one["name"], one["row"]) == (batch, "")
        assert "float32[4, 10]" in one["reason"]
        if (tmp_path / "3.npy").exists():
            (tmp_path / "3.npy").rename(tmp_path / "0.npy")
    (tmp_path / "1.npy").unlink()
    (tmp_path / "2.npy").unlink()
    report, (row,) = judged([DATA / "digits.onnx"], tmp_path)
    assert (row["on_inputs"]["kind"], row["on_inputs"]["inputs"], report["left_out"]) == ("values", 1, [])
    (note,) = report["notes"]
    assert note.startswith("values are compared, for the answers of digits.onnx say nothing else: output 'scores'")


def write_pairs(path: Path) -> Path:
    """Write a model that makes pairs of its values, and cannot where their number is odd."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])
    shape = onnx.numpy_helper.from_array(np.array([-1, 2], np.int64), "shape")
    sides = ([value("x", 1, ["n"])], [value("y", 1, ["m", 2])])
    graph = onnx.helper.make_graph([node], "pairs", *sides, [shape])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_run_that_fails_is_the_inputs_fault_only_in_shapes_that_never_ran(tmp_path: Path) -> None:
    model = write_pairs(tmp_path / "pairs.onnx")
    folder = tmp_path / "inputs"
    folder.mkdir()
    for n in (3, 4, 6):
        np.save(folder / f"{n}.npy", np.zeros(n, np.float32))
    report, (row,) = judged([model], folder)
    assert (row["status"], row["on_inputs"]["inputs"]) == ("ok", 2)
    assert [(one["name"], one["reason"].partition(":")[0]) for one in report["left_out"]] == [
        ("3.npy", "InferenceError")
    ]
    _, (row,) = judged([model], folder, ran_before={"x": np.zeros(3, np.float32)})
    assert row["status"] == "failed"
    assert row["reason"].startswith("InferenceError")


def test_labels_matter_only_to_who_gives_classes(tmp_path: Path) -> None:
    for n in range(2):
        np.save(tmp_path / f"{n}.npy", np.zeros(2, np.float32))
    (tmp_path / "boxes.csv").write_text("file,class,xmin\n0.npy,cat,1\n0.npy,dog,2\n")
    pairs = tmp_path / ".models"
    pairs.mkdir()
    report, (row,) = judged([write_pairs(pairs / "pairs.onnx")], tmp_path)
    assert row["on_inputs"]["inputs"] == 2
    assert report["notes"] == ["what the files show is not compared with pairs.onnx, which gives no classes"]
    with pytest.raises(OptionError, match=r"boxes.csv, line 3: 0.npy is 'dog', and 'cat' before"):
        judged([DATA / "digits_uint8.tflite"], tmp_path)


def test_tables_of_labels_that_are_not_the_models(tmp_path: Path) -> None:
    write_pictures(tmp_path, 3, seed=5, sorted_by_label=False)
    (tmp_path / "labels.csv").write_text("00.png,dog\n01.png,cat\n")
    with pytest.raises(
        OptionError, match=r"none of the labels in labels.csv is a label of .*: cat, dog; it has zero, one"
    ):
        judged([DATA / "digits_uint8.tflite"], tmp_path)
    (tmp_path / "labels.csv").write_text("00.png,dog\n01.png,seven\n")
    report, _ = judged([DATA / "digits_uint8.tflite"], tmp_path)
    assert report["notes"] == [
        "labels.csv does not say what 1 of the files show: 02.png",
        "1 labels are not digits_uint8.tflite's and do not count: dog",
    ]


def test_the_digest_is_of_what_the_files_hold(tmp_path: Path) -> None:
    def digest() -> str:
        return str(OwnInputs(find_inputs(tmp_path, 10), lambda what, done: None).report()["digest"])

    np.save(tmp_path / "0.npy", np.zeros(64, np.float32))
    before = digest()
    assert digest() == before
    np.save(tmp_path / "0.npy", np.ones(64, np.float32))
    assert digest() != before


def test_sub_folders_that_are_no_labels(tmp_path: Path) -> None:
    write_pictures(tmp_path / "front", 2, seed=0, sorted_by_label=False)
    write_pictures(tmp_path / "rear", 2, seed=1, sorted_by_label=False)
    report, (row,) = judged([DATA / "digits_uint8.tflite"], tmp_path)
    assert "accuracy" not in row["on_inputs"]
    (note,) = report["notes"]
    assert note.startswith(
        "none of the sub-folders is a label of digits_uint8.tflite: front, rear (it has zero, one, two"
    )
    write_pictures(tmp_path / "seven", 2, seed=1, sorted_by_label=False)
    report, (row,) = judged([DATA / "digits_uint8.tflite"], tmp_path)
    assert row["on_inputs"]["accuracy"]["inputs"] == 2
    assert report["notes"] == ["2 labels are not digits_uint8.tflite's and do not count: front, rear"]


# As a user meets it


def bench(*arguments: object, status: int | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "accelerate", "bench", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=180,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert status is None or done.returncode == status, done.stdout + done.stderr
    return done


QUICK = ("--seconds", "0.3", "--callers", "1", "--backend", "tflite_cpu", "--backend", "onnxruntime")


@pytest.fixture(scope="module")
def reports(pictures: Path, damaged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a run writes: text, page and test results."""
    folder = tmp_path_factory.mktemp("reports")
    models = (DATA / "digits_float.tflite", DATA / "digits.onnx", damaged)
    files = ("--html", folder / "r.html", "--junit", folder / "r.xml")
    done = bench(*models, "--inputs", pictures, *QUICK, *files, status=1)
    (folder / "r.txt").write_text(done.stdout)
    return folder


def test_what_a_run_writes(reports: Path) -> None:
    text, html = ((reports / name).read_text() for name in ("r.txt", "r.html"))
    assert max(map(len, text.splitlines())) <= 80
    joined = " ".join(text.split())  # where a line ends goes by the length of a folder's name
    for told in ("answers to your inputs", "DIFFERS: these answers", "20 of ", "labels by sub", "from the frame"):
        assert told in joined
    cases = {one.get("classname"): one for one in ElementTree.parse(reports / "r.xml").getroot().iter("testcase")}
    assert "answers are off those of tflite_cpu:cpu" in str(cases["damaged.onnx"].findtext("failure"))
    assert "answers are off" not in str(cases["digits.onnx"].findtext("failure"))
    assert html.count("data:image/jpeg;base64,") >= 5
    assert len(html) < 1_500_000
    assert "Where answers differ the most" in html


def test_json(pictures: Path, damaged: Path) -> None:
    done = bench(
        DATA / "digits_float.tflite", damaged, "--inputs", pictures, *QUICK, "--json", "--html", "/dev/full", status=1
    )
    assert "the report /dev/full cannot be written: No space left" in done.stderr  # which takes no results away
    report = json.loads(done.stdout)
    assert report["inputs"]["taken"] == 20
    assert [row["on_inputs"]["agrees"] for row in report["results"]] == [True, False]
    frames = report["results"][0]["frames"]
    assert frames["latency_us"]["p50"] > frames["infer_us"]["p50"]


def test_wrong_use(pictures: Path, tmp_path: Path) -> None:
    model = DATA / "digits_uint8.tflite"
    for arguments, message in (
        (("--inputs", tmp_path / "gone"), "gone cannot be read"),
        (("--inputs", tmp_path), "there are no files in"),
        (("--inputs", pictures, "--junit", tmp_path / "no" / "x.xml"), "--junit"),
    ):
        done = bench(model, *arguments, status=1)
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
    assert bench(model, "--samples", "0", status=2).stderr


def bench_here(*arguments: object) -> object:
    """Run the command in this process, where an error is raised."""
    model = str(DATA / "digits_uint8.tflite")
    return command.main([model, *QUICK[2:], *map(str, arguments)], standalone_mode=False)


def test_reports_that_cannot_be_written_are_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for file, told in (
        (tmp_path / "loop", "cannot be written: "),
        (tmp_path, "Is a directory; give another --"),
        ("/proc/x", "cannot be written: No such file"),
        (tmp_path / "file" / "x", "there is no folder"),
    ):
        for option in ("--html", "--junit"):
            with pytest.raises(OptionError, match=told):
                bench_here(option, file, "--inputs", tmp_path / "gone")
    (tmp_path / "page").write_text("before")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    for name in ("page", "link", "other", "/dev/full"):
        with pytest.raises(OptionError, match="gone cannot be read"):
            bench_here("--html", tmp_path / name, "--inputs", tmp_path / "gone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "loop", "page"]
    assert (tmp_path / "page").read_text() == "before"


# Gates


def report_of(rows: Mapping[str, float], digest: str = "x", **more: Any) -> dict[str, Any]:
    base = {"backend": "b", "device": "cpu", "status": "ok", "reason": "", "latency_us": {"p50": 1.0}, "rounds": []}
    found = {"agrees": True, "inputs": 100, "reference": "b:cpu, a", **more}
    results = [{"model": name, **base, "on_inputs": {**found, "top1": top1}} for name, top1 in rows.items()]
    return {"schema": 1, "machine": {}, "inputs": {"digest": digest}, "results": results}


def test_gates_of_answers() -> None:
    before = report_of({"a": 0.9, "b": 0.9})
    gates = [Gate.parse("top1<-1%")]
    changes = compare_reports(before, report_of({"a": 0.89, "b": 0.88}), ["top1"])
    assert [change.verdict for change in changes] == ["worse", "worse"]
    (failure,) = judge(changes, gates).failures
    assert failure == "b on b:cpu has top1 88.0% after 90.0%, -2 points; the limit is -1"
    other = judge(compare_reports(before, report_of({"a": 0.1, "b": 0.1}, digest="y"), ["top1"]), gates)
    assert other.failures == []
    assert [line.rpartition(": ")[2] for line in other.not_judged] == ["the inputs are not the same in both"] * 2
    fewer = report_of({"a": 0.1, "b": 0.1}, inputs=50)  # the others were left out
    assert judge(compare_reports(before, fewer, ["top1"]), gates).failures == []
    # where labels say what is right, that counts, and not whether a reference says the same
    right = [report_of({"a": 1.0}, accuracy={"inputs": 100, "top1": share, "top5": 1.0}) for share in (0.9, 0.8)]
    assert judge(compare_reports(right[0], right[1], ["top1"]), gates).failures
    gone = compare_reports(before, {**before, "results": before["results"][:1]}, ["top1"])
    assert [change.verdict for change in gone] == ["same", "lost"]
    assert judge(gone, gates).failures


def test_a_report_of_brackets_is_none(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(OptionError, match=r"deep\.json is no report"):
        read_report(tmp_path / "deep.json")


def timed(p50: float, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    rounds = [{"at": 0.1 * n, "us": random.normal(p50, p50 / 100, 40).tolist()} for n in range(40)]
    row = {"model": "m", "backend": "b", "device": "cpu", "status": "ok", "reason": ""}
    return {"results": [{**row, "latency_us": {"p50": p50}, "rounds": rounds}]}


def test_gates_with_an_absolute_floor() -> None:
    def failed(before: float, after: float, text: str) -> bool:
        return bool(judge(compare_reports(timed(before, 0), timed(after, 1)), [Gate.parse(text)]).failures)

    assert failed(10, 20, "p50>+5%")
    assert not failed(10, 20, "p50>+5%,+50us")
    assert failed(1000, 1100, "p50>+5%,+50us")
    assert not failed(1000, 1100, "p50>+5%,+0.2ms")
    assert not failed(1000, 1020, "p50>+5%,+5us")
    assert str(Gate.parse(" p99 > 5 % , 1 ms ")) == "p99>+5%,+1000us"
    for wrong in ("p50>+5%,50", "p50>+5%,-5us", "top1>+1%", "p50<-5%", "top9<-1%", "top1<-1%,+5us"):
        with pytest.raises(OptionError, match="wanted METRIC"):
            Gate.parse(wrong)


# The page


def test_a_percentile_that_has_too_few_frames_is_explained() -> None:
    from test_bench_page import make_row

    row = make_row("tflite_cpu", "cpu", 5.0)
    for frames, explained in ((99, True), (100, False)):
        figures = summarize(np.linspace(1, 2, frames))
        row["frames"] = {"kind": "classes", "sizes": ["8x8"], "latency_us": figures, "infer_us": figures}
        (table,) = (one for one in tables([row]) if one.title == "from the frame")
        assert (table.rows[0][2] == "-") == explained
        assert any("A p99 takes 100 frames" in note for note in table.notes) == explained


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt install chromium)")
def test_the_page_in_a_browser(reports: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            str(BROWSER),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--proxy-server=127.0.0.1:9", "--no-first-run", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", "--dump-dom"),
            (reports / "r.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr  # what the page's policy refuses is told there
    assert done.stdout.count("<figure>") == 5


def test_names_of_files_are_no_markup(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "x", 2, seed=0, sorted_by_label=False)
    (folder / "00.png").rename(folder / "<b>&.png")
    broken = damage(DATA / "digits.onnx", 1, tmp_path / "damaged.onnx")
    report, rows = judged([DATA / "digits_float.tflite", broken], folder)
    from test_bench_page import make_report, make_row

    shown = [make_row("tflite_cpu", "cpu", 5.0), make_row("onnxruntime", "cpu", 9.0)]
    for row, one in zip(shown, rows, strict=True):
        row["on_inputs"] = one["on_inputs"]
    shown[1]["on_inputs"] |= {"agrees": False}
    for one in shown[1]["on_inputs"]["worst"]:
        one["path"] = str(tmp_path / "gone")
    page = make_page({**make_report(*shown), "inputs": report})
    assert "<b>" not in page.replace("<b>&lt;b&gt;", "")
