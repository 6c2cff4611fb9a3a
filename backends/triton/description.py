"""What a server says about itself and a model: ServerMetadata, ModelMetadata and, where it has that, ModelConfig."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accelerate.contract import concrete_shape
from accelerate.errors import DeviceNotFoundError, ModelError, UnsupportedModelError
from accelerate.formats.open_inference import messages
from accelerate.formats.open_inference.datatypes import DTYPES
from accelerate.formats.open_inference.description import PARAMETER, from_text
from accelerate.metadata import AssociatedFile, Metadata, TensorInfo

__all__ = ["ModelDescription", "TensorSpec", "check_device", "labels_of", "numpy_type"]

_log = logging.getLogger("accelerate")
_LAYOUTS = {"FORMAT_NHWC": "HWC", "FORMAT_NCHW": "CHW"}
_ONLY_RANKS = (3, 4)
_IDENTIFIERS = ("TYPE_STRING", "TYPE_INT32", "TYPE_UINT32", "TYPE_INT64", "TYPE_UINT64")
_MOST_DIMENSIONS, _MOST_BYTES = 32, 1 << 40  # of a tensor: NumPy's limit before 2.0, and more than machines have


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as the server knows it."""

    name: str  # like the datatype in the server's words
    datatype: str
    dtype: np.dtype[Any]  # strings are objects
    shape: tuple[int, ...]  # -1 is dynamic
    scalar: bool = False  # it travels as [1], since Triton takes no scalars; its `shape` is ()

    @property
    def is_text(self) -> bool:
        """Whether its elements have lengths of their own."""
        return self.dtype.hasobject

    def blank(self, shape: Sequence[int]) -> np.ndarray[Any, Any]:
        """Return an array of zeros, or of empty strings."""
        return np.full(shape, b"", object) if self.is_text else np.zeros(shape, self.dtype)

    def size(self, shape: Sequence[int]) -> int:
        """Return how many bytes an array of this shape has."""
        return math.prod(shape) * self.dtype.itemsize


@dataclass(frozen=True)
class ModelDescription:
    """All that the backend wants to know of a model."""

    name: str
    platform: str
    versions: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    infos: tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]  # inputs and outputs as TensorInfo
    device: str  # "cpu", "gpu", or "server" where the server does not tell
    #: what tells the model's sequences of calls, each with its state, apart: "string", NumPy's name of an integer type,
    #: or "" where it may be either; None for a model without state
    sequence: str | None
    most_at_once: int  # the largest batch, which is then the first dimension of every tensor; 0 for a model without one
    label_files: Mapping[int, str]  # by the output's position
    #: what the model's file says about itself, where this program has shipped it, or the server is one of this package
    told: Metadata | None = None

    @property
    def smallest_call(self) -> tuple[tuple[int, ...] | None, ...]:
        """The shapes of the inputs of a call with 1 for each dynamic dimension, None for optional ones left out."""
        return tuple(
            None if info.optional else concrete_shape(spec.shape)
            for spec, info in zip(self.inputs, self.infos[0], strict=True)
        )

    @classmethod
    def read(cls, who: str, metadata: Any, config: Any | None) -> ModelDescription:
        """Read a ModelMetadataResponse and, where the server has one, a ModelConfig."""
        inputs = _specs(who, metadata.inputs, "input")
        outputs = _specs(who, metadata.outputs, "output")
        if config is not None and config.model_transaction_policy.decoupled:
            raise UnsupportedModelError(
                f"{who} is decoupled: it gives any number of answers to a request, and infer() takes exactly one",
                "use a model without model_transaction_policy { decoupled: true }",
            )
        files, layouts = _of_config(config, inputs, outputs)
        optional = set() if config is None else {t.name for t in config.input if t.optional}
        in_infos = tuple(
            replace(_info(t), layout=layouts.get(t.name, ""), extra={"optional": True} if t.name in optional else {})
            for t in inputs
        )
        out_infos = [_info(t) for t in outputs]
        for position, file in files.items():
            label_file = AssociatedFile(file, label_type="tensor_axis")
            out_infos[position] = replace(out_infos[position], associated_files=(label_file,))
        told = _told(who, config, inputs, outputs)
        return cls(
            metadata.name,
            metadata.platform,
            tuple(metadata.versions),
            inputs,
            outputs,
            (in_infos, tuple(out_infos)) if told is None else (told.inputs, told.outputs),
            _device(config),
            sequence=_sequence(config),
            most_at_once=0 if config is None else max(0, config.max_batch_size),
            label_files=files,
            told=told,
        )


def numpy_type(who: str, name: str, datatype: str) -> np.dtype[Any]:
    """Return the dtype of arrays for a datatype."""
    ours = DTYPES.get(datatype)
    if ours is None:
        raise UnsupportedModelError(
            f"{who}: tensor {name!r} has the datatype {datatype!r}; wanted one of {', '.join(sorted(DTYPES))}"
        )
    if ours == "bfloat16":
        try:
            import ml_dtypes  # noqa: F401 - gives NumPy the name
        except ImportError as error:
            raise UnsupportedModelError(
                f"{who}: tensor {name!r} is BF16, which NumPy has not", "pip install ml_dtypes"
            ) from error
    return np.dtype(object if ours == "string" else ours)


