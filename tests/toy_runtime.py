"""The runtime of the toy backend: a few operators over NumPy, with the habits of real runtimes.

It keeps the memory of its results and uses it again at the next call, takes one call at a time, raises RuntimeError for
whatever it does not like, and can write into arrays that it is given.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Arrays = list[Any]
VERSION = "1.0"


def _slowly(arrays: Arrays, stop: threading.Event) -> Arrays:
    for _ in range(30):
        if stop.is_set():
            raise RuntimeError("stopped")
        time.sleep(0.01)
    return arrays


def _picky(arrays: Arrays, _: threading.Event) -> Arrays:
    if np.abs(arrays[0]).max() > 1:
        raise RuntimeError("a value is greater than 1")
    return arrays


_OPERATORS: Mapping[str, Callable[[Arrays, threading.Event], Arrays]] = {
    "double": lambda a, _: [a[0] + a[0]],
    "add": lambda a, _: [a[0] + a[1]],
    "subtract": lambda a, _: [a[0] - a[1]],
    "invert": lambda a, _: [~a[0]],
    "reverse": lambda a, _: [a[0][::-1]],
    "find": lambda a, _: [np.flatnonzero(a[0] > 0)],
    "scale": lambda a, _: [a[0] * (2 if a[1] is None else a[1])],
    "with double": lambda a, _: [a[0], a[0] + a[0]],
    "slowly": _slowly,
    "picky": _picky,
}


class Program:
    """A model of the toy runtime, ready to run."""

    def __init__(self, content: bytes, signature: str | None, threads: int) -> None:
        try:
            graph = json.loads(content[4:])
            chosen = graph["signatures"][signature or next(iter(graph["signatures"]))]
            self.inputs, self.outputs = chosen["inputs"], chosen["outputs"]
            self.operator = _OPERATORS[chosen["operator"]]
        except (LookupError, TypeError, ValueError) as error:
            raise RuntimeError(f"damaged program: {error}") from error
        self.threads = threads
        self._memory: dict[tuple[Any, ...], Arrays] = {}

    def run(self, arrays: Sequence[Any], stop: threading.Event, into: Arrays | None = None) -> Arrays:
        """Run on arrays; the results are in the program's own memory, which the next run uses again."""
        results = self.operator(list(arrays), stop)
        shapes = tuple(result.shape for result in results)
        memory = into or self._memory.setdefault(shapes, [np.empty_like(result) for result in results])
        for place, result in zip(memory, results, strict=True):
            place[...] = result
        return memory
