"""The comparison itself: load, first call, warm-up, then all devices in turn; then what each does under load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import TensorError
from ..inputs.folder import InputFolder
from ..model import Model
from ..testing.comparison import Reference
from . import report_text as say
from .agreement import are_twins, compare_answers, feeds_from, random_answers, random_real_inputs
from .frames import measure_frames, noise
from .machine import condition, describe_machine
from .own_inputs import OwnInputs
from .rows import THREADS, Subject, find_subjects, told_of
from .statistics import PERCENTILES, compared_interval, disagreement, interval, summarize, thin
from .timing import at_rate, is_steady, measure_phases, own_cost_us, throughput, without_collector
from .turns import Notify, caught, part_of, take_turns, warm_up

__all__ = ["SCHEMA", "Settings", "run"]

SCHEMA = 1
#: Two halves of a run, and either end of the interval of its p50, may lie that far off before it is INVALID.
_VALID_WITHIN = 0.05
_FEWEST_ROUNDS = 10
_CONDITION_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class Settings:
    """What a run does."""

    seconds: float = 5.0  # of steady state on each device
    rate: float | None = None  # calls a second of the fixed-rate mode; None leaves it out
    callers: tuple[int, ...] = (1, 2, 4)  # for each number, the throughput of so many callers
    seed: int = 0  # of the inputs
    threads: int = THREADS  # on the CPU, the same for every device


def run(
    models: Sequence[str],
    settings: Settings,
    *,
    backends: Sequence[str] = (),
    devices: Sequence[str] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
    inputs: InputFolder | None = None,
    notify: Notify = lambda what, done: None,
) -> dict[str, Any]:
    """Compare every device that can run the models here; return the report, as JSON can hold it.

    Parameters
    ----------
    models : sequence of str
        Files or URLs; several of them for the twins of one network.
    backends, devices : sequence of str
        Which to consider; all where empty.
    options : mapping of str to object
        Further arguments of `load`, for every device; one whose backend does not take them is a row with that reason.
    inputs : InputFolder, optional
        What the models are to answer, beside random values.
    notify : callable
        Called with what is going on and the share of the work that is done.

    Raises
    ------
    AccelerateError
        A model cannot be read, a backend has no such name, or none of the inputs fits a model.
    """
    subjects = find_subjects(models, backends, devices, {**options, "num_threads": settings.threads})
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "settings": {**asdict(settings), "callers": list(settings.callers), "options": sorted(options)},
        "machine": describe_machine(),
        "own_cost_us": own_cost_us(),
        "results": [subject.row for subject in subjects],
        "conditions": [],
    }
    own = None if inputs is None else OwnInputs(inputs, part_of(notify, 0.05, 0.15))
    try:
        _Run(subjects, settings, own, notify, report["conditions"]).all()
        if own is not None:
            report["inputs"] = own.report()
    finally:
        for subject in subjects:
            subject.close()
    return report


class _Run:
    def __init__(
        self,
        subjects: Sequence[Subject],
        settings: Settings,
        own: OwnInputs | None,
        notify: Notify,
        conditions: list[dict[str, Any]],
    ) -> None:
        self._subjects = subjects
        self._settings = settings
        self._own = own
        self._notify = notify
        self._conditions = conditions
        self._groups: list[list[Subject]] = []

    def all(self) -> None:
        self._open()
        self._agree()
        self._warm_up()
        self._measure()
        self._judge()
        self._under_load()
        self._notify("done", 1.0)

    @property
    def _open_ones(self) -> list[Subject]:
        return [s for s in self._subjects if s.model is not None]

    def _open(self) -> None:
        for n, subject in enumerate(self._subjects):
            if subject.row["status"] == "ok":
                self._notify(f"loading {subject.target}", 0.05 * n / len(self._subjects))
                with caught(subject):
                    subject.open()
                with caught(subject):
                    self._group(subject)

    def _group(self, subject: Subject) -> None:
        """Put a subject beside its twins, give it the same inputs as them, and make its first call."""
        if subject.model is None:
            return
        for group in self._groups:
            first = group[0].model
            if first is not None and are_twins(first, subject.model):
                break
        else:
            group = []
            self._groups.append(group)
        group.append(subject)
        first = group[0].model
        assert first is not None
        subject.row["group"] = group[0].row["model"]
        (real,) = random_real_inputs(first, 1, self._settings.seed)
        subject.feeds = feeds_from(real, first, subject.model)
        subject.call_first()

    def _agree(self) -> None:
        references: list[Subject | None] = []
        for group in self._groups:
            reference, known = self._reference(group)
            references.append(reference)
            if reference is None:
                for subject in group:
                    subject.row["agreement"] = {"reason": "no CPU here runs the model, so there is no reference"}
                continue
            for subject in group:
                self._notify(f"comparing the answers of {subject.target}", 0.05)
                with caught(subject):
                    if subject.model is not None:
                        named = {"reference": say.reference_name(reference.row), "own_engine": reference.is_own_engine}
                        subject.row["agreement"] = {**named, **_agreement(known, subject.model)}
        if self._own is not None:
            for group, reference in zip(self._groups, references, strict=True):
                self._own.judge(group, reference)

    def _reference(self, group: Sequence[Subject]) -> tuple[Subject | None, list[Reference]]:
        """Return whose answers the others' are set against, and these answers; None where no CPU gives any."""
        while fit := [s for s in group if s.model is not None and s.row["kind"] == "cpu"]:
            subject = min(fit, key=lambda s: s.unfitness)
            with caught(subject):
                assert subject.model is not None
                return subject, random_answers(subject.model, self._settings.seed + 1)
        return None, []

    def _warm_up(self) -> None:
        warm_up(self._subjects, max(1.0, self._settings.seconds), part_of(self._notify, 0.15, 0.25))
        for subject in self._open_ones:
            subject.row["warmup"] = {
                "calls": subject.warmup_calls,
                "steady": is_steady(subject.windows),
                "window_medians_us": [round(median / 1e3, 3) for median in subject.windows],
            }

    def _measure(self) -> None:
        take_turns(self._subjects, self._settings.seconds, part_of(self._notify, 0.25, 0.65), self._note_condition)
        for subject in self._open_ones:
            subject.row["rounds"] = [
                {"at": round(at, 4), "us": thin(taken)}
                for at, taken in zip(subject.starts, subject.rounds, strict=True)
            ]

    def _note_condition(self, at: float) -> None:
        if not self._conditions or at - self._conditions[-1]["at"] >= _CONDITION_EVERY:
            self._conditions.append({"at": round(at, 3), **condition()})

    def _judge(self) -> None:
        for subject in self._open_ones:
            row = subject.row
            row["latency_us"] = summarize(np.concatenate(subject.rounds))
            row["halves_differ"] = disagreement(subject.rounds)
            # what the report keeps of each round: of a million calls, a bootstrap would take a minute
            subject.kept = [np.array(one["us"]) for one in row["rounds"]]
            row["p50_interval_us"] = list(interval(subject.kept, 50.0))
            if reasons := list(_doubts(row, len(subject.rounds))):
                row.update(status="INVALID", reason="; ".join(reasons), remedy=_STEADY_REMEDY)
        for group in self._groups:
            reference = next((s for s in group if s.model is not None and say.is_reference(s.row)), None)
            for subject in group:
                if reference is not None and subject.model is not None:
                    low, high = compared_interval(np.divide, subject.kept, reference.kept, 50.0, paired=True)
                    value = subject.row["latency_us"]["p50"] / reference.row["latency_us"]["p50"]
                    subject.row["ratio"] = {"value": value, "low": low, "high": high}

    def _under_load(self) -> None:
        settings, subjects = self._settings, self._open_ones
        each = max(0.3, settings.seconds / 5)
        frames = (self._own.frames if self._own is not None else None) or [noise(settings.seed)]
        for n, subject in enumerate(subjects):
            share = 0.65 + 0.35 * n / len(subjects)
            self._notify(f"splitting up the calls of {subject.target}", share)
            with _noted(subject.row, "phases_us"):
                assert subject.model is not None
                subject.row["phases_us"] = measure_phases(subject.model, subject.feeds, each)
            self._notify(f"from a frame to the answer by {subject.target}", share)
            with _noted(subject.row, "frames"):
                assert subject.model is not None
                found = measure_frames(subject.model, frames, subject.feeds, each)
                subject.row |= {} if found is None else {"frames": found}
            subject.row["throughput"] = []
            for callers in settings.callers:
                self._notify(f"{callers} callers on {subject.target}", share)
                figures: dict[str, Any] = {"callers": callers}
                with _noted(figures):
                    figures = throughput(subject.load, subject.feeds, callers, each)
                subject.row["throughput"].append(figures)
            if settings.rate is not None:
                self._notify(f"{settings.rate:g} calls a second on {subject.target}", share)
                with _noted(subject.row, "rate"), without_collector():
                    assert subject.model is not None
                    subject.row["rate"] = at_rate(subject.model.infer, subject.feeds, settings.rate, settings.seconds)


