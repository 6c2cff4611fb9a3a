"""Damaged ONNX models: a typed error or some answer, and the process lives."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from mutation import TYPED, mutant, run_fuzzer

from accelerate import ModelError
from accelerate.formats.exporters import class_names
from accelerate.formats.onnx.description import describe, interface
from accelerate.formats.onnx.file import ModelFile

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # builds the models

import fuzz_onnx

CHILDREN = 2
SCALE = int(os.environ.get("EDGE_ACCELERATE_FUZZ_SCALE", "1"))
COUNT = 1000 * SCALE


@pytest.mark.slow
def test_mutated_models() -> None:
    each = COUNT // CHILDREN
    with ThreadPoolExecutor(CHILDREN) as pool:
        outcomes = sum(
            pool.map(lambda n: run_fuzzer(fuzz_onnx.__file__, n * each, each, timeout=900 * SCALE), range(CHILDREN)),
            Counter[str](),
        )
    print(f"\nonnxruntime: {dict(outcomes)}")
    assert sum(outcomes.values()) == COUNT
    assert set(outcomes) <= TYPED
    assert outcomes["answered"] > COUNT / 20  # the mutants are not all refused at the first look
    assert outcomes["ModelError"] > COUNT / 20


def read_everything(data: bytes) -> None:
    """Ask a file for all that it says, as `inspect` and `metadata` do."""
    file = ModelFile(data)
    infos = interface(file).inputs
    str((interface(file).outputs, file.ir_version, file.producer, file.opsets, file.operators, file.external_files))
    str(describe(file.name, file.description, file.properties, infos, infos))


def test_reading_mutants_without_a_runtime() -> None:
    outcomes: Counter[str] = Counter()
    for base in fuzz_onnx.BASES:
        read_everything(base())
    tracemalloc.start()
    try:
        for seed in range(COUNT):
            try:
                read_everything(mutant(seed, fuzz_onnx.BASES))
                outcomes["read"] += 1
            except ModelError:
                outcomes["refused"] += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert min(outcomes["read"], outcomes["refused"]) > COUNT / 20
    assert peak < 8 << 20  # the largest base has 15 KB


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[" * 5000, "{}", "[]", "3", "'cat'", "{[]: 1}", "{0: 'a', 'x': 'b'}", "{-1: 'a'}", "{1.5: 'a'}",
        "{None: 'a'}", "{10**9: 'a'}", "{1000000000: 'a'}", "{'100000000': 'a'}", "{'²': 'a'}", "1 + 1", "\0",
        "9" * 5000, "[" + "'a'," * (1 << 19) + "]", "(lambda: 0)()", '{"0": null}', "{0: 'a'} # {",
        "{0: 1" + "<1" * 60_000 + "}", "{'a': 1" + "+1" * 400_000 + "}", "[" + "''," * 40_000 + "]",
        "{'a': " + "-" * 120_000 + "1}",
    ],
)  # fmt: skip
def test_odd_class_names(text: str) -> None:
    tracemalloc.start()
    try:
        names = class_names(text)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert names in ((), ("a",))


def test_names_that_cannot_be_read_are_said(caplog: pytest.LogCaptureFixture) -> None:
    thousands = {index: f"class {index}" for index in range(20_000)}
    assert len(class_names(json.dumps(thousands))) == 20_000
    assert class_names("") == ()
    assert caplog.records == []
    for text in (str(thousands), "cat, dog"):
        assert class_names(text) == ()
        assert f"'names' ({len(text)} characters: " in caplog.records[-1].getMessage()


def test_class_names() -> None:
    assert class_names("{0: 'cat', 2: 'dog'}") == ("cat", "", "dog")
    assert class_names('{"0": "cat", "1": "dog"}') == ("cat", "dog")
    assert class_names("['cat', 'dog']") == ("cat", "dog")
    assert class_names("('cat', 7)") == ("cat", "7")


def test_graphs_nested_without_an_end() -> None:
    """Each level is a node with an attribute that is a graph."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 0x7F:
            length += bytes([size & 0x7F | 0x80])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = field(5, field(13, field(1, b"location") + field(2, b"far.bin")) + b"\x70\x01")
    for _ in range(30):
        graph = field(1, field(5, field(6, graph)))
    assert ModelFile(b"\x08\x08" + field(7, graph)).external_files == ("far.bin",)
    for _ in range(3000):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(ModelError, match="nested"):
        str(ModelFile(b"\x08\x08" + field(7, graph)).external_files)
