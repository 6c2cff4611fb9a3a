"""What Viam's protocol says of a model: its Metadata message, and the dtypes that tensors have on the way."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from viam.services.mlmodel import File, LabelType
from viam.services.mlmodel import Metadata as MetadataMessage
from viam.services.mlmodel import TensorInfo as TensorMessage
from viam.utils import dict_to_struct

from ...calls.conversion import Array
from ...errors import UnsupportedModelError
from ...formats.flat_tensors import DTYPES
from ...metadata import Metadata, Quantization, TensorInfo
from .values import plain

__all__ = ["check_sendable", "received", "sendable", "to_message", "with_scales"]

_log = logging.getLogger("accelerate")
#: Dtypes that the protocol lacks, and those of it that hold every value of theirs.
_WIDER = {"bool": "uint8", "float16": "float32", "bfloat16": "float32"}
_LABEL_TYPES = {
    "tensor_axis": LabelType.LABEL_TYPE_TENSOR_AXIS,
    "tensor_value": LabelType.LABEL_TYPE_TENSOR_VALUE,
}
#: What Viam's vision service reads in a tensor's `extra`.
_SHOWN = ("labels", "boxOrder")


def check_sendable(metadata: Metadata) -> None:
    """Refuse a model whose tensors the protocol cannot carry.

    Raises
    ------
    UnsupportedModelError
    """
    for side in ("inputs", "outputs"):
        for info in getattr(metadata, side):
            if _WIDER.get(info.data_type, info.data_type) not in DTYPES:
                raise UnsupportedModelError(
                    f"{side[:-1]} {info.name!r} is {info.data_type}, which Viam's ML model service cannot carry: its "
                    f"tensors are {', '.join(DTYPES)}",
                    "use the model in a program, by accelerate.load",
                )


def sendable(array: Array) -> Array:
    """Return an output in a dtype of the protocol."""
    wider = _WIDER.get(array.dtype.name)
    if wider is None:
        return array
    return array.view(np.uint8) if wider == "uint8" and array.flags.c_contiguous else array.astype(wider)


def received(tensors: Mapping[str, Any], metadata: Metadata) -> dict[str, Any]:
    """Return inputs in which the uint8 values of tensors that are bool, as the protocol has them, are that again."""
    flags = {name for info in metadata.inputs if info.data_type == "bool" for name in (info.name, *info.aliases)}
    return {
        name: tensor.astype(bool)
        if name in flags and isinstance(tensor, np.ndarray) and tensor.dtype == np.uint8
        else tensor
        for name, tensor in tensors.items()
    }


def to_message(metadata: Metadata) -> MetadataMessage:
    """Return a model's metadata as the protocol has it; data types are those of the tensors on the way."""
    return MetadataMessage(
        name=metadata.name,
        type=metadata.type,
        description=metadata.description,
        input_info=[_tensor(info) for info in metadata.inputs],
        output_info=[_tensor(info) for info in metadata.outputs],
    )


def with_scales(metadata: Metadata) -> Metadata:
    """Return the metadata of a model elsewhere with the scales of its outputs of 8 bits, which the protocol leaves out.

    The backend reads them where a module of this package tells them. Of another one they are those that TFLite
    prescribes for scores (its quantisation specification: softmax and logistic have 1/256, and zero at the least
    value); this is said in the log.
    """
    return replace(metadata, outputs=tuple(map(_with_scale, metadata.outputs)))


def _with_scale(info: TensorInfo) -> TensorInfo:
    if info.quantization is not None or info.data_type not in ("uint8", "int8"):
        return info
    _log.info("output %r is %s, of a scale that nobody tells; taken as 1/256", info.name, info.data_type)
    return replace(info, quantization=Quantization((1 / 256,), (0 if info.data_type == "uint8" else -128,)))


def _tensor(info: TensorInfo) -> TensorMessage:
    extra: dict[str, Any] = {key: info.extra[key] for key in _SHOWN if key in info.extra}
    if info.quantization is not None:
        q = info.quantization
        extra["quantization"] = {"scale": q.scale, "zero_point": q.zero_point}
        if q.axis is not None:
            extra["quantization"]["axis"] = q.axis
    if info.data_type in _WIDER:
        extra["data_type"] = info.data_type  # the model's own
    return TensorMessage(
        name=info.name,
        description=info.description,
        data_type=_WIDER.get(info.data_type, info.data_type),
        shape=info.shape,
        associated_files=[
            File(
                name=one.name,
                description=one.description,
                label_type=_LABEL_TYPES.get(one.label_type, LabelType.LABEL_TYPE_UNSPECIFIED),
            )
            for one in info.associated_files
        ],
        extra=dict_to_struct(plain(extra)),
    )
