"""How many classes a model tells apart, as far as its tensors say so, and which names they have."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..metadata import LabelFile, Metadata, TensorInfo

__all__ = ["best_labels", "counts_of", "grid_cells", "item_shape", "with_labels"]

_log = logging.getLogger("accelerate")


def item_shape(shape: Sequence[int], inputs: Sequence[TensorInfo]) -> tuple[int, ...]:
    """Return the shape of what an output gives for one item: without its first dimension where that is a batch.

    A dynamic one is a batch only where an input's first dimension is dynamic, too; else it counts what was found.
    """
    batch = (1, -1) if any(not t.shape or t.shape[0] < 0 for t in inputs) else (1,)
    return tuple(shape[1:] if len(shape) > 1 and shape[0] in batch else shape)


def best_labels(outputs: Sequence[TensorInfo]) -> tuple[str, ...]:
    """Return the labels of the output that holds the classes: one whose values are classes goes before scores."""
    labelled = [t for t in outputs if t.labels]
    values = [t for t in labelled if any(file.label_type == "tensor_value" for file in t.associated_files)]
    return next((t.labels for t in (*values, *labelled)), ())


def counts_of(output: TensorInfo) -> Collection[int]:
    """Return how many labels an output may have that come with it, empty where nothing says so."""
    if any(file.label_type == "tensor_value" for file in output.associated_files):
        return {output.extra["num_classes"]} if "num_classes" in output.extra else ()
    sizes = set(output.shape[-1:] if len(output.shape) < 3 else output.shape[1:])
    if -1 in sizes or sizes == {1}:  # two classes may share one score
        return ()
    return sizes


def with_labels(metadata: Metadata, given: LabelFile | None) -> Metadata:
    """Return a model's metadata with the labels that the user gave; say where the number of labels does not fit."""
    if given is None:
        own = [t for t in metadata.outputs if t.labels]
        for output in own:
            _check(output.labels, counts_of(output), f"output {output.name!r}")
        if not any(output.labels == metadata.labels for output in own):
            _check(metadata.labels, *_counts(metadata))
        return metadata
    counts, whose = _counts(metadata)
    labels = given.labels(counts)
    _check(labels, counts, whose, len(metadata.labels))
    return replace(metadata, labels=labels)


def _counts(metadata: Metadata) -> tuple[Collection[int], str]:
    """Return the numbers of classes that the model may have, empty where nothing says so, and what says so."""
    outputs = metadata.outputs
    for output in outputs:
        if "num_classes" in output.extra:
            return {output.extra["num_classes"]}, f"output {output.name!r}"
    shapes = [item_shape(t.shape, metadata.inputs) for t in outputs]
    if len(outputs) == 1 and sum(n != 1 for n in shapes[0]) == 1 and (classes := prod(shapes[0])) > 1:
        return {classes}, f"output {outputs[0].name!r}"
    if len(outputs) == 2 and all(len(shape) == 2 for shape in shapes):  # a box and the scores of its classes
        for axis in (0, 1):
            sides = [shape[axis] for shape in shapes]
            if shapes[0][1 - axis] == shapes[1][1 - axis] and 4 in sides and min(sides) > 1:
                scores = sides.index(4) ^ 1
                # of the transformers' the last one is "no object"
                return {sides[scores], sides[scores] - 1}, f"output {outputs[scores].name!r}"
    if metadata.labels and not any(t.labels for t in outputs):  # those of its exporter
        return {len(metadata.labels)}, "the model"
    if len(outputs) == 1 and len(shapes[0]) == 2 and (rows := _rows_of_grids(metadata.inputs)):
        for found, row in (shapes[0], shapes[0][::-1]):
            # a box, often with a score of its own, and the scores of its classes; three boxes a cell always with it
            if found in (rows, 3 * rows) and row > 5:
                return {row - 5} if found > rows else {row - 5, row - 4}, f"output {outputs[0].name!r}"
    return (), ""


def _rows_of_grids(inputs: Sequence[TensorInfo]) -> int:
    """Return how many cells the grids of the YOLO family have for a picture; 0 for none."""
    if len(inputs) != 1 or not inputs[0].layout:
        return 0
    height, width = (inputs[0].shape[inputs[0].layout.index(side)] for side in "HW")
    return grid_cells((height, width)) if min(height, width) > 0 else 0


def grid_cells(size: tuple[int, int], strides: Sequence[int] = (8, 16, 32)) -> int:
    """Return how many cells of these sides a picture of (height, width) has; what is left at its ends is none."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def _check(labels: Sequence[str], counts: Collection[int], whose: str, own: int = 0) -> None:
    if not labels or not counts or len(labels) in counts:
        return
    _log.warning(
        "%d labels for %s classes of %s: %s%s%s",
        len(labels),
        " or ".join(map(str, sorted(counts))),
        whose,
        "from the first missing one on, a class reads as its index, and names before it may be those of other classes"
        if len(labels) < max(counts)
        else "those beyond the last class are never used",
        "; is a 'background' line missing or surplus?" if any(abs(len(labels) - n) == 1 for n in counts) else "",
        f"; the model has {own} labels of its own, which hold where none are given" if own else "",
    )
