"""accelerate.tune: which backend, device and number of threads run a model fastest here, with the right answers."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from . import environment, measurements, registry
from ._records import record
from .bench.candidates import DEFAULTS, Candidate, Given, find_candidates
from .bench.contest import Contest, Inputs
from .bench.report_text import NOTHING, digits, duration
from .bench.rows import distinguish
from .bench.statistics import summarize
from .bench.turns import Notify
from .errors import AccelerateError, NoBackendError, OptionError
from .planning import Row
from .planning import summarize as summarize_rows
from .source import Source

__all__ = ["Tuning", "TuningResult", "cells", "is_dropped", "measure", "tune"]

#: Of two that are that near to each other the one with fewer threads is taken, which leaves CPUs to the program.
_AS_FAST = 1.03
#: The figures of what failed.
_UNKNOWN = (None,) * 6
_GIVE_INPUTS = "give inputs of your own: on random values answers differ more than on real ones"


@record(frozen=True)
class TuningResult:
    """One candidate: a model on a device, with a number of threads.

    Attributes
    ----------
    source : str
        As much of the end of the model's path as tells it from its twins.
    backend, device : str
    num_threads : int or None
        None where it was not `tune` that chose it.
    p50_ms, p99_ms : float or None
        Of a call's latency; None for a candidate that failed. A p99 needs a hundred calls.
    ratio : float or None
        How many times as long its p50 is as that of the chosen one.
    agrees : bool or None
        Whether its answers are those of the reference; None where there is none, and where it failed.
    top1 : float or None
        The share of the inputs on which both have the same class first; None where the answer is no class scores.
    difference : float or None
        The largest between two values, as a share of that output's range; None where it is not finite, or not known.
    reason : str
        Why it was chosen, or why not.
    remedy : str
        What would change that; "" where nothing is known.
    """

    source: str
    backend: str
    device: str
    num_threads: int | None
    p50_ms: float | None
    p99_ms: float | None
    ratio: float | None
    agrees: bool | None
    top1: float | None
    difference: float | None
    reason: str
    remedy: str = ""


@record(frozen=True)
class Tuning:
    """What `tune` has found.

    Attributes
    ----------
    chosen : TuningResult
        The fastest that agrees.
    results : tuple of TuningResult
        The chosen one, then the others that agree, the fastest first, then those that were dropped.
    inputs : str
        What they ran on.
    reference : str
        Whose answers are right: the file's own engine on the CPU, else another one there; "" where there is none.
    line : str
        What a program may write to get the chosen one without `tune`.
    stored : bool
        Whether the result is in the cache folder.
    note : str
        Why it is not, or why `load` will not go by it.
    """

    chosen: TuningResult
    results: tuple[TuningResult, ...]
    inputs: str
    reference: str
    line: str
    stored: bool
    note: str = ""

    def __str__(self) -> str:
        several = len({one.source for one in self.results}) > 1
        rows: list[tuple[str, ...]] = [("", "model", "backend", "device", "threads", "p50", "p99", "ratio", "why")]
        for one in self.results:
            mark, *figures = cells(one, self)
            rows.append((mark, one.source, one.backend, one.device, *figures, one.reason))
        shown = [row if several else (row[0], *row[2:]) for row in rows]
        widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]) - 1)]
        lines = ["  ".join((*map(str.ljust, row, widths), row[-1])).rstrip() for row in shown]
        return "\n".join((*lines, f"without tune: {self.line}", *filter(None, [self.note])))


def is_dropped(one: TuningResult) -> bool:
    """Return whether it failed, or its answers are not the reference's."""
    return one.p50_ms is None or one.agrees is False


def cells(one: TuningResult, found: Tuning) -> Sequence[str]:
    """Return what tables show of a result: its mark, threads, p50, p99 and ratio."""
    mark = "->" if one is found.chosen else "no" if is_dropped(one) else "ok"
    threads = NOTHING if one.num_threads is None else str(one.num_threads)
    times = (duration(None if time is None else 1e3 * time) for time in (one.p50_ms, one.p99_ms))
    return mark, threads, *times, NOTHING if one.ratio is None else digits(one.ratio)


def tune(source: Any, *, inputs: Any = None, seconds: float = 2.0, store: bool = True, **load_arguments: Any) -> Tuning:
    """Measure all that can run a model here, and let `load` go by the fastest whose answers are right.

    All of them are loaded side by side, on a CPU with 1, 2, 4 and as many threads as there are CPUs, and take turns.
    Nothing but a call of this measures anything.

    Parameters
    ----------
    source : path, bytes, URL or runtime object, or a list of them
        A model, or twins of one network in several formats. What is stored for a file is the best that runs this very
        file: a twin's tensors may have other names and dtypes.
    inputs : array_like, mapping of str to array_like, or a list of these, optional
        What the first model is given, as `Model.infer` takes it. Default: random values, on which answers may differ
        more than they do on any real ones.
    seconds : float
        Of steady state on each candidate.
    store : bool
        Keep the result in the cache folder, where ``load(..., backend="auto")`` finds it.
    **load_arguments
        As for `load`. A result is stored for the device, num_threads, signature, shapes and options of backends that
        are given here. With ``isolation="process"`` the candidates run in children, where a crash is one row.
        `replicas`, `failover`, `strict` and `dequantize` make no difference.

    Returns
    -------
    Tuning

    Raises
    ------
    NoBackendError
        Nothing here runs the model.
    TensorError
        An input does not fit the model.
    AccelerateError
        What `plan` raises.
    """
    sources = list(source) if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise OptionError("tune() was given an empty list", "give it a model, or twins of one network")
    return measure(sources, _given(inputs), seconds, load_arguments, store=store)


