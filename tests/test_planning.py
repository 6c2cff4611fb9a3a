"""What users see of the decision which backend runs a model, with backends of strangers beside the built-in ones."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engines
import numpy as np
import pytest
from conftest import ROOT

import accelerate
from accelerate import (
    AccelerateError,
    BackendNotAvailableError,
    DeviceNotFoundError,
    NoBackendError,
    OptionError,
    registry,
)
from accelerate.cli.inspection import inspect_model

DIGITS = Path(accelerate.__file__).parent / "data" / "digits_uint8.tflite"
TOY = b"TOY\0" + bytes(60)
WITH_LITERT = pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT is not installed here")

_PLUGIN = """\
import os
from accelerate.contract import *
from accelerate.errors import *
from accelerate.metadata import Metadata, TensorInfo


class Toy(RuntimeModel):
    def execute(self, feeds):
        return [feeds[0] * 2]


class Plugin(Backend):
    name, description, extra = "{name}", "a stranger's", ""
    formats = {{"toy": "a toy model"}}
    kind, asked = "cpu", []

    @classmethod
    def sniff(cls, head):
        return "toy" if head.startswith(b"TOY") else ""

    def kinds(self):
        return (self.kind,)

    def match(self, source, options):
        return Match(source.format in ("toy", "tflite"), f"{{source}} is {{source.likeness}}")

    def availability(self):
        self.asked.append("availability")
        return Availability(True, "Toy 1")

    def devices(self, options):
        return [Device(self.name, self.kind, self.kind, f"the {{self.kind}}")]

    def load(self, source, options):
        self.asked.append(options)
        tensors = [TensorInfo("x", shape=(3,))], [TensorInfo("y", shape=(3,))]
        return Toy(self.name, *tensors, RuntimeInfo("Toy", "1", options.device), options)

{body}
"""
_numbers = itertools.count()
Install = Callable[..., Any]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a stranger's backend: the toy above, with what `body` has of the class in its place."""

    def write(name: str, body: str = "", *, folder: str = "site") -> Any:
        site, module = tmp_path / folder, f"planning_{name}_{next(_numbers)}"
        info = site / f"{module}-1.dist-info"
        info.mkdir(parents=True)
        (info / "entry_points.txt").write_text(f"[accelerate.backends]\n{name} = {module}:Plugin\n")
        (site / f"{module}.py").write_text(_PLUGIN.format(name=name, body=textwrap.indent(body, "    ")))
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(site)
        return registry.backends().get(name)

    return write


def child(code: str, tmp_path: Path, status: int = 0, cwd: Path | None = None) -> list[str]:
    """Run code in a process of its own that finds the installed plugins; return the lines that it prints."""
    path = os.pathsep.join((str(tmp_path / "site"), str(ROOT)))
    command = [sys.executable, "-c", textwrap.dedent(code), str(DIGITS)]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout.splitlines()


# Strangers whose code fails, or who answer nonsense

