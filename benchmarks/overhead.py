"""`infer` against the raw LiteRT calls on the same buffers: what one answer costs more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import accelerate

from .models import ADD, ADD_DYNAMIC, DIGITS, MOBILENET_V1, VWW, present
from .sidebyside import Estimate, measure
from .table import Row, missing, show

__all__ = ["rows"]

_FORM = "{:.3f} x"
_PAIRS = 3


def rows() -> Iterator[Row]:
    """Measure four models, and what a dynamic batch, a user's own interpreter and failover add."""
    yield _row(MOBILENET_V1, 1.02, seconds=20)
    yield _row(ADD, 2.0, seconds=5)
    yield _row(DIGITS, None, seconds=5)
    yield _row(VWW, 1.03, seconds=20)
    yield _beyond("a dynamic batch", ADD_DYNAMIC, 1.5, adopted=False)
    yield _beyond("a user's interpreter of a fixed batch", ADD, 3.0, adopted=True)
    yield _beyond("a user's interpreter of a dynamic batch", ADD_DYNAMIC, 3.0, adopted=True)
    yield _wrapped()


def _row(path: Path, target: float | None, *, seconds: float) -> Row:
    what = f"infer over raw, {path.stem}"
    if not present(path):
        return missing(what, target, _FORM, path)
    # two interpreters of one model differ by up to 3 % by where their memory lies: the middle one of three pairs counts
    pairs = sorted((_pair(path, seconds / _PAIRS) for _ in range(_PAIRS)), key=lambda pair: pair[0].value)
    ratio, note = pairs[_PAIRS // 2]
    spread = f"; pairs {', '.join(f'{pair[0].value:.3f}' for pair in pairs)}"
    return Row(what, ratio.value, target, _FORM, note + spread)


def _beyond(what: str, path: Path, target: float, *, adopted: bool) -> Row:
    """Measure by how many microseconds more than on a fixed batch `infer` lasts longer than the raw calls."""
    what, form = f"infer's cost over raw on {what}, beyond that on a fixed one", "{:.2f} us"
    if not (present(path) and present(ADD)):
        return missing(what, target, form, path)
    (fixed, fixed_feeds), (raw, feeds) = _raw(ADD), _raw(path)
    source: Any = path
    if adopted:
        source = Interpreter(model_path=str(path), num_threads=1)
        source.allocate_tensors()
    with accelerate.load(ADD, num_threads=1) as plain, accelerate.load(source) as model:
        given = dict(zip((t.name for t in plain.metadata().inputs), fixed_feeds, strict=True))
        theirs = dict(zip((t.name for t in model.metadata().inputs), feeds, strict=True))
        ways = {
            "raw, fixed": fixed,
            "infer, fixed": lambda: plain.infer(given),
            "raw": raw,
            "infer": lambda: model.infer(theirs),
        }
        timings = measure(ways, seconds=8, agree=lambda *_: True)
    cost, base = timings.difference("infer", "raw"), timings.difference("infer, fixed", "raw, fixed")
    note = f"{1e6 * cost.value:.2f} ({1e6 * cost.low:.2f} .. {1e6 * cost.high:.2f}) against {1e6 * base.value:.2f} us"
    return Row(what, 1e6 * (cost.value - base.value), target, form, note)


def _wrapped() -> Row:
    """Measure `infer` through a failover of which nothing fails, against `infer` through replicas."""
    what = f"infer through failover over infer through replicas=2, {ADD.stem}"
    if not present(ADD):
        return missing(what, 1.0, _FORM, ADD)
    options: dict[str, Any] = {"backend": "tflite_cpu", "num_threads": 1}
    with (
        accelerate.load(ADD, **options) as plain,
        accelerate.load(ADD, **options, replicas=2) as replicas,
        accelerate.load(ADD, **options, failover="tflite_cpu") as failover,
    ):
        random = np.random.default_rng(0)
        given = {t.name: random.random(t.shape, np.float32) for t in plain.metadata().inputs}
        models = {"plain": plain, "replicas": replicas, "failover": failover}
        timings = measure({name: partial(model.infer, given) for name, model in models.items()}, seconds=8)
    ratio, costs = timings.ratio("failover", "replicas"), [timings.difference(n, "plain") for n in list(models)[1:]]
    note = f"{ratio.low:.3f} .. {ratio.high:.3f}; " + " and ".join(
        f"{name} {1e6 * cost.value:.2f} ({1e6 * cost.low:.2f} .. {1e6 * cost.high:.2f})"
        for name, cost in zip(list(models)[1:], costs, strict=True)
    )
    return Row(what, ratio.value, 1.0, _FORM, f"{note} us over plain")


def _pair(path: Path, seconds: float) -> tuple[Estimate, str]:
    raw, feeds = _raw(path)
    with accelerate.load(path, backend="tflite_cpu", num_threads=1) as model:
        given = {t.name: feed for t, feed in zip(model.metadata().inputs, feeds, strict=True)}
        timings = measure({"raw": raw, "infer": lambda: model.infer(given)}, seconds=seconds)
    ratio = timings.ratio("infer", "raw")
    microseconds = [1e6 * timings.median(name) for name in ("infer", "raw")]
    return ratio, f"{ratio.low:.3f} .. {ratio.high:.3f}; {microseconds[0]:.2f} against {microseconds[1]:.2f} us"


def _raw(path: Path) -> tuple[Callable[[], Any], list[Any]]:
    """Return what a careful programmer writes without us, and the inputs it is given.

    It is written out for the number of inputs, for a loop over them would slow down the side that is to be beaten.
    """
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    random = np.random.default_rng(0)
    feeds = [random.integers(0, 100, d["shape"]).astype(d["dtype"]) for d in details]
    (output,) = (d["index"] for d in interpreter.get_output_details())
    first, *others = (d["index"] for d in details)

    def one_input() -> Any:
        interpreter.set_tensor(first, feed)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    def two_inputs() -> Any:
        interpreter.set_tensor(first, feed)
        interpreter.set_tensor(second, other_feed)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    if not others:
        (feed,) = feeds
        return one_input, feeds
    (second,) = others
    feed, other_feed = feeds
    return two_inputs, feeds


if __name__ == "__main__":
    show(rows())
