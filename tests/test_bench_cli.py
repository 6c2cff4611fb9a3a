"""``edge-accelerate bench`` and ``pytest --benchmark`` as a user meets them: processes, their output, their status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import accelerate

pytest.importorskip("click", reason="needs the extra: cli")
pytest.importorskip("rich", reason="needs the extra: cli")
pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

DATA = Path(accelerate.__file__).parent / "data"
DIGITS, TWIN = DATA / "digits_uint8.tflite", DATA / "digits.onnx"
BACKENDS = ("--backend", "tflite_cpu", "--backend", "onnxruntime")  # of those that may be here
QUICK = ("--seconds", "0.3", "--callers", "1,2", *BACKENDS)


def call(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return call("accelerate", "bench", *arguments)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = bench(DIGITS, TWIN, *QUICK, "--rate", "200", "--json")
    path = tmp_path_factory.mktemp("bench") / "report.json"
    path.write_text(done.stdout)
    return path


def test_json(report: Path) -> None:
    content = json.loads(report.read_text())
    ran = [row for row in content["results"] if row["status"] != "missing"]
    assert {row["backend"] for row in ran} == {"tflite_cpu", "onnxruntime"}
    assert all(row["rate"]["latency_us"]["n"] == 60 for row in ran)
    settings = {"seconds": 0.3, "rate": 200.0, "callers": [1, 2], "seed": 0, "threads": 1, "options": []}
    assert content["settings"] == settings


def test_table_fits_80_columns() -> None:
    done = bench(DIGITS, TWIN, *QUICK)
    assert done.stderr == ""  # no bar where there is no terminal
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "not run: " not in done.stdout
    assert "tflite_cpu cpu digits_uint8.tflite" in done.stdout
    assert "onnxruntime cpu digits.onnx" in done.stdout
    assert "caller(s)" not in done.stdout
    assert done.stdout.count(" reference ") == 2  # the row's mark, and which it is
    assert "The reference is tflite_cpu:cpu, digits_uint8.tflite, the CPU engine" in done.stdout
    assert "Each has 1 CPU thread." in done.stdout
    for word in ("p50", "p99.9", "tflite_cpu", "onnxruntime", "top-1", "SHA-256", "own cost", "LiteRT", "governor"):
        assert word in done.stdout


def test_missing_device_is_a_row_with_its_reason() -> None:
    done = bench(DIGITS, "--device", "warp:9", *QUICK)
    assert done.returncode == 1
    assert "Not measured" in done.stdout
    assert "warp:9" in done.stdout
    assert "tflite_cpu warp:9  not run: tflite_cpu has no device" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "MODEL"),
        ((DIGITS, "--callers", "0"), "1,2,4"),
        ((DIGITS, "--callers", "many"), "1,2,4"),
        ((DIGITS, "--rate", "0"), "--rate"),
        ((DIGITS, "--threads", "0"), "--threads"),
        ((DIGITS, "--rate", "nan"), "'nan'; wanted a finite number"),
        ((DIGITS, "--seconds", "nan"), "'nan'; wanted a finite number"),
        ((DIGITS, "--seconds", "inf"), "'inf'; wanted a finite number"),
        (("compare", "a.json", "b.json", "--fail-if", "p50"), "p50>+5%"),
    ],
)
def test_wrong_usage(arguments: tuple[object, ...], message: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("nothing-here.tflite",), (__file__,), (DIGITS, "--backend", "abacus"), ("compare", "a.json", "b.json")],
)
def test_errors_are_one_line(arguments: tuple[object, ...]) -> None:
    done = bench(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_help_names_both() -> None:
    assert "bench compare" in bench("--help").stdout
    assert "--fail-if" in bench("compare", "--help").stdout


def test_compare_with_a_planted_slow_down(report: Path, tmp_path: Path) -> None:
    content = json.loads(report.read_text())
    for row in content["results"]:
        if "latency_us" in row:
            row["status"] = "ok"  # on a busy machine it may be INVALID, which is not what is tested here
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps(content))
    equal = bench("compare", before, before, "--fail-if", "p50>+5%")
    assert equal.returncode == 0
    assert "same" in equal.stdout
    for row in content["results"]:
        if row["backend"] == "onnxruntime" and "rounds" in row:
            row["latency_us"]["p50"] *= 2
            row["rounds"] = [{**one, "us": [2 * value for value in one["us"]]} for one in row["rounds"]]
    after.write_text(json.dumps(content))
    slower = bench("compare", before, after, "--fail-if", "p50>+5%")
    assert slower.returncode == 1
    assert "slower" in slower.stdout
    assert "FAILED: digits.onnx on onnxruntime:cpu has p50 +100.0%" in slower.stdout
    assert bench("compare", before, after).returncode == 0
    as_json: dict[str, Any] = json.loads(bench("compare", before, after, "--json").stdout)
    assert {change["verdict"] for change in as_json["changes"]} == {"same", "slower"}


def test_a_gate_that_cannot_be_judged_says_so(report: Path, tmp_path: Path) -> None:
    content = json.loads(report.read_text())
    for row in content["results"]:
        row.update(status="INVALID", reason="it never became steady")
    path = tmp_path / "invalid.json"
    path.write_text(json.dumps(content))
    done = bench("compare", path, path, "--fail-if", "p50>+5%")
    assert done.returncode == 3
    assert "gate not judged: p50>+5% for digits.onnx on onnxruntime:cpu: before is INVALID:" in done.stdout
    assert bench("compare", path, path).returncode == 0
    told = bench("compare", path, path, "--fail-if", "p50>+5%", "--json")
    assert (told.returncode, len(json.loads(told.stdout)["not_judged"])) == (3, 2)


# pytest --benchmark


def run_pytest(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\n")
    return call("pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments, cwd=folder)


QUICKLY = ("--benchmark-max-time", "0.02", "--benchmark-min-rounds", "200")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    pytest.importorskip("pytest_benchmark", reason="needs the extra: bench")
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    return tmp_path


def test_only_the_devices_run_unless_paths_are_given(project: Path) -> None:
    alone = run_pytest(project, "--benchmark", *QUICKLY)
    assert alone.returncode == 0, alone.stdout
    assert "digits_uint8.tflite[tflite_cpu:cpu]" in alone.stdout
    assert "digits.onnx[onnxruntime:cpu]" in alone.stdout
    listed = run_pytest(project, "--benchmark", "--collect-only", "test_own.py")
    assert "test_own.py::test_own" in listed.stdout
    assert "edge-accelerate::digits.onnx[onnxruntime:cpu]" in listed.stdout


def test_saved_runs_have_groups_and_percentiles(project: Path) -> None:
    models = ("--benchmark-model", TWIN, "--benchmark-model", DIGITS)
    options = ("--benchmark", *models, "--benchmark-on", "onnxruntime", "--benchmark-on", "tflite_cpu")
    done = run_pytest(project, *options, "--benchmark-json", "out.json", *QUICKLY)
    assert done.returncode == 0, done.stdout
    saved = json.loads((project / "out.json").read_text())["benchmarks"]
    assert [one["fullname"] for one in saved] == [
        "edge-accelerate::digits.onnx[onnxruntime:cpu]",
        "edge-accelerate::digits_uint8.tflite[tflite_cpu:cpu]",
    ]
    for one in saved:
        assert one["group"] == "digits.onnx"  # the first model's own engine is what the others are set against
        assert one["extra_info"]["threads"] == 1
        assert one["extra_info"]["percentiles_us"].keys() >= {"p50", "p90", "p95", "p99"}
        assert one["extra_info"]["agreement"]["top1"] == 1.0


def test_save_compare_and_compare_fail(project: Path) -> None:
    options = ("--benchmark", "--benchmark-on", "tflite_cpu", *QUICKLY)
    assert run_pytest(project, *options, "--benchmark-save", "one").returncode == 0
    (saved,) = project.glob(".benchmarks/*/*.json")
    content = json.loads(saved.read_text())
    content["benchmarks"][0]["stats"]["min"] /= 100  # as if it had been a hundred times as fast
    saved.write_text(json.dumps(content))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--benchmark-compare", "--benchmark-compare-fail=min:50%"],
        capture_output=True,
        text=True,
        cwd=project,
        check=False,
    )
    assert done.returncode != 0
    assert "Performance has regressed" in done.stdout + done.stderr


def test_a_missing_device_is_skipped_with_its_reason(project: Path) -> None:
    done = run_pytest(project, "--benchmark", "--benchmark-on=warp:9", "--benchmark-on=tflite_cpu", *QUICKLY)
    assert done.returncode == 0, done.stdout
    assert "no device 'warp:9'" in done.stdout
    assert "1 passed" in done.stdout


def test_a_run_that_would_measure_nothing_is_an_error(project: Path) -> None:
    done = run_pytest(project, "--benchmark", "--benchmark-on=warp:9")
    assert done.returncode == 4
    assert "nothing here can run" in done.stderr
    assert "tflite_cpu warp:9 digits_uint8.tflite not run: tflite_cpu has no device 'warp:9'" in done.stderr
    text = run_pytest(project, "--benchmark", "--benchmark-model=test_own.py")
    assert text.returncode == 4
    assert "test_own.py is a text file that starts with" in text.stderr


def test_options_without_the_switch(project: Path) -> None:
    done = run_pytest(project, "--benchmark-on", "cpu")
    assert done.returncode == 4
    assert "--benchmark-on needs --benchmark" in done.stderr


def test_without_pytest_benchmark_it_says_what_to_install(project: Path) -> None:
    hide = (
        "import sys, importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'pytest_benchmark' else real(name, *more)\n"
        "import pytest\nsys.exit(pytest.main(['-p', 'no:benchmark', '--benchmark']))"
    )
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, cwd=project, check=False)
    assert done.returncode == 4
    assert 'pip install "edge-accelerate[bench]"' in done.stderr


def test_workers_of_xdist_are_refused_with_the_reason(project: Path) -> None:
    pytest.importorskip("xdist", reason="the plugin that is refused")
    done = run_pytest(project, "--benchmark", "-n", "2")
    assert done.returncode == 4
    assert "--benchmark measures one device after the other" in done.stderr
    assert "leave -n out, or give -n 0" in done.stderr
    listed = run_pytest(project, "--benchmark", "-n", "0", "--collect-only")
    assert "edge-accelerate::digits.onnx[onnxruntime:cpu]" in listed.stdout


def test_several_models_on_own_inputs(project: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="makes the damaged twin")
    model = onnx.load(TWIN)
    (weights,) = (one for one in model.graph.initializer if one.name == "logits_weights")
    values = onnx.numpy_helper.to_array(weights).copy()
    values[7] *= 2  # the picture is of a seven
    weights.CopyFrom(onnx.numpy_helper.from_array(-values, weights.name))
    onnx.save(model, project / "damaged.onnx")
    folder = project / "pictures"
    folder.mkdir()
    (folder / "seven.png").write_bytes((DATA / "digit.png").read_bytes())
    models = [f"--benchmark-model={path}" for path in (DIGITS, TWIN, "damaged.onnx")]
    options = ("--benchmark", "--benchmark-on=tflite_cpu", "--benchmark-on=onnxruntime", *models, *QUICKLY)
    done = run_pytest(project, *options, f"--benchmark-inputs={folder}", "--benchmark-json", "out.json")
    assert done.returncode == 1, done.stdout
    assert "1 of 1 answers are off those of tflite_cpu:cpu, digits_uint8.tflite" in done.stdout
    assert "2 passed" in done.stdout
    content = json.loads((project / "out.json").read_text())
    assert content["machine_info"]["edge_accelerate"]["usable_cpus"] >= 1
    agree = {one["name"]: one["extra_info"]["on_inputs"]["agrees"] for one in content["benchmarks"]}
    assert agree["digits.onnx[onnxruntime:cpu]"]
    assert not agree["damaged.onnx[onnxruntime:cpu]"]
    gone = run_pytest(project, *options, "--benchmark-inputs=gone")
    assert gone.returncode == 4
    assert "the inputs in gone cannot be read" in gone.stderr


def test_nothing_is_imported_without_the_switch(project: Path) -> None:
    (project / "test_own.py").write_text(
        "import sys\n\ndef test_own():\n"
        "    assert not [m for m in sys.modules if m.partition('.')[0] == 'accelerate']\n"
        "    assert 'edge_accelerate_pytest' in sys.modules\n"
    )
    done = run_pytest(project)
    assert done.returncode == 0, done.stdout


def test_names_on_the_bar_steer_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.cli.progress import shown_progress

    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb") as screen, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        with shown_progress() as notify:
            notify("input 1 of 2: \x1b]0;OWNED\x07\x1b[2J\nnew.png", 0.1)
        shown = screen.read1()
    assert b"\x1b[2K" in shown  # a bar it is
    assert b"\\x1b]0;OWNED\\x07\\x1b[2J new.png" in shown
    assert b"\x1b]0;OWNED" not in shown
