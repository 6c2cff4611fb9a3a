"""Which graphs would take an interpreter down, although the schema allows them.

A verified file can still crash LiteRT 2.3 and tflite-runtime 2.14: an operator without a tensor that its kernel reads,
an output that nothing computes, a graph that calls itself. Each rule stands for a crash that was seen, and no more is
refused: `tests/test_tflite_soundness.py` gives operators such oddities and compares with what both engines do. The
slots are those of ``tensorflow/compiler/mlir/lite/schema/schema.fbs`` of tensorflow/tensorflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..._records import record
from ...errors import ModelError
from .. import REFETCH
from ..flatbuffer import FLOAT32, INT8, INT32, UINT8, UINT32, UINT64, Table, TableVector
from .graph import builtin_code
from .schema_names import DATA_TYPES, OPERATORS, name_of

__all__ = ["check_graphs"]


def _numbers(names: str) -> frozenset[int]:
    return frozenset(map(OPERATORS.index, names.split()))


# How many of its first inputs an operator's kernel reads without a look whether they are there; two, if not said here.
_ALL = 1 << 31
_READ: Mapping[int, int] = {
    OPERATORS.index(name): count
    for name, count in {
        "CUSTOM": 0, "LSTM": 0, "UNIDIRECTIONAL_SEQUENCE_LSTM": 0, "BIDIRECTIONAL_SEQUENCE_LSTM": 0, "VAR_HANDLE": 0,
        "BATCH_TO_SPACE_ND": 3, "DILATE": 3, "SLICE": 3, "SPACE_TO_BATCH_ND": 3, "SPLIT_V": 3, "ONE_HOT": 4,
        "STRIDED_SLICE": 4, "CONCATENATION": _ALL, "IF": _ALL, "WHILE": _ALL,
    }.items()
}  # fmt: skip
_IF, _WHILE, _CALL_ONCE, _SPLIT, _RESHAPE, _DEPTHWISE_CONV_2D = map(
    OPERATORS.index, ("IF", "WHILE", "CALL_ONCE", "SPLIT", "RESHAPE", "DEPTHWISE_CONV_2D")
)
# Where the inputs and outputs are not counted before they are read: the least number of each.
_LEAST: Mapping[int, tuple[int, int]] = {
    OPERATORS.index(name): least
    for name, least in {
        "ASSIGN_VARIABLE": (1, 0), "BATCH_MATMUL": (2, 1), "READ_VARIABLE": (0, 1), "SIGN": (0, 1), "SLICE": (3, 1),
        "STRIDED_SLICE": (4, 0),
    }.items()
}  # fmt: skip
# An LSTM has a bias for its input gate exactly where it has weights for it: (position of these, of the bias).
_GATES: Mapping[int, Sequence[tuple[int, int]]] = {
    OPERATORS.index("LSTM"): ((1, 12),),
    OPERATORS.index("UNIDIRECTIONAL_SEQUENCE_LSTM"): ((1, 12),),
    OPERATORS.index("BIDIRECTIONAL_SEQUENCE_LSTM"): ((1, 12), (18, 29)),
}
# Operators on 8-bit numbers whose kernels abort where a factor made of the scales makes no sense.
_SCALED = _numbers("ADD SUB SQUARED_DIFFERENCE EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL")
_SCALED_RESULT = _numbers("ADD SQUARED_DIFFERENCE")
_LOOKED_INTO = frozenset({_IF, _WHILE, _CALL_ONCE, _SPLIT, _RESHAPE, _DEPTHWISE_CONV_2D, *_LEAST, *_SCALED})

_FLOAT32, _UINT8, _INT8, _INT16 = map(DATA_TYPES.index, ("float32", "uint8", "int8", "int16"))
# By the number of the type; 0 for those whose elements have no size of their own.
_BITS = (32, 16, 32, 8, 64, 0, 8, 16, 64, 8, 64, 128, 64, 0, 0, 32, 16, 4, 16, 2, 4, 8, 8)


@record(frozen=True)
class _Graph:
    """What the rules about whole graphs need of one."""

    table: Table
    given: frozenset[int]  # the tensors that its inputs and operators fill
    calls: tuple[tuple[int, tuple[int, ...]], ...]  # (an operator that calls graphs, their indices)


def check_graphs(model: Table, where: str) -> None:
    """Raise a ModelError where a Model table has no graph, or one that would crash an interpreter."""
    tables = model.tables(2, "SubGraph")
    if not tables:
        raise ModelError(f"{where}: the model has no graph; the file is damaged", REFETCH)
    codes = [builtin_code(code) for code in model.tables(1, "OperatorCode")]
    graphs = [_check_operators(table, codes, where) for table in tables]
    buffers = model.tables(4, "Buffer")
    run = {0, *(signature.number(4, UINT32) for signature in model.tables(7, "SignatureDef"))}
    for index in sorted(run):
        if index < len(graphs):
            for output in graphs[index].table.numbers(2, INT32):
                _check_output(graphs[index], output, buffers, where)
    if any(graph.calls for graph in graphs):
        _check_calls(graphs, buffers, where)


def _check_operators(table: Table, codes: Sequence[int], where: str) -> _Graph:
    tensors = table.tables(0, "Tensor")
    given = set(table.numbers(1, INT32))
    calls = []
    for number, operator in enumerate(table.tables(3, "Operator")):
        inputs, outputs = operator.numbers(1, INT32), operator.numbers(2, INT32)
        given.update(outputs)
        code = operator.number(0, UINT32)
        kind = codes[code] if code < len(codes) else -1
        if kind not in _LOOKED_INTO and -1 not in inputs and -1 not in outputs:
            continue
        if problem := _problem(kind, operator, inputs, outputs, tensors):
            name = name_of(OPERATORS, kind)
            raise ModelError(f"{where}: operator {number} ({name}) {problem}, which crashes the interpreter", REFETCH)
        if kind in (_IF, _WHILE, _CALL_ONCE) and (options := operator.table(4, "the operator's options")):
            slots = 1 if kind == _CALL_ONCE else 2
            calls.append((kind, tuple(options.number(slot, INT32) for slot in range(slots))))
    return _Graph(table, frozenset(given), tuple(calls))


def _problem(
    kind: int, operator: Table, inputs: Sequence[int], outputs: Sequence[int], tensors: TableVector
) -> str:  # fmt: skip
    """Return what is wrong with an operator, "" where it is sound."""
    gates = [(weights, bias) for weights, bias in _GATES.get(kind, ()) if bias < len(inputs)]
    if -1 in inputs[: _READ.get(kind, 2)] or any(
        inputs[weights] != -1 and inputs[bias] == -1 for weights, bias in gates
    ):
        return "lacks an input"
    # a loop may drop its results, and only the kernel of a branch reads more than its first output
    if -1 in (outputs if kind == _IF else () if kind == _WHILE else outputs[:1]):
        return "lacks an output"
    least = _LEAST.get(kind, (0, 0))
    if len(inputs) < least[0] or len(outputs) < least[1]:
        return f"has {len(inputs)} inputs and {len(outputs)} outputs"
    if kind == _SPLIT:
        options = operator.table(4, "SplitOptions")
        parts = options.number(0, INT32) if options else 0
        return "" if parts == len(outputs) else f"splits into {parts}, but has {len(outputs)} outputs"
    if kind == _RESHAPE and inputs and outputs:
        return _reshapes(*(tensors[index].number(1, INT8) for index in (inputs[0], outputs[0])))
    if kind == _DEPTHWISE_CONV_2D and len(inputs) == 2:
        return "" if tensors[inputs[0]].number(1, INT8) == _INT16 else "has no bias"
    if kind in _SCALED:
        operands = (*inputs[:2], *(outputs[:1] if kind in _SCALED_RESULT else ()))
        if not all(map(_is_scaled, (tensors[index] for index in operands))):
            return "works on 8-bit numbers without a scale"
    return ""


def _reshapes(given: int, made: int) -> str:
    """Say what is wrong with a change of type: the kernel copies as many bytes as the input has."""
    if given == made or max(given, made) >= len(_BITS) or min(given, made) < 0:
        return ""
    sizes = _BITS[given], _BITS[made]
    fits = all(sizes) and sizes[0] <= sizes[1]
    return "" if fits else f"reshapes {DATA_TYPES[given]} into {DATA_TYPES[made]}"


def _is_scaled(tensor: Table) -> bool:
    if tensor.number(1, INT8) not in (_UINT8, _INT8):
        return True
    quantization = tensor.table(4, "QuantizationParameters")
    scales = quantization.numbers(2, FLOAT32) if quantization else ()
    return bool(scales) and all(0 < scale < math.inf for scale in scales)


def _check_output(graph: _Graph, index: int, buffers: TableVector, where: str) -> None:
    """Raise for an output that nothing fills: reading it, where it is text, crashes the engines."""
    tensor = graph.table.tables(0, "Tensor")[index]  # which raises for -1
    if index in graph.given or tensor.number(5, UINT8) or 0 in tensor.numbers(0, INT32):
        return  # computed, or kept between the calls, or nothing to read
    buffer = tensor.number(2, UINT32)  # converters give every tensor a buffer, empty or not
    if buffer == 0 or not _has_content(buffers[buffer]):
        raise ModelError(f"{where}: nothing computes the output with index {index}; the file is damaged", REFETCH)


def _has_content(buffer: Table) -> bool:
    return buffer.span(0)[1] > 0 or buffer.number(1, UINT64) > 1  # within the flatbuffer, or behind it


def _check_calls(graphs: Sequence[_Graph], buffers: TableVector, where: str) -> None:
    """Raise for graphs that call each other in a circle, and for what the kernels of IF and WHILE take for granted."""
    from graphlib import CycleError, TopologicalSorter

    try:
        callees_of = {i: {callee for _, callees in g.calls for callee in callees} for i, g in enumerate(graphs)}
        TopologicalSorter(callees_of).prepare()
    except CycleError as error:
        reason = f"{where}: graph {min(error.args[1])} calls itself, which crashes the interpreter"
        raise ModelError(reason, REFETCH) from error
    for graph in graphs:
        for kind, callees in graph.calls:
            called = [graphs[index] if 0 <= index < len(graphs) else None for index in callees]
            if kind == _WHILE and called[0]:
                for output in called[0].table.numbers(2, INT32)[:1]:
                    _check_output(called[0], output, buffers, where)
            bodies = called if kind == _IF else called[1:]
            for body in filter(None, bodies):
                sides = (2,) if kind == _IF else (1, 2)
                if any(-1 in body.table.numbers(side, INT32) for side in sides):
                    raise ModelError(f"{where}: a graph that is called lacks a tensor; the file is damaged", REFETCH)
