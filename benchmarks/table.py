"""The rows that benchmarks give, and the table that shows them."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import ai_edge_litert
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import accelerate

__all__ = ["Row", "machine", "missing", "show"]


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes
    ----------
    what : str
    measured : float or None
        None where it could not be measured; `note` says why.
    target : float or None
        The most it may be; None for a figure that stands there for comparison only.
    form : str
        How to write a figure, a format such as "{:.2f} ms".
    note : str
    """

    what: str
    measured: float | None
    target: float | None
    form: str
    note: str = ""

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return what the table shows."""
        target = "" if self.target is None else f"<= {self.form.format(self.target)}"
        if self.measured is None:
            return self.what, target, "-", "not measured", self.note
        verdict = "" if self.target is None else "met" if self.measured <= self.target else "MISSED"
        return self.what, target, self.form.format(self.measured), verdict, self.note


def missing(what: str, target: float | None, form: str, model: Path) -> Row:
    """Return the row of a benchmark whose model is not on this machine."""
    return Row(what, None, target, form, f"{model.name} is not in {model.parent} (EDGE_ACCELERATE_TEST_MODELS)")


def show(rows: Iterable[Row]) -> None:
    """Print the table, in Markdown, so that it can be pasted into a report as it is."""
    # stderr: the table is kept whole when it goes to a file
    progress = Console(stderr=True)
    table = Table("what", "target", "measured", "verdict", "note", box=box.MARKDOWN)
    for row in rows:
        progress.print(f"{row.what}: {' '.join(filter(None, row.cells()[2:4]))}", highlight=False)
        table.add_row(*row.cells())
    console = Console(width=None if sys.stdout.isatty() else 240)
    console.print(machine(), highlight=False, soft_wrap=True)
    console.print(table)


def machine() -> str:
    """Return what the figures were measured on."""
    return (
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, LiteRT {ai_edge_litert.__version__}, edge-accelerate {accelerate.__version__}"
    )
