"""Tells the meaning of a .tflite model's tensors in the terms of `accelerate.metadata`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from ...calls.conversion import image_layout
from ...calls.shapes import exported_for
from ...errors import ModelError
from ...metadata import AssociatedFile, Metadata, Normalization, TensorInfo
from ..classes import best_labels, counts_of
from ..exporters import class_names, pictures, type_of
from .assumptions import guess_type
from .file import ModelFile
from .metadata import TensorMetadata

__all__ = ["describe"]

_log = logging.getLogger("accelerate")
_LABEL_TYPES = {"tensor_axis_labels": "tensor_axis", "tensor_value_labels": "tensor_value"}
_COLORS = {"rgb": "RGB", "grayscale": "GRAYSCALE"}


def describe(file: ModelFile, subgraph: int, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> Metadata:
    """Complete what a runtime knows of a model with what its file says of the graph that runs.

    The tensors are in the graph's order, with canonical names. ``extra`` has ``author``, ``license`` and ``version``
    where the file has them, what the exporter wrote, and ``type_guessed`` where only the shapes of the outputs tell the
    type.
    """
    model = file.metadata.metadata
    names = file.metadata_names(subgraph)  # their problem was said when the model was loaded
    lost_since = model is None and any((*names.inputs, *names.outputs))
    if file.metadata.problem and (lost_since or not names.problem):
        _log.warning("%s", file.metadata.problem)
    exported = file.exported.properties
    name, description = exported.get("name", ""), exported.get("description", "")
    said: dict[str, Any] = dict(exported)
    if model is not None:
        name, description = model.name or name, model.description or description
        own = {"author": model.author, "license": model.license, "version": model.version}
        said |= {key: text for key, text in own.items() if text}
        if subgraph < len(model.subgraphs):
            inputs = _meanings(inputs, model.subgraphs[subgraph].inputs)
            told = model.subgraphs[subgraph].outputs
            outputs = _calibrated(file, _meanings(outputs, told), told)
    inputs = exported_for(pictures(exported, inputs), exported.get("imgsz"))
    outputs = _labelled(file, subgraph, outputs)
    kind, guessed = type_of(exported, "tflite"), False
    if not kind:
        kind, guessed = guess_type([*(t.description for t in inputs), name, description], inputs, outputs)
    if guessed:
        said["type_guessed"] = True
    labels = best_labels(outputs) or class_names(exported.get("names", ""))
    return Metadata(name, kind, description, inputs, outputs, labels, bool(file.state), said)


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
        layout=image_layout(info.shape, known=True) if said.color_space else "",
        color=_COLORS.get(said.color_space, ""),
        normalization=None if said.normalization is None else _normalization(info, *said.normalization),
        associated_files=tuple(
            AssociatedFile(f.name, f.description, _LABEL_TYPES.get(f.type, "unspecified")) for f in said.files
        ),
        extra=extra,
    )


def _calibrated(
    file: ModelFile, outputs: Sequence[TensorInfo], described: Sequence[TensorMetadata]
) -> Sequence[TensorInfo]:
    """Add the sigmoids by which scores are calibrated, each from the packed file that the metadata names."""
    if len(described) != len(outputs):
        return outputs
    return [_with_sigmoids(file, info, said) for info, said in zip(outputs, described, strict=True)]


def _with_sigmoids(file: ModelFile, info: TensorInfo, said: TensorMetadata) -> TensorInfo:
    names = [one.name for one in said.files if one.type == "tensor_axis_score_calibration"]
    if "scoreCalibration" not in info.extra or not names:
        return info
    from .calibration import read_calibration

    try:
        sigmoids = read_calibration(file.packed.read(names[0]), f"{file.where}: the packed file {names[0]!r}")
    except ModelError as error:
        _log.warning("%s; the scores of output %r go without calibration", error, info.name)
        return info
    return replace(
        info, extra={**info.extra, "scoreCalibration": {**info.extra["scoreCalibration"], "sigmoids": sigmoids}}
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


def _labelled(file: ModelFile, subgraph: int, outputs: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    """Give each output the labels that are packed for it, and say what cannot be read."""
    told, readings = file.outputs_told(subgraph), file.packed_labels(subgraph)
    outputs = [
        replace(info, extra={**info.extra, **told.get(tensor.index, {})})
        for info, tensor in zip(outputs, file.subgraph(subgraph).outputs, strict=True)
    ]
    for problem in dict.fromkeys(filter(None, (*(r.problem for r in readings), file.exported.problem))):
        _log.warning("%s; the model goes without labels", problem)
    return tuple(
        info if reading.labels is None else replace(info, labels=reading.labels.labels(counts_of(info)))
        for info, reading in zip(outputs, readings, strict=True)
    )
