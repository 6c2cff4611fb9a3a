"""Loads and runs damaged models in this process: ``python tests/fuzz_tflite.py ENGINE FIRST COUNT``.

Run by test_fuzz_tflite.py as a child, since a crash would take the test run with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tools")]

import odd_models  # noqa: E402
from mutation import count_outcomes, mutant, outcome  # noqa: E402

import accelerate  # noqa: E402

_DATA = Path(accelerate.__file__).parent / "data"
BASES: list[Callable[[], bytes]] = [
    (_DATA / "digits_uint8.tflite").read_bytes,
    (_DATA / "digits_float.tflite").read_bytes,
    odd_models.add3,
    odd_models.strings,
    odd_models.dynamic,
    odd_models.two_signatures,
    odd_models.per_channel,
]


def main(engine: str, first: int, count: int) -> None:
    def try_one(seed: int) -> str:
        damaged = mutant(seed, BASES)
        return outcome(lambda: accelerate.load(damaged, backend="tflite_cpu", engine=engine))

    count_outcomes(first, count, engine, try_one)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
