"""The command line as a user meets it: processes, their output and their exit status."""

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest
from declaring import declare

import accelerate

pytest.importorskip("click", reason="needs the extra: cli")
pytest.importorskip("rich", reason="needs the extra: cli")

from accelerate.cli.cleaning import CleanFormatter
from accelerate.cli.rendering import print_fields, print_table
from accelerate.cli.terms import as_options

Image = pytest.importorskip("PIL.Image", reason="needs the extra: cli")

DATA = Path(accelerate.__file__).parent / "data"
DIGITS, DIGITS_FLOAT, DIGITS_INT8 = (DATA / f"digits_{form}.tflite" for form in ("uint8", "float", "int8"))
SEVEN = DATA / "digit.png"
SCRIPT = [str(Path(sys.executable).with_name("edge-accelerate"))]
MODULE = [sys.executable, "-m", "accelerate"]

# Hides packages from the import system as if they were not installed.
WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {names!r}
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from edge_accelerate_cli import main
sys.exit(main())
"""


def call(
    *arguments: object, program: list[str] = SCRIPT, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "COLUMNS": "80", **environment},
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def call_json(*arguments: object, **more: Any) -> Any:
    return json.loads(call(*arguments, "--json", **more).stdout)


def refusal(*arguments: object, program: list[str] = SCRIPT) -> str:
    done = call(*arguments, program=program, status=1)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    return done.stderr


def without(*names: str) -> list[str]:
    return [sys.executable, "-c", WITHOUT.format(names=names)]


@pytest.fixture(scope="module")
def pixels() -> Any:
    """The picture at the model's size, scaled by a formula of our own."""
    own = np.asarray(Image.open(SEVEN).convert("L"), np.float64)
    places = (np.arange(8) + 0.5) * own.shape[0] / 8 - 0.5
    low, part = np.floor(places).astype(int), places % 1
    rows = own[low] * (1 - part[:, None]) + own[low + 1] * part[:, None]
    return np.rint(rows[:, low] * (1 - part) + rows[:, low + 1] * part).astype(np.uint8)


@pytest.mark.parametrize("program", [SCRIPT, MODULE], ids=["script", "module"])
def test_run_shows_results_and_what_ran(program: list[str]) -> None:
    out = call("run", DIGITS, SEVEN, program=program).stdout
    first_result = out.splitlines()[2].split()
    assert first_result == ["0.9961", "7", "seven"]
    assert "Ran on tflite_cpu, device cpu, " in out
    assert "first call " in out
    assert "loaded in " in out


def test_run_json_has_what_the_table_has() -> None:
    report = call_json("run", DIGITS, SEVEN, "--top", 2)
    assert report["results"][0] == {"index": 7, "label": "seven", "score": pytest.approx(0.99609375)}
    assert len(report["results"]) == 2
    assert report["outputs"][0]["data_type"] == "uint8"
    assert report["outputs"][0]["dequantized"] is True
    assert (report["backend"], report["device"]) == ("tflite_cpu", "cpu")
    assert report["engine"]
    assert report["engine_version"]
    assert all(report["milliseconds"][key] > 0 for key in ("load", "first_call", "second_call"))


@pytest.mark.parametrize("model", [DIGITS_FLOAT, DIGITS_INT8], ids=["float", "int8"])
def test_run_normalises_a_picture_as_the_metadata_says(model: Path) -> None:
    done = call("run", model, SEVEN)
    assert done.stdout.splitlines()[2].split()[1:] == ["7", "seven"]
    assert done.stderr == ""


def test_run_normalises_a_picture_for_a_float_model_and_says_so(tmp_path: Path) -> None:
    silent = tmp_path / "silent.tflite"
    silent.write_bytes(odd_models.image_float())
    assert call("run", silent, SEVEN).stderr.startswith("warning: ")
    assert call("run", silent, SEVEN, "--option", "normalization=[127.5, 127.5]").stderr == ""


def test_run_says_how_it_is_told_and_nothing_else(tmp_path: Path) -> None:
    silent = tmp_path / "silent.tflite"
    silent.write_bytes(odd_models.image_float())
    assert '--option "normalization=(127.5, 127.5)" confirms it' in call("run", silent, SEVEN).stderr
    assert '--option "normalization=(mean, std)"' in refusal("run", DIGITS.with_name("digits.onnx"), SEVEN)
    assert call("run", DIGITS, SEVEN, "--option", "normalization=(0, 255)").stderr == ""


