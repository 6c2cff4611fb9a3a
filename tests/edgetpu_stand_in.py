"""Builds the stand-ins for the Edge TPU's library and for other delegates', and models. No Edge TPU takes part."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tflite_metadata_writer as writer
from ai_edge_litert import schema_py_generated as schema
from tflite_writer import Graph, build

OPERATOR = "edgetpu-custom-op"
#: Adds an operator to a graph that doubles its input, or adds two.
Operation = Callable[[Graph, Sequence[int], Sequence[int]], None]


def compiled_operator(graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    """What the Edge TPU compiler makes of operators."""
    graph.custom_op(OPERATOR, inputs, outputs)


def addition(graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    """An ADD, which the interpreter has itself."""
    graph.op("ADD", [inputs[0], inputs[-1]], outputs, schema.AddOptionsT())


@functools.cache
def library() -> str:
    """Return the path of the stand-in, built by this machine's C compiler."""
    return compiled(Path(__file__).with_suffix(".c"), "edgetpu_stand_in.so")


@functools.cache
def generic_library() -> str:
    """Return the path of the stand-in for any other delegate's library."""
    return compiled(Path(__file__).with_suffix(".c"), "delegate_stand_in.so", "-DGENERIC")


@functools.cache
def compiled(source: Path, name: str, *arguments: str) -> str:
    """Return the path of a library, built of a C file."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the stand-ins for libraries need Linux and a C compiler (apt install gcc)")
    path = Path(_folder().name) / name
    command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *arguments]
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


def two_inputs(operation: Operation = compiled_operator) -> bytes:
    """Float32 a, b [2, 3] -> sum."""
    graph = Graph()
    a, b, total = (graph.tensor(name, [2, 3], "float32") for name in ("a", "b", "sum"))
    operation(graph, [a, b], [total])
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


def with_strings(operation: Operation = compiled_operator) -> bytes:
    """String x [3] -> y [3] backwards, on the CPU; float32 f [3] -> g = 2 f."""
    graph = Graph()
    x, y = (graph.tensor(name, [3], "string") for name in "xy")
    f, g = (graph.tensor(name, [3], "float32") for name in "fg")
    order = graph.constant("order", np.array([2, 1, 0], np.int32))
    graph.op("GATHER", [x, order], [y], schema.GatherOptionsT())
    operation(graph, [f], [g])
    graph.inputs, graph.outputs = [x, f], [y, g]
    return build([graph])


def passed_through(operation: Operation = compiled_operator) -> bytes:
    """Float32 x [3] -> x itself and y = 2 x."""
    graph = Graph()
    x, y = (graph.tensor(name, [3], "float32") for name in "xy")
    operation(graph, [x], [y])
    graph.inputs, graph.outputs = [x], [x, y]
    return build([graph])


def two_signatures(operation: Operation = compiled_operator) -> bytes:
    """Signatures "double", float32 x [3] -> y = 2 x, and "add", float32 a, b [3] -> sum."""
    double, add = Graph(), Graph()
    x, y = (double.tensor(name, [3], "float32") for name in "xy")
    operation(double, [x], [y])
    double.inputs, double.outputs = [x], [y]
    a, b, total = (add.tensor(name, [3], "float32") for name in ("a", "b", "total"))
    operation(add, [a, b], [total])
    add.inputs, add.outputs = [a, b], [total]
    signatures = [("double", 0, {"x": x}, {"y": y}), ("add", 1, {"a": a, "b": b}, {"sum": total})]
    return build([double, add], signatures=signatures)


def labelled(operation: Operation = compiled_operator) -> bytes:
    """Float32 x [1, 3] -> scores = 2 x, with the labels red, green, blue."""
    graph = Graph()
    x, scores = (graph.tensor(name, [1, 3], "float32") for name in ("x", "scores"))
    operation(graph, [x], [scores])
    graph.inputs, graph.outputs = [x], [scores]
    files = [writer.File("labels.txt", type="tensor_axis_labels")]
    told = writer.metadata(
        "Colours", subgraphs=[writer.Subgraph([writer.Tensor("x")], [writer.Tensor("scores", files=files)])]
    )
    return writer.pack(build([graph], metadata={writer.ENTRY: told}), {"labels.txt": b"red\ngreen\nblue\n"})


def failing(operation: Operation = compiled_operator) -> bytes:
    """Float32 x [3] -> g = 2 x, and y [3] = 5, 5, 5 from the CPU, which fails where an x is not between -1 and 1."""
    graph = Graph()
    x, g, y = (graph.tensor(name, [3], "float32") for name in "xgy")
    index = graph.tensor("index", [3], "int32")
    values = graph.constant("values", np.array([5], np.float32))
    operation(graph, [x], [g])
    graph.op("CAST", [x], [index], schema.CastOptionsT())
    graph.op("GATHER", [values, index], [y], schema.GatherOptionsT())
    graph.inputs, graph.outputs = [x], [y, g]
    return build([graph])


def found(operation: Operation = compiled_operator) -> bytes:
    """Float32 x [4] -> g = 2 x, and int64 y [-1, 1] from the CPU, the indices at which x > 0."""
    graph = Graph()
    x, g = (graph.tensor(name, [4], "float32") for name in "xg")
    zero = graph.constant("zero", np.float32(0))
    positive = graph.tensor("positive", [4], "bool")
    y = graph.tensor("y", [-1, 1], "int64")
    operation(graph, [x], [g])
    graph.op("GREATER", [x, zero], [positive], schema.GreaterOptionsT())
    graph.op("WHERE", [positive], [y], schema.WhereOptionsT())
    graph.inputs, graph.outputs = [x], [y, g]
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
