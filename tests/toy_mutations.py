"""Defects to plant in the toy backend, each with the tests of the conformance suite that must fail on it.

As a program it runs those tests over each mutant and prints, as JSON, which of them failed; here over the first of
every three: ``python toy_mutations.py test_conformance_catches.py 0 3``
"""

from __future__ import annotations

import atexit
import contextlib
import io
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import toy_backend
from toy_backend import Toy, ToyBinding, ToyModel
from toy_runtime import Program

from accelerate.contract import Availability, CopyingBinding, Device, Match, RuntimeModel, allocate, dtype_of
from accelerate.errors import DeviceNotFoundError, OptionError

__all__ = ["MUTATIONS", "Mutation"]

Set = Callable[[Any, str, Any], None]


@dataclass(frozen=True)
class Mutation:
    """A defect.

    Attributes
    ----------
    caught_by : tuple of str
        How the names of the tests begin that must fail, all of them.
    plant : callable
        Makes the defect, with `setattr` or what undoes it afterwards.
    """

    caught_by: tuple[str, ...]
    plant: Callable[[Set], None]


MUTATIONS: dict[str, Mutation] = {}


def defect(*caught_by: str) -> Callable[[Callable[[Set], None]], None]:
    """Add a function that plants a defect, under its name."""

    def add(plant: Callable[[Set], None]) -> None:
        MUTATIONS[plant.__name__] = Mutation(tuple(f"test_{name}" for name in caught_by), plant)

    return add


# Whose memory it is


@defect("results_are_the_callers_own[plain]")
def results_are_the_runtimes_memory(put: Set) -> None:
    put(ToyModel, "call", lambda self, feeds, stop: self.program.run(feeds, stop))


@defect("results_are_the_callers_own[dynamic]")
def dynamic_results_are_the_runtimes_memory(put: Set) -> None:
    def call(self: Any, feeds: Any, stop: Any) -> Any:
        dynamic = min(self.outputs[0].shape) < 0
        return [a if dynamic else a.copy() for a in self.program.run(feeds, stop)]

    put(ToyModel, "call", call)


@defect("results_are_the_callers_own[plain]")
def results_of_timed_calls_are_the_runtimes_memory(put: Set) -> None:
    put(ToyModel, "cancellable", lambda self, feeds: (lambda: self.program.run(feeds, threading.Event()), lambda: None))


@defect("results_are_the_callers_own[passthrough]")
def an_output_that_is_an_input_is_the_callers_array(put: Set) -> None:
    sound = ToyModel.call

    def call(self: Any, feeds: Any, stop: Any) -> Any:
        results = sound(self, feeds, stop)
        return [feeds[0], *results[1:]] if len(results) > 1 else results

    put(ToyModel, "call", call)


@defect("results_are_the_callers_own[plain]")
def inputs_are_overwritten(put: Set) -> None:
    sound = ToyModel.call

    def call(self: Any, feeds: Any, stop: Any) -> Any:
        results = sound(self, feeds, stop)
        for feed in feeds:
            if feed.flags.writeable:
                feed[...] = feed[::-1]
        return results

    put(ToyModel, "call", call)


@defect("inputs_that_cannot_be_written[plain]")
def inputs_must_be_writable(put: Set) -> None:
    sound = ToyModel.call

    def call(self: Any, feeds: Any, stop: Any) -> Any:
        if not all(feed.flags.writeable for feed in feeds):
            raise ValueError("buffer source array is read-only")
        return sound(self, feeds, stop)

    put(ToyModel, "call", call)


@defect("a_binding_shares_what_it_says_it_shares[plain]")
def zero_copy_lies_about_inputs(put: Set) -> None:
    sound = ToyBinding.__init__

    def init(self: Any, *given: Any) -> None:
        sound(self, *given)
        self.given = [array.copy() for array in self.given]

    put(ToyBinding, "__init__", init)


