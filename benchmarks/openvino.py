"""OpenVINO: `infer` and `Binding.run` against the raw request on the same compiled model, loads, and what they leave.

Run alone, ``python -m benchmarks.openvino``: it takes minutes, most of them for the 1,000 loads.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import accelerate

from .fresh import run_python
from .leaks import growth
from .models import ADD, MOBILENET_V1, MOBILENET_V2, present
from .sidebyside import Timings, measure
from .table import Row, missing, show

__all__ = ["count_loads", "rows"]

_FORM = "{:.3f} x"
_LOADS = 1_000
_BACKEND = "openvino"
_NO_CACHE = {"CACHE_DIR": ""}


def rows() -> Iterator[Row]:
    """Measure calls on two models, a cold and a warm load, the file's own engine, and the memory of loads."""
    yield from _calls(ADD, 1.4, 1.25, seconds=6)
    yield from _calls(MOBILENET_V2, 1.02, None, seconds=20)
    yield _warm_load(MOBILENET_V2, 0.2)
    yield _own_engine(MOBILENET_V2)
    yield _left(MOBILENET_V1, 5.0)


def _calls(path: Path, infer: float, bound: float | None, *, seconds: float) -> Iterator[Row]:
    what = f"infer over a raw request's, {path.stem}, OpenVINO, the same compiled model"
    if not present(path):
        yield missing(what, infer, _FORM, path)
        return
    compiled = _compiled(path)
    raw, feeds = _raw(compiled)
    with accelerate.load(compiled) as model:
        given = dict(zip((t.name for t in model.metadata().inputs), feeds, strict=True))
        ways: dict[str, Callable[[], object]] = {"raw": raw, "ours": lambda: model.infer(given)}
        timings = measure(ways, seconds=seconds)
        yield _row(what, timings, infer)
        if bound is None:
            return
        with model.bind() as binding:
            for name, value in given.items():
                binding.inputs[name][...] = value
            raw_run, theirs = _raw_bound(compiled, feeds)
            binding.run()
            raw_run()
            if not all(map(np.array_equal, theirs, binding.outputs.values())):
                raise AssertionError("the bindings give different answers")
            timings = measure({"raw": raw_run, "ours": binding.run}, seconds=seconds, agree=lambda *_: True)
            yield _row(f"Binding.run over a raw request's on shared tensors, {path.stem}, OpenVINO", timings, bound)


def _compiled(path: Path) -> Any:
    core = _core()
    config = {"EXECUTION_MODE_HINT": "ACCURACY", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(str(path)), "CPU", config)


def _core() -> Any:
    if not accelerate.list_backends()[_BACKEND].available:  # imports it without its telemetry
        raise SystemExit("OpenVINO is not here")
    import openvino

    return openvino.Core()


def _raw(compiled: Any) -> tuple[Callable[[], Any], list[Any]]:
    """Return the fastest calls that a careful programmer writes, and their inputs.

    ``request.infer([a, b])``, as OpenVINO's examples have it, takes eight times as long on a model of one operator.
    """
    request = compiled.create_infer_request()
    random = np.random.default_rng(0)
    feeds = [
        random.integers(0, 100, tuple(port.shape)).astype(port.element_type.to_dtype()) for port in compiled.inputs
    ]
    inputs = [request.get_input_tensor(i).data for i in range(len(feeds))]
    outputs = [request.get_output_tensor(i).data for i in range(len(compiled.outputs))]
    infer = request.infer

    def one_input() -> Any:
        first[...] = feed
        infer(share_outputs=True)
        return output.copy()

    def two_inputs() -> Any:
        first[...] = feed
        second[...] = other_feed
        infer(share_outputs=True)
        return output.copy()

    (output,) = outputs
    if len(feeds) == 1:
        (first,), (feed,) = inputs, feeds
        return one_input, feeds
    (first, second), (feed, other_feed) = inputs, feeds
    return two_inputs, feeds


def _raw_bound(compiled: Any, feeds: list[Any]) -> tuple[Callable[[], Any], list[Any]]:
    from openvino import Tensor

    request = compiled.create_infer_request()
    outputs = [np.zeros(tuple(port.shape), port.element_type.to_dtype()) for port in compiled.outputs]
    for place, feed in enumerate(feeds):
        request.set_input_tensor(place, Tensor(feed, shared_memory=True))
    for place, output in enumerate(outputs):
        request.set_output_tensor(place, Tensor(output, shared_memory=True))
    return lambda: request.infer(share_outputs=True), outputs


