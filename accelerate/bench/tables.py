"""The report on a terminal that is 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..cli.rendering import print_fields, print_heading, print_line, print_table
from .comparing import Change
from .figures import PERCENTILES

__all__ = ["duration", "print_changes", "print_report", "say_agreement", "say_machine", "say_runtime", "say_servers"]

_NOTHING = "-"
_DETAILS = ("num_threads", "engine", "transport")
_START = ("load\nms", "first\nms", "memory\nMB", "convert\nus", "copy in\nus", "execute\nus", "copy out\nus")


def print_report(report: Mapping[str, Any]) -> None:
    """Print what was measured, what was not and why, and on what."""
    rows = report["results"]
    measured = [row for row in rows if "latency_us" in row]
    for group in dict.fromkeys(row["group"] for row in measured):
        mine = [row for row in measured if row["group"] == group]
        print_heading(", ".join(dict.fromkeys(row["model"] for row in mine)))
        unit = "us" if min(row["latency_us"]["p50"] for row in mine) < 1000 else "ms"
        columns = ("latency of a call", *(f"{name}\n{unit}" for name in PERCENTILES), "vs\nCPU", "answers")
        print_table(columns, [_latency(row, unit) for row in mine], wrap=[columns[0], "answers"])
        print()
        columns = ("start, and its parts", *_START)
        print_table(columns, [_start(row) for row in mine], wrap=[columns[0]])
        for line in say_servers(mine):
            print_line(line)
        if any(row.get("throughput") for row in mine):
            _print_load(mine)
    if unmeasured := [row for row in rows if "latency_us" not in row]:
        print_heading("Not measured")
        print_fields((_name(row), f"{row['status']}: {row['reason']}", *_remedy(row)) for row in unmeasured)
    if invalid := [row for row in measured if row["status"] == "INVALID"]:
        print_heading("INVALID: do not act on these figures")
        print_fields((_name(row), row["reason"]) for row in invalid)
        print_line(f"To get valid ones: {invalid[0]['remedy']}.")
    _print_conditions(report, measured)


def _latency(row: Mapping[str, Any], unit: str) -> Sequence[str]:
    figures, ratio = row["latency_us"], row.get("ratio")
    return (
        _name(row) + (" INVALID" if row["status"] == "INVALID" else ""),
        *(_in(figures.get(name), unit) for name in PERCENTILES),
        _NOTHING if ratio is None else f"{ratio['value']:.3g} x",
        say_agreement(row["agreement"]),
    )


def _start(row: Mapping[str, Any]) -> Sequence[str]:
    parts = row.get("phases_us", {})
    memory = row.get("memory_mb")
    return (
        _name(row),
        *(_in(1e3 * row[name], "ms") for name in ("load_ms", "first_ms")),
        _NOTHING if memory is None else _digits(memory),
        *(_in(parts.get(name), "us") for name in ("convert", "copy_in", "execute", "copy_out")),
    )


def say_servers(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Return where the time of a call went, a line for each row that ran on a server."""
    for row in rows:
        parts = row.get("phases_us", {})
        if "server" in parts:
            said = [f"{part.replace('_', ' ')} {duration(took)}" for part, took in parts["server"].items()]
            rest = duration(parts["network"])
            yield f"{_name(row)}, means: {', '.join(said)} on the server; {rest} network and client"


def _print_load(rows: Sequence[Mapping[str, Any]]) -> None:
    print()
    columns = ["answers a second", *(f"{one['callers']}\ncaller(s)" for one in rows[0]["throughput"])]
    wanted = next((row["rate"]["rate"] for row in rows if "rate" in row.get("rate", {})), None)
    if wanted is not None:
        columns += [f"p50 at\n{wanted:g}/s", f"p99 at\n{wanted:g}/s", "rate"]
    print_table(columns, [[_name(row), *_load(row)] for row in rows], wrap=[columns[0], "rate"])


def _load(row: Mapping[str, Any]) -> Iterable[str]:
    for one in row["throughput"]:
        yield f"{one['per_second']:,.0f}" if "per_second" in one else "failed"
    if "rate" in row:
        rate = row["rate"]
        if "reason" in rate:
            yield from (_NOTHING, _NOTHING, rate["reason"])
            return
        yield from (duration(rate["latency_us"].get(name)) for name in ("p50", "p99"))
        yield "kept up" if rate["kept_up"] else f"{duration(1e3 * rate['behind_ms'])} behind"


