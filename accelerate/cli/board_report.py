"""``edge-accelerate board-report``: tries all of a board, and makes one file of it to send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ..boards.archive import Archive
from ..boards.examination import Examination
from ..boards.masking import Mask, find_private
from ..errors import AccelerateError, OptionError
from .cleaning import clean, clean_line
from .parameters import POSITIVE
from .progress import shown_progress

__all__ = ["board_report"]

_CONTENT = """\
What goes into the file:
  - the board, its processor, heat, limits and permissions; the versions of the system, of Python and of the runtimes
  - what `edge-accelerate doctor` says, known answers, the conformance suite and the bench of each device, on the
    project's own models
  - of each --model: its file's name, its tensors' names and labels, and how it did; the model itself does not
What does not: host and user names, serial numbers and network addresses (masked), values of environment variables,
your files. It is a zip of texts: look into it before you send it.
"""


@click.command("board-report", short_help="Try all of this board; one file to send.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the report goes; by default board-report-DATE-TIME.zip in this folder.",
)
@click.option(
    "--model",
    "models",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Try this model, too, such as one compiled for an accelerator that takes no others. Repeatable.",
)
@click.option(
    "--seconds", type=POSITIVE, default=2.0, show_default=True, help="Steady state to measure of each row of the bench."
)
def board_report(output: Path | None, models: Sequence[str], seconds: float) -> int:
    """Try every device of this board in child processes, and write what came of it into one file to send.

    It takes some minutes. A device that crashes or hangs is a line of the report; Ctrl-C leaves what was found so far.
    Exits with 0 where nothing failed, else with 1.
    """
    if find_spec("pytest") is None:
        raise OptionError("the conformance suite needs pytest", 'pip install "edge-accelerate[cli,testing,bench]"')
    path = (output or Path(f"board-report-{datetime.now():%Y%m%d-%H%M%S}.zip")).absolute()
    if path.is_dir():
        raise OptionError(f"{path} is a folder", "give a file as --output")
    click.echo(_CONTENT)
    saved = _Saved(Archive(path, Mask(find_private(models=models))))
    with shown_progress() as notify:
        examination = Examination(models, seconds, notify, _show, saved.save)
        examination.save()  # a place that cannot be written to is known before the minutes of trying
        saved.fail()
        try:
            examination.all()
        except KeyboardInterrupt:
            examination.save()
            click.echo(f"interrupted: {_said(path, saved)}")
            raise
    saved.fail()
    click.echo(f"\nreport: {clean(str(path))}")
    return 0 if examination.fine else 1


def _said(path: Path, saved: _Saved) -> str:
    return str(saved.error) if saved.error is not None else f"what was found so far is in {clean(str(path))}"


class _Saved:
    """Goes on where the file cannot be written: there may be space again at the end."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.error: AccelerateError | None = None

    def save(self, report: Mapping[str, Any], files: Mapping[str, str]) -> None:
        try:
            self._archive.write(report, files)
            self.error = None
        except AccelerateError as error:
            self.error = error

    def fail(self) -> None:
        """Raise why the file could not be written the last time."""
        if self.error is not None:
            raise self.error


def _show(what: str, where: str, result: str) -> None:
    click.echo(f"{what:<14} {clean_line(where):<28} {clean_line(result)}")