@defect("an_optional_input_may_be_left_out", "an_optional_input_is_bound_where_it_is_named")
def an_optional_input_left_out_is_zero(put: Set) -> None:
    sound = Program.run
    put(Program, "run", lambda self, arrays, *more: sound(self, [0 if a is None else a for a in arrays], *more))


@defect("an_optional_input_is_bound_where_it_is_named")
def an_optional_input_is_always_bound(put: Set) -> None:
    sound = ToyModel.bind

    def bind(self: Any, shapes: Any = None) -> Any:
        return sound(self, {**{t.name: t.shape for t in self.inputs if t.optional}, **(shapes or {})})

    put(ToyModel, "bind", bind)


@defect("a_binding_shares_what_it_says_it_shares[plain]")
def zero_copy_lies_about_outputs(put: Set) -> None:
    def step(self: Any) -> None:
        for name, result in zip(self.outputs, self.program.run(self.given, threading.Event()), strict=True):
            self.replace_output(name, result.copy())

    put(ToyBinding, "step", step)
    put(ToyBinding, "cancellable", lambda self: (lambda: step(self), lambda: None))


@defect("a_binding_shares_what_it_says_it_shares[plain]")
def the_input_arrays_of_a_binding_move(put: Set) -> None:
    def moved(self: Any) -> Any:
        self.given[:] = [array.copy() for array in self.given]
        return dict(zip(self._inputs, self.given, strict=True))

    put(ToyBinding, "inputs", property(moved))


@defect("a_binding_shares_what_it_says_it_shares[dynamic]")
def a_copying_binding_says_that_it_shares(put: Set) -> None:
    def bind(self: Any, shapes: Any = None) -> Any:
        binding = CopyingBinding(self, self.run, allocate(self.inputs, self.input_index, shapes), self.outputs)
        binding.zero_copy = True
        return binding

    put(ToyModel, "bind", bind)


@defect("binding_runs_on_its_own_arrays")
def the_outputs_of_a_binding_can_be_written(put: Set) -> None:
    put(ToyBinding, "outputs", property(lambda self: (self.check_open(), dict(zip(self._outputs, self.results)))[1]))  # noqa: B905


@defect("binding_runs_on_its_own_arrays")
def bindings_share_their_arrays(put: Set) -> None:
    sound = ToyModel.bind
    kept: dict[Any, Any] = {}

    def bind(self: Any, shapes: Any = None) -> Any:
        binding = sound(self, shapes)
        if not isinstance(binding, ToyBinding):
            return binding
        first = kept.setdefault(id(self), binding)
        return ToyBinding(self, self.program, first._inputs, dict(zip(first._outputs, first.results, strict=True)))

    put(ToyModel, "bind", bind)


@defect("a_binding_ends_with_its_model")
def a_binding_outlives_its_model(put: Set) -> None:
    put(ToyBinding, "run", lambda self, timeout=None: (self._turn.check_open(), self.step())[1])


# State


@defect("a_reset_and_a_warmup_leave_no_trace")
def a_model_does_not_know_reset(put: Set) -> None:
    def reset(self: Any) -> None:
        raise NotImplementedError("no reset")

    put(ToyModel, "reset", reset)


@defect("a_reset_and_a_warmup_leave_no_trace")
def a_call_is_felt_by_the_next(put: Set) -> None:
    sound = ToyModel.execute

    def execute(self: Any, feeds: Any) -> Any:
        self.seen = getattr(self, "seen", 0) + 1
        results = sound(self, feeds)
        return [r + r.dtype.type(self.seen) if r.dtype.kind in "fiu" else r for r in results]

    put(ToyModel, "execute", execute)


@defect("an_unknown_signature_of_a_loaded_model")
def any_signature_is_this_model(put: Set) -> None:
    put(ToyModel, "signature", lambda self, name: self)


# What is raised


@defect("what_the_runtime_raises_is_ours")
def a_run_raises_what_the_runtime_does(put: Set) -> None:
    put(ToyModel, "run", lambda self, feeds, timeout: (self.check_open(), self.execute(feeds))[1])