def _agreement(known: Sequence[Reference], model: Model) -> dict[str, Any]:
    try:
        return compare_answers(known, model)
    except TensorError as error:  # levels of pixels, of which nothing says for which values they stand
        return {"reason": f"not compared on random values: {error.reason}"}


_STEADY_REMEDY = (
    "close other programs, set the governor to performance, let the machine cool down, or give more --seconds"
)


def _doubts(row: dict[str, Any], rounds: int) -> Iterator[str]:
    if not row["warmup"]["steady"]:
        yield "it never became steady: three windows in a row never came within 5 %"
    if rounds < _FEWEST_ROUNDS or row["latency_us"]["n"] < PERCENTILES["p90"][1]:
        yield f"{rounds} rounds are too few; at least {_FEWEST_ROUNDS} are needed"
        return
    if row["halves_differ"] > _VALID_WITHIN:
        yield f"the run's two halves differ by {row['halves_differ']:.0%} at p50"
    low, high = row["p50_interval_us"]
    middle = row["latency_us"]["p50"]
    if low < middle * (1 - _VALID_WITHIN) or high > middle * (1 + _VALID_WITHIN):
        yield f"p50 is uncertain: between {low / middle - 1:+.0%} and {high / middle - 1:+.0%} of it"


@contextmanager
def _noted(figures: dict[str, Any], key: str | None = None) -> Iterator[None]:
    """Note why one part of a row could not be measured; what was measured before stands."""
    try:
        yield
    except Exception as error:
        figures.update(told_of(error) if key is None else {key: told_of(error)})
