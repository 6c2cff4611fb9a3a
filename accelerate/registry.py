"""Finds the backends that are installed, the built-in ones exactly like a stranger's.

A distribution declares ``name = "module:Class"`` in the entry-point group ``accelerate.backends``. The declarations are
read from the ``entry_points.txt`` files in the folders of `sys.path` directly: `importlib.metadata` says the same, but
importing it costs over 30 ms, more than everything else that loading a model adds. It is asked only where no folder
can be read: about a zip file on `sys.path`, and in a frozen program, whose importer knows where its parts are.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from ._records import record
from .calls.names import suggestion
from .contract import Backend
from .errors import AccelerateError, BackendNotAvailableError, ModelError, OptionError
from .reports import KINDS, Availability, BackendInfo, Device, LoadOptions
from .source import Source

if TYPE_CHECKING:
    from .diagnosis.facts import Conflict, Facts

__all__ = [
    "BROKEN_REMEDY",
    "availability",
    "backends",
    "check_environment",
    "checked",
    "conflicts",
    "devices",
    "failure",
    "find",
    "info",
    "recognize",
    "translated",
]

GROUP = "accelerate.backends"
_log = logging.getLogger("accelerate")
_Answer = TypeVar("_Answer")


@record(frozen=True)
class _Broken:
    """A plugin that could not be imported."""

    target: str
    error: BaseException


_loaded: dict[str, tuple[str, Backend | _Broken]] = {}  # name -> (target, what it gave)
_read: tuple[object, dict[str, str]] = (None, {})  # (the state of sys.path, what it declares)


def backends() -> Mapping[str, Backend]:
    """Return the backends whose module could be imported, by name."""
    return MappingProxyType({name: entry for name, entry in sorted(_all().items()) if isinstance(entry, Backend)})


def find(name: str) -> Backend:
    """Return the backend with this name.

    Raises
    ------
    BackendNotAvailableError
        When no such backend is installed, or its module failed to import.
    """
    declared = _declared()
    if name not in declared:
        meant = suggestion(name, declared)
        reason = f"there is no backend {name!r}{meant}; installed: {', '.join(sorted(declared)) or 'none'}"
        raise BackendNotAvailableError(reason, "" if meant else _MISSING[_frozen()])
    entry = _load(name, declared[name])
    if isinstance(entry, _Broken):
        raise BackendNotAvailableError(_broken_reason(entry), BROKEN_REMEDY) from entry.error
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
        return checked(backend.availability(), Availability, "availability")
    except (Exception, SystemExit) as error:
        refused = failure(backend, error)
        return Availability(False, reason=refused.reason, remedy=refused.remedy)


def conflicts(backend: Backend, facts: Facts) -> list[Conflict]:
    """Ask a backend what does not fit together on a machine; that its own code fails is an answer, too."""
    from .diagnosis.facts import Conflict

    try:
        return [checked(each, Conflict, "conflicts") for each in backend.conflicts(facts)]
    except (Exception, SystemExit) as error:
        refused = failure(backend, error)
        return [Conflict(refused.reason, refused.remedy)]


def devices(backend: Backend, options: LoadOptions, source: Source | None = None) -> list[Device]:
    """Ask an available backend for its devices; what it raises is for `failure`."""
    listed = backend.devices(options) if source is None else backend.devices_for(source, options)
    found = [checked(device, Device, "devices") for device in listed]
    if unknown := [device.kind for device in found if device.kind not in KINDS]:
        raise TypeError(f"devices() returned one of the kind {unknown[0]!r:.60}; wanted one of {', '.join(KINDS)}")
    return found


def checked(answer: object, kind: type[_Answer], hook: str) -> _Answer:
    """Return what a backend has answered, once others can print, join and compare it; TypeError for nonsense."""
    if not isinstance(answer, kind):
        raise TypeError(f"{hook}() returned {answer!r:.60}, not of the class {kind.__name__}")
    for name, field in getattr(kind, "__dataclass_fields__", {}).items():
        value = getattr(answer, name)
        plain: Any = {"str": str, "bool": bool}.get(field.type, object)
        wanted = tuple if field.type.endswith(", ...]") else plain
        parts = value if field.type == "tuple[str, ...]" and isinstance(value, tuple) else ()
        if not isinstance(value, wanted) or not all(isinstance(part, str) for part in parts):
            raise TypeError(f"{hook}() returned {kind.__name__}({name}={value!r:.60}); wanted {field.type}")
    return answer


def check_environment(backend: Backend) -> None:
    """Let a backend refuse wrong values of the variables that it reads; it is a stranger's, and may fail in it.

    Raises
    ------
    OptionError
    """
    try:
        backend.check_environment()
    except OptionError:
        raise
    except (Exception, SystemExit) as error:
        _log.warning("backend %r raised in check_environment(): %s", backend.name, _in_words(error))


def failure(backend: Backend, error: BaseException) -> AccelerateError:
    """Return our error for what a backend has raised: the failure of a stranger's code is an answer."""
    if isinstance(error, AccelerateError) and error.reason:
        return error
    _log.debug("%s raised", backend.name, exc_info=error)  # its author wants to see where
    wrapped = BackendNotAvailableError(f"{backend.name} raised {_in_words(error)}", BROKEN_REMEDY)
    wrapped.__cause__ = error
    return wrapped


