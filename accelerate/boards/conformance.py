"""The conformance suite over one device, with models that nobody made for it: which roles they can play is found out.

What a call must answer is what a second model on the same device answers; whether the device computes rightly is
asked by known answers.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ..api import load, plan
from ..contract import Array
from ..errors import AccelerateError
from ..metadata import Metadata
from ..testing import ROLES, BackendConformance, Case
from ..testing.conformance.roles import is_batched, is_quantized
from .models import DIGITS

__all__ = ["TestDevice", "run_suite"]

_RTOL = 1e-2  # a GPU's shorter floats
_REASON = 500  # characters


class _Roles(dict[str, Case]):
    """Skips a test of a role that none of the models can play, "plain" included."""

    def __missing__(self, role: str) -> Case:
        pytest.skip(f"none of the models is {ROLES[role]}, and runs on this device")


class TestDevice(BackendConformance):
    """The suite over the backend and device that `run_suite` has set."""

    backend = ""
    device: ClassVar[str] = ""
    models: ClassVar[Sequence[Path]] = ()

    def cases(self) -> Mapping[str, Case]:
        """Return the roles that the models can play on this device."""
        return _cases(self.backend, self.device, tuple(self.models))


@functools.cache
def _cases(backend: str, device: str, models: Sequence[Path]) -> Mapping[str, Case]:
    found = _Roles()
    for path in models:
        here: dict[str, Any] = {"backend": backend, "device": device}
        try:
            if plan(path, **here).chosen is None:
                continue
            with load(path, **here) as model:
                metadata = model.metadata()
        except AccelerateError:  # the known answers tell of it
            continue
        if any(-1 in t.shape for t in metadata.inputs):
            found.setdefault("dynamic", _case(path, here))
            here["shapes"] = {t.name: tuple(max(1, size) for size in t.shape) for t in metadata.inputs}
            with load(path, **here) as model:
                metadata = model.metadata()
        for role in _fixed_roles(metadata):
            found.setdefault(role, _case(path, here, metadata.labels if role == "labels" else ()))
    return found


def _case(path: Path, given: Mapping[str, Any], labels: Sequence[str] = ()) -> Case:
    here = dict(given)

    @functools.cache
    def second() -> Any:
        return load(path, **here)

    def reference(inputs: dict[str, Array]) -> dict[str, Array]:
        return dict(second().infer(inputs))

    options = {name: value for name, value in here.items() if name != "backend"}
    return Case(path, reference, options, rtol=_RTOL, labels=tuple(labels))


def _fixed_roles(metadata: Metadata) -> list[str]:
    tensors, inputs = [*metadata.inputs, *metadata.outputs], metadata.inputs
    floats = all(t.data_type == "float32" and -1 not in t.shape and np.prod(t.shape) >= 2 for t in tensors)
    image = len(inputs) == 1 and inputs[0].normalization is not None
    return [
        role
        for role, plays in {
            "plain": floats,
            "several": floats and len(inputs) > 1,
            "quantized": bool(inputs) and all(map(is_quantized, inputs)),
            "image": image and inputs[0].data_type in ("float32", "float16", "int8"),
            "batched": bool(inputs) and all(map(is_batched, inputs)),
            "labels": bool(metadata.labels),
        }.items()
        if plays
    ]


class _Teller:
    """Tells of each test that it begins and what has become of it, so that a crash leaves the others' results."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None], skip: Sequence[str]) -> None:
        self._tell = tell
        self._skip = frozenset(skip)
        self._reports: list[pytest.TestReport] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.name not in self._skip]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._reports = []
        self._tell({"begin": _name(nodeid)})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        worst = max(self._reports, key=lambda report: ("passed", "skipped", "failed").index(report.outcome))
        reason = ""
        if worst.failed:
            reason = worst.longreprtext[-4 * _REASON :]
        elif worst.skipped and isinstance(worst.longrepr, tuple):
            reason = worst.longrepr[2].removeprefix("Skipped: ")[:_REASON]
        self._tell({"item": _name(nodeid), "status": worst.outcome, "reason": reason})


def _name(nodeid: str) -> str:
    return nodeid.rpartition("::")[2] if "[" not in nodeid else nodeid[nodeid.index("::test_") + 2 :]


def run_suite(
    tell: Callable[[Mapping[str, Any]], None], skip: Sequence[str], backend: str, device: str, models: Sequence[str]
) -> None:
    """Run the suite over one device; what the board's owner has set up for pytest does not count."""
    TestDevice.backend, TestDevice.device = backend, device
    TestDevice.models = [*DIGITS, *map(Path, models)]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    quiet = ["-q", "--tb=short", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(Path(__file__).parent)]
    pytest.main([*quiet, "--import-mode=importlib", "--pyargs", __name__], plugins=[_Teller(tell, skip)])
