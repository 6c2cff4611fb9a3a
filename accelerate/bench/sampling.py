"""Times single calls at a cost far below theirs, and finds out when a device has become steady."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Nanoseconds", "calls_within", "is_steady", "own_cost_us", "sample", "without_collector"]

Nanoseconds = npt.NDArray[np.int64]

_WINDOWS, _STEADY_WITHIN = 3, 0.05
_MOST_CALLS = 100_000  # in one block: what is kept of them until the block ends takes memory


def sample(call: Callable[[Any], object], argument: Any, calls: int) -> Nanoseconds:
    """Call so many times, one after the other, and return what each call took, in nanoseconds.

    The clock is read once a call: one call's end is the next one's start, so that everything but the loop itself is
    measured, and nothing twice.
    """
    clock = perf_counter_ns
    ends = [clock()]
    mark = ends.append
    for _ in repeat(None, calls):
        call(argument)
        mark(clock())
    taken: Nanoseconds = np.diff(np.array(ends, np.int64)).astype(np.int64, copy=False)
    return taken


def own_cost_us() -> float:
    """Return what `sample` adds to a call, in microseconds: the loop around a function that does nothing.

    That function's own call is in it, too, so that the true cost is lower.
    """

    def nothing(_: object) -> None:
        pass

    return float(np.median(sample(nothing, None, 20_000))) / 1e3


def calls_within(seconds: float, call_ns: float) -> int:
    """Return how many calls fit into a time, at least one."""
    return max(1, min(_MOST_CALLS, int(seconds * 1e9 / max(call_ns, 1.0))))


def is_steady(medians: Sequence[float]) -> bool:
    """Return whether the last three windows' medians lie within 5 % of each other."""
    last = medians[-_WINDOWS:]
    return len(last) == _WINDOWS and max(last) <= min(last) * (1 + _STEADY_WITHIN)


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep Python's garbage collector from running inside a measured call of whoever happens to have its turn."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
