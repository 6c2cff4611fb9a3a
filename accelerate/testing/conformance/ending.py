"""Failing runs, commands, statistics, and what is left of a model that is closed or forgotten."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import types
import weakref
from typing import Any

import numpy as np
import pytest

from ...api import load
from ...contract import Array
from ...errors import (
    AccelerateError,
    ClosedError,
    DeviceLostError,
    InferenceError,
    InferenceTimeoutError,
    OptionError,
    ServerError,
    TensorError,
)
from ...model import Model
from ..inputs import random_inputs
from .cases import CaseTests

__all__ = ["EndingTests"]

_DURING_A_RUN = (InferenceError, DeviceLostError, ServerError, TensorError)


class EndingTests(CaseTests):
    """What goes wrong, what is counted, and what is let go."""

    def test_what_the_runtime_raises_is_ours(self, opened: Any) -> None:
        model, case = opened("failing")
        assert case.fails_on
        good = random_inputs(model)
        for timeout in (None, 60):
            with pytest.raises(_DURING_A_RUN) as caught:
                model.infer(case.fails_on, timeout=timeout)
            assert caught.value.reason
            assert caught.value.__cause__ is not None, "the runtime's own error is lost, or it was never asked"
            self.check(case, good, model.infer(good, timeout=timeout))
        stats = model.do_command({"command": "stats"})
        assert (stats["calls"], stats["errors"]) == (4, 2)
        with model.bind() as binding:
            for timeout in (None, 60):
                for name, value in case.fails_on.items():
                    binding.inputs[name][...] = value
                with pytest.raises(_DURING_A_RUN):
                    binding.run(timeout)
                for name, value in good.items():
                    binding.inputs[name][...] = value
                binding.run(timeout)
                self.check(case, good, binding.outputs)

    def test_errors_share_one_base(self, opened: Any) -> None:
        model, _ = opened("plain")
        with pytest.raises(AccelerateError):
            model.infer({})

    # Commands

    def test_stats_and_warmup(self, opened: Any) -> None:
        model, _ = opened("plain")
        assert model.do_command({"command": "stats"})["calls"] == 0
        model.warmup()
        assert model.do_command({"command": "warmup", "runs": 2})["runs"] == 2
        for _ in range(20):
            model.infer(random_inputs(model))
        with pytest.raises(TensorError):
            model.infer({"no such": 1})
        stats = model.do_command({"command": "stats"})
        assert (stats["calls"], stats["errors"]) == (21, 1)
        assert 0 < stats["p50_ms"] <= stats["max_ms"]

    def test_a_reset_and_a_warmup_leave_no_trace(self, opened: Any) -> None:
        model, _ = opened("plain")
        inputs = random_inputs(model)
        first = model.infer(inputs)
        model.infer(random_inputs(model))
        model.warmup()
        assert isinstance(model.do_command({"command": "reset"}), dict)
        again = model.infer(inputs)
        assert all(np.array_equal(again[name], first[name]) for name in first)

    def test_an_unknown_signature_of_a_loaded_model(self, opened: Any) -> None:
        model, _ = opened("plain")
        with pytest.raises(OptionError, match="signature"):
            model.signature("no such signature")

    def test_a_command_keeps_its_deadline(self, opened: Any) -> None:
        model, _ = opened("plain")
        with pytest.raises(InferenceTimeoutError):
            model.do_command({"command": "warmup", "runs": 10**9}, timeout=0.2)

    def test_unknown_commands_list_the_known_ones(self, opened: Any) -> None:
        model, _ = opened("plain")
        with pytest.raises(NotImplementedError, match="stats"):
            model.do_command({"command": "dance"})
        with pytest.raises(NotImplementedError, match="warmup"):
            model.do_command({})

    # The end

    def test_use_after_close(self, opened: Any) -> None:
        model, _ = opened("plain")
        inputs = random_inputs(model)
        with model as entered:
            assert entered is model
        model.close()
        for use in (
            lambda: model.infer(inputs),
            lambda: model.infer(inputs, timeout=1),
            model.bind,
            model.warmup,
            model.metadata,
            lambda: model.do_command({"command": "stats"}),
        ):
            with pytest.raises(ClosedError):
                use()
        assert "closed" in repr(model)

    def test_close_does_not_wait_for_a_slow_call(self, opened: Any) -> None:
        model, case = opened("slow")
        inputs = random_inputs(model)
        answers: list[dict[str, Array]] = []
        caller = threading.Thread(target=lambda: answers.append(model.infer(inputs)))
        caller.start()
        time.sleep(0.05)
        started = time.monotonic()
        model.close()
        assert time.monotonic() - started < 0.1
        with pytest.raises(ClosedError):
            model.infer(inputs, timeout=0.01)
        caller.join(60)
        self.check(case, inputs, answers[0])

    def test_close_lets_the_runtime_go(self, opened: Any) -> None:
        files = _open_files()
        model, _ = opened("plain")
        model.infer(random_inputs(model))
        before, opened_files = _held(model), _open_files() - files
        if not before and not opened_files:
            pytest.skip("the model reaches no object of a runtime and no file, so it has nothing to let go")
        model.close()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            gc.collect()
            if before - _held(model) or opened_files - _open_files():
                return
            time.sleep(0.05)
        pytest.fail(f"the closed model still holds all of the runtime that it held: {', '.join(sorted(before))}")

    def test_a_forgotten_model_is_collected(self, opened: Any) -> None:
        case = self.cases()["plain"]

        model = load(case.source, backend=self.backend, **case.options)
        inputs = random_inputs(model)
        model.infer(inputs)
        model.infer(inputs, timeout=60)
        forgotten = weakref.ref(model)
        del model
        until = time.monotonic() + 5
        while forgotten() is not None and time.monotonic() < until:
            gc.collect()
            time.sleep(0.01)
        assert forgotten() is None, "something keeps a model that nobody has any more"


_OURS = {"accelerate", "builtins", "numpy", "_pytest", "pytest", *sys.builtin_module_names, *sys.stdlib_module_names}
_CLOSED_WORLDS = (type, types.ModuleType, types.FrameType, types.CodeType)


def _held(model: Model) -> set[str]:
    """Return the runtime's objects that a model reaches, each by its type and place."""
    found: set[str] = set()
    seen: set[int] = {id(model)}
    waiting: list[object] = [vars(model)]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _CLOSED_WORLDS):
            continue
        seen.add(id(one))
        if type(one).__module__.partition(".")[0] not in _OURS:
            found.add(f"{type(one).__module__}.{type(one).__qualname__} at {id(one):#x}")
        if isinstance(one, types.FunctionType):  # not its globals, which are the whole program
            waiting += [one.__closure__, one.__defaults__, one.__kwdefaults__]
        else:
            waiting += gc.get_referents(one)
    return found


def _open_files() -> set[str]:
    """Return the files, pipes and sockets that are open, each by its own name: an earlier model's may go meanwhile."""
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:  # not Linux
        return set()
    found = set()
    for one in descriptors:
        with contextlib.suppress(OSError):  # closed since
            found.add(os.readlink(f"/proc/self/fd/{one}"))
    return found
