"""What a device does under load: several callers at once, and requests that come at a fixed rate."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter_ns, sleep
from typing import Any

import numpy as np

from ..model import Model
from .statistics import summarize

__all__ = ["at_rate", "throughput"]

# a sleeping thread wakes up to 0.1 ms late, which would count as the device's latency: the rest of the wait is a loop
_AWAKE_NS = 500_000


def throughput(load: Callable[..., Model], feeds: Any, callers: int, seconds: float) -> dict[str, Any]:
    """Let so many threads call as fast as they can, on as many replicas of the model.

    Returns
    -------
    dict
        ``callers``, ``per_second``: answers of all of them together, ``latency_us``: what each of them waited.
    """
    with load(replicas=callers) if callers > 1 else load() as model:
        start, stop = threading.Barrier(callers + 1), threading.Event()
        ends: list[list[int]] = [[] for _ in range(callers)]
        failures: list[Exception] = []

        def call(own: list[int]) -> None:
            infer, clock, stopped = model.infer, perf_counter_ns, stop.is_set
            start.wait()
            own.append(clock())
            try:
                while not stopped():
                    infer(feeds)
                    own.append(clock())
            except Exception as error:  # raised in the thread that asked
                failures.append(error)

        threads = [threading.Thread(target=call, args=(own,), daemon=True) for own in ends]
        for thread in threads:
            thread.start()
        start.wait()
        sleep(seconds / 3)  # the replicas' first calls
        began = perf_counter_ns()
        sleep(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        # up to the last answer: where a call takes long, the calls that ran at the bell count with all their time
        took = (max(own[-1] for own in ends if own) - began) / 1e9
    if failures:
        raise failures[0]
    latencies = np.concatenate([np.diff(own)[np.array(own[1:]) > began] for own in ends]) / 1e3
    return {"callers": callers, "per_second": len(latencies) / took, "latency_us": summarize(latencies)}


def at_rate(call: Callable[[Any], object], feeds: Any, rate: float, seconds: float) -> dict[str, Any]:
    """Call at scheduled times, `rate` a second, and count latency from the time at which a call was due.

    A caller that waits for one answer before it asks again leaves out just those requests that a slow answer would have
    kept waiting (Gil Tene's "coordinated omission"). Here they are made late, and their wait counts.

    Returns
    -------
    dict
        ``rate``: as wanted, ``per_second``: as answered, ``latency_us``: from the scheduled time, ``service_us``: of
        the calls alone, ``kept_up``: whether the last tenth was no later than a period behind its time, ``behind_ms``.
    """
    count = max(1, round(rate * seconds))
    period = 1e9 / rate
    latency, service = np.empty(count), np.empty(count)
    begin = perf_counter_ns() + 1_000_000
    starts_late = np.empty(count)
    for i in range(count):
        due = begin + round(i * period)
        _wait_until(due)
        started = perf_counter_ns()
        call(feeds)
        ended = perf_counter_ns()
        latency[i], service[i], starts_late[i] = ended - due, ended - started, started - due
    took = (perf_counter_ns() - begin) / 1e9
    behind = float(np.median(starts_late[-max(1, count // 10) :]))
    return {
        "rate": rate,
        "per_second": count / took,
        "latency_us": summarize(latency / 1e3),
        "service_us": summarize(service / 1e3),
        "kept_up": behind <= period,
        "behind_ms": behind / 1e6,
    }


def _wait_until(due: int) -> None:
    left = due - perf_counter_ns()
    if left > _AWAKE_NS:
        sleep((left - _AWAKE_NS) / 1e9)
    while perf_counter_ns() < due:
        pass
