"""The cases that the onnx package ships: what raw onnxruntime passes on the CPU passes here, with the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("ml_dtypes")

import onnx_cases

SCRIPT = Path(__file__).with_name("onnx_cases.py")
CHILDREN = 2


def run(part: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(part), str(CHILDREN)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}:\n{done.stderr[-3000:]}"
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.slow
def test_every_case_that_raw_onnxruntime_passes() -> None:
    with ThreadPoolExecutor(CHILDREN) as pool:
        parts = list(pool.map(run, range(CHILDREN)))
    counts = sum((Counter(part["counts"]) for part in parts), Counter[str]())
    wrong = {name: why for part in parts for name, why in part["wrong"].items()}
    total = parts[0]["total"]
    print(f"\n{total} cases of onnx")
    for kind, count in counts.most_common():
        print(f"{count:5} {kind}")
    assert not wrong
    assert sum(counts.values()) == total
    assert counts[onnx_cases.SAME] > 0.6 * total  # the fewer the older onnxruntime is: raw fails the others, too
    assert counts[onnx_cases.REFUSED] > 10
