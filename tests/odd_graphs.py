"""Sound graphs of single operators, and whole ones, each given every structural oddity that the schema allows.

``python tests/odd_graphs.py ENGINE`` prints a line of JSON for each: its name, why `check_graphs` refuses it, and what
becomes of a process that runs it with the raw runtime. Run by test_tflite_soundness.py.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tools")]

import flatbuffers  # noqa: E402
import numpy as np  # noqa: E402
from ai_edge_litert import schema_py_generated as schema  # noqa: E402
from engines import PACKAGES  # noqa: E402
from tflite_writer import Graph, build  # noqa: E402

__all__ = ["SOUND", "edited"]

_TIMEOUT = 10  # s


def _f(*shape: int) -> tuple[str, Sequence[int]]:
    return "float32", shape


def _i(*values: Any) -> Any:
    return np.array(values, np.int32)


def _ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def _state(*shape: int) -> tuple[str, Sequence[int]]:
    return "variable", shape


def _of(dtype: str) -> Callable[..., tuple[str, Sequence[int]]]:
    return lambda *shape: (dtype, shape)


_INT8, _UINT8, _INT16, _BOOL = map(_of, ("int8", "uint8", "int16", "bool"))
_GATES = [_ones(2, 2)] * 8 + [-1] * 3 + [_ones(2)] * 4 + [-1] * 2
_COUPLED = [-1, *[_ones(2, 2)] * 3, -1, *[_ones(2, 2)] * 3, *[-1] * 4, *[_ones(2)] * 3, -1, -1]
_CONVOLVED: dict[str, Any] = {"padding": 1, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}

#: (operator, inputs, outputs, options): a type and shape is fed or computed, an array a constant, -1 left out.
OPERATORS: Sequence[tuple[str, Sequence[Any], Sequence[Any], Any]] = [
    ("ADD", [_f(2, 3), _f(2, 3)], [_f(2, 3)], schema.AddOptionsT()),
    ("ADD", [_INT8(4), _INT8(4)], [_INT8(4)], schema.AddOptionsT()),
    ("EQUAL", [_UINT8(4), _UINT8(4)], [_BOOL(4)], None),
    ("EXP", [_f(3)], [_f(3)], None),
    ("SIGN", [_f(3)], [_f(3)], None),
    ("MAXIMUM", [_f(3), _f(3)], [_f(3)], None),
    ("SUM", [_f(2, 3), _i(1)], [_f(2)], schema.ReducerOptionsT()),
    ("CONV_2D", [_f(1, 4, 4, 2), _ones(2, 3, 3, 2), _ones(2)], [_f(1, 2, 2, 2)], schema.Conv2DOptionsT(**_CONVOLVED)),
    ("DEPTHWISE_CONV_2D", [_f(1, 4, 4, 2), _ones(1, 3, 3, 2), _ones(2)], [_f(1, 2, 2, 2)],
     schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **_CONVOLVED)),
    ("DEPTHWISE_CONV_2D", [_INT16(1, 4, 4, 2), np.ones((1, 3, 3, 2), np.int8), np.zeros(2, np.int64)],
     [_INT16(1, 2, 2, 2)], schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **_CONVOLVED)),
    ("FULLY_CONNECTED", [_f(1, 3), _ones(2, 3), _ones(2)], [_f(1, 2)], schema.FullyConnectedOptionsT()),
    ("BATCH_MATMUL", [_f(2, 3), _f(3, 2)], [_f(2, 2)], schema.BatchMatMulOptionsT()),
    ("CONCATENATION", [_f(2, 3)] * 3, [_f(2, 9)], schema.ConcatenationOptionsT(axis=1)),
    ("PACK", [_f(2)] * 3, [_f(3, 2)], schema.PackOptionsT(valuesCount=3)),
    ("UNPACK", [_f(3, 2)], [_f(2)] * 3, schema.UnpackOptionsT(num=3)),
    ("SPLIT", [np.int32(0), _f(4, 2)], [_f(2, 2)] * 2, schema.SplitOptionsT(numSplits=2)),
    ("SPLIT_V", [_f(4, 2), _i(1, 3), np.int32(0)], [_f(1, 2), _f(3, 2)], schema.SplitVOptionsT(numSplits=2)),
    ("RESHAPE", [_f(2, 3), _i(3, 2)], [_f(3, 2)], schema.ReshapeOptionsT(newShape=[3, 2])),
    ("TRANSPOSE", [_f(2, 3), _i(1, 0)], [_f(3, 2)], None),
    ("SLICE", [_f(4), _i(1), _i(2)], [_f(2)], None),
    ("STRIDED_SLICE", [_f(4), _i(0), _i(4), _i(2)], [_f(2)], schema.StridedSliceOptionsT()),
    ("PADV2", [_f(2, 2), np.array([[1, 1], [0, 0]], np.int32), np.float32(1)], [_f(4, 2)], None),
    ("ONE_HOT", [("int32", (2,)), np.int32(3), np.float32(1), np.float32(0)], [_f(2, 3)],
     schema.OneHotOptionsT(axis=-1)),
    ("SPACE_TO_BATCH_ND", [_f(1, 2, 2, 1), _i(2, 2), np.zeros((2, 2), np.int32)], [_f(4, 1, 1, 1)], None),
    ("TOPK_V2", [_f(4), np.int32(2)], [_f(2), ("int32", (2,))], None),
    ("SVDF", [_f(1, 2), _ones(2, 2), _ones(2, 3), _ones(2), _state(1, 6)], [_f(1, 2)], schema.SVDFOptionsT(rank=1)),
    ("UNIDIRECTIONAL_SEQUENCE_RNN", [_f(1, 3, 2), _ones(2, 2), _ones(2, 2), _ones(2), _state(1, 2)], [_f(1, 3, 2)],
     schema.SequenceRNNOptionsT()),
    *(("UNIDIRECTIONAL_SEQUENCE_LSTM", [_f(1, 3, 2), *weights, _state(1, 2), _state(1, 2), *[-1] * 4], [_f(1, 3, 2)],
       schema.UnidirectionalSequenceLSTMOptionsT(fusedActivationFunction=4)) for weights in (_GATES, _COUPLED)),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", [_f(3, 1, 2), *_GATES, *_GATES, *[_state(1, 2)] * 4, *[-1] * 9],
     [_f(3, 1, 2)] * 2, schema.BidirectionalSequenceLSTMOptionsT(fusedActivationFunction=4)),
]  # fmt: skip
_REINTERPRETED = ("float32", "int32", "uint8", "int64", "string", "int8", "float64", "int4")


def single(name: str, inputs: Sequence[Any], outputs: Sequence[Any], options: Any) -> bytes:
    """Return a model of one operator."""
    graph = Graph()

    def add(spec: Any, tensor: str) -> int:
        if isinstance(spec, int):
            return spec
        dtype = spec.dtype.name if isinstance(spec, (np.ndarray, np.generic)) else spec[0]
        scale = 0.5 if dtype in ("int8", "uint8", "int16", "int64") else None
        if not isinstance(spec, tuple):
            return graph.constant(tensor, spec, scale=scale)
        state = dtype == "variable"
        return graph.tensor(tensor, spec[1], "float32" if state else dtype, scale=scale, is_variable=state)

    given = [add(spec, f"in{i}") for i, spec in enumerate(inputs)]
    made = [add(spec, f"out{i}") for i, spec in enumerate(outputs)]
    graph.op(name, given, made, options)
    fed = [
        index for index, spec in zip(given, inputs, strict=True) if isinstance(spec, tuple) and spec[0] != "variable"
    ]
    graph.inputs, graph.outputs = fed, made
    return build([graph])


def edited(model: bytes, changes: Mapping[str, object]) -> bytes:
    """Return a model in which some fields of the schema's objects, such as "subgraphs.0.outputs", are others."""
    tree = schema.ModelT.InitFromPackedBuf(bytearray(model))
    for path, value in changes.items():
        place, _, field = path.rpartition(".")
        owner = tree
        for part in filter(None, place.split(".")):
            owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
        setattr(owner, field, value)
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _added(*, extra: Callable[[Graph], int] | None = None) -> bytes:
    graph = Graph()
    x, y = (graph.tensor(name, [3], "float32") for name in "xy")
    graph.op("ADD", [x, x], [y], schema.AddOptionsT())
    graph.inputs, graph.outputs = [x], [y] if extra is None else [y, extra(graph)]
    return build([graph])


