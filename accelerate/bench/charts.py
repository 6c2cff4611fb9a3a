"""The report's charts: how latency is distributed, how the run went, throughput, agreement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import svg, tables

__all__ = ["COLOURS", "agreement", "distribution", "duration", "name", "throughput", "timeline"]

#: The classes s0, s1, ... of the page's style; more rows than colours begin anew.
COLOURS = 6

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, svg.WIDTH - 10, 12.0, svg.HEIGHT - 30
_BINS = 90
Rows = Sequence[Mapping[str, Any]]


def distribution(rows: Rows) -> str:
    """Draw a hill for each row over one common scale, with its p50 and p99."""
    samples = [np.concatenate([one["us"] for one in row["rounds"]]) for row in rows]
    # the last thousandth would take half of the room; its percentile is in the table
    low = min(float(np.percentile(values, 0.1)) for values in samples)
    high = max(_value(row, "p99") * 1.3 for row in rows)
    across = svg.logarithmic((low, high), 10, svg.WIDTH - 10)
    band = 64.0 if len(rows) > 3 else 88.0
    bottom = _TOP + band * len(rows)
    parts = [*_ticks_below(across, _TOP, bottom, duration)]
    for n, (row, values) in enumerate(zip(rows, samples, strict=True)):
        base = _TOP + band * (n + 1)
        edges = np.geomspace(across.low, across.high, _BINS + 1)
        heights = np.histogram(np.clip(values, across.low, across.high), edges)[0].astype(float)
        heights = np.convolve(heights, (0.25, 0.5, 0.25), "same")
        heights *= (band - 26) / max(heights.max(), 1)
        middles = np.sqrt(edges[1:] * edges[:-1])
        hill = [(across(float(x)), base - float(h)) for x, h in zip(middles, heights, strict=True)]
        closed = [(hill[0][0], base), *hill, (hill[-1][0], base)]
        told = f"{name(row)}: p50 {duration(row['latency_us']['p50'])}"
        parts.append(svg.path(closed, f"area s{n % COLOURS}", told, closed=True))
        parts.append(svg.line(10, base, svg.WIDTH - 10, base, "axis"))
        for metric in ("p50", "p99"):
            if metric in row["latency_us"]:
                x = across(row["latency_us"][metric])
                parts.append(svg.line(x, base - 12, x, base + 3, f"mark s{n % COLOURS}"))
        middle = across(row["latency_us"]["p50"])
        # the name stands on the side where the hill is not
        anchor, place = ("start", 12.0) if middle > svg.WIDTH / 2 else ("end", svg.WIDTH - 12)
        parts.append(svg.text(place, base - band + 22, name(row), "name", anchor=anchor))
        parts.append(svg.text(place, base - band + 36, _p50_p99(row), "note", anchor=anchor))
    return svg.drawing("Distribution of latency", parts, bottom + 24)


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
        parts.append(svg.path(points, f"curve s{n % COLOURS}", name(row)))
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
        parts.append(
            svg.text(x, _BOTTOM + 16, f"{callers:g} caller{'s' if callers > 1 else ''}", "tick", anchor="middle")
        )
    for n, (row, curve) in enumerate(zip(rows, curves, strict=True)):
        points = [(places[callers], up(rate)) for callers, rate in curve]
        if points:
            told = ", ".join(f"{callers:g}: {rate:,.0f}/s" for callers, rate in curve)
            parts.append(svg.path(points, f"curve s{n % COLOURS}", f"{name(row)}: {told}"))
        parts += [svg.line(x, y, x, y, f"dot s{n % COLOURS}") for x, y in points]
    return svg.drawing("Answers a second against callers", parts)


def agreement(rows: Rows) -> str:
    """Draw how far each row's answers lie from the reference's, as a share of the range of the answers."""
    told = [row for row in rows if "reason" not in row["agreement"]]
    if not told:
        return ""
    floor, band = 1e-6, 44.0
    across = svg.Scale(floor, 1.0, 10, svg.WIDTH - 10, (1e-6, 1e-4, 1e-2, 1.0), log=True)
    bottom = _TOP + band * len(told)
    parts = [*_ticks_below(across, _TOP, bottom, lambda share: f"{100 * share:.4f}".rstrip("0").rstrip(".") + " %")]
    for n, row in enumerate(rows):
        if "reason" in row["agreement"]:
            continue
        middle = _TOP + band * (told.index(row) + 0.5)
        share, note = _apart(row["agreement"])
        parts.append(svg.text(12, middle - 6, name(row), "name"))
        parts.append(svg.text(svg.WIDTH - 12, middle - 6, note, "note", anchor="end"))
        end = across(max(share, floor))
        if share:
            parts.append(svg.line(10, middle + 6, max(end, 14), middle + 6, f"bar s{n % COLOURS}"))
    return svg.drawing("Largest difference from the reference", parts, bottom + 24)


def name(row: Mapping[str, Any]) -> str:
    """Return what a row is called beside its line."""
    return f"{row['backend']} {row['device']}"


def duration(microseconds: float | None) -> str:
    """Return a time with its unit as a browser can show it."""
    return tables.duration(microseconds).replace("us", "µs")


def _apart(figures: Mapping[str, Any]) -> tuple[float, str]:
    largest, extent = figures["largest_difference"], figures["range"]
    share = 1.0 if largest is None else largest / extent if extent else float(largest > 0)
    note = "not a number" if largest is None else "equal" if largest == 0 else f"{share:.2g} of the range"
    return share, note if figures["top1"] is None else f"top-1 {figures['top1']:.0%}, {note}"


def _value(row: Mapping[str, Any], metric: str) -> float:
    figures = row["latency_us"]
    return float(figures.get(metric, figures["max"]))


def _p50_p99(row: Mapping[str, Any]) -> str:
    figures = row["latency_us"]
    return ", ".join(f"{metric} {duration(figures[metric])}" for metric in ("p50", "p99") if metric in figures)


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
