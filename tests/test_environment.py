"""What variables of the environment say where a program does not."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import engines
import numpy as np
import pytest

import accelerate
from accelerate import (
    AccelerateError,
    BackendNotAvailableError,
    DeviceNotFoundError,
    OptionError,
    UnsupportedModelError,
)

DATA = Path(accelerate.__file__).parent / "data"
DIGITS = DATA / "digits_uint8.tflite"
ONNX = DATA / "digits.onnx"

pytestmark = pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT is not installed here")


def test_a_backend_stands_in_for_auto_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", "tflite_cpu")
    for one in (accelerate.plan(DIGITS), accelerate.plan(DIGITS, backend="auto")):
        assert [c.backend for c in (*one.candidates, *one.skipped)] == ["tflite_cpu"]
    assert [c.backend for c in accelerate.plan(DIGITS, backend="edgetpu").skipped] == ["edgetpu"]
    with accelerate.load(DIGITS) as model:
        assert model.backend == "tflite_cpu"


@pytest.mark.parametrize("value", ["onnxruntime,tflite_cpu", " onnxruntime , tflite_cpu "])
def test_several_backends_are_an_order(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", value)
    decided = accelerate.plan(DIGITS)
    assert [c.backend for c in (*decided.candidates, *decided.skipped)] == ["tflite_cpu", "onnxruntime"]
    with accelerate.load(DIGITS) as model:
        assert model.backend == "tflite_cpu"


def test_auto_and_nothing_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    want = accelerate.plan(DIGITS)
    for name in ("BACKEND", "DEVICE", "TUNED", "LOG"):
        monkeypatch.setenv(f"EDGE_ACCELERATE_{name}", "")
    assert accelerate.plan(DIGITS) == want
    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", "auto")
    assert accelerate.plan(DIGITS) == want


def test_one_backend_that_is_named_is_used_or_an_error_says_who_named_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", "onnxruntime")
    with pytest.raises(UnsupportedModelError, match=r"EDGE_ACCELERATE_BACKEND=onnxruntime: .*TFLite") as caught:
        accelerate.load(DIGITS)
    assert accelerate.plan(DIGITS).skipped[0].reason == caught.value.reason


@pytest.mark.parametrize("value", ["tflite", "tflite_cpu,nonsense", ",", "tflite_cpu,auto"])
def test_a_backend_that_there_is_not(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", value)
    for function in (accelerate.load, accelerate.plan):
        with pytest.raises(BackendNotAvailableError, match=f"EDGE_ACCELERATE_BACKEND={value}: there is no backend"):
            function(DIGITS)
    with accelerate.load(DIGITS, backend="tflite_cpu") as model:
        assert model.backend == "tflite_cpu"


def test_a_device_stands_in_for_none_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_DEVICE", "cpu")
    assert {c.device for c in accelerate.plan(DIGITS).candidates} == {"cpu"}
    monkeypatch.setenv("EDGE_ACCELERATE_DEVICE", "usb:7")
    with accelerate.load(DIGITS, device="cpu") as model:
        assert model.device == "cpu"
    with pytest.raises(AccelerateError, match="EDGE_ACCELERATE_DEVICE=usb:7: tflite_cpu has no device 'usb:7'"):
        accelerate.load(DIGITS)
    with pytest.raises(DeviceNotFoundError, match="EDGE_ACCELERATE_DEVICE=usb:7: "):
        accelerate.load(DIGITS, backend="tflite_cpu")


def test_what_leaves_nothing_open_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert.interpreter import Interpreter

    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", "onnxruntime")
    monkeypatch.setenv("EDGE_ACCELERATE_DEVICE", "usb:7")
    with accelerate.load(Interpreter(str(DIGITS))) as model:
        assert (model.backend, model.device) == ("tflite_cpu", "cpu")
    assert "EDGE_ACCELERATE" not in str(accelerate.plan("triton://127.0.0.1:1/model"))


def test_an_option_of_a_backend_that_the_environment_has_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", "tflite_cpu")
    with pytest.raises(OptionError, match=r"EDGE_ACCELERATE_BACKEND=tflite_cpu: .*no option 'providers'"):
        accelerate.load(DIGITS, providers=["CPUExecutionProvider"])


_WRONG = [
    ("TUNED", "no"),
    ("LOG", "verbose"),
    ("LOG", "10"),
    ("CACHE", str(DIGITS)),
    ("TRITON_URL", "http://somewhere:8000"),
    ("TRITON_URL", "host:0"),
    ("TRITON_URL", "one:1,two:2"),
]


@pytest.mark.parametrize(("name", "value"), _WRONG)
def test_a_wrong_value_is_an_error_that_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"EDGE_ACCELERATE_{name}", value)
    for function in (accelerate.load, accelerate.plan):
        with pytest.raises(OptionError, match=rf"EDGE_ACCELERATE_{name}.*{re.escape(value.partition(',')[0])}"):
            function(DIGITS)


def test_a_server_that_is_not_there_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_TRITON_URL", "127.0.0.1:1")
    assert accelerate.plan(DIGITS).chosen is not None
    with accelerate.load(DIGITS) as model:  # tried first, and refused: the warning names it
        assert model.backend == "tflite_cpu"


def logged(level: str, code: str) -> str:
    """Run code in a program of its own; return what it writes to stderr."""
    environment = {**os.environ, "EDGE_ACCELERATE_LOG": level}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, logging, accelerate\n{code}", str(DIGITS)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stderr


def test_the_log() -> None:
    said = logged("DEBUG", "accelerate.load(sys.argv[1]).close()")
    assert re.search(r"accelerate DEBUG: tflite_cpu on cpu: a TFLite model", said)
    assert logged("warning", "accelerate.load(sys.argv[1]).close()") == ""
    warned = logged("warning", "logging.getLogger('accelerate').warning('mind the gap')")
    assert warned.endswith(" accelerate WARNING: mind the gap\n")
    # a program with a log of its own has each line once
    own = logged("info", "logging.basicConfig(format='own %(message)s')\nlogging.getLogger('accelerate').info('once')")
    assert own == "own once\n"


def test_a_wrong_level_does_not_stop_the_import() -> None:
    assert logged("loud", "print(accelerate.__version__)") == ""
    assert "EDGE_ACCELERATE_LOG is 'loud'; wanted one of debug, info" in logged("loud", "accelerate.load(sys.argv[1])")


def test_a_model_takes_its_environment_not_along(monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", "tflite_cpu")
    with accelerate.load(DIGITS) as model:
        packed = pickle.dumps(model)
    monkeypatch.setenv("EDGE_ACCELERATE_BACKEND", "onnxruntime")
    with pytest.raises(UnsupportedModelError, match="EDGE_ACCELERATE_BACKEND=onnxruntime"):
        pickle.loads(packed)
    monkeypatch.delenv("EDGE_ACCELERATE_BACKEND")
    with pickle.loads(packed) as again:
        pixels = np.random.default_rng(5).integers(0, 256, again.metadata().inputs[0].shape, np.uint8)
        assert again.infer(pixels)


def test_a_strangers_check_that_fails_is_said_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from accelerate import registry

    def fail() -> None:
        raise RuntimeError("no weather today")

    monkeypatch.setattr(registry.find("viam"), "check_environment", fail)
    with caplog.at_level(logging.WARNING), accelerate.load(DIGITS) as model:
        assert model.backend == "tflite_cpu"
    assert "no weather today" in caplog.text
