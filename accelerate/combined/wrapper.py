"""A Model that forwards the interface to other Models. What it does otherwise, a combined model overrides."""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

from ..calls.awaiting import Background
from ..calls.binding import Binding
from ..calls.conversion import Array
from ..calls.deadlines import Turn, seconds
from ..calls.latency import LatencyStatistics
from ..metadata import Metadata
from ..model import Model
from ..reports import RuntimeInfo

__all__ = ["ModelWrapper", "when_all_idle"]


class ModelWrapper(Model):
    """See the module. It keeps statistics of its own, and is closed for itself.

    Parameters
    ----------
    what : str
        For `ClosedError`: "this tflite_cpu model".
    """

    def __init__(self, what: str) -> None:
        self.turn = Turn(what, "load it again")
        self._latency = LatencyStatistics()
        self._background = Background()

    # What a combined model supplies

    @property
    @abc.abstractmethod
    def current(self) -> Model:
        """The model that tells what this one is."""

    @abc.abstractmethod
    def answer(self, input_tensors: Any, timeout: float | None, dequantize: bool | None) -> dict[str, Array]:
        """Run one of the models, as `infer` does."""

    @abc.abstractmethod
    def release(self) -> None:
        """Close the models. Called once."""

    # The public interface

    @property
    def backend(self) -> str:
        return self.current.backend

    @property
    def runtime(self) -> RuntimeInfo:
        return self.current.runtime

    @property
    def concurrency(self) -> int:
        return self.current.concurrency

    @property
    def cancels(self) -> bool:
        return self.current.cancels

    def infer(
        self, input_tensors: Any, *, timeout: float | None = None, dequantize: bool | None = None
    ) -> dict[str, Array]:
        started = perf_counter_ns()
        try:
            outputs = self.answer(input_tensors, timeout, dequantize)
        except Exception:
            self._latency.record_error()
            raise
        self._latency.record(perf_counter_ns() - started)
        return outputs

    async def infer_async(
        self, input_tensors: Any, *, timeout: float | None = None, dequantize: bool | None = None
    ) -> dict[str, Array]:
        self.turn.check_open()
        timeout = self.patience if timeout is None else timeout
        return await self._background.infer(self.infer, self.concurrency, input_tensors, timeout, dequantize)

    def metadata(self, *, timeout: float | None = None) -> Metadata:
        self.turn.check_open()
        return self.current.metadata(timeout=timeout)

    def signature(self, name: str) -> Model:
        self.turn.check_open()
        return self.current.signature(name)

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.turn.check_open()
        return self.current.bind(shapes)

    def do_command(self, command: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        self.turn.check_open()
        if timeout is not None:
            seconds(timeout)
        if isinstance(command, Mapping) and command.get("command") == "stats":  # type: ignore[redundant-expr]
            return self._latency.summary()
        return self.current.do_command(command, timeout=timeout)

    def when_idle(self, callback: Callable[[], None]) -> None:
        self.current.when_idle(callback)

    def phases(self) -> Mapping[str, tuple[int, float]] | None:
        return self.current.phases()

    def close(self) -> None:
        if self.turn.close():
            self._background.close()
            self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.current!r}>"


def when_all_idle(models: Sequence[Model], callback: Callable[[], None]) -> None:
    """Call something once, when every model has ended the calls that were left at their deadlines."""
    lock, busy = threading.Lock(), len(models)

    def ended() -> None:
        nonlocal busy
        with lock:  # several may end at the same time
            busy -= 1
            last = not busy
        if last:
            callback()

    for model in models:
        model.when_idle(ended)
    if not models:
        callback()
