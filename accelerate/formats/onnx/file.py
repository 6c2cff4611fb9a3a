"""What an .onnx file says about itself, read without any runtime.

The messages and their field numbers are those of ``onnx/onnx.proto`` of https://github.com/onnx/onnx.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from mmap import mmap

from ..._records import record
from ...errors import ModelError
from ..protobuf import BYTES, VARINT, Message

__all__ = ["FEW_DEFAULTS", "ModelFile", "ValueInfo"]

#: Where a file lists all of its initializers among its inputs and they are more, they are weights.
FEW_DEFAULTS = 8

# TensorProto.DataType, by number
_ELEMENT_TYPES = """
    undefined float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64 complex64
    complex128 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz uint4 int4 float4_e2m1fn
    float8_e8m0fnu uint2 int2
""".split()  # noqa: SIM905
_LOCATION = b"location"
_SEARCHED = 8 << 20  # bytes
_DEPTH_LIMIT = 40  # protobuf's own is 100 messages, three for each graph in a graph
#: Operators that leave the meaning of values as it is, if not their form.
_PASSING = frozenset(
    {
        "Cast",
        "DequantizeLinear",
        "Flatten",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_KINDS = {4: "sequence", 5: "map", 8: "sparse tensor", 9: "optional"}


@record(frozen=True)
class ValueInfo:
    """An input or output of the graph."""

    name: str
    description: str
    kind: str  # "tensor", or "sequence", "map", "optional", "sparse tensor"
    data_type: str  # a NumPy or ml_dtypes name, or "string"
    shape: tuple[int, ...]  # -1 is a dynamic dimension
    dimensions: tuple[str, ...]  # the names of symbolic dimensions, "" for the others
    ranked: bool = True  # whether the file gives a shape at all; `shape` is empty where it does not
    optional: bool = False  # an input with a value of its own


class _Merged:
    """A message that a file may hold in several parts, which protobuf reads as one.

    A runtime runs all of them: what only one part says must not go unseen.
    """

    def __init__(self, parts: Sequence[Message]) -> None:
        self._parts = parts

    def messages(self, number: int) -> Iterator[Message]:
        """Yield the messages of a repeated field."""
        for part in self._parts:
            yield from part.messages(number)

    def texts(self, *numbers: int) -> dict[int, str]:
        """Return the last string of each of these fields, as `Message.texts` does."""
        return {number: text for part in self._parts for number, text in part.texts(*numbers).items()}


class ModelFile:
    """What an .onnx file, called `where` in errors, says about itself, read when it is asked for.

    An mmap must stay open for as long as something is asked.

    Raises
    ------
    ModelError
        By every attribute, for a file that is damaged where that looks.
    """

    def __init__(self, buffer: bytes | mmap, where: str = "model") -> None:
        self.where = where
        self._model = Message(buffer, where)
        graphs = list(self._model.messages(7))
        if not graphs:
            raise ModelError(
                f"{where}: this is not an .onnx file: it has no graph", "check that the download is complete"
            )
        self._graph = _Merged(graphs)

    @cached_property
    def ir_version(self) -> int:
        """Of the format."""
        return self._model.numbers().get(1, 0)

    @cached_property
    def producer(self) -> tuple[str, str]:
        """Name and version of the exporter."""
        texts = self._model.texts(2, 3)
        return texts.get(2, ""), texts.get(3, "")

    @cached_property
    def description(self) -> str:
        """The model's doc string, else the graph's."""
        return self._model.texts(6).get(6) or self._graph.texts(10).get(10, "")

    @cached_property
    def name(self) -> str:
        """The graph's name."""
        return self._graph.texts(2).get(2, "")

    @cached_property
    def opsets(self) -> Mapping[str, int]:
        """The version of each operator set; "" is the standard one."""
        return {m.texts(1).get(1, ""): m.numbers().get(2, 0) for m in self._model.messages(8)}

    @cached_property
    def properties(self) -> Mapping[str, str]:
        """The custom metadata map."""
        pairs = [m.texts(1, 2) for m in self._model.messages(14)]
        return {pair.get(1, ""): pair.get(2, "") for pair in pairs}

    @cached_property
    def operators(self) -> Mapping[str, int]:
        """How often each operator occurs in the main graph, those of other domains as "domain::operator"."""
        counts: Counter[str] = Counter()
        for node in self._graph.messages(1):
            texts = node.texts(4, 7)
            domain = texts.get(7, "")
            counts[f"{domain}::{texts.get(4, '')}" if domain else texts.get(4, "")] += 1
        return dict(counts.most_common())

    @cached_property
    def inputs(self) -> tuple[ValueInfo, ...]:
        """The inputs without an initializer of the same name, then those with one, which a caller may leave out.

        Before version 4 of the format every initializer had to be listed among the inputs, and some exporters still do
        that: of `FEW_DEFAULTS` at most it is taken that they are meant.
        """
        tensors = [*self._graph.messages(5), *(v for sparse in self._graph.messages(15) for v in sparse.messages(1))]
        initial = {tensor.texts(8).get(8) for tensor in tensors}
        values = [_value_info(message) for message in self._graph.messages(11)]
        optional = [replace(v, optional=True) for v in values if v.name in initial]
        if self.ir_version < 4 or FEW_DEFAULTS < len(optional) == len(initial):
            optional = []
        return (*(v for v in values if v.name not in initial), *optional)

    @cached_property
    def outputs(self) -> tuple[ValueInfo, ...]:
        """The graph's outputs."""
        return tuple(map(_value_info, self._graph.messages(12)))

    @cached_property
    def producers(self) -> Mapping[str, tuple[str, int]]:
        """Which operator makes each output, the last one that makes something new, and which of its outputs it is."""
        makers: dict[bytes, tuple[str, int, bytes]] = {}
        for node in self._graph.messages(1):
            inputs, outputs, name = list[bytes](), list[bytes](), ""
            for field, wire, span in node.fields():
                if wire == BYTES and field in (1, 2, 4):
                    value = node.bytes(span)
                    if field == 4:
                        name = value.decode(errors="replace")
                    else:
                        (inputs if field == 1 else outputs).append(value)
            for port, output in enumerate(outputs):
                makers.setdefault(output, (name, port, inputs[0] if inputs else b""))
        found = {}
        for info in self.outputs:
            value, passed = info.name.encode(), set[bytes]()
            while value in makers and value not in passed:
                passed.add(value)
                name, port, before = makers[value]
                if name not in _PASSING:
                    found[info.name] = (name, port)
                    break
                value = before
        return found

    def operands(self) -> Iterator[tuple[str, tuple[bytes, ...]]]:
        """Yield each standard operator of the main graph and of those inside of it, with the names of its inputs."""
        yield from self._operands_of(self._graph, 0)

    def _operands_of(self, graph: Message | _Merged, depth: int) -> Iterator[tuple[str, tuple[bytes, ...]]]:
        self._check_depth(depth)
        for node in graph.messages(1):
            texts: dict[int, bytes] = {}
            inputs: list[bytes] = []
            for field, wire, span in node.fields():
                if wire != BYTES:
                    continue
                if field == 1:
                    inputs.append(node.bytes(span))
                elif field in (4, 7):
                    texts[field] = node.bytes(span)
                elif field == 5:
                    for number, kind, place in (attribute := node.message(span)).fields():
                        if kind == BYTES and number in (6, 11):
                            yield from self._operands_of(attribute.message(place), depth + 1)
            if texts.get(7, b"") in (b"", b"ai.onnx"):
                yield texts.get(4, b"").decode(errors="replace"), tuple(inputs)

    def _check_depth(self, depth: int) -> None:
        if depth > _DEPTH_LIMIT:
            raise ModelError(f"{self.where}: its graphs are nested over {_DEPTH_LIMIT} deep; the file is hostile")

    @cached_property
    def external_files(self) -> tuple[str, ...]:
        """The files that hold weights, as the model writes them: those of all graphs and functions."""
        # the key of every such entry; looking for it in a large file would take longer than reading the structure
        if self._model.size <= _SEARCHED and not self._model.contains(_LOCATION):
            return ()
        found = list(self._external_of_graph(self._graph, 0))
        for function in self._model.messages(25):
            found += self._external_of_nodes(function.messages(7), 0)
            found += self._external_of_attributes(function.messages(11), 0)  # the defaults of its attributes
        return tuple(dict.fromkeys(found))

    def _external_of_graph(self, graph: Message | _Merged, depth: int) -> Iterator[str]:
        self._check_depth(depth)
        for tensor in graph.messages(5):
            yield from _external_of_tensor(tensor)
        for sparse in graph.messages(15):
            yield from _external_of_sparse(sparse)
        yield from self._external_of_nodes(graph.messages(1), depth)

    def _external_of_nodes(self, nodes: Iterable[Message], depth: int) -> Iterator[str]:
        for node in nodes:
            if node.contains(_LOCATION):  # most nodes need not be read
                yield from self._external_of_attributes(node.messages(5), depth)

    def _external_of_attributes(self, attributes: Iterable[Message], depth: int) -> Iterator[str]:
        for attribute in attributes:
            for field, wire, span in attribute.fields():
                if wire != BYTES:
                    continue
                value = attribute.message(span)
                if field in (5, 10):
                    yield from _external_of_tensor(value)
                elif field in (6, 11):
                    yield from self._external_of_graph(value, depth + 1)
                elif field in (22, 23):
                    yield from _external_of_sparse(value)


