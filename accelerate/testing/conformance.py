"""The conformance suite: what every backend keeps, as tests that any backend's own test file subclasses.

::

    class TestMine(BackendConformance):
        backend = "mine"

        def cases(self):
            return {"plain": Case("double.mine", lambda x: {"y": 2 * x["x"]})}

Only "plain" is required. A test that needs a model of another kind is skipped, with that reason, where `cases` has
none.
Needs the extra ``testing``.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from ..api import list_backends, list_devices, load, plan
from ..calls.conversion import Array, concrete_shape, dtype_of
from ..errors import (
    AccelerateError,
    BackendNotAvailableError,
    ClosedError,
    DeviceNotFoundError,
    InferenceTimeoutError,
    ModelError,
    ModelNotFoundError,
    NoBackendError,
    OptionError,
    TensorError,
)
from ..metadata import TensorInfo
from ..model import Model
from .inputs import random_inputs

__all__ = ["ROLES", "BackendConformance", "Case"]

#: The kinds of model that the suite knows what to ask of.
ROLES = {
    "plain": "float32 inputs and outputs of fixed shape, with at least two elements",
    "several": "more than one input",
    "quantized": "a uint8, int8 or int16 input with scale and zero_point",
    "image": "one image input of float32 or float16 (uint8 frames are normalised into it), or of int8",
    "dynamic": "an input with a dimension of -1",
    "integers": "an input of an integer type without quantisation",
    "strings": "a string input",
    "batched": "a first dimension of 1 on an input of rank 2 or more",
    "slow": "takes 0.2 s or more for a call",
}


@dataclass(frozen=True)
class Case:
    """A model and what it computes.

    Attributes
    ----------
    source : object
        What `load` takes.
    reference : callable
        Maps inputs (by canonical name, in the model's dtypes) to the expected outputs.
    options : Mapping
        Further arguments of `load`.
    rtol : float
        Relative tolerance of floating-point outputs.
    """

    source: Any
    reference: Callable[[dict[str, Array]], dict[str, Array]]
    options: Mapping[str, Any] = field(default_factory=dict)
    rtol: float = 1e-6


class BackendConformance:
    """Subclass it, set `backend`, and supply `cases`."""

    #: Name of the backend under test.
    backend: ClassVar[str]

    def cases(self) -> Mapping[str, Case]:
        """Return a Case for "plain" and for as many other `ROLES` as the backend can run."""
        raise NotImplementedError("a conformance test class supplies cases()")

    # What the tests work with

    @pytest.fixture
    def opened(self) -> Iterator[Callable[..., tuple[Model, Case]]]:
        """Load the model of a role, with more options if given; closed after the test."""
        models: list[Model] = []

        def open_model(role: str, **options: Any) -> tuple[Model, Case]:
            case = self.cases().get(role)
            if case is None:
                pytest.skip(f"{self.backend} supplies no {role!r} model: {ROLES[role]}")
            models.append(load(case.source, backend=self.backend, **{**case.options, **options}))
            return models[-1], case

        yield open_model
        for model in models:
            model.close()

    @staticmethod
    def check(case: Case, inputs: dict[str, Array], outputs: Mapping[str, Array]) -> None:
        """Compare outputs with the case's reference."""
        expected = case.reference(inputs)
        assert set(outputs) == set(expected)
        for name, want in expected.items():
            if want.dtype.kind == "f":
                np.testing.assert_allclose(outputs[name], want, rtol=case.rtol, atol=case.rtol)
            else:
                np.testing.assert_array_equal(outputs[name], want)

    # Availability, plan, loading

    def test_is_listed_as_available_with_a_device(self) -> None:
        info = list_backends()[self.backend]
        assert info.available, f"{info.reason}: {info.remedy}"
        assert info.description
        assert any(d.backend == self.backend and d.ready for d in list_devices())

    def test_plan_says_why(self) -> None:
        case = self.cases()["plain"]
        decided = plan(case.source, backend=self.backend, **case.options)
        assert decided.chosen is not None
        assert decided.chosen.backend == self.backend
        assert decided.chosen.reason
        assert decided.chosen.reason in str(decided)

    def test_says_what_it_runs_on(self, opened: Any) -> None:
        model, _ = opened("plain")
        assert model.backend == self.backend
        assert model.runtime.name
        assert model.runtime.version
        assert model.device == model.runtime.device

    def test_unknown_device_is_an_error(self, opened: Any) -> None:
        with pytest.raises(DeviceNotFoundError, match="warp:9"):
            opened("plain", device="warp:9")

    def test_unknown_option_names_the_known_ones(self, opened: Any) -> None:
        with pytest.raises(OptionError, match="num_threads"):
            opened("plain", num_thread=1)

    @pytest.mark.parametrize("threads", [0, -1, 1.5, True])
    def test_impossible_num_threads(self, opened: Any, threads: Any) -> None:
        with pytest.raises(OptionError, match="num_threads"):
            opened("plain", num_threads=threads)

    def test_missing_file(self, tmp_path: Any) -> None:
        with pytest.raises(ModelNotFoundError, match="nothing-here"):
            load(tmp_path / "nothing-here.model", backend=self.backend)

    def test_other_content_is_refused(self, tmp_path: Any) -> None:
        (tmp_path / "text.model").write_text("this is no model\n" * 10)
        with pytest.raises((ModelError, NoBackendError, BackendNotAvailableError)):
            load(tmp_path / "text.model", backend=self.backend)

    # Names

    def test_outputs_come_under_the_names_of_the_metadata(self, opened: Any) -> None:
        model, case = opened("plain")
        inputs = random_inputs(model)
        outputs = model.infer(inputs)
        assert set(outputs) == {t.name for t in model.metadata().outputs}
        self.check(case, inputs, outputs)

    def test_every_name_of_an_input_is_accepted(self, opened: Any) -> None:
        model, case = opened("several")
        inputs = random_inputs(model)
        for tensor in model.metadata().inputs:
            for alias in tensor.aliases:
                renamed = {alias if name == tensor.name else name: value for name, value in inputs.items()}
                self.check(case, inputs, model.infer(renamed))
        self.check(case, inputs, model.infer({str(i): value for i, value in enumerate(inputs.values())}))
        self.check(case, inputs, model.infer(dict(reversed(inputs.items()))))

    def test_wrong_name_lists_the_known_ones(self, opened: Any) -> None:
        model, _ = opened("plain")
        inputs = random_inputs(model)
        known = next(iter(inputs))
        wrong = {f"{known}_": inputs.pop(known), **inputs}
        with pytest.raises(TensorError, match="has no input") as caught:
            model.infer(wrong)
        assert repr(known) in str(caught.value)

    def test_missing_and_surplus_inputs(self, opened: Any) -> None:
        model, _ = opened("several")
        inputs = random_inputs(model)
        name, value = inputs.popitem()
        with pytest.raises(TensorError, match="missing input") as caught:
            model.infer(inputs)
        assert repr(name) in str(caught.value)
        with pytest.raises(TensorError):
            model.infer({**inputs, name: value, "surplus": value})
        with pytest.raises(TensorError, match="give a dict"):
            model.infer(value)

    def test_renamed_tensors(self, opened: Any) -> None:
        model, case = opened("plain")
        inputs = random_inputs(model)
        theirs_in, theirs_out = model.metadata().inputs[0].name, model.metadata().outputs[0].name
        names = {"inputs": {theirs_in: "mine in"}, "outputs": {theirs_out: "mine out"}}
        renamed, _ = opened("plain", tensor_names=names)
        assert renamed.metadata().inputs[0].name == "mine in"
        outputs = renamed.infer({"mine in": inputs[theirs_in], **{k: v for k, v in inputs.items() if k != theirs_in}})
        self.check(case, inputs, {theirs_out if k == "mine out" else k: v for k, v in outputs.items()})
        self.check(case, inputs, {theirs_out if k == "mine out" else k: v for k, v in renamed.infer(inputs).items()})
        with pytest.raises(OptionError, match="no such"):
            opened("plain", tensor_names={"inputs": {"no such": "x"}})

    # Shapes and memory layouts

    def test_flat_arrays_and_scattered_memory(self, opened: Any) -> None:
        model, case = opened("plain")
        inputs = random_inputs(model)
        self.check(case, inputs, model.infer({k: v.ravel() for k, v in inputs.items()}))
        self.check(case, inputs, model.infer({k: np.asfortranarray(v) for k, v in inputs.items()}))
        self.check(case, inputs, model.infer({k: np.repeat(v, 2, axis=-1)[..., ::2] for k, v in inputs.items()}))
        self.check(case, inputs, model.infer({k: v.astype(v.dtype.newbyteorder(">")) for k, v in inputs.items()}))
        self.check(case, inputs, model.infer({k: v.tolist() for k, v in inputs.items()}))

    def test_missing_batch_dimension(self, opened: Any) -> None:
        model, case = opened("batched")
        inputs = random_inputs(model)
        self.check(case, inputs, model.infer({k: v[0] for k, v in inputs.items()}))

    def test_wrong_shape_says_what_it_wanted(self, opened: Any) -> None:
        model, _ = opened("plain")
        tensor = model.metadata().inputs[0]
        wrong = np.zeros((*concrete_shape(tensor.shape), 2), dtype_of(tensor))
        with pytest.raises(TensorError) as caught:
            model.infer({**random_inputs(model), tensor.name: wrong})
        assert str(list(tensor.shape)) in str(caught.value)
        assert repr(tensor.name) in str(caught.value)

    def test_dynamic_dimensions_may_change_from_call_to_call(self, opened: Any) -> None:
        model, case = opened("dynamic")
        random = np.random.default_rng(1)
        for size in (1, 4, 2, 4, 7):
            inputs = {
                t.name: random.uniform(-1, 1, [size if n < 0 else n for n in t.shape]).astype(dtype_of(t))
                for t in model.metadata().inputs
            }
            self.check(case, inputs, model.infer(inputs))

    # Conversions

    def test_wider_and_narrower_floats(self, opened: Any) -> None:
        model, case = opened("plain")
        inputs = random_inputs(model)
        self.check(case, inputs, model.infer({k: v.astype(np.float64) for k, v in inputs.items()}))
        halves = {k: v.astype(np.float16) for k, v in inputs.items()}
        self.check(case, {k: v.astype(np.float32) for k, v in halves.items()}, model.infer(halves))

    def test_other_dtypes_are_refused(self, opened: Any) -> None:
        model, _ = opened("plain")
        inputs = random_inputs(model)
        for dtype in (np.int64, np.bool_, np.complex64, "U4", object):
            with pytest.raises(TensorError, match="wanted float32"):
                model.infer({k: v.astype(dtype) for k, v in inputs.items()})

    def test_strict_refuses_every_conversion(self, opened: Any) -> None:
        model, case = opened("plain", strict=True)
        inputs = random_inputs(model)
        self.check(case, inputs, model.infer(inputs))
        with pytest.raises(TensorError, match="strict"):
            model.infer({k: v.astype(np.float64) for k, v in inputs.items()})

    def test_real_values_into_quantised_inputs(self, opened: Any) -> None:
        model, case = opened("quantized")
        random = np.random.default_rng(2)
        real, levels = {}, {}
        for t in model.metadata().inputs:
            assert t.quantization is not None
            limits = np.iinfo(t.data_type)
            scale, zero = _broadcast(t)
            low, high = (limits.min - zero) * scale, (limits.max - zero) * scale
            span = np.asarray(high - low)
            x = random.uniform(low - 0.01 * span, high + 0.01 * span, concrete_shape(t.shape)).astype(np.float32)
            real[t.name] = x
            levels[t.name] = np.clip(np.rint(x / scale.astype(np.float32) + zero), limits.min, limits.max).astype(
                t.data_type
            )
        self.check(case, levels, model.infer(levels))
        self.check(case, levels, model.infer(real))
        name = next(iter(real))
        real[name].ravel()[0] = np.nan
        with pytest.raises(TensorError, match="NaN"):
            model.infer(real)

    def test_dequantize_gives_real_outputs(self, opened: Any) -> None:
        model, _ = opened("quantized")
        inputs = random_inputs(model)
        raw, real = model.infer(inputs), model.infer(inputs, dequantize=True)
        always, _ = opened("quantized", dequantize=True)
        for t in model.metadata().outputs:
            assert raw[t.name].dtype == dtype_of(t)
            if t.quantization is not None:
                scale, zero = _broadcast(t)
                np.testing.assert_allclose(real[t.name], (raw[t.name].astype(np.float64) - zero) * scale, rtol=1e-6)
                assert real[t.name].dtype == np.float32
                np.testing.assert_array_equal(always.infer(inputs)[t.name], real[t.name])
                np.testing.assert_array_equal(always.infer(inputs, dequantize=False)[t.name], raw[t.name])

    def test_integers_are_cast_only_where_they_fit(self, opened: Any) -> None:
        model, case = opened("integers")
        inputs = {k: v % 50 for k, v in random_inputs(model).items()}
        self.check(case, inputs, model.infer({k: v.astype(np.int8) for k, v in inputs.items()}))
        t = model.metadata().inputs[0]
        if np.iinfo(t.data_type).max < 2**63 - 1:
            too_large = np.full(concrete_shape(t.shape), np.iinfo(t.data_type).max + 1)
            with pytest.raises(TensorError, match="do not fit"):
                model.infer({**inputs, t.name: too_large})

    def test_uint8_frames_into_an_image_input(self, opened: Any) -> None:
        mean, std = np.array([10, 100, 200], np.float32), np.array([50, 100, 150], np.float32)
        model, case = opened("image", normalization=(mean, std))
        t = model.metadata().inputs[0]
        assert t.normalization is not None
        assert t.normalization.source == "user"
        frame = np.random.default_rng(3).integers(0, 256, concrete_shape(t.shape)).astype(np.uint8)
        shape = (-1,) if t.layout.endswith("C") else (-1, 1, 1)
        channels = frame.shape[t.layout.index("C")]
        real = (frame - mean[:channels].reshape(shape)) / std[:channels].reshape(shape)
        if t.quantization is not None:
            scale, zero = _broadcast(t)
            limits = np.iinfo(t.data_type)
            real = np.clip(np.rint(real / scale.astype(np.float32) + zero), limits.min, limits.max)
        wanted = {t.name: real.astype(t.data_type)}
        np.testing.assert_equal(model.infer({t.name: frame}), model.infer(wanted))
        self.check(case, wanted, model.infer({t.name: frame}))

    def test_text_into_string_inputs(self, opened: Any) -> None:
        model, case = opened("strings")
        inputs = random_inputs(model)
        outputs = model.infer(inputs)
        self.check(case, inputs, outputs)
        decode = np.vectorize(bytes.decode, otypes="U")
        text = {name: decode(v) if v.dtype.hasobject else v for name, v in inputs.items()}
        self.check(case, inputs, model.infer(text))
        strings = [t.name for t in model.metadata().outputs if t.data_type == "string"]
        assert all(isinstance(word, bytes) for name in strings for word in outputs[name].ravel())

    # Whose memory it is

    def test_results_are_the_callers_own(self, opened: Any) -> None:
        model, case = opened("plain")
        inputs = random_inputs(model, 4)
        kept = {k: v.copy() for k, v in inputs.items()}
        first = model.infer(inputs)
        second = model.infer(random_inputs(model, 5))
        self.check(case, kept, first)
        for name in first:
            assert first[name].flags.writeable
            assert not any(np.shares_memory(first[name], other) for other in (*second.values(), *inputs.values()))
            first[name][...] = 7
        others = random_inputs(model, 5)
        self.check(case, others, second)
        for name, value in inputs.items():
            np.testing.assert_array_equal(value, kept[name])
            value[...] = 0
        model.close()
        gc.collect()
        self.check(case, others, second)

    # Threads and deadlines

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
        self.call_from_many_threads(model, case, callers=4, calls=20, timed=3)

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

    # Binding

    def test_binding_runs_on_its_own_arrays(self, opened: Any) -> None:
        model, case = opened("plain")
        with model.bind() as binding, model.bind() as other:
            for seed in range(3):
                inputs = random_inputs(model, seed)
                for name, value in inputs.items():
                    binding.inputs[name][...] = value
                binding.run()
                model.infer(random_inputs(model, 99))
                other.run()
                self.check(case, inputs, binding.outputs)
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

    def test_binding_dynamic_inputs(self, opened: Any) -> None:
        model, case = opened("dynamic")
        tensors = model.metadata().inputs
        shapes = {t.name: tuple(3 if n < 0 else n for n in t.shape) for t in tensors}
        random = np.random.default_rng(6)
        with model.bind(shapes) as binding:
            inputs = {t.name: random.uniform(-1, 1, shapes[t.name]).astype(dtype_of(t)) for t in tensors}
            for name, value in inputs.items():
                binding.inputs[name][...] = value
            binding.run(timeout=60)
            self.check(case, inputs, binding.outputs)
        with pytest.raises(TensorError, match="bind"):
            model.bind({tensors[0].name: (*shapes[tensors[0].name], 2)})

    # Metadata, commands, closing

    def test_metadata_agrees_with_what_comes_out(self, opened: Any) -> None:
        model, _ = opened("plain")
        metadata = model.metadata()
        assert metadata == model.metadata()
        outputs = model.infer(random_inputs(model))
        for tensor in metadata.outputs:
            assert outputs[tensor.name].dtype == dtype_of(tensor)
            assert len(outputs[tensor.name].shape) == len(tensor.shape)
            assert all(want in (-1, got) for got, want in zip(outputs[tensor.name].shape, tensor.shape, strict=True))
        assert all(tensor.name in str(metadata) for tensor in (*metadata.inputs, *metadata.outputs))

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

    def test_errors_share_one_base(self, opened: Any) -> None:
        model, _ = opened("plain")
        with pytest.raises(AccelerateError):
            model.infer({})


def _broadcast(t: TensorInfo) -> tuple[Array, Array]:
    """Scale and zero point, shaped to broadcast over the tensor."""
    assert t.quantization is not None
    shape = [1] * len(t.shape)
    if t.quantization.axis is not None:
        shape[t.quantization.axis] = -1
    return (
        np.asarray(t.quantization.scale).reshape(shape),
        np.asarray(t.quantization.zero_point, np.float32).reshape(shape),
    )
