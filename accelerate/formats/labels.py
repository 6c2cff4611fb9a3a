"""Label files: the names of a model's classes, one a line.

The rules are those that the label files of real models need: UTF-8, with or without a byte order
mark, any line ends, blank lines skipped, and a single line split at its commas. A class's label is the
one at its index; without labels, or beyond the last one, a class reads as its index.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import ModelError, OptionError

if TYPE_CHECKING:
    from ..metadata import TensorInfo

__all__ = ["check_label_count", "load_labels", "read_labels"]

_log = logging.getLogger("accelerate")

# Ten times the largest label sets in use, and what keeps a hostile file below 64 MB of memory when it
# is packed into a model (there its size is bounded further).
LABEL_LIMIT = 500_000
SIZE_LIMIT = 16 << 20


def read_labels(data: bytes, where: str) -> tuple[str, ...]:
    """Read the content of a label file, called `where` in errors, into labels without surrounding blanks.

    Raises
    ------
    ModelError
        If it is not UTF-8, or has more than 500,000 lines or 16 MiB.
    """
    if len(data) > SIZE_LIMIT:
        raise ModelError(f"{where}: a label file may have {SIZE_LIMIT >> 20} MiB, and this one has more")
    try:
        with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig") as lines:
            labels = _not_blank(lines, where)
    except UnicodeDecodeError:
        raise _not_utf8(data, where) from None
    if len(labels) == 1:
        labels = _not_blank(labels[0].split(",", LABEL_LIMIT), where)
    return tuple(labels)


def load_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the label file that a user named.

    Raises
    ------
    OptionError
        If the file cannot be read, is not UTF-8, is empty, or is too large.
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
        labels = read_labels(data, where)
    except ModelError as error:
        raise OptionError(error.reason, error.remedy) from error
    if not labels:
        raise OptionError(f"{where}: the label file has no labels", "write one a line, or leave label_path out")
    return labels


def _not_blank(lines: Iterable[str], where: str) -> list[str]:
    labels = []
    for number, line in enumerate(lines):
        if number == LABEL_LIMIT:
            raise ModelError(f"{where}: it has more than {LABEL_LIMIT} entries; is it a label file?")
        if label := line.strip():
            labels.append(label)
    return labels


def _not_utf8(data: bytes, where: str) -> ModelError:
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


def check_label_count(labels: Sequence[str], outputs: Sequence[TensorInfo]) -> None:
    """Say when a lone output of class scores has another number of classes than there are labels."""
    classes = outputs[0].shape[-1] if len(outputs) == 1 and len(outputs[0].shape) in (1, 2) else 0
    if labels and classes > 1 and len(labels) != classes:
        _log.warning(
            "%d labels for %d classes of output %r: %s%s",
            len(labels),
            classes,
            outputs[0].name,
            "from the first missing one on, a class reads as its index"
            if len(labels) < classes
            else "those beyond the last class are never used",
            "; is a 'background' line missing or surplus?" if abs(len(labels) - classes) == 1 else "",
        )