def _print_conditions(report: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> None:
    print_heading("What ran")
    fields: list[Sequence[str]] = [("machine", *say_machine(report))]
    fields += [(_name(row), say_runtime(row)) for row in measured]
    digests = {row["model"]: row["sha256"] for row in report["results"] if row["sha256"]}
    fields += [("SHA-256", f"{digest} {model}") for model, digest in digests.items()]
    settings = report["settings"]
    fields.append(("settings", f"{settings['seconds']:g} s a device, interleaved; seed {settings['seed']}"))
    fields.append(("own cost", f"{report['own_cost_us']:.2f} us in each measured call"))
    fields.append(("memory", "growth of this process's resident peak while it loads and is first called"))
    print_fields(fields)


def say_machine(report: Mapping[str, Any]) -> Sequence[str]:
    """Return the machine and its condition in lines."""
    machine, conditions = report["machine"], report["conditions"]
    temperatures = [one["temperature"] for one in conditions if one["temperature"] is not None]
    heat = f"{temperatures[0]:.0f} to {max(temperatures):.0f} degrees C" if temperatures else "temperature not readable"
    lines = [
        ", ".join(filter(None, (machine["board"], machine["cpu"], f"{machine['usable_cpus']} usable CPUs"))),
        f"{machine['platform']}, Python {machine['python']}, NumPy {machine['numpy']}, "
        f"edge-accelerate {machine['edge_accelerate']}",
        f"governor {machine['governor'] or 'not readable'}, {heat}",
    ]
    marks = [one["throttled"] for one in conditions if one["throttled"]]
    if marks and marks[0] != marks[-1]:
        lines.append("it was throttled during the run")
    if conditions:
        lines.append(f"load average {conditions[0]['load']:.1f} at the start; {machine['time']}")
    return lines


def say_runtime(row: Mapping[str, Any]) -> str:
    """Return what a row really ran on."""
    runtime = row["runtime"]
    parts = [f"{runtime['name']} {runtime['version']}"]
    if runtime["total"] is not None:
        parts.append(f"{runtime['delegated']} of {runtime['total']} operators on {runtime['device']}")
    details = runtime["details"]
    parts += [f"{key.replace('_', ' ')} {details[key]}" for key in _DETAILS if key in details]
    if "providers" in details:
        parts.append(", ".join(details["providers"]))
    parts += [f"{name} {kind}" for name, kind in row["inputs"].items()]
    return "; ".join(parts)


def say_agreement(agreement: Mapping[str, Any]) -> str:
    """Return how the answers compare with the reference's."""
    if "reason" in agreement:
        return str(agreement["reason"])
    largest = agreement["largest_difference"]
    if largest == 0:
        return "equal"
    text = "differ" if largest is None else f"within {largest:.2g}"
    return text if agreement["top1"] is None else f"top-1 {agreement['top1']:.0%}, {text}"


def print_changes(changes: Sequence[Change], notes: Iterable[str], failures: Sequence[str]) -> None:
    """Print a comparison of two reports."""
    for model in dict.fromkeys(change.model for change in changes):
        print_heading(model)
        mine = [_changed(change) for change in changes if change.model == model]
        columns = ("device", "", "before", "after", "change", "99 % interval", "verdict")
        print_table(columns, mine, wrap=["device", "verdict"])
    if reasons := [(f"{c.backend} {c.device}", c.reason) for c in changes if c.reason]:
        print_heading("Reasons")
        print_fields(reasons)
    for note in notes:
        print_line(f"note: {note}")
    for failure in failures:
        print_line(f"FAILED: {failure}")


def _changed(change: Change) -> Sequence[str]:
    between = (
        _NOTHING
        if change.low is None or change.high is None
        else f"{100 * (change.low - 1):+.1f} .. {100 * (change.high - 1):+.1f} %"
    )
    return (
        f"{change.backend} {change.device}",
        change.metric,
        duration(change.before),
        duration(change.after),
        _NOTHING if change.ratio is None else f"{change.ratio - 1:+.1%}",
        between,
        change.verdict,
    )


def duration(microseconds: float | None) -> str:
    """Return a time with three digits and its unit."""
    if microseconds is None:
        return _NOTHING
    for limit, scale, unit in ((999.5, 1.0, "us"), (999_500, 1e-3, "ms")):
        if microseconds < limit:
            return f"{_digits(microseconds * scale)} {unit}"
    return f"{_digits(microseconds / 1e6)} s"


def _in(microseconds: float | None, unit: str) -> str:
    if microseconds is None:
        return _NOTHING
    return _digits(microseconds / (1e3 if unit == "ms" else 1.0))


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['backend']} {row['device']}"  # a space, so that a narrow table breaks it there


def _remedy(row: Mapping[str, Any]) -> Iterable[str]:
    return [f"remedy: {row['remedy']}"] if row.get("remedy") else []
