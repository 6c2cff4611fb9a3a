"""Shapes, memory layouts and dtypes of what a caller gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ...contract import concrete_shape, dtype_of
from ...errors import TensorError
from ..inputs import random_inputs
from .cases import CaseTests, levels_of, scale_and_zero
from .casting import unlike_inputs

__all__ = ["ValueTests"]


class ValueTests(CaseTests):
    """Shapes and conversions."""

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
        for size in (1, 4, 2, 4, 7):
            inputs = random_inputs(model, size, dynamic=size)
            self.check(case, inputs, model.infer(inputs))

    def test_outputs_of_another_size_each_time(self, opened: Any) -> None:
        model, case = opened("dynamic_output")
        for inputs in unlike_inputs(model):
            self.check(case, inputs, model.infer(inputs))

    # Conversions

    def test_wider_and_narrower_floats(self, opened: Any) -> None:
        model, case = opened("plain")
        inputs = random_inputs(model)
        outputs = model.infer({k: v.astype(np.float64) for k, v in inputs.items()})
        self.check(case, inputs, outputs)
        assert [outputs[t.name].dtype for t in model.metadata().outputs] == [
            dtype_of(t) for t in model.metadata().outputs
        ]
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
            limits = np.iinfo(t.data_type)
            scale, zero = scale_and_zero(t)
            low, high = (limits.min - zero) * scale, (limits.max - zero) * scale
            span = np.asarray(high - low)
            x = random.uniform(low - 0.01 * span, high + 0.01 * span, concrete_shape(t.shape)).astype(np.float32)
            real[t.name], levels[t.name] = x, levels_of(t, x)
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
                scale, zero = scale_and_zero(t)
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
        t = opened("image")[0].metadata().inputs[0]
        channels = t.shape[t.layout.index("C")]
        means, deviations = (10, 100, 200, 0)[:channels], (50, 100, 150, 1)[:channels]
        model, case = opened("image", normalization=(means, deviations))
        t = model.metadata().inputs[0]
        assert t.normalization is not None
        assert t.normalization.source == "user"
        frame = np.random.default_rng(3).integers(0, 256, concrete_shape(t.shape)).astype(np.uint8)
        shape = (-1,) if t.layout.endswith("C") else (-1, 1, 1)
        mean, std = (np.array(values, np.float32).reshape(shape) for values in (means, deviations))
        real = (frame - mean) / std
        wanted = {t.name: real.astype(t.data_type) if t.quantization is None else levels_of(t, real)}
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
