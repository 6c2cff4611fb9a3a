"""A small writer of .tflite models: graphs built by code, through the TFLite schema.

A :class:`Graph` is one subgraph under construction: tensors and constants are added to it and
named by the index they are given, operators connect them, and its ``inputs`` and ``outputs`` say
which of them the outside world sees. :func:`build` turns one or several graphs into the bytes of a
model file::

    graph = Graph()
    x = graph.tensor("x", [3], "float32")
    y = graph.tensor("y", [3], "float32")
    graph.op("ADD", [x, x], [y], schema.AddOptionsT())
    graph.inputs, graph.outputs = [x], [y]
    model = build([graph])

Nothing here checks that a graph makes sense. The tests need models that are odd on purpose, and a
runtime says what it thinks of one soon enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

Signature: TypeAlias = "tuple[str, int, Mapping[str, int], Mapping[str, int]]"
"""A signature: its key, its subgraph's index, and its inputs and outputs as name -> tensor."""

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

# The schema asks for this of every buffer, so that a runtime may map the file and use the weights
# where they lie; the generated Python code does not do it.
BUFFER_ALIGNMENT = 16


@dataclass(frozen=True)
class _Buffer:
    """A buffer of the model, aligned as the schema asks.

    It stands in for the schema's ``BufferT``, of which ``ModelT.Pack`` needs only this one method.
    """

    data: bytes = b""

    def Pack(self, builder: Any) -> Any:
        """Write the buffer and return its offset."""
        if not self.data:
            schema.BufferStart(builder)
            return schema.BufferEnd(builder)
        builder.Prep(BUFFER_ALIGNMENT, len(self.data))
        data = builder.CreateByteVector(self.data)
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


@dataclass(frozen=True)
class _OperatorCode:
    """What an operator is: a builtin's code or a custom operator's name, and the version of it."""

    builtin: int
    custom: str | None
    version: int

    def to_schema(self) -> Any:
        """Return the schema's object for it."""
        # Old runtimes read only the first field, one byte wide; a code too big for it leaves a
        # placeholder there and stands in the second, which wins where it is the greater.
        placeholder = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
        return schema.OperatorCodeT(
            deprecatedBuiltinCode=min(self.builtin, placeholder),
            builtinCode=self.builtin,
            customCode=self.custom,
            version=self.version,
        )


@dataclass
class Graph:
    """One subgraph under construction.

    Parameters
    ----------
    name : str
        The subgraph's name, which only tools show.

    Attributes
    ----------
    inputs, outputs : list of int
        The tensors that the caller fills and reads, in their order.
    """

    name: str = "main"
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    _tensors: list[Any] = field(default_factory=list)
    _data: dict[int, bytes] = field(default_factory=dict)
    _operators: list[tuple[_OperatorCode, Any]] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] | None = None,
        axis: int = 0,
        is_variable: bool = False,
        ranked: bool = True,
    ) -> int:
        """Add a tensor without data and return its index.

        Parameters
        ----------
        name : str
            Its name; several tensors may have the same.
        shape : sequence of int
            Its dimensions, -1 for one that the caller may choose.
        dtype : str
            A type of the schema in lower case: numpy's names, and "string", "bfloat16", "int4" ...
        scale, zero_point : number or sequence of them, optional
            Its quantisation. Sequences are per channel; a zero point left out is 0.
        axis : int
            The dimension that per-channel parameters run along.
        is_variable : bool
            Whether it keeps its value from one invocation to the next.
        ranked : bool
            Whether the file gives a shape at all; False goes with an empty one.

        Returns
        -------
        int
            The tensor's index in this graph.
        """
        self._tensors.append(
            schema.TensorT(
                name=name,
                shape=[1 if size == -1 else size for size in shape],
                shapeSignature=list(shape) if -1 in shape else None,
                hasRank=ranked,
                type=getattr(schema.TensorType, dtype.upper()),
                quantization=_quantization(scale, zero_point, axis),
                isVariable=is_variable,
            )
        )
        return len(self._tensors) - 1

    def constant(
        self,
        name: str,
        values: ArrayLike,
        *,
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] | None = None,
        axis: int = 0,
    ) -> int:
        """Add a tensor with data and return its index.

        Parameters
        ----------
        name : str
            Its name.
        values : array_like
            Its data, whose numpy type is the tensor's. Text or bytes make a string tensor.
        scale, zero_point, axis
            Its quantisation, as :meth:`tensor` takes it.

        Returns
        -------
        int
            The tensor's index in this graph.
        """
        array = np.asarray(values)
        is_string = array.dtype.kind in "SUO"
        dtype = "string" if is_string else array.dtype.name
        index = self.tensor(name, array.shape, dtype, scale=scale, zero_point=zero_point, axis=axis)
        self._data[index] = pack_strings(array) if is_string else array.tobytes()
        return index

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        *,
        version: int = 1,
    ) -> None:
        """Add a builtin operator.

        Parameters
        ----------
        name : str
            Its name in the schema's ``BuiltinOperator``, such as "FULLY_CONNECTED".
        inputs, outputs : sequence of int
            Its tensors, -1 for an optional input that is left out.
        options : object, optional
            Its options, such as the schema's ``FullyConnectedOptionsT()``.
        version : int
            The operator's version. The runtimes decide by the tensors' types and take the first
            version of nearly every operator (BROADCAST_TO begins at 2).
        """
        operator = schema.OperatorT(inputs=list(inputs), outputs=list(outputs))
        if options is not None:
            union = type(options).__name__.removesuffix("T")
            if hasattr(schema.BuiltinOptions, union):
                operator.builtinOptions = options
                operator.builtinOptionsType = getattr(schema.BuiltinOptions, union)
            else:
                operator.builtinOptions2 = options
                operator.builtinOptions2Type = getattr(schema.BuiltinOptions2, union)
        code = _OperatorCode(getattr(schema.BuiltinOperator, name), None, version)
        self._operators.append((code, operator))

    def custom_op(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: bytes = b"") -> None:
        """Add a custom operator, known to runtimes by its name alone; `options` are in a form of its own."""
        operator = schema.OperatorT(inputs=list(inputs), outputs=list(outputs), customOptions=list(options) or None)
        self._operators.append((_OperatorCode(schema.BuiltinOperator.CUSTOM, name, 1), operator))

    def _to_schema(self, codes: dict[_OperatorCode, int], buffers: list[_Buffer]) -> Any:
        """Return the schema's object, adding to the operator codes and buffers of the model."""
        for index, data in self._data.items():
            self._tensors[index].buffer = len(buffers)
            buffers.append(_Buffer(data))
        for code, operator in self._operators:
            operator.opcodeIndex = codes.setdefault(code, len(codes))
        return schema.SubGraphT(
            name=self.name,
            tensors=self._tensors,
            inputs=self.inputs,
            outputs=self.outputs,
            operators=[operator for _, operator in self._operators],
        )


