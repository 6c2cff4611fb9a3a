"""The suite over the least backend of examples/, and what it says of models that do not play their roles."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from declaring import declare

from accelerate.testing import ROLES, BackendConformance, Case
from accelerate.testing.conformance import casting
from accelerate.testing.conformance.casting import CastingTests


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the example's distribution is installed."""
    return declare(tmp_path_factory.mktemp("site"), "linear_npy", linear_npy="LinearNpy")


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    monkeypatch.syspath_prepend(site)
    monkeypatch.syspath_prepend(ROOT / "examples" / "plugin_backend")


def linear(rows: int = 3, columns: int = 2) -> Case:
    matrix = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    file = io.BytesIO()
    np.save(file, matrix)
    return Case(file.getvalue(), lambda x: {"y": x["x"] @ matrix})


class TestLinearNpy(BackendConformance):
    backend = "linear_npy"

    def cases(self) -> Mapping[str, Case]:
        return {"plain": linear()}


_LACKS = {
    "plain": "",
    "several": "has no second input that every call gives: x float32[3]",
    "optional": "has not one required and one optional input, both of float32 and fixed shape: x float32[3]",
    "quantized": "has an input that is not of uint8, int8 or int16 with scale and zero_point: x float32[3]",
    "image": "has no image input (one with a layout) of float32, float16 or int8 alone: x float32[3]",
    "dynamic": "has no input with a dimension of -1: x float32[3]",
    "dynamic_output": "gives outputs of one size whatever its inputs hold: x float32[3] -> y float32[2]",
    "integers": "has an input that is not of an integer type without quantisation: x float32[3]",
    "strings": "has no string input: x float32[3]",
    "batched": "has an input without a first dimension of 1 or -1 and a second one: x float32[3]",
    "passthrough": "gives no output that is an input: x float32[3] -> y float32[2]",
    "signatures": "comes with fewer than two Case.signatures",
    "labels": "comes without Case.labels",
    "failing": "comes without Case.fails_on",
    "existing": "is no existing object, but what load reads",
    "slow": "takes less than 0.2 s for a call",
}


class TestOneModelForEveryRole(CastingTests):
    backend = "linear_npy"

    def cases(self) -> Mapping[str, Case]:
        return {role: linear() for role in ROLES}

    @pytest.fixture(autouse=True)
    def _on_a_machine_that_stalls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(casting, "_LONG", 60.0)

    @pytest.mark.parametrize("role", ROLES)
    def test_a_model_plays_its_role(self, opened: Any, role: str) -> None:
        if not _LACKS[role]:
            super().test_a_model_plays_its_role(opened, role)
            return
        with pytest.raises(pytest.fail.Exception) as caught:
            super().test_a_model_plays_its_role(opened, role)
        assert str(caught.value) == f"the model for {role!r} {_LACKS[role]}; supply one, or leave the role out"


class TestTooSmallAModel(CastingTests):
    backend = "linear_npy"

    def cases(self) -> Mapping[str, Case]:
        return {"plain": linear(1), "failing": Case(linear().source, linear().reference, fails_on={"x": np.ones(3)})}

    @pytest.mark.parametrize("role", ["plain", "failing"])
    def test_a_model_plays_its_role(self, opened: Any, role: str) -> None:
        wanted = {
            "plain": r"float32 outputs: x float32\[1\] -> y float32\[2\]; supply one; every backend does",
            "failing": r"the model for 'failing' answers on its Case\.fails_on; supply one",
        }
        with pytest.raises(pytest.fail.Exception, match=wanted[role]):
            super().test_a_model_plays_its_role(opened, role)


class TestAMisspelledRole(CastingTests):
    backend = "linear_npy"

    def cases(self) -> Mapping[str, Case]:
        return {"plain": linear(), "quantised": linear()}

    @pytest.mark.parametrize("role", ["plain", "quantized"])
    def test_a_model_plays_its_role(self, opened: Any, role: str) -> None:
        said = r"has 'quantised', which is no role \(did you mean 'quantized'\?\); the roles are plain, several, "
        with pytest.raises(pytest.fail.Exception, match=said):
            super().test_a_model_plays_its_role(opened, role)


del BackendConformance, CastingTests  # pytest collects what a module holds
