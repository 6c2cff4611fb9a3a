"""Detector: the objects in a frame."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..calls.conversion import Array
from ..calls.names import suggestion
from ..errors import OptionError
from ..formats.exporters import is_index
from ..image.fitting import Geometry
from ..metadata import Metadata
from ..model import Model
from .calibration import calibrated
from .candidates import Candidates, suppressed
from .completeness import check_complete
from .decoder import Decoder
from .dense import Dense
from .layout import GivenLayout, Layout, parse_box_order
from .lists import Indexed, Listed, Rows
from .masks import draw_masks
from .outputs import Known, known_of
from .places import channels_of, protos_of
from .ranges import check_ranges
from .recognition import boxes_layout, unrecognized
from .results import Detections
from .task import BestFirst, share

__all__ = ["Detector"]

_MIN_SCORE = 0.25


class Detector(BestFirst[Detections]):
    """Finds objects in frames with a model, whatever its outputs look like.

    Parameters
    ----------
    model : Model or Metadata
        With a Metadata it only decodes.
    layout : str, Layout or mapping
        What the outputs hold: "auto" recognises it by the metadata, the graph, names and shapes; or a `Layout`; or the
        fields of one that differ from what is recognised, such as ``{"unit": "pixels"}``.
    box_order : str or sequence of int, optional
        The order of a box's corners, where the model does not tell it: "yxyx", "xyxy", "xxyy"; or the places of xmin,
        ymin, xmax, ymax. The same as ``layout={"boxes": …}``.
    min_score : float, optional
        Lower scores are left out; one that equals it is not. Default: the metadata's threshold, else 0.25.
    max_results : int
        At most so many, the best.
    iou : float
        Of two objects whose boxes share more than this of their union, the worse is left out, unless the model has
        done that.
    per_class : bool
        Only objects of one class displace each other.
    nms_candidates : int
        So many of the best are compared, since that takes time by their square.
    allow : sequence of str, or mapping of str to float, optional
        Labels of the objects that are wanted (of a class without one its index), perhaps each with a `min_score` of its
        own, None for the common one.
    deny : sequence of str, optional
        Labels that are not wanted.
    clip : bool
        Cut boxes off at the frame's edges.
    resize, anchor, fill
        What is done to a frame, as for `accelerate.image.to_tensor`. Default: as the model was trained, if a
        description file or the exporter says so; else what is usual for its family, which is said once.
    input_color : str, optional
        "RGB" or "BGR": the order of colours that the model wants; default like `resize`.

    Attributes
    ----------
    layout : Layout or None
        What the outputs hold, and what says so; None as long as only the first answer can tell.
    preparation : Preparation
        What is done to frames, and who says so.

    Raises
    ------
    OptionError
        An argument is wrong, or nothing tells what the outputs hold; the message lists them and how to describe them.
    """

    def __init__(
        self,
        model: Model | Metadata,
        layout: str | Layout | Mapping[str, Any] = "auto",
        *,
        box_order: str | Sequence[int] | None = None,
        min_score: float | None = None,
        max_results: int = 100,
        iou: float = 0.45,
        per_class: bool = True,
        nms_candidates: int = 1000,
        allow: Sequence[str] | Mapping[str, float | None] | None = None,
        deny: Sequence[str] = (),
        clip: bool = False,
        resize: str | None = None,
        anchor: str | None = None,
        fill: int | Sequence[int] | None = None,
        input_color: str | None = None,
    ) -> None:
        super().__init__(model, {"resize": resize, "anchor": anchor, "fill": fill, "color": input_color})
        if min_score is None:
            said = (one.extra.get("scoreThreshold") for one in self.metadata.outputs)
            min_score = next((threshold for threshold in said if threshold is not None), _MIN_SCORE)
        self._limit(min_score, max_results)
        self._iou = share("iou", iou)
        self._per_class, self._clip = bool(per_class), bool(clip)
        self._nms_candidates = whole_number("nms_candidates", nms_candidates)
        self._own = _thresholds(self.metadata, allow, deny)
        self._others = allow is None  # whether labels that are not named are wanted
        self._given = self._given_layout(layout)
        if box_order is not None:
            told = self._given.told if self._given is not None else {}
            self._given = GivenLayout({**told, "boxes": parse_box_order(box_order)}, self.metadata.outputs)
        self._decoders: dict[tuple[int, int], Decoder] = {}
        self._layout = self._recognized(known_of(self.metadata), final=False)

    @property
    def layout(self) -> Layout | None:
        """What the outputs hold, and what says so; None as long as only an answer can tell."""
        return self._layout

    def _recognized(self, known: Known, *, final: bool) -> Layout | None:
        """Return the layout; None where only the shapes of an answer can tell it, unless these are known."""
        given = self._given
        found = None if given is not None and given.whole else boxes_layout(known, given.told if given else {})
        if found is None and (given is None or not given.whole):
            open_shapes = known.size is None or any(not one.shape or min(one.shape) < 0 for one in known.outputs)
            if open_shapes and not final:
                return None
            if given is None:
                raise unrecognized(known, "a Detector")
        layout = given.over(found) if given is not None else found
        assert layout is not None
        if layout.kind not in _KINDS:
            raise OptionError(f"layout is of kind {layout.kind!r}; wanted one of a detector: {', '.join(_KINDS)}")
        check_complete(layout)
        check_ranges(layout, known)
        return layout

    def _decoder(self, outputs: Mapping[str, Any], size: tuple[int, int]) -> Decoder:
        """Return what decodes the answers to tensors of a size."""
        with self._lock:
            if (made := self._decoders.get(size)) is not None:
                return made
            layout = self._layout
            shapes = {name: array.shape for name, array in self._values(outputs, tuple(self._infos)).items()}
            known = known_of(self.metadata, shapes, size)
            if layout is None:
                layout = self._layout = self._recognized(known, final=True)
            assert layout is not None
            protos = layout.name("protos")
            masks = 0
            if protos:
                found = protos_of(known)
                if found is None or found.name != protos:
                    raise OptionError(f"output {protos!r} holds no prototypes of masks for a tensor of {size}")
                masks = channels_of(found, known)
            if len(self._decoders) >= _SIZES_KEPT:
                self._decoders.clear()
            self._decoders[size] = made = _DECODERS[layout.kind](layout, size, masks)
            return made

    def _decode_passing(self, outputs: Mapping[str, Any], geometry: Geometry, limits: Mapping[str, Any]) -> Detections:
        return self._decode(outputs, geometry, limits, lasting=False)

    def _decode(
        self, outputs: Mapping[str, Any], geometry: Geometry, limits: Mapping[str, Any], *, lasting: bool = True
    ) -> Detections:
        """Decode outputs; masks are drawn later, of prototypes that are kept unless they do not last by themselves."""
        decoder = self._decoders.get(geometry.tensor_size) or self._decoder(outputs, geometry.tensor_size)
        values = self._values(outputs, decoder.names)
        least, most = self._limits(limits)
        with np.errstate(all="ignore"):  # outputs may hold anything
            if decoder.unsettled:
                self._settle(decoder, values)
            floor = min((least, *(own for own in self._own.values() if own is not None))) if self._own else least
            info = self._infos.get(decoder.layout.name("scores"))
            if info is not None and "sigmoids" in info.extra.get("scoreCalibration", {}):
                found = decoder.decode(values, 0.0)
                found = found._replace(scores=calibrated(found.scores, found.classes, info))
            else:
                found = decoder.decode(values, floor)
            found = self._chosen(found, decoder.layout, least, most)
            protos = values.get(decoder.layout.name("protos"))
            if protos is not None and len(found.scores) and not lasting:
                protos = protos.copy()  # such as those of a Binding, which the next run overwrites
            return self._in_frame(found, geometry, protos)

    def _settle(self, decoder: Decoder, values: Mapping[str, Array]) -> None:
        before = decoder.layout
        layout = decoder.settle(values)
        if layout != before:
            _log.info(
                "%s: by the values of the first answers the outputs are: %s", self.metadata.name or "the model", layout
            )
            self._layout = layout

    def _chosen(self, found: Candidates, layout: Layout, least: float, most: int) -> Candidates:
        """Return the candidates that are wanted, best first."""
        boxes, scores, classes = found.boxes, found.scores, found.classes
        sides = boxes[:, 2:] if found.angles is not None else boxes[:, 2:] - boxes[:, :2]
        sound = ((sides >= 0) & (sides < np.inf)).all(axis=1)  # so the corners are finite, too
        if found.angles is not None:
            sound &= np.isfinite(boxes[:, 0] + boxes[:, 1] + found.angles)
        if not self._own:
            sound &= scores >= least
        if classes.dtype.kind == "f":
            sound &= np.abs(classes) < _MOST_CLASSES
            classes = np.where(sound, classes, -1)
        classes = classes.astype(np.int64)
        if layout.background is not None:
            sound &= classes != layout.background
        if layout.offset:
            classes -= layout.offset
        sound &= classes >= 0
        if self._own or not self._others:
            sound &= scores >= self._least_of(classes, least)
        order = (-scores).argsort(kind="stable")
        order = order[sound[order]]
        found = Candidates(boxes, scores, classes, *found[3:])
        if layout.nms_done:
            return found.taken(order[:most])
        order = order[: self._nms_candidates]
        kept = suppressed(found.taken(order), self._iou, per_class=self._per_class)
        return found.taken(order[kept[:most]])

    def _least_of(self, classes: Array, least: float) -> Array:
        """Return the least score of each candidate's class."""
        own = self._own
        usual = least if self._others else np.inf
        label = self.metadata.label
        names = {index: own.get(label(index), usual) for index in set(classes.tolist())}
        wanted = [least if (value := names[index]) is None else value for index in classes.tolist()]
        return np.array(wanted, np.float32)  # as scores are: 0.9 is not less than 0.9

    def _in_frame(self, found: Candidates, geometry: Geometry, protos: Array | None) -> Detections:
        scale, shift = _affine(geometry)
        keypoints = corners = draw = None
        if found.angles is not None:
            corners = _corners(found.boxes, found.angles) * scale[:2] + shift[:2]
            boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
        else:
            boxes = found.boxes * scale + shift
        if self._clip:
            height, width = geometry.frame_size
            boxes = np.clip(boxes, 0, np.array((width, height, width, height)))
        if found.keypoints is not None:
            keypoints = found.keypoints.astype(np.float32)
            keypoints[..., :2] = keypoints[..., :2] * scale[:2] + shift[:2]
        boxes = boxes.astype(np.float32, copy=False)
        if protos is not None and found.coefficients is not None:
            draw = partial(draw_masks, protos, found.coefficients, boxes, geometry)
        scores = found.scores.astype(np.float32, copy=False)
        return Detections(boxes, scores, found.classes, self.metadata, keypoints, corners, draw)


