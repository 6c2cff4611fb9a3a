"""What the .xml of an OpenVINO model says of its inputs and outputs, its weights, and what its maker noted.

The elements are those of https://docs.openvino.ai ("Intermediate Representation Suitable for INT8 Inference" and
"OpenVINO IR format"): ``net/layers/layer`` with ports, ``net/edges/edge``, ``net/rt_info``. Bodies of loops and
branches repeat that inside a layer.

The file is untrusted: it is read as a stream, no tree is built of it, a document type with its entities is refused, and
size, depth and the number of elements are bounded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from ..._records import record
from ...errors import ModelError, UnsupportedModelError
from .. import REFETCH

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["ModelFile", "Port"]

# A language model of 70 billion weights has 20 MB and 700,000 elements; what a reader makes of an element takes a
# hundred bytes and a microsecond.
_MOST_BYTES = 64 << 20
_MOST_ELEMENTS = 2_000_000
_MOST_DEPTH = 100
_MOST_PORTS = 10_000
_MOST_TEXT = 1 << 20  # of a property
_OLDEST = 10  # the version of the format; older ones had other elements, and no runtime of today reads them

#: What the format calls the types of values that have another name in NumPy and ml_dtypes.
_TYPES = {
    "fp64": "float64", "f64": "float64", "fp32": "float32", "f32": "float32", "fp16": "float16", "f16": "float16",
    "bf16": "bfloat16", "i64": "int64", "i32": "int32", "i16": "int16", "i8": "int8", "i4": "int4", "u64": "uint64",
    "u32": "uint32", "u16": "uint16", "u8": "uint8", "u4": "uint4", "boolean": "bool", "bool": "bool",
    "f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2", "f8e8m0": "float8_e8m0fnu", "f4e2m1": "float4_e2m1fn",
}  # fmt: skip


@record(frozen=True)
class Port:
    """An input or output of the model.

    Attributes
    ----------
    names : tuple of str
        Of the tensor, in alphabetical order.
    layer : str
        The name of the layer that takes it in, or makes it.
    data_type : str
        A NumPy or ml_dtypes name, or "string".
    shape : tuple of int
        -1 is a dynamic dimension.
    ranked : bool
        Whether the file says how many dimensions there are.
    layout : str
        What the file says of its dimensions, such as "NCHW"; "" without that.
    operator, port : str, int
        What makes an output, and which of its results that is.
    """

    names: tuple[str, ...]
    layer: str
    data_type: str
    shape: tuple[int, ...]
    ranked: bool = True
    layout: str = ""
    operator: str = ""
    port: int = 0


class ModelFile:
    """What the .xml of a model, called `where` in errors, says.

    Attributes
    ----------
    name : str
    version : int
        Of the format.
    inputs, outputs : tuple of Port
        In the order of the file.
    operators : Mapping of str to int
        How often each type of layer occurs, those inside of loops and branches, too.
    weights_end : int
        How many bytes of the .bin the model reads.
    properties : Mapping of str to str
        What stands under ``rt_info/model_info``.
    producer : str
        The version of the runtime that wrote it; "" where it does not say so.

    Raises
    ------
    ModelError
    """

    def __init__(self, buffer: bytes | mmap, where: str = "model") -> None:
        self.where = where
        if len(buffer) > _MOST_BYTES:
            raise ModelError(
                f"{where} has {len(buffer)} bytes; of an .xml of a model at most {_MOST_BYTES} are read",
                "check that it is the .xml, and not the .bin",
            )
        content = bytes(buffer)
        if content.count(b"<") > 2 * _MOST_ELEMENTS:  # each begins with one, and most end with one
            raise ModelError(
                f"{where} has more than {_MOST_ELEMENTS} elements; no such file is read",
                "check where it comes from: models have some thousands",
            )
        reading = _Reading(content, where)
        self.name, self.version, self.producer = reading.name, reading.version, reading.producer
        self.operators: Mapping[str, int] = dict(reading.operators.most_common())
        self.weights_end = reading.weights_end
        self.properties: Mapping[str, str] = reading.properties
        self.inputs = tuple(reading.inputs())
        self.outputs = tuple(reading.outputs())


class _Layer:
    """A Parameter or a Result."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self.name = attributes.get("name", "")
        self.names = attributes.get("output_names", "")
        self.kind = self.layout = self.declared = ""
        self.shape: list[int] = []


