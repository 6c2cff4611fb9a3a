"""Reading of TFLite metadata, table by table, into the records of ``tflite_metadata``.

Slots are counted from the tables of the schema that is named there.
"""

from __future__ import annotations

from ..flatbuffer import FLOAT32, INT8, UINT8, UINT32, Table
from .metadata import (
    BoundingBoxProperties,
    DescribedFile,
    ImageProperties,
    ModelMetadata,
    NormalizationOptions,
    ProcessUnit,
    ScoreCalibration,
    ScoreThresholding,
    SubgraphMetadata,
    TensorMetadata,
)
from .metadata_names import metadata_root
from .schema_names import name_of

__all__ = ["read_metadata"]

FILE_TYPES = (
    "unknown",
    "descriptions",
    "tensor_axis_labels",
    "tensor_value_labels",
    "tensor_axis_score_calibration",
    "vocabulary",
    "scann_index_file",
)
CONTENTS = ("", "feature", "image", "bounding_box", "audio")
COLOR_SPACES = ("unknown", "rgb", "grayscale")
BOX_TYPES = ("unknown", "boundaries", "upper_left", "center")
COORDINATE_TYPES = ("ratio", "pixel")
SCORE_TRANSFORMATIONS = ("identity", "log", "inverse_logistic")
UNITS = ("", "normalization", "score_calibration", "score_thresholding")


def read_metadata(data: bytes, where: str) -> ModelMetadata:
    """Read a ``TFLITE_METADATA`` buffer.

    Parameters
    ----------
    data : bytes
        The buffer.
    where : str
        What it is, to begin error messages with.

    Returns
    -------
    ModelMetadata

    Raises
    ------
    ModelError
        If it is not of this schema, is damaged, or unfolds into more than the reader takes.
    """
    root = metadata_root(data, where)
    return ModelMetadata(
        name=root.text(0),
        description=root.text(1),
        version=root.text(2),
        subgraphs=tuple(_subgraph(table) for table in root.tables(3, "SubGraphMetadata")),
        author=root.text(4),
        license=root.text(5),
        files=_files(root, 6),
        min_parser_version=root.text(7),
    )


def _subgraph(table: Table) -> SubgraphMetadata:
    return SubgraphMetadata(
        name=table.text(0),
        description=table.text(1),
        inputs=tuple(_tensor(tensor) for tensor in table.tables(2, "TensorMetadata")),
        outputs=tuple(_tensor(tensor) for tensor in table.tables(3, "TensorMetadata")),
        files=_files(table, 4),
    )


def _tensor(table: Table) -> TensorMetadata:
    content = table.table(3, "Content")
    kind = name_of(CONTENTS, content.number(0, UINT8)) if content else ""
    properties = content.table(1, "ContentProperties") if content else None
    stats = table.table(5, "Stats")
    return TensorMetadata(
        name=table.text(0),
        description=table.text(1),
        content=kind,
        image=_image(properties) if properties and kind == "image" else None,
        bounding_box=_bounding_box(properties) if properties and kind == "bounding_box" else None,
        process_units=_units(table, 4),
        stats_min=stats.numbers(1, FLOAT32) if stats else (),
        stats_max=stats.numbers(0, FLOAT32) if stats else (),
        files=_files(table, 6),
    )


def _image(table: Table) -> ImageProperties:
    size = table.table(1, "ImageSize")
    return ImageProperties(
        color_space=name_of(COLOR_SPACES, table.number(0, INT8)),
        width=size.number(0, UINT32) if size else 0,
        height=size.number(1, UINT32) if size else 0,
    )


def _bounding_box(table: Table) -> BoundingBoxProperties:
    return BoundingBoxProperties(
        index=table.numbers(0, UINT32),
        type=name_of(BOX_TYPES, table.number(1, INT8)),
        coordinate_type=name_of(COORDINATE_TYPES, table.number(2, INT8)),
    )


def _units(table: Table, slot: int) -> tuple[ProcessUnit, ...]:
    units = (_unit(unit) for unit in table.tables(slot, "ProcessUnit"))
    return tuple(unit for unit in units if unit is not None)


def _unit(table: Table) -> ProcessUnit | None:
    kind = name_of(UNITS, table.number(0, UINT8))
    options = table.table(1, "ProcessUnitOptions")
    if options is None:
        return None
    if kind == "normalization":
        return NormalizationOptions(options.numbers(0, FLOAT32), options.numbers(1, FLOAT32))
    if kind == "score_calibration":
        transformation = name_of(SCORE_TRANSFORMATIONS, options.number(0, INT8))
        return ScoreCalibration(transformation, options.number(1, FLOAT32, 0.0))
    if kind == "score_thresholding":
        return ScoreThresholding(options.number(0, FLOAT32, 0.0))
    return None


def _files(table: Table, slot: int) -> tuple[DescribedFile, ...]:
    return tuple(
        DescribedFile(
            name=file.text(0),
            description=file.text(1),
            type=name_of(FILE_TYPES, file.number(2, INT8)),
            locale=file.text(3),
            version=file.text(4),
        )
        for file in table.tables(slot, "AssociatedFile")
    )