def _specs(who: str, tensors: Sequence[Any], kind: str) -> tuple[TensorSpec, ...]:
    specs = tuple(TensorSpec(t.name, t.datatype, numpy_type(who, t.name, t.datatype), tuple(t.shape)) for t in tensors)
    if not specs:
        raise UnsupportedModelError(
            f"{who}: the server names no {kind}s of the model, so nothing can be checked or returned by name",
            "describe them in the model's settings on the server",
        )
    names = [t.name for t in specs]
    impossible = any(
        n < -1 or len(t.shape) > _MOST_DIMENSIONS or t.size([abs(m) for m in t.shape]) > _MOST_BYTES
        for t in specs
        for n in t.shape
    )
    if impossible or len(set(names)) < len(names) or not all(names):
        described = ", ".join(f"{t.name!r}: {t.datatype}{list(t.shape)}" for t in specs)
        raise ModelError(
            f"{who}: the server describes impossible {kind}s ({described:.300})", "correct its configuration"
        )
    return specs


def _info(spec: TensorSpec) -> TensorInfo:
    return TensorInfo(spec.name, data_type=DTYPES[spec.datatype], shape=spec.shape)


def _of_config(
    config: Any | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[dict[int, str], dict[str, str]]:
    """Return the label files by position of the output, and the layouts by name of the input."""
    if config is None:
        return {}, {}
    rank = {t.name: len(t.shape) for t in inputs}
    layouts = {}
    for tensor in config.input:
        layout = _LAYOUTS.get(messages.ModelInput.Format.Name(tensor.format), "")
        if layout and rank.get(tensor.name) in _ONLY_RANKS:
            layouts[tensor.name] = "N" * (rank[tensor.name] == 4) + layout
    position = {t.name: i for i, t in enumerate(outputs)}
    files = {position[t.name]: t.label_filename for t in config.output if t.label_filename and t.name in position}
    return files, layouts


def _told(who: str, config: Any | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Metadata | None:
    """Return what a server of this package knows of the model, where it is about these tensors."""
    if config is None or PARAMETER not in config.parameters:
        return None
    try:
        told = from_text(config.parameters[PARAMETER].string_value)
    except ValueError as error:
        _log.warning("%s: what the server says of the model beside its tensors cannot be read: %s", who, error)
        return None
    for specs, infos in ((inputs, told.inputs), (outputs, told.outputs)):
        if [(t.name, DTYPES[t.datatype], t.shape) for t in specs] != [(t.name, t.data_type, t.shape) for t in infos]:
            _log.warning("%s: what the server says of the model is about other tensors, and is not used", who)
            return None
    return told


def _device(config: Any | None) -> str:
    if config is None:
        return "server"
    kinds = {group.kind for group in config.instance_group}
    group = type(config).DESCRIPTOR.fields_by_name["instance_group"].message_type
    named = {group.enum_types_by_name["Kind"].values_by_number[kind].name for kind in kinds}
    # of several kinds any one may run a request, and KIND_AUTO and KIND_MODEL leave it open
    return {"KIND_CPU": "cpu", "KIND_GPU": "gpu"}.get(named.pop(), "server") if len(named) == 1 else "server"


def _sequence(config: Any | None) -> str | None:
    if config is None or not config.HasField("sequence_batching") or config.sequence_batching.iterative_sequence:
        return None  # an iterative one is within the server: each call is whole
    for tensor in config.sequence_batching.control_input:
        for control in tensor.control:
            named = type(control).DESCRIPTOR.fields_by_name
            if named["kind"].enum_type.values_by_number[control.kind].name == "CONTROL_SEQUENCE_CORRID":
                kind = named["data_type"].enum_type.values_by_number[control.data_type].name
                return kind.removeprefix("TYPE_").lower() if kind in _IDENTIFIERS else ""
    return ""


def check_device(who: str, wanted: str | None, description: ModelDescription) -> None:
    """Compare ``load(device=...)`` with where the server runs the model."""
    if wanted in (None, "server", description.device):
        return
    if wanted not in ("cpu", "gpu"):
        raise DeviceNotFoundError(
            f"{who}: triton has no device {wanted!r}; wanted 'cpu', 'gpu', or 'server' for what the server has chosen"
        )
    if description.device == "server":
        raise DeviceNotFoundError(
            f"{who}: device={wanted!r} was asked for, and the server does not tell what the model runs on",
            f"leave device out, or configure instance_group [ {{ kind: KIND_{wanted.upper()} }} ]",
        )
    raise DeviceNotFoundError(
        f"{who}: device={wanted!r} was asked for, and the server runs the model on the {description.device}",
        f"configure instance_group [ {{ kind: KIND_{wanted.upper()} }} ], or leave device out",
    )


def labels_of(words: Sequence[bytes]) -> tuple[str, ...]:
    """Read the answer of Triton's classification extension: "value:index:label" for each class, in any order."""
    found: dict[int, str] = {}
    for word in words:
        parts = word.decode("utf-8", "replace").split(":", 2)
        if len(parts) == 3 and parts[1].isdecimal():
            found[int(parts[1])] = parts[2].strip()
    count = max(found, default=-1) + 1
    return tuple(found.get(i, "") for i in range(count)) if count <= len(words) else ()
