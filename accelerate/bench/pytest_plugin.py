"""The tests of ``pytest --benchmark``: one for each model and device, timed by pytest-benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ..errors import AccelerateError, OptionError, TensorError
from ..inputs.folder import InputFolder, find_inputs
from ..model import Model
from . import report_text as say
from .agreement import are_twins, compare_answers, feeds_from, random_answers, random_real_inputs
from .machine import describe_machine
from .own_inputs import OwnInputs
from .report_inputs import suspects
from .rows import Subject, find_subjects
from .statistics import PERCENTILES, summarize
from .timing import sample

__all__ = ["DeviceComparison"]

_OWN_MODELS = [str(Path(__file__).parents[1] / "data" / name) for name in ("digits_uint8.tflite", "digits.onnx")]
_SEED, _SAMPLES = 0, 200
#: What is saved of a row with its times.
_TOLD = ("path", "sha256", "backend", "device", "threads", "runtime", "inputs", "load_ms")
#: What of the machine pytest-benchmark does not know by itself.
_MACHINE = ("board", "governor", "usable_cpus", "edge_accelerate")
_WARMUP_CALLS, _MOST_ROUNDS = 10, 100_000


class DeviceComparison:
    """The plugin: adds the tests to what was collected."""

    def __init__(self, config: pytest.Config) -> None:
        self._models: Sequence[str] = config.getoption("benchmark_model") or _OWN_MODELS
        self._targets: Sequence[str] = config.getoption("benchmark_on")
        self._folder: str | None = config.getoption("benchmark_inputs")

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Say on which board it was, and how its CPUs were governed: what is compared may be of another."""
        machine = describe_machine()
        machine_info["edge_accelerate"] = {key: machine[key] for key in _MACHINE}

    @pytest.hookimpl(tryfirst=True)  # before -k and -m choose
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Add a test for each device, in front of those that were found."""
        try:
            inputs = None if self._folder is None else find_inputs(Path(self._folder), _SAMPLES)
            subjects = list(self._subjects())
        except AccelerateError as error:
            raise pytest.UsageError(f"--benchmark: {error}") from error
        if all(subject.row["status"] == "missing" for subject in subjects):
            # skipped tests alone would be a green run in which nothing was measured
            reasons = "\n".join(" ".join(("  ", *said)) for said in say.unmeasured([s.row for s in subjects]))
            raise pytest.UsageError(f"--benchmark: nothing here can run\n{reasons}")
        module = _Devices.from_parent(session, path=session.config.rootpath, name="devices", nodeid="edge-accelerate")
        module.obj = _make_tests(subjects, inputs)
        items[:0] = session.genitems(module)
        session.testscollected = len(items)

    def _subjects(self) -> Iterator[Subject]:
        found = find_subjects(self._models)
        known = {name for s in found for name in _names(s)}
        for target in self._targets:
            if target not in known:  # each backend says why not: they become skipped tests
                yield from find_subjects(self._models, devices=[target])
        for subject in found:
            if not self._targets or not _names(subject).isdisjoint(self._targets):
                yield subject


class _Devices(pytest.Module):
    """Stands where a test file would: there is none."""

    def istestfunction(self, obj: object, name: str) -> bool:
        """Take ours, whatever the project's `python_functions` says."""
        return callable(obj)


def _make_tests(subjects: Sequence[Subject], inputs: InputFolder | None) -> ModuleType:
    """Make a module with a test function for each model, parametrised with what it is to run on."""
    module = ModuleType("edge_accelerate_devices")
    for path in dict.fromkeys(s.row["path"] for s in subjects):
        mine = {s.target: s for s in subjects if s.row["path"] == path}
        setattr(module, next(iter(mine.values())).row["model"], _test_of(mine, subjects, inputs))
    return module


def _test_of(
    mine: Mapping[str, Subject], subjects: Sequence[Subject], inputs: InputFolder | None
) -> Callable[..., None]:
    def test(benchmark: Any, request: pytest.FixtureRequest, target: str) -> None:
        subject = mine[target]
        if subject.row["status"] == "missing":
            pytest.skip("; ".join(filter(None, (subject.row["reason"], subject.row["remedy"]))))
        with closing(subject), _reference(model := subject.open(), subjects) as (named, reference):
            benchmark.group = named.row["model"]
            answers = compare_answers(random_answers(reference, _SEED + 1), model)
            (real,) = random_real_inputs(reference, 1, _SEED)
            feeds = feeds_from(real, reference, model)
            found = {} if inputs is None else _on_inputs(inputs, Subject(dict(named.row), model=reference), subject)
            rounds = _rounds(model, feeds, request.config)
            benchmark.extra_info.update(
                {key: subject.row[key] for key in _TOLD},
                seed=_SEED,
                agreement={"reference": say.reference_name(named.row), **answers},
                **found,
            )
            benchmark.pedantic(model.infer, args=(feeds,), rounds=rounds, iterations=1)
            if benchmark.stats is not None:  # --benchmark-disable leaves none
                figures = summarize(1e6 * np.array(benchmark.stats.stats.data))
                benchmark.extra_info["percentiles_us"] = {k: v for k, v in figures.items() if k in PERCENTILES}
            if differs := [line for _, *lines in suspects([subject.row]) for line in lines]:
                pytest.fail("\n".join(differs), pytrace=False)

    parametrized: Callable[..., None] = pytest.mark.parametrize("target", list(mine))(test)
    return parametrized


def _on_inputs(inputs: InputFolder, reference: Subject, subject: Subject) -> dict[str, Any]:
    """Compare the answers to the user's inputs; return what is saved of that."""
    own = OwnInputs(inputs, lambda what, done: None)
    try:
        own.judge([reference, subject], reference)
    except (OptionError, TensorError) as error:  # the user's, to whom our lines say nothing
        pytest.fail(str(error), pytrace=False)
    for one in (reference, subject):
        if one.model is None:
            pytest.fail(f"{one.target}: {one.row['reason']}", pytrace=False)
    return {"inputs": own.report(), "on_inputs": subject.row["on_inputs"]}


@contextmanager
def _reference(model: Model, subjects: Sequence[Subject]) -> Iterator[tuple[Subject, Model]]:
    """Load the twin that the answers are compared with: of the file's own CPU engine, if there is one."""
    for subject in sorted(subjects, key=lambda s: s.unfitness):
        if subject.row["status"] != "ok":
            continue
        with suppress(AccelerateError):  # its own test says why
            found = subject.load()
            if are_twins(found, model):
                with found:
                    yield subject, found
                return
            found.close()
    raise AssertionError("a model is its own twin")


def _rounds(model: Model, feeds: Any, config: pytest.Config) -> int:
    """Return how many calls fill --benchmark-max-time; pytest-benchmark warms up and calibrates no single calls."""
    warm = sample(model.infer, feeds, _WARMUP_CALLS)
    # 5 us is what pytest-benchmark takes for a round beside what it times
    seconds = float(np.median(warm)) / 1e9 + 5e-6
    wanted = int(float(config.getoption("benchmark_max_time")) / seconds)
    return max(int(config.getoption("benchmark_min_rounds")), min(wanted, _MOST_ROUNDS))


def _names(subject: Subject) -> frozenset[str]:
    return frozenset((subject.row["device"], subject.row["backend"], subject.target))
