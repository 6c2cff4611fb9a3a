"""`infer` and `Binding.run` against the raw ONNX Runtime calls on the same arrays: what one answer costs more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

import accelerate

from .models import DIGITS_ONNX, MOBILENET_V1_ONNX, present
from .sidebyside import Timings, measure
from .table import Row, missing, show

__all__ = ["rows"]

_FORM = "{:.3f} x"
# one for each: two sessions whose threads spin for work would take the cores from each other
_THREADS = 1


def rows() -> Iterator[Row]:
    """Measure a model of one node, where only the calls count, and the twin of MobileNet."""
    yield from _add()
    yield _infer(MOBILENET_V1_ONNX, 1.01, seconds=20)
    yield _infer(DIGITS_ONNX, None, seconds=5)


def _add() -> Iterator[Row]:
    model_file = _one_add((10, 10))
    feed = {name: np.random.default_rng(0).random((10, 10), np.float32) for name in "ab"}
    session = _session(model_file)
    with accelerate.load(model_file, backend="onnxruntime", num_threads=_THREADS) as model:
        timings = measure({"raw": lambda: session.run(None, feed), "ours": lambda: model.infer(feed)}, seconds=5)
        yield _row("infer over raw, one Add of 10 x 10, ONNX Runtime", timings, 1.4)
        with model.bind() as binding:
            bound, total = _bound(session, feed)
            for name, value in feed.items():
                binding.inputs[name][...] = value
            ours = binding.outputs["sum"]
            binding.run()
            session.run_with_iobinding(bound)
            if not np.array_equal(ours, total):
                raise AssertionError("the bindings give different answers")
            timings = measure({"raw": lambda: session.run_with_iobinding(bound), "ours": binding.run}, seconds=5)
            yield _row("Binding.run over raw IOBinding, one Add of 10 x 10", timings, 1.25)


def _infer(path: Path, target: float | None, *, seconds: float) -> Row:
    what = f"infer over raw, {path.stem}, ONNX Runtime, the same session"
    if not present(path):
        return missing(what, target, _FORM, path)
    session = _session(str(path))
    (entry,) = session.get_inputs()
    shape = [n if isinstance(n, int) else 1 for n in entry.shape]
    feed = {entry.name: np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)}
    # one session for both: two of the same model differ by up to 4 %, by where their weights happen to lie in memory
    with accelerate.load(session) as model:
        ways = {"raw": lambda: session.run(None, feed), "ours": lambda: model.infer(feed)}
        return _row(what, measure(ways, seconds=seconds), target)


def _row(what: str, timings: Timings, target: float | None) -> Row:
    ratio = timings.ratio("ours", "raw")
    ours, raw = (1e6 * timings.median(name) for name in ("ours", "raw"))
    note = f"{ratio.low:.3f} .. {ratio.high:.3f}; {ours:.2f} against {raw:.2f} us"
    return Row(what, ratio.value, target, _FORM, note)


def _session(model: str | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _bound(session: Any, feed: dict[str, Any]) -> tuple[Any, Any]:
    """Return what a careful programmer binds without us, and the array that holds the answer."""
    bound = session.io_binding()
    for name, value in feed.items():
        bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    total = np.zeros((10, 10), np.float32)
    bound.bind_ortvalue_output("sum", onnxruntime.OrtValue.ortvalue_from_numpy(total))
    return bound, total


def _one_add(shape: tuple[int, ...]) -> bytes:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b", "sum")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "add", tensors[:2], tensors[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


if __name__ == "__main__":
    show(rows())
