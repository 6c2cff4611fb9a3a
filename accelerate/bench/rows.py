"""What is to be measured: every model on every backend and device here, and a row for each that cannot."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

from .. import registry
from ..api import list_devices, load, plan
from ..calls.shapes import naming_sizes
from ..contract import Backend
from ..errors import AccelerateError, InferenceError, OptionError, TensorError
from ..model import Model
from ..reports import Candidate, LoadOptions, Plan
from ..source import Source
from .machine import peak_memory_mb, reset_peak_memory, resident_mb
from .turns import Contestant

__all__ = ["THREADS", "Subject", "distinguish", "find_subjects", "told_of"]

#: The CPU threads of each row unless more are asked for: backends have defaults of their own, and one thread set
#: against all CPUs compares these defaults instead of the devices.
THREADS = 1


@dataclass(eq=False)
class Subject(Contestant):
    """One model on one device."""

    row: dict[str, Any]  # its row of the report, filled as the run goes on
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of `load`, beside the model's path, backend and device
    is_own_engine: bool = False  # its backend is the engine of the file's own format, and its device a CPU
    kept: list[Any] = field(default_factory=list)  # those of them that the report keeps
    _held: float | None = None

    @property
    def target(self) -> str:
        """Backend and device, such as "onnxruntime:cuda:0"."""
        return f"{self.row['backend']}:{self.row['device']}"

    @property
    def unfitness(self) -> int:
        """How little fit its answers are for the others' to be judged by: first the file's own CPU engine, then a CPU.

        Any other device may round differently, and the CPU behind a server is another machine's.
        """
        return 0 if self.is_own_engine else 1 if self.row["kind"] == "cpu" else 2

    def load(self, **more: Any) -> Model:
        """Load another copy."""
        row = self.row
        return load(row["path"], backend=row["backend"], device=row["device"], **self.arguments, **more)

    def open(self) -> Model:
        """Load the model, and note how long that took."""
        # a high-water mark that cannot be reset still shows the growth of the model that needs most
        reset_peak_memory()
        self._held = resident_mb()
        started = perf_counter_ns()
        self.model = self.load()
        self.row["load_ms"] = (perf_counter_ns() - started) / 1e6
        self.row["runtime"] = _plain(vars(self.model.runtime))
        self.row["inputs"] = {t.name: f"{t.data_type}{list(t.shape)}" for t in self.model.metadata().required_inputs}
        return self.model

    def call_first(self) -> None:
        """Make the first call, which often pays for what later ones do not."""
        assert self.model is not None
        started = perf_counter_ns()
        try:
            self.model.infer(self.feeds)
        except (InferenceError, TensorError) as error:
            runs = [(info, self.feeds[info.name].shape) for info in self.model.metadata().inputs]
            raise naming_sizes(error, runs) from error.__cause__
        self.row["first_ms"] = (perf_counter_ns() - started) / 1e6
        peak = peak_memory_mb()
        if peak is not None and self._held is not None:
            self.row["memory_mb"] = max(0.0, peak - self._held)

    def fail(self, error: Exception) -> None:
        """Turn the row into that of a failure. The others go on."""
        self.row.update(status="failed", **told_of(error))
        self.close()


def told_of(error: Exception) -> dict[str, str]:
    """Return an error's reason and remedy, on one line each."""
    told = error.reason if isinstance(error, AccelerateError) else str(error)
    remedy = error.remedy if isinstance(error, AccelerateError) else ""
    return {"reason": f"{type(error).__name__}: {' '.join(told.split())}", "remedy": " ".join(remedy.split())}


def find_subjects(
    models: Iterable[str],
    backends: Sequence[str] = (),
    devices: Sequence[str] = (),
    arguments: Mapping[str, Any] = {"num_threads": THREADS},
) -> list[Subject]:
    """Ask every backend about every model, a file or URL; those that can run are "ok", and not loaded yet.

    Only the backends and devices named are considered, if any are; what is named and not here is a row with its reason.
    The arguments are those of `load`, for every row; a backend that has its threads settled elsewhere is given no
    `num_threads`.

    Raises
    ------
    AccelerateError
        A model cannot be read or is none, or no backend has that name.
    """
    names = distinguish([os.fspath(model) for model in models])
    found = [subject for path, name in names.items() for subject in _of_model(path, name, backends, devices, arguments)]
    unique = {(s.row["path"], s.target): s for s in found}
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


def _of_model(
    path: str, name: str, names: Sequence[str], devices: Sequence[str], arguments: Mapping[str, Any]
) -> Iterator[Subject]:
    source = registry.recognize(Source(path))
    common = {
        "model": name,
        "path": path,
        # a server's model has no file of which a digest could be taken
        "sha256": source.digest() if source.path is not None and source.path.is_file() else None,
    }
    considered = {name: registry.find(name) for name in names} or registry.backends()
    # a backend for another format has nothing to do with this model, unless there is none for its own
    fitting = {name: backend for name, backend in considered.items() if _accepts(backend, source)}
    if not fitting and source.format in ("", "directory"):  # each backend's row would say how to convert a text file
        raise source.no_model()
    here = list_devices()
    for name, backend in (fitting or considered).items():
        listed = {device.id: device for device in here if device.backend == name}
        for wanted in devices or (None,):
            decided, given = _plan(path, name, wanted, arguments)
            rows = [(one.device, "ok", "", "") for one in decided.candidates]
            rows += [(one.device, "missing", one.reason, one.remedy) for one in decided.skipped]
            for device, status, reason, remedy in rows:
                kind = listed[device].kind if device in listed else ""
                own = kind == "cpu" and source.format in backend.formats
                target = {"backend": name, "device": device, "kind": kind, "threads": given.get("num_threads")}
                yield Subject({**common, **target, "status": status, "reason": reason, "remedy": remedy}, given, own)


def _plan(path: str, backend: str, device: str | None, arguments: Mapping[str, Any]) -> tuple[Plan, Mapping[str, Any]]:
    """Return the plan, and the arguments for which it is: without threads for a backend that refuses only these."""
    without = {key: value for key, value in arguments.items() if key != "num_threads"}
    plans: list[Plan] = []
    for given in (arguments, without):
        try:
            plans.append(plan(path, backend=backend, device=device, **given))
        except OptionError as error:  # of this backend: the others may take the argument
            plans.append(Plan(None, (), (Candidate(backend, device or "-", error.reason, error.remedy),)))
        if plans[-1].candidates:
            return plans[-1], given
    return plans[0], arguments


def _accepts(backend: Backend, source: Source) -> bool:
    try:
        return backend.match(source, LoadOptions()).accepts
    except Exception:  # a stranger's code: the plan says what it raised
        return True


def _plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
