"""Replicas: one Model made of several, so that as many callers run side by side."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

from ..calls.conversion import Array
from ..calls.deadlines import in_words, left, seconds
from ..errors import InferenceTimeoutError
from ..model import Model
from ..reports import RuntimeInfo
from .wrapper import ModelWrapper

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
        if timeout is None:
            replica = self._check_out(None)
            try:
                return replica.infer(input_tensors, dequantize=dequantize)
            finally:
                self._free.put(replica)
        limit = seconds(timeout)
        until = monotonic() + limit
        replica = self._check_out(limit)
        try:
            outputs = replica.infer(input_tensors, timeout=left(until), dequantize=dequantize)
        except BaseException:
            replica.when_idle(partial(self._free.put, replica))
            raise
        self._free.put(replica)
        return outputs

    def do_command(self, command: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        """Warm every replica up; other commands go to the first."""
        if not isinstance(command, Mapping) or command.get("command") != "warmup":  # type: ignore[redundant-expr]
            return super().do_command(command, timeout=timeout)
        self.turn.check_open()
        until = None if timeout is None else monotonic() + seconds(timeout)
        reports = [model.do_command(command, timeout=left(until)) for model in self.models]
        return {"runs": reports[0]["runs"], "total_ms": sum(report["total_ms"] for report in reports)}

    def release(self) -> None:
        """Close the replicas."""
        for model in self.models:
            model.close()

    def _check_out(self, timeout: float | None) -> Model:
        self.turn.check_open()
        try:
            return self._free.get(timeout=timeout)
        except queue.Empty:
            self.turn.check_open()
            assert timeout is not None, "without one it waits"
            raise InferenceTimeoutError(
                f"no answer within {in_words(timeout)}: all {len(self.models)} replicas were busy all that time",
                "give a longer timeout, call it less often, or load it with more replicas",
            ) from None
