"""A model that is served: how it reads in the protocol, and how it answers a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic, perf_counter_ns
from typing import Any

import grpc

from ...calls.conversion import Array, dtype_of
from ...calls.deadlines import left
from ...errors import InferenceTimeoutError, UnsupportedModelError
from ...formats.open_inference import messages
from ...formats.open_inference.description import PARAMETER, to_text
from ...metadata import Metadata, TensorInfo
from ...model import Model
from .places import CancelledError, Places
from .refusals import RefusalError
from .regions import Region, Regions, Rooms
from .requests import Request, Wanted, invalid
from .running import runner
from .statistics import Statistics
from .tensors import DATATYPES, answer, arrays

__all__ = ["Served", "check"]

_VERSION = "1"
_LONGEST = 1e8  # seconds, three years: a deadline that is further off is none
_LAYOUTS = {"NHWC": "FORMAT_NHWC", "NCHW": "FORMAT_NCHW", "HWC": "FORMAT_NHWC", "CHW": "FORMAT_NCHW"}


def check(name: str, metadata: Metadata) -> None:
    """Refuse a model that cannot be served.

    Raises
    ------
    UnsupportedModelError
        It keeps state between calls, or has a tensor of a type that the protocol has no word for.
    """
    if metadata.stateful:
        raise UnsupportedModelError(
            f"{name!r} keeps values from one call to the next, which its clients would share",
            "load it in the program that uses it",
        )
    for tensor in (*metadata.inputs, *metadata.outputs):
        if tensor.data_type not in DATATYPES:
            raise UnsupportedModelError(
                f"{name!r}: tensor {tensor.name!r} is {tensor.data_type}, which the protocol has no word for; "
                f"it has {', '.join(sorted(DATATYPES))}"
            )


class Served:
    """A model by the name that its clients use.

    Parameters
    ----------
    name : str
    model : Model
        It stays the caller's, to be closed by it.

    Raises
    ------
    UnsupportedModelError
        As `check`.
    """

    def __init__(self, name: str, model: Model) -> None:
        self.name, self.model = name, model
        self.statistics = Statistics()
        self._metadata = model.metadata()
        check(name, self._metadata)
        self._run_model = runner(model)
        self._rooms = Rooms()
        self._places = Places(max(1, model.concurrency))
        self._inputs = _by_every_name(self._metadata.inputs)
        self._outputs = {t.name: t for t in self._metadata.outputs}
        self._dtypes = [(t.name, dtype_of(t)) for t in self._metadata.outputs]
        self._every = tuple(Wanted(name, 0, None) for name in self._outputs)
        labels = self._metadata.labels
        self._labels = {t.name: t.labels or labels for t in self._metadata.outputs}

    # How it reads

    @property
    def _platform(self) -> str:
        return f"{self.model.backend} {self.model.device}"

    def described(self) -> Any:
        """Return a ModelMetadataResponse."""
        said = messages.ModelMetadataResponse(name=self.name, versions=[_VERSION], platform=self._platform)
        for tensors, infos in ((said.inputs, self._metadata.inputs), (said.outputs, self._metadata.outputs)):
            for info in infos:
                tensors.add(name=info.name, datatype=DATATYPES[info.data_type], shape=info.shape)
        return said

    def configured(self) -> Any:
        """Return a ModelConfig, in which the whole Metadata stands as a parameter."""
        said = messages.ModelConfig(name=self.name, backend=self.model.backend, platform=self._platform)
        types = type(said).DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name
        for info in self._metadata.inputs:
            tensor = said.input.add(name=info.name, data_type=_type(types, info), dims=info.shape)
            tensor.optional = info.optional
            if info.layout in _LAYOUTS and len(info.shape) == len(info.layout):
                tensor.format = messages.ModelInput.Format.Value(_LAYOUTS[info.layout])
        for info in self._metadata.outputs:
            tensor = said.output.add(name=info.name, data_type=_type(types, info), dims=info.shape)
            if info.labels or (len(self._outputs) == 1 and self._metadata.labels):
                tensor.label_filename = "labels.txt"
        group = said.instance_group.add(name=self.name, count=max(1, self.model.concurrency))
        kinds = type(group).DESCRIPTOR.enum_types_by_name["Kind"].values_by_name
        group.kind = kinds[_kind(self.model.device)].number
        said.parameters[PARAMETER].string_value = to_text(self._metadata)
        return said

    # How it answers

    def infer(self, request: Request, raw: Sequence[memoryview], regions: Regions, context: Any) -> bytes:
        """Return a serialised ModelInferResponse.

        Raises
        ------
        RefusalError, AccelerateError, and what a stranger's backend raises
        """
        began = perf_counter_ns()
        taken: list[Array] = []
        lent: dict[str, Region] = {}
        try:
            until = _until(context)
            wanted = self._wanted(request)
            lent = regions.lend(request.regions)
            feeds = arrays(request, raw, self._inputs, lent, self._rooms, taken)
            moments = [began, perf_counter_ns()]
            outputs = self._run(feeds, until, context, moments)
            answered = answer(request, wanted, outputs, self._outputs, self._labels, lent)
        except Exception:  # a stranger's backend may raise anything
            self.statistics.record_failure(perf_counter_ns() - began)
            raise
        finally:
            regions.give_back(lent)
        for room in taken:  # after an error a runtime may still be reading there
            self._rooms.give(room)
        moments.append(perf_counter_ns())
        self.statistics.record(moments)
        return answered

    def _wanted(self, request: Request) -> Sequence[Wanted]:
        unknown = [one.name for one in request.wanted if one.name not in self._outputs]
        if unknown:
            known = ", ".join(map(repr, self._outputs))
            raise invalid(f"unexpected inference output {unknown[0]!r}; the model's outputs: {known}")
        return request.wanted or self._every

    def _run(self, feeds: Mapping[str, Array], until: float | None, context: Any, moments: list[int]) -> Any:
        try:
            self._places.enter(left(until), context.add_callback)
        except CancelledError as error:
            raise RefusalError(grpc.StatusCode.CANCELLED, "the caller has left") from error
        try:
            if not context.is_active():
                raise RefusalError(grpc.StatusCode.CANCELLED, "the caller has left")
            moments.append(perf_counter_ns())
            outputs = self._run_model(feeds, left(until), context)
        finally:
            self._places.leave()
        moments.append(perf_counter_ns())
        self._check_outputs(outputs)
        return outputs

    def _check_outputs(self, outputs: Mapping[str, Array]) -> None:
        for name, dtype in self._dtypes:
            if outputs[name].dtype != dtype:
                raise RefusalError(
                    grpc.StatusCode.INTERNAL, f"output {name!r} came as {outputs[name].dtype}; the model says {dtype}"
                )


def _by_every_name(infos: Sequence[TensorInfo]) -> dict[str, TensorInfo]:
    return {name: info for info in reversed(infos) for name in (*reversed(info.aliases), info.name)}


def _type(types: Any, info: TensorInfo) -> int:
    theirs = DATATYPES[info.data_type]
    number: int = types[f"TYPE_{'STRING' if theirs == 'BYTES' else theirs}"].number
    return number


def _kind(device: str) -> str:
    if device == "cpu":
        return "KIND_CPU"
    return "KIND_GPU" if device.partition(":")[0] in ("gpu", "cuda", "tensorrt") else "KIND_MODEL"


def _until(context: Any) -> float | None:
    remaining = context.time_remaining()
    if remaining is None or remaining > _LONGEST:  # "no deadline" is 9e18 to gRPC, which no lock accepts
        return None
    if remaining <= 0:
        raise InferenceTimeoutError("the deadline of the request had passed when it arrived")
    return monotonic() + float(remaining)
