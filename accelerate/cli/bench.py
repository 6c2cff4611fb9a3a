"""``edge-accelerate bench``: every device that can run a model here, side by side; ``bench compare``: two reports."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..bench.gates import Gate, compare_reports, differences, judge, read_report, shares_of
from ..bench.junit import gate_cases, row_cases, write_junit
from ..bench.runner import Settings, run
from ..errors import OptionError
from ..inputs.folder import find_inputs
from .bench_tables import print_changes, print_report
from .cleaning import clean
from .parameters import POSITIVE, load_option, shape_option
from .progress import shown_progress

__all__ = ["bench"]

# a gate in a script stops at any status but 0; one that wants to run again or go on can tell this from a failure
_NOT_JUDGED = 3
_OWN_PLACE = {
    "source": "MODEL",
    "backend": "--backend",
    "device": "--device",
    "num_threads": "--threads",
    "shapes": "--shape",
}
_FILE = click.Path(path_type=Path)
#: So many pictures show a loss of accuracy of a few points, in a minute for most models.
_SAMPLES = 200


def _parse_callers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        callers = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        callers = ()
    if not callers or callers[0] < 1:
        raise click.BadParameter(f"{text!r}; wanted whole numbers from 1, such as 1,2,4")
    return callers


def _parse_gates(_: click.Context, __: click.Parameter, given: Sequence[str]) -> list[Gate]:
    try:
        return [Gate.parse(text) for text in given]
    except OptionError as error:
        raise click.BadParameter(str(error)) from error


class _Bench(click.Command):
    """``bench MODEL...``, and ``bench compare BEFORE AFTER``: a group could not have both."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == [compare.name]:
            return compare.make_context(f"{info_name} {compare.name}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    cls=_Bench,
    short_help="Compare the devices here on a model.",
    epilog="To compare two runs, saved with --json: edge-accelerate bench compare --help",
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--backend", "backends", metavar="NAME", multiple=True, help="Only this backend. Repeatable.")
@click.option("--device", "devices", metavar="ID", multiple=True, help="Only this device. Repeatable.")
@click.option(
    "--seconds",
    type=POSITIVE,
    default=Settings.seconds,
    show_default=True,
    help="Steady state to measure on each device.",
)
@click.option(
    "--rate",
    metavar="N",
    type=POSITIVE,
    help="Also call N times a second, and count latency from the time at which a call was due.",
)
@click.option(
    "--callers",
    metavar="N,...",
    default=",".join(map(str, Settings.callers)),
    callback=_parse_callers,
    show_default=True,
    help="Throughput with so many callers at once, each with a replica.",
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1, 1024),
    default=Settings.threads,
    show_default=True,
    help="CPU threads of the runtime, the same on each device.",
)
@click.option(
    "--inputs",
    "folder",
    metavar="FOLDER",
    type=_FILE,
    help="Also compare the answers to its pictures, .npy and .npz files; sub-folders or a .csv may say what they show.",
)
@click.option(
    "--samples",
    metavar="N",
    type=click.IntRange(1),
    default=_SAMPLES,
    show_default=True,
    help="Take at most so many files of the folder.",
)
@shape_option
@load_option(_OWN_PLACE)
@click.option("--seed", type=int, default=Settings.seed, show_default=True, help="Of the random inputs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, which `bench compare` reads.")
@click.option("--html", "page", metavar="FILE", type=_FILE, help="Also write a report that any browser shows.")
@click.option("--junit", metavar="FILE", type=_FILE, help="Also write a test result of each row, for CI servers.")
def bench(
    models: Sequence[str],
    backends: Sequence[str],
    devices: Sequence[str],
    folder: Path | None,
    samples: int,
    shapes: Any,
    options: dict[str, Any],
    as_json: bool,
    page: Path | None,
    junit: Path | None,
    **settings: Any,
) -> int:
    """Measure MODEL on every backend and device that can run it here, all of them in turn.

    MODELs that are one network in several formats (twins) share a table: latency and answers of each are set against
    those of the first one's own engine on the CPU. Other MODELs have a table each.
    Exits with 0 where every row is valid or its device is not here and no answers to --inputs differ, else with 1.
    """
    for file, option in ((page, "--html"), (junit, "--junit")):  # before the minutes of measuring
        if file is not None:
            _require_writable(file, option)
    inputs = None if folder is None else find_inputs(folder, samples)
    with shown_progress() as notify:
        options |= {"shapes": shapes} if shapes else {}
        report = run(
            models,
            Settings(**settings),
            backends=backends,
            devices=devices,
            options=options,
            inputs=inputs,
            notify=notify,
        )
    if as_json:
        click.echo(json.dumps(report, allow_nan=False))
    else:
        print_report(report)
    # last: a disk that is full by now takes no result away
    if junit is not None:
        write_junit(junit, "edge-accelerate bench", row_cases(report))
    if page is not None:
        from ..bench.page import write_page

        write_page(page, report)
        if not as_json:
            click.echo(clean(f"\nreport: {page}"))
    measured = [row for row in report["results"] if row["status"] != "missing"]
    fine = all(row["status"] == "ok" and row.get("on_inputs", {}).get("agrees", True) for row in measured)
    return 0 if measured and fine else 1


def _require_writable(file: Path, option: str) -> None:
    """Refuse a path that cannot be written to; a file that is there stays as it is."""
    try:
        if not file.parent.is_dir():
            raise OptionError(f"there is no folder {file.parent} for the report", f"make it, or give another {option}")
        if not file.exists():
            target = Path(os.path.realpath(file))  # of a link, what it leads to
            target.open("xb").close()
            target.unlink()
        elif file.is_file() or file.is_dir():  # to open a pipe would wait for its reader
            file.open("ab").close()
    except OSError as error:
        raise OptionError(f"the report {file} cannot be written: {error.strerror}", f"give another {option}") from error


@click.command("compare")
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option(
    "--fail-if",
    "gates",
    metavar="GATE",
    multiple=True,
    callback=_parse_gates,
    help="Such as 'p50>+5%', 'p50>+5%,+50us' or 'top1<-1%': "
    "exit with 1 where that is certain, with 3 where it cannot be told. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--junit", metavar="FILE", type=_FILE, help="Also write a test result of each gate and row.")
def compare(before: Path, after: Path, gates: Sequence[Gate], as_json: bool, junit: Path | None) -> int:
    """Compare two runs, which `bench MODEL --json` has written to BEFORE and AFTER.

    A change counts where it is more than chance (an interval of 99 %), and more than the 3 % that two runs of the same
    program may differ by. What ran before and does not now fails every gate; an INVALID run can be judged by none. Of
    answers (top1, top5, boxes, pixels) nothing is chance: both runs need the same --inputs.
    Exits with 1 where a gate failed, with 3 where none did and one could not be judged, else with 0.
    """
    old, new = read_report(before), read_report(after)
    changes = compare_reports(
        old, new, list(dict.fromkeys(("p50", *shares_of(old, new), *(one.metric for one in gates))))
    )
    outcome = judge(changes, gates)
    if junit is not None:
        write_junit(junit, "edge-accelerate bench compare", gate_cases(changes, gates))
    notes = list(differences(old, new))
    if as_json:
        click.echo(
            json.dumps({"changes": [asdict(one) for one in changes], "notes": notes, **asdict(outcome)}, indent=2)
        )
    else:
        print_changes(changes, notes, outcome)
    return 1 if outcome.failures else _NOT_JUDGED if outcome.not_judged else 0
