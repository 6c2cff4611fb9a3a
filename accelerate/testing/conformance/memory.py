"""Whose memory inputs, results and the arrays of a Binding are."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from ...calls.binding import Binding
from ...contract import Array
from ...errors import ClosedError, TensorError
from ..inputs import random_inputs
from .cases import CaseTests
from .roles import ROLES

__all__ = ["MemoryTests"]

_QUICK = [role for role in ROLES if role not in ("slow", "failing", "existing", "signatures")]


class MemoryTests(CaseTests):
    """Results are the caller's, inputs are only read, and a Binding is what it says it is."""

    @pytest.mark.parametrize("role", _QUICK)
    def test_results_are_the_callers_own(self, opened: Any, role: str) -> None:
        model, case = opened(role)
        inputs = random_inputs(model, 4, dynamic=3)
        kept = {k: v.copy() for k, v in inputs.items()}
        others = random_inputs(model, 5, dynamic=3)
        first, second = model.infer(inputs), model.infer(others, timeout=60)
        third, fourth = model.infer(inputs, timeout=60), model.infer(others)
        for name, value in inputs.items():
            assert np.array_equal(value, kept[name]), (
                "a call has changed its inputs: execute must not write to its feeds"
            )
        for outputs, given in ((first, kept), (second, others), (third, kept), (fourth, others)):
            self.check(case, given, outputs)
        arrays = [*first.values(), *second.values(), *third.values(), *fourth.values()]
        foreign = [*inputs.values(), *others.values()]
        for i, array in enumerate(arrays):
            assert array.flags.writeable
            assert not any(np.shares_memory(array, other) for other in (*arrays[:i], *foreign)), "results alias"
        for array in first.values():
            array[...] = b"" if array.dtype.hasobject else 1
        for value in inputs.values():
            value[...] = b"" if value.dtype.hasobject else 0
        self.check(case, kept, third)
        model.close()
        gc.collect()
        self.check(case, others, second)

    @pytest.mark.parametrize("role", _QUICK)
    def test_inputs_that_cannot_be_written(self, opened: Any, role: str) -> None:
        model, case = opened(role)
        inputs = random_inputs(model, 8)
        for value in inputs.values():
            value.flags.writeable = False
        self.check(case, inputs, model.infer(inputs))
        self.check(case, inputs, model.infer(inputs, timeout=60))

    # Binding

    @staticmethod
    def fill(binding: Binding, inputs: dict[str, Array]) -> None:
        """Write inputs into the arrays of a Binding."""
        for name, value in inputs.items():
            binding.inputs[name][...] = value

    def test_binding_runs_on_its_own_arrays(self, opened: Any) -> None:
        model, case = opened("plain")
        with model.bind() as binding, model.bind() as other:
            for seed in range(3):
                inputs, others = random_inputs(model, seed), random_inputs(model, 50 + seed)
                self.fill(binding, inputs)
                self.fill(other, others)
                binding.run()
                model.infer(random_inputs(model, 99))
                other.run()
                self.check(case, inputs, binding.outputs)
                self.check(case, others, other.outputs)
                for name, value in inputs.items():
                    np.testing.assert_array_equal(binding.inputs[name], value)
            assert isinstance(binding.zero_copy, bool)
            output = next(iter(binding.outputs.values()))
            with pytest.raises(ValueError, match="read-only"):
                output[...] = 0
            kept = output.copy()
        for touch in (binding.run, lambda: binding.inputs, lambda: binding.outputs):
            with pytest.raises(ClosedError):
                touch()
        np.testing.assert_array_equal(output, kept)

    @pytest.mark.parametrize("role", _QUICK)
    def test_a_binding_shares_what_it_says_it_shares(self, opened: Any, role: str) -> None:
        model, case = opened(role)
        shapes = {t.name: [3 if n < 0 else n for n in t.shape] for t in model.metadata().required_inputs}
        with model.bind(shapes) as binding:
            held, seen = dict(binding.inputs), dict(binding.outputs)  # taken once, before anything has run
            for n, timeout in enumerate((None, 60, None, 60)):
                inputs = random_inputs(model, 20 + n, dynamic=3)
                for name, value in inputs.items():
                    held[name][...] = value
                binding.run(timeout)
                self.check(case, inputs, binding.outputs)
                assert _same_memory(held, binding.inputs), "the input arrays have moved"
                if binding.zero_copy:
                    self.check(case, inputs, seen)
                    assert _same_memory(seen, binding.outputs), "zero_copy is True, and the output arrays have moved"
            arrays = [*binding.inputs.values(), *binding.outputs.values()]
            for i, array in enumerate(arrays):
                assert not any(np.shares_memory(array, other) for other in arrays[:i])
            results = model.infer(inputs)
            assert not any(np.shares_memory(a, b) for a in arrays for b in results.values())
            model.infer(random_inputs(model, 30, dynamic=2))
            self.check(case, inputs, binding.outputs)
        model.close()
        gc.collect()
        for name, value in inputs.items():  # what was taken stays readable
            np.testing.assert_array_equal(held[name], value)

    def test_binding_dynamic_inputs(self, opened: Any) -> None:
        model, case = opened("dynamic")
        tensors = model.metadata().inputs
        shapes = {t.name: tuple(3 if n < 0 else n for n in t.shape) for t in tensors}
        inputs = random_inputs(model, 6, dynamic=3)
        with model.bind(shapes) as binding:
            self.fill(binding, inputs)
            binding.run(timeout=60)
            self.check(case, inputs, binding.outputs)
        with pytest.raises(TensorError, match="bind"):
            model.bind({tensors[0].name: (*shapes[tensors[0].name], 2)})

    def test_settled_shapes_stay(self, opened: Any) -> None:
        shapes = {t.name: tuple(3 if n < 0 else n for n in t.shape) for t in opened("dynamic")[0].metadata().inputs}
        model, case = opened("dynamic", shapes=shapes)
        assert {t.name: t.shape for t in model.metadata().inputs} == shapes
        model.warmup()
        inputs = random_inputs(model, 7)
        with model.bind() as binding:
            self.fill(binding, inputs)
            binding.run()
            self.check(case, inputs, binding.outputs)
        outputs = model.infer(inputs)
        self.check(case, inputs, outputs)
        for tensor in model.metadata().outputs:
            assert all(want in (-1, got) for got, want in zip(outputs[tensor.name].shape, tensor.shape, strict=True))
        with pytest.raises(TensorError):
            model.infer({name: np.zeros([n + 1 for n in shape], inputs[name].dtype) for name, shape in shapes.items()})

    def test_a_binding_ends_with_its_model(self, opened: Any) -> None:
        model, _ = opened("plain")
        binding = model.bind()
        binding.run()
        model.close()
        with pytest.raises(ClosedError):
            binding.run()
        with pytest.raises(ClosedError):
            binding.run(timeout=60)


def _same_memory(ours: Any, theirs: Any) -> bool:
    return all(
        theirs[name].dtype.hasobject
        or theirs[name].__array_interface__["data"][0] == array.__array_interface__["data"][0]
        for name, array in ours.items()
    )
