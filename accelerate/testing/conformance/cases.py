"""What a backend's tests supply to the suite, and what all of the suite's tests work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ...api import load
from ...contract import Array, dtype_of
from ...metadata import TensorInfo
from ...model import Model

__all__ = ["ROLES", "Case", "CaseTests", "levels_of", "scale_and_zero"]

#: The kinds of model that the suite knows what to ask of.
ROLES = {
    "plain": "float32 inputs and outputs of fixed shape, with at least two elements",
    "several": "more than one input",
    "optional": "one required input and an optional one, both of float32 and fixed shape",
    "quantized": "a uint8, int8 or int16 input with scale and zero_point",
    "image": "one image input of float32 or float16 (uint8 frames are normalised into it), or of int8",
    "dynamic": "an input with a dimension of -1",
    "dynamic_output": "an output whose size only a run tells, since it depends on the values of the inputs",
    "integers": "an input of an integer type without quantisation",
    "strings": "a string input",
    "batched": "a first dimension of 1 on an input of rank 2 or more",
    "passthrough": "an output that is an input",
    "signatures": "more than one signature: see Case.signatures",
    "labels": "labels in the model itself: see Case.labels",
    "failing": "the runtime fails on some inputs while it runs: see Case.fails_on",
    "existing": "an existing object of the runtime",
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
    signatures : Mapping of str to callable
        For "signatures": the name of each, and its reference.
    labels : tuple of str
        For "labels": those in the model.
    fails_on : Mapping of str to array_like
        For "failing": inputs on which the runtime fails. It works on random ones, floats from -1 to 1.
    cancels : bool
        For "slow": the runtime ends a call early once its caller has left it.
    """

    source: Any
    reference: Callable[[dict[str, Array]], dict[str, Array]]
    options: Mapping[str, Any] = field(default_factory=dict)
    rtol: float = 1e-6
    signatures: Mapping[str, Callable[[dict[str, Array]], dict[str, Array]]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    fails_on: Mapping[str, Any] = field(default_factory=dict)
    cancels: bool = False


class CaseTests:
    """What the parts of the suite have in common."""

    #: Name of the backend under test.
    backend: ClassVar[str]

    def cases(self) -> Mapping[str, Case]:
        """Return a Case for "plain" and for as many other `ROLES` as the backend can run."""
        raise NotImplementedError("a conformance test class supplies cases()")

    def case(self, role: str) -> Case:
        """Return the Case of a role; a test that needs one which the backend does not supply is skipped."""
        case = self.cases().get(role)
        if case is None:
            pytest.skip(f"{self.backend} supplies no {role!r} model: {ROLES[role]}")
        return case

    @pytest.fixture
    def opened(self) -> Iterator[Callable[..., tuple[Model, Case]]]:
        """Load the model of a role, with more options if given; closed after the test."""
        models: list[Model] = []

        def open_model(role: str, **options: Any) -> tuple[Model, Case]:
            case = self.case(role)
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

    @pytest.fixture
    def model_file(self, tmp_path: Path) -> Callable[[str], Path]:
        """Return the file of a role's model, written for it where the case has only its content."""

        def find(role: str) -> Path:
            source = self.case(role).source
            if isinstance(source, (bytes, bytearray, memoryview)):
                path = tmp_path / f"{role}.model"
                path.write_bytes(source)
                return path
            if isinstance(source, str) and "://" in source:
                pytest.skip(f"{source} is no file on this machine")
            if not isinstance(source, (str, Path)):
                pytest.skip(f"the source of {role!r} is an object, no file")
            return Path(source)

        return find


def scale_and_zero(t: TensorInfo) -> tuple[Array, Array]:
    """Return scale and zero point, shaped to broadcast over the tensor."""
    assert t.quantization is not None
    shape = [1] * len(t.shape)
    if t.quantization.axis is not None:
        shape[t.quantization.axis] = -1
    return (
        np.asarray(t.quantization.scale).reshape(shape),
        np.asarray(t.quantization.zero_point, np.float32).reshape(shape),
    )


def levels_of(t: TensorInfo, real: Array) -> Array:
    """Return real values as the levels of a quantised tensor."""
    limits = np.iinfo(t.data_type)
    scale, zero = scale_and_zero(t)
    levels: Array = np.clip(np.rint(real / scale.astype(np.float32) + zero), limits.min, limits.max)
    return levels.astype(dtype_of(t))
