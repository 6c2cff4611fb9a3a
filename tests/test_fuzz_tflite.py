"""Damaged models: a typed error or some answer, and the process lives. `make fuzz` tries many more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engines
import pytest
from mutation import TYPED

SCRIPT = Path(__file__).with_name("fuzz_tflite.py")
CHILDREN = 2
# tflite-runtime is slower: each file that looks sound is first tried in a child process of its own
COUNTS = {"litert": 2500, "tflite-runtime": 500}
SCALE = int(os.environ.get("EDGE_ACCELERATE_FUZZ_SCALE", "1"))


def run(engine: str, first: int, count: int) -> Counter[str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), engine, str(first), str(count)],
        capture_output=True,
        text=True,
        timeout=900 * SCALE,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}:\n{done.stderr[-3000:]}"
    return Counter(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("engine", engines.INSTALLED)
def test_mutated_models(engine: str) -> None:
    count = COUNTS[engine] * SCALE // CHILDREN
    with ThreadPoolExecutor(CHILDREN) as pool:
        outcomes = sum(pool.map(lambda n: run(engine, n * count, count), range(CHILDREN)), Counter[str]())
    print(f"\n{engine}: {dict(outcomes)}")
    assert sum(outcomes.values()) == count * CHILDREN
    assert set(outcomes) <= TYPED
    assert outcomes["answered"] > count / 20  # the mutants are not all refused at the first look
    assert outcomes["ModelError"] > count / 20
