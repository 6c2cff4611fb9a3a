"""What the terminal and the page say in the same words: names of rows, tables of figures, and what ran on what.

Import it as ``say``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .statistics import PERCENTILES

#: One of a report's results.
Row = Mapping[str, Any]

#: What stands for a figure that there is none of, and for a device that is not known.
NOTHING = "-"
#: What a table shows behind the name of a row that is no evidence, and the heading of the reasons.
INVALID, DOUBTFUL = " INVALID", "INVALID: do not act on these figures"
#: The keys of ``phases_us`` in the order in which they are shown, and their headings.
_PARTS = {"copy_in": "copy in", "execute": "execute", "copy_out": "copy out", "convert": "(convert)"}
_DETAILS = ("num_threads", "engine", "transport")


@dataclass(frozen=True)
class Table:
    """Some figures of each row."""

    title: str
    columns: list[str]  # a heading for each figure, in two lines where a narrow column wants them
    rows: list[list[str]]  # the row's name, and its figures
    notes: list[str]  # what is to be known of them, in sentences


def tables(rows: Sequence[Row], *, wide: bool = False) -> Iterator[Table]:
    """Yield all figures of rows that were measured; `wide` adds what 80 columns of text have no room for."""
    names = names_of(rows)
    random = not any("on_inputs" in row for row in rows)  # else a table of its own says more

    def table(title: str, columns: Iterable[str], figures: Iterable[Iterable[str]], notes: Iterable[str]) -> Table:
        cells = [[called, *own] for called, own in zip(names, figures, strict=True)]
        return Table(title, list(columns), cells, list(notes))

    unit, scale = ("µs", 1.0) if min(row["latency_us"]["p50"] for row in rows) < 1000 else ("ms", 1e-3)
    columns = [*(f"{metric}\n{unit}" for metric in PERCENTILES), *(["calls"] if wide else []), "vs\nCPU"]
    figures = ([*_latency(row, scale, wide), *([agreement(row["agreement"])] if random else [])] for row in rows)
    yield table("latency of a call", [*columns, *(["answers"] if random else [])], figures, comparison(rows))
    columns = ["load\nms", "first\nms", "memory\nMB", *(f"{part}\nµs" for part in _PARTS.values())]
    yield table("start, and its parts", columns, map(_start, rows), _about_parts(rows))
    if any(row.get("throughput") for row in rows):
        wanted = next((row["rate"]["rate"] for row in rows if "rate" in row.get("rate", {})), None)
        counts = [one["callers"] for one in rows[0]["throughput"]]
        columns = [f"{count:g}\ncaller{'' if count == 1 else 's'}" for count in counts]
        notes = ["Each caller has a replica of its own."]
        if wanted is not None:
            metrics = list(PERCENTILES) if wide else ["p50", "p99"]
            columns += [*(f"{metric} at\n{wanted:g}/s" for metric in metrics), "rate"]
            notes.append(f"At {wanted:g}/s latency counts from the time at which a call was due.")
            yield table("answers a second", columns, ([*_load(row), *_rate(row, metrics)] for row in rows), notes)
        else:
            yield table("answers a second", columns, map(_load, rows), notes)


def _latency(row: Row, scale: float, wide: bool) -> Iterator[str]:
    figures, ratio = row["latency_us"], row.get("ratio")
    yield from (_figure(figures.get(metric), scale) for metric in PERCENTILES)
    if wide:
        yield f"{figures['n']:,}"
    if ratio is None:
        yield NOTHING
    elif is_reference(row):
        yield "reference"
    else:
        yield f"{ratio['value']:.3g} x" + (f" ({ratio['low']:.3g} – {ratio['high']:.3g})" if wide else "")


def _start(row: Row) -> Iterator[str]:
    parts = row.get("phases_us", {})
    figures = (row["load_ms"], row["first_ms"], row.get("memory_mb"), *(parts.get(part) for part in _PARTS))
    yield from map(_figure, figures)


def _load(row: Row) -> Iterator[str]:
    yield from (f"{one['per_second']:,.0f}" if "per_second" in one else "failed" for one in row["throughput"])


def _rate(row: Row, metrics: Sequence[str]) -> Iterator[str]:
    rate = row["rate"]
    if "reason" in rate:
        yield from (*(NOTHING for _ in metrics), rate["reason"])
        return
    yield from (duration(rate["latency_us"].get(metric)) for metric in metrics)
    yield "kept up" if rate["kept_up"] else f"{duration(1e3 * rate['behind_ms'])} behind"


def _figure(value: float | None, scale: float = 1.0) -> str:
    return NOTHING if value is None else digits(value * scale)


def names_of(rows: Sequence[Row]) -> list[str]:
    """Return what the tables call rows: an INVALID one is marked."""
    return [name(row, rows) + (INVALID if row["status"] == "INVALID" else "") for row in rows]


def name(row: Row, among: Iterable[Row]) -> str:
    """Return what a row is called where it stands among others: with its model where they have several."""
    # blanks, so that a narrow table breaks it there
    target = row["backend"] if row["device"] == NOTHING else f"{row['backend']} {row['device']}"
    return target if len({other["model"] for other in among}) < 2 else f"{target} {row['model']}"


def reference_name(row: Row) -> str:
    """Return what the others' agreement calls the row that they are set against."""
    return f"{row['backend']}:{row['device']}, {row['model']}"


def is_reference(row: Row) -> bool:
    """Return whether a row's answers and latency are what its group is set against."""
    return bool(row.get("agreement", {}).get("reference") == reference_name(row))


