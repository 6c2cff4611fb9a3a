"""Builds the stand-in for the Edge TPU's library, and the models that it runs. No Edge TPU takes part."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_writer import Graph, build

OPERATOR = "edgetpu-custom-op"


@functools.cache
def library() -> str:
    """Return the path of the stand-in, built by this machine's C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the stand-in for the Edge TPU's library needs Linux and a C compiler (apt install gcc)")
    path = Path(_folder().name) / "edgetpu_stand_in.so"
    source = Path(__file__).with_suffix(".c")
    command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, str(source), "-o", str(path)], check=True)
    return str(path)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgetpu-stand-in-", ignore_cleanup_errors=True)


def floats(shape: Sequence[int]) -> bytes:
    """Float32 x -> y = 2 x."""
    return _one_operator("float32", shape)


def integers() -> bytes:
    """Int32 x [3] -> y = 2 x."""
    return _one_operator("int32", [3])


def bits(shape: Sequence[int] = (1, 4), y_shape: Sequence[int] | None = None) -> bytes:
    """Uint8 x -> y = not x, as much of it as y holds, both with a scale and zero point."""
    return _one_operator("uint8", shape, y_shape, scale=0.5, zero_point=100)


def two_inputs() -> bytes:
    """Float32 a, b [2, 3] -> sum."""
    graph = Graph()
    a, b, total = (graph.tensor(name, [2, 3], "float32") for name in ("a", "b", "sum"))
    graph.custom_op(OPERATOR, [a, b], [total])
    graph.inputs, graph.outputs = [a, b], [total]
    return build([graph])


def partly(first: str = OPERATOR) -> bytes:
    """Float32 x [4] -> y = 8 x: twice an Edge TPU operator with an ADD, which stays on the CPU, between them."""
    graph = Graph()
    x, h, k, y = (graph.tensor(name, [4], "float32") for name in "xhky")
    graph.custom_op(first, [x], [h])
    graph.op("ADD", [h, h], [k], schema.AddOptionsT())
    graph.custom_op(OPERATOR, [k], [y])
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def with_strings() -> bytes:
    """String x [3] -> y [3] backwards, on the CPU; float32 f [3] -> g = 2 f."""
    import numpy as np

    graph = Graph()
    x, y = (graph.tensor(name, [3], "string") for name in "xy")
    f, g = (graph.tensor(name, [3], "float32") for name in "fg")
    order = graph.constant("order", np.array([2, 1, 0], np.int32))
    graph.op("GATHER", [x, order], [y], schema.GatherOptionsT())
    graph.custom_op(OPERATOR, [f], [g])
    graph.inputs, graph.outputs = [x, f], [y, g]
    return build([graph])


def _one_operator(
    dtype: str,
    shape: Sequence[int],
    y_shape: Sequence[int] | None = None,
    scale: float | None = None,
    zero_point: int | None = None,
) -> bytes:
    graph = Graph()
    x = graph.tensor("x", shape, dtype, scale=scale, zero_point=zero_point)
    y = graph.tensor("y", y_shape or shape, dtype, scale=scale, zero_point=zero_point)
    graph.custom_op(OPERATOR, [x], [y])
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])
