"""What a .tflite file says about itself: its graph, its names, its metadata and its packed files.

A .tflite file is a flatbuffer of the schema ``tensorflow/compiler/mlir/lite/schema/schema.fbs`` of
tensorflow/tensorflow (file identifier ``TFL3``), often with a zip archive behind it. Nothing is read
before it is asked for: a large model costs no more than a small one, and the weights are never
touched.

A damaged model is a :class:`~accelerate.errors.ModelError`. Damaged metadata is not, since the model
runs without it: whatever reads metadata returns what it could read together with a ``problem``, ""
when there is none, for the caller to warn with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..._records import record
from ...errors import ModelError
from ...metadata import LabelFile
from .. import REFETCH
from ..flatbuffer import INT32, UINT32, UINT64, Reader, Table
from .assumptions import DETECTION_OPERATOR
from .graph import (
    Signature,
    Subgraph,
    computed_tensors,
    custom_name,
    operator_name,
    read_signature,
    read_subgraph,
    value_range,
)

if TYPE_CHECKING:
    from mmap import mmap

    from .metadata import DescribedFile, ModelMetadata, TensorMetadata
    from .packed import PackedFiles
    from .state import State

__all__ = ["ExportReading", "LabelsReading", "MetadataReading", "ModelFile", "NamesReading"]

IDENTIFIER = b"TFL3"
METADATA_ENTRY = "TFLITE_METADATA"

# The metadata of real models takes 1 to 3 kB.
METADATA_LIMIT = 4 << 20

# What exporters call the file in which they describe a model: metadata.json, temp_meta.txt, meta.txt, ...
EXPORTERS_FILES = ("meta.json", "metadata.json", "meta.txt", "metadata.txt")

# Operators are counted and not kept: their allowance, for 260,000 of them, bounds time rather than
# memory (a large language model has 30,000).
OPERATORS_ALLOWANCE = 64 << 20


@record(frozen=True)
class NamesReading:
    """The names that the metadata gives a subgraph's inputs and outputs, "" for one without.

    Each has as many names as the subgraph has tensors. `problem` says why there are none, or why
    not all that the metadata has were taken.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    problem: str = ""


@record(frozen=True)
class MetadataReading:
    """The metadata, None without a readable one, and what is wrong with it, if anything."""

    metadata: ModelMetadata | None
    problem: str = ""


@record(frozen=True)
class LabelsReading:
    """The labels packed into the model for an output, the file that they are in, and what is wrong with it.

    Without a label file all three are empty.
    """

    labels: LabelFile | None = None
    file: str = ""
    problem: str = ""


@record(frozen=True)
class ExportReading:
    """What the exporter says of the model, in a file packed behind it, and what is wrong with that file.

    Without one all three are empty.
    """

    properties: Mapping[str, str]
    file: str = ""
    problem: str = ""


