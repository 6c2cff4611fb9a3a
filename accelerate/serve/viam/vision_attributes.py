"""The attributes of a vision service, and the task that they make of a model.

They are those of Viam's own `mlmodel` vision service, with the meaning that its code gives them (rdk, 2026-08), which
in places is another one than its documentation's: mean and standard deviation are in units of 0 to 1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from viam.proto.app.robot import ComponentConfig

from ..._records import record
from ...calls.conversion import image_layout
from ...calls.names import suggestion
from ...errors import OptionError
from ...formats.classes import with_labels
from ...formats.labels import load_labels
from ...metadata import Metadata, Normalization, TensorInfo
from ...vision import Classifier, Detector, task_for
from ...vision.layout import CORNERS
from ...vision.outputs import picture_input
from .resources import attributes_of, check_known, mlmodel_name, place

__all__ = ["VisionAttributes"]

_log = logging.getLogger("accelerate")
_KNOWN = (
    "camera_name", "default_minimum_confidence", "input_image_bgr", "input_image_mean_value", "input_image_std_dev",
    "label_confidences", "label_path", "mlmodel_name", "remap_input_names", "remap_output_names",
    "xmin_ymin_xmax_ymax_order",
)  # fmt: skip
#: What Viam's names for outputs are among the parts of a layout.
_PARTS = {"location": "boxes", "category": "classes", "score": "scores"}
#: Viam's order of corners where nothing else says it, and its normalisation: -1 to 1.
_USUAL_BOXES, _USUAL_LEVEL = "yxyx", 0.5
_MOST_CLASSES = 1 << 20


@record(frozen=True)
class VisionAttributes:
    """What is configured of a vision service."""

    where: str
    mlmodel_name: str
    camera_name: str
    input_names: Mapping[str, str]
    output_names: Mapping[str, str]
    box_order: tuple[int, ...] | None  # the places of xmin, ymin, xmax, ymax
    mean: tuple[float, ...] | None  # of each channel of the tensor, where 255 is 1
    std: tuple[float, ...] | None
    bgr: bool
    min_score: float | None
    confidences: Mapping[str, float]
    label_path: str

    @classmethod
    def read(cls, config: ComponentConfig) -> VisionAttributes:
        """Check attributes.

        Raises
        ------
        OptionError
            One is unknown, missing or wrong; it and what to write are named.
        """
        check_known(config, _KNOWN)
        given = {name: value for name, value in attributes_of(config).items() if value is not None}
        where = place(config)
        try:
            return cls(
                where,
                mlmodel_name(config),
                _text(given, "camera_name", "the name of a camera"),
                _names(given, "remap_input_names", "image"),
                _names(given, "remap_output_names", "location"),
                _order(given),
                _channels(given, "input_image_mean_value"),
                _channels(given, "input_image_std_dev"),
                _flag(given, "input_image_bgr"),
                _share(given, "default_minimum_confidence"),
                _confidences(given),
                _text(given, "label_path", "the path of a label file"),
            )
        except _Wrong as wrong:
            raise OptionError(f"{where}: {wrong.args[0]}", wrong.args[1]) from None

    def task(self, metadata: Metadata) -> Detector | Classifier:
        """Return what finds objects or classes by a model's answers.

        Raises
        ------
        OptionError
            The model is neither a detector nor a classifier, or an attribute does not fit it.
        """
        try:
            metadata = self._described(metadata)
            if picture_input(metadata) is None:
                wanted = ", ".join(f"{info.name!r} {list(info.shape)}" for info in metadata.required_inputs)
                raise _Wrong(  # noqa: TRY301
                    f"the model of {self.mlmodel_name!r} takes no picture: its inputs are {wanted}",
                    'if one is, say which: "remap_input_names": {"its name": "image"}',
                )
            outputs = self._outputs(metadata)
            if "probability" in outputs:
                return self._classifier(metadata, outputs["probability"])
            if "location" in outputs:
                return self._detector(metadata, outputs)
            try:
                kind: type = type(task_for(metadata))
            except OptionError:
                kind = Detector  # an attribute may say what is missing, else its error does
            if kind is Classifier:
                return self._classifier(metadata, "")
            if kind is Detector:
                return self._detector(metadata, {})
        except _Wrong as wrong:
            raise OptionError(f"{self.where}: {wrong.args[0]}", wrong.args[1]) from None
        except OptionError as error:
            raise OptionError(f"{self.where}: {error.reason}", error.remedy) from error
        raise OptionError(
            f"{self.where}: the model of {self.mlmodel_name!r} is for a {kind.__name__}; a vision service here finds "
            "objects or classes",
            f"use it in a program: accelerate.vision.{kind.__name__}",
        )

    def _described(self, metadata: Metadata) -> Metadata:
        """Return a model's metadata with what is said of its picture and its labels."""
        named = {
            meaning: _resolved(metadata.inputs, name, "remap_input_names") for name, meaning in self.input_names.items()
        }
        pictures = {named["image"]} if "image" in named else set()
        if not pictures and picture_input(metadata) is None and len(metadata.required_inputs) == 1:
            pictures = {metadata.required_inputs[0].name}  # what else
        inputs = tuple(self._input(info, pictures) for info in metadata.inputs)
        metadata = replace(metadata, inputs=inputs)
        return with_labels(metadata, load_labels(self.label_path)) if self.label_path else metadata

    def _input(self, info: TensorInfo, pictures: set[str]) -> TensorInfo:
        if pictures:
            layout = (info.layout or image_layout(info.shape, known=True)) if info.name in pictures else ""
            info = replace(info, layout=layout)
        if not info.layout:
            return info
        if not info.data_type.startswith("float"):
            if self.mean or self.std:
                _log.warning(
                    "%s: input %r is %s, for which mean and std_dev have no effect",
                    self.where,
                    info.name,
                    info.data_type,
                )
            return info
        if self.mean or self.std:
            usual = (_USUAL_LEVEL,)
            mean, std = (tuple(255 * x for x in given or usual) for given in (self.mean, self.std))
            return replace(info, normalization=Normalization(mean, std, "user"))
        if info.normalization is None:
            level = (255 * _USUAL_LEVEL,)
            return replace(info, normalization=Normalization(level, level, "assumed"))
        return info

    def _outputs(self, metadata: Metadata) -> dict[str, str]:
        """Return the outputs that are named, by Viam's words for them; those that have such a name need no other."""
        own = {info.name for info in metadata.outputs}
        detects = {"location", "score"} <= own
        words = ("location", "score", "category") if detects else ("probability",)
        return {
            **{word: word for word in words if word in own},
            **{
                meaning: _resolved(metadata.outputs, name, "remap_output_names")
                for name, meaning in self.output_names.items()
            },
        }

    def _classifier(self, metadata: Metadata, output: str) -> Classifier:
        options: dict[str, Any] = {
            "input_color": "BGR" if self.bgr else None,
            "max_results": _MOST_CLASSES,
            "min_score": 0.0 if self.confidences else self.min_score,
        }
        self._check_confidences(metadata)
        try:
            found = Classifier(metadata, **options)
            if output in ("", found.layout.name("scores")):
                return found
        except OptionError:
            if not output:
                raise
        return Classifier(metadata, {"kind": "scores", "outputs": {"scores": output}}, **options)

    def _detector(self, metadata: Metadata, outputs: Mapping[str, str]) -> Detector:
        allow = self._check_confidences(metadata)
        options: dict[str, Any] = {
            "input_color": "BGR" if self.bgr else None,
            "min_score": None if self.confidences else self.min_score,
            "allow": allow or None,
            "clip": True,
            "box_order": self.box_order,
        }
        named = {part: outputs[word] for word, part in _PARTS.items() if word in outputs}
        if not named:
            return Detector(metadata, **options)
        if "scores" not in named:
            raise _Wrong("remap_output_names names a location and no score", 'add "the output\'s name": "score"')
        try:
            found = Detector(metadata, **options)
            if found.layout is not None and all(found.layout.name(part) == name for part, name in named.items()):
                return found
        except OptionError:
            pass  # what is not recognised, the names tell
        kind = "list" if "classes" in named else "dense"
        counts = [
            info.name for info in metadata.outputs if info.shape in ((), (1,)) and info.name not in named.values()
        ]
        if kind == "list" and len(counts) == 1:  # what stands in the lists behind it may be anything
            named["count"] = counts[0]
        layout: dict[str, Any] = {"kind": kind, "outputs": named, "boxes": _USUAL_BOXES, "nms_done": True}
        return Detector(metadata, layout, **options)

    def _check_confidences(self, metadata: Metadata) -> dict[str, float]:
        """Return the least score of each label that is wanted, by the model's own spelling."""
        found = {}
        known: dict[str, list[str]] = {}
        for label in filter(None, metadata.labels):
            known.setdefault(label.lower(), []).append(label)
        for name, least in self.confidences.items():
            own = known.get(name.lower(), [name] if name.isdigit() else [])
            if not own:
                raise _Wrong(
                    f"label_confidences: the model has no label {name!r}{suggestion(name, known)}",
                    f"it has {len(known)}: {', '.join(list(known)[:8])}{', ...' * (len(known) > 8)}",
                )
            found.update(dict.fromkeys(own, least))
        return found

    def wants(self, label: str, score: float) -> bool:
        """Return whether a class is to be told of, as far as its label says so."""
        if not self.confidences:
            return True
        least = next((own for name, own in self.confidences.items() if name.lower() == label.lower()), math.inf)
        return bool(np.float32(score) >= np.float32(least))  # 0.9 is not less than 0.9