def test_run_takes_a_small_grey_picture_where_the_user_says_that_the_input_is_one(tmp_path: Path) -> None:
    silent = tmp_path / "silent.tflite"
    silent.write_bytes(DIGITS_FLOAT.read_bytes().replace(b"TFLITE_METADATA", b"OTHER__METADATA"))
    assert "normalization=[127.5, 127.5]" in refusal("run", silent, SEVEN)
    settled = call("run", silent, SEVEN, "--option", "normalization=[127.5, 127.5]")
    assert settled.stdout.splitlines()[2].split()[1:] == ["7"]
    assert settled.stderr == ""


def test_run_labels(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("zero\none\ntwo\nthree\nfour\nfive\nsix\n[bold]seven\x1b[2J\neight\nnine\n", encoding="utf-8")
    out = call("run", DIGITS, SEVEN, "--labels", labels).stdout
    assert out.splitlines()[2].split() == ["0.9961", "7", r"[bold]seven\x1b[2J"]


def test_run_takes_arrays_like_the_picture(tmp_path: Path, pixels: Any) -> None:
    np.save(tmp_path / "one.npy", pixels[None, :, :, None])
    np.savez(tmp_path / "named.npz", image=pixels[None, :, :, None])
    from_picture = call_json("run", DIGITS, SEVEN)["outputs"]
    assert call_json("run", DIGITS, tmp_path / "one.npy")["outputs"] == from_picture
    assert call_json("run", DIGITS, tmp_path / "named.npz")["outputs"] == from_picture


def test_run_takes_a_colour_picture_of_another_shape(tmp_path: Path) -> None:
    wide = Image.open(SEVEN).convert("RGB").resize((200, 90))
    wide.save(tmp_path / "wide.jpg")
    assert call_json("run", DIGITS, tmp_path / "wide.jpg")["results"][0]["index"] == 7


def test_run_passes_the_options_of_load_on() -> None:
    report = call_json(
        "run", DIGITS, SEVEN, "--backend", "tflite_cpu", "--device", "cpu", "--threads", 2, "--timeout", 30
    )
    assert report["results"][0]["index"] == 7
    assert "did you mean 'engine'" in refusal("run", DIGITS, SEVEN, "--option", "engin=litert")
    said = refusal("run", DIGITS, SEVEN, "--backend", "tflite_cpu", "--device", "gpu")
    assert "has no device of the kind 'gpu'; take one of its devices: cpu" in said
    assert "inspect MODEL --write-description" in refusal("run", DIGITS, SEVEN, "--option", "resize=letterbox")


def test_run_names_what_is_wrong_with_the_model(tmp_path: Path) -> None:
    assert "there is no file" in refusal("run", tmp_path / "missing.tflite", SEVEN)
    assert "a PNG picture" in refusal("run", SEVEN, SEVEN)
    said = refusal("run", DIGITS, SEVEN, "--backend", "tflite")
    assert "there is no backend 'tflite' (did you mean 'tflite_cpu'?)" in said
    assert "install the distribution" not in said


def test_run_names_what_is_wrong_with_the_input(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal("run", DIGITS, tmp_path / "missing.png")
    assert "is not a picture that" in refusal("run", DIGITS, DIGITS)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    assert "cannot be read" in refusal("run", DIGITS, tmp_path / "cut.npy")
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    assert "allow_pickle" in refusal("run", DIGITS, tmp_path / "pickle.npy")
    np.savez(tmp_path / "other.npz", picture=np.zeros((1, 8, 8, 1), np.uint8))
    assert "the model has no input 'picture'" in refusal("run", DIGITS, tmp_path / "other.npz")
    np.save(tmp_path / "large.npy", np.zeros((1, 9, 9, 1), np.uint8))
    assert "got uint8[1, 9, 9, 1], wanted uint8[1, 8, 8, 1]" in refusal("run", DIGITS, tmp_path / "large.npy")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    assert "more than 8 bits" in refusal("run", DIGITS, tmp_path / "deep.png")


@pytest.mark.parametrize("text", ["(127.5,127.5)", "(127.5, 127.5)", "[127.5, 127.5]"])
def test_an_option_is_written_as_the_remedy_shows_it(text: str) -> None:
    onnx = DIGITS.with_name("digits.onnx")
    assert "normalization=(mean, std)" in refusal("run", onnx, SEVEN)
    assert call_json("run", onnx, SEVEN, "--option", f"normalization={text}")["results"][0]["index"] == 7


def test_options_are_json_or_python_or_text() -> None:
    from accelerate.cli.parameters import _parse_value

    given = ["true", "True", "None", "2", "litert", "a,b", "{'a': 1}", "[1, 2", "/dev/x", "(1,2)"]
    assert [_parse_value(text) for text in given] == [
        *(True, True, None, 2, "litert", "a,b", {"a": 1}, "[1, 2", "/dev/x", (1, 2)),
    ]


def test_version() -> None:
    assert call("--version").stdout == f"edge-accelerate {accelerate.__version__}\n"


def test_a_full_disk_is_an_error_of_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    for more in ((), ("--json",)):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*SCRIPT, "run", DIGITS, SEVEN, *more], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
            )
        assert done.returncode == 1
        assert done.stderr.startswith("error: the output cannot be written: No space left on device")
        assert done.stderr.count("\n") == 1


