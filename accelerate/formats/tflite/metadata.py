"""The TFLite metadata of a model: what its tensors mean, in the words of whoever made it.

These are the records; ``tflite_metadata_reader`` makes them. The metadata is a flatbuffer of its own
inside the model, in the buffer that the metadata entry ``TFLITE_METADATA`` names. The schema is
``metadata_schema.fbs`` of tensorflow/tflite-support, up to version 1.5.0, which is kept in
google-ai-edge/mediapipe (``mediapipe/tasks/metadata``). Fields that an older writer did not know read as
empty, and numbers that a newer one added as "unknown(37)".
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from ..._records import record

__all__ = [
    "BoundingBoxProperties",
    "DescribedFile",
    "ImageProperties",
    "ModelMetadata",
    "NormalizationOptions",
    "ProcessUnit",
    "ScoreCalibration",
    "ScoreThresholding",
    "SubgraphMetadata",
    "TensorMetadata",
]


@record(frozen=True)
class DescribedFile:
    """A file that the metadata speaks of; its content is packed behind the model.

    Attributes
    ----------
    name, description : str
    type : str
        "tensor_axis_labels" (a label per index of the output), "tensor_value_labels" (a label per
        value in the output), "vocabulary", "descriptions", "tensor_axis_score_calibration",
        "scann_index_file" or "unknown".
    locale, version : str
    """

    name: str
    description: str
    type: str
    locale: str
    version: str


@record(frozen=True)
class ImageProperties:
    """An image tensor: colour space ("rgb", "grayscale" or "unknown") and default size, 0 for none."""

    color_space: str
    width: int
    height: int


@record(frozen=True)
class BoundingBoxProperties:
    """A tensor of boxes.

    Attributes
    ----------
    index : tuple of int
        Where each element of the type's own order stands in the tensor; empty for that order itself.
        The order of "boundaries" is left, top, right, bottom.
    type : str
        "boundaries", "upper_left" (left, top, width, height), "center" (x, y, width, height).
    coordinate_type : str
        "ratio" (0 to 1) or "pixel".
    """

    index: tuple[int, ...]
    type: str
    coordinate_type: str


@record(frozen=True)
class NormalizationOptions:
    """``(x - mean) / std``, one value for all channels or one for each, for x in 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@record(frozen=True)
class ScoreCalibration:
    """Scores are mapped through a sigmoid whose parameters are in an associated file."""

    transformation: str
    default_score: float


@record(frozen=True)
class ScoreThresholding:
    """Scores below `threshold` count as low confidence."""

    threshold: float


_Unit = TypeVar("_Unit", "NormalizationOptions", "ScoreCalibration", "ScoreThresholding")
ProcessUnit: TypeAlias = "NormalizationOptions | ScoreCalibration | ScoreThresholding"


@record(frozen=True)
class TensorMetadata:
    """What the metadata says about one input or output.

    Attributes
    ----------
    name, description : str
    content : str
        "feature", "image", "bounding_box", "audio", or "" where it does not say.
    image, bounding_box : the properties of such a content, else None
    process_units : tuple of ProcessUnit
        Those that say something about numbers; how text becomes tokens is left out.
    stats_min, stats_max : tuple of float
        One for all channels or one for each.
    files : tuple of DescribedFile
    """

    name: str
    description: str
    content: str
    image: ImageProperties | None
    bounding_box: BoundingBoxProperties | None
    process_units: tuple[ProcessUnit, ...]
    stats_min: tuple[float, ...]
    stats_max: tuple[float, ...]
    files: tuple[DescribedFile, ...]

    def unit(self, kind: type[_Unit]) -> _Unit | None:
        """Return the first process unit of a kind."""
        return next((unit for unit in self.process_units if isinstance(unit, kind)), None)


@record(frozen=True)
class SubgraphMetadata:
    """What the metadata says about one subgraph; `inputs` and `outputs` in the subgraph's order."""

    name: str
    description: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    files: tuple[DescribedFile, ...]


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
    files: tuple[DescribedFile, ...]
