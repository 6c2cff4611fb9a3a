r"""A small writer of TFLite metadata, the flatbuffer in which a model says what its tensors mean.

The records are written by :func:`metadata`, whose bytes go into a model as the metadata entry
``TFLITE_METADATA``; :func:`pack` then appends the files that they speak of::

    image = Tensor("image", image="rgb", mean=[127.5], std=[127.5])
    scores = Tensor("probability", files=[File("labels.txt", type="tensor_axis_labels")])
    data = metadata("Digits", subgraphs=[Subgraph([image], [scores])], author="me", version="1")
    model = pack(build([graph], metadata={"TFLITE_METADATA": data}), {"labels.txt": b"zero\none\n"})

The schema is ``metadata_schema.fbs`` of tensorflow/tflite-support; slots are counted from its tables.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import flatbuffers
import numpy as np

ENTRY = "TFLITE_METADATA"
IDENTIFIER = b"M001"

# As the schema counts them.
FILE_TYPES = ["unknown", "descriptions", "tensor_axis_labels", "tensor_value_labels"]
COLOR_SPACES = ["unknown", "rgb", "grayscale"]
BOX_TYPES = ["unknown", "boundaries", "upper_left", "center"]
COORDINATE_TYPES = ["ratio", "pixel"]
FEATURE_CONTENT, IMAGE_CONTENT, BOX_CONTENT = 1, 2, 3
NORMALIZATION_UNIT, SCORE_CALIBRATION_UNIT, SCORE_THRESHOLDING_UNIT = 1, 2, 3
_LOG = 1  # of the ways in which a score is transformed before its calibration

# The date that zip archives begin with, so that the same files give the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class File:
    """A file that is packed into the model; ``type`` as in ``FILE_TYPES``."""

    name: str
    description: str = ""
    type: str = "unknown"
    locale: str = ""


@dataclass(frozen=True)
class Boxes:
    """The properties of a tensor of boxes."""

    index: Sequence[int] = (1, 0, 3, 2)
    type: str = "boundaries"
    coordinates: str = "ratio"


@dataclass(frozen=True)
class Tensor:
    """What is said of one input or output.

    ``image`` is a colour space for an image, ``mean`` and ``std`` normalise it, and ``minimum`` and
    ``maximum`` are the statistics of its values. Scores below ``threshold`` count as low confidence, and
    ``calibrated`` ones, by their logarithm, have a default.
    """

    name: str = ""
    description: str = ""
    image: str = ""
    boxes: Boxes | None = None
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    minimum: Sequence[float] = ()
    maximum: Sequence[float] = ()
    threshold: float | None = None
    calibrated: float | None = None
    files: Sequence[File] = ()


@dataclass(frozen=True)
class Subgraph:
    """What is said of one subgraph: its inputs and outputs in their order."""

    inputs: Sequence[Tensor] = ()
    outputs: Sequence[Tensor] = ()


def metadata(
    name: str = "",
    *,
    description: str = "",
    version: str = "",
    author: str = "",
    licence: str = "",
    subgraphs: Iterable[Subgraph] = (),
    files: Iterable[File] = (),
    min_parser_version: str = "1.0.0",
    identifier: bytes = IDENTIFIER,
) -> bytes:
    """Return the bytes of a metadata buffer.

    Parameters
    ----------
    name, description, version, author, licence : str
        What is said of the model.
    subgraphs : iterable of Subgraph
        What is said of its subgraphs.
    files : iterable of File
        The files that belong to the model as a whole.
    min_parser_version : str
        The version of the schema whose fields are used.
    identifier : bytes
        The file identifier; readers refuse another one.

    Returns
    -------
    bytes
        The buffer; the same calls give the same bytes.
    """
    builder = flatbuffers.Builder(1024)
    root = _table(
        builder,
        {
            0: _text(builder, name),
            1: _text(builder, description),
            2: _text(builder, version),
            3: _vector(builder, [_subgraph(builder, graph) for graph in subgraphs]),
            4: _text(builder, author),
            5: _text(builder, licence),
            6: _vector(builder, [_file(builder, file) for file in files]),
            7: _text(builder, min_parser_version),
        },
    )
    builder.Finish(root, identifier)
    return bytes(builder.Output())


def pack(model: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return a model with files packed behind it, the same bytes for the same calls."""
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def _subgraph(builder: flatbuffers.Builder, graph: Subgraph) -> int:
    inputs = _vector(builder, [_tensor(builder, tensor) for tensor in graph.inputs])
    outputs = _vector(builder, [_tensor(builder, tensor) for tensor in graph.outputs])
    return _table(builder, {2: inputs, 3: outputs})


