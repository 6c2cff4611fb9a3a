"""What is known of a vision model before it has run: its outputs, its classes, its picture's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from .._records import record
from ..calls.shapes import default_shape
from ..formats.classes import item_shape
from ..formats.exporters import literal
from ..image.fitting import image_shape
from ..metadata import Metadata, TensorInfo

__all__ = ["Known", "Output", "known_of", "picture_input"]


@record(frozen=True)
class Output:
    """One output, by what tells what is in it."""

    info: TensorInfo
    #: Of one frame; () where nobody knows it. -1 is a dynamic dimension.
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The canonical name."""
        return self.info.name

    @property
    def names(self) -> tuple[str, ...]:
        """All of its names, in lower case."""
        return tuple(name.lower() for name in (self.info.name, *self.info.aliases))

    @property
    def port(self) -> tuple[str, int]:
        """The operator that makes it, and which of that operator's outputs it is; ("", 0) where nobody knows."""
        return self.info.extra.get("operator", ""), self.info.extra.get("port", 0)

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers, and no quantised ones."""
        return self.info.data_type.startswith(("int", "uint", "bool")) and self.info.quantization is None


@record(frozen=True)
class Known:
    """A vision model, as far as its metadata, and perhaps the shapes of a first answer, describe it."""

    metadata: Metadata
    outputs: tuple[Output, ...]
    #: (height, width) of the tensor; None where it goes by the frame
    size: tuple[int, int] | None
    #: how many classes have labels, 0 for none
    classes: int
    said: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def task(self) -> str:
        """What the exporter calls the model's task: "detect", "segment", "pose", "obb", "classify", or ""."""
        return str(self.said.get("task", ""))

    @property
    def points(self) -> tuple[int, int] | None:
        """How many keypoints the exporter says that there are, and of how many values."""
        found = literal(str(self.said.get("kpt_shape", "")))
        if isinstance(found, (list, tuple)) and len(found) == 2 and all(isinstance(n, int) and n > 0 for n in found):
            return found[0], found[1]
        return None

    def listing(self) -> str:
        """Name the outputs with dtypes and shapes, for messages."""
        return ", ".join(f"{one.name!r} {one.info.data_type}{list(one.info.shape)}" for one in self.outputs)


def known_of(
    metadata: Metadata, shapes: Mapping[str, Sequence[int]] | None = None, size: tuple[int, int] | None = None
) -> Known:
    """Gather what is known of a model.

    Parameters
    ----------
    metadata : Metadata
    shapes : mapping of str to sequence of int, optional
        Those of an answer, by the outputs' names; else the metadata's.
    size : tuple of int, optional
        (height, width) of the tensor; else the metadata's.
    """
    outputs = []
    for info in metadata.outputs:
        item = item_shape(info.shape, metadata.inputs)
        if shapes is not None and info.name in shapes:
            found = tuple(shapes[info.name])
            # whether the first dimension is a batch tells the metadata, which may know no other
            item = found[1:] if len(item) < len(info.shape) or (not info.shape and found[:1] == (1,)) else found
        outputs.append(Output(info, item))
    picture = picture_input(metadata)
    if size is None and picture is not None:
        shape = image_shape(picture)
        usual = default_shape(picture)
        fixed = min(shape.height, shape.width) > 0
        if fixed or "default_shape" in picture.extra:
            size = usual[shape.layout.index("H")], usual[shape.layout.index("W")]
    said = {key: str(text) for key, text in metadata.extra.items()}
    return Known(metadata, tuple(outputs), size, len(metadata.labels), said)


def picture_input(metadata: Metadata) -> TensorInfo | None:
    """Return the only image among the inputs that have to be given, None where there is none."""
    pictures = [info for info in metadata.required_inputs if info.layout]
    return pictures[0] if len(pictures) == 1 else None
