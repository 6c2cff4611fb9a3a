"""A request for inference as what it asks for: which tensors it gives, where they lie, and what it wants back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from ...errors import ModelError
from ...formats.open_inference import messages
from ...formats.open_inference.heads import HeadReader
from .refusals import RefusalError

__all__ = ["Given", "Place", "Request", "RequestReader", "Wanted", "invalid"]

_RAW_INPUT = 7  # ModelInferRequest.raw_input_contents


def invalid(reason: str) -> RefusalError:
    """Return the refusal of a request that is wrong by itself."""
    return RefusalError(grpc.StatusCode.INVALID_ARGUMENT, reason)


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in shared memory."""

    region: str
    offset: int
    size: int


@dataclass(frozen=True)
class Given:
    """An input of a request."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    place: Place | None  # None: in the message
    contents: Any  # the InferTensorContents, where it has such a thing; the usual way are raw contents


@dataclass(frozen=True)
class Wanted:
    """An output that a request asks for."""

    name: str
    classes: int  # how many of the largest values, each with its label, in the place of the tensor; 0 for the tensor
    place: Place | None


@dataclass(frozen=True)
class Request:
    """A request without its raw contents.

    Attributes
    ----------
    wanted : tuple of Wanted
        None stands for all outputs.
    regions : set of str
        The names of all regions in it.
    remembered : dict
        For who answers it: what is the same for every such request.
    """

    model: str
    version: str
    id: str
    given: tuple[Given, ...]
    wanted: tuple[Wanted, ...]
    regions: frozenset[str]
    remembered: dict[Any, Any] = field(default_factory=dict)


class RequestReader:
    """Reads requests. Any thread may use it."""

    def __init__(self) -> None:
        self._heads = HeadReader(_RAW_INPUT, "the request", _parsed, _lasts)

    def read(self, message: bytes) -> tuple[Request, list[memoryview]]:
        """Return a serialised ModelInferRequest as a Request, and the raw contents in it as views of it.

        Raises
        ------
        RefusalError
        """
        try:
            return self._heads.read(message)
        except ModelError as error:
            raise invalid(error.reason) from error


def _lasts(request: Request) -> bool:
    return all(given.contents is None for given in request.given)


def _parsed(head: bytes) -> Request:
    from google.protobuf.message import DecodeError

    try:
        said = messages.ModelInferRequest.FromString(head)
    except DecodeError as error:
        raise invalid(f"the request is no ModelInferRequest ({error})") from error
    for name in ("sequence_id", "sequence_start", "sequence_end"):
        if name in said.parameters and _value(said.parameters[name]):
            raise invalid(f"the request has the parameter {name!r}: models that keep state are not served")
    given = tuple(
        Given(
            one.name,
            one.datatype,
            tuple(one.shape),
            _place(one.name, one.parameters),
            one.contents if one.HasField("contents") else None,
        )
        for one in said.inputs
    )
    wanted = tuple(Wanted(one.name, _classes(one), _place(one.name, one.parameters)) for one in said.outputs)
    for side, names in (("input", [t.name for t in given]), ("output", [t.name for t in wanted])):
        if len(set(names)) < len(names):
            raise invalid(f"the request names an {side} twice: {', '.join(map(repr, names)):.300}")
    for one in given:
        if min(one.shape, default=0) < 0:
            raise invalid(f"input {one.name!r} has the impossible shape {list(one.shape)}")
        if one.place is not None and one.contents is not None:
            raise invalid(f"input {one.name!r} has both contents and a shared memory region; give one of them")
    places = [*(one.place for one in given), *(one.place for one in wanted)]
    regions = frozenset(place.region for place in places if place is not None)
    return Request(said.model_name, said.model_version, said.id, given, wanted, regions)


def _place(tensor: str, parameters: Mapping[str, Any]) -> Place | None:
    region = _parameter(tensor, parameters, "shared_memory_region", "string_param", None)
    offset = _parameter(tensor, parameters, "shared_memory_offset", "int64_param", 0)
    size = _parameter(tensor, parameters, "shared_memory_byte_size", "int64_param", 0)
    if region is None:
        if offset or size:
            raise invalid(f"tensor {tensor!r} has a place in shared memory, and no 'shared_memory_region'")
        return None
    if min(offset, size) < 0:
        raise invalid(f"tensor {tensor!r} would lie at {offset} in shared memory and take {size} bytes")
    return Place(region, offset, size)


def _classes(output: Any) -> int:
    classes: int = _parameter(output.name, output.parameters, "classification", "int64_param", 0)
    if "classification" in output.parameters and (classes < 1 or "shared_memory_region" in output.parameters):
        raise invalid(f"output {output.name!r}: classification takes a number from 1, and no shared memory")
    return classes


def _parameter(tensor: str, parameters: Mapping[str, Any], name: str, kind: str, default: Any) -> Any:
    """Return a parameter; of another kind it would be read as 0, and answered with what lies there."""
    if name not in parameters:
        return default
    given = parameters[name].WhichOneof("parameter_choice")
    if given != kind:
        raise invalid(f"tensor {tensor!r} has {name!r} as {given or 'no value'}; wanted {kind}")
    return getattr(parameters[name], kind)


def _value(parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)
