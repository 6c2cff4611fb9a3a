"""Finds the backends that are installed, the built-in ones exactly like a stranger's.

A distribution declares ``name = "module:Class"`` in the entry-point group ``accelerate.backends``. The declarations are
read from the ``entry_points.txt`` files on `sys.path` directly: `importlib.metadata` says the same, but importing it
costs over 30 ms, more than everything else that loading a model adds.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ._records import record
from .contract import Backend
from .errors import BackendNotAvailableError
from .names import suggestion
from .reports import Availability, BackendInfo

__all__ = ["BROKEN_REMEDY", "availability", "backends", "find", "info"]

GROUP = "accelerate.backends"
_log = logging.getLogger("accelerate")


@record(frozen=True)
class _Broken:
    """A plugin that could not be imported."""

    target: str
    error: BaseException


_loaded: dict[str, tuple[str, Backend | _Broken]] = {}  # name -> (target, what it gave)
_read: tuple[object, dict[str, str]] = (None, {})  # (the state of sys.path, what it declares)


def backends() -> Mapping[str, Backend]:
    """Return the backends whose module could be imported, those with a higher priority first."""
    found = [(name, entry) for name, entry in _all().items() if isinstance(entry, Backend)]
    found.sort(key=lambda pair: (-pair[1].priority, pair[0]))
    return MappingProxyType(dict(found))


def find(name: str) -> Backend:
    """Return the backend with this name.

    Raises
    ------
    BackendNotAvailableError
        When no such backend is installed, or its module failed to import.
    """
    declared = _declared()
    if name not in declared:
        raise BackendNotAvailableError(
            f"there is no backend {name!r}{suggestion(name, declared)}; "
            f"installed: {', '.join(sorted(declared)) or 'none'}. "
            "A backend of another distribution appears once that is installed in this environment"
        )
    entry = _load(name, declared[name])
    if isinstance(entry, _Broken):
        raise BackendNotAvailableError(_broken_reason(entry)) from entry.error
    return entry


def info() -> Mapping[str, BackendInfo]:
    """Describe every declared backend, the broken ones too."""
    rows = {}
    for name, entry in sorted(_all().items()):
        if isinstance(entry, _Broken):
            rows[name] = BackendInfo(name, "", False, "", _broken_reason(entry), BROKEN_REMEDY)
        else:
            a = availability(entry)
            rows[name] = BackendInfo(name, entry.description, a.available, a.version, a.reason, a.remedy)
    return MappingProxyType(rows)


def availability(backend: Backend) -> Availability:
    """Ask a backend whether it can build a model; one that raises cannot."""
    try:
        state = backend.availability()
        if not isinstance(state, Availability):
            raise TypeError(f"it returned {state!r:.60}, not an Availability")  # noqa: TRY301
        return state
    except (Exception, SystemExit) as error:  # a stranger's code: its failure is an answer
        return Availability(False, reason=f"availability() raised {_describe(error)}", remedy=BROKEN_REMEDY)


#: What helps against a backend whose own code fails.
BROKEN_REMEDY = "update or uninstall the distribution that declares it"


def _broken_reason(entry: _Broken) -> str:
    return f"importing {entry.target} raised {_describe(entry.error)}"


def _describe(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _all() -> dict[str, Backend | _Broken]:
    return {name: _load(name, target) for name, target in _declared().items()}


def _load(name: str, target: str) -> Backend | _Broken:
    if name not in _loaded or _loaded[name][0] != target:
        _loaded[name] = (target, _import(name, target))
    return _loaded[name][1]


def _import(name: str, target: str) -> Backend | _Broken:
    try:
        module, _, attribute = target.partition(":")
        entry: object = importlib.import_module(module)
        for part in attribute.split("."):
            entry = getattr(entry, part)
        if not (isinstance(entry, type) and issubclass(entry, Backend)):
            raise TypeError(f"{target} is {entry!r}, not a subclass of accelerate.Backend")  # noqa: TRY301
        if getattr(entry, "name", None) != name:
            raise TypeError(f"{target} calls itself {getattr(entry, 'name', None)!r}, declared as {name!r}")  # noqa: TRY301
        for attribute, kind in (
            ("description", str),
            ("extra", str),
            ("options", tuple),
            ("priority", int),
            ("commands", Mapping),
        ):
            if not isinstance(getattr(entry, attribute, None), kind):
                raise TypeError(f"{target}.{attribute} is missing or no {kind.__name__}")  # noqa: TRY301
        return entry()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit included: a plugin never ends the program
        _log.warning("backend %r is unavailable: importing %s raised %s", name, target, _describe(error))
        return _Broken(target, error)


def _declared() -> dict[str, str]:
    """Return name -> "module:Class" for every declaration on `sys.path`, read again when that has changed."""
    global _read
    state = [(folder, _changed(folder)) for folder in sys.path]
    if _read[0] != state:
        _read = (state, _read_declarations())
    return _read[1]


def _changed(folder: str) -> int:
    """Return when something was last installed into a folder, or removed from it."""
    try:
        return os.stat(folder or os.curdir).st_mtime_ns
    except OSError:
        return 0


def _read_declarations() -> dict[str, str]:
    """Return name -> "module:Class" for every declaration; the first one on the path wins."""
    declared: dict[str, str] = {}
    distributions: set[str] = set()
    for folder in dict.fromkeys(sys.path):
        for distribution, path in _entry_point_files(folder or os.curdir):
            if distribution in distributions:  # an earlier entry of sys.path shadows this copy
                continue
            distributions.add(distribution)
            for name, target in _parse(path):
                if declared.setdefault(name, target) != target:
                    _log.warning("backend %r is declared twice: %s is used, %s is not", name, declared[name], target)
    return declared


def _entry_point_files(folder: str) -> Iterator[tuple[str, str]]:
    """Yield (distribution, path of its entry_points.txt) for the distributions installed in a folder."""
    try:
        names = os.listdir(folder)
    except OSError:  # a zip file, or an entry that does not exist
        return
    for name in sorted(names):
        stem, dot, suffix = name.rpartition(".")
        if dot and suffix in ("dist-info", "egg-info"):
            distribution = stem.partition("-")[0].lower().replace("_", "-").replace(".", "-")
            yield distribution, os.path.join(folder, name, "entry_points.txt")


def _parse(path: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of our group (https://packaging.python.org/specifications/entry-points)."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        lines = content.decode().splitlines() if GROUP.encode() in content else ()
    except (OSError, UnicodeDecodeError):
        return
    group = ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group == GROUP and "=" in line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            yield name.strip(), target.partition("[")[0].strip()
