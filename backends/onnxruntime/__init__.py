"""ONNX models on the CPU, NVIDIA GPUs and other devices, by ONNX Runtime."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from accelerate.contract import (
    DTYPES,
    Availability,
    Backend,
    Device,
    LoadOptions,
    Match,
    Source,
    Wheels,
    check_settled,
    default_threads,
    refusal,
    try_runtime,
)
from accelerate.errors import AccelerateError, OptionError
from accelerate.metadata import Metadata

if TYPE_CHECKING:
    from accelerate.contract import Conflict, Facts

    from .model import ONNXModel

__all__ = ["ONNXRuntime"]

_WHEELS = Wheels(
    "onnxruntime", (3, 14), ("linux x86_64", "linux aarch64", "darwin arm64", "win32 amd64", "win32 arm64"), (2, 28)
)

#: By which Linux shows an NVIDIA GPU: of a card, of a Jetson.
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu")


class ONNXRuntime(Backend):
    """See the module."""

    name = "onnxruntime"
    description = "ONNX models on the CPU, on NVIDIA GPUs and on what plugins bring, by ONNX Runtime"
    extra = "onnxruntime"
    options = ("full_delegation", "providers", "session_options")
    formats: ClassVar[Mapping[str, str]] = {"onnx": "an ONNX model", "ort": "an ONNX model in ORT format"}

    def kinds(self) -> Sequence[str]:
        return ("gpu", "cpu") if shows_gpu() and _has_gpu_build() else ("cpu",)

    def availability(self) -> Availability:
        from .providers import CPU, known_answers

        return try_runtime(
            "ONNX Runtime", "onnxruntime", _WHEELS.remedy(), _version, lambda: known_answers([CPU], CPU, DTYPES)
        )

    def availability_for(self, source: Source, options: LoadOptions) -> Availability:
        found = try_runtime("ONNX Runtime", "onnxruntime", _WHEELS.remedy(), _version)
        if not found.available or (options.device or "cpu").partition(":")[0] in ("cpu", "cuda", "tensorrt"):
            return found
        from .plugin_packages import plugin_of

        plugin = plugin_of(options.device or "")  # `tune` goes by its version, too
        return found if plugin is None else replace(found, version=f"{found.version} with {plugin}")

    def conflicts(self, facts: Facts) -> Sequence[Conflict]:
        from .conflicts import find_conflicts

        return find_conflicts(facts, _GPU_FILES)

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        return _devices(options, DTYPES, all_plugins=True)

    def named_devices(self, options: LoadOptions) -> Sequence[str]:
        from .providers import named_devices

        settled = {"providers", "session_options"} & options.backend_options.keys()
        return () if settled else named_devices(gpu_here=shows_gpu())

    def devices_for(self, source: Source, options: LoadOptions) -> Sequence[Device]:
        if source.format != "object":
            return _devices(options, DTYPES[:1], all_plugins=False)  # whether it starts; a load has no time for more
        from .providers import device_of_session

        return [device_of_session(source.object)]

    def match(self, source: Source, options: LoadOptions) -> Match:
        if source.holds("onnxruntime", "InferenceSession"):
            check_settled(options, "session")
            if options.signature is not None:
                raise OptionError("an ONNX model has no signatures", "leave signature out")
            return Match(True, "an existing InferenceSession")
        if source.format not in self.formats:
            return refusal(source, "an ONNX model")
        _check_options(options)
        if source.format == "onnx":
            from accelerate.formats.onnx.external_data import external_paths
            from accelerate.formats.onnx.file import ModelFile

            external_paths(source.opened(ModelFile), source.path)  # which reads all of the file but its weights
        elif options.signature is not None:
            raise OptionError("an ONNX model has no signatures", "leave signature out")
        return Match(True, self.formats[source.format])

    @classmethod
    def sniff(cls, head: bytes) -> str:
        return "ort" if head[4:8] == b"ORTM" else ""  # the identifier of onnxruntime/core/flatbuffers/schema/ort.fbs

    def describe(self, source: Source, signature: str | None) -> Metadata | None:
        if source.format != "object":
            return None
        from accelerate.formats.onnx.description import name_values

        from .model import values_of_session

        inputs, outputs = map(name_values, values_of_session(source.object, source))
        return Metadata("", "", "", inputs, outputs)

    def load(self, source: Source, options: LoadOptions) -> ONNXModel:
        from .model import ONNXModel
        from .providers import chain_for

        if source.format == "object":
            return ONNXModel.adopt(source, options)
        assert options.device is not None, "the core has chosen one"
        chain = chain_for(options.device, options.backend_options.get("providers"), default_threads(options))
        return ONNXModel.build(chain, source, options)

    def translate(self, error: Exception, source: Source) -> AccelerateError:
        from .errors import while_loading

        return while_loading(error, str(source))


def _check_options(options: LoadOptions) -> None:
    settings = options.backend_options.get("session_options")
    if settings is not None:
        from .settings import check_session_options

        check_session_options(settings, options.num_threads)
    given = options.backend_options.get("full_delegation", False)
    if not isinstance(given, bool):
        raise OptionError(f"full_delegation is {given!r:.60}; wanted True or False")
    providers: Any = options.backend_options.get("providers")
    if providers is not None:
        from .providers import parse_providers

        parse_providers(providers)
        if options.asked is not None:
            raise OptionError(f"device={options.asked!r} and providers={providers!r:.200} both say where", "give one")
    if settings is not None:
        from .plugin_packages import is_plugged
        from .providers import parse_providers

        if is_plugged(options.device, [name for name, _ in parse_providers(providers)] if providers else ()):
            raise OptionError(
                "session_options cannot go with a plugin's device: what a plugin adds to them stays in them",
                "leave session_options out",
            )


def _devices(options: LoadOptions, dtypes: Sequence[str], *, all_plugins: bool) -> Sequence[Device]:
    from .providers import devices, devices_of_providers

    if options.backend_options.get("providers") is not None:
        return devices_of_providers(options.backend_options["providers"], dtypes)
    return devices(options.device, gpu_here=shows_gpu(), dtypes=dtypes, all_plugins=all_plugins)


def shows_gpu() -> bool:
    """Tell whether this system has an NVIDIA GPU."""
    return any(map(os.path.exists, _GPU_FILES))


def _has_gpu_build() -> bool:
    """Tell whether the installed build of ONNX Runtime brings a provider for GPUs."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return False
    return any((Path(spec.origin).parent / "capi").glob("*onnxruntime_providers_cuda*"))


def _version() -> str:
    from .runtime import import_runtime

    return str(import_runtime().__version__)
