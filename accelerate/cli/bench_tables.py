"""The report on a terminal that is 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..bench import report_text as say
from ..bench.gates import SHARES, Change, Outcome
from ..bench.report_inputs import remarks, tables
from .rendering import print_fields, print_heading, print_line, print_table
from .terms import as_options

__all__ = ["print_changes", "print_report"]


def print_report(report: Mapping[str, Any]) -> None:
    """Print what was measured, what was not and why, and on what."""
    measured = [row for row in report["results"] if "latency_us" in row]
    for group in dict.fromkeys(row["group"] for row in measured):
        rows = [row for row in measured if row["group"] == group]
        print_heading(", ".join(dict.fromkeys(row["model"] for row in rows)))
        for n, table in enumerate(tables(rows)):
            if n:
                print()
            columns = (table.title, *table.columns)
            print_table(columns, table.rows, wrap=[table.title, "answers", "rate"], tight=True)
            for note in table.notes:
                print_line(note)
    for heading, fields, last in remarks(report):
        print_heading(heading)
        print_fields(tuple(map(as_options, lines)) for lines in fields)
        if last:
            print_line(last)


def print_changes(changes: Sequence[Change], notes: Iterable[str], outcome: Outcome) -> None:
    """Print a comparison of two reports."""
    for model in dict.fromkeys(change.model for change in changes):
        print_heading(model)
        mine = [_changed(change) for change in changes if change.model == model]
        columns = ("device", "", "before", "after", "change", "99 % interval", "verdict")
        print_table(columns, mine, wrap=["device", "verdict"])
    if reasons := [(say.name(vars(c), map(vars, changes)), c.reason) for c in changes if c.reason]:
        print_heading("Reasons")
        print_fields(dict.fromkeys(reasons))
    for note in notes:
        print_line(f"note: {note}")
    for failure in outcome.failures:
        print_line(f"FAILED: {failure}")
    for doubt in outcome.not_judged:
        print_line(f"gate not judged: {doubt}")


def _changed(change: Change) -> Sequence[str]:
    if change.metric in SHARES:
        before, after = (say.NOTHING if one is None else f"{one:.1%}" for one in (change.before, change.after))
        points = say.NOTHING if change.points is None else f"{change.points:+.2g} points"
        return say.name(vars(change), []), change.metric, before, after, points, say.NOTHING, change.verdict
    between = (
        say.NOTHING
        if change.low is None or change.high is None
        else f"{100 * (change.low - 1):+.1f} .. {100 * (change.high - 1):+.1f} %"
    )
    return (
        say.name(vars(change), []),
        change.metric,
        say.duration(change.before),
        say.duration(change.after),
        say.NOTHING if change.ratio is None else f"{change.ratio - 1:+.1%}",
        between,
        change.verdict,
    )
