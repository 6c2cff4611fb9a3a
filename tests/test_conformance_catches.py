"""That the conformance suite passes a correct backend and fails on every planted defect.

The list of defects is `toy_mutations.MUTATIONS`. It grows with the suite: a new test needs one that makes it fail.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import toy_backend
import toy_mutations
from declaring import declare
from toy_runtime import Program

from accelerate.contract import Array
from accelerate.testing import ROLES, BackendConformance, Case

#: Tests of the suite that no backend can make fail: the core judges before it asks one.
CORE_ALONE = {
    "test_impossible_num_threads",
    "test_missing_file",
    "test_unknown_option_names_the_known_ones",
}
CHILDREN = 3  # several of the defects are waited for
Reference = Callable[[dict[str, Array]], dict[str, Array]]


def tensor(name: str, *shape: int, dtype: str = "float32", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": dtype, **more}


def one(operator: str, *inputs: dict[str, Any], y: dict[str, Any] | None = None, **more: Any) -> bytes:
    outputs = [y or {**inputs[0], "name": "y"}]
    if operator == "with double":
        outputs.insert(0, {**inputs[0], "name": "same"})
    return toy_backend.write({"main": {"operator": operator, "inputs": inputs, "outputs": outputs}}, **more)


@functools.cache
def cases() -> Mapping[str, Case]:
    def same(x: dict[str, Array]) -> dict[str, Array]:
        return {"y": x["x"]}

    def double(x: dict[str, Array]) -> dict[str, Array]:
        return {"y": 2 * x["x"]}

    levels = tensor("x", 1, 4, dtype="uint8", scale=0.5, zero=100)
    both: Mapping[str, Reference] = {
        "add": lambda x: {"y": x["a"] + x["b"]},
        "subtract": lambda x: {"y": x["a"] - x["b"]},
    }
    pair = {"inputs": [tensor("a", 3), tensor("b", 3)], "outputs": [tensor("y", 3)]}
    found = tensor("y", -1, dtype="int64")
    return {
        "plain": Case(one("double", tensor("x", 2, 3)), double),
        "several": Case(one("add", tensor("a", 2, 3), tensor("b", 2, 3)), both["add"]),
        "optional": Case(
            one("scale", tensor("x", 2, 3), tensor("by", 3, optional=True)), lambda x: {"y": x["x"] * x.get("by", 2)}
        ),
        "quantized": Case(one("invert", levels), lambda x: {"y": ~x["x"]}),
        "image": Case(one("double", tensor("x", 1, 16, 16, 1)), double),
        "dynamic": Case(one("double", tensor("x", -1, 3)), double),
        "dynamic_output": Case(one("find", tensor("x", 6), y=found), lambda x: {"y": np.flatnonzero(x["x"] > 0)}),
        "integers": Case(one("double", tensor("x", 2, 3, dtype="int32")), double),
        "strings": Case(one("reverse", tensor("x", 3, dtype="string")), lambda x: {"y": x["x"][::-1]}),
        "batched": Case(one("double", tensor("x", 1, 4)), double),
        "passthrough": Case(one("with double", tensor("x", 3)), lambda x: {"same": x["x"], "y": 2 * x["x"]}),
        "signatures": Case(
            toy_backend.write({name: {"operator": name, **pair} for name in both}), both["add"], signatures=both
        ),
        "labels": Case(one("double", tensor("x", 3), labels=["a", "b", "c"]), double, labels=("a", "b", "c")),
        "failing": Case(one("picky", tensor("x", 3)), same, fails_on={"x": np.ones(3, np.float32) * 9}),
        "existing": Case(Program(one("double", tensor("x", 3)), None, 1), double),
        "slow": Case(one("slowly", tensor("x", 2)), same, cancels=True),
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the toy backend is installed."""
    return declare(tmp_path_factory.mktemp("site"), "toy_backend", toy="Toy")


class TestToy(BackendConformance):
    backend = "toy"
    more_arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "speed: fast": {"speed": "fast"},
        "speed: unknown": {"speed": "ludicrous"},
    }

    @pytest.fixture(autouse=True)
    def _installed(self, monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
        monkeypatch.syspath_prepend(site)

    def cases(self) -> Mapping[str, Case]:
        return cases()


def test_the_toy_has_a_model_for_every_role() -> None:
    assert set(cases()) == set(ROLES)


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """Run over each mutant what is to fail on it, in child processes; return the tests that failed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}

    def part(number: int) -> Mapping[str, list[str]]:
        # where no other pytest tidies up meanwhile, at which this one would stumble
        own = {**environment, "PYTEST_DEBUG_TEMPROOT": str(tmp_path_factory.mktemp("mutants"))}
        command = [sys.executable, toy_mutations.__file__, str(Path(__file__)), str(number), str(CHILDREN)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=own, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        found: Mapping[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
        return found

    with ThreadPoolExecutor(CHILDREN) as pool:
        return {name: failed for found in pool.map(part, range(CHILDREN)) for name, failed in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("mutation", toy_mutations.MUTATIONS)
def test_a_planted_defect_is_caught(failures: Mapping[str, list[str]], mutation: str) -> None:
    for expected in toy_mutations.MUTATIONS[mutation].caught_by:
        assert [name for name in failures[mutation] if name.startswith(expected)], (expected, failures[mutation])


def test_every_test_of_the_suite_can_fail() -> None:
    tests = {name for name in dir(BackendConformance) if name.startswith("test_")}
    broken = {one.partition("[")[0] for m in toy_mutations.MUTATIONS.values() for one in m.caught_by}
    assert broken <= tests
    assert tests - broken == CORE_ALONE
