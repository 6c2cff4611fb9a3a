"""Damaged models: a typed error or some answer, and the process lives. `make fuzz` tries many more."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engines
import pytest
from mutation import TYPED, run_fuzzer

SCRIPT = Path(__file__).with_name("fuzz_tflite.py")
CHILDREN = 2
# tflite-runtime is slower: each file that looks sound is first tried in a child process of its own
COUNTS = {"litert": 2500, "tflite-runtime": 200}
SCALE = int(os.environ.get("EDGE_ACCELERATE_FUZZ_SCALE", "1"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", engines.INSTALLED)
def test_mutated_models(engine: str) -> None:
    count = COUNTS[engine] * SCALE // CHILDREN
    with ThreadPoolExecutor(CHILDREN) as pool:
        outcomes = sum(
            pool.map(lambda n: run_fuzzer(SCRIPT, engine, n * count, count, timeout=900 * SCALE), range(CHILDREN)),
            Counter[str](),
        )
    print(f"\n{engine}: {dict(outcomes)}")
    assert sum(outcomes.values()) == count * CHILDREN
    assert set(outcomes) <= TYPED
    assert outcomes["answered"] > count / 20  # the mutants are not all refused at the first look
    assert outcomes["ModelError"] > count / 20