def test_names_of_files_do_not_steer_the_terminal(tmp_path: Path) -> None:
    hostile = tmp_path / "a\x1b[31m\udcff\nb.tflite"
    assert r"a\x1b[31m\udcff" in refusal("run", hostile, SEVEN)
    hostile.write_text("text")
    assert "\x1b" not in refusal("inspect", hostile)
    assert "\x1b" not in call("run", DIGITS, SEVEN, "--\x1b[31m", status=2).stderr
    hostile.write_bytes(odd_models.image_float())
    assert "\x1b" not in call("run", hostile, SEVEN).stdout


def test_what_an_encoding_lacks_is_shown_by_its_number(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"größe {n}" for n in range(10)), encoding="utf-8")
    out = call("run", DIGITS, SEVEN, "--labels", labels, PYTHONIOENCODING="ascii").stdout
    assert r"gr\xf6\xdfe 7" in out


def test_warnings_do_not_steer_the_terminal() -> None:
    record = logging.makeLogRecord({"msg": "label \x1b[2J", "levelname": "WARNING"})
    assert CleanFormatter("warning: %(message)s").format(record) == r"warning: label \x1b[2J"


def test_nothing_is_folded_where_there_is_no_terminal() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    done = subprocess.run(
        [*SCRIPT, "inspect", DIGITS], capture_output=True, encoding="utf-8", timeout=60, env=environment
    )
    digest = call_json("inspect", DIGITS)["file"]["sha256"]
    lines = done.stdout.splitlines()
    assert f"SHA-256       {digest}" in lines
    assert f"file          {DIGITS}" in lines


def test_long_names_of_fields_are_not_folded_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_fields([("a" * 100, "b" * 300)])
    assert capsys.readouterr().out == f"{'a' * 100}  {'b' * 300}\n"
    monkeypatch.setenv("COLUMNS", "80")
    print_fields([("a" * 100, "b" * 300)])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_column_of_figures_is_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    figures = ["123456789", "987654321"]
    print_table(("name", "one", "other", "why"), [("a name of some length", *figures, "because")], ["name", "why"])
    out = capsys.readouterr().out
    assert all(figure in out for figure in figures)
    monkeypatch.setenv("COLUMNS", "50")
    print_table(("name", "one", "other", "why"), [("short unbreakable", *figures, "because of it")], ["name", "why"])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 50
    assert all(word in out for word in (*figures, "unbreakable", "because"))


def test_wrong_usage_exits_with_2() -> None:
    assert "Missing argument 'INPUT...'" in call("run", DIGITS, status=2).stderr
    assert "backend is given by --backend" in call("run", DIGITS, SEVEN, "--option", "backend=x", status=2).stderr
    assert "wanted KEY=VALUE" in call("run", DIGITS, SEVEN, "--option", "engine", status=2).stderr
    assert "No such command" in call("walk", status=2).stderr
    assert "wanted a finite number above 0" in call("run", DIGITS, SEVEN, "--timeout", "nan", status=2).stderr


@pytest.mark.parametrize("packages", [("click",), ("rich",), ("PIL", "cv2")], ids=" and ".join)
def test_a_missing_extra_is_named_with_its_command(packages: tuple[str, ...]) -> None:
    error = refusal("run", DIGITS, SEVEN, program=without(*packages))
    assert 'pip install "edge-accelerate[cli]"' in error


