"""Loads and runs damaged ONNX models in this process: ``python tests/fuzz_onnx.py FIRST COUNT``.

Run by test_fuzz_onnx.py as a child, since a crash would take the test run with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import odd_onnx
from mutation import count_outcomes, mutant, outcome

import accelerate

_DATA = Path(accelerate.__file__).parent / "data"
BASES: list[Callable[[], bytes]] = [
    (_DATA / "digits.onnx").read_bytes,
    odd_onnx.add,
    odd_onnx.convolution,
    odd_onnx.reversed_strings,
    odd_onnx.pointwise,
    odd_onnx.nonzero,
    odd_onnx.loop,
    odd_onnx.with_doc_strings,
    lambda: odd_onnx.with_properties({"names": "{0: 'cat', 1: 'dog'}", "task": "detect", "stride": "32"}),
    lambda: odd_onnx.with_external_data("weights.bin"),
]


def main(first: int, count: int) -> None:
    def try_one(seed: int) -> str:
        damaged = mutant(seed, BASES)
        # a loop without an end is cancelled; none of the sound models takes a second
        return outcome(lambda: accelerate.load(damaged, backend="onnxruntime", num_threads=1), timeout=3)

    count_outcomes(first, count, "onnxruntime", try_one)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
