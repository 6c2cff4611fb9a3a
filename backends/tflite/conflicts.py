"""What installed distributions do not fit the TFLite interpreters."""

from __future__ import annotations

import re

from accelerate.contract import Conflict, Facts

__all__ = ["find_conflicts", "version_of"]

_NEWEST_OF_NUMPY_1 = (2, 14)


def find_conflicts(facts: Facts) -> list[Conflict]:
    """Find NumPy 2 beside tflite-runtime, whose wheels on PyPI, up to 2.14, are built for NumPy 1.

    It can be imported then, and fails once an Interpreter is made ("_ARRAY_API not found").
    """
    engine, numpy = (facts.distributions.get(name) for name in ("tflite-runtime", "numpy"))
    if engine is None or numpy is None:
        return []
    if version_of(numpy.version) < (2,) or version_of(engine.version)[:2] > _NEWEST_OF_NUMPY_1:
        return []
    other = "ai-edge-litert" in facts.distributions
    return [
        Conflict(
            f"tflite-runtime {engine.version} is built for numpy < 2, and numpy {numpy.version} is installed: it can "
            "make no Interpreter",
            "pip uninstall -y tflite-runtime (LiteRT is installed, and runs the same models)"
            if other
            else 'pip install "numpy<2", or install the extra "litert" in its place where that has a wheel',
            fatal=not other,
        )
    ]


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, () without any."""
    numbers = re.match(r"\d{1,9}(?:\.\d{1,9})*", text, re.ASCII)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()
