"""Models that go to other processes: as what `load` was given, loaded again there."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest

import accelerate
from accelerate import Model, OptionError

DATA = Path(accelerate.__file__).parent / "data"
DIGITS = DATA / "digits_uint8.tflite"
FRAME = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1)).astype(np.uint8)


def answer(model: Model, frame: Any) -> tuple[int, Any]:
    with model:
        return os.getpid(), model.infer(frame)["0"]


def test_a_worker_that_was_spawned_loads_the_model_again() -> None:
    models = [
        accelerate.load(DIGITS, num_threads=1, dequantize=True),
        accelerate.load(DIGITS.read_bytes(), backend=["tflite_cpu"], dequantize=True, replicas=2),
    ]
    expected = models[0].infer(FRAME)["0"]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for pid, outputs in pool.map(answer, models, [FRAME] * 2):
            assert pid != os.getpid()
            np.testing.assert_array_equal(outputs, expected)
    for model in models:  # and is itself untouched
        np.testing.assert_array_equal(answer(model, FRAME)[1], expected)


def test_every_argument_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.tflite").write_bytes(odd_models.dynamic())
    Path("labels.txt").write_text("a\nb\nc\n")
    arguments: dict[str, Any] = {
        "backend": "tflite_cpu", "device": "cpu", "label_path": Path("labels.txt"), "num_threads": 2,
        "tensor_names": {"inputs": {"x": "mine"}}, "shapes": {"x": (4, 3)}, "normalization": (1, 2), "strict": True,
        "replicas": 2, "engine": "litert",
    }  # fmt: skip
    pytest.importorskip("ai_edge_litert")
    with accelerate.load("m.tflite", **arguments) as model:
        monkeypatch.chdir("/")  # paths are meant as they were then
        with pickle.loads(pickle.dumps(model)) as again, copy.deepcopy(model) as third:
            for other in (again, third):
                assert other.runtime == model.runtime
                assert other.metadata().inputs == model.metadata().inputs
                assert other.metadata().labels == ("a", "b", "c")
                with pytest.raises(accelerate.TensorError, match="strict"):
                    other.infer(np.ones((4, 3), np.float64))


def test_the_working_folder_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with accelerate.load(DIGITS) as model, pickle.loads(pickle.dumps(model)) as again:
        np.testing.assert_array_equal(again.infer(FRAME)["0"], model.infer(FRAME)["0"])


class Unpicklable(dict[str, Any]):
    def __reduce_ex__(self, _: object) -> Any:
        raise RuntimeError("not me")


def test_what_cannot_go_says_what_to_do() -> None:
    interpreter_class = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    existing = accelerate.load(interpreter_class(model_path=str(DIGITS)))
    odd_option = accelerate.load(DIGITS, tensor_names=Unpicklable())
    for model, says in (
        (existing, "runs <ai_edge_litert.*>, an existing object, .* load the model file .* in the worker"),
        (odd_option, "as tensor_names= of its load cannot: not me; load it where it is to run: in the worker"),
    ):
        with model, model.bind() as binding:
            for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(OptionError, match=says):
                    attempt(model)
                with pytest.raises(OptionError, match=r"a Binding cannot be pickled .* call bind\(\) where it arrives"):
                    attempt(binding)


def test_errors_and_outputs_come_back() -> None:
    with accelerate.load(DIGITS) as model:
        outputs = pickle.loads(pickle.dumps(model.infer(FRAME)))
        assert type(outputs) is dict
    with pytest.raises(accelerate.NoBackendError) as caught:
        accelerate.load(object())
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.plan) == (str(caught.value), caught.value.plan)
