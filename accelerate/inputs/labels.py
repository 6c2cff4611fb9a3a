"""What files are said to show: the table that says so, and which of a model's classes a label is."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ..errors import OptionError

__all__ = ["ClassNames", "find_table", "listed", "read_labels"]

_MOST_BYTES = 64 << 20  # of a table: a million lines
_FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "picture", "name")
_LABEL_COLUMNS = ("label", "class", "class_name", "category")
_NAMED = 3  # of many names so many are in a message


class ClassNames:
    """Finds classes by what people call them: capitals, blanks, hyphens and underlines make no difference.

    Nor does how Unicode composes a letter: a Mac's file names are decomposed, and labels seldom are.

    Of a label of several names, as ImageNet has them ("tench, Tinca tinca"), each will do that is no other's label.

    Parameters
    ----------
    labels : sequence of str
        The model's, by index; "" for a class without one.
    count : int
        How many classes there are, for labels that are indices.
    """

    def __init__(self, labels: Sequence[str], count: int) -> None:
        self._count = count
        self._places: dict[str, set[int]] = {}
        synonyms: dict[str, set[int]] = {}
        for index, label in enumerate(labels):
            if label:
                self._places.setdefault(_plain(label), set()).add(index)
                for name in label.split(","):
                    synonyms.setdefault(_plain(name), set()).add(index)
        self._places = synonyms | self._places

    def find(self, label: str) -> frozenset[int]:
        """Return the classes of that name, of which there may be two; of none, the one of that index; else none."""
        if found := self._places.get(_plain(label)):
            return frozenset(found)
        # the length first: of thousands of digits Python makes no number
        digits = label.lstrip("0") or "0"
        is_index = label.isascii() and label.isdigit() and len(digits) <= len(str(self._count))
        return frozenset((int(digits),)) if is_index and int(digits) < self._count else frozenset()


def _plain(label: str) -> str:
    return " ".join(_composed(_composed(label).casefold()).replace("_", " ").replace("-", " ").split())


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# The table


def find_table(folder: Path) -> Path | None:
    """Return the only .csv file of a folder that is not hidden, None where there is none.

    Raises
    ------
    OptionError
        There are several.
    """
    # macOS leaves a hidden ._labels.csv on sticks
    own = (path for path in folder.iterdir() if not path.name.startswith("."))
    tables = sorted(path for path in own if path.suffix.lower() == ".csv" and path.is_file())
    if len(tables) > 1:
        raise OptionError(
            f"there are {len(tables)} tables in {folder}: {listed([path.name for path in tables])}",
            "leave the one there that says what the files show",
        )
    return next(iter(tables), None)


def read_labels(table: Path, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return what a table says the files of its folder show, and what a user should know of it.

    Raises
    ------
    OptionError
        It cannot be read, is of another form, says two things of one file, or is of other files altogether.
    """
    rows = _rows(table)
    files = _Files(table.parent, names)
    file, label, first, notes = _columns(table, rows, files)
    told, gone = dict[str, str](), []
    for number, row in rows[first:]:
        if len(row) <= max(file, label) or not row[file].strip() or not row[label].strip():
            raise _malformed(table, number, row)
        name = files.find(row[file].strip())
        if told.setdefault(name, row[label].strip()) != row[label].strip():
            raise OptionError(
                f"{table}, line {number}: {name} is {row[label].strip()!r}, and {told[name]!r} before",
                "leave one label for each file",
            )
        if name not in files:
            gone.append(name)
    if told and len(gone) == len(told):
        raise OptionError(
            f"{table} names {len(told)} files, none of which is in {table.parent}: {listed(gone)}",
            "write their paths from that folder on",
        )
    if gone:
        notes.append(f"{table.name} names {len(gone)} files that are not there: {listed(gone)}")
    if without := [name for name in names if name not in told]:
        notes.append(f"{table.name} does not say what {len(without)} of the files show: {listed(without)}")
    return told, notes


def _rows(table: Path) -> list[tuple[int, list[str]]]:
    """Return the lines of a table that are not empty, with their numbers."""
    try:
        if table.stat().st_size > _MOST_BYTES:
            raise OptionError(f"{table} is larger than {_MOST_BYTES >> 20} MiB", "give a table of a path and a label")
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OptionError(f"the labels in {table} cannot be read: {error.strerror}", "check the path") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"{table} is no text in UTF-8", "save it as UTF-8") from error
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    try:
        reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise OptionError(f"{table} is no table: {error}", _FORM) from error


class _Files:
    """Finds files of a folder by their paths, whichever way these are written."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._known = {_composed(name): name for name in names} | {name: name for name in names}
        self._endings = {_ending(name) for name in names} - {""}

    def find(self, text: str) -> str:
        """Return a file's path within the folder, whether it is there or not."""
        path = _within(text, self._folder)
        return self._known.get(path) or self._known.get(_composed(path), path)

    def __contains__(self, path: str) -> bool:
        return path in self._known

    def is_alike(self, text: str) -> bool:
        """Return whether a text ends as some of the files do."""
        return _ending(text) in self._endings


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


_FORM = "wanted a path and a label a line, such as 'front/0001.jpg,stop sign'"


def _columns(table: Path, rows: Sequence[tuple[int, list[str]]], files: _Files) -> tuple[int, int, int, list[str]]:
    """Return which columns have the file and the label, the place of the first row of values, and what was assumed."""
    if not rows:
        raise OptionError(f"{table} is empty", _FORM)
    head = [cell.strip().lower() for cell in rows[0][1]]
    file, label = (
        next((place for wanted in known for place, cell in enumerate(head) if cell == wanted), None)
        for known in (_FILE_COLUMNS, _LABEL_COLUMNS)
    )
    is_head = not any(files.find(cell.strip()) in files for cell in rows[0][1])
    if is_head and file is not None and label is not None:
        return file, label, 1, []
    if len(head) != 2:
        raise _malformed(table, *rows[0])
    # one line that names no file, above others: a heading in words of its own
    is_head = is_head and not files.is_alike(head[0]) and len(rows) > 1 and files.find(rows[1][1][0].strip()) in files
    said = f"line 1 of {table.name} names no file and is taken for its heading: {','.join(rows[0][1])!r:.80}"
    return 0, 1, int(is_head), [said] if is_head else []


def _malformed(table: Path, number: int, row: Sequence[str]) -> OptionError:
    return OptionError(f"{table}, line {number} is {','.join(row)!r:.80}; {_FORM.removeprefix('wanted ')} is wanted")


def _within(text: str, folder: Path) -> str:
    """Return a path as the folder's files are named, whichever way it is written."""
    path = os.path.normpath(text.replace("\\", "/"))
    if os.path.isabs(path):
        path = os.path.relpath(path, folder.absolute())
    return path.replace(os.sep, "/")


def listed(names: Sequence[str]) -> str:
    """Return the first few of some names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name) if "," in name else name for name in names[:_NAMED]) + more
