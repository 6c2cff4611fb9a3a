"""The histogram behind the command "stats"."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerate.calls.latency import LatencyStatistics


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=300))
def test_percentiles_are_within_a_bucket_of_the_exact_ones(samples: list[int]) -> None:
    statistics = LatencyStatistics()
    for nanoseconds in samples:
        statistics.record(nanoseconds)
    summary = statistics.summary()
    assert summary["calls"] == len(samples)
    ordered = np.sort(np.array(samples, np.float64)) / 1e6
    exact = ordered[max(0, int(np.ceil(len(samples) / 2)) - 1)]
    assert summary["p50_ms"] == pytest.approx(exact, rel=1 / 30, abs=1e-6)
    assert summary["max_ms"] == pytest.approx(ordered[-1], rel=1 / 30, abs=2e-6)
    assert ("p99_ms" in summary) == (len(samples) >= 100)


def test_nothing_is_said_of_no_calls() -> None:
    assert LatencyStatistics().summary() == {"calls": 0, "errors": 0}


def test_no_call_is_lost_between_threads() -> None:
    statistics = LatencyStatistics()

    def record() -> None:
        for n in range(2000):
            statistics.record(n)
            statistics.record_error()

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summary = statistics.summary()
    assert (summary["calls"], summary["errors"]) == (16000, 8000)