@defect("what_the_runtime_raises_is_ours", "stats_and_warmup")
def a_model_of_its_own_raises_what_the_runtime_does(put: Set) -> None:
    def infer(self: Any, inputs: Any, *, timeout: Any = None, dequantize: Any = None) -> Any:
        results = self.call(self.feeds(inputs), threading.Event())
        return {t.name: result for t, result in zip(self.outputs, results, strict=True)}

    put(ToyModel, "infer", infer)


@defect("what_the_runtime_raises_is_ours")
def a_run_of_a_binding_raises_what_the_runtime_does(put: Set) -> None:
    put(ToyBinding, "run", lambda self, timeout=None: (self.check_open(), self.step())[1])


@defect("what_the_runtime_raises_is_ours")
def a_failed_run_spoils_the_next(put: Set) -> None:
    sound = ToyModel.call

    def call(self: Any, feeds: Any, stop: Any) -> Any:
        if getattr(self, "spoiled", False):
            raise RuntimeError("the context is lost")
        self.spoiled = True
        results = sound(self, feeds, stop)
        self.spoiled = False
        return results

    put(ToyModel, "call", call)


@defect("a_damaged_file_is_a_typed_error")
def loading_raises_what_the_runtime_does(put: Set) -> None:
    put(Toy, "match", _careless_match)
    put(Toy, "translate", lambda _, error, source: error)


@defect("a_damaged_file_is_a_typed_error")
def a_damaged_file_ends_the_process(put: Set) -> None:
    sound = Toy.load

    def load(self: Any, source: Any, options: Any) -> Any:
        try:
            return sound(self, source, options)
        except Exception:
            os._exit(3)

    put(Toy, "match", _careless_match)
    put(Toy, "load", load)


@defect("a_damaged_file_is_a_typed_error")
def a_damaged_file_is_planned(put: Set) -> None:
    put(Toy, "match", _careless_match)


@defect("a_damaged_file_is_a_typed_error")
def describe_raises_what_the_parser_does(put: Set) -> None:
    def describe(_: Any, source: Any, signature: Any) -> Any:
        content = source.read()
        return toy_backend.read(source, signature) if content.endswith(b"}") else content[len(content)]

    put(Toy, "describe", describe)


def _careless_match(_: Any, source: Any, options: Any) -> Match:
    return Match(source.format == "toy", f"{source} is {source.likeness}")


@defect("unknown_commands_list_the_known_ones")
def an_unknown_command_is_a_key_error(put: Set) -> None:
    put(ToyModel, "do_command", lambda self, command, timeout=None: {"stats": dict}[command["command"]]())


@defect("a_command_keeps_its_deadline")
def the_timeout_of_a_command_is_ignored(put: Set) -> None:
    def do_command(self: Any, command: Any, *, timeout: Any = None) -> Any:
        return RuntimeModel.do_command(self, {**command, "runs": min(command.get("runs", 1), 3)})

    put(ToyModel, "do_command", do_command)


# What comes in


@defect(
    "flat_arrays_and_scattered_memory",
    "missing_batch_dimension",
    "wrong_shape_says_what_it_wanted",
    "wider_and_narrower_floats",
    "other_dtypes_are_refused",
    "real_values_into_quantised_inputs",
    "integers_are_cast_only_where_they_fit",
    "uint8_frames_into_an_image_input",
    "text_into_string_inputs",
)
def values_are_taken_as_they_come(put: Set) -> None:
    put(ToyModel, "adapter", lambda *_: np.ascontiguousarray)


@defect(
    "every_name_of_an_input_is_accepted",
    "wrong_name_lists_the_known_ones",
    "missing_and_surplus_inputs",
    "errors_share_one_base",
)
def only_one_name_is_known(put: Set) -> None:
    put(ToyModel, "feeds", lambda self, given: [adapt(given[name]) for name, adapt in self._adapters])


