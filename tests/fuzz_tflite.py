"""Loads and runs damaged models in this process: ``python tests/fuzz_tflite.py ENGINE FIRST COUNT``.

Run by test_fuzz_tflite.py as a child, since a crash would take the test run with it. Prints one line of JSON that
counts the outcomes; the last line on stderr before a crash or a stray exception names the mutant's seed.
"""

from __future__ import annotations

import collections
import faulthandler
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tools")]

import odd_models  # noqa: E402

import accelerate  # noqa: E402
from accelerate.tensors import concrete_shape, dtype_of  # noqa: E402

_DATA = Path(accelerate.__file__).parent / "data"
_BASES: list[Callable[[], bytes]] = [
    (_DATA / "digits_uint8.tflite").read_bytes,
    (_DATA / "digits_float.tflite").read_bytes,
    odd_models.add3,
    odd_models.strings,
    odd_models.dynamic,
    odd_models.two_signatures,
    odd_models.per_channel,
]


def mutant(seed: int) -> bytes:
    """Truncate a sound model, or change some of its bytes, bits or words."""
    choose = random.Random(seed)
    data = bytearray(choose.choice(_BASES)())
    if choose.random() < 0.2:
        return bytes(data[: choose.randrange(1, len(data))])
    for _ in range(choose.choice([1, 1, 2, 4, 16])):
        at = choose.randrange(len(data))
        change = choose.randrange(3)
        if change == 0:
            data[at] ^= 1 << choose.randrange(8)
        elif change == 1:
            data[at] = choose.randrange(256)
        else:
            word = choose.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, choose.getrandbits(32)])
            data[at & ~3 : (at & ~3) + 4] = word.to_bytes(4, "little")
    return bytes(data)


def outcome(engine: str, model_file: bytes) -> str:
    """Return "answered", or the name of the typed error."""
    try:
        with accelerate.load(model_file, backend="tflite_cpu", engine=engine) as model:
            str(model.metadata())
            feeds = {}
            for tensor in model.metadata().inputs:
                shape, dtype = concrete_shape(tensor.shape), dtype_of(tensor)
                if np.prod(shape, dtype=np.float64) > 1e7:
                    return "too large to feed"
                feeds[tensor.name] = np.full(shape, b"a", object) if dtype.hasobject else np.ones(shape, dtype)
            model.infer(feeds, timeout=20)
            model.infer(feeds, dequantize=True)
    except accelerate.AccelerateError as error:
        return type(error).__name__
    return "answered"


def main(engine: str, first: int, count: int) -> None:
    report = os.fdopen(os.dup(2), "w", buffering=1)  # reaches the parent though a load holds stderr back
    faulthandler.enable(report)
    outcomes: collections.Counter[str] = collections.Counter()
    for seed in range(first, first + count):
        report.write(f"mutant {seed} with {engine}\n")  # the last of these names the mutant that ended the process
        outcomes[outcome(engine, mutant(seed))] += 1
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
