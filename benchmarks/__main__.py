"""Runs every benchmark and prints one table: ``python -m benchmarks``."""

from __future__ import annotations

from itertools import chain

from . import callers, frames, leaks, loading, onnx, overhead
from .table import show

if __name__ == "__main__":
    show(chain(overhead.rows(), onnx.rows(), loading.rows(), frames.rows(), callers.rows(), leaks.rows()))
