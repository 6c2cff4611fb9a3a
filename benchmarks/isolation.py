"""What a call costs more in a child process than in this one, and what a child takes to start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

import accelerate

from .fresh import ROOT
from .models import MOBILENET_V2, present
from .sidebyside import Timings, measure
from .table import Row, missing, show

__all__ = ["pooling", "rows"]

_SHAPE = (1, 224, 224, 3)
_US, _MS = "{:.1f} us", "{:.1f} ms"
_BINDING, _SHARED_CPU, _INFER = 100.0, 40.0, 150.0
_SECONDS = 10.0


def rows() -> Iterator[Row]:
    """Measure with both processes free to run where they like, then with both on one CPU, then a load."""
    frame = np.random.default_rng(0).integers(0, 256, _SHAPE, np.uint8)
    model = pooling()
    timings = _measure(model, frame)
    yield _row("Binding.run in a child over in process, uint8 224x224x3", timings, "run", _BINDING)
    yield _row("infer in a child over in process, uint8 224x224x3", timings, "infer", _INFER)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        timings = _measure(model, frame)
    finally:
        os.sched_setaffinity(0, cpus)
    yield _row("Binding.run in a child over in process, both on one CPU", timings, "run", _SHARED_CPU)
    yield _row("infer in a child over in process, both on one CPU", timings, "infer", None)
    what = "Binding.run in a child over in process, mobilenet_v2_1.0_224_quant"
    if present(MOBILENET_V2):
        yield _row(what, _measure(MOBILENET_V2, frame), "run", None)
    else:
        yield missing(what, None, _US, MOBILENET_V2)
    yield _load(model)


def pooling() -> bytes:
    """Return a model of nearly no work: the mean colour of a frame."""
    sys.path.append(str(ROOT / "tools"))
    from ai_edge_litert import schema_py_generated as schema
    from tflite_writer import Graph, build

    graph = Graph()
    x = graph.tensor("x", list(_SHAPE), "uint8", scale=1.0, zero_point=0)
    y = graph.tensor("y", [1, 1, 1, 3], "uint8", scale=1.0, zero_point=0)
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.VALID
    options.filterHeight = options.filterWidth = options.strideH = options.strideW = _SHAPE[1]
    graph.op("AVERAGE_POOL_2D", [x], [y], options)
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def _measure(source: Any, frame: np.ndarray[Any, Any]) -> Timings:
    with ExitStack() as stack:
        ways: dict[str, Callable[[], object]] = {}
        for name, isolation in (("here", None), ("child", "process")):
            model = stack.enter_context(
                accelerate.load(source, backend="tflite_cpu", num_threads=1, isolation=isolation)
            )
            binding = stack.enter_context(model.bind())
            (array,) = binding.inputs.values()
            array[...] = frame

            def run(binding: accelerate.Binding = binding) -> object:
                binding.run()
                return binding.outputs

            ways[f"run {name}"] = run
            ways[f"infer {name}"] = lambda model=model: model.infer(frame)  # type: ignore[misc]
        return measure(ways, seconds=_SECONDS)


def _row(what: str, timings: Timings, call: str, target: float | None) -> Row:
    child, here = f"{call} child", f"{call} here"
    cost = timings.difference(child, here)
    note = (
        f"{1e6 * cost.low:.1f} .. {1e6 * cost.high:.1f}; {1e6 * timings.median(child):.1f} against "
        f"{1e6 * timings.median(here):.1f} us; undisturbed {1e6 * (timings.least(child) - timings.least(here)):.1f}"
    )
    return Row(what, 1e6 * cost.value, target, _US, note)


def _load(source: bytes) -> Row:
    def load(isolation: str | None) -> object:
        with accelerate.load(source, backend="tflite_cpu", num_threads=1, isolation=isolation) as model:
            return model.infer(np.zeros(_SHAPE, np.uint8))

    timings = measure({"child": lambda: load("process"), "here": lambda: load(None)}, seconds=20)
    cost = timings.difference("child", "here")
    note = f"{1e3 * cost.low:.1f} .. {1e3 * cost.high:.1f}; its interpreter, NumPy, this package and LiteRT imported"
    return Row("load + first answer in a child over in process", 1e3 * cost.value, None, _MS, note)


if __name__ == "__main__":
    show(rows())
