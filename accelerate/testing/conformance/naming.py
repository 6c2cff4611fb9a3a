"""What tensors are called, which of a model's signatures runs, its labels, and what is known about it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from ...contract import dtype_of
from ...errors import OptionError, TensorError
from ..inputs import random_inputs
from .cases import CaseTests
from .roles import ROLES

__all__ = ["NamingTests"]


class NamingTests(CaseTests):
    """Names, signatures, labels, metadata."""

    def test_outputs_come_under_the_names_of_the_metadata(self, opened: Any) -> None:
        model, case = opened("plain")
        inputs = random_inputs(model)
        outputs = model.infer(inputs)
        assert set(outputs) == {t.name for t in model.metadata().outputs}
        self.check(case, inputs, outputs)

    def test_every_name_of_an_output_is_found(self, opened: Any) -> None:
        model, _ = opened("plain")
        tensors = model.metadata().outputs
        outputs = model.infer(random_inputs(model))
        for number, tensor in enumerate(tensors):
            for name in (str(number), *tensor.aliases):
                assert outputs[name] is outputs.get(name) is outputs[tensor.name]
        assert "no such" not in outputs
        assert outputs.get("no such", 5) == 5
        with pytest.raises(KeyError, match="no such"):
            outputs["no such"]
        assert list(outputs) == [t.name for t in tensors]

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

    def test_the_signature_that_was_named_runs(self, opened: Any) -> None:
        case = self.case("signatures")
        assert len(case.signatures) > 1
        for name, reference in case.signatures.items():
            model, _ = opened("signatures", signature=name)
            inputs = random_inputs(model, 7)
            outputs, expected = model.infer(inputs), reference(inputs)
            assert set(outputs) == set(expected) == {t.name for t in model.metadata().outputs}
            for key, want in expected.items():
                assert outputs[key] == pytest.approx(want, rel=case.rtol)

    def test_a_signature_that_is_not_there(self, opened: Any) -> None:
        with pytest.raises(OptionError, match="signature"):
            opened("plain", signature="no such signature")
        with contextlib.suppress(pytest.skip.Exception):
            with pytest.raises(OptionError) as caught:
                opened("signatures", signature="no such signature")
            assert all(name in str(caught.value) for name in self.case("signatures").signatures)

    # Labels

    def test_the_labels_of_the_caller(self, opened: Any, tmp_path: Path) -> None:
        path = tmp_path / "mine.txt"
        path.write_text("eins\nzwei\ndrei\n", encoding="utf-8")
        for role in {"plain", "labels"} & set(self.cases()):
            metadata = opened(role, label_path=path)[0].metadata()
            assert metadata.labels == ("eins", "zwei", "drei")
            assert [t.extra["labels"] for t in metadata.outputs] == [str(path)] * len(metadata.outputs)
        with pytest.raises(OptionError, match=r"no-such\.txt"):
            opened("plain", label_path=tmp_path / "no-such.txt")

    def test_the_labels_in_the_model(self, opened: Any) -> None:
        model, case = opened("labels")
        assert case.labels
        assert model.metadata().labels == case.labels

    # Metadata

    def test_metadata_agrees_with_what_comes_out(self, opened: Any) -> None:
        model, _ = opened("plain")
        metadata = model.metadata()
        assert metadata == model.metadata()
        outputs = model.infer(random_inputs(model))
        for tensor in metadata.outputs:
            assert outputs[tensor.name].dtype == dtype_of(tensor)
            assert _fits(outputs[tensor.name].shape, tensor.shape), "metadata() tells another shape than what came out"
        assert all(tensor.name in str(metadata) for tensor in (*metadata.inputs, *metadata.outputs))

    @pytest.mark.parametrize("role", [role for role in ROLES if role != "existing"])
    def test_a_model_is_the_same_whenever_it_is_loaded(self, opened: Any, role: str) -> None:
        model, _ = opened(role)
        model.infer(random_inputs(model, dynamic=2)) if role not in ("slow", "failing") else None
        again, _ = opened(role)
        assert again.metadata() == model.metadata()
        details, others = ({**one.runtime.details, "pid": None} for one in (model, again))  # a child has one of its own
        assert (again.device, others) == (model.device, details)


def _fits(shape: tuple[int, ...], told: tuple[int, ...]) -> bool:
    return len(shape) == len(told) and all(want in (-1, got) for got, want in zip(shape, told, strict=True))
