"""Runs what may crash a process or never return: items one after the other in a child, and the rest in the next child.

A child is ``python -m accelerate.boards.child TASK ARGUMENTS`` and writes JSON lines: ``{"begin": item}`` before it
tries an item, and ``{"item": item, ...}`` with what came of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ..system.children import signal_name, start_of_python

__all__ = ["Ended", "run", "try_items"]

_CHILDREN = 12  # a device that fails that often is left alone
_TOLD = 2000  # characters of what a child said last


@dataclass(frozen=True)
class Ended:
    """How a child ended: "" where well, and what it had written to stderr last."""

    reason: str
    said: str = ""


def try_items(
    task: str,
    arguments: Mapping[str, Any],
    silence: float,
    notify: Callable[[str], None],
    results: list[dict[str, Any]],
) -> None:
    """Let children try a task's items; one whose child dies or hangs is a result of status "crashed".

    Parameters
    ----------
    task : str
        A function of `accelerate.boards.child`.
    arguments : Mapping
        Of the task; what JSON can hold.
    silence : float
        Seconds after which an item counts as hanging.
    notify : callable
        Called with each item that is begun.
    results : list
        What came of each item is added to it at once: an interruption leaves what there is.
    """
    for _ in range(_CHILDREN):
        begun = ""

        def take(line: str) -> None:
            nonlocal begun
            with contextlib.suppress(ValueError):  # a native library's own words
                told = json.loads(line)
                if isinstance(told, dict) and "begin" in told:
                    begun = told["begin"]
                    notify(begun)
                elif isinstance(told, dict) and "item" in told:
                    results.append(told)
                    begun = ""

        given = json.dumps({**arguments, "skip": [one["item"] for one in results]})
        ended = run(["-m", "accelerate.boards.child", task, given], silence, take)
        if not ended.reason:
            break
        results.append({"item": begun or task, "status": "crashed", "reason": ended.reason, "said": ended.said})
        if not begun:  # before the first item or after the last: the next child would fare alike
            break
    else:
        results.append({"item": task, "status": "crashed", "reason": f"the rest is not tried: {_CHILDREN} crashes"})


def run(
    arguments: Sequence[str], silence: float, take: Callable[[str], None], ends_with: Sequence[int] = (0,)
) -> Ended:
    """Run this Python with arguments, and give each line of its stdout to `take`.

    It is killed where it writes nothing for `silence` seconds, and where the caller is interrupted.
    """
    start = start_of_python(*arguments)
    with _scratch() as said, subprocess.Popen(**start, stdout=subprocess.PIPE, stderr=said) as child:
        try:
            hung = _read(child, silence, take)
        finally:  # Ctrl-C, too
            if child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(1)
                child.kill()
        code = child.wait()
        said.seek(max(0, said.seek(0, 2) - _TOLD))
        last = said.read().decode("utf-8", "replace").strip()
    if hung:
        return Ended(f"nothing came for {silence:g} s", last)
    if code in ends_with:
        return Ended("", last)
    if code < 0:
        return Ended(f"the process was killed by {signal_name(-code)}", last)
    return Ended(f"the process ended with status {code}: {(last.splitlines() or ['no message'])[-1]}", last)


def _scratch() -> IO[bytes]:
    """Return a file for a child's words, in memory where the system can: the disk may be full."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("said"), "w+b")
    return tempfile.TemporaryFile()


def _read(child: subprocess.Popen[bytes], silence: float, take: Callable[[str], None]) -> bool:
    """Give `take` the lines; return whether the child fell silent, and has been killed for it."""
    assert child.stdout is not None
    buffer, heard = b"", time.monotonic()
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not ready.select(max(0.0, heard + silence - time.monotonic())):
                child.kill()
                return True
            chunk = os.read(child.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            heard = time.monotonic()
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                take(line.decode("utf-8", "replace"))
    if buffer:
        take(buffer.decode("utf-8", "replace"))
    return False
