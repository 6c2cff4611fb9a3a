"""What is to be measured: every model on every backend and device here, and a row for each that cannot."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

from .. import registry
from ..api import list_devices, load, plan
from ..contract import Backend
from ..model import Model
from ..reports import LoadOptions
from ..source import Source
from .machine import peak_memory_mb, reset_peak_memory, resident_mb

__all__ = ["Subject", "by_fitness_as_reference", "distinguish", "find_subjects"]


@dataclass
class Subject:
    """One model on one device.

    Attributes
    ----------
    row : dict
        Its row of the report, filled as the run goes on.
    model : Model or None
        Once it is loaded; None again when it has failed.
    feeds : dict
        Its inputs, in the model's own dtypes, by name.
    rounds : list of numpy.ndarray
        Latencies in microseconds, of one round each.
    kept : list of numpy.ndarray
        Those of them that the report keeps.
    """

    row: dict[str, Any]
    model: Model | None = None
    feeds: dict[str, Any] = field(default_factory=dict)
    rounds: list[Any] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    _held: float | None = None

    @property
    def place(self) -> str:
        """Backend and device, such as "onnxruntime:cuda:0"."""
        return f"{self.row['backend']}:{self.row['device']}"

    def load(self, **more: Any) -> Model:
        """Load another copy."""
        row = self.row
        return load(row["path"], backend=row["backend"], device=row["device"], **more)

    def open(self) -> None:
        """Load the model, and note how long that took."""
        # a high-water mark that cannot be reset still shows the growth of the model that needs most
        reset_peak_memory()
        self._held = resident_mb()
        started = perf_counter_ns()
        self.model = self.load()
        self.row["load_ms"] = (perf_counter_ns() - started) / 1e6
        runtime = self.model.runtime
        self.row["runtime"] = {
            "name": runtime.name,
            "version": runtime.version,
            "device": runtime.device,
            "delegated": runtime.delegated,
            "total": runtime.total,
            "details": {key: _plain(value) for key, value in runtime.details.items()},
        }
        self.row["inputs"] = {t.name: f"{t.data_type}{list(t.shape)}" for t in self.model.metadata().inputs}

    def call_first(self) -> None:
        """Make the first call, which often pays for what later ones do not."""
        assert self.model is not None
        started = perf_counter_ns()
        self.model.infer(self.feeds)
        self.row["first_ms"] = (perf_counter_ns() - started) / 1e6
        peak = peak_memory_mb()
        if peak is not None and self._held is not None:
            self.row["memory_mb"] = max(0.0, peak - self._held)

    def fail(self, error: Exception) -> None:
        """Turn the row into that of a failure. The others go on."""
        text = " ".join(str(error).split())
        self.row.update(status="failed", reason=f"{type(error).__name__}: {text}")
        self.close()

    def close(self) -> None:
        """Close the model, if there is one."""
        model, self.model = self.model, None
        if model is not None:
            model.close()


def find_subjects(models: Iterable[str], backends: Sequence[str] = (), devices: Sequence[str] = ()) -> list[Subject]:
    """Ask every backend about every model.

    Parameters
    ----------
    models : iterable of str
        Files or URLs.
    backends, devices : sequence of str
        Which to consider; all where empty. What is named and not here is a row with its reason.

    Returns
    -------
    list of Subject
        Those that can run have the status "ok" and are not loaded yet.

    Raises
    ------
    AccelerateError
        A model cannot be read or is none, or no backend has that name.
    """
    names = distinguish([os.fspath(model) for model in models])
    found = [subject for path, name in names.items() for subject in _of_model(path, name, backends, devices)]
    unique = {(s.row["path"], s.place): s for s in found}
    return list(unique.values())


def distinguish(paths: Iterable[str]) -> dict[str, str]:
    """Return for each path as much of its end as no other one has in common with it: usually the file's name."""
    parts = {path: path.rstrip("/").split("/") for path in paths}

    def end(path: str, length: int) -> list[str]:
        return parts[path][-length:]

    names = {}
    for path, own in parts.items():
        others = [other for other in parts if parts[other] != own]
        lengths = range(1, len(own))
        length = next((n for n in lengths if all(end(path, n) != end(other, n) for other in others)), len(own))
        names[path] = "/".join(end(path, length))
    return names


def by_fitness_as_reference(subjects: Iterable[Subject]) -> list[Subject]:
    """Sort those first whose answers the others' are best judged by: on the CPU, of the backend that auto takes last.

    What auto takes before it is an accelerator, or the CPU of another machine.
    """
    return sorted(subjects, key=lambda s: (s.row["device"] != "cpu", bool(not registry.find(s.row["backend"]).formats)))


def _of_model(path: str, name: str, names: Sequence[str], devices: Sequence[str]) -> Iterator[Subject]:
    source = Source(path)
    common = {
        "model": name,
        "path": path,
        # a server's model has no file of which a digest could be taken
        "sha256": source.digest() if source.path is not None and source.path.is_file() else None,
    }
    considered = {name: registry.find(name) for name in names} or registry.backends()
    # a backend for another format has nothing to do with this model, unless there is none for its own
    fitting = [name for name, backend in considered.items() if _accepts(backend, source)]
    if not fitting and source.format in ("", "directory"):  # each backend's row would say how to convert a text file
        raise source.no_model()
    for name in fitting or considered:
        for device in devices or (None,):
            decided = plan(path, backend=name, device=device)
            for one in decided.skipped:
                yield _subject(common, one.backend, one.device, "missing", one.reason, one.remedy)
            for one in decided.candidates:
                yield _subject(common, one.backend, one.device)
            if decided.candidates and device is None:  # the plan names the preferred device only
                yield from _others(common, name, decided.candidates[0].device)


def _others(common: Mapping[str, Any], backend: str, first: str) -> Iterator[Subject]:
    for device in list_devices():
        if device.backend == backend and device.id != first:
            status = "ok" if device.ready else "missing"
            yield _subject(common, backend, device.id, status, device.reason, device.remedy)


def _accepts(backend: Backend, source: Source) -> bool:
    try:
        return backend.match(source, LoadOptions()).accepts
    except Exception:  # a stranger's code: the plan says what it raised
        return True


def _subject(
    common: Mapping[str, Any], backend: str, device: str, status: str = "ok", reason: str = "", remedy: str = ""
) -> Subject:
    return Subject(
        {**common, "backend": backend, "device": device, "status": status, "reason": reason, "remedy": remedy}
    )


def _plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