def duration(microseconds: float | None) -> str:
    """Return a time with three digits and its unit."""
    if microseconds is None:
        return NOTHING
    for limit, scale, unit in ((999.5, 1.0, "µs"), (999_500, 1e-3, "ms")):
        if microseconds < limit:
            return f"{digits(microseconds * scale)} {unit}"
    return f"{digits(microseconds / 1e6)} s"


def digits(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def agreement(found: Mapping[str, Any]) -> str:
    """Return how the answers compare with the reference's."""
    if "reason" in found:
        return str(found["reason"])
    largest = found["largest_difference"]
    if largest == 0:
        return "equal"
    text = "differ" if largest is None else f"within {largest:.2g}"
    return text if found["top1"] is None else f"top-1 {found['top1']:.0%}, {text}"


def comparison(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what the rows are set against, and how many threads each has."""
    against = next((row["agreement"] for row in rows if "reference" in row.get("agreement", {})), None)
    if against is not None:
        why = "the CPU engine of its format" if against["own_engine"] else "a CPU: no own engine of the format is here"
        yield f"The reference is {against['reference']}, {why}."
    counts = {row["threads"] for row in rows} - {None}
    settled = [name(row, rows) for row in rows if row["threads"] is None]
    for count in counts:
        yield f"Each has {count} CPU thread{'' if count == 1 else 's'}{', but for those below' if settled else ''}."
    if settled:
        yield f"Threads that bench cannot set: {', '.join(settled)}."


def _about_parts(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what is to be known of the parts of a call, and a line for each row whose runtime measures some itself."""
    measured = [(row, row.get("phases_us", {})) for row in rows]
    if any(parts.get("convert") is not None for _, parts in measured):
        yield (
            "(convert) is no part of the measured calls: it makes a camera's uint8 pixels, or float32 values, the "
            "model's own values."
        )
    for row, parts in measured:
        if "inside" in parts:
            said = [f"{part.replace('_', ' ')} {duration(took)}" for part, took in parts["inside"].items()]
            yield f"{name(row, rows)}, means: {', '.join(said)} in the runtime; {duration(parts['outside'])} outside it"


def unmeasured(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """Yield name, reason and, where there is one, remedy of each row without figures."""
    for row in rows:
        if "latency_us" not in row:
            status = "not run" if row["status"] == "missing" else row["status"]
            remedy = [f"remedy: {row['remedy']}"] if row.get("remedy") else []
            yield (name(row, rows), f"{status}: {row['reason']}", *remedy)


def remarks(report: Mapping[str, Any]) -> Iterator[tuple[str, Iterable[Sequence[str]], str]]:
    """Yield what is to be said beside the figures: a heading, names with what is said of them, and a last line."""
    rows = report["results"]
    if others := list(unmeasured(rows)):
        yield "Not measured", others, ""
    if invalid := [row for row in rows if row["status"] == "INVALID"]:
        reasons = [(name(row, rows), row["reason"]) for row in invalid]
        yield DOUBTFUL, reasons, f"To get valid ones: {invalid[0]['remedy']}."
    yield "What ran", _conditions(report), ""


def _conditions(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Yield what a reader needs to judge the figures: a name, and what is to be said of it in lines."""
    rows, settings = report["results"], report["settings"]
    yield ("machine", *_say_machine(report))
    yield from ((name(row, rows), _say_runtime(row)) for row in rows if "latency_us" in row)
    for model, digest in {row["model"]: row["sha256"] for row in rows if row["sha256"]}.items():
        yield "SHA-256", f"{digest} {model}"
    yield "settings", f"{settings['seconds']:g} s of steady state on each device, all in turn; seed {settings['seed']}"
    yield "own cost", f"{report['own_cost_us']:.2f} µs in each measured call"
    yield "memory", "growth of the process's resident peak while the model loads and is first called"


def _say_machine(report: Mapping[str, Any]) -> Iterator[str]:
    machine, conditions = report["machine"], report["conditions"]
    yield ", ".join(filter(None, (machine["board"], machine["cpu"], f"{machine['usable_cpus']} usable CPUs")))
    yield (
        f"{machine['platform']}, Python {machine['python']}, NumPy {machine['numpy']}, "
        f"edge-accelerate {machine['edge_accelerate']}"
    )
    temperatures = [one["temperature"] for one in conditions if one["temperature"] is not None]
    heat = f"{temperatures[0]:.0f} to {max(temperatures):.0f} degrees C" if temperatures else "temperature not readable"
    yield f"governor {machine['governor'] or 'not readable'}, {heat}"
    marks = dict.fromkeys(one["throttled"] for one in conditions)
    if len(marks) > 1:
        yield f"it was slowed down during the run: {'; '.join(filter(None, marks))}"
    if conditions:
        yield f"load average {conditions[0]['load']:.1f} at the start; {machine['time']}"


def _say_runtime(row: Row) -> str:
    runtime = row["runtime"]
    parts = [f"{runtime['name']} {runtime['version']}"]
    if runtime["total"] is not None:
        parts.append(f"{runtime['delegated']} of {runtime['total']} operators on {runtime['device']}")
    details = runtime["details"]
    parts += [f"{key.replace('_', ' ')} {details[key]}" for key in _DETAILS if key in details]
    if "providers" in details:
        parts.append(", ".join(details["providers"]))
    parts += [f"{tensor} {kind}" for tensor, kind in row["inputs"].items()]
    return "; ".join(parts)
