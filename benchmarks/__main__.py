"""Runs every benchmark and prints one table: ``python -m benchmarks``."""

from __future__ import annotations

from itertools import chain

from . import callers, frames, isolation, leaks, loading, onnx, overhead, viam, vision
from .table import show

if __name__ == "__main__":
    modules = (overhead, onnx, loading, frames, vision, callers, isolation, viam, leaks)
    show(chain.from_iterable(module.rows() for module in modules))
