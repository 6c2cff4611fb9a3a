"""Calls that block, awaited. Each has a thread of its own, so that a slow load keeps no other call waiting."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread"]

Result = TypeVar("Result")


def in_thread(call: Callable[[], Result]) -> asyncio.Future[Result]:
    """Run a call in a daemon thread; cancelling the future leaves it alone.

    The end of the program does not wait for it, as it would for one of `asyncio.to_thread`: a runtime may hang.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(outcome: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(outcome)  # type: ignore[arg-type]

    def run() -> None:
        outcome, error = None, None
        try:
            outcome = call()
        except BaseException as raised:  # handed to who awaits it, whatever it is
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, outcome, error)

    threading.Thread(target=run, name="accelerate-serve", daemon=True).start()
    return future
