"""The report's charts, drawn in SVG: how latency is distributed, and how the run went. Text in them is never markup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from . import report_text as say

__all__ = ["COLOURS", "distribution", "logarithmic", "timeline"]

#: The classes s0, s1, ... of the page's style; more rows than colours begin anew.
COLOURS = 6

# a drawing this wide is as wide as a phone, where text then has its own size; on a desktop it grows with its column
_WIDTH, _HEIGHT = 400.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, _WIDTH - 10, 12.0, _HEIGHT - 30
_LABEL = 50.0  # the width of a label such as "8.00 µs"
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
    high = max(row["latency_us"].get("p99", row["latency_us"]["max"]) * 1.3 for row in rows)
    across = logarithmic((low, high), 10, _WIDTH - 10)
    band = _BAND_OF_MANY if len(rows) > 3 else _BAND
    bottom = _TOP + band * len(rows)
    parts = []
    for tick in across.ticks:
        x = across(tick)
        parts.append(_line(x, _TOP, x, bottom, "grid"))
        parts.append(_text(min(max(x, 30), _WIDTH - 30), bottom + 16, say.duration(tick), "tick", "middle"))
    for n, (row, values) in enumerate(zip(rows, samples, strict=True)):
        base, style = _TOP + band * (n + 1), f"s{n % COLOURS}"
        parts += _hill(values, across, base, band - _WORDS, style)
        marks = [across(row["latency_us"][metric]) for metric in _MARKED if metric in row["latency_us"]]
        parts += [_line(x, base - 12, x, base + 3, f"mark {style}") for x in marks]
        # the words stand on the side where the hill is not
        anchor, x = ("end", _WIDTH - 12) if across(row["latency_us"]["p50"]) < _WIDTH / 2 else ("start", 12.0)
        parts.append(_text(x, base - band + 22, _fit(say.name(row, rows)), "name", anchor))
        for line, told in enumerate(_figures(row, values, across)):
            parts.append(_text(x, base - band + 36 + 13 * line, told, "note", anchor))
    return _drawing("Distribution of latency", parts, bottom + 24)


def _hill(values: Floats, across: _Scale, base: float, height: float, style: str) -> Iterator[str]:
    edges = np.geomspace(across.low, across.high, _BINS + 1)
    heights = np.convolve(np.histogram(values, edges)[0].astype(float), (0.25, 0.5, 0.25), "same")
    heights *= height / max(heights.max(), 1)
    middles = np.sqrt(edges[1:] * edges[:-1])
    hill = [(across(float(x)), base - float(h)) for x, h in zip(middles, heights, strict=True)]
    yield _path([(hill[0][0], base), *hill, (hill[-1][0], base)], f"area {style}", end="Z")
    yield _line(10, base, _WIDTH - 10, base, "axis")


def _figures(row: say.Row, values: Floats, across: _Scale) -> Iterator[str]:
    figures = row["latency_us"]
    yield ", ".join(f"{metric} {say.duration(figures[metric])}" for metric in _MARKED if metric in figures)
    if beyond := float(np.mean((values < across.low) | (values > across.high))):
        yield f"{100 * beyond:.2g} % of the calls lie beyond"


def _fit(text: str) -> str:
    """Shorten a name in the middle, since its ends tell it from others."""
    half = _MOST_LETTERS // 2
    return text if len(text) <= _MOST_LETTERS else f"{text[: half - 1]}…{text[-half:]}"


def timeline(rows: Rows, conditions: Sequence[Mapping[str, Any]]) -> str:
    """Draw each round's median over the time of the run, and the temperature where it can be read."""
    curves = [
        [(float(one["at"]), float(np.median(one["us"])) / row["latency_us"]["p50"]) for one in row["rounds"]]
        for row in rows
    ]
    across = _linear(0.0, max(at for curve in curves for at, _ in curve), _LEFT, _RIGHT)
    low, high = np.percentile([value for curve in curves for _, value in curve], (0.5, 99.5)).tolist()
    up = _linear(min(0.75, math.floor(low * 10) / 10), max(1.25, high * 1.05), _BOTTOM, _TOP)
    parts = [_text(across(tick), _BOTTOM + 16, f"{tick:g} s", "tick", "middle") for tick in across.ticks]
    for tick in up.ticks:
        parts.append(_line(_LEFT, up(tick), _RIGHT, up(tick), "grid"))
        parts.append(_text(_LEFT - 6, up(tick) + 4, f"{tick:.0%}", "tick", "end"))
    for n, (row, curve) in enumerate(zip(rows, curves, strict=True)):
        points = [(across(at), up(value)) for at, value in curve]
        parts.append(_path(points, f"curve s{n % COLOURS}", say.name(row, rows)))
    heat = [(one["at"], one["temperature"]) for one in conditions if one["temperature"] is not None]
    if len(heat) > 1:
        warm = _linear(0.0, 100.0, _BOTTOM, _TOP)
        parts.append(_path([(across(at), warm(value)) for at, value in heat], "heat", "temperature, 0 to 100 °C"))
        parts.append(_text(_RIGHT, warm(heat[-1][1]) - 4, f"{heat[-1][1]:.0f} °C", "note", "end"))
    return _drawing("Median of each round over time", parts, _HEIGHT)


# Scales


@dataclass(frozen=True)
class _Scale:
    """Maps the values from `low` to `high` to the places from `start` to `end`; `ticks` are values to label."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float]
    log: bool

    def __call__(self, value: float) -> float:
        """Return the place of a value; what lies beyond an end is drawn at it."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def logarithmic(values: Iterable[float], start: float, end: float) -> _Scale:
    """Return a scale for positive values that lie far apart, with as many round ticks as fit beside each other."""
    values = list(values)
    low, high = min(values) / 1.08, max(values) * 1.08
    scale = _Scale(low, high, start, end, (), log=True)
    decades = [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    choices = [[n * power for power in decades for n in several] for several in ((1, 2, 3, 4, 6, 8), (1, 2, 5), (1, 5))]
    choices += [decades[::step] for step in range(1, len(decades))]
    # less than a decade: even steps are rounder
    choices += [list(_linear(low, high, start, end).ticks[::step]) for step in (1, 2, 3)]
    within = ([tick for tick in ticks if low <= tick <= high] for ticks in choices)
    fitting = [ticks for ticks in within if all(scale(b) - scale(a) >= _LABEL for a, b in pairwise(ticks))]
    return replace(scale, ticks=max(fitting, key=len))


def _linear(low: float, high: float, start: float, end: float) -> _Scale:
    """Return a scale with three to six round ticks."""
    high = max(high, low + 1e-9)
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return _Scale(low, high, start, end, [step * i for i in range(first, last + 1)], log=False)


# SVG; what things look like, the classes of the page's style say


def _drawing(title: str, parts: Iterable[str], height: float) -> str:
    """Return a drawing; `title` is what a screen reader says."""
    head = f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}">'
    return "\n".join((head, *parts, "</svg>"))


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def _path(points: Sequence[tuple[float, float]], style: str, title: str = "", *, end: str = "") -> str:
    """Return a line through points, or with the end "Z" an area; `title` shows where the mouse rests on it."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{steps}{end}" class="{style}"><title>{escape(title)}</title></path>'


def _text(x: float, y: float, content: str, style: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(content)}</text>'
