"""Classifier: what a frame shows, as one of the model's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..calls.conversion import Array
from ..errors import TensorError
from ..image.fitting import Geometry
from ..metadata import Metadata
from ..model import Model
from .boxes import softmax
from .calibration import calibrated
from .completeness import check_background
from .layout import Layout
from .outputs import known_of
from .plain_rules import SUM_OFF, scores_layout
from .results import Classifications
from .task import BestFirst

__all__ = ["Classifier"]

_EDGE = 1e-3  # how far probabilities may lie outside of 0..1


class Classifier(BestFirst[Classifications]):
    """Tells which classes a model sees in frames.

    Parameters
    ----------
    model : Model or Metadata
        With a Metadata it only decodes.
    layout : str, Layout or mapping
        What the outputs hold, as for `Detector`; of kind "scores", whose `score` may be "probability" or "softmax".
    max_results : int
        At most so many classes, the best.
    min_score : float, optional
        Lower scores are left out. Default: the metadata's threshold, else 0.
    resize, anchor, fill, input_color
        As for `Detector`; frames are stretched where nobody says otherwise.

    Raises
    ------
    OptionError
        An argument is wrong, or nothing tells which output holds the scores.
    """

    def __init__(
        self,
        model: Model | Metadata,
        layout: str | Layout | Mapping[str, Any] = "auto",
        *,
        max_results: int = 5,
        min_score: float | None = None,
        resize: str | None = None,
        anchor: str | None = None,
        fill: int | Sequence[int] | None = None,
        input_color: str | None = None,
    ) -> None:
        super().__init__(model, {"resize": resize, "anchor": anchor, "fill": fill, "color": input_color})
        self._layout = self._settled_layout(layout, ("scores",), lambda: scores_layout(known_of(self.metadata)))
        self._info = self._infos[self.layout.name("scores")]
        if min_score is None:
            min_score = self._info.extra.get("scoreThreshold", 0.0)
        self._limit(min_score, max_results)

    @property
    def layout(self) -> Layout:
        """What the outputs hold, and what says so."""
        return self._layout

    def decode(
        self,
        outputs: Mapping[str, Any],
        geometry: Geometry | None = None,
        *,
        min_score: float | None = None,
        max_results: int | None = None,
    ) -> Classifications:
        """Return the classes in an answer of `infer`; where the frame lay makes no difference to them."""
        return self._decode(outputs, geometry, {"min_score": min_score, "max_results": max_results})

    def _decode(
        self, outputs: Mapping[str, Any], geometry: Geometry | None, limits: Mapping[str, Any]
    ) -> Classifications:
        name = self.layout.name("scores")
        given = self._values(outputs, (name,))[name]
        scores = given.reshape(-1).astype(np.float32, copy=False)
        if given.shape[:1] != (1,) and scores.size != max(given.shape, default=0):
            raise TensorError(
                f"output {name!r} is {given.dtype}{list(given.shape)}; wanted one score for each class of one frame"
            )
        least, most = self._limits(limits)
        with np.errstate(all="ignore"):
            scores = self._probabilities(scores)
        classes: Array = np.arange(scores.size, dtype=np.int64)
        scores = calibrated(scores, classes, self._info)
        if self.layout.background is not None:
            check_background(self.layout.background, scores.size)
            classes = np.delete(classes, self.layout.background)
        best = classes[np.argsort(-scores[classes], kind="stable")]
        best = best[(scores[best] >= least) & (best >= self.layout.offset)][:most]  # NaN is none
        return Classifications(scores[best], best - self.layout.offset, self.metadata)

    def _probabilities(self, scores: Array) -> Array:
        activation = self.layout.score
        if not activation and scores.size > 1:
            # what a graph of unknown end gives may be anything
            inside = scores.min() >= -_EDGE and scores.max() <= 1 + _EDGE
            activation = "probability" if inside and abs(float(scores.sum()) - 1) <= SUM_OFF else "softmax"
        return softmax(scores) if activation == "softmax" else scores
