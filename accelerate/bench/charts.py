"""The report's charts: how latency is distributed, how the run went, throughput, agreement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import report_text as say
from . import svg

__all__ = ["COLOURS", "agreement", "distribution", "throughput", "timeline"]

#: The classes s0, s1, ... of the page's style; more rows than colours begin anew.
COLOURS = 6

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, svg.WIDTH - 10, 12.0, svg.HEIGHT - 30
_BINS = 90
#: The room for a row of the distribution, and for the words above its hill.
_BAND, _BAND_OF_MANY, _WORDS = 88.0, 64.0, 26.0
_MOST_LETTERS = 50  # of a name that has a drawing's width
_MARKED = ("p50", "p99")

Rows = Sequence[say.Row]
Floats = npt.NDArray[np.float64]


def distribution(rows: Rows) -> str:
    """Draw a hill for each row over one common scale, with its p50 and p99, and say how much lies beside the scale."""
    samples = [np.concatenate([one["us"] for one in row["rounds"]]) for row in rows]
    # the last thousandth would take half of the room; its percentile is in the table
    low = min(float(np.percentile(values, 0.1)) for values in samples)
    high = max(_value(row, "p99") * 1.3 for row in rows)
    across = svg.logarithmic((low, high), 10, svg.WIDTH - 10)
    band = _BAND_OF_MANY if len(rows) > 3 else _BAND
    bottom = _TOP + band * len(rows)
    parts = [*_ticks_below(across, _TOP, bottom, say.duration)]
    for n, (row, values) in enumerate(zip(rows, samples, strict=True)):
        base, style = _TOP + band * (n + 1), f"s{n % COLOURS}"
        parts += [*_hill(values, across, base, band - _WORDS, style), *_marks(row, across, base, style)]
        # the words stand on the side where the hill is not
        anchor, place = ("end", svg.WIDTH - 12) if across(row["latency_us"]["p50"]) < svg.WIDTH / 2 else ("start", 12.0)
        parts.append(svg.text(place, base - band + 22, _fit(say.name(row, rows)), "name", anchor=anchor))
        for line, told in enumerate(_figures(row, values, across)):
            parts.append(svg.text(place, base - band + 36 + 13 * line, told, "note", anchor=anchor))
    return svg.drawing("Distribution of latency", parts, bottom + 24)


def _hill(values: Floats, across: svg.Scale, base: float, height: float, style: str) -> Iterator[str]:
    edges = np.geomspace(across.low, across.high, _BINS + 1)
    heights = np.convolve(np.histogram(values, edges)[0].astype(float), (0.25, 0.5, 0.25), "same")
    heights *= height / max(heights.max(), 1)
    middles = np.sqrt(edges[1:] * edges[:-1])
    hill = [(across(float(x)), base - float(h)) for x, h in zip(middles, heights, strict=True)]
    yield svg.path([(hill[0][0], base), *hill, (hill[-1][0], base)], f"area {style}", closed=True)
    yield svg.line(10, base, svg.WIDTH - 10, base, "axis")


def _marks(row: say.Row, across: svg.Scale, base: float, style: str) -> Iterator[str]:
    for metric in _MARKED:
        if metric in row["latency_us"]:
            x = across(row["latency_us"][metric])
            yield svg.line(x, base - 12, x, base + 3, f"mark {style}")


def _figures(row: say.Row, values: Floats, across: svg.Scale) -> Iterator[str]:
    figures = row["latency_us"]
    yield ", ".join(f"{metric} {say.duration(figures[metric])}" for metric in _MARKED if metric in figures)
    if beyond := float(np.mean((values < across.low) | (values > across.high))):
        yield f"{100 * beyond:.2g} % of the calls lie beyond"


def timeline(rows: Rows, conditions: Sequence[Mapping[str, Any]]) -> str:
    """Draw each round's median over the time of the run, and the temperature where it can be read."""
    curves = [
        [(float(one["at"]), float(np.median(one["us"])) / row["latency_us"]["p50"]) for one in row["rounds"]]
        for row in rows
    ]
    last = max(at for curve in curves for at, _ in curve)
    values = [value for curve in curves for _, value in curve]
    across = svg.linear(last, _LEFT, _RIGHT)
    low, high = (float(np.percentile(values, rank)) for rank in (0.5, 99.5))
    up = svg.linear(max(1.25, high * 1.05), _BOTTOM, _TOP, low=min(0.75, math.floor(low * 10) / 10))
    parts = [*_frame(across, up, lambda x: f"{x:g} s", lambda y: f"{y:.0%}")]
    for n, (row, curve) in enumerate(zip(rows, curves, strict=True)):
        points = [(across(at), up(value)) for at, value in curve]
        parts.append(svg.path(points, f"curve s{n % COLOURS}", say.name(row, rows)))
    heat = [(one["at"], one["temperature"]) for one in conditions if one["temperature"] is not None]
    if len(heat) > 1:
        warm = svg.linear(100, _BOTTOM, _TOP)
        parts.append(svg.path([(across(at), warm(value)) for at, value in heat], "heat", "temperature, 0 to 100 °C"))
        parts.append(svg.text(_RIGHT, warm(heat[-1][1]) - 4, f"{heat[-1][1]:.0f} °C", "note", anchor="end"))
    return svg.drawing("Median of each round over time", parts)


