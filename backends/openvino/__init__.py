"""TFLite, ONNX and OpenVINO IR models on CPUs, Intel GPUs and NPUs, by OpenVINO."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from accelerate.contract import (
    Availability,
    Backend,
    ChildError,
    Device,
    LoadOptions,
    Match,
    Model,
    Source,
    Wheels,
    check_settled,
    describe_source,
    refusal,
    try_runtime,
)
from accelerate.errors import AccelerateError, BackendNotAvailableError, OptionError
from accelerate.metadata import Metadata

if TYPE_CHECKING:
    from .model import OpenVINOModel

__all__ = ["OpenVINO"]

_ARM = hasattr(os, "uname") and os.uname().machine == "aarch64"
_WHEELS = Wheels(
    "openvino", (3, 14), ("linux x86_64", "linux aarch64", "darwin arm64", "win32 amd64"), (2, 35) if _ARM else (2, 28)
)

_INHERITED = Availability(
    False,
    reason="OpenVINO was started in the process that this one was forked from, and without its threads it would hang",
    remedy="load(..., isolation='process'), fork before the first model is loaded by it, or start the process by spawn",
)


class OpenVINO(Backend):
    """See the module. On the CPU a file's own engine goes before it."""

    name = "openvino"
    description = "TFLite, ONNX and OpenVINO IR models on the CPU and on Intel GPUs and NPUs, by OpenVINO"
    extra = "openvino"
    options = ("config",)
    formats: ClassVar[Mapping[str, str]] = {"openvino": "an OpenVINO IR model"}

    def kinds(self) -> Sequence[str]:
        from .devices import kinds

        return kinds()

    def availability(self) -> Availability:
        from .runtime import inherited

        if inherited():
            return _INHERITED
        if importlib.util.find_spec("openvino") is None:
            return _try()
        from .trial import known_answers

        try:  # before it is imported here
            wrong = known_answers()
        except BackendNotAvailableError as error:
            return Availability(False, reason=error.reason, remedy=error.remedy)
        except ChildError as error:
            if not error.impossible:
                reason = f"OpenVINO was to compute a known answer in a child process, and there was none: {error}"
                return Availability(False, reason=reason, remedy="try again")
            here = _try()
            return replace(here, reason=f"{here.reason}; what it computes is not known, since {error}")
        return _try(lambda: wrong)

    def availability_for(self, source: Source, options: LoadOptions) -> Availability:
        from .runtime import inherited

        if inherited() and options.isolation is None:
            return _INHERITED
        if source.format == "object":  # which shows that it works
            return _try()
        from .libraries import lacks_reader
        from .trial import check_crash

        try:
            check_crash()
        except BackendNotAvailableError as error:
            return Availability(False, reason=error.reason, remedy=error.remedy)
        state = _try()
        if not state.available or options.isolation is not None:
            return state

        return state if (why := lacks_reader(source.format)) is None else Availability(False, state.version, *why)

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        from .devices import check_properties, devices

        found = devices(options.device)
        if config := options.backend_options.get("config"):
            wanted = (row for row in found if options.device in (None, row.id, row.kind, *row.aliases))
            if (first := next(wanted, None)) is not None and first.ready:
                check_properties(first.id, config)
        return found

    def devices_for(self, source: Source, options: LoadOptions) -> Sequence[Device]:
        if source.format != "object":
            return self.devices(options)
        from .devices import device_of, kind_of

        found = device_of(source.object)
        return [Device(self.name, found, kind_of(found), found)]

    def match(self, source: Source, options: LoadOptions) -> Match:
        if source.format == "object":
            return self._match_object(source, options)
        from .fitness import READS, judge

        if source.format not in READS:
            return refusal(source, *READS.values())
        if (config := options.backend_options.get("config")) is not None:
            from .compiling import check_config

            check_config(config, options.num_threads)
        return judge(source, options)

    def _match_object(self, source: Source, options: LoadOptions) -> Match:
        if not source.holds("openvino", "CompiledModel"):
            if source.holds("openvino", "Model"):
                return Match(False, f"{source} is not compiled for a device", "give core.compile_model(model, 'CPU')")
            return refusal(source, "a model file", "a CompiledModel")
        check_settled(options, "CompiledModel")
        if options.signature is not None:
            raise OptionError("a CompiledModel has no signatures", "leave signature out")
        return Match(True, "an existing CompiledModel")

    def describe(self, source: Source, signature: str | None) -> Metadata | None:
        if source.format != "object":
            return None
        from .ports import described_ports

        return described_ports(source.object)

    def load(self, source: Source, options: LoadOptions) -> OpenVINOModel:
        return self._models(source, options, 1)[0]

    def load_replicas(self, source: Source, options: LoadOptions, count: int) -> list[Model]:
        return [*self._models(source, options, count)]

    def _models(self, source: Source, options: LoadOptions, count: int) -> list[OpenVINOModel]:
        from .compiling import compiled, with_required
        from .model import OpenVINOModel

        if source.format == "object":
            return [OpenVINOModel(source.object, source, self._told(source, options), options, {})]
        told = with_required(self._told(source, options))
        made, kept = compiled(source, told, options, count)
        return [OpenVINOModel(made, source, told, options, kept) for _ in range(count)]

    def _told(self, source: Source, options: LoadOptions) -> Metadata:
        told = self.describe(source, None) or describe_source(source, options.signature)
        assert told is not None, "match has taken it"
        return told

    def translate(self, error: Exception, source: Source) -> AccelerateError:
        from .errors import while_loading

        return while_loading(error, str(source))


def _try(compute: Callable[[], Mapping[str, Sequence[str]]] | None = None) -> Availability:
    """Say whether OpenVINO can be imported here, and computes what is known, where `compute` tells what is wrong."""
    from .runtime import version

    return try_runtime("OpenVINO", "openvino", _WHEELS.remedy(), version, compute)
