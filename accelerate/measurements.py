"""What `tune` has found out about model files, kept in the cache folder; `planning` reads it.

One file of text for each model file, whose name is the model's inode, size and time of change, so that a load which
finds nothing has tried to open one file. It has one entry for each set of the arguments that decide how fast a model
runs. JSON would take 2 ms to import, which is all that a load may spend here.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from . import registry
from ._records import record
from .errors import AccelerateError, ModelError
from .reports import LoadOptions
from .source import Source, stamp_of
from .system.cache import folder, write
from .system.cpus import usable_cpus
from .system.files import read_bytes, read_text

__all__ = ["Measurement", "find", "forget", "in_threads", "judged", "keep", "stored"]

_HEADER = "edge-accelerate tuned 1"
_MOST_BYTES, _MOST_ENTRIES = 1 << 17, 100
_MOST_THREADS = 1024
_NAME = re.compile(r"[0-9a-f]+-[0-9a-f]+-[0-9a-f]+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_OPTIONS = re.compile(r"\boptions [0-9a-f]{64}\b")  # as `_arguments` writes them
#: Where a board says what it is, and where other machines name their processor.
_BOARD, _PROCESSOR = "/proc/device-tree/model", "/proc/cpuinfo"
_MOST_TOLD = 4096  # bytes of them: of many CPUs the first will do


@record(frozen=True)
class Measurement:
    """The winner of a comparison of all that can run a model file.

    Attributes
    ----------
    backend, device : str
    num_threads : int or None
        None for the backend's own number.
    version : str
        The runtime's, as `Availability` has it: another one may be faster or slower.
    date : str
        Of the measurement, such as "2026-11-27".
    p50_ms : float
        The median of a call's latency.
    lead : float or None
        How many times as long the next best takes; None where there was no other.
    path : str
        Where the model was; for people, since a file may move.
    machine, arguments : str
        On what, and for which arguments of `load`: with the file the key by which it is found.
    weights : str
        Inode, size, time and name of each other file in which the model keeps weights, one after the other.
    apart : float or None
        How far its answers were from the reference's, as a share of an output's range; None where nobody can say.
    """

    backend: str
    device: str
    num_threads: int | None
    version: str
    date: str
    p50_ms: float
    lead: float | None
    path: str = ""
    machine: str = ""
    arguments: str = ""
    weights: str = ""
    apart: float | None = None

    def __str__(self) -> str:
        threads = f" with {in_threads(self.num_threads)}" if self.num_threads else ""
        took = f"{self.p50_ms:.3g} ms" if self.p50_ms >= 0.1 else f"{1e3 * self.p50_ms:.3g} µs"
        return f"tuned on {self.date}: {took}{threads}{self._lead_in_words()}{self._apart_in_words()}"

    @property
    def has_options(self) -> bool:
        """Whether it is for options of the backend's own."""
        return bool(_OPTIONS.search(self.arguments))

    def _lead_in_words(self) -> str:
        if self.lead is None:
            return ""
        return ", as fast as the next" if self.lead < 1.05 else f", {self.lead:.2g} times as fast as the next"

    def _apart_in_words(self) -> str:
        return f", answers within {100 * self.apart:.2g} % of an output's range" if self.apart else ""


def in_threads(count: int) -> str:
    """Return a number of threads in words."""
    return f"{count} thread{'' if count == 1 else 's'}"


def find(source: Source, options: LoadOptions) -> Measurement | None:
    """Return what was measured for a model file and such arguments on this machine; None where nothing holds."""
    try:
        path = _path(source)
        if path is None or not (entries := _read(path)):
            return None
        arguments = _arguments(options)
        machine = _machine()
    except (OSError, RuntimeError):  # RuntimeError: a user without a home folder
        return None
    if arguments is None:
        return None
    for entry in entries:
        if entry.machine == machine and _are_alike(entry.arguments, arguments):
            return entry if _are_there(entry.weights, source.path) else None
    return None


