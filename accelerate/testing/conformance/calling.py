"""Calls from many threads and from event loops, and with deadlines."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ...contract import Array
from ...errors import ClosedError, InferenceTimeoutError, OptionError, TensorError
from ...model import Model
from ..inputs import random_inputs, random_tensors
from .cases import CaseTests
from .children import ask_child
from .roles import Case

__all__ = ["CallingTests"]


class CallingTests(CaseTests):
    """Threads, replicas, `infer_async`, timeouts."""

    def call_from_many_threads(self, model: Model, case: Case, *, callers: int, calls: int, timed: int) -> None:
        """Call from each thread with inputs of its own, every `timed`-th time with a timeout; check all answers."""
        feeds = [random_inputs(model, seed) for seed in range(callers)]

        def work(inputs: dict[str, Array]) -> list[dict[str, Array]]:
            return [model.infer(inputs, timeout=60 if n % timed == 0 else None) for n in range(calls)]

        with ThreadPoolExecutor(callers) as pool:
            for inputs, results in zip(feeds, pool.map(work, feeds), strict=True):
                for outputs in results:
                    self.check(case, inputs, outputs)
        assert model.do_command({"command": "stats"})["calls"] == callers * calls

    def test_any_thread_may_call(self, opened: Any) -> None:
        model, case = opened("plain")
        self.call_from_many_threads(model, case, callers=8, calls=50, timed=5)

    def test_replicas_answer_like_one(self, opened: Any) -> None:
        model, case = opened("plain", replicas=2)
        assert model.runtime.details["replicas"] == 2
        assert model.concurrency >= 2
        assert len({id(replica) for replica in model.models}) == 2
        self.call_from_many_threads(model, case, callers=4, calls=20, timed=3)
        single, _ = opened("plain")
        assert model.metadata() == single.metadata()
        assert (model.backend, model.device) == (single.backend, single.device)

    def test_replicas_keep_deadlines(self, opened: Any) -> None:
        model, _ = opened("slow", replicas=2)
        inputs = random_inputs(model)
        for _ in range(2):
            with pytest.raises(InferenceTimeoutError):
                model.infer(inputs, timeout=0.05)
        with pytest.raises(InferenceTimeoutError):
            model.infer(inputs, timeout=0)
        model.close()
        with pytest.raises(ClosedError):
            model.infer(inputs)

    # With or without what is optional

    @pytest.mark.parametrize("replicas", [1, 2])
    def test_an_optional_input_may_be_left_out(self, opened: Any, replicas: int) -> None:
        model, case = opened("optional", replicas=replicas)
        (optional,) = (t for t in model.metadata().inputs if t.extra.get("optional"))
        assert str(optional).count("optional")
        for seed in range(3):
            given = random_inputs(model, seed)
            (bare,) = given.values()
            both = {optional.name: random_tensors([optional], seed)[optional.name], **given}
            for inputs in (given, both):
                self.check(case, inputs, model.infer(inputs))
                self.check(case, inputs, model.infer(inputs, timeout=60))
            self.check(case, given, model.infer(bare))
        with pytest.raises(TensorError, match="missing input"):
            model.infer({optional.name: both[optional.name]})

    def test_an_optional_input_is_bound_where_it_is_named(self, opened: Any) -> None:
        model, case = opened("optional")
        (optional,) = (t for t in model.metadata().inputs if t.extra.get("optional"))
        given = random_inputs(model, 1)
        both = {**given, **random_tensors([optional], 2)}
        model.warmup()
        for inputs, shapes in ((given, None), (both, {optional.name: optional.shape})):
            with model.bind(shapes) as binding:
                assert set(binding.inputs) == set(inputs)
                for name, value in inputs.items():
                    binding.inputs[name][...] = value
                binding.run()
                self.check(case, inputs, binding.outputs)

    # In an event loop

    def test_awaited_calls_answer_like_the_others(self, opened: Any) -> None:
        model, case = opened("plain")
        feeds = [random_inputs(model, seed) for seed in range(6)]

        async def main() -> list[dict[str, Array]]:
            with pytest.raises(TensorError):
                await model.infer_async({"no such": 1})
            return list(await asyncio.gather(*(model.infer_async(inputs, timeout=60) for inputs in feeds)))

        for inputs, outputs in zip(feeds, asyncio.run(main()), strict=True):
            self.check(case, inputs, outputs)
        model.close()
        with pytest.raises(ClosedError):
            asyncio.run(model.infer_async(feeds[0]))

    def test_the_event_loop_goes_on_meanwhile(self, opened: Any) -> None:
        model, case = opened("slow")
        inputs = random_inputs(model)

        async def main() -> tuple[dict[str, Array], int]:
            call = asyncio.ensure_future(model.infer_async(inputs))
            turns = 0
            while not call.done():
                await asyncio.sleep(0.01)
                turns += 1
            with pytest.raises(InferenceTimeoutError):
                await model.infer_async(inputs, timeout=0.05)
            return call.result(), turns

        outputs, turns = asyncio.run(main())
        self.check(case, inputs, outputs)
        assert turns > 3, "the event loop stood still"

    # Deadlines

    def test_a_generous_timeout_changes_nothing(self, opened: Any) -> None:
        model, case = opened("plain")
        inputs = random_inputs(model)
        self.check(case, inputs, model.infer(inputs, timeout=60))
        self.check(case, inputs, model.infer(inputs, timeout=float("inf")))
        with pytest.raises(TensorError):
            model.infer({"no such": 1}, timeout=60)

    @pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
    def test_impossible_timeouts(self, opened: Any, timeout: Any) -> None:
        model, _ = opened("plain")
        with pytest.raises(OptionError, match="timeout"):
            model.infer(random_inputs(model), timeout=timeout)
        with model.bind() as binding, pytest.raises(OptionError, match="timeout"):
            binding.run(timeout=timeout)

    def test_a_slow_call_is_left_at_its_deadline(self, opened: Any) -> None:
        model, case = opened("slow")
        inputs = random_inputs(model)
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match=r"0\.05 s"):
            model.infer(inputs, timeout=0.05)
        assert time.monotonic() - started < 1
        with pytest.raises(InferenceTimeoutError):  # the first call still runs; this one's wait counts
            model.infer(inputs, timeout=0.01)
        self.check(case, inputs, model.infer(inputs, timeout=60))
        assert isinstance(InferenceTimeoutError("x"), TimeoutError)

    def test_a_slow_run_of_a_binding_is_left_at_its_deadline(self, opened: Any) -> None:
        model, case = opened("slow")
        inputs = random_inputs(model)
        with model.bind() as binding:
            for name, value in inputs.items():
                binding.inputs[name][...] = value
            started = time.monotonic()
            with pytest.raises(InferenceTimeoutError, match=r"0\.05 s"):
                binding.run(timeout=0.05)
            assert time.monotonic() - started < 1
            binding.run(timeout=60)
            self.check(case, inputs, binding.outputs)

    def test_says_when_an_abandoned_call_has_ended(self, opened: Any) -> None:
        model, case = opened("slow")
        idle = threading.Event()
        model.when_idle(idle.set)
        assert idle.is_set(), "nothing runs, so it is idle at once"
        inputs = random_inputs(model)
        started = time.monotonic()
        model.infer(inputs, timeout=60)
        whole = time.monotonic() - started
        idle.clear()
        with pytest.raises(InferenceTimeoutError):
            model.infer(inputs, timeout=0.05)
        started = time.monotonic()
        model.when_idle(idle.set)
        assert idle.wait(3 + 10 * whole), "the callback has never come"
        if case.cancels:
            assert time.monotonic() - started < 0.6 * whole, "the abandoned call was not ended early"
        self.check(case, inputs, model.infer(inputs, timeout=60))

    def test_the_program_may_end_during_an_abandoned_call(self, tmp_path: Path) -> None:
        assert ask_child("leave", self, "slow", tmp_path) == ["infer", "run"]
