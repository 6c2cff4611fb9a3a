"""Tells the meaning of an OpenVINO model's tensors in the terms of `accelerate.metadata`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from ...calls.conversion import image_layout
from ...calls.names import name_tensors
from ...metadata import Metadata, Normalization, TensorInfo
from ..interface import Interface
from .file import ModelFile, Port

__all__ = ["describe", "interface"]

_LAYOUTS = frozenset({"NHWC", "NCHW", "HWC", "CHW"})
#: What Model API calls the models of which it knows one task (github.com/open-edge-platform/model_api).
_TYPES = {"classification": "classifier", "ssd": "detector", "segmentation": "segmenter"}


def interface(file: ModelFile) -> Interface:
    """Return the tensors that the model takes and gives."""
    return Interface("", 0, _named(file.inputs), _named(file.outputs))


def _named(ports: Sequence[Port]) -> tuple[TensorInfo, ...]:
    # a tensor without a name goes by that of its layer, which is an alias of inputs only: an output's may be another's
    candidates = [(*port.names, port.layer if not (port.names and port.operator) else "") for port in ports]
    return tuple(_described(port, *named) for port, named in zip(ports, name_tensors(candidates), strict=True))


def _described(port: Port, name: str, aliases: tuple[str, ...]) -> TensorInfo:
    extra: dict[str, Any] = {} if port.ranked else {"rank": "unknown"}
    if port.operator:
        extra |= {"operator": port.operator, "port": port.port}
    layout = port.layout if port.layout in _LAYOUTS and len(port.layout) == len(port.shape) else ""
    return TensorInfo(name, aliases, "", port.data_type, port.shape, layout=layout, extra=extra)


def describe(file: ModelFile) -> Metadata:
    """Read what the exporter noted under ``model_info``, the keys of Model API, which Ultralytics writes, too.

    ``labels`` are one word each; ``mean_values`` and ``scale_values`` are in the order of the model's channels, and
    hold where the model does not prepare its pictures itself (``embedded_processing``). All of it is in ``extra``.
    """
    told, said = interface(file), file.properties
    kind = _TYPES.get(said.get("model_type", "").lower(), "")
    return Metadata(
        name=file.name,
        type=f"openvino_{kind}" if kind else "",
        description=said.get("description", ""),
        inputs=_pictures(said, told.inputs),
        outputs=told.outputs,
        labels=tuple(said.get("labels", "").split()),
        extra=dict(said),
    )


def _pictures(said: Mapping[str, str], inputs: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    """Return the inputs, with what the properties say of the only one, which is then a picture."""
    if len(inputs) != 1 or said.keys().isdisjoint(("mean_values", "scale_values", "reverse_input_channels")):
        return tuple(inputs)
    (info,) = inputs
    info = replace(info, layout=info.layout or image_layout(info.shape, known=True))
    if info.layout and not _is_true(said.get("embedded_processing")):
        normalization = _normalization(said) if info.normalization is None else info.normalization
        # Model API is given blue, green and red
        color = "RGB" if _is_true(said.get("reverse_input_channels")) else ""
        info = replace(info, normalization=normalization, color=info.color or color)
    return (info,)


def _normalization(said: Mapping[str, str]) -> Normalization | None:
    mean, std = (_numbers(said.get(key, "")) for key in ("mean_values", "scale_values"))
    if not mean and not std:
        return None
    mean, std = mean or (0.0,), std or (1.0,)
    counts = {len(mean), len(std)} - {1}
    if counts - {3} or 0 in std:
        return None
    return Normalization(mean, std, "metadata")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, re.split(r"[\s,\[\]]+", text.strip("[] \t\n"))) if text.strip() else ())
    except ValueError:
        return ()
    return numbers if all(map(isfinite, numbers)) else ()


def _is_true(text: str | None) -> bool:
    return (text or "").strip().lower() in ("yes", "true", "1")
