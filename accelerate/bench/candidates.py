"""What `tune` compares: every device here that runs a model, with numbers of threads on the CPU; each a contestant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import registry
from ..api import load
from ..calls.shapes import naming_sizes
from ..errors import AccelerateError, InferenceError, TensorError, one_line
from ..loading import Decision, decision
from ..measurements import in_threads
from ..planning import Row
from ..source import Source
from ..system.cpus import usable_cpus
from .turns import Contestant

__all__ = ["DEFAULTS", "Candidate", "Given", "find_candidates"]

#: The arguments of `load` that are no backend's own.
DEFAULTS: Mapping[str, Any] = dict(load.__kwdefaults__ or {})
_THREADS = (1, 2, 4)
#: Arguments of `load` that are about many callers, or about what else happens to values: measured is one plain model.
_LEFT_OUT = frozenset({"replicas", "failover", "strict", "dequantize"})


@dataclass(frozen=True, eq=False)
class Given:
    """A model, and the arguments of `load` beside it.

    Attributes
    ----------
    source : Source
    name : str
        What it is called among its twins.
    backends : str or sequence of str
        Those that are considered.
    arguments : mapping
        Without `backend`.
    """

    source: Source
    name: str
    backends: str | Sequence[str]
    arguments: Mapping[str, Any]

    @property
    def loadable(self) -> Any:
        """What `load` takes for the source: its bytes, where it was given a file that can be read but once."""
        held = self.source.path is None and self.source.url is None and self.source.object is None
        return self.source.read() if held else self.source.given

    def decide(self, **other: Any) -> Decision:
        """Return what `load` would decide, with some arguments in the place of those that were given."""
        given = {"backend": self.backends, **self.arguments, **other}
        common = {name: given.pop(name, default) for name, default in DEFAULTS.items()}
        common.pop("failover", None)  # what else is to be loaded is another model
        return decision(self.loadable, backend_options=given, **common)


@dataclass(eq=False)
class Candidate(Contestant):
    """One model on one device, with a number of threads.

    Attributes
    ----------
    given : Given
    row : Row
        Its row of the plan.
    threads : int or None
        None for what the arguments say, or the backend's own number.
    is_own_engine : bool
        Its backend is the engine of the file's own format, and its device a CPU.
    cases : list of dict
        The inputs that it gets one after the other.
    agreement : dict
        What `compare_answers` has found; empty where there is nothing to compare with.
    failure : dict
        Reason and remedy, once it has failed.
    """

    given: Given
    row: Row
    threads: int | None
    is_own_engine: bool
    cases: list[dict[str, Any]] = field(default_factory=list)
    agreement: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, str] = field(default_factory=dict)

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self.row.candidate.backend

    @property
    def device(self) -> str:
        """The device's id."""
        return self.row.candidate.device

    @property
    def target(self) -> str:
        """Backend, device and threads, such as "onnxruntime on cuda:0"."""
        threads = "" if self.threads is None else f", {in_threads(self.threads)}"
        return f"{self.backend} on {self.device}{threads}"

    @property
    def unfitness(self) -> int:
        """How little fit its answers are for the others' to be judged by, as `Subject.unfitness` has it."""
        return 0 if self.is_own_engine else 1 if self.row.candidate.kind == "cpu" else 2

    def open(self) -> None:
        """Load the model."""
        arguments = {name: value for name, value in self.given.arguments.items() if name not in _LEFT_OUT}
        arguments |= {"backend": self.backend, "device": self.device}
        if self.threads is not None:
            arguments["num_threads"] = self.threads
        self.model = load(self.given.loadable, **arguments)

    def turn_to(self, turn: int) -> None:
        """Take the next inputs, so that all get their turn."""
        self.feeds = self.cases[turn % len(self.cases)]

    def fail(self, error: Exception) -> None:
        """Keep reason and remedy, with the sizes that nobody has given."""
        if isinstance(error, (InferenceError, TensorError)) and self.model is not None and self.cases:
            inputs = [info for info in self.model.metadata().inputs if info.name in self.cases[0]]
            error = naming_sizes(error, [(info, self.cases[0][info.name].shape) for info in inputs])
        if isinstance(error, AccelerateError):
            self.failure = {"reason": error.reason, "remedy": error.remedy}
        else:
            self.failure = {"reason": f"{type(error).__name__}: {one_line(error)}", "remedy": ""}
        self.close()


def find_candidates(given: Given) -> tuple[list[Candidate], list[Row]]:
    """Return every device of every backend that can run a model, and all rows of its plan.

    Raises
    ------
    AccelerateError
        What `plan` raises.
    """
    decided = given.decide()
    source = decided.source
    with source.kept_open():
        rows = list(decided.rows)
        if decided.options.asked is None:
            rows += _only_named(given, decided, rows)
    ready = [row for row in rows if row.error is None]
    counts = () if given.arguments.get("num_threads") is not None else _counts()
    taken = {count: _places(given, count) for count in counts if any(row.candidate.kind == "cpu" for row in ready)}
    found = []
    for row in ready:
        own = row.candidate.kind == "cpu" and source.format in row.backend.formats
        # an existing object and a server's model have their threads settled elsewhere
        threads = [count for count, places in taken.items() if _place(row) in places]
        settled = row.candidate.kind != "cpu" or not threads
        found += [Candidate(given, row, count, own) for count in ([None] if settled else threads)]
    return found, rows


def _counts() -> Sequence[int]:
    most = usable_cpus()
    return sorted({*(count for count in _THREADS if count < most), most})


def _places(given: Given, threads: int) -> set[tuple[str, str]]:
    """Return the backends and devices that take so many threads."""
    decided = given.decide(num_threads=threads)
    with decided.source.kept_open():
        return {_place(row) for row in decided.rows if row.error is None}


def _place(row: Row) -> tuple[str, str]:
    return row.candidate.backend, row.candidate.device


def _only_named(given: Given, decided: Decision, rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows of the devices that a plan has only where they are named."""
    for backend in {id(row.backend): row.backend for row in rows if row.accepted}.values():
        try:
            names = [str(name) for name in backend.named_devices(decided.options)]
        except (Exception, SystemExit) as error:  # a stranger's code
            registry.failure(backend, error)
            continue
        for name in names:
            if (backend.name, name) not in map(_place, rows):
                yield from given.decide(backend=[backend.name], device=name).rows
