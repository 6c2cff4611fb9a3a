"""Replicas: one Model made of several, so that as many callers run side by side."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

from .binding import Binding
from .deadlines import in_words, seconds
from .errors import InferenceTimeoutError
from .metadata import Metadata
from .model import Command, Model
from .reports import LoadOptions, RuntimeInfo
from .tensors import Array

__all__ = ["ReplicatedModel"]


class ReplicatedModel(Model):
    """Each call checks out a replica that is free; one whose caller has left comes back when its call ends.

    Parameters
    ----------
    replicas : sequence of Model
        Equal models, at least one. They belong to this one from then on.
    options : LoadOptions
        Those that the replicas were loaded with.
    """

    def __init__(self, replicas: Sequence[Model], options: LoadOptions) -> None:
        self._replicas = tuple(replicas)
        self._free: queue.SimpleQueue[Model] = queue.SimpleQueue()
        for model in self._replicas:
            self._free.put(model)
        first = self._replicas[0]
        # the replicas' tensors are renamed already, and their metadata has the labels
        ours = replace(options, tensor_names={}, label_path=None)
        super().__init__(first.backend, first._inputs, first._outputs, first.runtime, ours)
        self._adapters = first._adapters  # a backend may have its own
        self._calls_at_once = len(self._replicas)

    @property
    def runtime(self) -> RuntimeInfo:
        """What the first replica runs on; ``details`` has the devices of all, where they have several."""
        runtimes = [replica.runtime for replica in self._replicas]
        details = {**runtimes[0].details, "replicas": len(runtimes)}
        if len(devices := tuple(dict.fromkeys(one.device for one in runtimes))) > 1:
            details["devices"] = devices
        return replace(runtimes[0], details=details)

    @runtime.setter
    def runtime(self, _: RuntimeInfo) -> None:
        """Leave it to the replicas: what they run on may change."""

    def metadata(self) -> Metadata:  # noqa: D102
        return self._replicas[0].metadata()

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:  # noqa: D102
        self._check_open()
        return self._replicas[0].bind(shapes)

    def _run(self, feeds: list[Array], timeout: float | None) -> list[Array]:
        if timeout is None:
            replica = self._check_out(None)
            try:
                self._check_open()
                return replica._run(feeds, None)
            finally:
                self._free.put(replica)
        deadline = monotonic() + seconds(timeout)
        replica = self._check_out(seconds(timeout))
        give_back = partial(self._free.put, replica)
        return replica._execute_within(feeds, max(0.0, deadline - monotonic()), give_back)

    def _check_out(self, timeout: float | None) -> Model:
        self._check_open()
        try:
            return self._free.get(timeout=timeout)
        except queue.Empty:
            self._check_open()
            assert timeout is not None, "without one it waits"
            raise InferenceTimeoutError(
                f"no answer within {in_words(timeout)}: all {len(self._replicas)} replicas were busy all that time; "
                "give a longer timeout, call it less often, or load it with more replicas"
            ) from None

    def _execute(self, feeds: list[Array]) -> list[Array]:
        return self._run(feeds, None)

    def _commands(self) -> Mapping[str, Command]:
        return self._replicas[0]._commands()

    def _warm(self, runs: object, until: float | None) -> dict[str, Any]:
        reports = [model._warm(runs, until) for model in self._replicas]
        return {"runs": runs, "total_ms": sum(report["total_ms"] for report in reports)}

    def _release(self) -> None:
        for model in self._replicas:
            model.close()
