"""Which TFLite engines this environment has (`make test` also runs in one with tflite-runtime), and how fast it is."""

from __future__ import annotations

import importlib.util
import platform
from time import perf_counter

import numpy as np

PACKAGES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
INSTALLED = [engine for engine, package in PACKAGES.items() if importlib.util.find_spec(package)]


def seconds_per_product(size: int) -> float:
    """Return what one core takes for a product of two float32 matrices, roughly: slow models are made of these."""
    if platform.machine() != "aarch64":
        return 0.01 * (size / 1024) ** 3
    small = np.ones((size // 8, size // 8), np.float32)  # a board, or an emulator, takes from 10 to 1000 times as long
    started = perf_counter()
    np.matmul(small, small)
    return max(0.01, 8**3 * (perf_counter() - started))
