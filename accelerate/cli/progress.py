"""A bar on the terminal for what takes seconds to minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..bench.turns import Notify
from .cleaning import clean_line

__all__ = ["shown_progress"]


@contextmanager
def shown_progress() -> Iterator[Notify]:
    """Show a bar on stderr, where there is a terminal."""
    columns = (BarColumn(20), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=1.0)
        # names of files are in it, which may hold what steers a terminal
        yield lambda what, done: bar.update(task, description=clean_line(what), completed=done)