def _constant(*values: float) -> bytes:
    graph = Graph()
    graph.outputs = [graph.constant("c", np.array(values, np.float32))]
    return build([graph])


def _branch(kind: str) -> Graph:
    graph = Graph(kind)
    a = graph.tensor("a", [3], "float32")
    other = graph.constant("b", _ones(3)) if kind == "constant" else graph.tensor("b", [3], "float32")
    graph.inputs, graph.outputs = [a], [a if kind == "passed" else other]
    return graph


def _choice(first: str, second: str) -> bytes:
    graph = Graph()
    condition, x, y = (
        graph.tensor("c", [1], "bool"),
        graph.tensor("x", [3], "float32"),
        graph.tensor("y", [3], "float32"),
    )
    graph.op("IF", [condition, x], [y], schema.IfOptionsT(thenSubgraphIndex=1, elseSubgraphIndex=2))
    graph.inputs, graph.outputs = [condition, x], [y]
    return build([graph, _branch(first), _branch(second)])


def _recursion() -> bytes:
    graph = Graph()
    condition, x, y = (
        graph.tensor("c", [1], "bool"),
        graph.tensor("x", [3], "float32"),
        graph.tensor("y", [3], "float32"),
    )
    graph.op("IF", [condition, condition, x], [y], schema.IfOptionsT(thenSubgraphIndex=0, elseSubgraphIndex=0))
    graph.inputs, graph.outputs = [condition, x], [y]
    return build([graph])


