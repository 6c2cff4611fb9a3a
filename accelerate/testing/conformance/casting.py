"""That each model that a backend's tests supply is what its role asks for: else the tests of the role say nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from ...contract import Array
from ...errors import InferenceTimeoutError
from ...model import Model
from ..inputs import random_inputs
from .cases import CaseTests
from .roles import ROLES, Case, refusal

__all__ = ["CastingTests", "unlike_inputs"]

#: Seconds. The suite leaves calls after 0.05 s, and what was made to take 0.2 s may be faster on another machine.
_LONG = 0.1


class CastingTests(CaseTests):
    """The models and their roles."""

    @pytest.mark.parametrize("role", ROLES)
    def test_a_model_plays_its_role(self, opened: Any, role: str) -> None:
        model, case = opened(role)  # which has seen to all that can be told without a run
        if (run := _TO_RUN.get(role)) and (lack := run(model, case)):
            pytest.fail(refusal(role, lack, model.metadata()), pytrace=False)


def unlike_inputs(model: Model) -> Iterator[dict[str, Array]]:
    """Yield inputs of one shape and of unlike values: numbers without a 0, and such of which a random half is 0."""
    for seed in range(6):
        inputs = random_inputs(model, seed, dynamic=4)
        yield inputs
        random = np.random.default_rng(seed)
        yield {
            name: value if value.dtype.hasobject else value * random.integers(0, 2, value.shape).astype(value.dtype)
            for name, value in inputs.items()
        }


def _sizes_vary(model: Model, _: Case) -> str:
    sizes = {tuple(array.shape for array in model.infer(inputs).values()) for inputs in unlike_inputs(model)}
    return "" if len(sizes) > 1 else "gives outputs of one size whatever its inputs hold: {inputs} -> {outputs}"


def _passes_an_input_through(model: Model, _: Case) -> str:
    inputs = random_inputs(model)
    outputs = model.infer(inputs)
    same = any(np.array_equal(given, got) for given in inputs.values() for got in outputs.values())
    return "" if same else "gives no output that is an input: {inputs} -> {outputs}"


def _fails(model: Model, case: Case) -> str:
    try:
        model.infer(case.fails_on)
    except Exception:  # whether it is one of ours, another test asks
        return ""
    return "answers on its Case.fails_on"


def _takes_long(model: Model, _: Case) -> str:
    inputs = random_inputs(model)
    started = time.monotonic()
    try:
        model.infer(inputs, timeout=_LONG)  # which ends it soon; a backend that keeps no deadlines ends it later
    except InferenceTimeoutError:
        return ""
    return "" if time.monotonic() - started >= _LONG else "takes less than 0.2 s for a call"


#: role -> what says what a model lacks that only a run shows, "" for nothing
_TO_RUN: Mapping[str, Callable[[Model, Case], str]] = {
    "dynamic_output": _sizes_vary,
    "passthrough": _passes_an_input_through,
    "failing": _fails,
    "slow": _takes_long,
}