@defect("outputs_come_under_the_names_of_the_metadata")
def outputs_come_under_other_names(put: Set) -> None:
    def infer(self: Any, inputs: Any, **how: Any) -> Any:
        return {f"{name}:0": array for name, array in RuntimeModel.infer(self, inputs, **how).items()}

    put(ToyModel, "infer", infer)


@defect("impossible_timeouts")
def a_negative_timeout_is_none(put: Set) -> None:
    def infer(self: Any, inputs: Any, *, timeout: Any = None, dequantize: Any = None) -> Any:
        return RuntimeModel.infer(self, inputs, timeout=timeout if timeout and timeout > 0 else None)

    put(ToyModel, "infer", infer)


@defect("a_generous_timeout_changes_nothing")
def an_endless_timeout_overflows(put: Set) -> None:
    def infer(self: Any, inputs: Any, *, timeout: Any = None, dequantize: Any = None) -> Any:
        return RuntimeModel.infer(self, inputs, timeout=timeout and int(timeout * 1000) / 1000, dequantize=dequantize)

    put(ToyModel, "infer", infer)


@defect("outputs_of_another_size_each_time")
def the_first_size_of_an_output_stays(put: Set) -> None:
    sound = ToyModel.call

    def call(self: Any, feeds: Any, stop: Any) -> Any:
        results = sound(self, feeds, stop)
        sizes = self.__dict__.setdefault("sizes", [result.shape for result in results])
        return [np.resize(result, size) for result, size in zip(results, sizes, strict=True)]

    put(ToyModel, "call", call)


@defect("settled_shapes_stay")
def settled_shapes_are_forgotten(put: Set) -> None:
    sound = ToyModel.__init__

    def init(self: Any, program: Any, told: Any, device: str, options: Any) -> None:
        sound(self, program, told, device, replace(options, shapes={}))

    put(ToyModel, "__init__", init)


@defect("every_name_of_an_output_is_found")
def outputs_have_one_name(put: Set) -> None:
    sound = ToyModel.infer
    put(ToyModel, "infer", lambda self, inputs, **given: dict(sound(self, inputs, **given)))


@defect("a_model_is_pickled_as_what_loads_it_again")
def a_pickle_is_of_the_models_parts(put: Set) -> None:
    put(ToyModel, "__reduce__", lambda self: (type(self), (threading.Lock(),)))


@defect("binding_dynamic_inputs")
def the_shapes_of_a_binding_are_ignored(put: Set) -> None:
    sound = ToyModel.bind
    put(ToyModel, "bind", lambda self, shapes=None: sound(self))


# What was asked for


@defect("as_many_threads_as_asked_for")
def num_threads_is_ignored(put: Set) -> None:
    put(toy_backend, "default_threads", lambda _: 1)


@defect("the_signature_that_was_named_runs")
def signature_is_ignored(put: Set) -> None:
    _forget_the_signature(put)


def _forget_the_signature(put: Set) -> None:
    for method in ("match", "load"):
        sound = getattr(Toy, method)
        put(Toy, method, lambda s, source, o, sound=sound: sound(s, source, replace(o, signature=None)))


@defect("a_signature_that_is_not_there")
def an_unknown_signature_is_ignored(put: Set) -> None:
    put(Toy, "describe", lambda *_: None)
    _forget_the_signature(put)


@defect("every_device_that_is_ready_loads")
def a_device_that_is_ready_is_refused(put: Set) -> None:
    sound = Toy.load

    def load(self: Any, source: Any, options: Any) -> Any:
        if options.device == "toy:1":
            raise DeviceNotFoundError("toy:1 does not answer", "reset it")
        return sound(self, source, options)

    put(Toy, "load", load)


@defect("unknown_device_is_an_error")
def every_device_exists(put: Set) -> None:
    put(Toy, "devices", lambda _, options: [Device("toy", options.device or "toy:0", "npu", "some toy")])