def measure(
    sources: Sequence[Any],
    inputs: Inputs | None,
    seconds: float,
    load_arguments: Mapping[str, Any],
    *,
    store: bool = True,
    notify: Notify = lambda what, done: None,
) -> Tuning:
    """Carry out `tune`; `notify` is called with what is going on and the share of the work that is done."""
    seconds = _seconds(seconds)
    every, all_backends = _to_measure(sources, load_arguments)
    found = [find_candidates(given) for given in every]
    candidates = [candidate for mine, _ in found for candidate in mine]
    refused = [row for _, rows in found for row in rows if row.error is not None]
    contest = Contest(candidates, inputs, seconds, notify)
    with ExitStack() as stack:
        for candidate in candidates:
            stack.callback(candidate.close)
        contest.run()
    fit = [one for one in candidates if one.rounds and not one.failure and one.agreement.get("agrees", True)]
    if not fit:
        raise _nothing_runs(every, candidates, refused)
    winner = _best(fit)
    ordered = sorted(candidates, key=lambda one: (one is not winner, one not in fit, bool(one.failure), _p50(one)))
    fastest = min(fit, key=_p50)
    results = [_result(one, winner, fastest, contest) for one in ordered]
    results += [_missing(given, rows) for given, (mine, rows) in zip(every, found, strict=True) if not mine]
    if not store:
        note = "it is not stored: store=False"
    elif not all_backends:
        note = "it is not stored: only auto goes by what is, and a backend was named"
    elif (refusing := _refusing(candidates, contest)) is not None:
        note = (
            f"it is not stored: {refusing.target} fails on {contest.inputs}, and what others make of such may be "
            f"anything; give inputs of your own, or shapes="
        )
    else:
        note = _store(every, fit)
    stored = not note
    if stored and not environment.tuned():
        note = "EDGE_ACCELERATE_TUNED=0 keeps load from going by it"
    reference = "" if contest.reference is None else contest.reference.target
    return Tuning(results[0], tuple(results), contest.inputs, reference, _line(winner, load_arguments), stored, note)


def _seconds(given: Any) -> float:
    try:
        seconds = float(given)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not (math.isfinite(seconds) and seconds > 0) or isinstance(given, (bool, str, bytes)):
        raise OptionError(f"seconds is {given!r:.60}; wanted a finite number above 0")
    return seconds


def _given(inputs: Any) -> Inputs | None:
    """Return what gives the caller's inputs their names for messages."""
    if inputs is None:
        return None
    if not isinstance(inputs, (list, tuple)):
        return lambda _: [("inputs", inputs)]
    if not inputs:
        raise OptionError("inputs is an empty list", "give some, or leave it out for random ones")
    return lambda _: [(f"inputs[{n}]", one) for n, one in enumerate(inputs)]


def _to_measure(sources: Sequence[Any], load_arguments: Mapping[str, Any]) -> tuple[list[Given], bool]:
    """Return the models with what is asked about each, and whether it is asked of all backends."""
    arguments = dict(load_arguments)
    backend = arguments.pop("backend", "auto")
    opened = [registry.recognize(Source(source)) for source in sources]
    read = list({one.path or id(one): one for one in opened}.values())  # a file is no twin of itself
    if all(one.format not in ("object", "url") for one in read):  # these leave nothing for the environment to say
        backend = environment.in_place_of(backend, None)[0]
    titles = [str(one) for one in read]
    names = distinguish(titles)
    backends = list(registry.backends()) if backend == "auto" else backend
    every = [Given(one, names[title], backends, arguments) for one, title in zip(read, titles, strict=True)]
    return every, backend == "auto"


def _nothing_runs(every: Sequence[Given], candidates: Sequence[Candidate], refused: Sequence[Row]) -> AccelerateError:
    """Return the error for models that nothing here runs, or nothing as the reference does."""
    for given in every if not candidates else ():
        if given.source.format in ("", "directory"):
            return given.source.no_model()
    said: dict[object, Row] = {}
    for one in candidates:
        found = one.failure or {"reason": f"disagrees: {_compared(one)}", "remedy": ""}
        candidate = replace(one.row.candidate, **found)  # of one device, threads make no difference here
        said[candidate] = replace(one.row, candidate=candidate, error=AccelerateError(**found))
    decided = summarize_rows([*said.values(), *refused])
    models = " or ".join(str(given.source) for given in every)
    return NoBackendError(f"no backend here can run {models}\n{decided}", decided)


