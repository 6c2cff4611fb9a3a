"""Runtimes that compute a data type wrongly: who notices, and what is said.

The engines are the real ones; what they answer is changed on its way out, as if a kernel had computed it so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import engines
import numpy as np
import pytest

import accelerate
from accelerate.system import known_answers
from accelerate.system.known_answers import DTYPES, try_digits, try_runtime

DATA = Path(accelerate.__file__).parent / "data"

# Makes the interpreter's kernels for some data types wrong, unless it is built without its default delegate.
WRONG_KERNELS = """
import importlib, sys
import numpy as np

interpreter = importlib.import_module({module!r})

class Interpreter(interpreter.Interpreter):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.plain = "experimental_op_resolver_type" in named

    def get_tensor(self, index):
        values = super().get_tensor(index)
        wrong = values.dtype.name in {dtypes!r} and not (self.plain and {plain_is_right})
        return np.roll(values, 1) if wrong else values

interpreter.Interpreter = Interpreter
"""


def wrong_kernels(
    dtypes: Sequence[str], *, plain_is_right: bool = True, module: str = "ai_edge_litert.interpreter"
) -> str:
    return WRONG_KERNELS.format(module=module, dtypes=tuple(dtypes), plain_is_right=plain_is_right)


def asked(code: str, path: str = "", engine: str | None = None) -> Any:
    """Return what tflite_cpu says of itself, or of an engine, in a new process that has run some code before."""
    tail = (
        "import dataclasses, json\n"
        "from accelerate.backends.tflite.engines import availability\n"
        f"print(json.dumps(dataclasses.asdict(availability({engine!r}))))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH", ""))))}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Both engines and ONNX Runtime as they are


@pytest.mark.parametrize("engine", engines.INSTALLED)
def test_an_engine_is_right_in_all_of_them(engine: str) -> None:
    from accelerate.backends.tflite.engines import run_known_answers

    assert run_known_answers(b"", engine) == {}


def test_onnx_runtime_is_right_in_all_of_them() -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra: onnxruntime")
    from accelerate.backends.onnxruntime.providers import CPU, known_answers

    assert known_answers([CPU], CPU, DTYPES) == {}
    assert accelerate.list_backends()["onnxruntime"].reason.endswith(
        "computes known answers in float32, uint8 and int8"
    )


# One that is wrong


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="needs LiteRT")
def test_the_wrong_data_type_is_named_with_a_remedy_that_was_tried() -> None:
    info = asked(wrong_kernels(["int8"]), engine="litert")
    assert info["available"]
    assert "computes float32 and uint8 rightly, but int8 wrongly: got 0." in info["reason"]
    assert info["remedy"] == "load(..., xnnpack=False) computes int8 rightly here"
    info = asked(wrong_kernels(["int8", "uint8"], plain_is_right=False), engine="litert")
    assert info["available"]
    assert "computes float32 rightly, but uint8 wrongly: got " in info["reason"]
    assert "xnnpack" not in info["remedy"]
    assert info["remedy"] == "on this machine use models in float32 with it"
    info = asked(wrong_kernels(DTYPES, plain_is_right=False), engine="litert")
    assert not info["available"]
    assert "LiteRT is installed but computes float32 wrongly: got " in info["reason"]


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="needs LiteRT")
def test_doctor_warns_and_the_machine_can_still_run_something() -> None:
    pytest.importorskip("click", reason="needs the extra: cli")
    pytest.importorskip("rich", reason="needs the extra: cli")
    code = "from edge_accelerate_cli import main\nsys.argv[1:] = ['doctor']\nsys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", f"{wrong_kernels(['int8'])}\n{code}"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "WARN tflite_cpu" in said
    assert "int8 wrongly: got 0." in said
    assert "tflite_cpu --option xnnpack=False computes int8 rightly here" in said


def _stand_in(folder: Path, dtypes: Sequence[str], version: str) -> str:
    """Make a package that stands for the engine that is tried in a child: LiteRT, with wrong kernels."""
    package = folder / "tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"__version__ = {version!r}\n")
    kernels = wrong_kernels(dtypes, plain_is_right=False)
    (package / "interpreter.py").write_text(f"{kernels}\nOpResolverType = interpreter.OpResolverType\n")
    return str(folder)


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="its stand-in is made of LiteRT")
def test_an_engine_that_is_tried_in_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_CACHE", str(tmp_path / "cache"))
    hidden = "import sys, importlib.util as u\nfind = u.find_spec\n"
    without = f"{hidden}u.find_spec = lambda name, *a: None if name == 'ai_edge_litert' else find(name, *a)\n"
    for _ in range(2):  # what is wrong is about the moment, and not remembered
        info = asked(without, _stand_in(tmp_path / str(_), ["int8"], "2.99"))
        assert info["available"]
        assert info["version"] == "tflite-runtime 2.99"
        assert "computes float32 and uint8 rightly, but int8 wrongly: got 0." in info["reason"]
    assert not list((tmp_path / "cache").rglob("*.json"))
    # LiteRT is wrong, and the other engine right
    info = asked(wrong_kernels(["int8"], plain_is_right=False), _stand_in(tmp_path / "right", [], "2.99"))
    assert info["version"].startswith("LiteRT ")  # it is what a load takes
    assert info["remedy"].endswith("; engine='tflite-runtime' computes all rightly here")


def test_onnx_runtime_with_wrong_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra: onnxruntime")
    from accelerate.backends.onnxruntime import providers
    from accelerate.reports import LoadOptions
    from accelerate.source import Source

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc, name-defined]
        def run(self, *arguments: Any, **named: Any) -> Any:
            (values,) = super().run(*arguments, **named)
            return [np.roll(values, 1) if values.dtype == np.uint8 else values]

        def get_providers(self) -> Any:
            return ["CUDAExecutionProvider", *super().get_providers()]

    def build(path: str, options: Any, providers: Any, **_: Any) -> Session:
        return Session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(known_answers, "_tried", {})
    monkeypatch.setattr(onnxruntime, "InferenceSession", build)
    monkeypatch.setattr(providers, "available", lambda: ["CUDAExecutionProvider", providers.CPU])
    providers._try_provider.cache_clear()
    info = accelerate.list_backends()["onnxruntime"]
    assert info.available
    assert "computes float32 and int8 rightly, but uint8 wrongly: got 0." in info.reason
    backend = accelerate.registry.find("onnxruntime")
    gpu = backend.devices(LoadOptions())[0]
    assert (gpu.id, gpu.ready) == ("cuda:0", True)
    assert gpu.reason.startswith("it computes uint8 wrongly: got 0.")
    assert gpu.remedy
    # a load asks only whether it starts
    assert backend.devices_for(Source(DATA / "digits.onnx"), LoadOptions())[0].reason == ""
    providers._try_provider.cache_clear()


# `try_digits` and `try_runtime` themselves


def _right(path: Path, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    scores = np.array(known_answers._SCORES)
    if pixels.dtype == np.float32:
        return scores.astype(np.float32)
    return (np.round(scores * 256) + np.iinfo(pixels.dtype).min).astype(pixels.dtype)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda answer: np.full_like(answer, np.nan), "got nan, wanted "),
        (lambda answer: answer[:9], "digits.onnx gives 9 values of float32, wanted 10 of float32"),
        (lambda answer: answer.astype(np.float64), "gives 10 values of float64"),
        (lambda answer: 1 / 0, "digits.onnx raises ZeroDivisionError: division by zero"),
        (lambda answer: answer + np.float32(0.006), "got "),
        (lambda answer: answer + np.float32(0.004), ""),
    ],
)
def test_what_is_no_right_answer(change: Any, said: str) -> None:
    wrong = try_digits(lambda path, pixels: change(_right(path, pixels)), ".onnx", dtypes=("float32",))
    assert bool(wrong) == bool(said)
    assert said in wrong.get("float32", ("", ""))[0]


def test_one_level_of_rounding_is_right_and_five_are_not() -> None:
    def by(levels: int) -> Any:
        return lambda path, pixels: _right(path, pixels) + np.array(levels, pixels.dtype)

    assert try_digits(by(3), ".tflite", dtypes=("int8", "uint8")) == {}
    assert set(try_digits(by(5), ".tflite", dtypes=("int8", "uint8"))) == {"int8", "uint8"}


def test_a_backend_may_say_it_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_answers, "_tried", {})
    state = try_runtime("Json", "json", "pip install", lambda: "1", lambda: {"int8": ("it is off by one", "use uint8")})
    assert (state.available, state.remedy) == (True, "use uint8")
    assert state.reason == "Json 1 computes float32 and uint8 rightly, but int8 wrongly: it is off by one"
    monkeypatch.setattr(known_answers, "_tried", {})
    assert try_runtime("Json", "json", "", lambda: "1", lambda: "").reason == "Json 1 computes a known answer"
