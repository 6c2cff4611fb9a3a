"""What the terminal and the page say of answers to a user's own inputs, and of the way from a frame to the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from . import report_text as say
from .report_text import NOTHING, Row, Table, duration
from .statistics import PERCENTILES
from .verdicts import BOXES, CONFIDENT, FAR_OFF, MEAN, OFF, PIXELS

__all__ = ["DIFFERING", "DIFFERS", "remarks", "suspects", "tables", "told", "worst"]

#: What a table shows of a row whose answers are not the reference's.
DIFFERS = "DIFFERS"
#: The heading of what it shows of these rows.
DIFFERING = "DIFFERS: these answers are not the reference's"
_COLUMNS = {
    "classes": ("top-1\nagrees", "top-5\nagrees"),
    "boxes": ("boxes\nagree",),
    "mask": ("pixels\nagree",),
    "values": ("most\noff",),
}
_KEYS = {"classes": ("top1", "top5"), "boxes": ("boxes",), "mask": ("pixels",), "values": ("most_off",)}
_LISTED = 10  # files that were left out
_SHOWN = 3  # inputs of a row in words, and classes of an answer


def tables(rows: Sequence[Row], *, wide: bool = False) -> Iterator[Table]:
    """Yield all tables of rows that were measured, as `report_text.tables` does, with those of this module."""
    names = say.names_of(rows)
    latency, start, *others = say.tables(rows, wide=wide)
    yield from filter(None, (latency, _inputs_table(rows, names), start, _frames_table(rows, names), *others))


def remarks(report: Mapping[str, Any]) -> Iterator[tuple[str, Iterable[Sequence[str]], str]]:
    """Yield what `report_text.remarks` does, with what is to be said of the inputs."""
    if found := list(suspects(report["results"])):
        yield DIFFERING, found, ""
    if inputs := list(_about_inputs(report)):
        yield "Your inputs", inputs, ""
    yield from say.remarks(report)


def _inputs_table(rows: Sequence[Row], names: Sequence[str]) -> Table | None:
    """Return how the answers of rows to the user's inputs compare; None where there were no inputs."""
    found = [row.get("on_inputs") for row in rows]
    known = [one for one in found if one is not None]
    if not known:
        return None
    kind = known[0]["kind"]
    right = any("accuracy" in one for one in known)
    columns = [*_COLUMNS[kind], "off", *(("right\ntop-1", "right\ntop-5") if right else ()), "verdict"]
    cells = [[called, *_cells(one, row, kind, right)] for called, one, row in zip(names, found, rows, strict=True)]
    return Table("answers to your inputs", columns, cells, list(_about(kind, known)))


def _cells(found: Mapping[str, Any] | None, row: Row, kind: str, right: bool) -> Iterator[str]:
    if found is None:
        yield from (NOTHING for _ in range(len(_KEYS[kind]) + 2 + 2 * right))
        return
    yield from (_percent(found.get(key)) for key in _KEYS[kind])
    yield f"{found['off']} of {found['inputs']}" if "off" in found else NOTHING
    if right:
        yield from (_percent(found.get("accuracy", {}).get(key)) for key in ("top1", "top5"))
    yield _verdict(found, row)


def _percent(share: float | None) -> str:
    if share is None:
        return NOTHING
    return f"{100 * share:.3g} %" if share < 10 else "no number"


def _verdict(found: Mapping[str, Any], row: Row) -> str:
    if "agrees" not in found:
        return "no reference"
    if found["reference"] == say.reference_name(row):
        return "reference"
    return "agrees" if found["agrees"] else DIFFERS


