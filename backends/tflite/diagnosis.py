"""Says what stands between a source and the TFLite interpreter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from accelerate.contract import Source
from accelerate.errors import ModelError, UnsupportedModelError, one_line
from accelerate.formats.tflite.compiled import COMPILED_OPERATOR, compiled_for_edgetpu
from accelerate.formats.tflite.file import ModelFile
from accelerate.formats.tflite.schema_names import OPERATORS, name_of

from .engines import ENGINES, Engine

__all__ = ["why_refused", "why_unresolved"]

# What both engines say of an operator that they lack, wholly or in the file's version of it.
_LACKS_VERSION = re.compile(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'")
_LACKS_NUMBER = re.compile(r"Op builtin_code out of range: (\d+)")
_FLEX = "Flex"  # how a converter names TensorFlow's own operators


def why_refused(engine: Engine, source: Source, error: Exception) -> ModelError:
    """Turn the interpreter's refusal of a model into an error that names the cause."""
    custom = source.opened(ModelFile).custom_operators
    if COMPILED_OPERATOR in custom:
        reason, remedy = compiled_for_edgetpu(source.path)
        return UnsupportedModelError(f"{source}: {reason}", remedy)
    return why_unresolved(engine, source, custom, error)


def why_unresolved(engine: Engine, source: Source, custom: Sequence[str], error: Exception) -> ModelError:
    """Turn the interpreter's refusal into an error that names the operator which it lacks, if it is that."""
    said = str(error)
    if lacking := _lacking(said):
        return UnsupportedModelError(f"{source} needs {lacking}, which {engine.full_name()} lacks", _newer(engine))
    flex = [name for name in custom if name.startswith(_FLEX)]
    if flex and "Select TensorFlow op" in said:
        return UnsupportedModelError(
            f"{source} needs operators of TensorFlow itself (SELECT_TF_OPS: {', '.join(flex[:8])}), which the TFLite "
            "interpreter lacks",
            "convert the model with TFLITE_BUILTINS alone, replacing what needs these operators",
        )
    unresolved = [name for name in custom if name in said]
    if unresolved:
        return UnsupportedModelError(
            f"{source} uses the custom operator {unresolved[0]!r}, which the TFLite interpreter does not have",
            "convert the model without it, or run it with the program that brings this operator",
        )
    if "data-type" in said or "data type" in said:
        return UnsupportedModelError(
            f"{source} has a tensor of a type that this engine does not exchange with NumPy ({one_line(error)})",
            "convert the model with inputs and outputs of a common type",
        )
    refused = f"{source}: the TFLite interpreter refuses the model: {one_line(error)}"
    if "failed to delegate" in str(error).lower():
        return ModelError(refused, "run it without the engine's own delegate: load(..., xnnpack=False)")
    return ModelError(refused)


def _lacking(said: str) -> str:
    """Return the operator that an interpreter says it lacks, in words; "" where it says something else."""
    if found := _LACKS_VERSION.search(said):
        name, version = found.groups()
        return f"version {version} of the operator {name}" if version != "1" else f"the operator {name}"
    if found := _LACKS_NUMBER.search(said):
        number = int(found[1])
        name = name_of(OPERATORS, number)
        return f"the operator {name}" if number < len(OPERATORS) else f"the operator with the number {number}"
    return ""


def _newer(engine: Engine) -> str:
    """Say how to come by an engine that has an operator."""
    convert = "convert the model with an older converter, for older operators"
    if engine.option == "litert":
        return f"{engine.upgrade}, or {convert}"
    other = ENGINES["litert"]
    return f"use engine='litert'{'' if other.installed() else f' ({other.remedy})'}, or {convert}"
