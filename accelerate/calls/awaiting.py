"""Awaits a call that blocks. `asyncio` is imported by those who use it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .deadlines import Worker, deadline, left

if TYPE_CHECKING:
    import asyncio

__all__ = ["Background"]


class _AwaitedJob:
    """A call whose outcome goes to a future of an event loop."""

    def __init__(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self._call = call
        self._loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def run(self) -> None:
        if self.future.cancelled():  # nobody waits for it any more
            return
        try:
            settle, outcome = self.future.set_result, self._call()
        except BaseException as error:  # handed to the awaiting task, whatever it is
            settle, outcome = self.future.set_exception, error

        def hand_over() -> None:
            if not self.future.done():
                settle(outcome)

        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(hand_over)


class Background:
    """The threads of one model's awaited calls."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    async def infer(
        self, infer: Callable[..., Any], threads: int, inputs: Any, timeout: float | None, dequantize: bool | None
    ) -> dict[str, Any]:
        """Make a blocking call of a Model's `infer` and await its outcome; the timeout counts from now.

        Cancelling the task leaves a call that runs alone.
        """
        import asyncio

        until = deadline(timeout)
        if self._worker is None or not self._worker.usable:
            self._worker = Worker(threads)
        job = _AwaitedJob(lambda: infer(inputs, timeout=left(until), dequantize=dequantize), asyncio.get_running_loop())
        self._worker.submit(job)
        outputs: dict[str, Any] = await job.future
        return outputs

    def close(self) -> None:
        """Let the threads end once they are idle."""
        self._worker = None