@defect("says_what_it_runs_on")
def the_version_is_not_told(put: Set) -> None:
    import toy_runtime

    put(toy_runtime, "VERSION", "")


@defect("every_device_that_is_ready_loads")
def device_is_ignored(put: Set) -> None:
    sound = Toy.load
    put(Toy, "load", lambda self, source, options: sound(self, source, replace(options, device="toy:0")))


@defect("every_device_that_is_ready_loads")
def a_device_that_is_not_ready_gives_no_reason(put: Set) -> None:
    sound = Toy.devices
    put(Toy, "devices", lambda self, o: [*sound(self, o)[:2], Device("toy", "toy:2", "npu", "toy 2", False)])


@defect("plan_and_load_judge_alike[speed: unknown]")
def an_option_is_judged_by_load_alone(put: Set) -> None:
    put(Toy, "match", _match_without_speed)


_sound_match = Toy.match


def _match_without_speed(self: Any, source: Any, options: Any) -> Match:
    return _sound_match(self, source, replace(options, backend_options={}))


@defect("plan_and_load_judge_alike[tensor_names: an unknown input]")
def plan_does_not_know_the_names(put: Set) -> None:
    put(Toy, "describe", lambda *_: None)


@defect("plan_and_load_judge_an_object_alike[num_threads]")
def options_that_an_object_has_settled_are_ignored(put: Set) -> None:
    put(toy_backend, "check_settled", lambda *_: None)
    sound = Toy.load

    def load(self: Any, source: Any, options: Any) -> Any:
        if source.format == "object" and options.num_threads:
            raise OptionError("num_threads is settled", "leave it out")
        return sound(self, source, options)

    put(Toy, "load", load)


@defect("strict_refuses_every_conversion")
def strict_is_ignored(put: Set) -> None:
    sound = ToyModel.__init__

    def init(self: Any, program: Any, told: Any, device: Any, options: Any) -> None:
        sound(self, program, told, device, replace(options, strict=False))

    put(ToyModel, "__init__", init)


@defect("dequantize_gives_real_outputs")
def dequantize_is_ignored(put: Set) -> None:
    put(ToyModel, "_dequantized", lambda _, outputs: outputs)


@defect("the_labels_of_the_caller")
def the_callers_labels_are_lost(put: Set) -> None:
    put(ToyModel, "metadata", lambda self, timeout=None: (self.check_open(), self.describe())[1])


@defect("the_labels_in_the_model")
def the_labels_in_the_model_are_lost(put: Set) -> None:
    put(ToyModel, "describe", lambda self: replace(self.told, labels=()))


@defect("renamed_tensors")
def tensor_names_is_ignored(put: Set) -> None:
    sound = ToyModel.__init__

    def init(self: Any, program: Any, told: Any, device: Any, options: Any) -> None:
        sound(self, program, told, device, replace(options, tensor_names={}))

    put(ToyModel, "__init__", init)


# What is said


@defect("a_judgement_imports_no_runtime")
def match_imports_the_runtime(put: Set) -> None:
    sound = Toy.match

    def match(self: Any, source: Any, options: Any) -> Any:
        import toy_runtime  # noqa: F401

        return sound(self, source, options)

    put(Toy, "match", match)


@defect("a_judgement_imports_no_runtime")
def kinds_imports_the_runtime(put: Set) -> None:
    def kinds(_: Any) -> Any:
        import toy_runtime

        return ("npu",) if toy_runtime.VERSION else ()

    put(Toy, "kinds", kinds)


@defect("sniff_takes_its_own_files_alone")
def sniff_takes_every_file(put: Set) -> None:
    put(Toy, "sniff", classmethod(lambda *_: "toy"))


@defect("a_model_plays_its_role[quantized]", "a_model_plays_its_role[optional]")
def tensors_are_told_by_name_and_shape_alone(put: Set) -> None:
    sound = toy_backend._tensor
    put(toy_backend, "_tensor", lambda told: replace(sound(told), quantization=None, extra={}))


