"""Carries out `load`: from its arguments to a decision, and from the decision to a model."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import environment, registry
from ._records import record
from .arguments import whole_number
from .calls.names import check_tensor_names, suggestion
from .calls.normalization import parse_normalization
from .calls.shapes import check_shapes
from .contract import Backend
from .errors import AccelerateError, NoBackendError, OptionError
from .model import Model
from .planning import Row, decide, summarize
from .reports import KINDS, LoadOptions
from .source import Source

if TYPE_CHECKING:
    from .formats.beside import Beside

__all__ = ["Decision", "carry_out", "decision", "load_one"]

# far above what any machine gains from; a runtime that is asked for more may take the process down
_MOST_THREADS = 1024
_MOST_REPLICAS = 256

_log = logging.getLogger("accelerate")


@record(frozen=True)
class Decision:
    """What is to be loaded, and the rows of its plan.

    Attributes
    ----------
    source : Source
    options : LoadOptions
    rows : iterator of Row
        As late as possible: see `planning.decide`.
    single : bool
        One backend was named, so that no other device may take its place.
    """

    source: Source
    options: LoadOptions
    rows: Iterator[Row]
    single: bool


def load_one(arguments: Mapping[str, Any], *, heeds_environment: bool = True) -> tuple[Source, Model]:
    """Load a model with the arguments of `load` by name; those of backends are in ``backend_options``."""
    decided = decision(**arguments, heeds_environment=heeds_environment)
    return decided.source, carry_out(decided)


def carry_out(decided: Decision) -> Model:
    """Load what was decided, which can be done once."""
    with decided.source.kept_open():
        return _carry_out(decided)


def decision(
    source: Any,
    backend: str | Sequence[str],
    backend_options: Mapping[str, Any],
    *,
    heeds_environment: bool = True,
    isolation: str | None = None,
    **common: Any,
) -> Decision:
    """Check the arguments that no backend has to be asked about, and begin to decide.

    Where `heeds_environment`, the environment says what they leave open; a runtime's object and a URL leave nothing.
    """
    environment.check()
    considered = _considered(backend, backend_options)  # a slip in a name is said before the file is looked for
    found = registry.recognize(Source(source))
    said = ""
    if heeds_environment and found.format not in ("object", "url"):
        backend, common["device"], said = environment.in_place_of(backend, common["device"])
    if said:
        try:
            considered = _considered(backend, backend_options)
        except AccelerateError as error:
            raise error.about(said) from error.__cause__
    for one in considered:
        registry.check_environment(one)
    if common["num_threads"] is not None:
        common["num_threads"] = whole_number("num_threads", common["num_threads"], _MOST_THREADS)
    common["replicas"] = whole_number("replicas", common["replicas"], _MOST_REPLICAS)
    for name in ("device", "signature"):
        if common[name] is not None and not (isinstance(common[name], str) and common[name]):
            raise OptionError(f"{name} is {common[name]!r:.60}; wanted a text, or None")
    for name in ("dequantize", "strict"):
        if not isinstance(common[name], (bool, np.bool_)):
            raise OptionError(f"{name} is {common[name]!r:.60}; wanted True or False")
    common["tensor_names"] = check_tensor_names(common["tensor_names"])
    common["shapes"] = check_shapes(common["shapes"])
    common["normalization"] = parse_normalization(common["normalization"])
    labels = None
    if common["label_path"] is not None:
        from .formats.labels import load_labels

        labels = load_labels(common["label_path"])
    if common["replicas"] > 1 and found.format == "object":
        raise OptionError(
            "an existing interpreter or session cannot be copied", "give the model file, or leave replicas out"
        )
    given = {name: value for name, value in backend_options.items() if value is not None}
    if isolation is not None:
        from .combined.isolation.specification import check_isolation

        check_isolation(isolation, found, given, considered)
    common["isolation"] = isolation
    described: Mapping[str, Any] = {}
    if found.path is not None and (beside := _beside(found.path)) is not None:
        labels, described = labels or beside.labels, beside.vision
        if common["normalization"] is None:
            common["normalization"] = beside.normalization
    options = LoadOptions(**common, backend_options=given, asked=common["device"], labels=labels, described=described)
    rows = decide(found, options, considered, ranked=backend == "auto")
    rows = _told(rows, said) if said else rows
    return Decision(found, options, rows, isinstance(backend, str) and backend != "auto")


def _told(rows: Iterator[Row], said: str) -> Iterator[Row]:
    """Let what is refused begin with the variables of the environment that have led to it."""
    for row in rows:
        if row.error is None:
            yield row
        else:
            error = row.error.about(said)
            yield replace(row, candidate=replace(row.candidate, reason=error.reason), error=error)


def _beside(path: Path) -> Beside | None:
    """Return what a description beside the model says; what reads it is imported where there is a file."""
    if not os.path.exists(f"{path}.json"):
        return None
    from .formats.beside import read_beside

    return read_beside(path)


def _considered(backend: object, options: Mapping[str, object]) -> list[Backend]:
    """Return the backends that are named, which know the options."""
    if backend == "auto":
        considered = list(registry.backends().values())
    else:
        names = [backend] if isinstance(backend, str) else backend
        if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
            raise OptionError(
                f"backend is {backend!r:.80}; wanted 'auto', a name from list_backends(), or a list of names"
            )
        considered = [registry.find(name) for name in dict.fromkeys(names)]
    _check_option_names(options, considered)
    return considered


def _check_option_names(given: Mapping[str, object], considered: Sequence[Backend]) -> None:
    """Refuse an option that none of the backends knows."""
    known = sorted({*_COMMON, *(name for backend in considered for name in backend.options)})
    for name in given:
        if name in known:
            continue
        if name in _OF_VISION:
            raise OptionError(
                f"load() has no option {name!r}, which the tasks of accelerate.vision have",
                "write it into a file beside the model, which `edge-accelerate inspect MODEL --write-description` "
                f"begins, or give it to the task: Detector(model, {name}=…)",
            )
        names = " or ".join(backend.name for backend in considered) or "no backend at all"
        raise OptionError(
            f"load() has no option {name!r}{suggestion(name, known)}; known for {names}: {', '.join(known)}"
        )


_OF_VISION = frozenset({"anchor", "box_order", "fill", "input_color", "layout", "resize"})
_COMMON = {"backend", *(f.name for f in fields(LoadOptions))} - {
    "asked",
    "backend_options",
    "described",
    "labels",
    "passed_over",
    "tuned",
}


def _carry_out(decided: Decision) -> Model:
    """Load with the first candidate that can; falling to a later one is said aloud."""
    source, options, single = decided.source, decided.options, decided.single
    seen: list[Row] = []
    failures: list[tuple[Row, AccelerateError]] = []
    for row in decided.rows:
        seen.append(row)
        if row.error is not None:
            continue
        told = tuple(f"{one.candidate.backend} on {one.candidate.device}: {error}" for one, error in failures)
        chosen = replace(
            options,
            device=row.candidate.device,
            num_threads=row.num_threads or options.num_threads,
            passed_over=told,
            tuned=row.tuned,
        )
        try:
            model = _load_row(row, source, chosen)
        except AccelerateError as error:
            # another device is another choice; of what tune has stored, no option is the user's
            if single or (isinstance(error, OptionError) and not row.tuned):
                raise
            failures.append((row, error))
            # what the plan thought could run the model is refused by now
            seen[-1] = replace(
                row, candidate=replace(row.candidate, reason=error.reason, remedy=error.remedy), error=error
            )
            continue
        if told:
            _log.warning("%s on %s runs %s after: %s", model.backend, model.device, source, "; ".join(told))
        else:
            _log.debug("%s on %s: %s", row.candidate.backend, row.candidate.device, row.candidate.reason)
        return model
    raise _why_not(source, seen, failures, single=single)


def _load_row(row: Row, source: Source, options: LoadOptions) -> Model:
    backend, count = row.backend, options.replicas
    try:
        if options.isolation is not None and backend.in_process:
            models = _isolated(row, source, options)
        elif count == 1:
            models = [backend.load(source, options)]
        else:
            models = list(backend.load_replicas(source, options, count))
    except AccelerateError:
        raise
    except (Exception, SystemExit) as error:
        raise registry.translated(backend, error, source) from error
    answers: Sequence[object] = models
    sound = [answer for answer in answers if isinstance(answer, Model)]
    if len(sound) != count or len(answers) != count:
        for model in sound:
            model.close()
        strange = next((answer for answer in answers if not isinstance(answer, Model)), f"{len(answers)} models")
        raise registry.failure(backend, TypeError(f"load() returned {strange!r:.60}, wanted {count} of class Model"))
    if count == 1:
        return models[0]
    from .combined.replicas import Replicas

    return Replicas(models)


def _isolated(row: Row, source: Source, options: LoadOptions) -> list[Model]:
    """Load in children, one for each replica."""
    from .combined.isolation.model import load_isolated

    chosen = row.candidate.device
    devices = [chosen]
    if options.replicas > 1 and options.asked in (None, *KINDS):
        # in one process a backend shares its devices out by itself; such a one is open to a single process
        listed = [d for d in registry.devices(row.backend, options, source) if d.ready and d.kind == "tpu"]
        devices += [d.id for d in listed if d.id != chosen] if chosen in [d.id for d in listed] else []
    return load_isolated(row.backend, source, options, [devices[i % len(devices)] for i in range(options.replicas)])


def _why_not(
    source: Source, rows: Sequence[Row], failures: Sequence[tuple[Row, AccelerateError]], *, single: bool
) -> AccelerateError:
    """Return the error of a load that nothing could do."""
    if len(failures) == 1:
        return failures[0][1]
    if single:  # a device that is not ready says more than those that are not there
        return next(row.error for row in rows if row.error is not None)
    if not failures:
        for row in rows:
            if row.final and row.error is not None:
                return row.error
        if source.format in ("", "directory"):
            return source.no_model()
    decided = summarize(rows)
    table = str(decided) if rows else "no backend is installed: reinstall edge-accelerate"
    return NoBackendError(f"no backend here can run {source}\n{table}", decided)