def keep(source: Source, options: LoadOptions, measured: Measurement) -> str:
    """Store a measurement in the place of an earlier one; return "", or why that could not be done."""
    arguments = _arguments(options)
    try:
        path = _path(source)
        if path is None or source.path is None:
            return f"{source} is no file that a later load could be known by"
        if arguments is None:
            return "an option of the backend is an object, which a later load could not be known by"
        if not source.unchanged():
            return f"{source} was changed meanwhile"
        weights = _weights(source)
        where = os.path.abspath(source.path)
        entry = replace(measured, path=where, machine=_machine(), arguments=arguments, weights=weights)
        others = [
            one for one in _read(path) if one.machine != entry.machine or not _are_alike(one.arguments, arguments)
        ]
        write(path, _written([entry, *others[: _MOST_ENTRIES - 1]]))
    except (OSError, RuntimeError) as error:
        return f"the cache folder cannot be used: {error}"
    return ""


def stored() -> Iterator[tuple[Measurement, str]]:
    """Yield everything that is stored, each with "", or why it does not hold any more; no runtime is asked."""
    machine = _machine()
    for path in _files():
        for entry in _read(path):
            there = stamp_of(entry.path)
            if there is None:
                reason = "the file is gone"
            elif _name(there) != path.name or not _are_there(entry.weights, Path(entry.path)):
                reason = "the file has changed"
            elif entry.machine != machine:
                reason = f"measured on another machine: {entry.machine}"
            else:
                reason = ""
            yield entry, reason


def judged() -> Iterator[tuple[Measurement, str]]:
    """Yield everything that is stored, each with "", or why it does not hold any more; runtimes are asked."""
    for one, reason in stored():
        yield one, reason or _other_runtime(one)


def _other_runtime(one: Measurement) -> str:
    """Return "" where the runtime is here as it was, else what is different."""
    if one.has_options:  # which may name another runtime, and are not stored as they are
        return ""
    try:
        state = registry.find(one.backend).availability_for(Source(one.path), LoadOptions())
    except Exception as error:  # a backend, even a stranger's, may raise anything
        return error.reason if isinstance(error, AccelerateError) else f"{type(error).__name__}: {error}"
    return "" if state.version == one.version else f"measured with {one.version}; here is {state.version or 'none'}"


def forget(model: str | os.PathLike[str] | None = None) -> int:
    """Remove what is stored for a model file, for its path as well as for its content; of all models for None.

    Returns
    -------
    int
        How many entries there were.

    Raises
    ------
    OSError
    """
    where = None if model is None else os.path.abspath(model)
    there = None if where is None else stamp_of(where)
    removed = 0
    for path in _files():
        entries = _read(path)
        its_own = where is None or (there is not None and _name(there) == path.name)
        left = [] if its_own else [one for one in entries if one.path != where]
        removed += len(entries) - len(left)
        if its_own or (entries and not left):
            path.unlink(missing_ok=True)
        elif len(left) < len(entries):
            write(path, _written(left))
    return removed


# The key


def _path(source: Source) -> Path | None:
    return None if source.stamp is None else folder() / "tuned" / _name(source.stamp)


def _name(stamp: tuple[int, int, int]) -> str:
    return "-".join(f"{number & (1 << 64) - 1:x}" for number in stamp)


def _weights(source: Source) -> str:
    """Return the stamps and names of the other files of a model."""
    try:
        others = source.other_files()
    except ModelError:
        return ""
    return "\n".join(f"{_name(stamp_of(path) or (0, 0, 0))} {name}" for name, path in sorted(others.items()))


def _are_there(weights: str, model: Path | None) -> bool:
    """Return whether the other files of a model are as they were."""
    if not weights or model is None:
        return not weights
    for line in weights.split("\n"):
        name, _, file = line.partition(" ")
        there = stamp_of(os.path.join(model.parent, file))
        if there is None or _name(there) != name:
            return False
    return True


def _machine() -> str:
    """Return what a measurement depends on beside the model: the board or the processor, and the CPUs to be used."""
    import platform

    board = read_text(_BOARD, _MOST_TOLD)
    model = None if board else re.search(r"^model name\s*:\s*(.*)$", read_text(_PROCESSOR, _MOST_TOLD), re.M)
    return f"{board or (model and model[1]) or platform.machine()}, {usable_cpus()} CPUs"


