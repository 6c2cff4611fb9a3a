"""What a model's calls have taken, in the parts that Triton's statistics extension has."""

from __future__ import annotations

import threading
import time
from typing import Any

from ...formats.open_inference import messages

__all__ = ["Statistics"]

_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


class Statistics:
    """Counts calls and nanoseconds. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = [0] * len(_PARTS)
        self._calls = self._nanoseconds = 0
        self._failures = self._lost = 0
        self._last = 0

    def record(self, moments: list[int]) -> None:
        """Count an answered call by the moments (of `time.perf_counter_ns`) between its parts, in their order.

        Its inputs were read, it had waited for its turn, the model had run, the answer was made.
        """
        began, read, waited, ran, made = moments
        parts = (waited - read, read - began, ran - waited, made - ran)
        with self._lock:
            self._calls += 1
            self._nanoseconds += made - began
            for i, part in enumerate(parts):
                self._totals[i] += part
            self._last = time.time_ns()

    def record_failure(self, nanoseconds: int) -> None:
        """Count a call that was not answered."""
        with self._lock:
            self._failures += 1
            self._lost += nanoseconds

    def message(self, name: str) -> Any:
        """Return a ModelStatistics."""
        with self._lock:
            said = messages.ModelStatistics(
                name=name,
                version="1",
                last_inference=self._last // 1_000_000,
                inference_count=self._calls,
                execution_count=self._calls,
            )
            said.inference_stats.success.count, said.inference_stats.success.ns = self._calls, self._nanoseconds
            said.inference_stats.fail.count, said.inference_stats.fail.ns = self._failures, self._lost
            for part, total in zip(_PARTS, self._totals, strict=True):
                duration = getattr(said.inference_stats, part)
                duration.count, duration.ns = self._calls, total
        return said
