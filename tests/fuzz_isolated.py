"""Loads and runs damaged models in children of this process: ``python tests/fuzz_isolated.py KIND FIRST COUNT``.

KIND is "tflite" or "onnx". Run by test_fuzz_isolated.py. Whatever becomes of a model, this process has to live.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a fifth of what the start of a child takes is NumPy's threads
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tools")]

from mutation import count_outcomes, outcome  # noqa: E402
from structure_mutation import onnx_mutant, tflite_mutant  # noqa: E402

import accelerate  # noqa: E402


def main(kind: str, first: int, count: int) -> None:
    bases: Sequence[Callable[[], bytes]]
    if kind == "tflite":
        import fuzz_tflite

        make, bases, backend = tflite_mutant, fuzz_tflite.BASES, "tflite_cpu"
    else:
        import fuzz_onnx

        make, bases, backend = onnx_mutant, fuzz_onnx.BASES, "onnxruntime"

    def try_one(seed: int) -> str:
        damaged = make(seed, bases)
        return outcome(lambda: accelerate.load(damaged, backend=backend, num_threads=1, isolation="process"), timeout=3)

    count_outcomes(first, count, kind, try_one)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
