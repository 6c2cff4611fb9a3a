"""Runs of an infer request whose caller may leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["cancellable"]


def cancellable(request: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a run, and what ends it before its next operator: ``infer`` ignores ``cancel``, this obeys.

    It costs a thread's switch, so it is for calls with a deadline alone.
    """
    left: list[bool] = []

    def run() -> None:
        if not left:
            request.start_async()
            if left:  # before there was something to cancel
                request.cancel()
            request.wait()

    def cancel() -> None:
        left.append(True)
        request.cancel()

    return run, cancel
