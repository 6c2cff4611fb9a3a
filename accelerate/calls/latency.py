"""Counts calls and their latency in a fixed amount of memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

__all__ = ["LatencyStatistics"]

_SUB_BITS = 5  # 32 buckets for each power of two: a percentile is off by 1/32 (3 %) at most
_BUCKETS = (64 - _SUB_BITS) << _SUB_BITS
PERCENTILES = (50.0, 90.0, 95.0, 99.0)
_PENDING = 1024  # sorting them in takes some 50 us, which one call in so many waits for


class LatencyStatistics:
    """A log-linear latency histogram (the layout that HdrHistogram made known), with a count of errors."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._pending: list[int] = []
        self._errors = 0
        self._lock = threading.Lock()

    def forked(self) -> None:
        """In a forked child: another thread will never let go of the lock."""
        self._lock = threading.Lock()

    def record(self, nanoseconds: int) -> None:
        """Count one successful call."""
        # appending needs no lock, and a bucket is found many times faster for a thousand at once
        pending = self._pending
        pending.append(nanoseconds)
        if len(pending) >= _PENDING:
            with self._lock:
                self._sort_in()

    def _sort_in(self) -> None:
        """Empty `_pending` into the buckets; other threads may go on appending."""
        taken = len(self._pending)
        values = np.array(self._pending[:taken], np.int64)
        del self._pending[:taken]
        shifts = np.maximum(np.frexp(values)[1] - (_SUB_BITS + 1), 0)  # frexp's exponent is the number of bits
        self._counts += np.bincount((shifts << _SUB_BITS) + (values >> shifts), minlength=_BUCKETS)

    def record_error(self) -> None:
        """Count one failed call."""
        with self._lock:
            self._errors += 1

    def summary(self) -> dict[str, Any]:
        """Return ``calls`` (answered or failed), ``errors``, and ``p50_ms`` ... of the answered ones.

        A percentile is absent until there are enough calls for it to differ from the maximum (100 for p99).
        """
        with self._lock:
            self._sort_in()
            counts, errors = self._counts.tolist(), self._errors
        answered = sum(counts)
        summary: dict[str, Any] = {"calls": answered + errors, "errors": errors}
        for percent in PERCENTILES:
            if answered and answered * (100 - percent) >= 100:
                summary[f"p{percent:g}_ms"] = _value_at(counts, answered * percent / 100) / 1e6
        if answered and "p50_ms" not in summary:
            summary["p50_ms"] = _value_at(counts, answered / 2) / 1e6
        if answered:
            summary["max_ms"] = _upper_end(max(i for i, n in enumerate(counts) if n)) / 1e6
        return summary


def _value_at(counts: list[int], rank: float) -> float:
    seen = 0
    for bucket, count in enumerate(counts):
        seen += count
        if count and seen >= rank:
            return (_lower_end(bucket) + _upper_end(bucket)) / 2
    return 0.0


def _lower_end(bucket: int) -> int:
    shift = (bucket >> _SUB_BITS) - 1
    return bucket if shift <= 0 else (bucket - (shift << _SUB_BITS)) << shift


def _upper_end(bucket: int) -> int:
    return _lower_end(bucket + 1)