@defect("a_model_plays_its_role[dynamic_output]", "a_model_plays_its_role[passthrough]")
def every_answer_is_nothing(put: Set) -> None:
    def call(self: Any, *_: Any) -> Any:
        return [np.zeros([max(n, 1) for n in t.shape], dtype_of(t)) for t in self.outputs]

    put(ToyModel, "call", call)


@defect("other_content_is_refused")
def every_file_is_accepted(put: Set) -> None:
    put(Toy, "match", lambda *_: Match(True, "a toy program"))


@defect("is_listed_as_available_with_a_device")
def nothing_is_available(put: Set) -> None:
    put(Toy, "availability", lambda _: Availability(False, "", "no reason", "none"))


@defect("plan_says_why")
def a_match_has_no_reason(put: Set) -> None:
    put(Toy, "match", lambda _, source, __: Match(source.format == "toy"))
    put(Toy, "availability", lambda _: Availability(True))


@defect("a_model_is_the_same_whenever_it_is_loaded")
def names_count_up(put: Set) -> None:
    sound, number = ToyModel.__init__, itertools.count()

    def init(self: Any, program: Any, told: Any, device: Any, options: Any) -> None:
        inputs = tuple(replace(t, aliases=(f"{t.name}_{next(number)}",)) for t in told.inputs)
        sound(self, program, replace(told, inputs=inputs), device, options)

    put(ToyModel, "__init__", init)


@defect("a_model_is_the_same_whenever_it_is_loaded")
def descriptions_differ_from_load_to_load(put: Set) -> None:
    put(ToyModel, "describe", lambda self: replace(self.told, description=f"loaded at {id(self):#x}"))


@defect("metadata_agrees_with_what_comes_out")
def outputs_are_of_another_dtype_than_said(put: Set) -> None:
    sound = ToyModel.call

    def call(self: Any, feeds: Any, stop: Any) -> Any:
        return [a.astype(np.float64) if a.dtype == np.float32 else a for a in sound(self, feeds, stop)]

    put(ToyModel, "call", call)


@defect("dynamic_dimensions_may_change_from_call_to_call")
def the_first_shape_stays(put: Set) -> None:
    sound = ToyModel.call

    def call(self: Any, feeds: Any, stop: Any) -> Any:
        shapes = self.__dict__.setdefault("shapes", [feed.shape for feed in feeds])
        return sound(self, [np.resize(f, shape) for f, shape in zip(feeds, shapes, strict=True)], stop)

    put(ToyModel, "call", call)


# Threads and deadlines


@defect("any_thread_may_call")
def calls_disturb_each_other(put: Set) -> None:
    def call(self: Any, feeds: Any, stop: Any) -> Any:
        results = self.program.run(feeds, stop)
        time.sleep(1e-4)
        return [result.copy() for result in results]

    put(ToyModel, "call", call)
    put(ToyModel, "concurrent", True)


@defect("replicas_answer_like_one")
def replicas_are_one_model(put: Set) -> None:
    put(Toy, "load_replicas", lambda self, source, options, count: [self.load(source, options)] * count)


@defect("replicas_answer_like_one")
def replicas_are_fewer(put: Set) -> None:
    put(Toy, "load_replicas", lambda self, source, options, count: [self.load(source, options)])


@defect("a_slow_call_is_left_at_its_deadline", "replicas_keep_deadlines")
def timeout_is_ignored(put: Set) -> None:
    put(ToyModel, "execute_within", lambda self, feeds, timeout: self.run(feeds, None))


@defect("a_slow_run_of_a_binding_is_left_at_its_deadline")
def the_timeout_of_a_binding_is_ignored(put: Set) -> None:
    put(ToyBinding, "step_within", lambda self, timeout: self.step())


