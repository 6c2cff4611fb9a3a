"""Lets models take turns, so that what disturbs the machine disturbs all of them alike: for `bench` and for `tune`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model import Model
from .timing import calls_within, is_steady, sample, without_collector

__all__ = ["Contestant", "Notify", "caught", "part_of", "take_turns", "warm_up"]

_ROUND = 0.05  # seconds a model has its turn: short against a neighbour's work, long against a switch of caches
_WINDOW_CALLS = 5

#: Called with what is going on and the share of it that is done.
Notify = Callable[[str, float], None]


def part_of(notify: Notify, begin: float, end: float) -> Notify:
    """Return what is told of a part of some work, which is that share of all of it."""
    return lambda what, done: notify(what, begin + (end - begin) * done)


@dataclass(kw_only=True, eq=False)
class Contestant:
    """A model that takes its turn among others.

    Attributes
    ----------
    model : Model or None
        Once it is loaded; None again when it has failed.
    feeds : dict
        Its inputs, in the model's own dtypes, by name.
    windows : list of float
        The median of each window of its warm-up, in nanoseconds.
    warmup_calls : int
    rounds : list of numpy.ndarray
        Latencies in microseconds, of one turn each.
    starts : list of float
        When each turn began, in seconds from the first one's begin.
    """

    model: Model | None = None
    feeds: dict[str, Any] = field(default_factory=dict)
    windows: list[float] = field(default_factory=list)
    warmup_calls: int = 0
    rounds: list[npt.NDArray[np.float64]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)

    @property
    def target(self) -> str:
        """What it is called."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """Close the model and keep why it failed. The others go on."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the model, if there is one."""
        model, self.model = self.model, None
        if model is not None:
            model.close()


@contextmanager
def caught(contestant: Contestant) -> Iterator[None]:
    """Let a model that fails be one that has failed, while the others go on."""
    try:
        yield
    except Exception as error:  # a backend, even a stranger's, may raise anything
        contestant.fail(error)


def warm_up(contestants: Sequence[Contestant], seconds: float, notify: Notify) -> None:
    """Run in turn until the last three windows of each agree, for so many seconds of each at most."""
    started, turn = perf_counter(), 0
    while waiting := [one for one in contestants if one.model is not None and not is_steady(one.windows)]:
        turn += 1
        if (perf_counter() - started) / len(contestants) > seconds:
            break
        with without_collector():
            for one in waiting:
                notify(f"warming up {one.target}", min(1.0, turn / 20))
                with caught(one):
                    taken = _block(one, one.windows)
                    one.windows.append(float(np.median(taken)))
                    one.warmup_calls += len(taken)


def take_turns(
    contestants: Sequence[Contestant],
    seconds: float,
    notify: Notify,
    between: Callable[[float], None] = lambda at: None,
) -> None:
    """Let each have its turn in each round, in an order that rotates, until each has run for so many seconds.

    Parameters
    ----------
    contestants : sequence of Contestant
        Warmed up.
    seconds : float
    notify : callable
    between : callable, optional
        Called before each round and after the last one, with the seconds since the beginning.
    """
    order = [one for one in contestants if one.model is not None]
    started = perf_counter()
    last = {id(one): one.windows[-1:] for one in order}
    spent = dict.fromkeys(last, 0.0)
    between(0.0)
    while order and min(spent[id(one)] for one in order) < seconds:
        with without_collector():
            for one in order:
                began = perf_counter()
                with caught(one):
                    taken = _block(one, last[id(one)])
                    last[id(one)] = [float(np.median(taken))]
                    one.rounds.append(taken / 1e3)
                    one.starts.append(began - started)
                spent[id(one)] += perf_counter() - began
        order = [one for one in (*order[1:], order[0]) if one.model is not None]
        between(perf_counter() - started)
        notify("measuring, all in turn", min(1.0, min((spent[id(one)] for one in order), default=0.0) / seconds))


def _block(one: Contestant, medians: Sequence[float]) -> Any:
    """Give a model its turn: as many calls as fill it, judged by its last one."""
    assert one.model is not None
    call = one.model.infer
    if not medians:
        return sample(call, one.feeds, _WINDOW_CALLS)
    call(one.feeds)  # the one before has left the caches full of its own
    return sample(call, one.feeds, calls_within(_ROUND, medians[-1]))
