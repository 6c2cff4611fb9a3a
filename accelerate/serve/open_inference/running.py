"""How a model is run for a request: until its answer is there, or its caller has left, be it at its deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Any

import grpc

from ...calls.conversion import Array
from ...calls.deadlines import guarded
from ...model import Model
from ...runtime_model import RuntimeModel
from .refusals import RefusalError

__all__ = ["Run", "runner"]

#: Runs a model on inputs by name, within so many seconds, for a caller whom a grpc.ServicerContext tells of.
Run = Callable[[Mapping[str, Array], "float | None", Any], Mapping[str, Array]]


def runner(model: Model) -> Run:
    """Return what runs a model.

    A runtime in this process is called in the request's own thread, and asked to end early when gRPC says that the
    caller has left: the thread in between that lets a caller of `infer` leave would cost as much as all else here, and
    a request's thread has nowhere to go. Other models keep deadlines by themselves, and nobody can tell them more.
    """
    if isinstance(model, RuntimeModel) and type(model).execute_within is RuntimeModel.execute_within:
        return partial(_run_here, model)
    return lambda feeds, timeout, _: model.infer(feeds, timeout=timeout, dequantize=False)


def _run_here(
    model: RuntimeModel, given: Mapping[str, Array], timeout: float | None, context: Any
) -> Mapping[str, Array]:
    feeds = model.feeds(given)
    execute, cancel = model.cancellable(feeds) if model.cancels else (None, None)
    if execute is None or cancel is None:
        return model.answer(model.run(feeds, None), False)
    ending = _Ending(cancel)
    if not context.add_callback(ending.ask):
        raise RefusalError(grpc.StatusCode.CANCELLED, "the caller has left")
    try:
        return model.answer(model.in_turn(guarded(execute, ending.ask), None), False)
    finally:
        ending.over()


class _Ending:
    """Asks a call to end while it runs, and never the one after it: gRPC calls back of those that ended well, too."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel: Callable[[], None] | None = cancel
        self._lock = Lock()

    def ask(self) -> None:
        with self._lock:
            if self._cancel is not None:
                self._cancel()

    def over(self) -> None:
        with self._lock:
            self._cancel = None