def _tensor(builder: flatbuffers.Builder, tensor: Tensor) -> int:
    units = []
    if tensor.mean:
        options = _table(builder, {0: _floats(builder, tensor.mean), 1: _floats(builder, tensor.std)})
        units.append(_table(builder, {1: options}, {0: NORMALIZATION_UNIT}))
    if tensor.calibrated is not None:
        options = _table(builder, {}, {0: _LOG}, {1: tensor.calibrated})
        units.append(_table(builder, {1: options}, {0: SCORE_CALIBRATION_UNIT}))
    if tensor.threshold is not None:
        options = _table(builder, {}, {}, {0: tensor.threshold})
        units.append(_table(builder, {1: options}, {0: SCORE_THRESHOLDING_UNIT}))
    stats = 0
    if tensor.minimum or tensor.maximum:
        stats = _table(builder, {0: _floats(builder, tensor.maximum), 1: _floats(builder, tensor.minimum)})
    return _table(
        builder,
        {
            0: _text(builder, tensor.name),
            1: _text(builder, tensor.description),
            3: _content(builder, tensor),
            4: _vector(builder, units),
            5: stats,
            6: _vector(builder, [_file(builder, file) for file in tensor.files]),
        },
    )


def _content(builder: flatbuffers.Builder, tensor: Tensor) -> int:
    if tensor.image:
        kind, properties = IMAGE_CONTENT, _table(builder, {}, {0: COLOR_SPACES.index(tensor.image)})
    elif tensor.boxes:
        kind = BOX_CONTENT
        properties = _table(
            builder,
            {0: builder.CreateNumpyVector(np.array(tensor.boxes.index, "<u4"))},
            {1: BOX_TYPES.index(tensor.boxes.type), 2: COORDINATE_TYPES.index(tensor.boxes.coordinates)},
        )
    else:
        kind, properties = FEATURE_CONTENT, _table(builder, {})
    return _table(builder, {1: properties}, {0: kind})


def _file(builder: flatbuffers.Builder, file: File) -> int:
    texts = {0: file.name, 1: file.description, 3: file.locale}
    offsets = {slot: _text(builder, text) for slot, text in texts.items()}
    return _table(builder, offsets, {2: FILE_TYPES.index(file.type)})


def _table(
    builder: flatbuffers.Builder,
    offsets: Mapping[int, int],
    numbers: Mapping[int, int] | None = None,
    floats: Mapping[int, float] | None = None,
) -> int:
    """Write a table of offsets (0 for a field that is left out), of one-byte numbers and of float32."""
    numbers, floats = numbers or {}, floats or {}
    builder.StartObject(max([*offsets, *numbers, *floats], default=-1) + 1)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in numbers.items():
        builder.PrependUint8Slot(slot, number, 0)
    for slot, value in floats.items():
        builder.PrependFloat32Slot(slot, value, 0.0)
    return int(builder.EndObject())


def _text(builder: flatbuffers.Builder, text: str) -> int:
    return int(builder.CreateString(text)) if text else 0


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    return int(builder.CreateNumpyVector(np.array(values, "<f4"))) if len(values) else 0


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    if not offsets:
        return 0
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
