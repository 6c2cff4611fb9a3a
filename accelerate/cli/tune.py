"""``edge-accelerate tune``: what runs a model best on this machine, measured, and kept for ``auto``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from .. import measurements
from ..bench.report_text import NOTHING, duration
from ..inputs.folder import read_inputs
from ..measurements import Measurement, in_threads
from ..system.cache import folder
from ..tuning import Tuning, TuningResult, cells, is_dropped, measure
from .cleaning import clean_line
from .parameters import POSITIVE, load_option, shape_option
from .progress import shown_progress
from .rendering import print_fields, print_heading, print_line, print_table
from .terms import as_options

__all__ = ["tune"]

_OWN_PLACE = {"source": "MODEL", "backend": "--backend", "device": "--device", "shapes": "--shape"}


@click.command(short_help="Find what runs a model best here.")
@click.argument("models", metavar="MODEL [TWIN]...", nargs=-1)
@click.option("--backend", "backends", metavar="NAME", multiple=True, help="Only this backend. Repeatable.")
@click.option("--device", metavar="ID", help="Only this device, or this kind of device.")
@click.option(
    "--inputs",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Pictures, .npy or .npz files to run it on; by default random values.",
)
@shape_option
@click.option(
    "--seconds", type=POSITIVE, default=2.0, show_default=True, help="Steady state to measure of each candidate."
)
@load_option(_OWN_PLACE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--list", "list_them", is_flag=True, help="Show what is stored, of each MODEL or of all.")
@click.option("--forget", is_flag=True, help="Remove what is stored, of each MODEL or of all.")
def tune(
    models: Sequence[str],
    backends: Sequence[str],
    device: str | None,
    inputs: Path | None,
    shapes: Any,
    seconds: float,
    options: Mapping[str, Any],
    as_json: bool,
    list_them: bool,
    forget: bool,
) -> int:
    """Measure MODEL on all that can run it here, and store the fastest whose answers are right.

    From then on load(MODEL), with the backend left to "auto", goes by it. Every backend and device is a candidate, on a
    CPU with 1, 2, 4 and as many threads as there are CPUs; all take turns. Right is what the file's own engine answers
    on the CPU: the same class, or values within 5 % of the output's range. A TWIN is the same network in another
    format.
    """
    if list_them and forget:
        raise click.UsageError("--list and --forget are two commands")
    if list_them:
        return _list(models, as_json)
    if forget:
        return _forget(models, as_json)
    if not models:
        raise click.UsageError("Missing argument 'MODEL'.")
    arguments = {"backend": list(backends) or "auto", "device": device, "shapes": shapes, **options}
    with shown_progress() as notify:
        read = None if inputs is None else partial(read_inputs, inputs)
        found = measure(models, read, seconds, arguments, notify=notify)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, allow_nan=False))
    else:
        _print(found, seconds)
    return 0


def _print(found: Tuning, seconds: float) -> None:
    names = list(dict.fromkeys(one.source for one in found.results))
    for name in names:
        print_heading(name)
        rows = [_row(one, found) for one in found.results if one.source == name]
        columns = ("", "device", "threads", "p50", "p99", "ratio", "answers")
        print_table(columns, rows, wrap=["device", "answers"], tight=True)
    print_line(f"{seconds:g} s of each, all in turn, on {found.inputs}. What has a ratio of 2 takes twice as long.")
    print_line(
        f"Answers are compared with those of {found.reference}."
        if found.reference
        else "No CPU here runs the model, so there is nothing to compare the answers with."
    )
    if dropped := list(filter(is_dropped, found.results)):
        print_heading("Dropped")
        print_fields(dict.fromkeys((_place(one, names), one.reason, *_remedy(one)) for one in dropped))
    print_heading("Chosen")
    threads = f", {in_threads(found.chosen.num_threads)}" if found.chosen.num_threads else ""
    print_line(f"{_place(found.chosen, names)}{threads}: {found.chosen.reason}. The same without tune:")
    click.echo(clean_line(found.line))  # not folded, to be copied
    if found.stored:
        print_line(f"It is stored in {folder()}: load goes by it where the backend is left to auto.")
    if found.note:
        print_line(found.note)


def _row(one: TuningResult, found: Tuning) -> Sequence[str]:
    mark, *figures = cells(one, found)
    return mark, f"{one.backend} {one.device}", *figures, _answers(one)


def _answers(one: TuningResult) -> str:
    """Say in a few words how the answers compare with the reference's."""
    if one.agrees is None:
        return NOTHING
    if one.difference == 0:
        return "equal"
    apart = "differ" if one.difference is None else f"{100 * one.difference:.2g} % apart"
    return apart if one.top1 is None else f"top-1 {one.top1:.0%}, {apart}"


def _place(one: TuningResult, names: Sequence[str]) -> str:
    return f"{one.backend} {one.device}{f' {one.source}' if len(names) > 1 else ''}"


def _remedy(one: TuningResult) -> Sequence[str]:
    return (f"remedy: {as_options(one.remedy)}",) if one.remedy else ()


# What is stored


def _list(models: Sequence[str], as_json: bool) -> int:
    wanted = {os.path.abspath(model) for model in models}
    entries = [(one, reason) for one, reason in measurements.judged() if not wanted or one.path in wanted]
    if as_json:
        click.echo(json.dumps([{**asdict(one), "outdated": reason} for one, reason in entries], indent=2))
        return 0
    if not entries:
        print_line(f"nothing is stored{' for these models' if models else ''} in {folder()}")
        return 0
    for one, reason in entries:
        click.echo(clean_line(one.path))
        print_line(f"{_chosen(one)}, {duration(1e3 * one.p50_ms)}, on {one.date}: {_state(one, reason)}")
    return 0


def _chosen(one: Measurement) -> str:
    return f"{one.backend} {one.device}{f', {in_threads(one.num_threads)}' if one.num_threads else ''}"


def _state(one: Measurement, reason: str) -> str:
    return "; ".join(filter(None, (reason or "holds", f"for {one.arguments}" if one.arguments else "")))


def _forget(models: Sequence[str], as_json: bool) -> int:
    removed = sum(map(measurements.forget, models)) if models else measurements.forget()
    if as_json:
        click.echo(json.dumps({"removed": removed}))
    else:
        print_line(f"{removed} result{'' if removed == 1 else 's'} removed")
    return 0
