"""The TFLite metadata of a model: what its tensors mean, in the words of whoever made it.

It is a flatbuffer of its own inside the model, in the buffer that the metadata entry ``TFLITE_METADATA`` names. The
schema, from whose tables the slots are counted, is ``metadata_schema.fbs`` of tensorflow/tflite-support, up to version
1.5.0, which is kept in google-ai-edge/mediapipe (``mediapipe/tasks/metadata``). Fields that an older writer did not
know read as empty, and numbers that a newer one added as "unknown(37)".
"""

from __future__ import annotations

from ..._records import record
from ..flatbuffer import FLOAT32, INT8, UINT8, UINT32, Table
from .metadata_names import metadata_root
from .schema_names import name_of

__all__ = ["BoundingBox", "DescribedFile", "ModelMetadata", "SubgraphMetadata", "TensorMetadata", "read_metadata"]

_FILE_TYPES = """
    unknown descriptions tensor_axis_labels tensor_value_labels tensor_axis_score_calibration vocabulary
    scann_index_file
""".split()  # noqa: SIM905
_CONTENTS = ("", "feature", "image", "bounding_box", "audio")
_COLOR_SPACES = ("unknown", "rgb", "grayscale")
_BOX_TYPES = ("unknown", "boundaries", "upper_left", "center")
_COORDINATE_TYPES = ("ratio", "pixel")
_SCORE_TRANSFORMATIONS = ("identity", "log", "inverse_logistic")
_UNITS = ("", "normalization", "score_calibration", "score_thresholding")


@record(frozen=True)
class DescribedFile:
    """A file that the metadata speaks of; its content is packed behind the model."""

    name: str
    description: str
    #: "tensor_axis_labels" (a label per index of the output), "tensor_value_labels" (a label per value in the output),
    #: another one of the schema's, or "unknown"
    type: str
    locale: str = ""  # the language of its content, such as "en"; "" where it has none


@record(frozen=True)
class BoundingBox:
    """A tensor of boxes."""

    #: where each element of the type's own order stands in the tensor; empty for that order itself. The order of
    #: "boundaries" is left, top, right, bottom
    index: tuple[int, ...]
    type: str  # "boundaries", "upper_left" (left, top, width, height), "center" (x, y, width, height)
    coordinate_type: str  # "ratio" (0 to 1) or "pixel"


@record(frozen=True)
class TensorMetadata:
    """What the metadata says about one input or output."""

    description: str
    content: str  # "feature", "image", "bounding_box", "audio", or "" where it does not say
    color_space: str  # of an image: "rgb", "grayscale" or "unknown"; "" for another content
    bounding_box: BoundingBox | None  # of a content of that kind
    #: mean and std of ``(x - mean) / std``, one value for all channels or one for each, for x in 0..255
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    #: transformation and default score: scores are mapped through a sigmoid whose parameters are in an associated file
    calibration: tuple[str, float] | None
    threshold: float | None  # scores below it count as low confidence
    stats_min: tuple[float, ...]  # like `stats_max` one for all channels or one for each
    stats_max: tuple[float, ...]
    files: tuple[DescribedFile, ...]


@record(frozen=True)
class SubgraphMetadata:
    """What the metadata says about one subgraph; `inputs` and `outputs` in the subgraph's order."""

    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


@record(frozen=True)
class ModelMetadata:
    """What the metadata says about the model; `subgraphs` in the model's order."""

    name: str
    description: str
    version: str
    author: str
    license: str
    min_parser_version: str
    subgraphs: tuple[SubgraphMetadata, ...]


def read_metadata(data: bytes, where: str) -> ModelMetadata:
    """Read a ``TFLITE_METADATA`` buffer, called `where` in errors."""
    root = metadata_root(data, where)
    subgraphs = tuple(
        SubgraphMetadata(*(tuple(map(_tensor, table.tables(slot, "TensorMetadata"))) for slot in (2, 3)))
        for table in root.tables(3, "SubGraphMetadata")
    )
    name, description, version, author, licence, least_parser = map(root.text, (0, 1, 2, 4, 5, 7))
    return ModelMetadata(name, description, version, author, licence, least_parser, subgraphs)


def _tensor(table: Table) -> TensorMetadata:
    content = table.table(3, "Content")
    kind = name_of(_CONTENTS, content.number(0, UINT8)) if content else ""
    properties = content.table(1, "ContentProperties") if content else None
    image = kind == "image" and properties
    box = kind == "bounding_box" and properties
    units = _units(table)
    normal, calibration, threshold = map(units.get, _UNITS[1:])
    stats = table.table(5, "Stats")
    return TensorMetadata(
        description=table.text(1),
        content=kind,
        color_space=name_of(_COLOR_SPACES, image.number(0, INT8)) if image else "",
        bounding_box=_bounding_box(box) if box else None,
        normalization=(normal.numbers(0, FLOAT32), normal.numbers(1, FLOAT32)) if normal else None,
        calibration=_calibration(calibration) if calibration else None,
        threshold=threshold.number(0, FLOAT32, 0.0) if threshold else None,
        stats_min=stats.numbers(1, FLOAT32) if stats else (),
        stats_max=stats.numbers(0, FLOAT32) if stats else (),
        files=tuple(map(_file, table.tables(6, "AssociatedFile"))),
    )


def _units(table: Table) -> dict[str, Table]:
    """Return the options of the first process unit of each kind."""
    found: dict[str, Table] = {}
    for unit in table.tables(4, "ProcessUnit"):
        if (options := unit.table(1, "ProcessUnitOptions")) is not None:
            found.setdefault(name_of(_UNITS, unit.number(0, UINT8)), options)
    return found


def _bounding_box(table: Table) -> BoundingBox:
    kinds = name_of(_BOX_TYPES, table.number(1, INT8)), name_of(_COORDINATE_TYPES, table.number(2, INT8))
    return BoundingBox(table.numbers(0, UINT32), *kinds)


def _calibration(table: Table) -> tuple[str, float]:
    return name_of(_SCORE_TRANSFORMATIONS, table.number(0, INT8)), table.number(1, FLOAT32, 0.0)


def _file(table: Table) -> DescribedFile:
    return DescribedFile(table.text(0), table.text(1), name_of(_FILE_TYPES, table.number(2, INT8)), table.text(3))
