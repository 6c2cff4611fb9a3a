"""What the terminal and the page say in the same words: names of rows, figures, and what ran on what.

Import it as ``say``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

#: One of a report's results.
Row = Mapping[str, Any]

#: What stands for a figure that there is none of, and for a device that is not known.
NOTHING = "-"
#: The keys of ``phases_us`` in the order in which they are shown, and their headings.
PARTS = {"copy_in": "copy in", "execute": "execute", "copy_out": "copy out", "convert": "(convert)"}
_DETAILS = ("num_threads", "engine", "transport")


def name(row: Row, among: Iterable[Row]) -> str:
    """Return what a row is called where it stands among others: with its model where they have several."""
    # blanks, so that a narrow table breaks it there
    place = row["backend"] if row["device"] == NOTHING else f"{row['backend']} {row['device']}"
    return place if len({other["model"] for other in among}) < 2 else f"{place} {row['model']}"


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


def callers(count: float) -> str:
    """Return how many callers there are."""
    return f"{count:g} caller{'' if count == 1 else 's'}"


def ratio(row: Row) -> str:
    """Return how a row's p50 compares with the reference's."""
    ratio = row.get("ratio")
    if ratio is None:
        return NOTHING
    return "reference" if is_reference(row) else f"{ratio['value']:.3g} x"


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


def parts(rows: Sequence[Row]) -> Iterator[str]:
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


def conditions(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
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
    marks = [one["throttled"] for one in conditions if one["throttled"]]
    if marks and marks[0] != marks[-1]:
        yield "it was throttled during the run"
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