def _external_of_sparse(sparse: Message) -> Iterator[str]:
    for number in (1, 2):
        for tensor in sparse.messages(number):
            yield from _external_of_tensor(tensor)


def _external_of_tensor(tensor: Message) -> Iterator[str]:
    if tensor.size <= 1024 and not tensor.contains(_LOCATION):
        return
    entries, external = [], False
    for field, wire, value in tensor.fields():
        if field == 13 and wire == BYTES:
            entries.append(tensor.message(value))
        elif field == 14 and wire == VARINT:  # data_location: 1 is EXTERNAL, and protobuf reads 32 bits of it
            external |= value[0] & 0xFFFFFFFF == 1
    for entry in entries if external else ():  # exporters leave entries behind in tensors that have their data again
        # not texts(), which takes what is no text: the system's paths are bytes, and a runtime would open them
        pair = {number: entry.bytes(span) for number, wire, span in entry.fields() if wire == BYTES}
        if pair.get(1) == _LOCATION:
            try:
                yield pair.get(2, b"").decode()
            except UnicodeDecodeError as error:
                raise ModelError(f"{tensor.where}: the name of its external data is no UTF-8 text") from error


def _value_info(message: Message) -> ValueInfo:
    texts = message.texts(1, 3)
    kind, data_type, shape, names, ranked = "tensor", "undefined", list[int](), list[str](), False
    for type_proto in message.messages(2):
        for number, wire, span in type_proto.fields():
            if wire != BYTES:
                continue
            if number in _KINDS:
                kind = _KINDS[number]
            elif number == 1:
                tensor = type_proto.message(span)
                if (element := tensor.numbers().get(1)) is not None:
                    data_type = _element_type(element)
                for proto in tensor.messages(2):
                    ranked = True
                    for dimension in proto.messages(1):
                        shape.append(dimension.numbers().get(1, -1))
                        names.append(dimension.texts(2).get(2, ""))
    return ValueInfo(texts.get(1, ""), texts.get(3, ""), kind, data_type, tuple(shape), tuple(names), ranked)


def _element_type(number: int) -> str:
    return _ELEMENT_TYPES[number] if 0 <= number < len(_ELEMENT_TYPES) else f"unknown({number})"
