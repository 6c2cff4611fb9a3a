"""Runs twins on a user's own inputs: how the answers of each compare with the reference's, and how many are right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..calls.conversion import Array
from ..errors import AccelerateError, OptionError, TensorError
from ..image import to_tensor
from ..inputs.files import is_picture, open_picture, picture_tensor, read_arrays
from ..inputs.folder import InputFile, InputFolder
from ..inputs.labels import ClassNames, listed
from ..metadata import Metadata, TensorInfo
from ..model import Model
from ..testing.comparison import in_shape, partners_of
from ..vision import Classifications, VisionTask, task_for
from . import report_text as say
from .agreement import adapted_feeds, feeds_from, real_values
from .rows import Subject, told_of
from .turns import Notify, caught
from .verdicts import OFF, Answer, Difference, answer_of, compared, is_suspect, kind_of, off_by

__all__ = ["OwnInputs"]

_WORST, _NOTICED = 5, 0.01  # of each row, and how much those are off at least
_FRAMES = 4  # pictures that are kept to measure from the frame to the answer
_FIVE = 5


@dataclass(frozen=True, eq=False)
class _Read:
    """One input as the first of some twins takes it."""

    case: dict[str, Array]
    real: list[Array]
    picture: Array | None
    geometry: Any


@dataclass(eq=False)
class _Found:
    """What a row has answered so far."""

    differences: list[Difference] = field(default_factory=list)
    answers: list[tuple[InputFile, Answer, Answer]] = field(default_factory=list)  # with the reference's
    right: list[tuple[bool, bool]] = field(default_factory=list)  # first, and among the first five


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
        comparison = _Comparison(first, group)
        classes = self._classes_of_labels(comparison)
        for n, file in enumerate(self._folder.files):
            self._notify(f"input {n + 1:,} of {len(self._folder.files):,}: {file.name}", n / len(self._folder.files))
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
        self._left_out.append({"model": first.row["model"], "name": file.name, "reason": told_of(error)["reason"]})

    def _nothing_fits(self, first: Subject) -> OptionError:
        mine = [one for one in self._left_out if one["model"] == first.row["model"]]
        return OptionError(
            f"none of the {len(mine):,} files in {self._folder.path} can be given to {first.row['model']}; the first, "
            f"{mine[0]['name']}: {mine[0]['reason']}",
            "give pictures, .npy or .npz files that fit the model",
        )

    def _classes_of_labels(self, comparison: _Comparison) -> dict[str, frozenset[int]]:
        """Return which classes of the model the labels are; what is none of its is noted."""
        labels = sorted({one.label for one in self._folder.files if one.label is not None})
        if not labels:
            return {}
        name = comparison.first.row["model"]
        if comparison.kind != "classes":
            self._notes.append(f"what the files show is not compared with {name}, which gives no classes")
            return {}
        names = ClassNames(comparison.metadata.labels, comparison.class_count())
        found = {label: names.find(label) for label in labels}
        strange = [label for label, classes in found.items() if not classes]
        own = [label for label in comparison.metadata.labels if label]
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


class _Comparison:
    """Twins, all of which answer what the first one is given."""

    def __init__(self, first: Subject, group: Sequence[Subject]) -> None:
        assert first.model is not None
        self.first = first
        self.metadata: Metadata = first.model.metadata()
        self._task: VisionTask[Any] | None = None
        with suppress(OptionError):  # nothing tells what the outputs say of a picture: values are compared
            self._task = task_for(self.metadata)
        self.kind = kind_of(self._task)
        self._group = [first, *(s for s in group if s is not first)]
        self._found = {id(s): _Found() for s in self._group}
        self.given = 0

    def class_count(self) -> int:
        """Return how many classes the scores are of."""
        return max(
            [len(self.metadata.labels), *(int(np.prod([abs(n) for n in t.shape])) for t in self.metadata.outputs)]
        )

    def read(self, file: InputFile) -> _Read:
        """Read an input.

        Raises
        ------
        OptionError, TensorError
            It cannot be read, or does not fit.
        """
        inputs, picture, geometry = self.metadata.required_inputs, None, None
        given: Any
        if not is_picture(file.path):
            given = read_arrays(file.path, inputs)
        else:
            picture = open_picture(file.path)
            if self._task is None:
                given = picture_tensor(picture, file.path, inputs)
            else:
                given, geometry = self._task.prepare(picture)
        case = adapted_feeds(self.metadata, file.name, given)
        return _Read(case, real_values(self._model, case), picture, geometry)

    def run(self, file: InputFile, read: _Read, classes: frozenset[int] | None) -> None:
        """Ask all for their answers; who fails has failed."""
        reference: Answer | None = None
        for subject in self._group:
            with caught(subject):
                if subject.model is None or (reference is None and subject is not self.first):
                    continue
                answer = self._answer(subject, subject.model, read, reference)
                if reference is None:
                    reference = answer
                    self.given += 1
                found = self._found[id(subject)]
                found.differences.append(compared(reference, answer))
                found.answers.append((file, reference, answer))
                if classes and isinstance(answer.decoded, Classifications):
                    best = [int(index) for index in answer.decoded.classes[:_FIVE]]
                    found.right.append((bool(classes & set(best[:1])), bool(classes & set(best))))

    def _answer(self, subject: Subject, model: Model, read: _Read, reference: Answer | None) -> Answer:
        if model.metadata().stateful:
            model.do_command({"command": "reset"})
        outputs = list(model.infer(self._feeds(subject, model, read), dequantize=True).values())
        theirs = model.metadata().outputs
        order = partners_of(self.metadata.outputs, theirs, f"{subject.target}: outputs")
        values = {}
        for n, (info, place) in enumerate(zip(self.metadata.outputs, order, strict=True)):
            value = _as_shares(outputs[place], theirs[place]) if self.kind == "classes" else outputs[place]
            values[info.name] = value if reference is None else in_shape(value, reference.values[n])
        try:
            return answer_of(self._task, values, read.geometry)
        except (OptionError, TensorError):  # only the first answer tells what the outputs hold, and does not
            if self.given or reference is not None:
                raise
            self._task, self.kind = None, kind_of(None)
            return answer_of(None, values, None)

    def _feeds(self, subject: Subject, model: Model, read: _Read) -> Mapping[str, Array]:
        if subject.row["path"] == self.first.row["path"]:
            return read.case
        inputs = model.metadata().required_inputs
        if read.picture is not None and len(inputs) == 1 and inputs[0].layout and _are_bare_levels(inputs[0]):
            # integers of which nothing says what they stand for: levels of the picture itself
            way = {} if self._task is None else _way_of(self._task)
            return {inputs[0].name: to_tensor(read.picture, inputs[0], **way)}
        return feeds_from(read.real, self._model, model)

    @property
    def _model(self) -> Model:
        assert self.first.model is not None, "who fails ends the comparison"
        return self.first.model

    def summary(self, subject: Subject, *, has_reference: bool) -> dict[str, Any]:
        """Return what the answers of a row come to."""
        found = self._found[id(subject)]
        summary: dict[str, Any] = {"inputs": len(found.answers), "kind": self.kind}
        if has_reference:
            off = off_by(found.differences)
            summary |= {
                "reference": say.reference_name(self.first.row),
                "agrees": not is_suspect(off),
                "off": sum(one > OFF for one in off),
                "most_off": max(off, default=0.0),
                **_shares(found.differences),
                "worst": [] if subject is self.first else _worst(found, off),
            }
        if found.right:
            first, five = (sum(flags) / len(found.right) for flags in zip(*found.right, strict=True))
            summary["accuracy"] = {"inputs": len(found.right), "top1": first, "top5": five}
        return summary


def _are_bare_levels(info: TensorInfo) -> bool:
    return info.quantization is None and info.data_type.startswith(("int", "uint"))


def _as_shares(scores: Array, info: TensorInfo) -> Array:
    """Return scores that are levels of which nothing says what they stand for as shares, which is what levels hold."""
    if not _are_bare_levels(info) or scores.dtype.kind not in "iu":
        return scores
    limits = np.iinfo(scores.dtype)
    shares: Array = ((scores.astype(np.float64) - limits.min) / (float(limits.max) - limits.min + 1)).astype(np.float32)
    return shares


def _way_of(task: VisionTask[Any]) -> dict[str, Any]:
    prepared = task.preparation
    return {"resize": prepared.resize, "anchor": prepared.anchor, "fill": prepared.fill}


def _shares(differences: Sequence[Difference]) -> dict[str, float | None]:
    """Return on which share of the inputs, of the boxes and of the pixels a row agrees; None for what is not so."""
    boxes = [one.boxes for one in differences if one.boxes is not None]
    of = sum(count for _, count in boxes)
    return {
        "top1": _mean([one.top1 for one in differences]),
        "top5": _mean([one.top5 for one in differences]),
        "boxes": sum(found for found, _ in boxes) / of if of else None,
        "pixels": _mean([one.pixels for one in differences]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _worst(found: _Found, off: Sequence[float]) -> list[dict[str, Any]]:
    order = sorted(range(len(off)), key=lambda n: -off[n])[:_WORST]
    return [
        {
            "name": file.name,
            "path": str(file.path.absolute()),
            "label": file.label,
            "off": off[n],
            "reference": reference.told(),
            "answer": answer.told(),
        }
        for n in order
        if off[n] > _NOTICED
        for file, reference, answer in (found.answers[n],)
    ]