_log = logging.getLogger("accelerate")
_DECODERS: Mapping[str, type[Decoder]] = {
    "list": Listed, "rows": Rows, "indexed": Indexed, "dense": Dense,
}  # fmt: skip
_KINDS = tuple(_DECODERS)
_SIZES_KEPT = 16
_MOST_CLASSES = 1 << 31


@lru_cache(maxsize=256)
def _affine(geometry: Geometry) -> tuple[Array, Array]:
    """Return by what the corners of a box in the tensor become those in the frame: factors, then what is added."""
    top, left, height, width = geometry.target
    source_top, source_left, source_height, source_width = geometry.source
    x, y = source_width / width, source_height / height
    right, down = source_left - left * x, source_top - top * y
    return np.array((x, y, x, y)), np.array((right, down, right, down))


def _corners(boxes: Array, angles: Array) -> Array:
    """Return the corners (n, 4, 2) of boxes that are turned around their middles."""
    cosine, sine = np.cos(angles)[:, np.newaxis], np.sin(angles)[:, np.newaxis]
    along = np.concatenate((cosine, sine), axis=1) * boxes[:, 2:3] / 2
    across = np.concatenate((-sine, cosine), axis=1) * boxes[:, 3:4] / 2
    middle = boxes[:, :2]
    return np.stack(
        (middle - along - across, middle + along - across, middle + along + across, middle - along + across), axis=1
    )


