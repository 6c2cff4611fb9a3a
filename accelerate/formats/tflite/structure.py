"""Checks the whole structure of a .tflite file, for a runtime that follows its offsets without looking.

The tables and their slots are those of ``tensorflow/compiler/mlir/lite/schema/schema.fbs`` of tensorflow/tensorflow.
"""

from __future__ import annotations

from mmap import mmap

from ...errors import ModelError
from .. import REFETCH
from ..flatbuffer import FLOAT32, INT32, INT64, UINT32, Reader, Table

__all__ = ["check_structure"]

# A model of this many bytes, once read into Python numbers; far above what edge machines run.
_ALLOWANCE = 256 << 20
_DIMENSION_LIMIT = 1 << 31


def check_structure(buffer: bytes | mmap, where: str) -> None:
    """Follow every offset of the graph once, and every index from one table into another.

    Sound structure does not make a sound model: an operator's numbers may still be nonsense.

    Raises
    ------
    ModelError
        Naming the first thing that is wrong and its place.
    """
    root = Reader(buffer, where, _ALLOWANCE).root("Model")
    root.check_fields()
    root.check_text(3)
    codes = root.tables(1, "OperatorCode")
    for code in codes:
        code.check_fields()
        code.check_text(1)
    buffers = root.tables(4, "Buffer")
    for data in buffers:
        data.check_fields()
        data.span(0)
    _check_entries(root, len(buffers), where)
    for graph in root.tables(2, "SubGraph"):
        _check_graph(graph, len(codes), len(buffers), where)


def _check_entries(root: Table, buffers: int, where: str) -> None:
    """Check the metadata and the signatures."""
    root.numbers(5, INT32)
    for entry in root.tables(6, "Metadata"):
        entry.check_fields()
        entry.check_text(0)
        _check_index(entry.number(1, UINT32), buffers, f"{where}: a metadata entry's buffer")
    for signature in root.tables(7, "SignatureDef"):
        signature.check_fields()
        signature.check_text(2)
        for slot in (0, 1):
            for pair in signature.tables(slot, "TensorMap"):
                pair.check_fields()
                pair.check_text(0)


def _check_graph(graph: Table, codes: int, buffers: int, where: str) -> None:
    graph.check_fields()
    graph.check_text(4)
    tensors = graph.tables(0, "Tensor")
    for tensor in tensors:
        _check_tensor(tensor, buffers, where)
    for slot in (1, 2):
        for index in graph.numbers(slot, INT32):
            _check_index(index, len(tensors), f"{where}: an input or output of the graph")
    for operator in graph.tables(3, "Operator"):
        _check_operator(operator, codes, len(tensors), where)


def _check_tensor(tensor: Table, buffers: int, where: str) -> None:
    tensor.check_fields()
    tensor.check_text(3)
    for slot in (0, 7):
        if any(not -1 <= n < _DIMENSION_LIMIT for n in tensor.numbers(slot, INT32)):
            raise ModelError(f"{where}: a tensor has a negative dimension; the file is damaged", REFETCH)
    if data := tensor.number(2, UINT32):  # 0 is the empty buffer, which need not be there
        _check_index(data, buffers, f"{where}: a tensor's buffer")
    quantization = tensor.table(4, "QuantizationParameters")
    if quantization is not None:
        quantization.check_fields()
        for slot in (0, 1, 2):
            quantization.numbers(slot, FLOAT32)
        quantization.numbers(3, INT64)
    sparsity = tensor.table(6, "SparsityParameters")
    if sparsity is not None:
        sparsity.check_fields()
        sparsity.numbers(0, INT32)
        sparsity.numbers(1, INT32)
        for dimension in sparsity.tables(2, "DimensionMetadata"):
            dimension.check_fields()
            for slot in (3, 5):
                if (segments := dimension.table(slot, "SparseIndexVector")) is not None:
                    segments.check_fields()
                    segments.span(0)


def _check_operator(operator: Table, codes: int, tensors: int, where: str) -> None:
    operator.check_fields()
    _check_index(operator.number(0, UINT32), codes, f"{where}: an operator's code")
    for slot in (1, 2, 8):
        for index in operator.numbers(slot, INT32):
            if index != -1:  # an optional tensor that is left out
                _check_index(index, tensors, f"{where}: an operator's tensor")
    operator.span(5)
    operator.span(7)
    for slot in (4, 12):
        if (options := operator.table(slot, "the operator's options")) is not None:
            options.check_fields()


def _check_index(index: int, count: int, what: str) -> None:
    if not 0 <= index < count:
        raise ModelError(f"{what} has the index {index}, but there are {count}; the file is damaged", REFETCH)
