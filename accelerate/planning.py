"""Decides which backend and device run a model, and keeps every reason. Never loads the model."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import fields

from .contract import Backend
from .errors import AccelerateError, ModelError, OptionError
from .names import suggestion
from .registry import BROKEN_REMEDY, availability
from .reports import Candidate, Device, LoadOptions, Plan
from .source import Source

__all__ = ["check_options", "make_plan"]


def make_plan(source: Source, options: LoadOptions, considered: Mapping[str, Backend]) -> Plan:
    """Ask each backend, in the order given, whether it can run `source` with `options` here."""
    rows = [_consider(backend, source, options) for backend in considered.values()]
    candidates = tuple(row for fit, row in rows if fit is _Fit.RUNS)
    # what lacks only its runtime or device is nearer than what is for other models
    skipped = tuple(row for wanted in (_Fit.ACCEPTS, _Fit.REFUSES) for fit, row in rows if fit is wanted)
    return Plan(candidates[0] if candidates else None, candidates, skipped)


class _Fit(enum.Enum):
    RUNS, ACCEPTS, REFUSES = range(3)


def _consider(backend: Backend, source: Source, options: LoadOptions) -> tuple[_Fit, Candidate]:
    name, device, fit = backend.name, options.device or "-", _Fit.REFUSES
    if unknown := sorted(set(options.backend_options) - set(backend.options)):
        reason = f"it has no option {unknown[0]!r}"
        return fit, Candidate(name, device, reason, f"leave {unknown[0]!r} out for this backend")
    try:
        backend = backend.configured(options)
        match = backend.match(source)
        if not match.accepts:  # asked first: it costs nothing, while availability may have to start a runtime
            return fit, Candidate(name, device, match.reason, match.remedy)
        fit = _Fit.ACCEPTS
        state = availability(backend)
        if not state.available:
            return fit, Candidate(name, device, state.reason, state.remedy)
        found = _choose_device(backend.devices(), options.device)
    except AccelerateError as error:
        return fit, Candidate(name, device, str(error), _remedy(error))
    except (Exception, SystemExit) as error:  # a stranger's code: its failure is an answer
        return fit, Candidate(name, device, f"it raised {type(error).__name__}: {error}", BROKEN_REMEDY)
    if isinstance(found, Device):
        if not found.ready:
            return fit, Candidate(name, found.id, found.reason, found.remedy)
        return _Fit.RUNS, Candidate(name, found.id, f"{match.reason}; {state.version} on {found.name}")
    return fit, Candidate(name, device, *found)


def _remedy(error: AccelerateError) -> str:
    if isinstance(error, ModelError):
        return "fetch the model again, or convert it again"
    return "correct this argument" if isinstance(error, OptionError) else "do what it says"


def _choose_device(devices: Sequence[Device], wanted: str | None) -> Device | tuple[str, str]:
    """Return the device to use, else (reason, remedy)."""
    if wanted is None:
        return next((d for d in devices if d.ready), devices[0] if devices else ("it finds no device", "connect one"))
    known = [d.id for d in devices if d.ready] or [d.id for d in devices]
    for device in devices:
        if wanted == device.id or wanted in device.aliases:
            return device
    return f"it has no device {wanted!r}{suggestion(wanted, known)}", f"its devices: {', '.join(known) or 'none'}"


def check_options(given: Mapping[str, object], considered: Mapping[str, Backend]) -> None:
    """Refuse an option that none of the backends knows.

    Raises
    ------
    OptionError
    """
    known = sorted({*_COMMON, *(name for b in considered.values() for name in b.options)})
    for name in given:
        if name not in known:
            raise OptionError(
                f"load() has no option {name!r}{suggestion(name, known)}; known for "
                f"{' or '.join(considered) or 'no backend at all'}: {', '.join(known)}"
            )


_COMMON = {"backend", *(f.name for f in fields(LoadOptions) if f.name != "backend_options")}
