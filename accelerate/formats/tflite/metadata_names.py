"""Reading of the tensors' names alone from TFLite metadata: all that a load needs of it."""

from __future__ import annotations

from ...errors import ModelError
from ..flatbuffer import Reader, Table, TableVector

__all__ = ["metadata_root", "read_tensor_names"]

IDENTIFIER = b"M001"


def read_tensor_names(data: bytes, where: str, subgraph: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read only the names of a subgraph's inputs and outputs from a ``TFLITE_METADATA`` buffer."""
    subgraphs = metadata_root(data, where).tables(3, "SubGraphMetadata")
    if subgraph >= len(subgraphs):
        return (), ()
    table = subgraphs[subgraph]
    return _names(table.tables(2, "TensorMetadata")), _names(table.tables(3, "TensorMetadata"))


def metadata_root(data: bytes, where: str) -> Table:
    """Return the ``ModelMetadata`` table of a ``TFLITE_METADATA`` buffer."""
    reader = Reader(data, where)
    identifier = reader.identifier()
    if identifier != IDENTIFIER:
        raise ModelError(
            f"{where}: it should have the file identifier {IDENTIFIER!r} at byte 4, not {identifier!r}, "
            "so it is not of the schema that is known here"
        )
    return reader.root("ModelMetadata")


def _names(tensors: TableVector) -> tuple[str, ...]:
    return tuple(tensor.text(0) for tensor in tensors)
