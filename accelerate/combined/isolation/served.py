"""What a child runs: a model or a Binding on tensors in shared memory, ended early at a deadline where it can be."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

import numpy as np

from ...calls.binding import Binding
from ...calls.conversion import Array, dtype_of
from ...errors import AccelerateError, InferenceError
from ...model import Model
from ...runtime_model import RuntimeModel
from .memory import Region
from .placing import Place, read_loose

__all__ = ["Served"]


class Served:
    """What a run is of: a model or a Binding, with the places of its tensors."""

    def __init__(self, model: Model, binding: Binding | None) -> None:
        told = model if isinstance(model, RuntimeModel) else model.metadata()
        self.inputs, self.outputs = told.inputs, told.outputs
        self.model = model
        self.binding = binding
        bound = None if binding is None else binding.inputs
        # by position; None for an optional input that is not bound
        self.bound = [None if bound is None else bound.get(t.name) for t in self.inputs]
        self.given: list[tuple[int, Array | None]] = []
        self.taken: list[tuple[int, Array]] = []
        # one that is optional and not bound is not sent either
        self.loose_inputs = [i for i, array in enumerate(self.bound) if binding is None or array is not None]
        self.loose_outputs = list(range(len(self.outputs)))
        self._names = [t.name for t in self.outputs]
        self._runs = _runner(model, [t.name for t in self.inputs], self._names)

    def place(self, region: Region, inputs: Sequence[Place], outputs: Sequence[Place]) -> None:
        """Give tensors their places in a region."""
        for position, start, shape in inputs:
            self.given.append((position, region.array(start, dtype_of(self.inputs[position]), shape)))
            self.loose_inputs.remove(position)
        for position, start, shape in outputs:
            self.taken.append((position, region.array(start, dtype_of(self.outputs[position]), shape)))
            self.loose_outputs.remove(position)

    def run(self, table: bytes, room: Region | None, seconds: float) -> list[tuple[int, Array]]:
        """Run once and return the outputs that have no place, or did not fit it."""
        feeds = self.given
        if self.loose_inputs:
            loose = [self.inputs[i] for i in self.loose_inputs]
            feeds = [*feeds, *zip(self.loose_inputs, read_loose(table, loose, room), strict=True)]
        if self.binding is None:
            given: list[Any] = [None] * len(self.inputs)
            for position, array in feeds:
                given[position] = array
            results = self._runs(given, seconds)
        else:
            for position, array in feeds:
                bound = self.bound[position]
                if bound is not None and array is not None:
                    np.copyto(bound, array)
            results = _run_binding(self.model, self.binding, self._names, seconds)
        left = [(position, results[position]) for position in self.loose_outputs]
        for position, view in self.taken:
            result = results[position]
            if result.shape == view.shape and result.dtype == view.dtype:
                np.copyto(view, result)
            else:
                left.append((position, result))
        return left


def _runner(model: Model, inputs: list[str], outputs: list[str]) -> Callable[[list[Any], float], list[Array]]:
    """Return what runs a model on feeds in the order of its inputs, and ends a call early where the runtime can."""
    if not isinstance(model, RuntimeModel) or type(model).adapter is not RuntimeModel.adapter:

        def infer(feeds: list[Any], _: float) -> list[Array]:
            given = {name: feed for name, feed in zip(inputs, feeds, strict=True) if feed is not None}
            answer = model.infer(given, dequantize=False)
            return [answer[name] for name in outputs]

        return infer

    def run(feeds: list[Any], seconds: float) -> list[Array]:
        if not seconds or not model.cancels:
            return _sound(model, model.run(feeds, None))
        call, cancel = model.cancellable(feeds)
        with _watch.over(cancel, seconds), _translated(model):
            return _sound(model, call())

    return run


def _sound(model: RuntimeModel, results: object) -> list[Array]:
    if isinstance(results, list) and len(results) == len(model.outputs):
        return results
    got = f"a list of {len(results)}" if isinstance(results, list) else f"a {type(results).__name__}"
    raise InferenceError(f"{model.backend} returned {got}, wanted a list of {len(model.outputs)} arrays")


def _run_binding(model: Model, binding: Binding, outputs: list[str], seconds: float) -> list[Array]:
    if not seconds or not model.cancels or not isinstance(model, RuntimeModel):
        binding.run()
    else:
        step, cancel = binding.cancellable()
        with _watch.over(cancel, seconds), _translated(model):
            step()
    found = binding.outputs
    return [found[name] for name in outputs]


class _Watch:
    """Asks calls to end early at their deadlines: their callers have left them then, and the next ones wait for them.

    One thread for all of them, which sleeps until the first deadline that it has seen and then looks for a later one:
    a call neither starts a thread nor wakes one. It never asks a call that has ended, nor the one after it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._cancel: Callable[[], None] | None = None
        self._until = self._looks = math.inf
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def over(self, cancel: Callable[[], None] | None, seconds: float) -> Iterator[None]:
        """Watch over a call; there is one at a time."""
        with self._changed:
            self._cancel, self._until = cancel, monotonic() + seconds
            if cancel is not None and self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="accelerate-watch", daemon=True)
                self._thread.start()
            elif self._until < self._looks:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._cancel = None

    def _watch(self) -> None:
        with self._changed:
            while True:
                if self._cancel is not None and monotonic() >= self._until:
                    with contextlib.suppress(Exception):  # a runtime's, which has nobody to tell
                        self._cancel()
                    self._cancel = None
                self._looks = math.inf if self._cancel is None else self._until
                left = self._looks - monotonic()
                self._changed.wait(None if left > threading.TIMEOUT_MAX else max(0.0, left))


_watch = _Watch()


@contextlib.contextmanager
def _translated(model: RuntimeModel) -> Iterator[None]:
    try:
        yield
    except AccelerateError:
        raise
    except Exception as error:
        raise model.translate(error) from error