class _Wrong(Exception):
    """An attribute is wrong: the reason, and what to write."""


def _resolved(infos: Sequence[TensorInfo], name: str, attribute: str) -> str:
    for info in infos:
        if name in (info.name, *info.aliases):
            return info.name
    known = [info.name for info in infos]
    raise _Wrong(
        f"{attribute}: the model has no such tensor as {name!r:.80}{suggestion(name, known)}",
        f"it has {', '.join(map(repr, known))}; the model's name stands first, Viam's second",
    )


def _text(given: Mapping[str, Any], name: str, wanted: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise _Wrong(f"{name} is {value!r:.60}", f"write {wanted}, or leave it out")
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise _Wrong(f"{name} is {value!r:.60}", "write true or false")
    return value


def _names(given: Mapping[str, Any], name: str, example: str) -> Mapping[str, str]:
    value = given.get(name, {})
    if not isinstance(value, Mapping) or not all(isinstance(one, str) and one for one in value.values()):
        raise _Wrong(f"{name} is {value!r:.80}", f'write {{"the model\'s name": "{example}"}}')
    if len(set(value.values())) < len(value):
        raise _Wrong(f"{name} gives two tensors one name: {dict(value)!r:.80}", "leave one of them out")
    return value


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _share(given: Mapping[str, Any], name: str) -> float | None:
    value = given.get(name)
    if value is not None and not (_number(value) and 0 <= value <= 1):
        raise _Wrong(f"{name} is {value!r:.60}", "write a number from 0 to 1")
    return value


def _confidences(given: Mapping[str, Any]) -> Mapping[str, float]:
    value = given.get("label_confidences", {})
    if not isinstance(value, Mapping) or not all(_number(one) and 0 <= one <= 1 for one in value.values()):
        raise _Wrong(f"label_confidences is {value!r:.80}", 'write {"a label": a number from 0 to 1}')
    return value


def _channels(given: Mapping[str, Any], name: str) -> tuple[float, ...] | None:
    value = given.get(name)
    if value is None or value == []:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 3 or not all(map(_number, value)):
        raise _Wrong(f"{name} is {value!r:.60}", "write three numbers, one for each channel, where 255 counts as 1")
    if any(abs(x) > 1.5 for x in value):
        raise _Wrong(
            f"{name} is {value!r:.60}, and pixels are counted from 0 to 1 here, as in Viam's code",
            f"write {[round(x / 255, 4) for x in value]}",
        )
    if name.endswith("std_dev") and 0 in value:
        raise _Wrong(f"{name} is {value!r:.60}, and pixels are divided by it", "write numbers other than 0")
    return tuple(map(float, value[:3]))


def _order(given: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the places of xmin, ymin, xmax and ymax; the attribute says which of these stands at each place."""
    value = given.get("xmin_ymin_xmax_ymax_order")
    if value is None or value == []:
        return None
    known = {tuple(map(places.index, range(4))): places for places in CORNERS.values()}
    if not isinstance(value, list) or not all(map(_number, value)) or tuple(value) not in known:
        raise _Wrong(
            f"xmin_ymin_xmax_ymax_order is {value!r:.60}",
            "write which of xmin (0), ymin (1), xmax (2) and ymax (3) stands at each place: "
            f"{' or '.join(str(list(one)) for one in known)}; [1, 0, 3, 2] is ymin, xmin, ymax, xmax",
        )
    return known[tuple(value)]
