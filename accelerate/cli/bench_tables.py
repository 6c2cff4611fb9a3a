"""The report on a terminal that is 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..bench import report_text as say
from ..bench.gates import Change, Outcome
from ..bench.statistics import PERCENTILES
from .rendering import print_fields, print_heading, print_line, print_table

__all__ = ["print_changes", "print_report"]

_START = ("load\nms", "first\nms", "memory\nMB", *(f"{part}\nµs" for part in say.PARTS.values()))


def print_report(report: Mapping[str, Any]) -> None:
    """Print what was measured, what was not and why, and on what."""
    rows = report["results"]
    measured = [row for row in rows if "latency_us" in row]
    for group in dict.fromkeys(row["group"] for row in measured):
        _print_group([row for row in measured if row["group"] == group])
    if unmeasured := list(say.unmeasured(rows)):
        print_heading("Not measured")
        print_fields(unmeasured)
    if invalid := [row for row in measured if row["status"] == "INVALID"]:
        print_heading("INVALID: do not act on these figures")
        print_fields((say.name(row, rows), row["reason"]) for row in invalid)
        print_line(f"To get valid ones: {invalid[0]['remedy']}.")
    print_heading("What ran")
    print_fields(say.conditions(report))


def _print_group(rows: Sequence[say.Row]) -> None:
    print_heading(", ".join(dict.fromkeys(row["model"] for row in rows)))
    names = [say.name(row, rows) for row in rows]
    unit = "µs" if min(row["latency_us"]["p50"] for row in rows) < 1000 else "ms"
    columns = ("latency of a call", *(f"{metric}\n{unit}" for metric in PERCENTILES), "vs\nCPU", "answers")
    latencies = [(_marked(called, row), *_latency(row, unit)) for called, row in zip(names, rows, strict=True)]
    print_table(columns, latencies, wrap=[columns[0], "answers"], tight=True)
    for line in say.comparison(rows):
        print_line(line)
    print()
    columns = ("start, and its parts", *_START)
    print_table(
        columns,
        [(called, *_start(row)) for called, row in zip(names, rows, strict=True)],
        wrap=[columns[0]],
        tight=True,
    )
    for line in say.parts(rows):
        print_line(line)
    if any(row.get("throughput") for row in rows):
        _print_load(names, rows)


def _marked(called: str, row: say.Row) -> str:
    return f"{called} INVALID" if row["status"] == "INVALID" else called


def _latency(row: say.Row, unit: str) -> Iterable[str]:
    yield from (_in(row["latency_us"].get(metric), unit) for metric in PERCENTILES)
    yield say.ratio(row)
    yield say.agreement(row["agreement"])


def _start(row: say.Row) -> Iterable[str]:
    parts, memory = row.get("phases_us", {}), row.get("memory_mb")
    yield from (say.digits(row[figure]) for figure in ("load_ms", "first_ms"))
    yield say.NOTHING if memory is None else say.digits(memory)
    yield from (_in(parts.get(part), "µs") for part in say.PARTS)


def _print_load(names: Sequence[str], rows: Sequence[say.Row]) -> None:
    print()
    counts = [one["callers"] for one in rows[0]["throughput"]]
    columns = ["answers a second", *(say.callers(count).replace(" ", "\n") for count in counts)]
    wanted = next((row["rate"]["rate"] for row in rows if "rate" in row.get("rate", {})), None)
    if wanted is not None:
        columns += [f"p50 at\n{wanted:g}/s", f"p99 at\n{wanted:g}/s", "rate"]
    loads = [(called, *_load(row)) for called, row in zip(names, rows, strict=True)]
    print_table(columns, loads, wrap=[columns[0], "rate"], tight=True)


def _load(row: say.Row) -> Iterable[str]:
    for one in row["throughput"]:
        yield f"{one['per_second']:,.0f}" if "per_second" in one else "failed"
    if "rate" in row:
        rate = row["rate"]
        if "reason" in rate:
            yield from (say.NOTHING, say.NOTHING, rate["reason"])
            return
        yield from (say.duration(rate["latency_us"].get(metric)) for metric in ("p50", "p99"))
        yield "kept up" if rate["kept_up"] else f"{say.duration(1e3 * rate['behind_ms'])} behind"


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


def _in(microseconds: float | None, unit: str) -> str:
    if microseconds is None:
        return say.NOTHING
    return say.digits(microseconds / (1e3 if unit == "ms" else 1.0))
