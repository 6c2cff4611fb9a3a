"""Segmenter: which class each pixel of a frame belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..calls.conversion import Array
from ..errors import TensorError
from ..image.fitting import Geometry
from ..metadata import Metadata
from ..model import Model
from .boxes import sigmoid
from .layout import Layout
from .masks import to_frame
from .outputs import known_of
from .plain_rules import pixels_layout
from .results import Segmentation
from .task import VisionTask, placed, share

__all__ = ["Segmenter"]

_BYTE, _MOST = 255, 1 << 31


class Segmenter(VisionTask[Segmentation]):
    """Tells the class of each pixel of frames.

    Parameters
    ----------
    model : Model or Metadata
        With a Metadata it only decodes.
    layout : str, Layout or mapping
        What the outputs hold, as for `Detector`; of kind "classes" (one score for each class), "index" (the class) or
        "mask" (one score: what is in front).
    min_score : float
        Of "mask": pixels with a lower score are background.
    resize, anchor, fill, input_color
        As for `Detector`; frames are stretched where nobody says otherwise.

    Raises
    ------
    OptionError
        An argument is wrong, or nothing tells which output holds the mask.
    """

    def __init__(
        self,
        model: Model | Metadata,
        layout: str | Layout | Mapping[str, Any] = "auto",
        *,
        min_score: float = 0.5,
        resize: str | None = None,
        anchor: str | None = None,
        fill: int | Sequence[int] | None = None,
        input_color: str | None = None,
    ) -> None:
        super().__init__(model, {"resize": resize, "anchor": anchor, "fill": fill, "color": input_color})
        known = known_of(self.metadata)
        self._layout = self._settled_layout(layout, ("classes", "index", "mask"), lambda: pixels_layout(known))
        self._min_score = share("min_score", min_score)

    @property
    def layout(self) -> Layout:
        """What the outputs hold, and what says so."""
        return self._layout

    def __call__(self, frame: Any, *, color: str = "RGB", timeout: float | None = None) -> Segmentation:
        """Segment a frame; arguments, errors and warnings are those of a `Detector`.

        Returns
        -------
        Segmentation
            Its mask has the frame's size.
        """
        return self._run(frame, color, timeout, {})

    async def call_async(self, frame: Any, *, color: str = "RGB", timeout: float | None = None) -> Segmentation:
        """Await a call without blocking the event loop; the same arguments, results and errors."""
        return await self._run_async(frame, color, timeout, {})

    def decode(self, outputs: Mapping[str, Any], geometry: Geometry) -> Segmentation:
        """Return the mask in an answer of `infer`; `geometry` as for `Detector.decode`."""
        return self._decode(outputs, placed(geometry), {})

    def _decode(self, outputs: Mapping[str, Any], geometry: Geometry, limits: Mapping[str, Any]) -> Segmentation:
        kind = self.layout.kind
        name = self.layout.name("classes" if kind == "index" else "scores")
        given = self._values(outputs, (name,))[name]
        table = given
        while table.ndim > (3 if kind == "classes" else 2) and 1 in table.shape:
            table = table.squeeze(table.shape.index(1))
        if table.ndim != (3 if kind == "classes" else 2):
            raise TensorError(f"output {name!r} is {given.dtype}{list(given.shape)}; wanted a map of one frame")
        labels = self.metadata.labels
        if kind == "mask":
            with np.errstate(all="ignore"):
                scores = np.nan_to_num(table.astype(np.float32), nan=0.0)
                if self.layout.score == "sigmoid" or (not self.layout.score and (scores.min() < 0 or scores.max() > 1)):
                    scores = sigmoid(scores)
            mask = (to_frame(scores, geometry) >= self._min_score).astype(np.uint8)
            top, left, height, width = geometry.source
            seen = mask[top : top + height, left : left + width]
            return Segmentation(_laid_out(seen, geometry), labels or ("background", "foreground"))
        if kind == "classes":
            table = table.argmax(axis=0 if _channels_first(table.shape, len(labels), geometry.tensor_size) else 2)
        elif table.dtype.kind == "f":
            table = np.where(np.abs(table) < _MOST, table, Segmentation.UNSEEN)  # no class is NaN
        return Segmentation(_in_frame(table, geometry), labels)


def _in_frame(classes: Array, geometry: Geometry) -> Array:
    """Return the class of the place nearest to each pixel of the frame."""
    dtype = np.uint8 if classes.max(initial=0) < _BYTE and classes.min(initial=0) >= 0 else np.int32
    scale_y, scale_x = (side / whole for side, whole in zip(classes.shape, geometry.tensor_size, strict=True))
    top, left, height, width = geometry.target
    source_height, source_width = geometry.source[2:]
    rows = ((np.arange(source_height) + 0.5) / source_height * height + top) * scale_y
    columns = ((np.arange(source_width) + 0.5) / source_width * width + left) * scale_x
    rows, columns = (
        np.minimum(one.astype(np.intp), side - 1) for one, side in zip((rows, columns), classes.shape, strict=True)
    )
    seen: Array = classes.astype(dtype)[rows[:, np.newaxis], columns]
    return _laid_out(seen, geometry)


def _laid_out(seen: Array, geometry: Geometry) -> Array:
    """Return the mask of the frame, of which the model was shown a part."""
    top, left, height, width = geometry.source
    if (height, width) == geometry.frame_size:
        return seen
    whole = np.full(geometry.frame_size, Segmentation.UNSEEN, seen.dtype)
    whole[top : top + height, left : left + width] = seen
    return whole


def _channels_first(shape: Sequence[int], labels: int, size: tuple[int, int]) -> bool:
    """Return whether the classes come before rows and columns.

    These have the proportions of the tensor. Where that does not tell: as many classes as labels, else the fewest.
    """
    first, last = (rows * size[1] == columns * size[0] for rows, columns in (shape[1:], shape[:2]))
    if first != last:
        return first
    if (shape[0] == labels) != (shape[2] == labels):
        return shape[0] == labels
    return shape[0] < shape[2]
