"""The kinds of model that the suite knows what to ask of, the Case of one, and what a model lacks to be of a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...calls.pixels import QUANTISED
from ...contract import Array, Source, default_shape, suggestion
from ...metadata import Metadata, TensorInfo

__all__ = ["ROLES", "Case", "is_batched", "is_quantized", "misfit", "refusal", "unknown_role"]

#: The kinds of model that the suite knows what to ask of.
ROLES = {
    "plain": "float32 inputs of at least two elements (where a dimension is -1: with 1 in its place), float32 outputs",
    "several": "more than one input that every call gives",
    "optional": "one required input and an optional one, both of float32 and fixed shape",
    "quantized": "inputs of uint8, int8 or int16, each with scale and zero_point",
    "image": "one image input of float32 or float16 (uint8 frames are normalised into it), or of int8",
    "dynamic": "an input with a dimension of -1",
    "dynamic_output": "an output whose size only a run tells, since it depends on the values of the inputs",
    "integers": "inputs of an integer type without quantisation",
    "strings": "a string input",
    "batched": "a first dimension of 1 or -1 on inputs of rank 2 or more",
    "passthrough": "an output that is an input",
    "signatures": "more than one signature: see Case.signatures",
    "labels": "labels in the model itself: see Case.labels",
    "failing": "the runtime fails on some inputs while it runs: see Case.fails_on",
    "existing": "an existing object of the runtime",
    "slow": "takes 0.2 s or more for a call",
}


@dataclass(frozen=True)
class Case:
    """A model and what it computes.

    Attributes
    ----------
    source : object
        What `load` takes.
    reference : callable
        Maps inputs (by canonical name, in the model's dtypes) to the expected outputs.
    options : Mapping
        Further arguments of `load`.
    rtol : float
        Relative tolerance of floating-point outputs.
    signatures : Mapping of str to callable
        For "signatures": the name of each, and its reference.
    labels : tuple of str
        For "labels": those in the model.
    fails_on : Mapping of str to array_like
        For "failing": inputs on which the runtime fails. It works on random ones, floats from -1 to 1.
    cancels : bool
        For "slow": the runtime ends a call early once its caller has left it.
    """

    source: Any
    reference: Callable[[dict[str, Array]], dict[str, Array]]
    options: Mapping[str, Any] = field(default_factory=dict)
    rtol: float = 1e-6
    signatures: Mapping[str, Callable[[dict[str, Array]], dict[str, Array]]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    fails_on: Mapping[str, Any] = field(default_factory=dict)
    cancels: bool = False


def misfit(role: str, case: Case, metadata: Metadata) -> str:
    """Return what a model lacks to play its role, as far as that can be seen without a run; "" for nothing."""
    fits, lack = _TO_SEE.get(role, (_anything, ""))
    return "" if fits(case, metadata) else refusal(role, lack, metadata)


def refusal(role: str, lack: str, metadata: Metadata) -> str:
    """Return the sentence about a model that does not play its role; `lack` may have {inputs} and {outputs} in it."""
    told = lack.format(inputs=_listed(metadata.inputs), outputs=_listed(metadata.outputs))
    remedy = "supply one; every backend does" if role == "plain" else "supply one, or leave the role out"
    return f"the model for {role!r} {told}; {remedy}"


def unknown_role(name: str) -> str:
    """Return the sentence about a role that the suite does not know."""
    return f"cases() has {name!r}, which is no role{suggestion(name, ROLES)}; the roles are {', '.join(ROLES)}"


def _listed(tensors: tuple[TensorInfo, ...]) -> str:
    return ", ".join(f"{t.name} {'optional ' * t.optional}{t.data_type}{list(t.shape)}" for t in tensors) or "none"


def _anything(case: Case, metadata: Metadata) -> bool:
    return True


def _is_plain(_: Case, told: Metadata) -> bool:
    inputs = told.required_inputs
    float32 = all(t.data_type == "float32" for t in (*inputs, *told.outputs))
    return float32 and bool(inputs) and all(np.prod(default_shape(t)) >= 2 for t in inputs)


def _has_an_optional_input(_: Case, told: Metadata) -> bool:
    float32 = all(t.data_type == "float32" and min(t.shape, default=1) >= 0 for t in told.inputs)
    return float32 and len(told.inputs) == 2 and len(told.required_inputs) == 1


def _each(fits: Callable[[TensorInfo], bool]) -> Callable[[Case, Metadata], bool]:
    return lambda _, told: bool(told.inputs) and all(map(fits, told.inputs))


def _any(fits: Callable[[TensorInfo], bool]) -> Callable[[Case, Metadata], bool]:
    return lambda _, told: any(map(fits, told.inputs))


def is_quantized(t: TensorInfo) -> bool:
    """Return whether an input is one that the role "quantized" asks for."""
    return t.data_type in QUANTISED and t.quantization is not None


def _takes_an_image(_: Case, told: Metadata) -> bool:
    return told.takes_pictures and told.required_inputs[0].data_type in ("float32", "float16", "int8")


def _is_of_integers(t: TensorInfo) -> bool:
    return t.data_type.startswith(("int", "uint")) and t.quantization is None


def is_batched(t: TensorInfo) -> bool:
    """Return whether an input is one that the role "batched" asks for."""
    return len(t.shape) >= 2 and t.shape[0] in (1, -1)


#: role -> whether a model can play it, and what is said of one that cannot
_TO_SEE: Mapping[str, tuple[Callable[[Case, Metadata], bool], str]] = {
    "plain": (
        _is_plain,
        "has not just float32 inputs of two elements or more and float32 outputs: {inputs} -> {outputs}",
    ),
    "several": (lambda _, told: len(told.required_inputs) > 1, "has no second input that every call gives: {inputs}"),
    "optional": (
        _has_an_optional_input,
        "has not one required and one optional input, both of float32 and fixed shape: {inputs}",
    ),
    "quantized": (
        _each(is_quantized),
        "has an input that is not of uint8, int8 or int16 with scale and zero_point: {inputs}",
    ),
    "image": (_takes_an_image, "has no image input (one with a layout) of float32, float16 or int8 alone: {inputs}"),
    "dynamic": (_any(lambda t: -1 in t.shape), "has no input with a dimension of -1: {inputs}"),
    "integers": (
        _each(_is_of_integers),
        "has an input that is not of an integer type without quantisation: {inputs}",
    ),
    "strings": (_any(lambda t: t.data_type == "string"), "has no string input: {inputs}"),
    "batched": (
        _each(is_batched),
        "has an input without a first dimension of 1 or -1 and a second one: {inputs}",
    ),
    "signatures": (lambda case, _: len(case.signatures) > 1, "comes with fewer than two Case.signatures"),
    "labels": (lambda case, _: bool(case.labels), "comes without Case.labels"),
    "failing": (lambda case, _: bool(case.fails_on), "comes without Case.fails_on"),
    "existing": (lambda case, _: Source(case.source).object is not None, "is no existing object, but what load reads"),
}
