"""One model gives the same names and metadata whether it is loaded, inspected or described to be shipped."""

from __future__ import annotations

import dataclasses
import inspect as python_inspect
import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import engines
import labelled_models
import odd_models
import pytest
from ai_edge_litert import schema_py_generated as schema
from conftest import find_models
from tflite_writer import Graph, build

import accelerate
from accelerate.backends.triton.shipping.package import check_shippable
from accelerate.cli.inspection import inspect_model
from accelerate.errors import AccelerateError, ModelError, OptionError
from accelerate.formats.description import describe_source, interface_of
from accelerate.formats.tflite.file import ModelFile
from accelerate.metadata import Metadata, TensorInfo
from accelerate.source import Source

_BACKENDS = {".tflite": "tflite_cpu", ".onnx": "onnxruntime"}


def _without_arguments(module: ModuleType) -> dict[str, Callable[[], bytes]]:
    return {
        name: make
        for name, make in python_inspect.getmembers(module, python_inspect.isfunction)
        if make.__module__ == module.__name__
        and not name.startswith("_")
        and all(
            p.default is not p.empty or p.kind is p.VAR_KEYWORD
            for p in python_inspect.signature(make).parameters.values()
        )
    }


def _doubling(outputs: int, *signatures: tuple[str, dict[str, int], dict[str, int]]) -> bytes:
    graph = Graph()
    x, y = graph.tensor("x", [3], "float32"), graph.tensor("y", [3], "float32")
    graph.op("ADD", [x, x], [y], schema.AddOptionsT())
    graph.inputs, graph.outputs = [x], [y] * outputs
    return build([graph], signatures=[(key, 0, ins, outs) for key, ins, outs in signatures])


def _main_signature_second() -> bytes:
    return _doubling(1, ("other", {"a": 0}, {"b": 1}), ("serving_default", {"in": 0}, {"out": 1}))


def _small_types(data_type: str) -> Callable[[], bytes]:
    return lambda: odd_models._reshaping(data_type, [4], [4, 1])


_TFLITE = {
    **_without_arguments(odd_models),
    "main_signature_second": _main_signature_second,
    "output_listed_twice": lambda: _doubling(2, ("serving_default", {"in": 0}, {"zebra": 1, "apple": 1})),
    "two_names_of_one_output": lambda: _doubling(1, ("serving_default", {"in": 0}, {"zebra": 1, "apple": 1})),
    "no_signature": lambda: _doubling(1),
    **{t: _small_types(t) for t in ("int2", "uint4", "float8_e4m3fn", "resource", "complex128", "uint16", "int64")},
}

_LABELLED = _without_arguments(labelled_models)


def _onnx() -> dict[str, Callable[[], bytes]]:
    try:
        import odd_onnx
    except ImportError:  # the tests of ONNX need the package onnx
        return {}
    return {
        **_without_arguments(odd_onnx),
        "unnamed_shape": lambda: odd_onnx.double(None),
        "properties": lambda: odd_onnx.with_properties({"names": "{0: 'cat', 1: 'dog', 2: 'cow'}", "task": "classify"}),
    }


def _cases() -> Iterator[Any]:
    for suffix, odd in ((".tflite", _TFLITE | _LABELLED), (".onnx", _onnx())):
        for name, make in odd.items():
            yield pytest.param((suffix, make), id=f"{name}{suffix}")
    folder = find_models()
    for path in sorted(folder.iterdir()) if folder else ():
        if path.suffix in _BACKENDS:
            yield pytest.param((path.suffix, path.read_bytes), id=path.name)


