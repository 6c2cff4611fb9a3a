"""Drawing in SVG, as far as the report's charts need it: scales, axes, and text that is never markup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise

__all__ = ["HEIGHT", "WIDTH", "Scale", "drawing", "line", "linear", "logarithmic", "path", "text"]

#: A drawing this wide is as wide as a phone, where text then has its own size; on a desktop it grows with its column.
WIDTH, HEIGHT = 400.0, 220.0

_MULTIPLES = ((1, 5), (1, 2, 5), (1, 2, 3, 4, 6, 8))
_FEWEST_TICKS, _MOST_TICKS = 3, 5
_LABEL = 50.0  # the width of a label such as "8.00 µs"


@dataclass(frozen=True)
class Scale:
    """Maps values to places on the page.

    Attributes
    ----------
    low, high : float
        The values at the ends.
    start, end : float
        The places of the ends.
    ticks : tuple of float
        Values to label.
    log : bool
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool

    def __call__(self, value: float) -> float:
        """Return the place of a value; what lies beyond an end is drawn at it."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def logarithmic(values: Iterable[float], start: float, end: float) -> Scale:
    """Return a scale for positive values that lie far apart, with as many round ticks as fit beside each other."""
    values = list(values)
    low, high = min(values) / 1.08, max(values) * 1.08
    scale = Scale(low, high, start, end, (), log=True)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    powers = [10.0**e for e in decades if low <= 10.0**e <= high]
    inside = powers[:: max(1, math.ceil(len(powers) / _MOST_TICKS))]
    for multiples in _MULTIPLES:
        finer = [t for e in decades for n in multiples if low <= (t := n * 10.0**e) <= high]
        if len(finer) <= _MOST_TICKS and _apart(scale, finer):
            inside = finer
    if len(inside) < _FEWEST_TICKS:  # less than a decade: even steps are rounder
        even = linear(high, start, end, low=low).ticks
        inside = next((few for n in (1, 2, 3) if _apart(scale, few := list(even[::n]))), inside)
    return replace(scale, ticks=tuple(inside))


def _apart(scale: Scale, ticks: Sequence[float]) -> bool:
    """Return whether there is room for a label at each tick."""
    return all(scale(after) - scale(before) >= _LABEL for before, after in pairwise(ticks))


def linear(high: float, start: float, end: float, *, low: float = 0.0) -> Scale:
    """Return a scale that begins at `low`, with three to six round ticks."""
    high = max(high, low + 1e-9)
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = tuple(step * i for i in range(first, last + 1))
    return Scale(low, high, start, end, ticks, log=False)


def drawing(title: str, parts: Iterable[str], height: float = HEIGHT) -> str:
    """Return a drawing; `title` is what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Return a line of a class of the page's style."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def path(points: Sequence[tuple[float, float]], style: str, title: str = "", *, closed: bool = False) -> str:
    """Return a line through points, or the area that it encloses; `title` shows where the mouse rests on it."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{steps}{"Z" if closed else ""}" class="{style}"><title>{escape(title)}</title></path>'


def text(x: float, y: float, content: str, style: str = "", *, anchor: str = "start") -> str:
    """Return text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(content)}</text>'
