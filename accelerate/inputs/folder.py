"""A folder of pictures and arrays: which files of it are taken, and what its sub-folders or a table say they show."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OptionError, TensorError
from ..metadata import Metadata, TensorInfo
from ..vision import VisionTask, task_for
from .files import is_picture, open_picture, picture_tensor, read_arrays
from .labels import find_table, listed, read_labels

__all__ = ["InputFile", "InputFolder", "find_inputs", "read_inputs"]

_log = logging.getLogger("accelerate")

#: What lies beside pictures in many folders, by the ends of the files' names.
_BESIDE = frozenset({".csv", ".json", ".md", ".py", ".rst", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".html", ".zip"})
#: `tune` needs to know whether answers agree, not how often: so many files show it.
_FEW = 100


@dataclass(frozen=True)
class InputFile:
    """A file to run a model on.

    Attributes
    ----------
    path : Path
    name : str
        Its path within the folder.
    label : str or None
        What it is said to show.
    """

    path: Path
    name: str
    label: str | None = None


@dataclass(frozen=True)
class InputFolder:
    """The files that are taken from a folder.

    Attributes
    ----------
    path : Path
    files : tuple of InputFile
        Sorted by their paths.
    found : int
        How many there are; where they are more than the files, these are evenly spread over them.
    labelled_by : str
        "sub-folders", the name of the table that says what the files show, or "".
    notes : tuple of str
        What a user should know of it.
    label_notes : tuple of str
        Of what it says the files show.
    refusal : OptionError or None
        Why that cannot be read. An error for who needs labels: the table beside a detector's pictures may be of boxes.
    """

    path: Path
    files: tuple[InputFile, ...]
    found: int
    labelled_by: str = ""
    notes: tuple[str, ...] = ()
    label_notes: tuple[str, ...] = ()
    refusal: OptionError | None = None


def find_inputs(folder: Path, most: int) -> InputFolder:
    """Look for files in a folder and its sub-folders; a path of a file stands for that one.

    Hidden files are left out, and what is usually notes or annotations (.txt, .json, .xml, ...). What a file shows, a
    table says (the only .csv file directly in the folder: a path and a label a line), else its first sub-folder's name.

    Raises
    ------
    OptionError
        There are none, or the folder cannot be read.
    """
    if folder.is_file():
        return InputFolder(folder.parent, (InputFile(folder, folder.name),), 1)
    names, notes = _names(folder)
    if not names:
        reason = "; ".join((f"there are no files in {folder} to run a model on", *notes))
        raise OptionError(reason, "give a folder of pictures, .npy or .npz files")
    step = max(1.0, len(names) / most)
    taken = [names[int(n * step)] for n in range(min(len(names), most))]
    if len(taken) < len(names):
        notes.append(f"{len(taken):,} of the {len(names):,} files in {folder} are taken, evenly spread by their names")
    told: dict[str, str] = {}
    by, label_notes, refusal = "", list[str](), None
    try:
        told, by, label_notes = _labels(folder, names)
    except OptionError as error:
        refusal = error
    files = tuple(InputFile(folder / name, name, told.get(name)) for name in taken)
    return InputFolder(folder, files, len(names), by, tuple(notes), tuple(label_notes), refusal)


def _labels(folder: Path, names: Sequence[str]) -> tuple[dict[str, str], str, list[str]]:
    """Return what the files are said to show, what says so, and what a user should know of it."""
    table = find_table(folder)
    if table is not None:
        told, notes = read_labels(table, names)
        return told, table.name, notes
    told = {name: name.partition("/")[0] for name in names if "/" in name}
    return told, "sub-folders" if told else "", []


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sorted paths of files within a folder, with slashes, and what a user should know of the others."""
    names, strange, closed = list[str](), list[str](), list[str]()
    seen, waiting = set[tuple[int, int]](), deque([""])
    while waiting:
        within = waiting.popleft()
        try:
            place = os.stat(folder / within)
            with os.scandir(folder / within) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if not within:
                reason = f"the inputs in {folder} cannot be read: {error.strerror}"
                raise OptionError(reason, "check the path") from error
            closed.append(f"{within} ({error.strerror})")
            continue
        if (place.st_dev, place.st_ino) in seen:  # a link that leads back
            continue
        seen.add((place.st_dev, place.st_ino))
        for entry in entries:
            path = f"{within}/{entry.name}" if within else entry.name
            if entry.name.startswith("."):
                continue
            if (kind := _kind(entry)) == "folder":
                waiting.append(path)
            elif os.path.splitext(path)[1].lower() not in _BESIDE:
                (names if kind == "file" else strange).append(path)
    notes = []
    if closed:
        notes.append(f"sub-folders that cannot be read are left out: {listed(closed)}")
    if strange:
        notes.append(f"what is no file (a pipe, a link that leads nowhere) is left out: {listed(strange)}")
    return sorted(names), notes


def _kind(entry: os.DirEntry[str]) -> str:
    with suppress(OSError):  # a link that leads to itself, or to where this user may not look
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    return ""


# Reading all of them


def read_inputs(folder: Path, metadata: Metadata) -> list[tuple[str, Any]]:
    """Read the files of a folder, or one file, as a model takes them; each with its path.

    Of a folder with more than a hundred a hundred are taken, evenly spread.

    Raises
    ------
    OptionError
        There is none, or one cannot be read.
    TensorError
        One does not fit the model.
    """
    found = find_inputs(folder, _FEW)
    for note in found.notes:
        _log.warning("%s", note)
    task = None
    with suppress(OptionError):  # nothing tells what the outputs say of a picture: it is stretched
        task = task_for(metadata)
    return [(str(one.path), _read(one.path, task, metadata.required_inputs)) for one in found.files]


def _read(path: Path, task: VisionTask[Any] | None, inputs: Sequence[TensorInfo]) -> Any:
    if not is_picture(path):
        return read_arrays(path, inputs)
    picture = open_picture(path)
    try:
        return picture_tensor(picture, path, inputs) if task is None else task.prepare(picture)[0]
    except TensorError as error:
        raise (error if str(path) in error.reason else error.about(str(path))) from error.__cause__
