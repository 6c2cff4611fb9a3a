"""Damages model files, the same way for the same seed; and counts what becomes of them in a child process."""

from __future__ import annotations

import collections
import faulthandler
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

import accelerate
from accelerate.calls.conversion import concrete_shape, dtype_of

__all__ = ["TYPED", "count_outcomes", "mutant", "outcome", "run_fuzzer"]

#: What may become of a mutant.
TYPED = frozenset({"answered", "ModelError", "ModelNotFoundError", "UnsupportedModelError", "InferenceError",
                   "TensorError", "InferenceTimeoutError", "OptionError", "too large to feed"})  # fmt: skip


def mutant(seed: int, bases: Sequence[Callable[[], bytes]]) -> bytes:
    """Truncate a sound model, or change some of its bytes, bits or words."""
    choose = random.Random(seed)
    data = bytearray(choose.choice(bases)())
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


def outcome(load: Callable[[], accelerate.Model], timeout: float = 20) -> str:
    """Load a model, ask all of it, and return "answered" or the name of the typed error."""
    try:
        with load() as model:
            str(model.metadata())
            feeds = {}
            for tensor in model.metadata().inputs:
                shape, dtype = concrete_shape(tensor.shape), dtype_of(tensor)
                if np.prod(shape, dtype=np.float64) > 1e7:
                    return "too large to feed"
                feeds[tensor.name] = np.full(shape, b"a", object) if dtype.hasobject else np.ones(shape, dtype)
            model.infer(feeds, timeout=timeout)
            model.infer(feeds, dequantize=True)
    except accelerate.AccelerateError as error:
        return type(error).__name__
    return "answered"


def count_outcomes(first: int, count: int, name: str, try_one: Callable[[int], str]) -> None:
    """Try `count` seeds from `first` on and print one line of JSON that counts the outcomes.

    The last line on stderr before a crash or a stray exception names the mutant's seed.
    """
    report = os.fdopen(os.dup(2), "w", buffering=1)  # reaches the parent though a load holds stderr back
    faulthandler.enable(report)
    outcomes: collections.Counter[str] = collections.Counter()
    for seed in range(first, first + count):
        report.write(f"mutant {seed} with {name}\n")  # the last of these names the mutant that ended the process
        outcomes[try_one(seed)] += 1
    print(json.dumps(outcomes))


def run_fuzzer(*command: object, timeout: float) -> Counter[str]:
    """Run a fuzzing script in a child process, which must live; return how often each outcome came."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"status {done.returncode}:\n{done.stderr[-3000:]}"
    return Counter(json.loads(done.stdout))
