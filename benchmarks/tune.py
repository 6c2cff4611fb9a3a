"""What a load pays for what `tune` may have stored, and whether `auto` then takes the fastest engine that is right."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import accelerate
from accelerate import measurements
from accelerate.inputs.folder import read_inputs
from accelerate.reports import LoadOptions
from accelerate.source import Source
from accelerate.tuning import Tuning, TuningResult
from accelerate.tuning import measure as measure_all

from .fresh import Program, measure_fresh
from .models import COCO_SSD, DIGITS, MOBILENET_V1, MOBILENET_V2, PHOTOGRAPH, present
from .sidebyside import Estimate, measure
from .table import Row, missing, show

__all__ = ["rows"]

_NOTHING_STORED, _STORED = 20.0, 2.0  # milliseconds
_AS_FAST = 1.05
_RUNS = 40
_FOLDER = MOBILENET_V1.parent
#: Networks, each in the formats that there are of it.
_TWINS = (
    (MOBILENET_V1, MOBILENET_V1.with_suffix(".onnx"), _FOLDER / f"{MOBILENET_V1.stem}_edgetpu.tflite"),
    (MOBILENET_V2,),
    (COCO_SSD,),
    (_FOLDER / "vww_96_int8.tflite", _FOLDER / "vww_96_float.tflite"),
    (
        _FOLDER / "yolox_nano.onnx",
        _FOLDER / "yolox_nano_float16_quantize.tflite",
        _FOLDER / "yolox_nano_int8_quantize.tflite",
    ),
    (_FOLDER / "nanodet_m_320.onnx",),
)
_LOAD = "model = accelerate.load(path)\nanswer = model.backend"


def rows() -> Iterator[Row]:
    """Measure loads with nothing and something stored, and let `tune` choose for six networks."""
    with tempfile.TemporaryDirectory() as cache, _environment("EDGE_ACCELERATE_CACHE", cache):
        yield from _costs(MOBILENET_V2 if present(MOBILENET_V2) else DIGITS)
    for twins in _TWINS:
        with tempfile.TemporaryDirectory() as cache, _environment("EDGE_ACCELERATE_CACHE", cache):
            yield _choice([path for path in twins if present(path)], twins[0])


def _costs(path: Path) -> Iterator[Row]:
    yield from _cost(path, "nothing stored", _NOTHING_STORED)
    with accelerate.load(path) as model:
        place = (model.backend, model.device, model.runtime.details["num_threads"])
    version = accelerate.list_backends()[place[0]].version
    # what is loaded without it, so that the loads differ in nothing else
    found = measurements.Measurement(*place, version, "2026-11-27", 1.0, None)
    assert not measurements.keep(Source(path), LoadOptions(), found)
    chosen = accelerate.plan(path).chosen
    assert chosen is not None
    assert chosen.reason.startswith("tuned on")
    yield from _cost(path, "a result stored", _STORED)


def _cost(path: Path, state: str, target: float) -> Iterator[Row]:
    """Set loads that look into the store against those that do not."""

    def load(tuned: str) -> str:
        os.environ["EDGE_ACCELERATE_TUNED"] = tuned
        with accelerate.load(path) as model:
            return model.backend

    ways: dict[str, Callable[[], object]] = {"with": partial(load, "1"), "without": partial(load, "0")}
    with _environment("EDGE_ACCELERATE_TUNED", "1"):
        here = measure(ways, seconds=6, agree=lambda one, other: bool(one == other))
    source, options = Source(path), LoadOptions()
    alone = measure({"find": lambda: measurements.find(source, options) is None}, seconds=0.5).median("find")
    what = f"load by auto, {state}, over EDGE_ACCELERATE_TUNED=0"
    note = f"; the look-up alone {1e3 * alone:.2f} ms"
    yield _row(f"{what}, running program", here.difference(*ways), target, note)
    before = "import os, numpy, accelerate\nos.environ['EDGE_ACCELERATE_TUNED'] = '{}'\npath = {!r}"
    programs = {name: Program(_LOAD, before.format(n, str(path))) for name, n in (("with", 1), ("without", 0))}
    fresh = measure_fresh(programs, runs=_RUNS)
    yield _row(f"{what}, fresh processes", fresh.difference(*ways), target)


def _row(what: str, more: Estimate, target: float, note: str = "") -> Row:
    return Row(what, 1e3 * more.value, target, "{:.2f} ms", f"{1e3 * more.low:.2f} .. {1e3 * more.high:.2f}{note}")


def _choice(twins: list[Path], first: Path) -> Row:
    what = f"p50 of what tuned auto chose over the fastest that agrees, {first.stem}"
    if not twins or not PHOTOGRAPH.is_file():
        return missing(what, _AS_FAST, "{:.3f} x", first)
    inputs = partial(read_inputs, PHOTOGRAPH.parent)
    found = measure_all([str(path) for path in twins], inputs, 1.0, {})
    chosen = _taken_by_auto(found, twins)
    if chosen.agrees is False:
        raise AssertionError(f"auto goes by one that disagrees: {chosen}")
    again = measure_all([str(path) for path in twins], inputs, 0.5, {}, store=False)
    figures = [_over_the_fastest(chosen, one) for one in (found, again)]
    dropped = sum(one.agrees is False for one in found.results)
    threads = "" if chosen.num_threads is None else f", {chosen.num_threads} threads"
    note = (
        f"{chosen.source} on {chosen.backend}:{chosen.device}{threads}; {len(found.results)} candidates, {dropped} "
        f"disagree; in a second run {figures[1]:.3f} x"
    )
    return Row(what, figures[0], _AS_FAST, "{:.3f} x", note)


def _taken_by_auto(found: Tuning, twins: list[Path]) -> TuningResult:
    """Load the chosen file, with nothing said of where, and return the result of what that is."""
    path = next(path for path in twins if path.name.endswith(found.chosen.source))
    with accelerate.load(path) as model:
        place = (model.backend, model.device, model.runtime.details.get("num_threads"))
    same = [
        one for one in found.results if one.source == found.chosen.source and (one.backend, one.device) == place[:2]
    ]
    return next(one for one in same if one.num_threads in (None, place[2]))


def _over_the_fastest(chosen: TuningResult, found: Tuning) -> float:
    def place(one: TuningResult) -> tuple[object, ...]:
        return one.source, one.backend, one.device, one.num_threads

    took = {place(one): one.p50_ms for one in found.results if one.p50_ms is not None and one.agrees is not False}
    return took[place(chosen)] / min(took.values())


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


if __name__ == "__main__":
    show(rows())