@pytest.fixture(params=_cases())
def model_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Every model that there is, in a file."""
    suffix, make = request.param
    path = tmp_path / f"model{suffix}"
    path.write_bytes(make())
    return path


def test_load_inspect_and_describe_tell_the_same(model_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "accelerate")
    pytest.importorskip({".tflite": "ai_edge_litert", ".onnx": "onnxruntime"}[model_file.suffix])
    for signature, shown in _shown_graphs(model_file):
        described = describe_source(Source(model_file), signature)
        assert described is not None
        names = interface_of(Source(model_file), signature)
        assert names is not None
        assert [t.name for t in names.inputs + names.outputs] == [t.name for t in described.inputs + described.outputs]
        _check_shown(shown, described)
        try:
            loaded = accelerate.load(model_file, backend=_BACKENDS[model_file.suffix], signature=signature)
        except AccelerateError:
            continue
        with loaded:
            _check_same(loaded.metadata(), described)


def _shown_graphs(path: Path) -> list[tuple[str | None, dict[str, Any]]]:
    content = inspect_model(str(path))["content"]
    return [(graph["signatures"][0] if graph["index"] else None, graph) for graph in content["graphs"]]


def _check_shown(shown: dict[str, Any], described: Metadata) -> None:
    assert shown["type"] == described.type
    for side in ("inputs", "outputs"):
        tensors = getattr(described, side)
        # a user is shown what `load` assumes of an image, too, which the file does not say
        wanted = [dataclasses.asdict(t) for t in tensors]
        for got, told in zip(shown[side], wanted, strict=True):
            assert {**got, "layout": "", "normalization": None} == {**told, "layout": "", "normalization": None}


def _check_same(loaded: Metadata, described: Metadata) -> None:
    assert (loaded.name, loaded.type, loaded.description, loaded.labels) == (
        described.name, described.type, described.description, described.labels,
    )  # fmt: skip
    assert loaded.extra == described.extra
    for mine, told in zip(loaded.inputs, described.inputs, strict=True):
        assert _settled(mine, told) == told
    for mine, told in zip(loaded.outputs, described.outputs, strict=True):
        assert _settled(mine, told) == told


def _settled(loaded: TensorInfo, told: TensorInfo) -> TensorInfo:
    """Leave out what only `load` adds: what is assumed of images, and the shapes that a runtime works out."""
    kept = loaded.normalization if loaded.normalization and loaded.normalization.source != "assumed" else None
    worked_out = not told.shape or any(n == -1 for n in told.shape)
    extra = {**loaded.extra, "rank": "unknown"} if "rank" in told.extra else loaded.extra
    return dataclasses.replace(
        loaded, normalization=kept, layout=told.layout, shape=told.shape if worked_out else loaded.shape, extra=extra
    )


def test_the_main_signature_may_come_second() -> None:
    names = interface_of(Source(_main_signature_second()))
    assert names is not None
    assert names.signature == "serving_default"
    assert [t.name for t in names.inputs + names.outputs] == ["in", "out"]


def test_a_passed_through_tensor_goes_by_its_first_name(tmp_path: Path) -> None:
    path = tmp_path / "passed.tflite"
    path.write_bytes(odd_models.passed_through())
    (graph,) = inspect_model(str(path))["content"]["graphs"]
    assert [(t["name"], t["aliases"]) for t in graph["outputs"]] == [("same", ("x",)), ("double", ("twice", "y"))]


@pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT is not installed")
@pytest.mark.parametrize("make", _TFLITE.values(), ids=_TFLITE.keys())
def test_the_file_says_what_an_interpreter_says(make: Callable[[], bytes]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    data = make()
    try:
        loaded = accelerate.load(data, backend="tflite_cpu")
    except ModelError:
        pytest.skip("the interpreter does not run it")
    with loaded, accelerate.load(Interpreter(model_content=data), backend="tflite_cpu") as adopted:
        mine, theirs = loaded.metadata(), adopted.metadata()
        for told, seen in zip(mine.inputs + mine.outputs, theirs.inputs + theirs.outputs, strict=True):
            assert dataclasses.replace(told, extra={}) == seen  # how a small type is stored, only the file tells


def test_a_missing_signature_is_refused_in_the_same_words() -> None:
    data = _main_signature_second()
    refusals = []
    for refuse in (
        lambda: interface_of(Source(data), "othr"),
        lambda: accelerate.load(data, backend="tflite_cpu", signature="othr"),
        lambda: check_shippable(Source(data), None, "othr"),
    ):
        with pytest.raises(OptionError) as refused:
            refuse()
        refusals.append((refused.value.reason, refused.value.remedy))
    assert set(refusals) == {
        (
            "the model has no signature 'othr' (did you mean 'other'?)",
            "choose one of its signatures: 'other', 'serving_default'",
        )
    }


def test_a_file_is_read_once_in_a_load_and_let_go_after(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(_main_signature_second())
    source = Source(path)
    with source.kept_open():
        first = source.opened(ModelFile)
        with source.kept_open():
            assert source.opened(ModelFile) is first
        assert source.opened(ModelFile) is first
    gone = weakref.ref(first)
    assert source.opened(ModelFile) is not first
    del first
    assert gone() is None
