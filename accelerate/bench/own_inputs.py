"""Runs twins on a user's own inputs: how the answers of each compare with the reference's, and how many are right."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ..calls.conversion import Array
from ..errors import AccelerateError, OptionError, TensorError
from ..inputs.folder import InputFile, InputFolder
from ..inputs.labels import ClassNames, listed
from .answers import TwinComparison
from .rows import Subject, told_of
from .turns import Notify

__all__ = ["OwnInputs"]

_FRAMES = 4  # pictures that are kept to measure from the frame to the answer


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
        told = [(one.name, one.label, one.path.stat().st_size) for one in folder.files if one.path.exists()]
        return {
            "folder": str(folder.path),
            "found": folder.found,
            "taken": len(folder.files),
            "labelled_by": folder.labelled_by,
            # by which two reports know that they are of the same inputs
            "digest": hashlib.sha256(repr(told).encode("utf-8", "surrogateescape")).hexdigest(),
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
        for n, file in enumerate(self._folder.files):
            self._done = max(self._done, n / len(self._folder.files))  # of several networks, that of the first
            self._notify(f"input {n + 1:,} of {len(self._folder.files):,}: {file.name}", self._done)
            try:
                read = comparison.read(file)
            except (OptionError, TensorError) as error:
                self._leave_out(first, file, error)
                continue
            if read.picture is not None and len(self.frames) < _FRAMES:
                self.frames.append(read.picture)
            comparison.run(file, read, classes.get(file.label) if file.label is not None else None)
            if first.model is None:
                break  # and its row says why
        if not comparison.given and first.model is not None:
            raise self._nothing_fits(first)
        for subject in group:
            if subject.model is not None:
                subject.row["on_inputs"] = comparison.summary(subject, has_reference=reference is not None)

    def _leave_out(self, first: Subject, file: InputFile, error: AccelerateError) -> None:
        self._left_out.append({"model": first.row["model"], "name": file.name, **told_of(error)})

    def _nothing_fits(self, first: Subject) -> OptionError:
        mine = [one for one in self._left_out if one["model"] == first.row["model"]]
        return OptionError(
            f"none of the {len(mine):,} files in {self._folder.path} can be given to {first.row['model']}; the first, "
            f"{mine[0]['name']}: {mine[0]['reason']}",
            mine[0]["remedy"] or "give pictures, .npy or .npz files that fit the model",
        )

    def _classes_of_labels(self, comparison: TwinComparison) -> dict[str, frozenset[int]]:
        """Return which classes of the model the labels are; what is none of its is noted."""
        labels = sorted({one.label for one in self._folder.files if one.label is not None})
        if not labels:
            return {}
        name = comparison.first.row["model"]
        if comparison.kind != "classes":
            self._notes.append(f"what the files show is not compared with {name}, which gives no classes")
            return {}
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
            self._notes.append(f"{reason} ({known}), so nothing tells which answers are right")
        elif strange:
            self._notes.append(f"{len(strange)} labels are not {name}'s and do not count: {listed(strange)}")
        return {label: classes for label, classes in found.items() if classes}
