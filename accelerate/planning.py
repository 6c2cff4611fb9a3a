"""Decides which backend and device run a model, and keeps every reason. Never loads the model.

`decide` yields one row after the other, the preferred ones first. `plan` shows them all; `load` takes the first that
loads, so that no runtime is started which it can do without.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from . import environment, measurements, registry
from ._records import record
from .calls.names import rename, suggestion
from .calls.normalization import normalization_by_name
from .calls.shapes import settle
from .contract import Backend
from .errors import (
    AccelerateError,
    BackendNotAvailableError,
    DeviceNotFoundError,
    ModelError,
    OptionError,
    UnsupportedModelError,
)
from .reports import KINDS, Availability, Candidate, Device, LoadOptions, Match, Plan
from .source import Source
from .system.cpus import default_threads

__all__ = ["Row", "decide", "summarize"]

_log = logging.getLogger("accelerate")


@record(frozen=True)
class Row:
    """One line of a plan.

    Attributes
    ----------
    backend : Backend
    candidate : Candidate
    error : AccelerateError or None
        What `load` raises of it; None where it can run the model. Its reason and remedy are the candidate's.
    accepted : bool
        The backend takes the source: only its runtime or device is missing.
    final : bool
        No other backend would help: a damaged file of its own format, or a wrong option.
    num_threads : int or None
        What `tune` found best; None for what the options say.
    tuned : str
        When `tune` measured it; "" where it did not.
    version : str
        Of the runtime, where there is one.
    """

    backend: Backend
    candidate: Candidate
    error: AccelerateError | None = None
    accepted: bool = False
    final: bool = False
    num_threads: int | None = None
    tuned: str = ""
    version: str = ""


def decide(source: Source, options: LoadOptions, backends: Sequence[Backend], *, ranked: bool) -> Iterator[Row]:
    """Yield every backend and device that was considered, as late as possible.

    Parameters
    ----------
    source : Source
    options : LoadOptions
    backends : sequence of Backend
    ranked : bool
        First what `tune` has found here for this model, then by kind of device, and within a kind the file's own engine
        first; else the order given is kept.
    """
    tuned = _tuned(source, options, backends) if ranked and environment.tuned() else None
    if tuned is not None:
        yield tuned
    for row in _in_order(source, options, backends, ranked=ranked):
        if tuned is None or row.error is not None or not _same_place(row, tuned):
            yield row


def _in_order(source: Source, options: LoadOptions, backends: Sequence[Backend], *, ranked: bool) -> Iterator[Row]:
    contenders = [_Contender(backend, order, source, options) for order, backend in enumerate(backends)]
    turns = [(one.rank(kind, ranked=ranked), one, kind) for one in contenders for kind in one.kinds()]
    for _, contender, kind in sorted(turns, key=lambda turn: turn[0]):
        if contender.accepts():
            yield from contender.rows(kind)
    for contender in contenders:  # what it did not expect to have here, or why there is nothing
        if contender.accepts():
            yield from contender.rows(None)
    yield from (contender.refused for contender in contenders if contender.refused is not None)


def _tuned(source: Source, options: LoadOptions, backends: Sequence[Backend]) -> Row | None:
    """Return the row of what `tune` has found best, if its runtime and its device are here as they were."""
    found = measurements.find(source, options)
    backend = None if found is None else next((one for one in backends if one.name == found.backend), None)
    if found is None or backend is None:
        return None
    threads = options.num_threads or found.num_threads
    if threads is not None and options.replicas > 1:  # measured was one model, with the CPUs to itself
        threads = min(threads, default_threads(options))  # what the user says stays
    contender = _Contender(backend, 0, source, replace(options, device=found.device, num_threads=threads))
    contender.kinds()
    rows = list(contender.rows(None)) if contender.accepts() else []
    for row in rows:
        if row.error is None and row.candidate.device == found.device and row.version == found.version:
            candidate = replace(row.candidate, reason=f"{found}; {row.candidate.reason}")
            return replace(row, candidate=candidate, num_threads=threads, tuned=found.date)
    _log.info(
        "what tune found best for %s on %s does not hold: %s, %s on %s is not here as it was",
        source, found.date, found.version, found.backend, found.device,
    )  # fmt: skip
    return None


def _same_place(row: Row, other: Row) -> bool:
    return (row.candidate.backend, row.candidate.device) == (other.candidate.backend, other.candidate.device)


def summarize(rows: Sequence[Row]) -> Plan:
    """Make a plan of all rows."""
    candidates = tuple(row.candidate for row in rows if row.error is None)
    # what lacks only its runtime or device is nearer than what is for other models
    skipped = [row for accepted in (True, False) for row in rows if row.error is not None and row.accepted is accepted]
    return Plan(candidates[0] if candidates else None, candidates, tuple(row.candidate for row in skipped))


class _Contender:
    """A backend that is asked about a model: at first what needs no runtime, its devices once it is their turn."""

    def __init__(self, backend: Backend, order: int, source: Source, options: LoadOptions) -> None:
        self.backend = backend
        self.order = order
        self.source = source
        self.options = options
        self.match: Match | None = None  # None until it was asked for
        self.refused: Row | None = None
        self.waiting: list[tuple[str, Row]] | None = None  # its devices by kind; None until they were asked for

    def kinds(self) -> Sequence[str]:
        """Return the kinds of device that it may have here; none where it cannot be asked."""
        name, options = self.backend.name, self.options
        if unknown := sorted(set(options.backend_options) - set(self.backend.options)):
            reason = f"{name} has no option {unknown[0]!r}{suggestion(unknown[0], self.backend.options)}"
            self.refused = self._refused(OptionError(reason, f"leave {unknown[0]!r} out for this backend"))
            return ()
        try:
            kinds = tuple(self.backend.kinds())
            if unknown := [kind for kind in kinds if kind not in KINDS]:
                raise TypeError(f"kinds() returned {unknown[0]!r:.60}; wanted some of {', '.join(KINDS)}")  # noqa: TRY301
        except (Exception, SystemExit) as error:
            self.refused = self._refused(registry.failure(self.backend, error))
            return ()
        return kinds

    def accepts(self) -> bool:
        """Ask what needs no runtime, once."""
        if self.match is None and self.refused is None:
            self.refused = self._match()
        return self.refused is None

    def _match(self) -> Row | None:
        try:
            match = registry.checked(self.backend.match(self.source, self.options), Match, "match")
            if not match.accepts:
                kind = ModelError if self.source.format in ("", "directory") else UnsupportedModelError
                return self._refused(kind(match.reason, match.remedy))
            _check_names(self.backend, self.source, self.options)
        except (Exception, SystemExit) as error:
            refusal = registry.failure(self.backend, error)
            return self._refused(refusal, final=isinstance(refusal, (OptionError, ModelError)))
        self.match = match
        return None

    def rank(self, kind: str, *, ranked: bool) -> tuple[int, ...]:
        """Return where a kind of device stands among all, the smallest first."""
        wanted = self.options.device not in KINDS or kind == self.options.device
        # a server that the user has named stands behind the GPUs here
        named = kind == "server" and self.accepts() and self.match is not None and self.match.named
        standing = (KINDS.index("gpu" if named else kind), named)
        own = self.source.format in self.backend.formats
        return (not wanted, *standing, not own, self.order) if ranked else (not wanted, self.order, *standing)

    def rows(self, kind: str | None) -> Iterator[Row]:
        """Yield the rows of the devices of a kind; None yields those that are left."""
        if self.waiting is None:
            self.waiting = list(self._ask())
        devices, self.waiting = self.waiting, []
        for its_kind, row in devices:
            if kind is None or row.error is not None or its_kind == kind:
                yield row
            else:
                self.waiting.append((its_kind, row))

    def _ask(self) -> Iterator[tuple[str, Row]]:
        options, match = self.options, self.match
        assert match is not None, "it is asked once it has accepted"
        try:
            answer = self.backend.availability_for(self.source, options)
            state = registry.checked(answer, Availability, "availability")
            if not state.available:
                yield "", self._refused(BackendNotAvailableError(state.reason, state.remedy), accepted=True)
                return
            devices = registry.devices(self.backend, options, self.source)
        except (Exception, SystemExit) as error:
            yield "", self._refused(registry.failure(self.backend, error), accepted=True)
            return
        # what tune has stored is a device that the user wants, too, or it is damaged
        fitting = [one for one in devices if _is_wanted(one, options.device) and _is_wanted(one, options.asked)]
        if not fitting:
            yield "", self._refused(_no_device(self.backend, devices, options.device), accepted=True)
        for device in fitting:
            if device.ready:
                reason = f"{match.reason}; {state.version} on {device.name}"
                candidate = Candidate(self.backend.name, device.id, reason, kind=device.kind)
                row = Row(self.backend, candidate, accepted=True, version=state.version)
            else:
                refusal = DeviceNotFoundError(device.reason, device.remedy)
                row = self._refused(refusal, device=device.id, accepted=True)
            yield device.kind, row

    def _refused(self, error: AccelerateError, *, device: str = "", accepted: bool = False, final: bool = False) -> Row:
        where = device or self.options.device or "-"
        if accepted and self.match is not None and self.match.remedy:
            error = error.with_remedy("; ".join(filter(None, (error.remedy, self.match.remedy))))
        candidate = Candidate(self.backend.name, where, error.reason, error.remedy)
        return Row(self.backend, candidate, error, accepted, final)


def _check_names(backend: Backend, source: Source, options: LoadOptions) -> None:
    """Refuse a signature, names and shapes that the file does not have, where the file is read here.

    A file of a format that the core does not know, and an existing object, are read by the backend whose own they are.
    """
    by_name = options.tensor_names or options.shapes or isinstance(options.normalization, Mapping)
    if options.signature is None and not by_name:
        return
    from .formats.description import interface_of

    interface = interface_of(source, options.signature) or backend.describe(source, options.signature)
    if interface is not None:
        inputs, _ = rename(interface.inputs, interface.outputs, options.tensor_names)
        settle(inputs, options.shapes)
        normalization_by_name(options.normalization, inputs)


def _is_wanted(device: Device, wanted: str | None) -> bool:
    return wanted is None or wanted in (device.id, device.kind, *device.aliases)


def _no_device(backend: Backend, devices: Sequence[Device], wanted: str | None) -> DeviceNotFoundError:
    if wanted is None:
        return DeviceNotFoundError(f"{backend.name} finds no device", "connect one")
    known = [device.id for device in devices]
    what = f"device of the kind {wanted!r}" if wanted in KINDS else f"device {wanted!r}{suggestion(wanted, known)}"
    remedy = f"take one of its devices: {', '.join(known)}" if known else "connect one"
    return DeviceNotFoundError(f"{backend.name} has no {what}", remedy)
