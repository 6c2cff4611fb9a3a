"""Tells what the outputs of a detector hold: by the metadata, the graph, what the exporter wrote, names and shapes.

Each function of `_RULES` knows one kind of model and returns its layout, None for another. What only values tell is
left open in the layout, and looked for in the first answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import OptionError
from .dense_rules import anchored, dense, several
from .layout import Layout
from .list_rules import by_graph, by_metadata, by_names, by_place, indexed, rows
from .outputs import Known, known_of, picture_input
from .plain_rules import plain_task, scores_layout

__all__ = ["boxes_layout", "unrecognized"]

_RULES: Sequence[Callable[[Known, Mapping[str, Any]], Layout | None]] = (
    by_graph, by_metadata, by_names, indexed, by_place, rows, dense, several, anchored,
)  # fmt: skip


def boxes_layout(known: Known, told: Mapping[str, Any]) -> Layout | None:
    """Return the layout of a detector's outputs, None where nothing tells it.

    `told` is what the user says of it: fields of `Layout`, which goes before what is recognised.

    Raises
    ------
    OptionError
        They are a detector's, but one thing has to be told.
    """
    for rule in _RULES:
        if (found := rule(known, told)) is not None:
            return found
    return None


def unrecognized(known: Known, what: str) -> OptionError:
    """Return the error for outputs that fit no rule of a task."""
    size = "" if known.size is None else f", for pictures of {known.size[0]} x {known.size[1]}"
    found = f"Found: {known.listing()}{size}, {known.classes} labels"
    other = _recognized_task(known_of(known.metadata))
    if other and not what.endswith(other):
        return OptionError(
            f"the outputs of this model are those of a {other}, not of {what}. {found}",
            f"use accelerate.vision.{other}(model), or task_for(model), which takes the one that fits",
        )
    return OptionError(
        f"nothing tells what the outputs of this model hold, as {what} needs it. {found}",
        "describe them in a file beside the model, which `edge-accelerate inspect MODEL --write-description` begins, "
        "or in a program by layout={'kind': …, 'outputs': {…}, …}, see accelerate.vision.Layout",
    )


def _recognized_task(known: Known) -> str:
    """Return what `task_for` makes of a model whose outputs are recognised without a look at their values, else ""."""
    if picture_input(known.metadata) is None:
        return ""
    if plain := plain_task(known):
        return plain
    try:
        boxes = boxes_layout(known, {})
    except OptionError:
        return "Detector"
    if boxes is not None:
        return "PoseEstimator" if boxes.keypoints else "Detector"
    return "Classifier" if scores_layout(known) is not None else ""
