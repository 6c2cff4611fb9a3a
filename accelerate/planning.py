"""Decides which backend and device run a model, and keeps every reason. Never loads the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from ._records import record
from .contract import Backend, Device, LoadOptions
from .errors import AccelerateError, OptionError
from .names import suggestion
from .registry import availability
from .source import Source

__all__ = ["Candidate", "Plan", "check_options", "make_plan"]


@record(frozen=True)
class Candidate:
    """A backend and device that were considered.

    Attributes
    ----------
    backend, device : str
    reason : str
        Why it can run the model, or why not.
    remedy : str
        What would change that; "" where it can.
    """

    backend: str
    device: str
    reason: str
    remedy: str = ""


@record(frozen=True)
class Plan:
    """What `load` would do, and why.

    Attributes
    ----------
    chosen : Candidate or None
        The first of `candidates`.
    candidates : tuple of Candidate
        Everything that can run the model here, preferred first.
    skipped : tuple of Candidate
        Everything that cannot, each with its reason and remedy.
    """

    chosen: Candidate | None
    candidates: tuple[Candidate, ...]
    skipped: tuple[Candidate, ...]

    def __str__(self) -> str:
        rows = [("", "backend", "device", "why")]
        rows += [("->" if c is self.chosen else "ok", c.backend, c.device, c.reason) for c in self.candidates]
        for c in self.skipped:
            rows.append(("no", c.backend, c.device, c.reason))
            if c.remedy:  # on a line of its own: a terminal is 80 columns wide
                rows.append(("", "", "", f"remedy: {c.remedy}"))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join((*map(str.ljust, row, widths), row[3])) for row in rows]
        return "\n".join(line.rstrip() for line in lines)


def make_plan(source: Source, options: LoadOptions, considered: Mapping[str, Backend]) -> Plan:
    """Ask each backend, in the order given, whether it can run `source` with `options` here."""
    candidates: list[Candidate] = []
    skipped: list[Candidate] = []
    for backend in considered.values():
        runs, row = _consider(backend, source, options)
        (candidates if runs else skipped).append(row)
    return Plan(candidates[0] if candidates else None, tuple(candidates), tuple(skipped))


def _consider(backend: Backend, source: Source, options: LoadOptions) -> tuple[bool, Candidate]:
    device = options.device or "-"
    if unknown := sorted(set(options.backend_options) - set(backend.options)):
        reason = f"it has no option {unknown[0]!r}"
        return False, Candidate(backend.name, device, reason, f"leave {unknown[0]!r} out for this backend")
    try:
        backend = backend.configured(options.backend_options)
        match = backend.match(source)
        if not match.accepts:  # asked first: it costs nothing, while availability may have to start a runtime
            return False, Candidate(backend.name, device, match.reason, match.remedy)
        state = availability(backend)
        if not state.available:
            return False, Candidate(backend.name, device, state.reason, state.remedy)
        found = _choose_device(backend.devices(), options.device)
    except AccelerateError as error:
        return False, Candidate(backend.name, device, str(error))
    except (Exception, SystemExit) as error:  # a stranger's code: its failure is an answer
        return False, Candidate(backend.name, device, f"it raised {type(error).__name__}: {error}", "")
    if isinstance(found, Device):
        if not found.ready:
            return False, Candidate(backend.name, found.id, found.reason, found.remedy)
        return True, Candidate(backend.name, found.id, f"{match.reason}; {state.version} on {found.name}")
    return False, Candidate(backend.name, device, *found)


def _choose_device(devices: Sequence[Device], wanted: str | None) -> Device | tuple[str, str]:
    """Return the device to use, else (reason, remedy)."""
    if wanted is None:
        return next((d for d in devices if d.ready), devices[0] if devices else ("it finds no device", "connect one"))
    known = [d.id for d in devices]
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