def _arguments(options: LoadOptions) -> str | None:
    """Return those arguments of `load` on which it depends how fast a model runs; None where they are no values.

    Which are the model's names, labels, conversions and wrappers makes no difference.
    """
    said = {"device": options.asked, "threads": options.num_threads, "signature": options.signature}
    parts = [f"{name} {value!a}" for name, value in said.items() if value is not None]
    if options.backend_options:
        text = _canonical(options.backend_options)
        if text is None:
            return None
        from hashlib import sha256  # there may be a token among them

        parts.append(f"options {sha256(text.encode(errors='surrogateescape')).hexdigest()}")
    if isinstance(options.shapes, Mapping):
        parts += [f"shape {shape!a} of {name!a}" for name, shape in sorted(options.shapes.items())]
    elif options.shapes:
        parts.append(f"shape {options.shapes!a}")
    return "; ".join(parts)


def _are_alike(one: str, other: str) -> bool:
    """Return whether arguments are the same: a shape without a name is that of the only input, whatever its name."""
    return one == other or one.startswith(f"{other} of ") or other.startswith(f"{one} of ")


def _canonical(value: Any) -> str | None:
    """Return a text that is the same for equal values; None for an object that is none."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return repr(value)
    if isinstance(value, Mapping):
        parts = [_canonical((key, one)) for key, one in sorted(value.items(), key=lambda item: str(item[0]))]
    elif isinstance(value, (list, tuple)):
        parts = [_canonical(one) for one in value]
    else:
        return None
    return None if None in parts else f"({', '.join(filter(None, parts))})"


# The files


def _files() -> list[Path]:
    with contextlib.suppress(OSError, RuntimeError):
        return sorted(path for path in (folder() / "tuned").iterdir() if _NAME.fullmatch(path.name))
    return []


def _written(entries: Sequence[Measurement]) -> bytes:
    """Return the text of a file: a line for each field, an empty one between two entries."""
    blocks = [[f"{name}={_escaped(value)}" for name, value in vars(entry).items() if value is not None]
              for entry in entries]  # fmt: skip
    return "\n\n".join((_HEADER, *("\n".join(block) for block in blocks))).encode("utf-8", "surrogateescape")


def _escaped(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    known = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
    return re.sub(r"\\.", lambda found: known.get(found[0], found[0]), text)


def _read(path: Path) -> list[Measurement]:
    """Return the entries of a file; none where there is none, and of what is damaged, or of another form, nothing."""
    header, *blocks = read_bytes(path, _MOST_BYTES).decode("utf-8", "surrogateescape").split("\n\n")
    if header != _HEADER:
        return []
    return [entry for block in blocks[:_MOST_ENTRIES] if (entry := _parsed(block)) is not None]


def _parsed(block: str) -> Measurement | None:
    given = {name: _unescaped(value) for name, _, value in (line.partition("=") for line in block.split("\n"))}
    if not given.keys() <= _FIELDS:
        return None
    try:
        threads, lead, apart = (given.get(name) for name in ("num_threads", "lead", "apart"))
        numbers = {
            "num_threads": None if threads is None else int(threads),
            "p50_ms": float(given["p50_ms"]),
            "lead": None if lead is None else float(lead),
            "apart": None if apart is None else float(apart),
        }
        found = Measurement(**{**given, **numbers})  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return None
    return found if _is_sound(found) else None


def _is_sound(found: Measurement) -> bool:
    return (
        all(text.isprintable() and len(text) < 500 for text in (found.backend, found.device, found.version))
        and _DATE.fullmatch(found.date) is not None
        and (found.num_threads is None or 0 < found.num_threads <= _MOST_THREADS)
        and all(number is None or (number > 0 and math.isfinite(number)) for number in (found.p50_ms, found.lead))
        and (found.apart is None or (found.apart >= 0 and math.isfinite(found.apart)))
    )


_FIELDS = frozenset(field.name for field in fields(Measurement))