def test_arrays_need_no_pillow(tmp_path: Path, pixels: Any) -> None:
    np.save(tmp_path / "one.npy", pixels[None, :, :, None])
    assert call_json("run", DIGITS, tmp_path / "one.npy", program=without("PIL"))["results"][0]["index"] == 7


def test_doctor_passes_here() -> None:
    out = call("doctor").stdout
    assert "PASS   tflite_cpu" in out
    assert "no other package named 'accelerate'" in out
    report = call_json("doctor")
    assert "tflite_cpu" in [b["name"] for b in report["backends"] if b["available"]]
    assert ("tflite_cpu", "cpu") in [(device["backend"], device["id"]) for device in report["devices"]]
    assert report["edge_accelerate"]["version"] == accelerate.__version__


def test_doctor_without_a_runtime_fails_with_the_remedy() -> None:
    runtimes = ("ai_edge_litert", "tflite_runtime", "onnxruntime", "openvino", "grpc", "viam")
    done = call("doctor", program=without(*runtimes), status=1)
    assert "FAIL   tflite_cpu" in done.stdout
    assert 'pip install "edge-accelerate[litert]"' in done.stdout


def test_doctor_finds_the_package_of_the_same_name(tmp_path: Path) -> None:
    record = tmp_path / "accelerate-1.2.3.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: accelerate\nVersion: 1.2.3\n", encoding="utf-8")
    found = call_json("doctor", PYTHONPATH=str(tmp_path))["huggingface_accelerate"]
    assert found == [{"version": "1.2.3", "path": str(tmp_path)}]
    assert "Hugging Face accelerate is installed too" in call("doctor", PYTHONPATH=str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("load(..., backend='b', url='host:8001') ships it", "--backend b --option url=host:8001 ships it"),
        ("name one: load(..., library=path), or X=path", "name one: --option library=path, or X=path"),
        ("use backend='edgetpu', or device=\"cpu\"", "use --backend edgetpu, or --device cpu"),
        ("settle it by load(..., shapes={'x': (...), 'y': (...)})", "settle it by --shape x=... --shape y=..."),
        ("give load(..., label_path=…, num_threads=2)", "give --labels --threads 2"),
        ("load(..., headers={'a': 'B, (c)'}): it", "--option \"headers={'a': 'B, (c)'}\": it"),
        ("give load(..., api_key=, api_key_id=)", "give --option api_key=... --option api_key_id=..."),
        ("take another port: port=0 is a free one", "take another port: --port 0 is a free one"),
        # of other functions, and of no argument
        ("call(device=0), load(..., whatever)", None),
        ("layout={'kind': …}, input_color='RGB', file:///a?url='b'x", None),
    ],
)
def test_arguments_are_told_as_options(said: str, shown: str | None) -> None:
    assert as_options(said) == (said if shown is None else shown)


def test_remedies_are_for_commands() -> None:
    plan = call("inspect", DIGITS, COLUMNS="200", EDGE_ACCELERATE_TRITON_URL="").stdout
    assert "--backend triton --option url=host:8001 ships a file there" in plan
    bench = call("bench", DIGITS, "--seconds", 0.01, "--callers", 1, "--backend", "tflite_delegate", status=1).stdout
    for out in (plan, call("doctor", COLUMNS="200").stdout, bench):
        assert "name one: --option library=path" in out
        assert "load(..." not in out
    given = ("--backend", "triton", "--option", "url=127.0.0.1:9")
    assert "127.0.0.1:9" in refusal("run", DIGITS, SEVEN, *given), "what is told is taken"


def test_inspect_says_once_what_is_so_of_several_backends() -> None:
    out = call("inspect", DIGITS.with_name("digits.onnx"), COLUMNS="200").stdout
    assert out.count("digits.onnx is an ONNX model, not a TFLite model") == 1
    assert re.search(r"^cannot +edgetpu, tflite_cpu, tflite_delegate +-", out, re.M)
    assert re.search(r"^tflite_cpu, tflite_delegate +convert it", out, re.M)


def test_inspect_says_who_asks_a_server() -> None:
    assert "`edge-accelerate run` asks" in call("inspect", "triton://127.0.0.1:9/model").stdout


def test_inspect_shows_file_tensors_and_plan() -> None:
    out = call("inspect", DIGITS).stdout
    assert max(map(len, out.splitlines())) <= 80
    for text in ("SHA-256 ", "FULLY_CONNECTED (2)", "10 in labels.txt", "image NHWC GRAYSCALE", "chosen   tflite_cpu"):
        assert text in out