_ODD = [
    ("def kinds(self): raise RuntimeError('no bus')", "odd raised RuntimeError: no bus"),
    ("def kinds(self): return None", "odd raised TypeError"),
    ("def kinds(self): return ('warp',)", "kinds() returned 'warp'; wanted some of tpu, gpu"),
    ("kinds = None", "odd raised TypeError"),
    ("def match(self, source, options): raise SystemExit('no licence')", "odd raised SystemExit: no licence"),
    ("def match(self, source, options): return True", "match() returned True, not of the class Match"),
    ("def match(self, source, options): return Match(True, 5)", "match() returned Match(reason=5); wanted str"),
    ("def match(self, source): return Match(True)", "odd raised TypeError"),
    ("def availability(self): raise OSError(5, 'bus error')", "odd raised OSError: [Errno 5] bus error"),
    ("def availability(self): raise SystemExit", "odd raised SystemExit"),
    ("def availability(self): return True", "availability() returned True, not of the class Availability"),
    ("def availability(self): return Availability(False, '', None)", "Availability(reason=None); wanted str"),
    ("def devices(self, options): raise KeyError('x')", "odd raised KeyError: 'x'"),
    ("def devices(self, options): return None", "odd raised TypeError"),
    ("def devices(self, options): return 'gpu'", "devices() returned 'g', not of the class Device"),
    ("def devices(self, options): return [Device('odd', 'x', 'warp', 'x')]", "of the kind 'warp'; wanted one of tpu"),
    ("def devices(self, options): return [Device('odd', None, 'cpu', 'x')]", "Device(id=None); wanted str"),
    ("def devices(self, options): return [Device('odd', 'x', 'cpu', 'x', aliases=(5,))]", "Device(aliases=(5,))"),
    (
        "def devices(self, options): return [Device('odd', 'x', 'cpu', 'x', aliases='gpu')]",
        "Device(aliases='gpu'); wanted tuple[str, ...]",
    ),
    (
        "def devices(self, options):\n    yield Device('odd', 'x', 'cpu', 'x')\n    raise RuntimeError('unplugged')",
        "odd raised RuntimeError: unplugged",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason"), _ODD)
def test_a_stranger_who_answers_nonsense_is_a_row_of_the_plan(body: str, reason: str, install: Install) -> None:
    install("odd", body)
    install("sound")
    decided = accelerate.plan(TOY)
    assert [c.backend for c in decided.candidates] == ["sound"]
    (row,) = [c for c in decided.skipped if c.backend == "odd"]
    assert reason in row.reason
    assert row.remedy == "update or uninstall the distribution that declares it"
    assert "odd" in str(decided)
    with accelerate.load(TOY) as model:
        assert model.infer(np.ones(3, np.float32))["y"].tolist() == [2, 2, 2]
        assert model.backend == "sound"
    with pytest.raises(BackendNotAvailableError) as caught:
        accelerate.load(TOY, backend="odd")
    assert (caught.value.reason, caught.value.remedy) == (row.reason, row.remedy)
    assert caught.value.__cause__ is not None
    assert {"odd", "sound"} <= set(accelerate.list_backends())
    assert "sound" in [device.backend for device in accelerate.list_devices() if device.ready]


@pytest.mark.parametrize(
    "body",
    [
        "def load(self, source, options): raise RuntimeError('out of order')",
        "def load(self, source, options): raise SystemExit('out of order')",
        "def load(self, source, options): return 'out of order'",
        "def load(self, source, options): raise RuntimeError('out of order')\ntranslate = None",
        "def load(self, source, options): raise RuntimeError('out of order')\n"
        "def translate(self, error, source): raise KeyError",
        "def load(self, source, options): raise RuntimeError('out of order')\n"
        "def translate(self, error, source): return error",
    ],
)
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_stranger_who_fails_to_load(
    body: str, replicas: int, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("odd", body)
    install("sound")
    with pytest.raises(AccelerateError, match="out of order"):
        accelerate.load(TOY, backend="odd", replicas=replicas)
    with accelerate.load(TOY, replicas=replicas) as model:
        assert model.backend == "sound"
        assert "out of order" in model.runtime.details["passed_over"][0]
    (said,) = caplog.messages
    assert "out of order" in said


@pytest.mark.parametrize("body", ["raise RuntimeError('eaten')", "return 5", "return 'other'", "return []"])
def test_a_stranger_who_cannot_tell_formats(body: str, install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("odd", f"formats = {{}}\n@classmethod\ndef sniff(cls, head):\n    {body}")
    install("sound")
    with accelerate.load(TOY) as model:
        assert model.backend in ("odd", "sound")  # `match` of both goes by the format
    assert body == "return []" or "backend 'odd' cannot tell a file's format" in caplog.text


_TOLD = """
def describe(self, source, signature):
    tensors = (TensorInfo("x", shape=(3,)),), (TensorInfo("y", shape=(3,)),)
    return Metadata("toy model", "", "", *tensors, ("a", "b", "c"))
"""


def test_a_strangers_format_is_inspected(install: Install, tmp_path: Path) -> None:
    install("sound", _TOLD)
    (tmp_path / "model.toy").write_bytes(TOY)
    report = inspect_model(str(tmp_path / "model.toy"))
    assert report["file"]["format"] == "toy"
    assert report["plan"]["chosen"]["backend"] == "sound"
    assert report["content"]["labels"]["count"] == 3
    (graph,) = report["content"]["graphs"]
    assert [tensor["name"] for tensor in (*graph["inputs"], *graph["outputs"])] == ["x", "y"]
    program = "import sys; from accelerate.cli import main; sys.argv[1:] = 'inspect', 'model.toy'; sys.exit(main())"
    assert "x  float32 [3]" in [line.strip() for line in child(program, tmp_path, cwd=tmp_path)]


@pytest.mark.parametrize(
    "body", ["raise RuntimeError('no bus')", "raise SystemExit", "return 5", "return Metadata('', '', '', 5, 5)"]
)
def test_a_stranger_who_cannot_describe_a_file(body: str, install: Install, tmp_path: Path) -> None:
    install("odd", f"def describe(self, source, signature): {body}")
    install("sound", "formats = {}")
    (tmp_path / "model.toy").write_bytes(TOY)
    report = inspect_model(str(tmp_path / "model.toy"))
    assert report["content"]["graphs"] == []
    assert report["content"]["problems"][0].startswith("odd raised ")
    assert report["plan"]["chosen"]["backend"] == "odd"
    names = {"inputs": {"x": "mine"}}
    (row,) = [c for c in accelerate.plan(TOY, tensor_names=names).skipped if c.backend == "odd"]
    assert "odd raised" in row.reason
    with accelerate.load(TOY, tensor_names=names) as model:
        assert [t.name for t in model.metadata().inputs] == ["mine"]
        assert model.backend == "sound"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("options = 'engine'", "options is 'engine'; wanted a tuple of str"),
        ("options = (1,)", "wanted a tuple of str"),
        ("formats = ('toy',)", "wanted a mapping of str to str"),
        ("formats = {'toy': None}", "wanted a mapping of str to str"),
        ("commands = {1: 'a:b'}", "wanted a mapping of str to str"),
        ("description = None", "wanted a str"),
        ("name = 'other'", "calls itself 'other', declared as 'odd'"),
        ("raise SystemExit('no licence')", "SystemExit: no licence"),
        ("def __init__(self): raise RuntimeError('no bus')", "RuntimeError: no bus"),
    ],
)
def test_a_stranger_who_says_nonsense_of_itself(body: str, reason: str, install: Install) -> None:
    install("odd", body)
    install("sound")
    row = accelerate.list_backends()["odd"]
    assert not row.available
    assert reason in row.reason
    assert row.remedy
    with accelerate.load(TOY) as model:
        assert model.backend == "sound"
    with pytest.raises(BackendNotAvailableError, match=r"importing planning_odd_\d+:Plugin raised"):
        accelerate.load(TOY, backend="odd")


def test_of_two_strangers_with_one_name_the_first_on_the_path_is_used(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("twin", "description = 'the second'", folder="later")
    install("twin", "description = 'the first'", folder="sooner")
    for another in ("one", "two"):
        install(another)  # the declarations are read again
        assert accelerate.list_backends()["twin"].description == "the first"
    (said,) = caplog.messages
    assert said.startswith("backend 'twin' is declared twice: planning_twin_")


# Order


def test_kinds_of_device_have_an_order(install: Install) -> None:
    kinds = {"f": "tpu", "e": "gpu", "d": "server", "c": "npu", "b": "cpu", "a": "server"}
    for name, kind in kinds.items():
        named = "def match(self, source, options): return Match(True, 'all', named=True)" if name == "d" else ""
        install(name, f"kind = {kind!r}\n{named}")
    candidates = accelerate.plan(TOY).candidates
    assert [c.backend for c in candidates] == list("fedcba")
    assert [c.device for c in candidates] == list(kinds.values())
    for kind, backend in (("gpu", "e"), ("cpu", "b"), ("server", "d"), ("npu", "c")):
        with accelerate.load(TOY, device=kind) as model:
            assert (model.backend, model.device) == (backend, kind)
    decided = accelerate.plan(TOY, backend=["b", "f", "e"])
    assert [c.backend for c in decided.candidates] == ["b", "f", "e"]
    with accelerate.load(TOY, backend=["b", "f"], device="tpu") as model:
        assert model.backend == "f"


@WITH_LITERT
def test_a_files_own_engine_comes_first_within_a_kind(install: Install) -> None:
    install("a", "formats = {}")
    install("b")
    assert [c.backend for c in accelerate.plan(TOY).candidates] == ["b", "a"]
    assert accelerate.plan(DIGITS).candidates[0].backend == "tflite_cpu"
    install("z", "kind = 'gpu'")
    for given in (TOY, DIGITS):
        with accelerate.load(given) as model:
            assert model.backend == "z"


_TWO = """
kind = "gpu"
def devices(self, options):
    return [
        Device(self.name, "gpu:0", "gpu", "in use", ready=False, reason="it is in use", remedy="wait"),
        Device(self.name, "gpu:1", "gpu", "fast", aliases=("second",)),
        Device(self.name, "cpu", "cpu", "slow"),
    ]
"""


def test_the_chosen_device_is_loaded(install: Install) -> None:
    two = install("two", _TWO)
    decided = accelerate.plan(TOY)
    assert [c.device for c in decided.candidates if c.backend == "two"] == ["gpu:1", "cpu"]
    assert [(c.device, c.reason, c.remedy) for c in decided.skipped if c.backend == "two"] == [
        ("gpu:0", "it is in use", "wait")
    ]
    for asked, device in ((None, "gpu:1"), ("gpu", "gpu:1"), ("second", "gpu:1"), ("cpu", "cpu")):
        decided = accelerate.plan(TOY, device=asked)
        assert decided.chosen is decided.candidates[0]
        assert decided.chosen is not None
        with accelerate.load(TOY, device=asked) as model:
            assert model.device == decided.chosen.device == device
        assert (two.asked[-1].device, two.asked[-1].asked) == (device, asked)
    with pytest.raises(DeviceNotFoundError, match="it is in use; wait"):
        accelerate.load(TOY, backend="two", device="gpu:0")
    with pytest.raises(DeviceNotFoundError, match=r"two has no device 'gpu:2'.*gpu:0, gpu:1, cpu"):
        accelerate.load(TOY, backend="two", device="gpu:2")
    with pytest.raises(NoBackendError, match="has no device of the kind 'npu'"):
        accelerate.load(TOY, device="npu")


_GONE = """
kind = "gpu"
def load(self, source, options):
    raise DeviceNotFoundError("the stick is gone", "plug it in")
"""


@WITH_LITERT
def test_a_device_that_vanishes_between_plan_and_load(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("gone", _GONE)
    assert accelerate.plan(DIGITS).candidates[0].backend == "gone"
    with pytest.raises(DeviceNotFoundError, match="the stick is gone; plug it in"):
        accelerate.load(DIGITS, backend="gone")
    for backend in ("auto", ["gone", "tflite_cpu"]):
        caplog.clear()
        with accelerate.load(DIGITS, backend=backend) as model:
            assert model.backend == "tflite_cpu"
            assert model.runtime.details["passed_over"] == ("gone on gpu: the stick is gone; plug it in",)
        (said,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert "the stick is gone" in said.getMessage()


@WITH_LITERT
def test_a_list_of_backends_is_an_order(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("toy")
    for names in (["toy", "tflite_cpu"], ("tflite_cpu", "toy")):
        with accelerate.load(DIGITS, backend=names) as model:
            assert model.backend == names[0]
    with accelerate.load(TOY, backend=["tflite_cpu", "toy"]) as model:  # the first is for other files
        assert model.backend == "toy"
    assert not caplog.messages
    with pytest.raises(BackendNotAvailableError, match=r"no backend 'tflite_gpu' \(did you mean 'tflite_cpu'"):
        accelerate.load(DIGITS, backend=["toy", "tflite_gpu"])
    nonsense: list[Any] = [[], [5], {"toy"}]
    for wrong in nonsense:
        with pytest.raises(OptionError, match="backend is"):
            accelerate.load(DIGITS, backend=wrong)


# No more than it takes

_RECORDED = "kind = 'cpu'\nformats = {{}}\ndef availability(self):\n    import {runtime}\n    {then}\n"


@WITH_LITERT
def test_auto_stops_at_the_first_that_can(install: Install, tmp_path: Path) -> None:
    install("a_crash", _RECORDED.format(runtime="os", then="os._exit(3)"))
    install("a_runtime", _RECORDED.format(runtime="wave", then="return Availability(True, 'Wave 1')"))
    load = """
        import sys, accelerate
        with accelerate.load(sys.argv[1]) as model:
            print(model.backend)
        print(*sorted({"onnxruntime", "grpc", "tritonclient", "wave"} & set(sys.modules)))
        # nor what these backends have beside their front
        losers = ("accelerate.backends.onnxruntime.", "accelerate.backends.triton.")
        print(*(name for name in sys.modules if name.startswith(losers)))
    """
    assert child(load, tmp_path) == ["tflite_cpu", "", ""]
    child("import sys, accelerate; accelerate.plan(sys.argv[1])", tmp_path, status=3)  # it asks all


def test_a_plan_asks_all(install: Install) -> None:
    asked = [install(name, "asked = []").asked for name in "abc"]
    with accelerate.load(TOY) as model:
        assert model.backend == "a"
    assert [len(one) for one in asked] == [2, 0, 0]  # the first was also loaded
    accelerate.plan(TOY)
    assert [len(one) for one in asked] == [3, 1, 1]