def _warm_load(path: Path, target: float) -> Row:
    what = f"load with a warm cache over one without, {path.stem}, OpenVINO"
    if not present(path):
        return missing(what, target, _FORM, path)

    def load(config: dict[str, str] | None) -> object:
        with accelerate.load(path, backend=_BACKEND, num_threads=1, config=config) as model:
            return model.infer(frame)

    _core()
    with tempfile.TemporaryDirectory() as cache:
        before = os.environ.get("EDGE_ACCELERATE_CACHE")
        os.environ["EDGE_ACCELERATE_CACHE"] = cache
        try:
            with accelerate.load(path, backend=_BACKEND, num_threads=1) as model:
                (tensor,) = model.metadata().inputs
                frame = np.random.default_rng(0).integers(0, 256, tensor.shape).astype(tensor.data_type)
            timings = measure({"cold": lambda: load(_NO_CACHE), "warm": lambda: load(None)}, seconds=30)
        finally:
            os.environ.pop("EDGE_ACCELERATE_CACHE")
            if before is not None:
                os.environ["EDGE_ACCELERATE_CACHE"] = before
    ratio = timings.ratio("warm", "cold")
    times = f"{_ms(timings, 'warm')} against {_ms(timings, 'cold')} ms, both with an answer"
    note = f"{ratio.low:.3f} .. {ratio.high:.3f}; {times}"
    return Row(what, ratio.value, target, _FORM, note)


def _own_engine(path: Path) -> Row:
    what = f"infer over the file's own engine's, {path.stem}, OpenVINO and LiteRT, one thread each"
    if not present(path):
        return missing(what, None, _FORM, path)
    with (
        accelerate.load(path, backend=_BACKEND, num_threads=1) as theirs,
        accelerate.load(path, backend="tflite_cpu", num_threads=1) as own,
    ):
        (tensor,) = own.metadata().inputs
        frame = np.random.default_rng(0).integers(0, 256, tensor.shape).astype(tensor.data_type)
        ways = {"raw": lambda: own.infer(frame), "ours": lambda: theirs.infer(frame)}
        return _row(what, measure(ways, seconds=10, agree=lambda *_: True), None)


def _row(what: str, timings: Timings, target: float | None) -> Row:
    ratio = timings.ratio("ours", "raw")
    ours, raw = (1e6 * timings.median(name) for name in ("ours", "raw"))
    note = f"{ratio.low:.3f} .. {ratio.high:.3f}; {ours:.2f} against {raw:.2f} us"
    return Row(what, ratio.value, target, _FORM, note)


def _ms(timings: Timings, name: str) -> str:
    return f"{1e3 * timings.median(name):.0f}"


def _left(path: Path, target: float) -> Row:
    what, form = f"memory left by {_LOADS:,} loads and closes, {path.stem}, OpenVINO", "{:.2f} MB"
    if not present(path):
        return missing(what, target, form, path)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["EDGE_ACCELERATE_CACHE"], before = cache, os.environ.get("EDGE_ACCELERATE_CACHE")
        try:
            source = f"from benchmarks.openvino import count_loads\nprint(*count_loads({str(path)!r}))"
            megabytes, descriptors = map(float, run_python(source).split())
        finally:
            os.environ.pop("EDGE_ACCELERATE_CACHE")
            if before is not None:
                os.environ["EDGE_ACCELERATE_CACHE"] = before
    return Row(what, megabytes, target, form, f"{descriptors:.0f} descriptors; with the cache, as programs load")


def count_loads(path: str, loads: int = _LOADS) -> tuple[float, int]:
    """Return the growth in MB and in descriptors over many loads, each with an answer and its end."""
    with accelerate.load(path, backend=_BACKEND, num_threads=1) as model:
        (tensor,) = model.metadata().inputs
    frame = np.zeros(tensor.shape, tensor.data_type)

    def ours() -> None:
        with accelerate.load(path, backend=_BACKEND, num_threads=1) as model:
            model.metadata()
            model.infer(frame)

    return growth(ours, loads)


if __name__ == "__main__":
    show(rows())
