"""What the commands have in common on a terminal: plain tables, and text from files made harmless."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from .cleaning import clean_line

__all__ = ["print_fields", "print_heading", "print_line", "print_table"]

_NAME_WIDTH = 30
_NARROWEST = 8  # of a column that gives way
_UNFOLDED = 100_000


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    wrap: Sequence[str],
    *,
    names: Sequence[str] = (),
    tight: bool = False,
) -> None:
    """Print a table under bold headings; a `tight` one leaves less room between the columns.

    The columns whose headings are in `wrap` give way where the terminal is narrow, and where that is not enough those
    in `names`. The others keep their width, if need be beyond the terminal's: a shape or a number that is broken in two
    misleads.
    """
    cells = [list(map(clean_line, row)) for row in rows]
    gap = 1 if tight else 2
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, padding=(0, gap, 0, 0))
    console = _console()
    texts = [[*heading.split("\n"), *(row[i] for row in cells)] for i, heading in enumerate(columns)]
    room = console.width - (gap + 1) * (len(columns) - 1)
    widths = _widths(texts, [heading in wrap for heading in columns], [heading in names for heading in columns], room)
    for heading, width in zip(columns, widths, strict=True):
        table.add_column(heading, overflow="fold", no_wrap=heading not in (*wrap, *names), width=width)
    for row in cells:
        table.add_row(*row)
    _print(table, max(console.width, console.width + sum(widths) - room))


def _widths(
    texts: Sequence[Sequence[str]], gives_way: Sequence[bool], are_names: Sequence[bool], room: int
) -> list[int]:
    """Return the widths of columns; those that give way keep their longest words whole as far as there is room."""
    natural = [max(map(cell_len, column)) for column in texts]
    least = sum(_NARROWEST if gives else width for width, gives in zip(natural, gives_way, strict=True))
    for i in (i for i, is_name in enumerate(are_names) if is_name):
        lacking = max(0, min(least - room, natural[i] - _NARROWEST))
        natural[i] -= lacking
        least -= lacking
    room -= sum(width for width, gives in zip(natural, gives_way, strict=True) if not gives)
    room = max(room, _NARROWEST * sum(gives_way))
    giving = [i for i, gives in enumerate(gives_way) if gives]
    if sum(natural[i] for i in giving) <= room:
        return natural
    words = {i: max((cell_len(word) for text in texts[i] for word in text.split()), default=1) for i in giving}
    if sum(words.values()) > room:  # some words have to be broken
        words = {i: max(_NARROWEST, width * room // sum(words.values())) for i, width in words.items()}
    spare = max(0, room - sum(words.values()))
    wanted = {i: max(0, natural[i] - words[i]) for i in giving}
    for i in giving:
        natural[i] = words[i] + spare * wanted[i] // max(1, sum(wanted.values()))
    return natural


def print_fields(fields: Iterable[Sequence[str]]) -> None:
    """Print each name, in bold, with its value beside it: one line or several, folded where they are too long."""
    rows = [(clean_line(name), "\n".join(map(clean_line, lines))) for name, *lines in fields]
    grid = Table.grid(padding=(0, 2))
    width = min(max(_NAME_WIDTH, _console().width // 3), max((len(name) for name, _ in rows), default=0))
    grid.add_column(overflow="fold", style="bold", min_width=width, max_width=width)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    _print(grid)


def print_heading(text: str) -> None:
    """Print a heading after an empty line."""
    print()
    _console().print(clean_line(text), style="bold")


def print_line(text: str) -> None:
    """Print text, folded between words."""
    _print(clean_line(text))


def _print(content: Table | str, width: int | None = None) -> None:
    """Print without the blanks that fill each line up: they are in the way of copying, and of a narrower window."""
    console = _console(width)
    with console.capture() as capture:
        console.print(content)
    for line in capture.get().splitlines():
        print(line.rstrip())


def _console(width: int | None = None) -> Console:
    # a pipe has no width; COLUMNS says that its reader has one
    if width is None and not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        width = _UNFOLDED
    # text is printed as it is: brackets in a name are no markup
    return Console(markup=False, emoji=False, highlight=False, width=width)
