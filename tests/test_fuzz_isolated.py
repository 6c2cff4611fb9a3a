"""Models with damaged structure, in children: whatever becomes of those, the process that loads them lives."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engines
import pytest
from mutation import TYPED, run_fuzzer

SCRIPT = Path(__file__).with_name("fuzz_isolated.py")
HOSTS = 2
SCALE = int(os.environ.get("EDGE_ACCELERATE_FUZZ_SCALE", "1"))
#: Each costs the start of a child, unless its backend refuses it before; `make fuzz` tries 20,000 of both together.
COUNT = 24 if SCALE == 1 else 500 * SCALE
MISSING = {
    "tflite": "litert" not in engines.INSTALLED,
    "onnx": not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="isolation is for Linux")
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_mutants_in_children(kind: str) -> None:
    if MISSING[kind]:
        pytest.skip(f"the runtime of {kind} models is not installed here")
    each = COUNT // HOSTS
    with ThreadPoolExecutor(HOSTS) as pool:
        outcomes = sum(
            pool.map(lambda n: run_fuzzer(SCRIPT, kind, n * each, each, timeout=600 + each), range(HOSTS)),
            Counter[str](),
        )
    print(f"\n{kind}, in children: {dict(outcomes)}")
    assert sum(outcomes.values()) == each * HOSTS
    assert set(outcomes) <= TYPED
    assert outcomes["answered"] > COUNT / 20  # the mutants are not all refused at the first look
    assert outcomes["ModelError"] > COUNT / 20