def _loop() -> bytes:
    """Int32 n [1], float32 x [3] -> 4, x: n is counted up in a graph that passes x on."""
    main, condition, body = Graph(), Graph("condition"), Graph("body")
    n, x, m, y = (
        main.tensor(*t)
        for t in (("n", [1], "int32"), ("x", [3], "float32"), ("m", [1], "int32"), ("y", [3], "float32"))
    )
    main.op("WHILE", [n, x], [m, y], schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2))
    main.inputs, main.outputs = [n, x], [m, y]
    for graph, other, made in ((condition, 4, "bool"), (body, 1, "int32")):
        i, a = graph.tensor("i", [1], "int32"), graph.tensor("a", [3], "float32")
        result = graph.tensor("r", [1], made)
        graph.op("LESS" if made == "bool" else "ADD", [i, graph.constant("k", _i(other))], [result])
        graph.inputs, graph.outputs = [i, a], [result] if made == "bool" else [result, a]
    return build([main, condition, body])


def _once() -> bytes:
    """Float32 x [3] -> x + (0, 1, 2), which a graph that runs once has put into a variable."""
    main, first = Graph(), Graph("first")
    x, handle, v, y = (
        main.tensor("x", [3], "float32"),
        main.tensor("h", [], "resource"),
        main.tensor("v", [3], "float32"),
        main.tensor("y", [3], "float32"),
    )
    own = first.tensor("h", [], "resource")
    main.op("CALL_ONCE", [], [], schema.CallOnceOptionsT(initSubgraphIndex=1))
    for graph, index in ((main, handle), (first, own)):
        graph.op("VAR_HANDLE", [], [index], schema.VarHandleOptionsT(container="", sharedName="v"))
    main.op("READ_VARIABLE", [handle], [v], schema.ReadVariableOptionsT())
    main.op("ADD", [x, v], [y], schema.AddOptionsT())
    main.inputs, main.outputs = [x], [y]
    first.op(
        "ASSIGN_VARIABLE",
        [own, first.constant("k", np.arange(3, dtype=np.float32))],
        [],
        schema.AssignVariableOptionsT(),
    )
    return build([main, first])


#: Whole graphs that both engines run, though a file may look as if it lacked something.
SOUND: dict[str, Callable[[], bytes]] = {
    "a variable as an output": lambda: _added(extra=lambda g: g.tensor("v", [3], "float32", is_variable=True)),
    "a constant as an output": lambda: _added(extra=lambda g: g.constant("c", _ones(3))),
    "an empty constant as an output": lambda: _added(extra=lambda g: g.constant("c", _ones(0))),
    "an empty output that nothing computes": lambda: _added(extra=lambda g: g.tensor("e", [0], "float32")),
    "no list of operators": lambda: edited(_added(), {"subgraphs.0.operators": None, "subgraphs.0.outputs": [0]}),
    "no list of outputs": lambda: edited(_added(), {"subgraphs.0.outputs": None}),
    "neither inputs nor operators": lambda: edited(
        _constant(1, 2), {"subgraphs.0.inputs": None, "subgraphs.0.operators": None}
    ),
    "a branch that passes its input on": lambda: _choice("passed", "constant"),
    "a branch without a list of operators": lambda: edited(
        _choice("passed", "passed"), {"subgraphs.1.operators": None}
    ),
    "a loop that passes an input on": _loop,
    "a loop that drops a result": lambda: edited(
        _loop(), {"subgraphs.0.operators.0.outputs": [2, -1], "subgraphs.0.outputs": [2]}
    ),
    "a first graph without lists": lambda: edited(_once(), {"subgraphs.1.inputs": None, "subgraphs.1.outputs": None}),
    "a graph that nobody calls": lambda: edited(
        _choice("passed", "unset"), {"subgraphs.0.operators": [], "subgraphs.0.outputs": [1]}
    ),
}
#: What the engines do not survive, or refuse.
_UNSOUND: dict[str, Callable[[], bytes]] = {
    "a text that nothing computes": lambda: _added(extra=lambda g: g.tensor("s", [2], "string")),
    "an output that nothing computes": lambda: _added(extra=lambda g: g.tensor("s", [2], "float32")),
    "a condition that nothing computes": lambda: edited(_loop(), {"subgraphs.1.operators": []}),
    "a loop without an input": lambda: edited(_loop(), {"subgraphs.0.operators.0.inputs": [0, -1]}),
    "a body that lacks an input": lambda: edited(_loop(), {"subgraphs.2.inputs": [-1, 1]}),
    "a body that is the main graph": lambda: edited(
        _loop(), {"subgraphs.0.operators.0.builtinOptions.bodySubgraphIndex": 0}
    ),
    "a branch that lacks its output": lambda: edited(_choice("passed", "passed"), {"subgraphs.1.outputs": [-1]}),
    "a graph that calls itself": _recursion,
    "a variable that is read to nowhere": lambda: edited(_once(), {"subgraphs.0.operators.2.outputs": []}),
    "a variable that nobody names": lambda: edited(_once(), {"subgraphs.1.operators.1.inputs": []}),
    "8-bit sums without a scale": lambda: edited(single(*OPERATORS[1]), {"subgraphs.0.tensors.0.quantization": None}),
    "8-bit comparisons without a scale": lambda: edited(
        single(*OPERATORS[2]), {"subgraphs.0.tensors.0.quantization": None}
    ),
}