# What it comes to


def _p50(one: Candidate) -> float:
    return float(np.median(np.concatenate(one.rounds))) / 1e3 if one.rounds else math.inf


def _best(fit: Sequence[Candidate]) -> Candidate:
    """Return the fastest; of those that are as fast, the one with the fewest threads."""
    limit = _AS_FAST * min(map(_p50, fit))
    return min((one for one in fit if _p50(one) <= limit), key=lambda one: (one.threads or 0, _p50(one)))


def _lead(best: Candidate, fit: Sequence[Candidate]) -> float | None:
    """Return how many times as long the next best takes: another backend or device, else other threads."""
    others = [one for one in fit if one is not best]
    elsewhere = [
        one for one in others if (one.given, one.backend, one.device) != (best.given, best.backend, best.device)
    ]
    return min(map(_p50, elsewhere or others), default=math.nan) / _p50(best) if others else None


def _result(one: Candidate, winner: Candidate, fastest: Candidate, contest: Contest) -> TuningResult:
    place = (one.given.name, one.backend, one.device, one.threads)
    if one.failure:
        return TuningResult(*place, *_UNKNOWN, one.failure["reason"], one.failure["remedy"])
    figures = summarize(np.concatenate(one.rounds) / 1e3)
    agrees = one.agreement.get("agrees")
    is_reference = one is contest.reference and agrees is not False  # a random one may disagree with itself
    reason, remedy = "the reference" if is_reference else _compared(one), ""
    if one is winner:
        reason = f"{'the fastest' if one is fastest else 'as fast as any, with fewer threads'}; {reason}"
    if agrees is False:
        reason = f"disagrees: {reason}"
        remedy = "" if contest.given else _GIVE_INPUTS
    took = (_p50(one), figures.get("p99"), _p50(one) / _p50(winner))
    apart = (one.agreement.get("top1"), one.agreement.get("of_range"))
    return TuningResult(*place, *took, agrees, *apart, reason, remedy)


def _compared(one: Candidate) -> str:
    """Say how the answers of a candidate compare with the reference's."""
    found = one.agreement
    if not found:
        return "nothing here to compare its answers with"
    if found["largest_difference"] == 0:
        return "equal answers"
    share = found["of_range"]
    apart = "answers differ" if share is None else f"answers differ by up to {_percent(share)} of an output's range"
    return apart if found["top1"] is None else f"top-1 is equal on {_percent(found['top1'])} of the inputs, {apart}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _missing(given: Given, rows: Sequence[Row]) -> TuningResult:
    """Return the result of a model that nothing here even tries."""
    row = next((row for row in rows if row.accepted or row.final), rows[0])
    told = row.candidate
    return TuningResult(given.name, told.backend, told.device, None, *_UNKNOWN, told.reason, told.remedy)


def _refusing(candidates: Sequence[Candidate], contest: Contest) -> Candidate | None:
    """Return a file's own engine that has failed on the inputs, where no other one is the reference."""
    if contest.reference is not None and contest.reference.is_own_engine:
        return None
    return next((one for one in candidates if one.is_own_engine and one.failure and one.cases), None)


def _store(every: Sequence[Given], fit: Sequence[Candidate]) -> str:
    """Keep the best candidate of each file; return "", or what could not be kept."""
    notes = []
    for given in every:
        mine = [one for one in fit if one.given is given]
        if not mine:
            continue
        best = _best(mine)
        threads = given.arguments.get("num_threads") or best.threads
        found = measurements.Measurement(
            best.backend,
            best.device,
            threads,
            best.row.version,
            datetime.date.today().isoformat(),
            _p50(best),
            _lead(best, mine),
            apart=best.agreement.get("of_range"),
        )
        if reason := measurements.keep(given.source, given.decide().options, found):
            notes.append(f"{given.name} is not stored: {reason}" if len(every) > 1 else f"it is not stored: {reason}")
    return "; ".join(notes)


def _line(winner: Candidate, load_arguments: Mapping[str, Any]) -> str:
    """Return the call of `load` that needs no measuring."""
    chosen = {"backend": winner.backend, "device": winner.device, "num_threads": winner.threads}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    others = {
        name: _quoted(value) if name in DEFAULTS else "..."  # of a backend's own options one may be a token
        for name, value in load_arguments.items()
        if name not in ("backend", *chosen) and value is not None
    }
    said = {name: _quoted(value) for name, value in chosen.items()} | others
    return f"accelerate.load({', '.join([_quoted(str(winner.given.source)), *(f'{k}={v}' for k, v in said.items())])})"


def _quoted(value: Any) -> str:
    """Return a value as it stands in a program, texts in double quotes."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    text = repr(value)
    plain = isinstance(value, str) and text[0] == "'" and '"' not in text
    return f'"{text[1:-1]}"' if plain else text