def throughput(rows: Rows) -> str:
    """Draw answers a second against the number of callers."""
    curves = [
        [(float(one["callers"]), float(one["per_second"])) for one in row["throughput"] if "per_second" in one]
        for row in rows
    ]
    counts = sorted({callers for curve in curves for callers, _ in curve})
    if not counts:
        return ""
    top = max(rate for curve in curves for _, rate in curve)
    up = svg.linear(top * 1.08, _BOTTOM, _TOP)
    # each number of callers at the same distance: 1, 2, 4, 8 double
    step = (_RIGHT - _LEFT - 40) / max(1, len(counts) - 1)
    places = {callers: _LEFT + 20 + step * i for i, callers in enumerate(counts)}
    parts = [*_rows_of_ticks(up, _amount)]
    for callers, x in places.items():
        parts.append(svg.text(x, _BOTTOM + 16, say.callers(callers), "tick", anchor="middle"))
    for n, (row, curve) in enumerate(zip(rows, curves, strict=True)):
        points = [(places[callers], up(rate)) for callers, rate in curve]
        if points:
            told = ", ".join(f"{callers:g}: {rate:,.0f}/s" for callers, rate in curve)
            parts.append(svg.path(points, f"curve s{n % COLOURS}", f"{say.name(row, rows)}: {told}"))
        parts += [svg.line(x, y, x, y, f"dot s{n % COLOURS}") for x, y in points]
    return svg.drawing("Answers a second against callers", parts)


def agreement(rows: Rows) -> str:
    """Draw how far each other row's answers lie from the reference's, as a share of the range of the answers."""
    told = [(n, row) for n, row in enumerate(rows) if "reason" not in row["agreement"] and not say.is_reference(row)]
    if not told:
        return ""
    floor, band = 1e-6, 58.0
    across = svg.Scale(floor, 1.0, 10, svg.WIDTH - 10, (1e-6, 1e-4, 1e-2, 1.0), log=True)
    bottom = _TOP + band * len(told)
    parts = [*_ticks_below(across, _TOP, bottom, lambda share: f"{100 * share:.4f}".rstrip("0").rstrip(".") + " %")]
    for place, (n, row) in enumerate(told):
        top = _TOP + band * place
        share, note = _apart(row["agreement"])
        parts.append(svg.text(12, top + 16, _fit(say.name(row, rows)), "name"))
        parts.append(svg.text(12, top + 30, note, "note"))
        if share:
            parts.append(svg.line(10, top + 42, max(across(share), 14), top + 42, f"bar s{n % COLOURS}"))
    return svg.drawing("Largest difference from the reference", parts, bottom + 24)


def _fit(text: str) -> str:
    """Shorten a name in the middle, since its ends tell it from others."""
    half = _MOST_LETTERS // 2
    return text if len(text) <= _MOST_LETTERS else f"{text[: half - 1]}…{text[-half:]}"


def _apart(figures: Mapping[str, Any]) -> tuple[float, str]:
    largest, extent = figures["largest_difference"], figures["range"]
    share = 1.0 if largest is None else largest / extent if extent else float(largest > 0)
    note = "not a number" if largest is None else "equal" if largest == 0 else f"{share:.2g} of the range"
    return share, note if figures["top1"] is None else f"top-1 {figures['top1']:.0%}, {note}"


def _value(row: Mapping[str, Any], metric: str) -> float:
    figures = row["latency_us"]
    return float(figures.get(metric, figures["max"]))


def _frame(
    across: svg.Scale, up: svg.Scale, say_x: Callable[[float], str], say_y: Callable[[float], str]
) -> Iterator[str]:
    yield from _rows_of_ticks(up, say_y)
    for tick in across.ticks:
        yield svg.text(across(tick), _BOTTOM + 16, say_x(tick), "tick", anchor="middle")


def _rows_of_ticks(up: svg.Scale, say: Callable[[float], str]) -> Iterator[str]:
    for tick in up.ticks:
        yield svg.line(_LEFT, up(tick), _RIGHT, up(tick), "grid")
        yield svg.text(_LEFT - 6, up(tick) + 4, say(tick), "tick", anchor="end")


def _ticks_below(across: svg.Scale, top: float, bottom: float, say: Callable[[float], str]) -> Iterator[str]:
    for tick in across.ticks:
        x = across(tick)
        yield svg.line(x, top, x, bottom, "grid")
        yield svg.text(min(max(x, 30), svg.WIDTH - 30), bottom + 16, say(tick), "tick", anchor="middle")


def _amount(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"
