"""Damaged models by OpenVINO: a typed error or some answer, and the process lives."""

from __future__ import annotations

import os
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mutation import TYPED, run_fuzzer

from accelerate import ModelError
from accelerate.formats.openvino.description import describe
from accelerate.formats.openvino.file import ModelFile

pytest.importorskip("openvino")
pytest.importorskip("ai_edge_litert", reason="its schema builds the models")
pytest.importorskip("onnx")  # builds others

import fuzz_openvino

CHILDREN = 2
SCALE = int(os.environ.get("EDGE_ACCELERATE_FUZZ_SCALE", "1"))
COUNT = 80 * SCALE


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tflite", "onnx", "xml", "bin"])
def test_mutated_models(kind: str) -> None:
    each = COUNT // CHILDREN

    def run(number: int) -> Counter[str]:
        return run_fuzzer(fuzz_openvino.__file__, kind, number * each, each, timeout=600 * SCALE)

    with ThreadPoolExecutor(CHILDREN) as pool:
        outcomes = sum(pool.map(run, range(CHILDREN)), Counter[str]())
    print(f"\nopenvino, {kind}: {dict(outcomes)}")
    assert sum(outcomes.values()) == each * CHILDREN
    assert set(outcomes) <= {*TYPED, "BackendNotAvailableError"}
    assert outcomes["answered"] > COUNT / 40  # the mutants are not all refused at the first look
    assert outcomes["ModelError"] > COUNT / 20


def read_everything(data: bytes) -> None:
    """Ask an .xml for all that it says, as `inspect` and `metadata` do."""
    file = ModelFile(data)
    str((file.name, file.version, file.producer, file.operators, file.weights_end, file.properties, describe(file)))


def test_reading_mutants_without_a_runtime(tmp_path: Path) -> None:
    bases = [xml for xml, _ in fuzz_openvino.pairs(tmp_path)]
    outcomes: Counter[str] = Counter()
    for base in bases:
        read_everything(base)
    tracemalloc.start()
    try:
        for seed in range(300 * SCALE):
            try:
                read_everything(fuzz_openvino.mutant_xml(seed, bases[seed % len(bases)]))
                outcomes["read"] += 1
            except ModelError:
                outcomes["refused"] += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert min(outcomes["read"], outcomes["refused"]) > 15
    assert peak < 8 << 20
