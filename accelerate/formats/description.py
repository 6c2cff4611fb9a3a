"""All that a model file says about itself, in one call, for every backend that reads its format."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import OptionError

if TYPE_CHECKING:
    from ..metadata import Metadata
    from ..source import Source
    from .interface import Interface

__all__ = ["describe_source", "interface_of"]

_log = logging.getLogger("accelerate")


def interface_of(source: Source, signature: str | None = None) -> Interface | None:
    """Return the names, types and shapes of a file's tensors, without its metadata; None for a format not read here.

    `signature` tells which of a TFLite model's signatures runs; without one it is the main graph's.

    Raises
    ------
    ModelNotFoundError, ModelError
    OptionError
        There is no such signature.
    """
    if source.format == "tflite":
        from .tflite.file import ModelFile as TFLiteFile
        from .tflite.interface import interface as tflite_interface

        return tflite_interface(source.opened(TFLiteFile), signature)
    if source.format in ("onnx", "openvino") and signature is not None:
        kind = "ONNX" if source.format == "onnx" else "OpenVINO IR"
        raise OptionError(f"an {kind} model has no signatures", "leave signature out")
    if source.format == "openvino":
        from .openvino.description import interface as openvino_interface
        from .openvino.file import ModelFile as OpenVINOFile

        return openvino_interface(source.opened(OpenVINOFile))
    if source.format == "onnx":
        from .onnx.description import interface as onnx_interface
        from .onnx.file import ModelFile as ONNXFile

        return onnx_interface(source.opened(ONNXFile))
    return None


def describe_source(source: Source, signature: str | None = None) -> Metadata | None:
    """Return all that a file says about itself, with its labels; None for a format not read here.

    Damage that does not keep the model from running is a warning, as when the model is loaded.
    The arguments and errors are those of `interface_of`.
    """
    with source.kept_open():
        found = interface_of(source, signature)
        if found is None:
            return None
        if found.problem:
            _log.warning("%s", found.problem)
        if source.format == "tflite":
            from .tflite.description import describe as describe_tflite
            from .tflite.file import ModelFile as TFLiteFile

            return describe_tflite(source.opened(TFLiteFile), found.subgraph, found.inputs, found.outputs)
        if source.format == "openvino":
            from .openvino.description import describe as describe_openvino
            from .openvino.file import ModelFile as OpenVINOFile

            return describe_openvino(source.opened(OpenVINOFile))
        from .onnx.description import describe as describe_onnx
        from .onnx.description import with_producers
        from .onnx.file import ModelFile as ONNXFile

        file = source.opened(ONNXFile)
        properties = {"producer": file.producer[0], **file.properties}
        outputs = with_producers(found.outputs, [value.name for value in file.outputs], file.producers)
        return describe_onnx(file.name, file.description, properties, found.inputs, outputs)
