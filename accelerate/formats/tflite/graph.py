"""The graph of a .tflite file: its tensors, its signatures and its operators.

The tables are those of ``tensorflow/compiler/mlir/lite/schema/schema.fbs`` of tensorflow/tensorflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..._records import record
from ...errors import ModelError
from ...metadata import Quantization
from .. import REFETCH
from ..flatbuffer import FLOAT32, INT8, INT32, INT64, UINT8, UINT32, UINT64, Table, TableVector
from .schema_names import CUSTOM, DATA_TYPES, OPERATORS, name_of

__all__ = [
    "Signature",
    "Subgraph",
    "Tensor",
    "builtin_code",
    "check_graph",
    "computed_tensors",
    "custom_name",
    "operator_name",
    "read_signature",
    "read_subgraph",
]

# The codes that did not fit into the schema's first field, one byte wide, stand in a second one; the
# greater of both is meant.
OLD_CODE_SLOT, NEW_CODE_SLOT = 0, 3

_SEQUENCES = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN")
_FIRST_TENSORS_OPTIONAL = frozenset(map(OPERATORS.index, ("CUSTOM", "LSTM", *_SEQUENCES)))
_RESHAPE, _DEPTHWISE_CONV_2D = OPERATORS.index("RESHAPE"), OPERATORS.index("DEPTHWISE_CONV_2D")
_FLOAT32 = DATA_TYPES.index("float32")


@record(frozen=True)
class Tensor:
    """An input or output of a subgraph."""

    index: int  # its place among the subgraph's tensors, by which runtimes know it
    name: str  # its own name, which is rarely the one that users should see
    data_type: str  # a NumPy dtype name, or "string", "resource", "variant", "unknown(37)"
    shape: tuple[int, ...]  # -1 is a dynamic dimension
    quantization: Quantization | None
    ranked: bool = True  # whether the file gives a shape at all; an older one does not tell a scalar from that


@record(frozen=True)
class Subgraph:
    """One graph of the model, with its inputs and outputs in their order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@record(frozen=True)
class Signature:
    """A function of the model: names for the inputs and outputs of one subgraph, as tensor indices."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


def check_graph(graph: Table, codes: Sequence[int], buffers: TableVector, where: str) -> None:
    """Raise where a SubGraph table lacks what the interpreters take for granted.

    The schema allows all of it, so a verified file can still take LiteRT 2.3 down: a list that is absent, an operator
    without its first tensors (a null pointer each), an output that nothing computes. `codes` has the number of the
    operator for each of the model's operator codes.
    """
    for slot, what in enumerate(("tensors", "inputs", "outputs", "operators")):
        if not graph.has(slot):
            raise ModelError(f"{where}: a graph has no list of {what}; the file is damaged", REFETCH)
    tensors = graph.tables(0, "Tensor")
    computed = set(graph.numbers(1, INT32))
    for number, operator in enumerate(graph.tables(3, "Operator")):
        inputs, outputs = operator.numbers(1, INT32), operator.numbers(2, INT32)
        code = operator.number(0, UINT32)
        absent = -1 in outputs or (
            -1 in inputs[:2] and code < len(codes) and codes[code] not in _FIRST_TENSORS_OPTIONAL
        )
        if absent:
            raise ModelError(f"{where}: operator {number} lacks an input or output; the file is damaged", REFETCH)
        kind = codes[code] if code < len(codes) else -1
        if kind in (_RESHAPE, _DEPTHWISE_CONV_2D):
            types = [tensors[i].number(1, INT8) for i in (*inputs[:1], *outputs[:1])]
            _check_operands(kind, types, inputs, f"{where}: operator {number}")
        computed.update(outputs)
    for index in graph.numbers(2, INT32):
        if index in computed:
            continue
        buffer = tensors[index].number(2, UINT32)
        if buffer == 0 or not _has_content(buffers[buffer]):
            raise ModelError(f"{where}: nothing computes the output with index {index}; the file is damaged", REFETCH)


def _check_operands(code: int, types: Sequence[int], inputs: Sequence[int], what: str) -> None:
    """Raise for operands that LiteRT 2.3 does not check: a reshape copies by the input's size, a bias is just read."""
    if code == _RESHAPE and len(set(types)) > 1:
        raise ModelError(f"{what} reshapes one type into another; the file is damaged", REFETCH)
    if code == _DEPTHWISE_CONV_2D and types[:1] != [_FLOAT32] and (len(inputs) < 3 or inputs[2] == -1):
        raise ModelError(f"{what} is a quantised convolution without a bias; the file is damaged", REFETCH)


def _has_content(buffer: Table) -> bool:
    """Return whether a buffer holds a constant: converters give every tensor a buffer, empty or not."""
    return buffer.span(0)[1] > 0 or buffer.number(1, UINT64) > 1  # within the flatbuffer, or behind it


def computed_tensors(graph: Table) -> tuple[int, ...]:
    """Return the indices of the tensors that a SubGraph table's operators compute."""
    return tuple(i for operator in graph.tables(3, "Operator") for i in operator.numbers(2, INT32))


def operator_name(code: Table) -> str:
    """Return the name of an OperatorCode table's operator."""
    builtin = builtin_code(code)
    return code.text(1) if builtin == CUSTOM else name_of(OPERATORS, builtin)


def custom_name(code: Table) -> str | None:
    """Return the name of an OperatorCode table's operator if it is a custom one."""
    return code.text(1) if builtin_code(code) == CUSTOM else None


def read_signature(table: Table) -> Signature:
    """Read a SignatureDef table."""
    return Signature(
        key=table.text(2),
        subgraph=table.number(4, UINT32),
        inputs=_tensor_map(table, 0),
        outputs=_tensor_map(table, 1),
    )


def read_subgraph(table: Table) -> Subgraph:
    """Read a SubGraph table, of its tensors only the inputs and outputs."""
    tensors = table.tables(0, "Tensor")
    inputs, outputs = table.numbers(1, INT32), table.numbers(2, INT32)
    return Subgraph(
        inputs=tuple(_tensor(tensors[index], index) for index in inputs),
        outputs=tuple(_tensor(tensors[index], index) for index in outputs),
    )


def _tensor(table: Table, index: int) -> Tensor:
    shape, signature = table.numbers(0, INT32), table.numbers(7, INT32)
    quantization = table.table(4, "QuantizationParameters")
    return Tensor(
        index=index,
        name=table.text(3),
        data_type=name_of(DATA_TYPES, table.number(1, INT8)),
        shape=signature if len(signature) == len(shape) else shape,
        quantization=_quantization(quantization) if quantization else None,
        ranked=bool(shape) or table.number(8, UINT8) != 0,
    )


def _quantization(table: Table) -> Quantization | None:
    scale, zero_point = table.numbers(2, FLOAT32), table.numbers(3, INT64)
    # Converters leave an empty or zero scale on tensors that are not quantised.
    if not any(scale):
        return None
    axis = table.number(6, INT32) if len(scale) > 1 else None
    zeros = zero_point if len(zero_point) == len(scale) else (zero_point or (0,))[:1] * len(scale)
    return Quantization(scale, zeros, axis)


def _tensor_map(table: Table, slot: int) -> Mapping[str, int]:
    return {entry.text(0): entry.number(1, UINT32) for entry in table.tables(slot, "TensorMap")}


def builtin_code(code: Table) -> int:
    """Return the number of an OperatorCode table's operator."""
    old: int = code.number(OLD_CODE_SLOT, INT8)
    new: int = code.number(NEW_CODE_SLOT, INT32)
    return max(old, new)