def oddities(model: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a model of one operator with each of its tensors left out, or its lists cut short."""
    operator = schema.ModelT.InitFromPackedBuf(bytearray(model)).subgraphs[0].operators[0]
    inputs, outputs = list(operator.inputs), list(operator.outputs)

    def changed(given: Sequence[int], made: Sequence[int]) -> bytes:
        operator = "subgraphs.0.operators.0"
        left = [index for index in outputs if index in made]
        return edited(model, {f"{operator}.inputs": given, f"{operator}.outputs": made, "subgraphs.0.outputs": left})

    yield "as it is", model
    for k, index in enumerate(inputs):
        if index != -1:
            yield f"without input {k}", changed([*inputs[:k], -1, *inputs[k + 1 :]], outputs)
        if k < 5:
            yield f"with {k} inputs", changed(inputs[:k], outputs)
    yield "with an input left out behind the others", changed([*inputs, -1], outputs)
    for k in range(len(outputs)):
        yield f"without output {k}", changed(inputs, [*outputs[:k], -1, *outputs[k + 1 :]])
        yield f"with {k} outputs", changed(inputs, outputs[:k])


def _cases() -> Iterator[tuple[str, bytes]]:
    for operator in OPERATORS:
        for oddity, model in oddities(single(*operator)):
            yield f"{operator[0]} {oddity}", model
    for given in _REINTERPRETED:
        for made in _REINTERPRETED:
            # an operator that writes behind its tensor shows only where that is large
            rows = 2000 if "string" not in (given, made) else 20
            shape, flat = (300, rows), [300 * rows]
            model = single("RESHAPE", [(given, shape)], [(made, flat)], schema.ReshapeOptionsT(newShape=flat))
            yield f"RESHAPE of {given} to {made}", model
    for name, make in {**SOUND, **_UNSOUND}.items():
        yield name, make()


def _run(interpreter: Any) -> None:
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        dtype = np.dtype(details["dtype"])
        value = np.full(details["shape"], b"ab", object) if dtype.kind == "S" else np.ones(details["shape"], dtype)
        interpreter.set_tensor(details["index"], value)
    interpreter.invoke()
    for details in interpreter.get_output_details():
        interpreter.get_tensor(details["index"])


def _fate(interpreter_class: Any, model: bytes) -> str:
    """Return what becomes of a process that runs a model: "runs", "fails" with an exception, or "dies"."""
    child = os.fork()
    if child == 0:
        signal.alarm(_TIMEOUT)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            _run(interpreter_class(model_content=model, num_threads=1))
        except Exception:
            os._exit(1)
        os._exit(0)
    return {0: "runs", 1: "fails"}.get(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "dies")


def main(engine: str) -> None:
    from accelerate.errors import ModelError
    from accelerate.formats.tflite.file import ModelFile

    interpreter_class = importlib.import_module(f"{PACKAGES[engine]}.interpreter").Interpreter
    for name, model in _cases():
        refusal = ""
        try:
            ModelFile(model).check_graphs()
        except ModelError as error:
            refusal = error.reason
        print(json.dumps([name, refusal, _fate(interpreter_class, model)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
