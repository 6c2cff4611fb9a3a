"""The graph of a .tflite file: its tensors, its signatures and its operators.

The tables are those of ``tensorflow/compiler/mlir/lite/schema/schema.fbs`` of tensorflow/tensorflow.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..._records import record
from ...metadata import Quantization
from ..flatbuffer import FLOAT32, INT8, INT32, INT64, UINT8, UINT32, Table
from .schema_names import CUSTOM, DATA_TYPES, OPERATORS, name_of

__all__ = [
    "Signature",
    "Subgraph",
    "Tensor",
    "builtin_code",
    "computed_tensors",
    "custom_name",
    "operator_name",
    "read_signature",
    "read_subgraph",
    "value_range",
]

# The codes that did not fit into the schema's first field, one byte wide, stand in a second one; the
# greater of both is meant.
OLD_CODE_SLOT, NEW_CODE_SLOT = 0, 3


@record(frozen=True)
class Tensor:
    """An input or output of a subgraph."""

    index: int  # its place among the subgraph's tensors, by which runtimes know it
    name: str  # its own name, which is rarely the one that users should see
    data_type: str  # a NumPy dtype name, or "string", "resource", "variant", "unknown(37)"
    shape: tuple[int, ...]  # -1 is a dynamic dimension
    quantization: Quantization | None
    ranked: bool = True  # whether the file gives a shape at all; an older one does not tell a scalar from that
    default_shape: tuple[int, ...] = ()  # what a runtime allocates at first, with a size for each dynamic dimension


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
        default_shape=shape,
    )


def _quantization(table: Table) -> Quantization | None:
    scale, zero_point = table.numbers(2, FLOAT32), table.numbers(3, INT64)
    # Converters leave an empty or zero scale on tensors that are not quantised.
    if not any(scale):
        return None
    axis = table.number(6, INT32) if len(scale) > 1 else None
    zeros = zero_point if len(zero_point) == len(scale) else (zero_point or (0,))[:1] * len(scale)
    return Quantization(scale, zeros, axis)


def value_range(tensor: Table) -> tuple[float, float] | None:
    """Return the least and the greatest real value of a Tensor table's bytes; None of one that is not quantised so."""
    limits = {"uint8": (0, 255), "int8": (-128, 127)}.get(name_of(DATA_TYPES, tensor.number(1, INT8)))
    told = tensor.table(4, "QuantizationParameters")
    q = _quantization(told) if told else None
    if limits is None or q is None or q.axis is not None:
        return None
    low, high = ((end - q.zero_point[0]) * q.scale[0] for end in limits)
    return (low, high)


def _tensor_map(table: Table, slot: int) -> Mapping[str, int]:
    return {entry.text(0): entry.number(1, UINT32) for entry in table.tables(slot, "TensorMap")}


def builtin_code(code: Table) -> int:
    """Return the number of an OperatorCode table's operator."""
    old: int = code.number(OLD_CODE_SLOT, INT8)
    new: int = code.number(NEW_CODE_SLOT, INT32)
    return max(old, new)