class ModelFile:
    """What a .tflite file, called `where` in errors, says about itself, read when it is asked for.

    It is not copied; an mmap must stay open for as long as something is asked.

    Raises
    ------
    ModelError
        If it is not a .tflite file. Every attribute and method may raise it too, for a file that is damaged where that
        looks; `metadata`, :meth:`metadata_names` and :meth:`packed_labels` only if the graph itself is.
    """

    def __init__(self, buffer: bytes | mmap, where: str = "model") -> None:
        self.where = where
        self._reader = Reader(buffer, where)
        if self._reader.identifier() != IDENTIFIER:
            raise ModelError(
                f"{where}: this is not a .tflite file: it has no {IDENTIFIER.decode()} at byte 4",
                "convert the model to TensorFlow Lite, or check that the download is complete",
            )
        self._root = self._reader.root("Model")
        self._sound = False
        self._metadata_where = f"{where}: TFLite metadata"
        self._subgraphs: dict[int, Subgraph] = {}
        self._names: dict[int, NamesReading] = {}

    def check_graphs(self) -> None:
        """Raise where a graph would take an interpreter down (see `soundness`)."""
        if not self._sound:
            from .soundness import check_graphs

            check_graphs(self._root_of_operators(), self.where)
            self._sound = True

    def _root_of_operators(self) -> Table:
        """Return the root for one walk over operators or all tensors, which has an allowance of its own."""
        return Reader(self._reader.buffer, self.where, OPERATORS_ALLOWANCE).root("Model")

    def computed_tensors(self, subgraph: int = 0) -> tuple[int, ...]:
        """Return the indices of the tensors that a subgraph's operators compute."""
        root = self._root_of_operators()
        return computed_tensors(root.tables(2, "SubGraph")[subgraph])

    def tensor_names(self, subgraph: int = 0) -> tuple[str, ...]:
        """Return the own names of all tensors of a subgraph, weights included."""
        root = self._root_of_operators()
        return tuple(tensor.text(3) for tensor in root.tables(2, "SubGraph")[subgraph].tables(0, "Tensor"))

    @cached_property
    def version(self) -> int:
        """The schema's version, 3 in every model of the last years."""
        version: int = self._root.number(0, UINT32)
        return version

    @cached_property
    def description(self) -> str:
        """What the converter says of the model, such as "MLIR Converted."."""
        return self._root.text(3)

    @cached_property
    def operators(self) -> Mapping[str, int]:
        """How often each operator occurs in the graphs, custom ones under their own names."""
        codes = [operator_name(code) for code in self._root.tables(1, "OperatorCode")]
        counts: Counter[int] = Counter()
        root = self._root_of_operators()
        for graph in root.tables(2, "SubGraph"):
            counts.update(operator.number(0, UINT32) for operator in graph.tables(3, "Operator"))
        result: Counter[str] = Counter()
        for code, count in counts.items():
            if code >= len(codes):
                raise ModelError(
                    f"{self.where}: an operator has the code {code}, but there are {len(codes)}; the file is damaged",
                    REFETCH,
                )
            result[codes[code]] += count
        return dict(result.most_common())

    @cached_property
    def custom_operators(self) -> tuple[str, ...]:
        """The names of the operators that are not built into TensorFlow Lite, such as "edgetpu-custom-op".

        This reads the list of operators only, so it can be asked of every file to see who can run it.
        """
        codes = self._root.tables(1, "OperatorCode")
        names = (custom_name(code) for code in codes)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @cached_property
    def state(self) -> State:
        """What the model keeps from one call to the next."""
        from .state import read_state

        return read_state(self._root_of_operators())

    def outputs_told(self, subgraph: int = 0) -> Mapping[int, Mapping[str, Any]]:
        """Return what the graph itself tells of its outputs, by their tensors' indices.

        ``operator`` and ``port`` say what makes them, ``num_classes`` how many classes their values may be, and
        ``range`` between which real values they lie where they were quantised on the way, per tensor, to bytes.
        """
        from .detection import producers

        names = [operator_name(code) for code in self._root.tables(1, "OperatorCode")]
        root = self._root_of_operators()
        table = root.tables(2, "SubGraph")[subgraph]
        outputs = table.numbers(2, INT32)
        found = producers(table.tables(3, "Operator"), names, outputs, DETECTION_OPERATOR, self._reader.buffer)
        tensors = table.tables(0, "Tensor")
        for told in found.values():
            ranges = filter(None, (value_range(tensors[i]) for i in told.pop("through") if 0 <= i < len(tensors)))
            if (narrowest := min(ranges, key=lambda ends: ends[1] - ends[0], default=None)) is not None:
                told["range"] = narrowest
        return found

    @property
    def subgraphs(self) -> tuple[Subgraph, ...]:
        """The graphs; the first is the one that runs where no signature is asked for."""
        return tuple(self.subgraph(index) for index in range(len(self._root.tables(2, "SubGraph"))))

    def subgraph(self, index: int) -> Subgraph:
        """Return one graph, without reading the others."""
        if index not in self._subgraphs:
            self._subgraphs[index] = read_subgraph(self._root.tables(2, "SubGraph")[index])
        return self._subgraphs[index]

    @cached_property
    def signatures(self) -> tuple[Signature, ...]:
        """The model's functions, none in models of older converters."""
        return tuple(read_signature(table) for table in self._root.tables(7, "SignatureDef"))

    @cached_property
    def packed(self) -> PackedFiles:
        """The files packed behind the model."""
        from .packed import PackedFiles

        return PackedFiles(self._reader.buffer, self.where)

    def metadata_names(self, subgraph: int = 0) -> NamesReading:
        """Return the names that the metadata gives to the inputs and outputs of one subgraph.

        This reads the names only, so it is what a load can afford; and it may succeed where the rest
        of the metadata is damaged.
        """
        if subgraph not in self._names:
            self._names[subgraph] = self._read_names(subgraph)
        return self._names[subgraph]

    @cached_property
    def metadata(self) -> MetadataReading:
        """The whole TFLite metadata, without the tensors of a side that has another number of them."""
        graphs = self.subgraphs
        try:
            data, problem = self._metadata_buffer
            if data is None:
                return MetadataReading(None)
            from .metadata import read_metadata

            metadata = read_metadata(data, self._metadata_where)
        except ModelError as error:
            return MetadataReading(None, str(error))
        problems = [problem]
        subgraphs = []
        for described, graph in zip(metadata.subgraphs, graphs, strict=False):
            found = len(described.inputs), len(described.outputs)
            real = len(graph.inputs), len(graph.outputs)
            problems.append(self._miscount(found, real))
            subgraphs.append(
                replace(
                    described,
                    inputs=described.inputs if found[0] == real[0] else (),
                    outputs=described.outputs if found[1] == real[1] else (),
                )
            )
        return MetadataReading(replace(metadata, subgraphs=tuple(subgraphs)), "; ".join(filter(None, problems)))

    @cached_property
    def exported(self) -> ExportReading:
        """What the exporter says of the model."""
        problem = ""
        try:
            for name in self.packed.names:
                if not name.lower().endswith(EXPORTERS_FILES):
                    continue
                from ..exporters import export_properties

                properties = export_properties(self.packed.read(name).decode("utf-8-sig", "replace"))
                if properties is not None:
                    return ExportReading(properties, name)
        except ModelError as error:
            problem = str(error)
        return ExportReading({}, "", problem)

    def packed_labels(self, subgraph: int = 0) -> tuple[LabelsReading, ...]:
        """Return the labels of each of a subgraph's outputs, from the files packed behind it."""
        metadata, count = self.metadata.metadata, len(self.subgraph(subgraph).outputs)
        described: Sequence[TensorMetadata] = ()
        if metadata is not None and subgraph < len(metadata.subgraphs):
            described = metadata.subgraphs[subgraph].outputs
        return tuple(map(self._packed_labels, described)) or (LabelsReading(),) * count

    def _packed_labels(self, output: TensorMetadata) -> LabelsReading:
        file = _label_file(output, self.exported.file)
        if file is None:
            return LabelsReading()
        from ..labels import read_labels

        try:
            content = self.packed.read(file.name)
            return LabelsReading(read_labels(content, f"{self.where}: the packed file {file.name!r}"), file.name)
        except ModelError as error:
            return LabelsReading(None, file.name, str(error))

    def _read_names(self, subgraph: int) -> NamesReading:
        graph = self.subgraph(subgraph)
        real = len(graph.inputs), len(graph.outputs)
        names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        try:
            data, problem = self._metadata_buffer
            if data is not None:
                from .metadata_names import read_tensor_names

                names = read_tensor_names(data, self._metadata_where, subgraph)
        except ModelError as error:
            problem = str(error)
        found = len(names[0]), len(names[1])
        inputs, outputs = (
            side if len(side) == count else ("",) * count for side, count in zip(names, real, strict=True)
        )
        return NamesReading(inputs, outputs, "; ".join(filter(None, (problem, self._miscount(found, real)))))

    def _miscount(self, found: tuple[int, int], real: tuple[int, int]) -> str:
        """Say on which side the metadata has another number of tensors; having none at all is fine."""
        sides = [
            f"{count} {side}, but the model has {wanted}"
            for side, count, wanted in zip(("inputs", "outputs"), found, real, strict=True)
            if count not in (0, wanted)
        ]
        if not sides:
            return ""
        return f"{self._metadata_where}: it describes {' and '.join(sides)}; these descriptions are not used"

    @cached_property
    def _metadata_buffer(self) -> tuple[bytes | None, str]:
        """The first ``TFLITE_METADATA`` buffer, and a problem when there are more."""
        entries = [entry for entry in self._root.tables(6, "Metadata") if entry.text(0) == METADATA_ENTRY]
        if not entries:
            return None, ""
        problem = ""
        if len(entries) > 1:
            problem = f"{self._metadata_where}: there are {len(entries)} of it; the first is used"
        return self._buffer(entries[0].number(1, UINT32)), problem

    def _buffer(self, index: int) -> bytes:
        """Return the content of one buffer of the model that holds metadata."""
        table = self._root.tables(4, "Buffer")[index]
        # Files above 2 GiB keep the content behind the flatbuffer; 0 and 1 mean that this one does not.
        start, length = table.number(1, UINT64), table.number(2, UINT64)
        if start <= 1:
            start, length = table.span(0)
        self._reader.check(start, length, f"the buffer of {METADATA_ENTRY}")
        if length > METADATA_LIMIT:
            raise ModelError(f"{self._metadata_where}: it has {length} bytes; at most {METADATA_LIMIT} are read")
        return bytes(self._reader.buffer[start : start + length])


def _label_file(output: TensorMetadata, exporters: str) -> DescribedFile | None:
    """Return the file with an output's labels: of several the one in no language, else in English, else the first.

    Exporters give the file in which they describe the model (called `exporters`) the type of labels, too.
    """
    kinds = ("tensor_axis_labels", "tensor_value_labels")
    files = [file for file in output.files if file.type in kinds and file.name != exporters]
    return min(files, key=lambda file: (file.locale != "", not file.locale.startswith("en")), default=None)