def translated(backend: Backend, error: BaseException, source: Source) -> AccelerateError:
    """Ask a backend what its runtime's exception means; one that cannot tell is broken."""
    if isinstance(error, Exception):
        with contextlib.suppress(Exception):
            return checked(backend.translate(error, source), AccelerateError, "translate")
    return failure(backend, error)


#: What helps against a backend whose own code fails.
BROKEN_REMEDY = "update or uninstall the distribution that declares it"
#: What helps where there is none; True is for a program that is frozen.
_MISSING = {
    False: "install the distribution that has it into this environment",
    True: "freeze the program with the metadata (*.dist-info) of the distributions whose backends it uses",
}


def _broken_reason(entry: _Broken) -> str:
    return f"importing {entry.target} raised {_in_words(entry.error)}"


def recognize(source: Source) -> Source:
    """Ask the backends about a file of a format that the core does not know."""
    if source.format == "" and source.head:
        for name, backend in backends().items():
            try:
                kind = backend.sniff(source.head)
                if kind:
                    source.format, source.likeness, source.remedy = kind, backend.formats[kind], ""
                    break
            except (Exception, SystemExit) as error:  # a stranger's code
                _log.warning("backend %r cannot tell a file's format: sniff() raised %s", name, _in_words(error))
    if source.format == "" and source.head.startswith(b"PK"):
        _look_into(source)
    return source


def _look_into(source: Source) -> None:
    """Name the models in a zip archive; one that cannot be listed stays a zip archive."""
    from .formats.likeness import of_archive
    from .formats.tflite.packed import PackedFiles

    with contextlib.suppress(ModelError), source.kept_open():
        source.likeness, source.remedy = of_archive(PackedFiles(source.buffer(), str(source)).names)


def _in_words(error: BaseException) -> str:
    """Return an exception's class and text."""
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
        _check(entry, target)
        return entry()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit included: a plugin never ends the program
        _log.warning("backend %r is unavailable: importing %s raised %s", name, target, _in_words(error))
        return _Broken(target, error)


def _check(kind: type[Backend], target: str) -> None:
    """Refuse a class that says nonsense about itself, which others print, join and look up."""
    for attribute, (wanted, in_words) in _SAID.items():
        value: Any = getattr(kind, attribute, None)
        parts = (*value, *value.values()) if isinstance(value, Mapping) else value
        if not isinstance(value, wanted) or not all(isinstance(part, str) for part in parts):
            raise TypeError(f"{target}.{attribute} is {value!r:.60}; wanted {in_words}")


_SAID: dict[str, tuple[type, str]] = {
    "description": (str, "a str"),
    "extra": (str, "a str"),
    "options": (tuple, "a tuple of str"),
    "formats": (Mapping, "a mapping of str to str"),
    "commands": (Mapping, "a mapping of str to str"),
    "variables": (tuple, "a tuple of str"),
}


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
    for distribution, text in _entry_points():
        if distribution in distributions:  # an earlier entry of sys.path shadows this copy
            continue
        distributions.add(distribution)
        for name, target in _parse(text):
            if declared.setdefault(name, target) != target:
                _tell_declared_twice(name, declared[name], target)
    return declared


@functools.cache  # once, however often the declarations are read again
def _tell_declared_twice(name: str, used: str, unused: str) -> None:
    _log.warning("backend %r is declared twice: %s is used, %s is not", name, used, unused)


def _frozen() -> bool:
    return bool(getattr(sys, "frozen", False))  # PyInstaller, cx_Freeze, py2exe, Nuitka, PyOxidizer


def _entry_points() -> Iterator[tuple[str, str]]:
    """Yield (distribution, text of its entry_points.txt) for the distributions on `sys.path`, in its order."""
    if _frozen():
        yield from _asked_of_importers()
        return
    for folder in dict.fromkeys(sys.path):
        try:
            names = sorted(os.listdir(folder or os.curdir))
        except NotADirectoryError:  # a zip file
            yield from _asked_of_importers(path=[folder])
            continue
        except OSError:  # an entry that does not exist, or is not ours to read
            continue
        for name in names:
            stem, dot, suffix = name.rpartition(".")
            if dot and suffix in ("dist-info", "egg-info"):
                yield _normalized(stem.partition("-")[0]), _read_text(os.path.join(folder, name, "entry_points.txt"))


def _asked_of_importers(**where: Any) -> Iterator[tuple[str, str]]:
    from importlib.metadata import distributions

    for distribution in distributions(**where):
        with contextlib.suppress(Exception):  # a stranger's importer, or a damaged archive: it has no backends
            yield _normalized(distribution.metadata["Name"]), distribution.read_text("entry_points.txt") or ""


def _normalized(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _read_text(path: str) -> str:
    """Return the text of a file, "" where it has nothing of our group."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        return content.decode() if GROUP.encode() in content else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _parse(text: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of our group (https://packaging.python.org/specifications/entry-points)."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group == GROUP and "=" in line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            yield name.strip(), target.partition("[")[0].strip()
