"""Times several ways of doing one thing, side by side, on a machine that others use too.

On shared cores the clock rate and the neighbours change within seconds, so that two loops timed one after the other can
differ by half although they do the same. Here every round times a short block of each in turn (the order rotates),
and only blocks of one round are set against each other: what disturbs one disturbs them all, and the median over the
rounds passes over what did not. Ratios travel from machine to machine; times do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter
from typing import Any

import numpy as np

from accelerate.bench.statistics import compared_interval
from accelerate.bench.timing import without_collector

__all__ = ["Estimate", "Timings", "measure", "same_answer"]

_BLOCK = 0.002  # seconds: long against the clock's resolution, short against a neighbour's burst of work


@dataclass(frozen=True)
class Estimate:
    """A value and the interval in which 95 of 100 repetitions would find it."""

    value: float
    low: float
    high: float


class Timings:
    """Seconds per call of each way, one value a round.

    Parameters
    ----------
    seconds : mapping of str to sequence of float
        All of one length; the values at one place were taken in one round.
    """

    def __init__(self, seconds: Mapping[str, Sequence[float]]) -> None:
        self._seconds = {name: np.asarray(values, np.float64) for name, values in seconds.items()}

    def median(self, name: str) -> float:
        """Return the median of one way, in seconds per call."""
        return float(np.median(self._seconds[name]))

    def least(self, name: str) -> float:
        """Return the least of one way: what it takes while nobody disturbs it, which a limit in seconds asks for."""
        return float(np.min(self._seconds[name]))

    def ratio(self, name: str, base: str) -> Estimate:
        """Return how many times longer `name` takes than `base`: the ratio of their medians."""
        return self._estimate(name, base, np.divide)

    def difference(self, name: str, base: str) -> Estimate:
        """Return how much longer `name` takes than `base`, in seconds per call: the difference of their medians."""
        return self._estimate(name, base, np.subtract)

    def _estimate(self, name: str, base: str, operation: Callable[[Any, Any], Any]) -> Estimate:
        ours, theirs = self._seconds[name], self._seconds[base]
        low, high = compared_interval(operation, ours[:, None], theirs[:, None], 50.0, paired=True)
        return Estimate(float(operation(np.median(ours), np.median(theirs))), low, high)


def measure(
    ways: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    agree: Callable[[Any, Any], bool] | None = None,
) -> Timings:
    """Check that all ways give the same answer, then time them in turn.

    Parameters
    ----------
    ways : mapping of str to callable
        Each does the same work. What is timed includes the call itself, about 30 ns for a Python function.
    seconds : float
        How long to measure, all ways together.
    agree : callable, optional
        Compares two answers; default `same_answer`.

    Raises
    ------
    AssertionError
        Two ways answer differently: their times would mean nothing.
    """
    agree = agree or same_answer
    (first, reference), *others = ((name, call()) for name, call in ways.items())
    for name, answer in others:
        if not agree(reference, answer):
            raise AssertionError(f"{first!r} and {name!r} give different answers")
    del reference, others  # an answer may hold the runtime that gave it
    calls = {name: _calls_for_a_block(call) for name, call in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    with without_collector():
        end = perf_counter() + seconds
        while perf_counter() < end or len(times[order[0]]) < len(order):
            for name in order:
                times[name].append(_block(ways[name], calls[name]))
            order.append(order.pop(0))
    return Timings(times)


def same_answer(one: Any, other: Any) -> bool:
    """Return whether two answers hold the same arrays, be they an array, a sequence or the values of a mapping."""
    arrays, others = _arrays(one), _arrays(other)
    return len(arrays) == len(others) and all(map(np.array_equal, arrays, others))


def _arrays(answer: Any) -> list[Any]:
    if isinstance(answer, Mapping):
        return list(answer.values())
    return list(answer) if isinstance(answer, (list, tuple)) else [answer]


def _calls_for_a_block(call: Callable[[], object]) -> int:
    """Warm up, and return how many calls fill a block."""
    calls = 1
    while (taken := _block(call, calls) * calls) < _BLOCK:
        calls = max(2 * calls, int(calls * _BLOCK / max(taken, 1e-6)))
    return calls


def _block(call: Callable[[], object], calls: int) -> float:
    start = perf_counter()
    for _ in repeat(None, calls):
        call()
    return (perf_counter() - start) / calls
