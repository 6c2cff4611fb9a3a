"""From single latencies to figures: percentiles that the number of calls supports, and intervals for their ratios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["PERCENTILES", "Rounds", "compared_interval", "disagreement", "interval", "summarize", "thin"]

#: Name -> rank in percent, and how many calls it takes: 10 calls beyond a percentile, or it is a matter of luck. p99
#: and p99.9 are given from 1 call beyond on, as is customary.
PERCENTILES = {"p50": (50.0, 1), "p90": (90.0, 10), "p95": (95.0, 20), "p99": (99.0, 100), "p99.9": (99.9, 1000)}

#: The latencies of one row, microseconds, one array a round.
Rounds: TypeAlias = "Sequence[npt.NDArray[np.float64]] | npt.NDArray[np.float64]"

_SEGMENTS, _RESAMPLES = 20, 1000
_KEPT_A_ROUND = 100


def summarize(microseconds: npt.NDArray[Any]) -> dict[str, Any]:
    """Return ``n``, the mean, the spread, the extremes and the percentiles that so many calls support."""
    values = np.asarray(microseconds, np.float64)
    lower, upper = np.percentile(values, (25, 75))
    figures: dict[str, Any] = {
        "n": len(values),
        "mean": float(values.mean()),
        "stddev": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "iqr": float(upper - lower),
        "min": float(values.min()),
        "max": float(values.max()),
    }
    for name, (rank, needed) in PERCENTILES.items():
        if len(values) >= needed:
            figures[name] = float(np.percentile(values, rank))
    return figures


def thin(microseconds: npt.NDArray[Any]) -> list[float]:
    """Return at most a hundred of a round's latencies, evenly spread over it: what the report keeps."""
    step = -(-len(microseconds) // _KEPT_A_ROUND)
    return [round(float(value), 2) for value in microseconds[::step]]


def disagreement(rounds: Rounds) -> float:
    """Return by how much the first half's median and the second half's differ, as a share of the smaller."""
    middle = max(1, len(rounds) // 2)
    halves = [np.concatenate(part) for part in (rounds[:middle], rounds[middle:]) if len(part)]
    medians = [float(np.median(half)) for half in halves]
    return max(medians) / min(medians) - 1


def interval(rounds: Rounds, rank: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval in which a percentile of such a run lies, by a bootstrap over segments of the run."""
    return _tails(_resample(rounds, rank, seed=0), confidence)


def compared_interval(
    operation: Callable[[Any, Any], Any],
    ours: Rounds,
    theirs: Rounds,
    rank: float,
    *,
    paired: bool = False,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the interval of the ratio (`numpy.divide`), or the difference (`subtract`), of two rows' percentiles.

    With `paired` the rounds were taken in turn in one run, so that what disturbed one disturbed the other: the same
    segments are drawn for both.
    """
    drawn = operation(_resample(ours, rank, seed=0), _resample(theirs, rank, seed=0 if paired else 1))
    return _tails(drawn, confidence)


def _tails(drawn: npt.NDArray[np.float64], confidence: float) -> tuple[float, float]:
    tail = 50 * (1 - confidence)
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return float(low), float(high)


def _resample(rounds: Rounds, rank: float, *, seed: int) -> npt.NDArray[np.float64]:
    """Return the percentile of many draws of whole segments of the run, with replacement.

    A clock that changes and a neighbour at work last for many rounds. Drawing single calls, or single rounds, would
    take them for independent and find an interval far too narrow.
    """
    bounds = np.linspace(0, len(rounds), min(_SEGMENTS, len(rounds)) + 1).astype(int)
    sizes = np.add.reduceat([len(one) for one in rounds], bounds[:-1])
    draws = np.random.default_rng(seed).integers(0, len(sizes), (_RESAMPLES, len(sizes)))
    # how often each draw has each segment: a value is never copied, for a run may have a million
    weights = np.stack([(draws == i).sum(axis=1) for i in range(len(sizes))])
    values = np.concatenate(rounds)
    order = np.argsort(values, kind="stable")
    owners = np.repeat(np.arange(len(sizes)), sizes)[order]
    places = [np.flatnonzero(owners == i) for i in range(len(sizes))]
    # between two neighbours, as numpy.percentile does
    place = (weights.T @ sizes - 1) * (rank / 100)
    below = np.floor(place).astype(int)
    low, high = (values[order[_find(weights, places, np.ceil(n).astype(int))]] for n in (below, place))
    drawn: npt.NDArray[np.float64] = low + (high - low) * (place - below)
    return drawn


def _find(weights: npt.NDArray[Any], places: Sequence[npt.NDArray[Any]], wanted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return for each draw where in the sorted values its value number `wanted` is, by bisection in all draws at once.

    `weights` says how often a draw has each segment, `places` where in the sorted values those of a segment are.
    """
    first, last = np.zeros_like(wanted), np.full_like(wanted, sum(map(len, places)) - 1)
    while (first < last).any():
        middle = (first + last) // 2
        seen = sum(count * np.searchsorted(own, middle, "right") for count, own in zip(weights, places, strict=True))
        enough = seen > wanted
        first, last = np.where(enough, first, middle + 1), np.where(enough, middle, last)
    return first
