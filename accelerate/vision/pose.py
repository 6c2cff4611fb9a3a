"""PoseEstimator: the bodies, hands or faces in a frame, by their points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..calls.conversion import Array
from ..errors import OptionError, TensorError
from ..image.fitting import Geometry
from ..metadata import Metadata
from ..model import Model
from .detector import Detector
from .layout import Layout
from .outputs import known_of
from .places import COCO_POINTS
from .plain_rules import points_layout
from .preparation import Preparation
from .results import Poses
from .task import BestFirst

__all__ = ["PoseEstimator"]

_MIN_SCORE = 0.25


class PoseEstimator(BestFirst[Poses]):
    """Finds bodies, hands or faces in frames, by their points.

    Parameters
    ----------
    model : Model or Metadata
        With a Metadata it only decodes.
    layout : str, Layout or mapping
        What the outputs hold, as for `Detector`: of kind "keypoints" (MoveNet), or a detector's with `keypoints`.
    min_score : float, optional
        Of a pose; where the model gives none, the mean of its points' scores. Default 0.25.
    max_results : int
        At most so many, the best.
    iou : float
        As for `Detector`.
    resize, anchor, fill, input_color
        As for `Detector`.

    Raises
    ------
    OptionError
        An argument is wrong, or nothing tells which output holds the points.
    """

    def __init__(
        self,
        model: Model | Metadata,
        layout: str | Layout | Mapping[str, Any] = "auto",
        *,
        min_score: float | None = None,
        max_results: int = 100,
        iou: float = 0.45,
        resize: str | None = None,
        anchor: str | None = None,
        fill: int | Sequence[int] | None = None,
        input_color: str | None = None,
    ) -> None:
        super().__init__(model, {"resize": resize, "anchor": anchor, "fill": fill, "color": input_color})
        self._limit(_MIN_SCORE if min_score is None else min_score, max_results)
        self._detector: Detector | None = None
        found = points_layout(known_of(self.metadata))
        kind = (
            layout.kind if isinstance(layout, Layout) else layout.get("kind") if isinstance(layout, Mapping) else None
        )
        if found is None and kind != "keypoints":
            self._detector = Detector(
                model, layout, min_score=self._min_score, max_results=max_results, iou=iou, resize=resize,
                anchor=anchor, fill=fill, input_color=input_color,
            )  # fmt: skip
            known = self._detector.layout
            if known is not None and not known.keypoints:
                raise OptionError(
                    f"a PoseEstimator needs points, and the model gives boxes without any: {known}",
                    "use a Detector, or say how many there are: layout={'keypoints': (17, 3)}",
                )
            return
        self._layout = self._settled_layout(layout, ("keypoints",), lambda: found)

    @property
    def layout(self) -> Layout | None:
        """What the outputs hold, and what says so; None as long as only an answer can tell."""
        return self._layout if self._detector is None else self._detector.layout

    def _prepared(self) -> Preparation:
        if self._detector is not None:
            return self._detector.preparation
        return super()._prepared()

    def _decode(self, outputs: Mapping[str, Any], geometry: Geometry, limits: Mapping[str, Any]) -> Poses:
        if self._detector is not None:
            found = self._detector.decode(outputs, geometry, **limits)
            if found.keypoints is None:
                raise OptionError(f"a PoseEstimator needs points, and the model gives none: {self.layout}")
            return Poses(found.scores, found.keypoints, found.boxes)
        name = self._layout.name("keypoints")
        least, most = self._limits(limits)
        with np.errstate(all="ignore"):
            scores, points, boxes = self._points(self._values(outputs, (name,))[name], geometry)
            sound = np.isfinite(points).all(axis=(1, 2)) & (scores >= least)
        order = np.argsort(-scores, kind="stable")
        order = order[sound[order]][:most]
        return Poses(scores[order], points[order], boxes[order])

    def _points(self, given: Array, geometry: Geometry) -> tuple[Array, Array, Array]:
        """Return scores, points and boxes in the frame; MoveNet's are shares of the tensor, y first."""
        count = self._layout.keypoints[0] if self._layout.keypoints else COCO_POINTS[0]
        row = given.shape[-1]
        relative = self._layout.unit != "pixels"
        frames = given.shape[0] if given.ndim == 4 or (given.ndim == 3 and row != 3) else 1
        if frames == 1 and row == 3 and given.shape[-2] == count:
            points, own, scores = given.reshape(-1, count, 3), None, None
        elif frames == 1 and row == 3 * count + 5:
            table = given.reshape(-1, row)
            points, own, scores = table[:, : 3 * count].reshape(-1, count, 3), table[:, 3 * count : -1], table[:, -1]
        else:
            raise TensorError(
                f"the points are {given.dtype}{list(given.shape)}; wanted {count} of three numbers, or as many with a "
                "box and a score behind them, for one frame"
            )
        points = points.astype(np.float32)
        y_first = self._layout.boxes.startswith("y")
        if y_first:
            points = points[:, :, [1, 0, 2]]
        points[..., :2] = geometry.points_to_frame(points[..., :2], relative=relative)
        if own is None:
            boxes = np.concatenate((points[..., :2].min(axis=1), points[..., :2].max(axis=1)), axis=1)
        else:
            boxes = geometry.boxes_to_frame(own[:, [1, 0, 3, 2]] if y_first else own, relative=relative)
        if scores is None:
            scores = points[..., 2].mean(axis=1)
        return scores, points, boxes.astype(np.float32)
