"""Twins asked one after the other for their answers to the same input, and what these come to for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from ..calls.conversion import Array
from ..errors import AccelerateError, InferenceError, OptionError, TensorError
from ..image import to_tensor
from ..inputs.files import is_picture, open_picture, picture_tensor, read_arrays
from ..inputs.folder import InputFile
from ..metadata import Metadata, TensorInfo
from ..model import Model
from ..testing.comparison import in_shape, partners_of
from ..vision import Classifications, VisionTask, task_for
from . import report_text as say
from .agreement import adapted_feeds, feeds_from, real_values
from .rows import Subject
from .turns import caught
from .verdicts import OFF, Answer, Difference, answer_of, compared, is_suspect, kind_of, off_by

__all__ = ["Read", "TwinComparison"]

_WORST, _NOTICED = 5, 0.01  # of each row, and how much those are off at least
_FIVE = 5
#: The first of an answer's classes or boxes, as JSON can hold them.
_Told: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Read:
    """One input as one of some twins takes it."""

    giver: Subject

    case: dict[str, Array]
    real: list[Array]
    picture: Array | None
    geometry: Any


@dataclass(eq=False)
class _Found:
    """What a row has answered so far."""

    differences: list[Difference] = field(default_factory=list)
    told: list[tuple[InputFile, _Told, _Told]] = field(default_factory=list)  # with the reference's; not the tensors
    right: list[tuple[bool, bool]] = field(default_factory=list)  # first, and among the first five


class TwinComparison:
    """Twins, all of which answer what the first one is given."""

    def __init__(self, first: Subject, group: Sequence[Subject]) -> None:
        self.first = first
        self._group = [first, *(s for s in group if s is not first)]
        self._tasks: dict[int, VisionTask[Any] | None] = {}
        told = [(s, s.model.metadata()) for s in self._group if s.model is not None]
        # what the outputs say of a picture, not each file tells: levels without a scale may be anything
        base, self.metadata = next((one for one in told if self._task_of(*one) is not None), told[0])
        self._task = self._task_of(base, self.metadata)
        self.kind = kind_of(self._task)
        self._found = {id(s): _Found() for s in self._group}
        self.given = 0
        self._unreadable: AccelerateError | None = None  # why an answer of the first one says none of that

    @property
    def labels(self) -> Sequence[str]:
        """The classes' names, of the first of the twins that has some."""
        known = (one.model.metadata().labels for one in self._group if one.model is not None)
        return next(filter(None, known), ())

    def class_count(self) -> int:
        """Return how many classes the scores are of."""
        return max([len(self.labels), *(int(np.prod([abs(n) for n in t.shape])) for t in self.metadata.outputs)])

    def read(self, file: InputFile) -> Read:
        """Read an input, as the first of the twins that it fits takes it: not each says what pixels mean to it.

        Raises
        ------
        OptionError, TensorError
            It cannot be read, or fits none.
        """
        picture = open_picture(file.path) if is_picture(file.path) else None
        refusal: TensorError | None = None
        for subject in self._group:
            if subject.model is None:
                continue
            try:
                read = self._as_given_to(subject, subject.model, file, picture)
                if subject is not self.first and self.first.model is not None:
                    feeds_from(read.real, subject.model, self.first.model)  # or nobody would know what is right
            except TensorError as error:
                refusal = refusal or error
            else:
                return read
        assert refusal is not None, "who is first is open"
        raise refusal

    def _as_given_to(self, subject: Subject, model: Model, file: InputFile, picture: Array | None) -> Read:
        metadata, geometry = model.metadata(), None
        given: Any
        if picture is None:
            given = read_arrays(file.path, metadata.required_inputs)
        elif (task := self._task_of(subject, metadata)) is None:
            given = picture_tensor(picture, file.path, metadata.required_inputs)
        else:
            given, geometry = task.prepare(picture)
        case = adapted_feeds(metadata, file.name, given)
        return Read(subject, case, real_values(model, case), picture, geometry)

    def _task_of(self, subject: Subject, metadata: Metadata) -> VisionTask[Any] | None:
        if id(subject) not in self._tasks:
            self._tasks[id(subject)] = None
            with suppress(OptionError):  # nothing tells what the outputs say of a picture: values are compared
                self._tasks[id(subject)] = task_for(metadata)
        return self._tasks[id(subject)]

    def run(self, file: InputFile, read: Read, classes: frozenset[int] | None) -> list[tuple[Subject, AccelerateError]]:
        """Ask all for their answers; return whom the input does not fit, and why. Who fails has failed."""
        reference: Answer | None = None
        refusals: list[tuple[Subject, AccelerateError]] = []
        for subject in self._group:
            with caught(subject):
                if subject.model is None or (reference is None and subject is not self.first):
                    continue
                feeds: Mapping[str, Array] = {}
                try:
                    feeds = self._feeds(subject, subject.model, read)
                    answer = self._answer(subject, subject.model, feeds, read, reference)
                except (OptionError, TensorError, InferenceError) as error:
                    if isinstance(error, InferenceError) and _ran_before(subject, feeds):
                        raise
                    refusals.append((subject, error))
                    continue
                if reference is None:
                    reference = answer
                    self.given += 1
                found = self._found[id(subject)]
                found.differences.append(compared(reference, answer))
                found.told.append((file, reference.told(), answer.told()))
                if classes and isinstance(answer.decoded, Classifications):
                    best = [int(index) for index in answer.decoded.classes[:_FIVE]]
                    found.right.append((bool(classes & set(best[:1])), bool(classes & set(best))))
        return refusals

    def answers_of(self, subject: Subject) -> int:
        """Return how many inputs a row has answered."""
        return len(self._found[id(subject)].told)

    def turn_to_values(self) -> AccelerateError | None:
        """Compare values, where no answer says what was looked for; return why, None where that is not so."""
        if self.given or self._unreadable is None:
            return None
        reason, self._unreadable = self._unreadable, None
        self._task, self.kind = None, kind_of(None)
        return reason

    def _answer(
        self, subject: Subject, model: Model, feeds: Mapping[str, Array], read: Read, reference: Answer | None
    ) -> Answer:
        if model.metadata().stateful:
            model.do_command({"command": "reset"})
        outputs = list(model.infer(feeds, dequantize=True).values())
        theirs = model.metadata().outputs
        order = partners_of(self.metadata.outputs, theirs, f"{subject.target}: outputs")
        values = {}
        for n, (info, place) in enumerate(zip(self.metadata.outputs, order, strict=True)):
            value = _as_shares(outputs[place], theirs[place]) if self.kind == "classes" else outputs[place]
            values[info.name] = value if reference is None else in_shape(value, reference.values[n])
        try:
            return answer_of(self._task, values, read.geometry)
        except (OptionError, TensorError) as error:  # only an answer tells what the outputs hold, and does not
            if reference is None:
                self._unreadable = self._unreadable or error
            raise

    def _feeds(self, subject: Subject, model: Model, read: Read) -> Mapping[str, Array]:
        if subject.row["path"] == read.giver.row["path"]:
            return read.case
        inputs = model.metadata().required_inputs
        if read.picture is not None and len(inputs) == 1 and inputs[0].layout and _are_bare_levels(inputs[0]):
            # integers of which nothing says what they stand for: levels of the picture itself
            task = self._tasks.get(id(read.giver))
            way = {} if task is None else _way_of(task)
            return {inputs[0].name: to_tensor(read.picture, inputs[0], **way)}
        assert read.giver.model is not None, "it has just answered, or is about to"
        return feeds_from(read.real, read.giver.model, model)

    def summary(self, subject: Subject, *, has_reference: bool) -> dict[str, Any]:
        """Return what the answers of a row come to."""
        found = self._found[id(subject)]
        summary: dict[str, Any] = {"inputs": len(found.told), "kind": self.kind}
        if has_reference:
            off = off_by(found.differences)
            summary |= {
                "reference": say.reference_name(self.first.row),
                "agrees": not is_suspect(found.differences, off),
                "off": sum(one > OFF for one in off),
                "most_off": max(off, default=0.0),
                **_shares(found.differences),
                "worst": [] if subject is self.first else _worst(found, off),
            }
        if found.right:
            first, five = (sum(flags) / len(found.right) for flags in zip(*found.right, strict=True))
            summary["accuracy"] = {"inputs": len(found.right), "top1": first, "top5": five}
        return summary


def _ran_before(subject: Subject, feeds: Mapping[str, Array]) -> bool:
    """Return whether a row has run inputs of these shapes, so that it is not these that make it fail."""
    known = {name: np.shape(array) for name, array in subject.feeds.items()}
    return known == {name: np.shape(array) for name, array in feeds.items()}


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
            "reference": reference,
            "answer": answer,
        }
        for n in order
        if off[n] > _NOTICED
        for file, reference, answer in (found.told[n],)
    ]