def build(
    graphs: Iterable[Graph],
    *,
    signatures: Iterable[Signature] = (),
    metadata: Mapping[str, bytes] | None = None,
    description: str = "",
) -> bytes:
    """Return the bytes of a model file.

    Parameters
    ----------
    graphs : iterable of Graph
        Its subgraphs. The first is the one that runs where no signature is asked for.
    signatures : iterable of tuple
        Its signatures, each a key, a subgraph's index, and the names of that subgraph's inputs and
        outputs with their tensors.
    metadata : mapping of str to bytes, optional
        Its metadata entries.
    description : str
        What it says of itself.

    Returns
    -------
    bytes
        The file's content; the same calls give the same bytes.
    """
    # A tensor without data has buffer 0, so that one must be there and empty.
    buffers = [_Buffer()]
    codes: dict[_OperatorCode, int] = {}
    subgraphs = [graph._to_schema(codes, buffers) for graph in graphs]
    entries = []
    for name, data in (metadata or {}).items():
        entries.append(_metadata_entry(name, len(buffers)))
        buffers.append(_Buffer(data))
    model = schema.ModelT(
        version=SCHEMA_VERSION,
        description=description,
        operatorCodes=[code.to_schema() for code in codes],
        subgraphs=subgraphs,
        buffers=buffers,
        metadata=entries or None,
        signatureDefs=[_signature(*signature) for signature in signatures] or None,
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def pack_strings(values: ArrayLike) -> bytes:
    """Return strings as the buffer of a TFLite string tensor.

    The buffer holds the number of strings, the offset of each and of the end, then their bytes;
    numbers are little-endian int32. Text is written as UTF-8.
    """
    array: NDArray[Any] = np.asarray(values)
    strings = [item.encode() if isinstance(item, str) else bytes(item) for item in array.flat]
    offsets = np.cumsum([4 * (len(strings) + 2), *map(len, strings)])
    return np.array([len(strings), *offsets], "<i4").tobytes() + b"".join(strings)


def _quantization(scale: float | Sequence[float] | None, zero_point: int | Sequence[int] | None, axis: int) -> Any:
    """Return the schema's quantisation parameters, or None for a tensor that has no scale."""
    if scale is None:
        return None
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    zeros = np.broadcast_to(np.asarray(zero_point or 0, np.int64), scales.shape)
    return schema.QuantizationParametersT(scale=scales.tolist(), zeroPoint=zeros.tolist(), quantizedDimension=axis)


def _signature(key: str, subgraph: int, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    """Return the schema's object for a signature."""
    return schema.SignatureDefT(
        signatureKey=key,
        subgraphIndex=subgraph,
        inputs=[_tensor_map(name, index) for name, index in inputs.items()],
        outputs=[_tensor_map(name, index) for name, index in outputs.items()],
    )


def _tensor_map(name: str, index: int) -> Any:
    """Return the schema's object for one name of a signature."""
    return schema.TensorMapT(name=name, tensorIndex=index)


def _metadata_entry(name: str, buffer: int) -> Any:
    """Return the schema's object for one metadata entry."""
    return schema.MetadataT(name=name, buffer=buffer)
