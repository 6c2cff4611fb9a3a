"""The event loop of this backend: one for the process, on a daemon thread, from the first connection on.

The SDK's gRPC is asyncio's, and callers are threads. A forked child has neither the thread nor a right to what it
served: the loop's epoll is one with the parent's, so that a socket which the child took out of it would be deaf in the
parent. A child therefore never touches the parent's loop and connections, and never frees them; it starts its own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["keep", "own_loop", "submit"]

Result = TypeVar("Result")

_starting = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_ended = False
_kept: weakref.WeakSet[Any] = weakref.WeakSet()  # what a child must not free, and the end of the program closes
_PATIENCE = 2.0  # seconds for the last goodbyes


def own_loop() -> asyncio.AbstractEventLoop:
    """Return the loop, started where it was not."""
    global _loop, _thread
    with _starting:
        if _ended:
            raise RuntimeError("the program is ending")
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_run, args=(_loop,), name="accelerate-viam", daemon=True)
            _thread.start()
        return _loop


def submit(call: Callable[[], Coroutine[Any, Any, Result]], loop: asyncio.AbstractEventLoop) -> Future[Result]:
    """Run a coroutine function on a loop of another thread."""
    coroutine = call()
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:  # the loop is closed
        coroutine.close()
        raise


def keep(connection: Any) -> None:
    """Have a connection closed, by its coroutine `shut`, at the end of the process of its `pid`; children keep it."""
    _kept.add(connection)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _say_goodbye() -> None:
    for connection in tuple(_kept):
        await connection.shut()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _end() -> None:
    global _ended
    with _starting:
        _ended = True
    loop, thread = _loop, _thread
    if loop is None or thread is None or not loop.is_running():
        return
    with contextlib.suppress(Exception):  # nobody is left to be told
        submit(_say_goodbye, loop).result(_PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_PATIENCE)


def _in_child() -> None:
    global _starting, _loop, _thread, _kept
    own = [one for one in _kept if one.pid == os.getpid()]  # made since, for models that go on here
    inherited = [one for one in (_loop, _thread, *_kept) if one is not None and one not in own]
    if inherited:
        import ctypes

        for one in inherited:  # a list of ours would be emptied when the interpreter ends
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))
    _starting, _loop, _thread, _kept = threading.Lock(), None, None, weakref.WeakSet(own)


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
