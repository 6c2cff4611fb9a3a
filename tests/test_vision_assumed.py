"""What nobody says of the frames: said once, at the line of the program that led to it."""

from __future__ import annotations

import asyncio
import inspect
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_vision import constant, frame

import accelerate
from accelerate import AssumptionWarning
from accelerate.vision import Classifier, Detector

YOLOX = constant({"output": np.zeros((1, 21, 85), np.float32)})


def awaited(detect: Detector) -> None:
    async def program() -> None:
        await detect.call_async(frame())
        await detect.call_async(frame())

    asyncio.run(program())


def mapped(detect: Detector) -> None:
    assert len(list(accelerate.map(detect, [frame()] * 4))) == 4


def called(detect: Detector) -> None:
    detect(frame())
    detect(frame())


def prepared(detect: Detector) -> None:
    detect.prepare(frame())


@pytest.mark.parametrize("way", [called, prepared, awaited, mapped])
def test_the_warning_points_at_the_programs_line(way: Callable[[Detector], None]) -> None:
    lines, first = inspect.getsourcelines(way)
    with accelerate.load(YOLOX) as model, pytest.warns(AssumptionWarning, match="a frame becomes its tensor") as said:
        way(Detector(model))
    (one,) = said
    assert one.filename == __file__
    assert "detect" in lines[one.lineno - first]


def test_threads_that_begin_at_once_say_it_once() -> None:
    with accelerate.load(YOLOX) as model, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        detect, start = Detector(model), threading.Barrier(8)

        def first() -> None:
            start.wait()
            detect(frame())

        threads = [threading.Thread(target=first) for _ in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert [one.category for one in said] == [AssumptionWarning]


def test_where_it_is_an_error_each_call_is_one() -> None:
    with accelerate.load(YOLOX) as model, warnings.catch_warnings():
        warnings.simplefilter("error")
        detect = Detector(model)
        for _ in range(2):
            with pytest.raises(AssumptionWarning):
                detect(frame())
        with pytest.raises(AssumptionWarning):
            accelerate.map(detect, [frame()])


def test_a_normalization_that_is_assumed_is_said_once(models_dir: Path) -> None:
    said: Any
    with accelerate.load(models_dir / "vww_96_float.tflite") as model:
        with pytest.warns(AssumptionWarning) as said:
            Classifier(model)(frame())
        Classifier(model)(frame())  # here it would be an error
    assert [str(one.message).partition(";")[0] for one in said] == [
        "input 'input_1': nothing says how pixels become its values"
    ]
