"""Tells the meaning of a .tflite model's tensors in the terms of `accelerate.metadata`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from ...calls.conversion import image_layout
from ...metadata import AssociatedFile, Metadata, Normalization, TensorInfo
from .assumptions import guess_type
from .file import ModelFile
from .metadata import TensorMetadata

__all__ = ["describe"]

_log = logging.getLogger("accelerate")
_LABEL_TYPES = {"tensor_axis_labels": "tensor_axis", "tensor_value_labels": "tensor_value"}
_LAYOUTS = {3: "HWC", 4: "NHWC"}  # of an image with another number of channels than 1 or 3
_COLORS = {"rgb": "RGB", "grayscale": "GRAYSCALE"}


def describe(
    file: ModelFile, subgraph: int, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], *, labels: bool
) -> Metadata:
    """Complete what a runtime knows of a model with what its file says of the graph that runs.

    The tensors are in the graph's order, with canonical names. ``extra`` has ``author``, ``license`` and ``version``
    where the file has them, and ``type_guessed`` where only the shapes of the outputs tell the type.
    """
    model = file.metadata.metadata
    names = file.metadata_names(subgraph)  # their problem was said when the model was loaded
    lost_since = model is None and any((*names.inputs, *names.outputs))
    if file.metadata.problem and (lost_since or not names.problem):
        _log.warning("%s", file.metadata.problem)
    if model is None:
        return _described("", "", inputs, outputs, (), {}, stateful=bool(file.state))
    graph = model.subgraphs[subgraph] if subgraph < len(model.subgraphs) else None
    return _described(
        model.name,
        model.description,
        _meanings(inputs, graph.inputs if graph else ()),
        _meanings(outputs, graph.outputs if graph else ()),
        _labels(file, subgraph) if labels else (),
        {"author": model.author, "license": model.license, "version": model.version},
        stateful=bool(file.state),
    )


def _described(
    name: str,
    description: str,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    labels: tuple[str, ...],
    extra: dict[str, Any],
    *,
    stateful: bool,
) -> Metadata:
    kind, guessed = guess_type([*(t.description for t in inputs), name, description], outputs)
    said = {key: value for key, value in {**extra, "type_guessed": guessed}.items() if value}
    return Metadata(name, kind, description, tuple(inputs), tuple(outputs), labels, stateful, said)


def _meanings(tensors: Sequence[TensorInfo], described: Sequence[TensorMetadata]) -> Sequence[TensorInfo]:
    if len(described) != len(tensors):  # none, or not those of this model
        return tensors
    return tuple(_meaning(info, said) for info, said in zip(tensors, described, strict=True))


def _meaning(info: TensorInfo, said: TensorMetadata) -> TensorInfo:
    extra: dict[str, Any] = dict(info.extra)
    if said.content:
        extra["content"] = said.content
    if said.bounding_box is not None:
        if (order := _box_order(info, said.bounding_box.index)) is not None:
            extra["boxOrder"] = order
        extra["boxType"], extra["boxCoordinates"] = said.bounding_box.type, said.bounding_box.coordinate_type
    if said.stats_min or said.stats_max:
        extra["stats"] = {"min": said.stats_min, "max": said.stats_max}
    if said.threshold is not None:
        extra["scoreThreshold"] = said.threshold
    if said.calibration is not None:
        extra["scoreCalibration"] = dict(zip(("transformation", "default"), said.calibration, strict=True))
    return replace(
        info,
        description=said.description,
        layout=(image_layout(info.shape) or _LAYOUTS.get(len(info.shape), "")) if said.color_space else "",
        color=_COLORS.get(said.color_space, ""),
        normalization=None if said.normalization is None else _normalization(info, *said.normalization),
        associated_files=tuple(
            AssociatedFile(f.name, f.description, _LABEL_TYPES.get(f.type, "unspecified")) for f in said.files
        ),
        extra=extra,
    )


def _box_order(info: TensorInfo, index: Sequence[int]) -> list[int] | None:
    """Return where the four parts of a box stand, or None where the metadata names places that a box does not have."""
    order = list(index) or [0, 1, 2, 3]
    size = info.shape[-1] if info.shape and info.shape[-1] > 0 else len(order)
    if len(order) == len(set(order)) == 4 and max(order) < max(size, 4):
        return order
    _log.warning("output %r: the metadata's order of a box is %s, which cannot be; it is not used", info.name, order)
    return None


def _normalization(info: TensorInfo, mean: tuple[float, ...], std: tuple[float, ...]) -> Normalization | None:
    if mean and std and 0 not in std and all(map(isfinite, mean + std)):
        return Normalization(mean, std, "metadata")
    _log.warning(
        "input %r: the metadata normalises by mean %s and std %s, which cannot be; this is not used. "
        "load(..., normalization=(mean, std)) settles it",
        info.name,
        list(mean),
        list(std),
    )
    return None


def _labels(file: ModelFile, subgraph: int) -> tuple[str, ...]:
    reading = file.packed_labels(subgraph)
    if reading.problem:
        _log.warning("%s; the model goes without labels", reading.problem)
    return reading.labels
