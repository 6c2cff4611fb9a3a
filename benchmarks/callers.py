"""Many callers and bindings: replicas against one interpreter behind a lock, and `Binding.run` against raw `invoke`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import accelerate

from .models import ADD, MOBILENET_V1, MOBILENET_V2, present
from .sidebyside import measure
from .table import Row, missing, show

__all__ = ["rows"]

_FORM = "{:.3f} x"
_CALLS = 8


def rows() -> Iterator[Row]:
    """Measure both."""
    yield _binding(ADD, 1.5)
    yield _binding(MOBILENET_V1, 1.01)
    yield _replicas(MOBILENET_V2)


def _binding(path: Path, target: float) -> Row:
    what = f"Binding.run over raw invoke, {path.stem}"
    if not present(path):
        return missing(what, target, _FORM, path)
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    with accelerate.load(path, backend="tflite_cpu", num_threads=1) as model, model.bind() as binding:
        timings = measure({"raw": interpreter.invoke, "run": binding.run}, seconds=8)
    ratio = timings.ratio("run", "raw")
    microseconds = [1e6 * timings.median(name) for name in ("run", "raw")]
    note = f"{ratio.low:.3f} .. {ratio.high:.3f}; {microseconds[0]:.2f} against {microseconds[1]:.2f} us"
    return Row(what, ratio.value, target, _FORM, note)


def _replicas(path: Path) -> Row:
    """Two threads share one interpreter behind a lock, as programs do by hand, or two replicas."""
    what, target = f"time of two threads with replicas=2 over one interpreter behind a lock, {path.stem}", 1 / 1.8
    if not present(path):
        return missing(what, target, _FORM, path)
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    source, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    lock = threading.Lock()
    with accelerate.load(path, backend="tflite_cpu", num_threads=1, replicas=2) as model:
        shape = model.metadata().inputs[0].shape
        frame = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)

        def by_hand() -> Any:
            with lock:
                interpreter.set_tensor(source, frame)
                interpreter.invoke()
                return interpreter.get_tensor(answer)

        timings = measure(
            {"lock": lambda: _two_threads(by_hand), "replicas": lambda: _two_threads(lambda: model.infer(frame))},
            seconds=20,
            agree=lambda *_: True,
        )
    ratio = timings.ratio("replicas", "lock")
    note = f"{1 / ratio.value:.2f} times as many answers; {ratio.low:.3f} .. {ratio.high:.3f}; one thread of work each"
    return Row(what, ratio.value, target, _FORM, note)


def _two_threads(call: Callable[[], Any]) -> None:
    def calls() -> None:
        for _ in range(_CALLS):
            call()

    threads = [threading.Thread(target=calls) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    show(rows())
