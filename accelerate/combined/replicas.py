"""Replicas: one Model made of several, so that as many callers run side by side."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from ..calls.conversion import Array
from ..calls.deadlines import deadline, in_words, left
from ..calls.forks import keep_in_children
from ..errors import InferenceTimeoutError
from ..model import Model
from ..reports import RuntimeInfo
from ..runtime_model import RuntimeModel
from .wrapper import ModelWrapper, when_all_idle

__all__ = ["Replicas"]


class Replicas(ModelWrapper):
    """Each call checks out a replica that is free; one whose caller has left comes back when its call ends.

    Parameters
    ----------
    models : sequence of Model
        Equal models, at least one. They belong to this one from then on.

    Attributes
    ----------
    models : tuple of Model
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = tuple(models)
        self._free: queue.SimpleQueue[Model] = queue.SimpleQueue()
        for model in self.models:
            self._free.put(model)
        super().__init__(f"this {self.current.backend} model")
        keep_in_children(self)

    def forked(self) -> None:
        """In a forked child: those that were free are all that there are."""
        free: list[Model] = []
        with contextlib.suppress(queue.Empty):
            while True:
                free.append(self._free.get_nowait())
        for model in free:
            self._free.put(model)
        self.models = tuple(free) or self.models
        self._latency.forked()
        self.turn.forked(busy=not free)

    @property
    def current(self) -> Model:
        """The first replica, which is like the others."""
        return self.models[0]

    @property
    def runtime(self) -> RuntimeInfo:
        """What the first replica runs on; ``details`` has the devices of all, where they have several."""
        runtimes = [model.runtime for model in self.models]
        details = {**runtimes[0].details, "replicas": len(runtimes)}
        if len(devices := tuple(dict.fromkeys(one.device for one in runtimes))) > 1:
            details["devices"] = devices
        return replace(runtimes[0], details=details)

    @property
    def concurrency(self) -> int:
        """As many as there are replicas."""
        return len(self.models)

    def answer(self, input_tensors: Any, timeout: float | None, dequantize: bool | None) -> dict[str, Array]:
        """Let a free replica answer."""
        self.turn.check_open()
        until = deadline(timeout)
        first = self.models[0]
        if isinstance(first, RuntimeModel):  # as all are: what it converts fits each, and none is held meanwhile
            feeds = first.feeds_within(input_tensors, timeout, until)
            return first.answer(self._lend(lambda one, limit: one.run(feeds, limit), until), dequantize)
        outputs: dict[str, Array] = self._lend(
            lambda one, limit: one.infer(input_tensors, timeout=limit, dequantize=dequantize), until
        )
        return outputs

    def signature(self, name: str) -> Model:
        """Return that function of every replica."""
        self.turn.check_open()
        return Replicas([model.signature(name) for model in self.models])

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Wait for all replicas."""
        when_all_idle(self.models, callback)

    def do_command(self, command: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        """Warm every replica up; other commands go to the first."""
        if not isinstance(command, Mapping) or command.get("command") != "warmup":  # type: ignore[redundant-expr]
            return super().do_command(command, timeout=timeout)
        self.turn.check_open()
        until = deadline(timeout)
        reports = [model.do_command(command, timeout=left(until)) for model in self.models]
        return {"runs": reports[0]["runs"], "total_ms": sum(report["total_ms"] for report in reports)}

    def release(self) -> None:
        """Close the replicas, all of them whatever one raises."""
        with ExitStack() as stack:
            for model in self.models:
                stack.callback(model.close)

    def _lend(self, use: Callable[[Any, float | None], Any], until: float | None) -> Any:
        """Use a replica that is free. It comes back once it is idle, wherever Ctrl-C comes in between."""
        held: list[Model] = []
        ended = False
        try:
            self._check_out(held, left(until))
            outcome = use(held[0], left(until))
            ended = True
        finally:
            for replica in held:
                if ended:
                    self._free.put(replica)
                else:  # its caller may have left it at work
                    replica.when_idle(partial(self._free.put, replica))
        return outcome

    def _check_out(self, held: list[Model], timeout: float | None) -> None:
        try:
            held.append(self._free.get(timeout=timeout))
        except queue.Empty:
            self.turn.check_open()
            assert timeout is not None, "without one it waits"
            raise InferenceTimeoutError(
                f"no answer within {in_words(timeout)}: all {len(self.models)} replicas were busy all that time",
                "give a longer timeout, call it less often, or load it with more replicas",
            ) from None
