"""What a caller of a model has to know of its file: the names, types and shapes of what goes in and comes out."""

from __future__ import annotations

from .._records import record
from ..metadata import TensorInfo

__all__ = ["Interface"]


@record(frozen=True)
class Interface:
    """The tensors of one of a file's graphs."""

    signature: str  # its key; "" where the names are not those of a signature
    subgraph: int  # the graph that it runs
    inputs: tuple[TensorInfo, ...]  # like the outputs in the graph's order, by their canonical names
    outputs: tuple[TensorInfo, ...]
    input_indices: tuple[int, ...] = ()  # by which a TFLite runtime knows the tensors; empty for other formats
    output_indices: tuple[int, ...] = ()
    problem: str = ""  # what keeps better names from them, to warn with; "" when nothing does
