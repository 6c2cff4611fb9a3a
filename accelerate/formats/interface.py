"""What a caller of a model has to know of its file: the names, types and shapes of what goes in and comes out."""

from __future__ import annotations

from .._records import record
from ..metadata import TensorInfo

__all__ = ["Interface"]


@record(frozen=True)
class Interface:
    """The tensors of one of a file's graphs.

    Attributes
    ----------
    signature : str
        Its key; "" where the names are not those of a signature.
    subgraph : int
        The graph that it runs.
    inputs, outputs : tuple of TensorInfo
        In the graph's order, by their canonical names.
    input_indices, output_indices : tuple of int
        By which a TFLite runtime knows them; empty for other formats.
    problem : str
        What keeps better names from them, to warn with; "" when nothing does.
    """

    signature: str
    subgraph: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    input_indices: tuple[int, ...] = ()
    output_indices: tuple[int, ...] = ()
    problem: str = ""
