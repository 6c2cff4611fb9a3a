"""Models that a delegate may take in part or wholly, and that the CPU computes alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_writer import Graph, build

__all__ = ["CONSTANT", "chain", "doubled", "greater", "partly", "remembering", "resized", "untouched"]

CONSTANT = np.array([[0, 50, 200, 255]], np.uint8)


def doubled(shape: Sequence[int], dtype: str = "float32") -> bytes:
    """X -> y = x + x."""
    graph = Graph()
    x, y = (graph.tensor(name, shape, dtype) for name in "xy")
    graph.op("ADD", [x, x], [y], schema.AddOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def chain(shape: Sequence[int] = (4,)) -> bytes:
    """Float32 x -> y = 3 x x, by three operators in a row."""
    graph = Graph()
    x, h, k, y = (graph.tensor(name, shape, "float32") for name in "xhky")
    graph.op("ADD", [x, x], [h], schema.AddOptionsT())
    graph.op("ADD", [h, x], [k], schema.AddOptionsT())
    graph.op("MUL", [k, x], [y], schema.MulOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def partly() -> bytes:
    """Float32 x [4] -> y = (2 x - x x) (2 x - x x), by four operators, of which SUB is the third."""
    graph = Graph()
    x, h, k, d, y = (graph.tensor(name, [4], "float32") for name in "xhkdy")
    graph.op("ADD", [x, x], [h], schema.AddOptionsT())
    graph.op("MUL", [x, x], [k], schema.MulOptionsT())
    graph.op("SUB", [h, k], [d], schema.SubOptionsT())
    graph.op("MUL", [d, d], [y], schema.MulOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def greater() -> bytes:
    """Uint8 x [1, 4], of a scale and zero point -> y, the greater of x and `CONSTANT`."""
    graph = Graph()
    x, y = (graph.tensor(name, [1, 4], "uint8", scale=0.5, zero_point=100) for name in "xy")
    constant = graph.constant("constant", CONSTANT, scale=0.5, zero_point=100)
    graph.op("MAXIMUM", [x, constant], [y], schema.MaximumMinimumOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def untouched() -> bytes:
    """Float32 x [4] -> y = (x - x) / x, of which the stand-in takes nothing."""
    graph = Graph()
    x, k, y = (graph.tensor(name, [4], "float32") for name in "xky")
    graph.op("SUB", [x, x], [k], schema.SubOptionsT())
    graph.op("DIV", [k, x], [y], schema.DivOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def resized() -> bytes:
    """Float32 x [4] and int32 shape [1] -> y, x reshaped by a shape that only a run tells and doubled."""
    graph = Graph()
    x = graph.tensor("x", [4], "float32")
    shape = graph.tensor("shape", [1], "int32")
    h, y = (graph.tensor(name, [-1], "float32") for name in "hy")
    graph.op("RESHAPE", [x, shape], [h], schema.ReshapeOptionsT())
    graph.op("ADD", [h, h], [y], schema.AddOptionsT())
    graph.inputs, graph.outputs = [x, shape], [y]
    return build([graph])


def remembering() -> bytes:
    """Float32 x [1, 1] -> y [1, 1], twice the sum of every x since the variables were last reset."""
    graph = Graph()
    x, h, y = (graph.tensor(name, [1, 1], "float32") for name in "xhy")
    state = graph.tensor("state", [1, 1], "float32", is_variable=True)
    weights = [graph.constant(name, np.ones([1, 1], np.float32)) for name in ("of_input", "of_state")]
    bias = graph.constant("bias", np.zeros([1], np.float32))
    graph.op("RNN", [x, *weights, bias, state], [h], schema.RNNOptionsT())
    graph.op("ADD", [h, h], [y], schema.AddOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])