@pytest.mark.parametrize(
    "hidden", [(), ("ai_edge_litert", "tflite_runtime", "openvino")], ids=["runtime", "no-runtime"]
)
def test_inspect_says_what_the_loaded_model_says(hidden: tuple[str, ...]) -> None:
    report = call_json("inspect", DIGITS, program=without(*hidden))
    graph = report["content"]["graphs"][0]
    with accelerate.load(DIGITS) as model:
        said = model.metadata()
    assert graph["inputs"] == [json.loads(json.dumps(asdict(info))) for info in said.inputs]
    assert graph["outputs"] == [json.loads(json.dumps(asdict(info))) for info in said.outputs]
    assert graph["type"] == said.type
    assert (report["plan"]["chosen"] is None) == bool(hidden)
    if hidden:
        remedies = {c["backend"]: c["remedy"] for c in report["plan"]["skipped"]}
        assert remedies["tflite_cpu"] == 'pip install "edge-accelerate[litert]"'


def test_inspect_names_what_is_wrong(tmp_path: Path) -> None:
    assert "there is no file" in refusal("inspect", tmp_path / "missing.tflite")
    assert "a PNG picture, not a model" in refusal("inspect", SEVEN)
    assert f"{tmp_path} is a directory, not a model" in refusal("inspect", tmp_path)
    (tmp_path / "cut.tflite").write_bytes(DIGITS.read_bytes()[:400])
    assert "cut.tflite" in refusal("inspect", tmp_path / "cut.tflite")


def test_inspect_reads_onnx_files_without_a_runtime() -> None:
    hidden = ("onnxruntime", "ai_edge_litert", "openvino")
    report = call_json("inspect", DIGITS.with_name("digits.onnx"), program=without(*hidden))
    assert report["file"]["format"] == "onnx"
    content = report["content"]
    assert content["operators"]["Gemm"] == 2
    assert content["labels"]["count"] == 10
    (image,) = content["graphs"][0]["inputs"]
    assert (image["name"], image["data_type"], image["shape"], image["layout"]) == (
        "image",
        "float32",
        [-1, 1, 8, 8],
        "NCHW",
    )
    assert report["plan"]["chosen"] is None


def test_inspect_of_a_damaged_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07\x12\x04test")
    assert "it has no graph" in refusal("inspect", tmp_path / "model.onnx")


