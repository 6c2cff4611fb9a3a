"""Errors say what is wrong and what to do apart, and nothing reads either out of a text."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest

import accelerate
from accelerate import errors
from accelerate.calls.names import NameIndex, rename
from accelerate.calls.normalization import normalization_by_name
from accelerate.errors import AccelerateError, NoBackendError
from accelerate.formats.labels import load_labels
from accelerate.image import to_tensor
from accelerate.metadata import Normalization, TensorInfo
from accelerate.reports import Plan

ROOT = Path(__file__).parents[1]
CLASSES = [kind for kind in map(vars(errors).get, errors.__all__) if isinstance(kind, type)]
INPUTS = (TensorInfo("left", shape=(2,), aliases=("image",)), TensorInfo("right", shape=(2,), aliases=("image",)))


def made(kind: type[AccelerateError], reason: str, remedy: str) -> AccelerateError:
    return kind(reason, Plan(None, (), ()), remedy) if issubclass(kind, NoBackendError) else kind(reason, remedy)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("remedy", ["", "plug it in; then call again"])
def test_reason_and_remedy_survive_being_copied_and_pickled(kind: type[AccelerateError], remedy: str) -> None:
    error = made(kind, "it is gone; nobody knows why", remedy)
    for each in (error, copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(each) is kind
        assert (each.reason, each.remedy) == ("it is gone; nobody knows why", remedy)
        assert str(each) == "it is gone; nobody knows why" + (f"; {remedy}" if remedy else "")


def _infer(value: Any) -> None:
    with accelerate.load(odd_models.add3(), backend="tflite_cpu") as model:
        model.infer(value)


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (lambda: accelerate.load(b""), "fetch it again"),
        (lambda: accelerate.load(b"\x89PNG, and the rest of a picture"), "check the path"),
        (lambda: accelerate.load("/nowhere/model.tflite"), "check the path"),
        (lambda: accelerate.load(odd_models.add3()[:-40], backend="tflite_cpu"), "fetch or convert it again"),
        (lambda: load_labels("/nowhere/labels.txt"), "check the path"),
        (lambda: NameIndex(INPUTS, "input").find("image"), "use one of these names"),
        (lambda: rename(INPUTS, (), {"inputs": {"image": "mine"}}), "use one of these names"),
        (lambda: normalization_by_name({"image": Normalization((0,), (1,), "user")}, INPUTS), "use one of these names"),
        (lambda: _infer(np.zeros((7, 7), np.float32)), "reshape or resize it"),
        (
            lambda: _infer(np.ma.MaskedArray(np.zeros((1, 4), np.float32), mask=True)),
            "say what they are: array.filled(value)",
        ),
        (
            lambda: to_tensor(np.zeros((4, 4, 3), np.float32), TensorInfo("x", data_type="uint8", shape=(1, 4, 4, 3))),
            "for 0..1, give (frame * 255).round().astype('uint8')",
        ),
    ],
)
def test_the_remedy_stands_apart_from_the_reason(call: Callable[[], object], remedy: str) -> None:
    with pytest.raises(AccelerateError) as caught:
        call()
    assert caught.value.remedy == remedy
    assert remedy not in caught.value.reason


def _readings_of_text(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that take a text apart at "; ", take an error's apart, or write a remedy anew."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        taken, name = node.func.value, node.func.attr
        if name in ("partition", "rpartition", "split", "rsplit") and node.args:
            at = node.args[0]
            separates = isinstance(at, ast.Constant) and isinstance(at.value, str) and at.value.strip() == ";"
            if separates or (isinstance(taken, ast.Call) and ast.unparse(taken) in ("str(error)", "str(caught)")):
                yield node.lineno
        if name in ("capitalize", "title") and ast.unparse(taken).endswith(("reason", "remedy")):
            yield node.lineno


def test_nothing_reads_reason_or_remedy_out_of_a_text() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("accelerate", "backends")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in _readings_of_text(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize("name", sorted({*errors.__all__} - {"NoBackendError", "one_line"}))
def test_every_error_can_have_another_remedy(name: str) -> None:
    kind = getattr(errors, name)
    told = kind("why", "this").with_remedy("that")
    assert (type(told), told.reason, told.remedy, str(told)) == (kind, "why", "that", "why; that")
