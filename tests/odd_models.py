"""Small models that a zoo of real ones lacks, built by code.

Each function returns the bytes of one .tflite model. Unless its docstring says otherwise, a model
runs on LiteRT and on tflite-runtime, and has one input "x" and one output "y".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from engines import seconds_per_product
from tflite_writer import Graph, build

if TYPE_CHECKING:
    from collections.abc import Sequence

MATRIX_SIZE = 1024
# What one product of two such matrices takes at the least, on one core of a fast processor.
SECONDS_PER_PRODUCT = seconds_per_product(MATRIX_SIZE)


def add3() -> bytes:
    """Float32 x [3] -> y [3] = x + x."""
    return _doubling("float32", [3])


def scalar() -> bytes:
    """Float32 x [] -> y [] = x + x."""
    return _doubling("float32", [])


def dynamic() -> bytes:
    """Float32 x [-1, 3] -> y [-1, 3] = x + x."""
    return _doubling("float32", [-1, 3])


def dynamic_image(first_shape: Sequence[int] | None = None) -> bytes:
    """Float32 x [1, -1, -1, 3] -> y of the same shape = x + x; a runtime allocates `first_shape` at first."""
    return _doubling("float32", [1, -1, -1, 3], first_shape=first_shape)


def rows_only(rows: int) -> bytes:
    """Float32 x [-1, 3] -> y [rows, 3], x itself: it takes so many rows, and not the one that it begins with."""
    return _reshaping("float32", [-1, 3], [rows, 3])


def two_inputs() -> bytes:
    """Float32 a, b [2, 3] -> sum [2, 3] = a + b."""
    graph = Graph()
    a = graph.tensor("a", [2, 3], "float32")
    b = graph.tensor("b", [2, 3], "float32")
    total = graph.tensor("sum", [2, 3], "float32")
    graph.op("ADD", [a, b], [total], schema.AddOptionsT())
    graph.inputs, graph.outputs = [a, b], [total]
    return build([graph])


def no_inputs() -> bytes:
    """No input -> float32 y [3] = 2, 4, 6."""
    graph = Graph()
    c = graph.constant("c", np.array([1, 2, 3], np.float32))
    y = graph.tensor("y", [3], "float32")
    graph.op("ADD", [c, c], [y], schema.AddOptionsT())
    graph.outputs = [y]
    return build([graph])


def int8_quantised() -> bytes:
    """Int8 x [1, 4] (scale 0.5, zero -3) -> y [1, 4] (scale 1.0, zero 5) = x + x."""
    return _doubling("int8", [1, 4], x_scale=0.5, x_zero=-3, y_scale=1.0, y_zero=5)


def uint8_quantised() -> bytes:
    """Uint8 x [1, 4] (scale 0.5, zero 100) -> y [1, 4] (scale 1.0, zero 120) = x + x."""
    return _doubling("uint8", [1, 4], x_scale=0.5, x_zero=100, y_scale=1.0, y_zero=120)


def int16_quantised() -> bytes:
    """Int16 x [1, 4] (scale 0.001, zero 0) -> y [1, 4] (scale 0.002, zero 0) = x + x."""
    return _doubling("int16", [1, 4], x_scale=0.001, x_zero=0, y_scale=0.002, y_zero=0)


def per_channel() -> bytes:
    """Int8 x [2, 3] quantised along axis 1 -> y [3, 2] = x transposed, along axis 0.

    The scales are 0.5, 0.25 and 2.0, the zero points 0, 10 and -20.
    """
    scale, zero = [0.5, 0.25, 2.0], [0, 10, -20]
    graph = Graph()
    x = graph.tensor("x", [2, 3], "int8", scale=scale, zero_point=zero, axis=1)
    y = graph.tensor("y", [3, 2], "int8", scale=scale, zero_point=zero, axis=0)
    permutation = graph.constant("permutation", np.array([1, 0], np.int32))
    graph.op("TRANSPOSE", [x, permutation], [y], schema.TransposeOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def integers(dtype: str) -> bytes:
    """Unquantised x [2, 3] of the integer type named -> y [3, 2], the same values reshaped.

    RESHAPE is the one builtin operator that both runtimes run on every type (CAST and ADD lack
    uint64, GATHER all unsigned types but uint8). tflite-runtime loads the uint16 model but its
    ``set_tensor`` refuses a uint16 array.
    """
    return _reshaping(dtype, [2, 3], [3, 2])


def float64() -> bytes:
    """Float64 x [2, 3] -> y [3, 2], the same values reshaped."""
    return _reshaping("float64", [2, 3], [3, 2])


def complex64() -> bytes:
    """Complex64 x [2, 3] -> y [3, 2], the same values reshaped."""
    return _reshaping("complex64", [2, 3], [3, 2])


def float16() -> bytes:
    """Float16 x [3] -> float32 y [3], the same values."""
    return _casting("float16", "float32", [3])


def boolean() -> bytes:
    """Bool x [4] -> bool y [4] = not x."""
    graph = Graph()
    x = graph.tensor("x", [4], "bool")
    y = graph.tensor("y", [4], "bool")
    graph.op("LOGICAL_NOT", [x], [y], schema.LogicalNotOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def strings() -> bytes:
    """Strings x [3] -> strings y [3], in reverse order.

    Run before its input is set, it raises on LiteRT and kills the process on tflite-runtime.
    """
    graph = Graph()
    x = graph.tensor("x", [3], "string")
    y = graph.tensor("y", [3], "string")
    order = graph.constant("order", np.array([2, 1, 0], np.int32))
    graph.op("GATHER", [x, order], [y], schema.GatherOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def image_float() -> bytes:
    """Float32 x [1, 4, 4, 3] -> y of the same shape and values."""
    return _reshaping("float32", [1, 4, 4, 3], [1, 4, 4, 3])


def image_int8() -> bytes:
    """Int8 x [1, 4, 4, 3] (scale 1/127.5, zero 0) -> y alike, the same values."""
    return _reshaping("int8", [1, 4, 4, 3], [1, 4, 4, 3], scale=1 / 127.5, zero_point=0)


def image_float16() -> bytes:
    """Float16 x [1, 4, 4, 3] -> float32 y of the same shape and values."""
    return _casting("float16", "float32", [1, 4, 4, 3])


def duplicate_names() -> bytes:
    """Two float32 inputs [3] both named x -> two outputs [3] both named y: sum, difference."""
    graph = Graph()
    first = graph.tensor("x", [3], "float32")
    second = graph.tensor("x", [3], "float32")
    total = graph.tensor("y", [3], "float32")
    difference = graph.tensor("y", [3], "float32")
    graph.op("ADD", [first, second], [total], schema.AddOptionsT())
    graph.op("SUB", [first, second], [difference], schema.SubOptionsT())
    graph.inputs, graph.outputs = [first, second], [total, difference]
    return build([graph])


def shared_alias() -> bytes:
    """Float32 tensors a, b [3] -> y = a - b, where the signature calls a "b" and b "a".

    By the signature's names the output "y" is therefore b - a.
    """
    graph, (a, b, y) = _binary("SUB", schema.SubOptionsT(), ["a", "b", "y"])
    return build([graph], signatures=[("serving_default", 0, {"a": b, "b": a}, {"y": y})])


def two_signatures() -> bytes:
    """Signatures "subtract" on subgraph 0 and "multiply" on subgraph 1, all float32 [3].

    "subtract" has the inputs amount and start, in this order, and the output rest = start -
    amount; its subgraph lists start first. "multiply" has the inputs factor and values and the
    output product; its subgraph lists values first. Tensors are called after the signature's name
    with "_tensor" behind it.
    """
    subtract, (start, amount, rest) = _binary(
        "SUB", schema.SubOptionsT(), ["start_tensor", "amount_tensor", "rest_tensor"]
    )
    multiply, (values, factor, product) = _binary(
        "MUL", schema.MulOptionsT(), ["values_tensor", "factor_tensor", "product_tensor"]
    )
    return build(
        [subtract, multiply],
        signatures=[
            ("subtract", 0, {"amount": amount, "start": start}, {"rest": rest}),
            ("multiply", 1, {"factor": factor, "values": values}, {"product": product}),
        ],
    )


def dynamic_output() -> bytes:
    """Float32 x [4] -> int64 y [-1, 1], the indices at which x > 0, as many as there are.

    The output's shape is known only after a run. If it is empty, the details of the output say
    [0, 1], and ``get_tensor`` raises a ValueError on both runtimes.
    """
    graph = Graph()
    x = graph.tensor("x", [4], "float32")
    zero = graph.constant("zero", np.float32(0))
    positive = graph.tensor("positive", [4], "bool")
    y = graph.tensor("y", [-1, 1], "int64")
    graph.op("GREATER", [x, zero], [positive], schema.GreaterOptionsT())
    graph.op("WHERE", [positive], [y], schema.WhereOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def failing() -> bytes:
    """Float32 x [3] -> y [3] = 5, 5, 5 where every x is between -1 and 1; others fail as it runs, an index being none.

    The index is x without its fraction, and 5 the only value to choose from.
    """
    graph = Graph()
    x, y = graph.tensor("x", [3], "float32"), graph.tensor("y", [3], "float32")
    index = graph.tensor("index", [3], "int32")
    values = graph.constant("values", np.array([5], np.float32))
    graph.op("CAST", [x], [index], schema.CastOptionsT())
    graph.op("GATHER", [values, index], [y], schema.GatherOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def growing(size: int) -> bytes:
    """Float32 x [size], int32 n [1] -> s [size] = x + x, total [] = n times the sum of x.

    Every output has a shape of its own, but what total is computed from has its shape from the value of n: the
    interpreters make room for it as they run, and move all tensors.
    """
    graph = Graph()
    x, n = graph.tensor("x", [size], "float32"), graph.tensor("n", [1], "int32")
    s, tiled, total = (
        graph.tensor("s", [size], "float32"),
        graph.tensor("tiled", [1], "float32"),
        graph.tensor("total", [], "float32"),
    )
    axis = graph.constant("axis", np.array([0], np.int32))
    graph.op("ADD", [x, x], [s], schema.AddOptionsT())
    graph.op("TILE", [x, n], [tiled], schema.TileOptionsT())
    graph.op("SUM", [tiled, axis], [total], schema.ReducerOptionsT())
    graph.inputs, graph.outputs = [x, n], [s, total]
    return build([graph])


def four_bits() -> bytes:
    """Int4 x [4] -> y [4, 1], two elements to a byte; LiteRT only."""
    return _reshaping("int4", [4], [4, 1])


def bfloat16() -> bytes:
    """Bfloat16 x [4] -> y [4, 1]; LiteRT only."""
    return _reshaping("bfloat16", [4], [4, 1])


def passed_through() -> bytes:
    """Float32 x [3] -> x itself and y = x + x; the signature calls the first "same", y both "double" and "twice"."""
    graph = Graph()
    x, y = graph.tensor("x", [3], "float32"), graph.tensor("y", [3], "float32")
    graph.op("ADD", [x, x], [y], schema.AddOptionsT())
    graph.inputs, graph.outputs = [x], [x, y]
    return build([graph], signatures=[("serving_default", 0, {"in": x}, {"same": x, "double": y, "twice": y})])


def custom_op(name: str) -> bytes:
    """Float32 x [3] -> y [3] through a custom operator of the given name, which no runtime knows.

    Both runtimes refuse it when its tensors are allocated.
    """
    graph = Graph()
    x = graph.tensor("x", [3], "float32")
    y = graph.tensor("y", [3], "float32")
    graph.custom_op(name, [x], [y])
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def newer_operator(operator: str | int, version: int) -> bytes:
    """Float32 x [1, 3] -> y through a builtin operator in a version of its own, or with a number that none has."""
    graph = Graph()
    x = graph.tensor("x", [1, 3], "float32")
    other = x if operator != "FULLY_CONNECTED" else graph.constant("w", np.ones([3, 3], np.float32))
    y = graph.tensor("y", [1, 3], "float32")
    graph.op("ADD" if isinstance(operator, int) else operator, [x, other], [y], version=version)
    graph.inputs, graph.outputs = [x], [y]
    model = build([graph])
    if isinstance(operator, str):
        return model
    tree = schema.ModelT.InitFromPackedBuf(bytearray(model))
    code = tree.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode = operator, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def edgetpu_like() -> bytes:
    """Uint8 x [1, 4] -> y [1, 4] through the one operator of a model compiled for an Edge TPU."""
    graph = Graph()
    x = graph.tensor("x", [1, 4], "uint8", scale=0.5, zero_point=100)
    y = graph.tensor("y", [1, 4], "uint8", scale=1.0, zero_point=120)
    graph.custom_op("edgetpu-custom-op", [x], [y])
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def delegate_only(*, scaled: bool = False) -> bytes:
    """Float32 x [1, 2, 2, 1] -> y [1, 4, 4, 1], each value of x four times, plus 0.5.

    XNNPACK alone has this operator, which MediaPipe's segmentation models are made of. `scaled`: an operator that it
    leaves to the interpreter comes before, a CUMSUM along an axis of one, which changes nothing.
    """
    graph = Graph()
    x = graph.tensor("x", [1, 2, 2, 1], "float32")
    y = graph.tensor("y", [1, 4, 4, 1], "float32")
    kernel = graph.constant("kernel", np.ones([1, 2, 2, 1], np.float32))
    bias = graph.constant("bias", np.array([0.5], np.float32))
    given = x
    if scaled:
        given = graph.tensor("given", [1, 2, 2, 1], "float32")
        axis = graph.constant("axis", np.array(3, np.int32))
        graph.op("CUMSUM", [x, axis], [given], schema.CumsumOptionsT())
    same, stride = 1, 2
    options = struct.pack("<3i", same, stride, stride)  # TfLiteTransposeConvParams
    graph.custom_op("Convolution2DTransposeBias", [given, kernel, bias], [y], options)
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def variable() -> bytes:
    """Float32 x [1, 1] -> y [1, 1], the sum of every x since the variables were last reset.

    It is a recurrent cell whose weights are 1: its output is its input plus its state.
    """
    graph = Graph()
    x = graph.tensor("x", [1, 1], "float32")
    state = graph.tensor("state", [1, 1], "float32", is_variable=True)
    y = graph.tensor("y", [1, 1], "float32")
    input_weights = graph.constant("input_weights", np.ones([1, 1], np.float32))
    state_weights = graph.constant("state_weights", np.ones([1, 1], np.float32))
    bias = graph.constant("bias", np.zeros([1], np.float32))
    graph.op("RNN", [x, input_weights, state_weights, bias, state], [y], schema.RNNOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def lstm(length: int = -1, batch: int = 1) -> bytes:
    """Float32 x [batch, length, 3] -> y [batch, length, 5], the outputs of an LSTM that keeps its state.

    `lstm_in_numpy` computes the same.
    """
    graph = Graph()
    x = graph.tensor("x", [batch, length, 3], "float32")
    y = graph.tensor("y", [batch, length, 5], "float32")
    gates = [
        [graph.constant(f"{kind}_{i}", values) for i, values in enumerate(each)]
        for kind, each in zip(("input", "recurrent", "bias"), _lstm_weights(), strict=True)
    ]
    state = [graph.tensor(name, [1, 5], "float32", is_variable=True) for name in ("hidden", "cell")]
    inputs = [x, *gates[0], *gates[1], -1, -1, -1, *gates[2], -1, -1, *state, -1, -1, -1, -1]
    options = schema.UnidirectionalSequenceLSTMOptionsT(fusedActivationFunction=schema.ActivationFunctionType.TANH)
    graph.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], options)
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def _lstm_weights() -> list[list[Any]]:
    """Return four matrices for the inputs, four for the hidden state and four biases: input, forget, cell, output."""
    random = np.random.default_rng(7)
    shapes = ((5, 3), (5, 5), (5,))
    return [[random.normal(0, 0.6, shape).astype(np.float32) for _ in range(4)] for shape in shapes]


def lstm_in_numpy(*sequences: Any) -> list[Any]:
    """Return what `lstm` gives for these x, one after the other, from a cleared state on."""
    weights, recurrent, biases = _lstm_weights()
    hidden = cell = np.zeros(5)
    answers = []
    for sequence in sequences:
        steps = []
        for x in sequence[0]:
            gates = [w @ x + u @ hidden + b for w, u, b in zip(weights, recurrent, biases, strict=True)]
            taken, kept, shown = (1 / (1 + np.exp(-gates[i])) for i in (0, 1, 3))
            cell = kept * cell + taken * np.tanh(gates[2])
            hidden = shown * np.tanh(cell)
            steps.append(hidden)
        answers.append(np.stack(steps)[np.newaxis])
    return answers


def counting() -> bytes:
    """Signatures over one variable w, float32 [2], at first 1: "add" of x gives w += x; "scale" of x gives w * x."""
    first, add, scale = (Graph(name) for name in ("first", "add", "scale"))
    handle = schema.VarHandleOptionsT(sharedName="w")

    def opened(graph: Graph) -> int:
        resource = graph.tensor("handle", [], "resource")
        graph.op("VAR_HANDLE", [], [resource], handle)
        return resource

    def operands(graph: Graph) -> tuple[int, int, int, int]:
        x, y, w = (graph.tensor(name, [2], "float32") for name in ("x", "y", "w"))
        graph.op("CALL_ONCE", [], [], schema.CallOnceOptionsT(initSubgraphIndex=2))
        resource = opened(graph)
        graph.op("READ_VARIABLE", [resource], [w], schema.ReadVariableOptionsT())
        graph.inputs, graph.outputs = [x], [y]
        return x, y, w, resource

    x, y, w, _ = operands(scale)
    scale.op("MUL", [w, x], [y], schema.MulOptionsT())
    x, y, w, resource = operands(add)
    add.op("ADD", [w, x], [y], schema.AddOptionsT())
    add.op("ASSIGN_VARIABLE", [resource, y], [], schema.AssignVariableOptionsT())
    one = first.constant("one", np.ones(2, np.float32))
    first.op("ASSIGN_VARIABLE", [opened(first), one], [], schema.AssignVariableOptionsT())
    return build([scale, add, first], signatures=[("scale", 0, {"x": 0}, {"y": 1}), ("add", 1, {"x": 0}, {"y": 1})])


def rows_under_two_names() -> bytes:
    """Float32 x [-1, 3] -> y = x + x, as the signatures "serving_default" and "other"."""
    graph = Graph()
    x, y = graph.tensor("x", [-1, 3], "float32"), graph.tensor("y", [-1, 3], "float32")
    graph.op("ADD", [x, x], [y], schema.AddOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph], signatures=[(key, 0, {"x": x}, {"y": y}) for key in ("serving_default", "other")])


def unranked() -> bytes:
    """Float32 x of any shape -> y = x + 1, whose shape the file gives neither."""
    graph = Graph()
    x, y = graph.tensor("x", [], "float32", ranked=False), graph.tensor("y", [], "float32", ranked=False)
    graph.op("ADD", [x, graph.constant("one", np.float32(1))], [y], schema.AddOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def refused_by_xnnpack() -> bytes:
    """Float32 x [1, 1, 1, 1, 1, 1, 6] -> y [1, 1, 1, 1, 1, 1, 2], its sum twice.

    LiteRT's default delegate takes a FULLY_CONNECTED of this rank and then fails on it; its own kernel does not.
    """
    graph = Graph()
    x = graph.tensor("x", [1, 1, 1, 1, 1, 1, 6], "float32")
    y = graph.tensor("y", [1, 1, 1, 1, 1, 1, 2], "float32")
    weights = graph.constant("weights", np.ones((2, 6), np.float32))
    graph.op("FULLY_CONNECTED", [x, weights, -1], [y], schema.FullyConnectedOptionsT(keepNumDims=True), version=5)
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def slow(seconds: float) -> bytes:
    """Float32 x [1] -> y [1] = x, through matrix products that take so long or longer.

    The file has no weights: it fills a matrix with x and multiplies it again and again by one that
    is full of 1 / MATRIX_SIZE, which leaves it as it is but for rounding. One core takes up to
    three times as long as asked, and the tensors some 20 MB.
    """
    graph = Graph()
    size = [MATRIX_SIZE, MATRIX_SIZE]
    x = graph.tensor("x", [1], "float32")
    y = graph.tensor("y", [1], "float32")
    value = graph.tensor("value", [], "float32")
    averaging = graph.tensor("averaging", size, "float32")
    product = graph.tensor("filled", size, "float32")
    dims = graph.constant("dims", np.array(size, np.int32))
    share = graph.constant("share", np.float32(1 / MATRIX_SIZE))
    graph.op("RESHAPE", [x], [value], schema.ReshapeOptionsT(newShape=[]))
    graph.op("FILL", [dims, value], [product], schema.FillOptionsT())
    graph.op("FILL", [dims, share], [averaging], schema.FillOptionsT())
    for step in range(max(1, round(seconds / SECONDS_PER_PRODUCT))):
        factor, product = product, graph.tensor(f"product_{step}", size, "float32")
        graph.op("BATCH_MATMUL", [factor, averaging], [product], schema.BatchMatMulOptionsT())
    origin = graph.constant("origin", np.array([0, 0], np.int32))
    extent = graph.constant("extent", np.array([1, 1], np.int32))
    corner = graph.tensor("corner", [1, 1], "float32")
    graph.op("SLICE", [product, origin, extent], [corner], schema.SliceOptionsT())
    graph.op("RESHAPE", [corner], [y], schema.ReshapeOptionsT(newShape=[1]))
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def _doubling(
    dtype: str,
    shape: Sequence[int],
    *,
    x_scale: float | None = None,
    x_zero: int = 0,
    y_scale: float | None = None,
    y_zero: int = 0,
    first_shape: Sequence[int] | None = None,
) -> bytes:
    """Return a model of y = x + x."""
    graph = Graph()
    x = graph.tensor("x", shape, dtype, scale=x_scale, zero_point=x_zero, first_shape=first_shape)
    y = graph.tensor("y", shape, dtype, scale=y_scale, zero_point=y_zero)
    # Left at its default, the option asks int16 tensors for scales that are powers of two; ADD can
    # do without since version 3.
    graph.op("ADD", [x, x], [y], schema.AddOptionsT(potScaleInt16=False), version=3)
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def _reshaping(
    dtype: str,
    x_shape: Sequence[int],
    y_shape: Sequence[int],
    *,
    scale: float | None = None,
    zero_point: int = 0,
) -> bytes:
    """Return a model whose y is x in another shape."""
    graph = Graph()
    x = graph.tensor("x", x_shape, dtype, scale=scale, zero_point=zero_point)
    y = graph.tensor("y", y_shape, dtype, scale=scale, zero_point=zero_point)
    graph.op("RESHAPE", [x], [y], schema.ReshapeOptionsT(newShape=list(y_shape)))
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def _casting(x_dtype: str, y_dtype: str, shape: Sequence[int]) -> bytes:
    """Return a model whose y is x in another type."""
    graph = Graph()
    x = graph.tensor("x", shape, x_dtype)
    y = graph.tensor("y", shape, y_dtype)
    graph.op("CAST", [x], [y], schema.CastOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    return build([graph])


def _binary(op: str, options: Any, names: Sequence[str]) -> tuple[Graph, tuple[int, int, int]]:
    """Return a graph of one operator on two float32 [3] tensors, and its three tensors."""
    graph = Graph()
    left, right, result = (graph.tensor(name, [3], "float32") for name in names)
    graph.op(op, [left, right], [result], options)
    graph.inputs, graph.outputs = [left, right], [result]
    return graph, (left, right, result)
