"""Says what stands between a source and the TFLite interpreter."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate.contract import Source
from accelerate.errors import ModelError, UnsupportedModelError, one_line
from accelerate.formats.tflite.compiled import COMPILED_OPERATOR, compiled_for_edgetpu
from accelerate.formats.tflite.file import ModelFile

__all__ = ["why_refused", "why_unresolved"]


def why_refused(source: Source, error: Exception) -> ModelError:
    """Turn the interpreter's refusal of a model into an error that names the cause."""
    custom = source.opened(ModelFile).custom_operators
    if COMPILED_OPERATOR in custom:
        reason, remedy = compiled_for_edgetpu(source.path)
        return UnsupportedModelError(f"{source}: {reason}", remedy)
    return why_unresolved(source, custom, error)


def why_unresolved(source: Source, custom: Sequence[str], error: Exception) -> ModelError:
    """Turn the interpreter's refusal into an error that names the custom operator which it lacks, if it is that."""
    unresolved = [name for name in custom if name in str(error)]
    if unresolved:
        return UnsupportedModelError(
            f"{source} uses the custom operator {unresolved[0]!r}, which the TFLite interpreter does not have",
            "convert the model without it, or run it with the program that brings this operator",
        )
    if "data-type" in str(error) or "data type" in str(error):
        return UnsupportedModelError(
            f"{source} has a tensor of a type that this engine does not exchange with NumPy ({one_line(error)})",
            "convert the model with inputs and outputs of a common type",
        )
    refused = f"{source}: the TFLite interpreter refuses the model: {one_line(error)}"
    if "failed to delegate" in str(error).lower():
        return ModelError(refused, "run it without the engine's own delegate: load(..., xnnpack=False)")
    return ModelError(refused)