@defect("says_when_an_abandoned_call_has_ended")
def nothing_is_cancelled(put: Set) -> None:
    put(ToyModel, "cancellable", lambda self, feeds: (lambda: self.call(feeds, threading.Event()), lambda: None))


@defect("says_when_an_abandoned_call_has_ended")
def nobody_is_told_of_the_end(put: Set) -> None:
    put(ToyModel, "when_idle", lambda self, callback: callback() if self.turn._worker is None else None)


@defect("the_event_loop_goes_on_meanwhile")
def an_awaited_call_blocks(put: Set) -> None:
    async def infer_async(self: Any, inputs: Any, *, timeout: Any = None, dequantize: Any = None) -> Any:
        return self.infer(inputs, timeout=timeout, dequantize=dequantize)

    put(ToyModel, "infer_async", infer_async)


@defect("awaited_calls_answer_like_the_others")
def an_awaited_call_outlives_close(put: Set) -> None:
    async def infer_async(self: Any, inputs: Any, *, timeout: Any = None, dequantize: Any = None) -> Any:
        return {} if self.turn.closed else await RuntimeModel.infer_async(self, inputs, timeout=timeout)

    put(ToyModel, "infer_async", infer_async)


# The end


@defect("the_program_may_end_during_an_abandoned_call")
def the_end_of_the_program_aborts(put: Set) -> None:
    sound = ToyModel.cancellable

    def cancellable(self: Any, feeds: Any) -> Any:
        atexit.register(os._exit, 134)
        return sound(self, feeds)

    put(ToyModel, "cancellable", cancellable)


@defect("the_program_may_end_during_an_abandoned_call")
def the_end_of_the_program_is_loud(put: Set) -> None:
    sound = ToyModel.cancellable

    def cancellable(self: Any, feeds: Any) -> Any:
        atexit.register(os.write, 2, b"terminate called without an active exception\n")
        return sound(self, feeds)

    put(ToyModel, "cancellable", cancellable)


@defect("close_lets_the_runtime_go")
def close_lets_nothing_go(put: Set) -> None:
    put(ToyModel, "release", lambda _: None)


@defect("a_forgotten_model_is_collected")
def models_are_kept_for_ever(put: Set) -> None:
    sound, kept = ToyModel.__init__, []

    def init(self: Any, *given: Any) -> None:
        kept.append(self)
        sound(self, *given)

    put(ToyModel, "__init__", init)


@defect("use_after_close")
def a_closed_model_answers(put: Set) -> None:
    put(ToyModel, "close", lambda _: None)


@defect("close_does_not_wait_for_a_slow_call")
def close_waits(put: Set) -> None:
    sound = ToyModel.close

    def close(self: Any) -> None:
        with self.turn.lock:
            sound(self)

    put(ToyModel, "close", close)


# Running them


class _Failures:
    """Runs the tests that may fail as expected, until as many have, and notes their names."""

    def __init__(self, expected: tuple[str, ...]) -> None:
        self.missing = set(expected)
        self.names: list[str] = []

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        return None if any(item.name.startswith(one) for one in self.missing) else True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.names.append(report.nodeid.partition("::TestToy::")[2])
            self.missing = {one for one in self.missing if not self.names[-1].startswith(one)}


def _failures(suite: str, name: str, mutation: Mutation) -> list[str]:
    seen = _Failures(mutation.caught_by)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setenv("TOY_MUTATION", name)
        mutation.plant(patch.setattr)
        only = sorted({f"{suite}::TestToy::{test.partition('[')[0]}" for test in mutation.caught_by})
        # this program has imported the package for its mutants before pytest could rewrite its assertions
        quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        pytest.main([*only, *quiet], plugins=[seen])
    return seen.names


if __name__ == "__main__":
    import toy_mutations  # so that what is planted here and in children are the same functions

    suite, first, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    some = itertools.islice(toy_mutations.MUTATIONS.items(), first, None, step)
    print(json.dumps({n: _failures(suite, n, m) for n, m in some}))
