"""Label files: the names of a model's classes, one a line or in one of the formats in which people keep them.

What a file means can depend on how many classes the model tells apart: whether a blank line is a class without a name,
whether the numbering begins at 0 or at 1. So reading one gives a `LabelFile`, and `LabelFile.labels` settles it when
the model is known.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence

from ..errors import ModelError, OptionError
from ..metadata import LabelFile
from .exporters import INDEX_LIMIT

__all__ = ["LABEL_LIMIT", "SIZE_LIMIT", "load_labels", "read_labels"]

# Ten times the largest label sets in use, and what keeps a hostile file below 64 MB of memory when it
# is packed into a model (there its size is bounded further).
LABEL_LIMIT = 500_000
SIZE_LIMIT = 16 << 20

_NUMBERED = re.compile(r"([0-9]{1,9})(?:\s*[:,]\s*|\s+|$)(.*)")


def read_labels(data: bytes, where: str) -> LabelFile:
    """Read the content of a label file, called `where` in errors; labels come without surrounding blanks.

    Raises
    ------
    ModelError
        If it is not UTF-8, of a format that is no label file's, or has more than 500,000 lines or 16 MiB.
    """
    if len(data) > SIZE_LIMIT:
        raise ModelError(f"{where}: a label file may have {SIZE_LIMIT >> 20} MiB, and this one has more")
    try:
        with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig") as stream:
            lines = _lines(stream, where)
    except UnicodeDecodeError:
        raise _not_utf8(data, where) from None
    from .label_formats import structured

    if (found := structured(data, lines, where)) is not None:
        names, from_one = found
        return _numbered(names, from_one=from_one)
    if sum(map(bool, lines)) == 1 and "," in (line := "".join(lines)):
        lines = [label.strip() for label in line.split(",", LABEL_LIMIT)]
        _check_count(lines, where)
    return _numbered_lines(lines) or _plain(lines)


def load_labels(path: str | os.PathLike[str]) -> LabelFile:
    """Read the label file that a user named.

    Raises
    ------
    OptionError
        If the file cannot be read, is not UTF-8, is empty, is too large, or is no label file.
    """
    try:
        where = f"label_path={os.fsdecode(path)!r}"
    except TypeError:
        raise OptionError(f"label_path is {path!r:.60}; wanted the path of a label file") from None
    try:
        with open(path, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"{where}: the label file cannot be read: {reason}", "check the path") from error
    try:
        found = read_labels(data, where)
    except ModelError as error:
        raise OptionError(error.reason, error.remedy) from error
    if not found.labels():
        raise OptionError(f"{where}: the label file has no labels", "write one a line, or leave label_path out")
    return found


def _numbered(names: Mapping[int, str], *, from_one: bool = False) -> LabelFile:
    """Return the readings of names by number; `from_one` says that such files call the first class 1."""
    written = tuple(names.get(number, "") for number in range(max(names) + 1))
    if min(names) < 1:
        return LabelFile((written,))
    return LabelFile((written[1:],) if from_one else (written, written[1:]))


def _numbered_lines(lines: Sequence[str]) -> LabelFile | None:
    """Read lines that begin with the class's number; None where one has none, or the numbers do not increase."""
    names: dict[int, str] = {}
    last = -1
    for line in filter(None, lines):
        match = _NUMBERED.fullmatch(line)
        if match is None or not last < (number := int(match[1])) <= INDEX_LIMIT:
            return None
        names[number], last = match[2], number
    if not any(names.values()):  # the labels are numbers
        return None
    found = _numbered(names)
    if min(names) > 1:  # "10 Euro", "20 Euro"
        return LabelFile((*found.readings, *_plain(lines).readings))
    return found


def _plain(lines: Sequence[str]) -> LabelFile:
    named = tuple(filter(None, lines))
    end = len(lines)
    while end and not lines[end - 1]:
        end -= 1
    placed = tuple(lines[:end])
    return LabelFile(tuple(dict.fromkeys((placed, named, tuple(lines) if named else ()))))


def _lines(stream: io.TextIOWrapper, where: str) -> list[str]:
    lines = []
    for line in stream:
        lines.append(line.strip())
        _check_count(lines, where)
    return lines


def _check_count(labels: Sequence[str], where: str) -> None:
    if len(labels) > LABEL_LIMIT:
        raise ModelError(f"{where}: it has more than {LABEL_LIMIT} entries; is it a label file?")


def _not_utf8(data: bytes, where: str) -> ModelError:
    if b"\0" in data[:1024] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 is a text
        return ModelError(f"{where}: it is binary, and begins with {data[:16]!r}", "give a text file of labels")
    # The wrapper decodes in pieces and counts from the start of its own; this counts from the file's.
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return ModelError(
            f"{where}: byte {error.start} (line {line}) is not UTF-8: 0x{data[error.start]:02x}",
            "save the label file as UTF-8",
        )
    raise AssertionError("what fails in pieces fails as a whole")