def test_a_narrow_terminal_folds_and_loses_nothing() -> None:
    out = call("inspect", DIGITS, COLUMNS="40").stdout
    digest = call_json("inspect", DIGITS)["file"]["sha256"]
    assert digest in "".join(line.removeprefix("SHA-256").strip() for line in out.splitlines())
    assert max(map(len, out.splitlines())) <= 40


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = subprocess.run(
        f"'{SCRIPT[0]}' inspect '{DIGITS}' --json | head -n 1", shell=True, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


PLUGIN = """
from accelerate.contract import Availability, Backend, Device, Match

class {name}(Backend):
    name, description, extra = "{name}", "", ""
    commands = {commands}

    def availability(self): return Availability(False, reason="it is of a test")
    def devices(self, options): return []
    def match(self, source, options): return Match(False, "it is of a test")
    def load(self, source, options): raise NotImplementedError
"""


def install(folder: Path, name: str, commands: object) -> str:
    """Install a backend, and return the PYTHONPATH with it."""
    (folder / f"{name}.py").write_text(PLUGIN.format(name=name, commands=commands))
    declare(folder, name, **{name: name})
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def test_a_backend_brings_its_commands(tmp_path: Path) -> None:
    path = install(tmp_path, "kind", {"greet": "greeting:greet", "run": "greeting:greet"})
    (tmp_path / "greeting.py").write_text(
        "import click\n@click.command(help='Be kind.')\n@click.argument('whom')\ndef greet(whom): print('hi', whom)\n"
    )
    assert re.search("greet +Be kind.", call("--help", PYTHONPATH=path).stdout)
    assert call("greet", "you", PYTHONPATH=path).stdout == "hi you\n"
    assert "Run MODEL on INPUT" in call("run", "--help", PYTHONPATH=path).stdout  # ours cannot be taken
    imported = call("inspect", DIGITS, PYTHONPATH=path, PYTHONVERBOSE="1").stderr
    assert "import 'kind'" in imported
    assert "import 'greeting'" not in imported


@pytest.mark.parametrize(
    ("target", "says"),
    [("broken:x", "it is broken"), ("nowhere:x", "No module named 'nowhere'"), ("json:loads", "no click.Command")],
)
def test_a_broken_command_of_a_backend_breaks_only_itself(tmp_path: Path, target: str, says: str) -> None:
    path = install(tmp_path, "bad", {"odd": target})
    (tmp_path / "broken.py").write_text("raise SystemExit('it is broken')")
    listed = " ".join(call("--help", PYTHONPATH=path).stdout.split())
    assert "odd Broken: the command 'odd' of the backend 'bad'" in listed
    assert "Show a model's file" in listed
    done = call("odd", "--any", "thing", status=1, PYTHONPATH=path)
    assert says in done.stderr
    assert "update or uninstall" in done.stderr


def test_a_backend_whose_commands_are_nonsense(tmp_path: Path) -> None:
    path = install(tmp_path, "worse", 5)
    done = call("--help", PYTHONPATH=path)
    assert "Show a model's file" in done.stdout
    assert "worse.commands is 5; wanted a mapping of str to str" in done.stderr


# Dynamic dimensions


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ["batch", 3, "height", "width"] that takes even sides only."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    import odd_onnx

    path = tmp_path_factory.mktemp("models") / "halved.onnx"
    path.write_bytes(odd_onnx.halved())
    return path


def test_run_takes_shapes(halved: Path, tmp_path: Path) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "odd.png")
    said = refusal("run", halved, tmp_path / "odd.png", "--option", "normalization=[0,1]")
    assert "'x' [-1, 3, -1, -1] was run as [1, 3, 5, 7]" in said
    assert "--shape" in said
    for shape in ("1x3x4x6", "x=1X3x4x6", "0=1x3x4x6"):
        given = ("--shape", shape, "--option", "normalization=[0,1]")
        assert call_json("run", halved, tmp_path / "odd.png", *given)["outputs"][0]["shape"] == [1, 6, 4, 6]
    assert "no input 'image'" in refusal("run", halved, tmp_path / "odd.png", "--shape", "image=1x3x4x6")
    done = call("run", halved, tmp_path / "odd.png", "--option", "shapes=[1,3,4,6]", status=2)
    assert "shapes is given by --shape" in done.stderr


@pytest.mark.parametrize("shape", ["", "x=", "1x", "axb", "=1x2", "1x-2", "²x3"])
def test_a_shape_is_numbers(shape: str) -> None:
    assert "wanted NAME=1x3x320x320" in call("inspect", DIGITS, "--shape", shape, status=2).stderr


def test_each_of_several_shapes_has_a_name() -> None:
    for second in ("1x3", "x=1x3"):
        done = call("inspect", DIGITS, "--shape", "x=1x2", "--shape", second, status=2)
        assert "of several shapes each needs the name of another input" in done.stderr


def test_inspect_shows_the_shapes(halved: Path, tmp_path: Path) -> None:
    import odd_onnx

    (tmp_path / "m.onnx").write_bytes(odd_onnx.halved({"imgsz": "[4, 6]"}))
    assert "exported for [1, 3, 4, 6]" in call("inspect", tmp_path / "m.onnx").stdout
    report = call_json("inspect", halved, "--shape", "1x3x4x6")
    assert report["content"]["graphs"][0]["inputs"][0]["shape"] == [1, 3, 4, 6]
    assert report["plan"]["chosen"]["backend"] == "onnxruntime"
    assert "cannot become [1, 3, 4]" in refusal("inspect", halved, "--shape", "x=1x3x4")


def test_bench_takes_shapes(halved: Path) -> None:
    failed = call_json("bench", halved, "--backend", "onnxruntime", "--seconds", 0.1, status=1)["results"][0]
    assert failed["status"] == "failed"
    assert "'x' [-1, 3, -1, -1] was run as [1, 3, 1, 1]" in failed["remedy"]
    given = ("--backend", "onnxruntime", "--shape", "x=1x3x4x6", "--callers", 1, "--seconds", 0.1)
    done = subprocess.run(
        [*SCRIPT, "bench", str(halved), *map(str, given), "--json"], capture_output=True, encoding="utf-8", timeout=60
    )
    (row,) = json.loads(done.stdout)["results"]
    assert row["status"] in ("ok", "INVALID")  # a run of this length may be too short to be judged
    assert row["inputs"] == {"x": "float32[1, 3, 4, 6]"}
