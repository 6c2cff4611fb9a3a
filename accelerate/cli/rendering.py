"""What the commands have in common on a terminal: plain tables, and text from files made harmless."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["print_fields", "print_heading", "print_line", "print_table"]

_NAME_WIDTH = 30


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], wrap: Sequence[str]) -> None:
    """Print a table under bold headings.

    Parameters
    ----------
    columns : sequence of str
        The headings.
    rows : iterable of sequence of str
    wrap : sequence of str
        The headings of the columns that give way where the terminal is narrow. The others keep their width: a shape or
        a number that is broken in two misleads.
    """
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for heading in columns:
        table.add_column(heading, overflow="fold", no_wrap=heading not in wrap)
    for row in rows:
        table.add_row(*map(_clean, row))
    _print(table)


def print_fields(fields: Iterable[Sequence[str]]) -> None:
    """Print each name, in bold, with its value beside it: one line or several, folded where they are too long."""
    rows = [(_clean(name), "\n".join(map(_clean, lines))) for name, *lines in fields]
    grid = Table.grid(padding=(0, 2))
    width = min(_NAME_WIDTH, max((len(name) for name, _ in rows), default=0))
    grid.add_column(overflow="fold", style="bold", min_width=width, max_width=width)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    _print(grid)


def print_heading(text: str) -> None:
    """Print a heading after an empty line."""
    print()
    _console().print(text, style="bold")


def print_line(text: str) -> None:
    """Print text, folded between words."""
    _print(_clean(text))


def _print(content: Table | str) -> None:
    """Print without the blanks that fill each line up: they are in the way of copying, and of a narrower window."""
    console = _console()
    with console.capture() as capture:
        console.print(content)
    for line in capture.get().splitlines():
        print(line.rstrip())


def _console() -> Console:
    # text is printed as it is: brackets in a name are no markup
    return Console(markup=False, emoji=False, highlight=False)


def _clean(text: str) -> str:
    """Return text on one line in which nothing steers the terminal: names and labels come from untrusted files."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
