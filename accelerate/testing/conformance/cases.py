"""What all of the suite's tests work with: the models that a backend's tests supply, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ...api import load
from ...contract import Array, dtype_of
from ...metadata import TensorInfo
from ...model import Model
from .roles import ROLES, Case, misfit, unknown_role

__all__ = ["CaseTests", "levels_of", "scale_and_zero"]


class CaseTests:
    """What the parts of the suite have in common."""

    #: Name of the backend under test.
    backend: ClassVar[str]

    def cases(self) -> Mapping[str, Case]:
        """Return a Case for "plain" and for as many other `ROLES` as the backend can run."""
        raise NotImplementedError("a conformance test class supplies cases()")

    def case(self, role: str) -> Case:
        """Return the Case of a role; a test that needs one which the backend does not supply is skipped."""
        supplied = self.cases()
        if strange := sorted(set(supplied) - set(ROLES)):  # else the tests of what is misspelled would be skipped
            pytest.fail(unknown_role(strange[0]), pytrace=False)
        case = supplied.get(role)
        if case is None:
            pytest.skip(f"{self.backend} supplies no {role!r} model: {ROLES[role]}")
        return case

    @pytest.fixture
    def opened(self) -> Iterator[Callable[..., tuple[Model, Case]]]:
        """Load the model of a role, with more options if given; closed after the test.

        One that cannot play its role fails here, in words, and not somewhere in a test of what it does not have.
        """
        models: list[Model] = []

        def open_model(role: str, **options: Any) -> tuple[Model, Case]:
            case = self.case(role)
            models.append(load(case.source, backend=self.backend, **{**case.options, **options}))
            if not options and (lack := misfit(role, case, models[-1].metadata())):  # options may change its tensors
                pytest.fail(lack, pytrace=False)
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
