"""The cases that the onnx package ships: what raw onnxruntime passes on the CPU passes here, with the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("ml_dtypes")

import onnx_cases

SCRIPT = Path(__file__).with_name("onnx_cases.py")


@pytest.mark.slow
def test_every_case_that_raw_onnxruntime_passes() -> None:
    # one child, not one for each CPU: to make the cases takes as long as to run a third of them
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"status {done.returncode}:\n{done.stderr[-3000:]}"
    answer = json.loads(done.stdout.splitlines()[-1])
    total, counts, wrong = answer["total"], Counter(answer["counts"]), answer["wrong"]
    print(f"\n{total} cases of onnx")
    for kind, count in counts.most_common():
        print(f"{count:5} {kind}")
    assert not wrong
    assert sum(counts.values()) == total
    assert counts[onnx_cases.SAME] > 0.6 * total  # the fewer the older onnxruntime is: raw fails the others, too
    assert counts[onnx_cases.REFUSED] > 10