def _about(kind: str, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    off = f"{OFF:.0%}"
    of_values = (
        f"A row {DIFFERS} with more than one such answer in fifty (of few inputs, with two), with one that is off by "
        f"more than {FAR_OFF:.0%}, or with {MEAN:.0%} on the mean."
    )
    yield from {
        "classes": (
            f"An answer is off where a score differs by {off} of the highest, or its first class does.",
            of_values,
        ),
        "boxes": (
            f"A box with a score from {CONFIDENT:g} on has a partner of its class that shares half of both; an answer "
            f"is off where {off} of the boxes have none.",
            f"A row {DIFFERS} where more than {BOXES:.0%} of all boxes have none.",
        ),
        "mask": (
            f"An answer is off where {off} of the pixels have another class.",
            f"A row {DIFFERS} with more than {PIXELS:.0%} of all pixels.",
        ),
        "values": (f"An answer is off where an output differs by {off} of its range (root mean square).", of_values),
    }[kind]
    if count := max((one["accuracy"]["inputs"] for one in found if "accuracy" in one), default=0):
        yield f"Right is what the labels of {count:,} inputs say."


def _frames_table(rows: Sequence[Row], names: Sequence[str]) -> Table | None:
    """Return what it takes from a frame to the answer; None where no row knows."""
    measured = [row.get("frames", {}) for row in rows]
    known = [one for one in measured if "latency_us" in one]
    if not known:
        return None
    columns = ["frame to\nanswer p50", "\np99", "infer\np50", "beside\nit"]
    cells = [[called, *_frame_cells(one)] for called, one in zip(names, measured, strict=True)]
    sizes = ", ".join(dict.fromkeys(size for one in known for size in one["sizes"]))
    notes = [
        f"Frames of {sizes} pixels in memory are resized, converted, run and decoded; infer runs in turn with them."
    ]
    if any("p99" not in one["latency_us"] for one in known):
        notes.append(f"A p99 takes {PERCENTILES['p99'][1]} frames, for which there was no time; give more --seconds.")
    reasons: dict[str, list[str]] = {}
    for row, one in zip(rows, measured, strict=True):
        if "reason" in one:
            reasons.setdefault(one["reason"], []).append(say.name(row, rows))
    notes += [f"{', '.join(whose)}: {reason}" for reason, whose in reasons.items()]
    return Table("from the frame", columns, cells, notes)


def _frame_cells(found: Mapping[str, Any]) -> Iterator[str]:
    if "latency_us" not in found:
        yield from (NOTHING for _ in range(4))
        return
    whole, alone = found["latency_us"], found["infer_us"]
    yield from (duration(whole["p50"]), duration(whole.get("p99")), duration(alone["p50"]))
    yield duration(max(0.0, whole["p50"] - alone["p50"]))


# Beside the tables


def _about_inputs(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Yield what is to be known of the inputs: a name, and lines."""
    inputs = report.get("inputs")
    if inputs is None:
        return
    labels = f"; labels by {inputs['labelled_by']}" if inputs["labelled_by"] else ""
    yield "inputs", f"{inputs['taken']:,} of {inputs['folder']}{labels}", *inputs["notes"]
    if left_out := inputs["left_out"]:
        told = [f"{one['name']}{' by ' * bool(one['row'])}{one['row']}: {one['reason']}" for one in left_out[:_LISTED]]
        more = [f"and {len(left_out) - _LISTED:,} more"] if len(left_out) > _LISTED else []
        yield "left out", *told, *more


def suspects(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """Yield the rows whose answers are not the reference's, and on which inputs the most."""
    for row in rows:
        found = row.get("on_inputs", {})
        if found.get("agrees", True):
            continue
        lines = [f"{found['off']} of {found['inputs']} answers are off those of {found['reference']}"]
        lines += [
            f"{one['name']}: {told(one['answer'])}; the reference: {told(one['reference'])}"
            for one in found["worst"][:_SHOWN]
        ]
        yield say.name(row, rows), *lines


def told(answer: Sequence[Mapping[str, Any]]) -> str:
    """Return the first of an answer's classes or boxes in words."""
    return ", ".join(f"{one['label']} {one['score']:.2f}" for one in answer[:_SHOWN]) or "nothing to name"


def worst(rows: Sequence[Row]) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """Yield the inputs on which rows differ the most from the reference, each with its row."""
    for row in rows:
        for one in row.get("on_inputs", {}).get("worst", ()):
            yield row, one
