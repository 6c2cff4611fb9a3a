"""Threads that call something until they are told to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["CallingThreads"]


class CallingThreads:
    """See the module; each makes its inputs by a generator of its own."""

    def __init__(self, threads: int) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(seed,)) for seed in range(threads)]

    def call_once(self, random: np.random.Generator) -> None:
        """Call, and note the outcome; lets no exception out."""
        raise NotImplementedError

    def _go_on(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        while not self._stop.is_set():
            self.call_once(random)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let them call meanwhile."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(60)
                assert not thread.is_alive()