def _thresholds(
    metadata: Metadata, allow: Sequence[str] | Mapping[str, float | None] | None, deny: Sequence[str]
) -> dict[str, float | None]:
    """Return the least scores of labels that have one of their own, None for the common one."""
    wanted: dict[str, float | None] = {}
    for option, given, kinds in (
        ("allow", () if allow is None else allow, (Sequence, Mapping, set, frozenset)),
        ("deny", deny, (Sequence, set, frozenset)),
    ):
        if isinstance(given, str) or not isinstance(given, kinds):
            raise OptionError(f"{option} is {given!r:.60}; wanted labels, such as ['person']")
        for label in given:
            _check_label(metadata, label, option)
            own = given[label] if isinstance(given, Mapping) else None
            wanted[label] = (
                float("inf") if option == "deny" else own if own is None else share(f"allow[{label!r}]", own)
            )
    return wanted


def _check_label(metadata: Metadata, label: object, option: str) -> None:
    """Refuse what no class is called: nothing would be found, and nothing say why."""
    known = [name for name in metadata.labels if name]
    if label in known or (isinstance(label, str) and is_index(label) and metadata.label(int(label)) == label):
        return
    remedy = f"it has {len(known)}: {', '.join(known[:8])}{', …' * (len(known) > 8)}"
    if is_index(label):
        remedy = f"class {label} is {metadata.label(int(str(label)))!r}"
    elif not known:
        remedy = "it has none: load(..., label_path=…) gives some; without them the class 0 is '0'"
    raise OptionError(f"{option}: the model has no label {label!r:.60}{suggestion(str(label), known)}", remedy)