class _Reading:
    """One pass over a file."""

    def __init__(self, content: bytes, where: str) -> None:
        from xml.parsers import expat

        self._where = where
        self.name = self.producer = ""
        self.version = 0
        self.operators: Counter[str] = Counter()
        self.weights_end = 0
        self.properties: dict[str, str] = {}
        self._parameters: dict[str, _Layer] = {}
        self._results: dict[str, _Layer] = {}
        self._makers: dict[str, tuple[str, str]] = {}  # a layer -> its name and type
        self._names: dict[tuple[str, str], str] = {}  # (a layer, its port) -> the names of what comes out there
        self._led: dict[str, tuple[str, str]] = {}  # a result -> the layer and port that lead there
        self._path: list[str] = []  # the open elements; what is in a port that concerns nobody is not read
        self._layer = ""
        self._open: _Layer | None = None
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            raise ModelError(f"{where} is damaged: {error}", REFETCH) from error
        finally:
            parser.StartElementHandler = parser.EndElementHandler = None  # which refer to this
            parser.StartDoctypeDeclHandler = parser.CharacterDataHandler = None
        if not self._makers:
            self._damaged("it has no layers")

    def inputs(self) -> list[Port]:
        """Return what the Parameters say."""
        return [
            Port(_split(self._names.get((number, "0"), "")), one.name, self._type(one), tuple(one.shape),
                 not one.declared.startswith("..."), one.layout)
            for number, one in self._parameters.items()
        ]  # fmt: skip

    def outputs(self) -> list[Port]:
        """Return what the Results say, and the layers that lead there."""
        ports = []
        for number, one in self._results.items():
            if number not in self._led:
                self._damaged(f"nothing leads to its output {one.name!r:.80}")
            layer, port = self._led[number]
            maker, operator = self._makers.get(layer, ("", ""))
            names = _split(",".join(filter(None, (one.names, self._names.get((layer, port), "")))))
            ports.append(
                Port(names, maker, self._type(one), tuple(one.shape), operator=operator, port=self._port(layer, port))
            )
        return ports

    def _port(self, layer: str, port: str) -> int:
        """Return a port's place among its layer's outputs, whose numbers go on from its inputs'."""
        outputs = [number for maker, number in self._names if maker == layer]
        return outputs.index(port) if port in outputs else 0

    def _type(self, one: _Layer) -> str:
        kind = one.kind.lower()
        return _TYPES.get(kind, kind)

    def _damaged(self, problem: str) -> NoReturn:
        raise ModelError(f"{self._where} is damaged: {problem}", REFETCH)

    def _refuse_doctype(self, *_: object) -> None:
        raise ModelError(
            f"{self._where} has a document type, by which a file can grow without end or name other files; no model "
            "has one",
            "do not use it, unless you know who wrote it: then take the <!DOCTYPE ...> out",
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        path = self._path
        path.append(tag)
        if tag == "port":
            if len(path) == 5 and path[3] == "output":
                self._names[self._layer, attributes.get("id", "")] = attributes.get("names", "")
            if self._open is None:  # what is in it concerns nobody: a quarter of the time
                self._parser.StartElementHandler = None
                self._parser.EndElementHandler = self._end_port
            elif len(path) == 5:
                self._open.kind, self._open.shape = attributes.get("precision", ""), []
                self._parser.CharacterDataHandler = self._read_dimension
        elif len(path) > _MOST_DEPTH:
            self._damaged(f"it has more than {_MOST_DEPTH} elements one inside of the other")
        elif tag == "layer":
            self.operators[attributes.get("type", "")] += 1
            if len(path) == 3:
                self._start_layer(attributes)
        elif tag == "data":
            if "offset" in attributes:
                self._note_weights(attributes)
            if self._open is not None and len(path) == 4:
                self._open.declared = attributes.get("shape", "")
        elif tag == "edge":
            if len(path) == 3 and attributes.get("to-layer") in self._results:
                self._led[attributes["to-layer"]] = attributes.get("from-layer", ""), attributes.get("from-port", "")
        elif len(path) == 1:
            self._start_net(tag, attributes)
        elif path[1] == "rt_info":
            self._note_property(attributes)
        elif tag == "attribute" and self._open is not None and attributes.get("name") == "layout":
            self._open.layout = re.sub(r"[\[\], ]", "", attributes.get("layout", ""))

    def _start_net(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.name = attributes.get("name", "")
        self.version = self._number(attributes, "version")
        if tag != "net":
            self._damaged(f"it begins with <{tag:.40}>, wanted <net>")
        if self.version < _OLDEST:
            raise UnsupportedModelError(
                f"{self._where} is of version {self.version} of its format; versions from {_OLDEST} on are read",
                "convert the model anew, with a converter of today",
            )

    def _start_layer(self, attributes: Mapping[str, str]) -> None:
        self._layer, kind = attributes.get("id", ""), attributes.get("type", "")
        if self._layer in self._makers:
            self._damaged(f"it has two layers with the id {self._layer:.40}")
        self._makers[self._layer] = attributes.get("name", ""), kind
        self._open = None
        sides = {"Parameter": self._parameters, "Result": self._results}
        if kind in sides:
            self._open = sides[kind][self._layer] = _Layer(attributes)
            if len(sides[kind]) > _MOST_PORTS:
                self._damaged(f"it has more than {_MOST_PORTS} inputs or outputs")

    def _end_port(self, tag: str) -> None:
        if tag == "port":
            self._parser.StartElementHandler, self._parser.EndElementHandler = self._start, self._end
            self._end(tag)

    def _end(self, tag: str) -> None:
        if not self._path or self._path.pop() != tag:
            self._damaged("it has a port inside of a port")
        if tag == "port":
            self._parser.CharacterDataHandler = None
        elif tag == "layer" and len(self._path) == 2:
            self._open = None

    def _read_dimension(self, text: str) -> None:
        if self._path[-1] != "dim" or self._open is None:
            return
        try:
            size = int(text)
        except ValueError:
            size = -2
        if not -1 <= size < 1 << 63 or len(self._open.shape) >= 64:
            self._damaged(f"a dimension of {self._open.name!r:.80} is {text!r:.40}")
        self._open.shape.append(size)

    def _note_weights(self, attributes: Mapping[str, str]) -> None:
        end = self._number(attributes, "offset") + self._number(attributes, "size")
        self.weights_end = max(self.weights_end, end)

    def _note_property(self, attributes: Mapping[str, str]) -> None:
        value = attributes.get("value", "")
        if self._path[2:] in (["info"], ["Runtime_version"]):  # the second of converters before 2024
            self.producer = self.producer or value[:200]
        elif len(self._path) == 4 and self._path[2] == "model_info":
            if len(value) > _MOST_TEXT:
                self._damaged(f"its property {self._path[3]!r:.40} has {len(value)} characters")
            self.properties[self._path[3]] = value

    def _number(self, attributes: Mapping[str, str], name: str) -> int:
        text = attributes.get(name, "0")
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            self._damaged(f"{name} is {text!r:.40}, wanted a number")
        return int(text)


def _split(names: str) -> tuple[str, ...]:
    r"""Return the names in an attribute, alphabetically; a comma within one is written "\,"."""
    found = (re.sub(r"\\(.)", r"\1", name) for name in re.findall(r"(?:\\.|[^,\\])+", names))
    return tuple(sorted(set(found)))
