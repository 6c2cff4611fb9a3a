"""What a service's Metadata says about its model. It is untrusted, and much of it is free text or left out."""

from __future__ import annotations

import logging
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accelerate.contract import Array, name_tensors
from accelerate.errors import ModelError, OptionError, UnsupportedModelError
from accelerate.formats.classes import best_labels, counts_of
from accelerate.formats.flat_tensors import DTYPES
from accelerate.formats.labels import load_labels
from accelerate.metadata import AssociatedFile, Metadata, Quantization, TensorInfo

__all__ = ["Description"]

_log = logging.getLogger("accelerate")
#: What services write where NumPy has another name.
_OTHER_WORDS = {"float": "float32", "double": "float64", "fp32": "float32", "fp64": "float64"}
_MOST_DIMENSIONS, _MOST_TENSORS, _MOST_DEPTH = 32, 4096, 16
_UNKNOWN_SHAPE: Mapping[str, Any] = {"rank": "unknown"}


@dataclass(frozen=True)
class Description:
    """A model as its service describes it."""

    name: str
    type: str
    description: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    complete: bool  # whether the service tells the name and the type of each output; else see `seen`

    @classmethod
    def read(cls, who: str, metadata: Any) -> Description:
        """Read the message.

        Raises
        ------
        ModelError, UnsupportedModelError
        """
        inputs = _tensors(who, metadata.input_info, "input")
        outputs = _tensors(who, metadata.output_info, "output")
        if not inputs:
            raise UnsupportedModelError(
                f"{who}: the service names no inputs of its model, so nothing can be checked or converted",
                "look for an error of the service in the machine's log",
            )
        if len({t.name for t in inputs}) < len(inputs) and all(t.name for t in inputs):
            names = ", ".join(repr(t.name) for t in inputs)
            raise UnsupportedModelError(
                f"{who}: two inputs have one name ({names:.300}), and the protocol tells them apart by nothing else",
                "rename them in the model",
            )
        named = tuple(
            replace(t, name=name) for t, (name, _) in zip(inputs, name_tensors([[t.name] for t in inputs]), strict=True)
        )
        complete = bool(outputs) and all(t.name and t.data_type for t in outputs)
        outputs = [t for t in outputs if t.name]
        by_name = {t.name: t for t in outputs}  # of two with one name an answer has the last
        if len(by_name) < len(outputs):
            _log.warning("%s: two outputs have one name, and only one of them can be in an answer", who)
        return cls(metadata.name, metadata.type, metadata.description, named, tuple(by_name.values()), complete)

    def seen(self, answer: Mapping[str, Array]) -> Description:
        """Return this with the outputs that an answer has, those that the service has described first."""
        outputs = [replace(t, data_type=answer[t.name].dtype.name) for t in self.outputs if t.name in answer]
        described = {t.name for t in outputs}
        outputs += (
            TensorInfo(name, data_type=array.dtype.name, shape=array.shape)
            for name, array in sorted(answer.items())
            if name not in described
        )
        return replace(self, outputs=tuple(outputs), complete=True)

    def told(self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], *, labels: bool) -> Metadata:
        """Return all of it, with the labels of files that this machine has, where nobody gives others."""
        labelled = tuple(_labelled(t) if labels else t for t in outputs)
        return Metadata(self.name, self.type, self.description, tuple(inputs), labelled, best_labels(labelled))


def _tensors(who: str, infos: Any, kind: str) -> list[TensorInfo]:
    if len(infos) > _MOST_TENSORS:
        raise ModelError(f"{who}: the service lists {len(infos)} {kind}s; it is broken or hostile")
    return [_tensor(who, info, kind) for info in infos]


def _tensor(who: str, info: Any, kind: str) -> TensorInfo:
    shape = tuple(info.shape)
    if len(shape) > _MOST_DIMENSIONS or any(n < -1 for n in shape):
        raise ModelError(
            f"{who}: the service describes {kind} {info.name!r} of the impossible shape {list(shape)!s:.200}"
        )
    said = info.data_type.strip().lower()
    data_type = _OTHER_WORDS.get(said, said)
    if data_type not in DTYPES:
        if said or kind == "input":
            raise UnsupportedModelError(
                f"{who}: the service calls {kind} {info.name!r} {info.data_type!r:.60}; the protocol has "
                f"{', '.join(DTYPES)}",
                "use a model whose tensors are of these types",
            )
        data_type = ""
    extra = _plain(info.extra) if info.HasField("extra") else {}
    order = extra.get("boxOrder")
    if isinstance(order, list) and all(isinstance(n, float) and n.is_integer() for n in order):
        extra["boxOrder"] = tuple(map(int, order))
    quantization = _quantization(extra.pop("quantization", None), data_type)
    if not shape:  # a scalar, or a service that does not know
        extra.update(_UNKNOWN_SHAPE)
    files = tuple(
        AssociatedFile(f.name, f.description, {1: "tensor_value", 2: "tensor_axis"}.get(f.label_type, "unspecified"))
        for f in info.associated_files
    )
    return TensorInfo(
        info.name, (), info.description, data_type, shape, quantization, associated_files=files, extra=extra
    )


def _quantization(said: Any, data_type: str) -> Quantization | None:
    """Return the scales that a module of this package tells in ``extra``; the protocol has no place for them."""
    if not isinstance(said, dict) or not data_type.startswith(("int", "uint")):
        return None
    try:
        scale, zero = tuple(map(float, said["scale"])), tuple(map(int, said["zero_point"]))
        axis = None if said.get("axis") is None else int(said["axis"])
    except (KeyError, OverflowError, TypeError, ValueError):
        return None
    sound = len(scale) == len(zero) > 0 and all(0 < one < math.inf for one in scale)
    return Quantization(scale, zero, axis) if sound and (len(scale) == 1) == (axis is None) else None


def _plain(struct: Any, depth: int = 0) -> dict[str, Any]:
    """Return a google.protobuf.Struct as Python's own values; its numbers are floats."""
    return {key: _value(value, depth + 1) for key, value in struct.fields.items()}


def _value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("kind")
    if depth > _MOST_DEPTH or kind in (None, "null_value"):
        return None
    if kind == "struct_value":
        return _plain(value.struct_value, depth)
    if kind == "list_value":
        return [_value(one, depth + 1) for one in value.list_value.values]
    return getattr(value, kind)


def _labelled(output: TensorInfo) -> TensorInfo:
    """Return an output with the labels of the file that it names; the machine's files are seldom here."""
    path = output.extra.get("labels")
    if not isinstance(path, str) or not _is_file(path):
        return output
    try:
        return replace(output, labels=load_labels(path).labels(counts_of(output)))
    except OptionError as error:
        _log.warning("output %r names the label file %r, which cannot be used: %s", output.name, path, error.reason)
        return output


def _is_file(path: str) -> bool:
    try:
        return bool(path) and stat.S_ISREG(os.stat(path).st_mode)  # opening a pipe would wait for its writer
    except (OSError, ValueError):
        return False
