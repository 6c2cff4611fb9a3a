"""Runs twins on a user's own inputs: how the answers of each compare with the reference's, and how many are right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..calls.conversion import Array
from ..errors import AccelerateError, OptionError, TensorError
from ..inputs.folder import InputFile, InputFolder
from ..inputs.labels import ClassNames, listed
from . import report_text as say
from .answers import TwinComparison
from .rows import Subject, told_of
from .turns import Notify

__all__ = ["OwnInputs"]

_FRAMES = 4  # pictures that are kept to measure from the frame to the answer
_BLOCK = 1 << 20  # bytes of a file that are read at once
#: Whom an input does not fit, and why.
_Refusal: TypeAlias = tuple[Subject, InputFile, AccelerateError]


class OwnInputs:
    """The inputs of a folder, for every group of twins.

    Parameters
    ----------
    folder : InputFolder
    notify : callable

    Attributes
    ----------
    frames : list of numpy.ndarray
        The first of its pictures.
    """

    def __init__(self, folder: InputFolder, notify: Notify) -> None:
        self._folder = folder
        self._notify = notify
        self._done = 0.0
        self._left_out: list[dict[str, str]] = []
        self._notes = list(folder.notes)
        self.frames: list[Array] = []

    def report(self) -> dict[str, Any]:
        """Return what the report says of the inputs themselves."""
        folder = self._folder
        return {
            "folder": str(folder.path),
            "found": folder.found,
            "taken": len(folder.files),
            "labelled_by": folder.labelled_by,
            # by which two reports know that they are of the same inputs
            "digest": _digest(folder.files),
            "notes": self._notes,
            "left_out": self._left_out,
        }

    def judge(self, group: Sequence[Subject], reference: Subject | None) -> None:
        """Give all inputs to all twins, and their rows an ``on_inputs``.

        Raises
        ------
        OptionError, TensorError
            None of the files can be given to the model, or none of the table's labels is the model's.
        """
        first = reference if reference is not None else next((s for s in group if s.model is not None), None)
        if first is None or first.model is None:
            return
        comparison = TwinComparison(first, group)
        classes = self._classes_of_labels(comparison)
        refused = list(self._give(comparison, classes))
        if (reason := comparison.turn_to_values()) is not None:
            refused = list(self._give(comparison, {}))
            self._note(
                f"values are compared, for the answers of {first.row['model']} say nothing else: {reason.reason}"
            )
        if not comparison.given and first.model is not None:
            raise self._nothing_fits(first, refused)
        for subject in group:
            none = next((error for whose, _, error in refused if whose is subject), None)
            if none is not None and comparison.given and not comparison.answers_of(subject):
                subject.fail(none)  # what fits the reference and never this row is the row's fault
            if subject.model is not None:
                subject.row["on_inputs"] = comparison.summary(subject, has_reference=reference is not None)
        self._left_out += [
            _left_out(first, subject, file, error) for subject, file, error in refused if subject.model is not None
        ]

    def _give(self, comparison: TwinComparison, classes: Mapping[str, frozenset[int]]) -> Iterator[_Refusal]:
        """Give all inputs to all twins; yield which fit whom not."""
        first, count = comparison.first, len(self._folder.files)
        for n, file in enumerate(self._folder.files):
            self._done = max(self._done, n / count)  # of several networks, that of the first
            self._notify(f"input {n + 1:,} of {count:,}: {file.name}", self._done)
            before = comparison.given
            try:
                read = comparison.read(file)
            except (OptionError, TensorError) as error:
                yield first, file, error
                continue
            refusals = comparison.run(file, read, classes.get(file.label) if file.label is not None else None)
            yield from ((subject, file, error) for subject, error in refusals)
            if first.model is None:
                return  # and its row says why
            if read.picture is not None and comparison.given > before and len(self.frames) < _FRAMES:
                self.frames.append(read.picture)

    def _note(self, text: str) -> None:
        if text not in self._notes:  # of several networks
            self._notes.append(text)

    def _nothing_fits(self, first: Subject, refused: Sequence[_Refusal]) -> OptionError:
        _, file, error = refused[0]
        told = told_of(error)
        return OptionError(
            f"none of the {len(refused):,} files in {self._folder.path} can be given to {first.row['model']}; "
            f"the first, {file.name}: {told['reason']}",
            told["remedy"] or "give pictures, .npy or .npz files that fit the model",
        )

    def _classes_of_labels(self, comparison: TwinComparison) -> dict[str, frozenset[int]]:
        """Return which classes of the model the labels are; what is none of its is noted."""
        labels = sorted({one.label for one in self._folder.files if one.label is not None})
        refusal = self._folder.refusal
        if not labels and refusal is None:
            return {}
        name = comparison.first.row["model"]
        if comparison.kind != "classes":
            self._note(f"what the files show is not compared with {name}, which gives no classes")
            return {}
        if refusal is not None:
            raise refusal
        for note in self._folder.label_notes:
            self._note(note)
        names = ClassNames(comparison.labels, comparison.class_count())
        found = {label: names.find(label) for label in labels}
        strange = [label for label, classes in found.items() if not classes]
        own = [label for label in comparison.labels if label]
        if len(strange) == len(labels):
            by = self._folder.labelled_by
            what = by if by == "sub-folders" else f"labels in {by}"
            reason = f"none of the {what} is a label of {name}: {listed(strange)}"
            known = f"it has {listed(own)}" if own else "it has indices, and no labels"
            if by != "sub-folders":
                raise OptionError(f"{reason}; {known}", "write the model's labels, or their indices")
            self._note(f"{reason} ({known}), so nothing tells which answers are right")
        elif strange:
            self._note(f"{len(strange)} labels are not {name}'s and do not count: {listed(strange)}")
        return {label: classes for label, classes in found.items() if classes}


def _left_out(first: Subject, subject: Subject, file: InputFile, error: AccelerateError) -> dict[str, str]:
    """Return what the report says of an input that was not given to a row, "" for all of the twins."""
    row = "" if subject is first else say.reference_name(subject.row)
    return {"model": first.row["model"], "row": row, "name": file.name, **told_of(error)}


def _digest(files: Sequence[InputFile]) -> str:
    """Return what two reports have in common that are of the same inputs: names, labels and contents."""
    told = [(one.name, one.label, _digest_of(one.path)) for one in files]
    return hashlib.sha256(repr(told).encode("utf-8", "surrogateescape")).hexdigest()


def _digest_of(path: Path) -> str:
    whole = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                whole.update(block)
    except OSError:  # it was left out
        return ""
    return whole.hexdigest()
