"""TFLite models that are compiled for the Coral Edge TPU, through libedgetpu and LiteRT or tflite-runtime."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...contract import Backend
from ...errors import (
    BackendNotAvailableError,
    DeviceNotFoundError,
    ModelError,
    OptionError,
    UnsupportedModelError,
)
from ...reports import Availability, Device, LoadOptions, Match
from ...source import Source
from ..tflite_cpu.engines import availability as engine_availability
from ..tflite_cpu.engines import check_option, engine_of, pick
from .finding import wanted_file

if TYPE_CHECKING:
    from .model import EdgeTPUModel

__all__ = ["EdgeTPU"]

_log = logging.getLogger("accelerate")


class EdgeTPU(Backend):
    """See the module."""

    name = "edgetpu"
    description = "TFLite models compiled for the Coral Edge TPU, by libedgetpu"
    extra = "edgetpu"
    options = ("engine", "library", "delegate_options")
    priority = 20

    def __init__(self, options: LoadOptions | None = None) -> None:
        self._options = options or LoadOptions()
        self._engine = self._options.backend_options.get("engine")
        self._library = self._options.backend_options.get("library")

    def configured(self, options: LoadOptions) -> EdgeTPU:  # noqa: D102
        check_option(options.backend_options.get("engine"))
        _delegate_options(options.backend_options.get("delegate_options"))
        wanted_file(options.backend_options.get("library"))
        return EdgeTPU(options)

    def availability(self) -> Availability:  # noqa: D102
        from .devices import CONNECT, list_devices
        from .library import open_library
        from .namesake import about_namesake
        from .trial import judge

        state = engine_availability(self._engine)
        if not state.available:
            return state
        try:
            library = open_library(self._library)
        except BackendNotAvailableError as error:
            reason, _, remedy = str(error).partition("; ")
            return Availability(False, reason=reason + about_namesake(), remedy=remedy)
        version = f"{state.version} with Edge TPU runtime {library.runtime_version or 'of unknown version'}"
        usable, crash, remedy = judge(pick(self._engine), library)
        if not usable:
            return Availability(False, version, crash, remedy)
        if not list_devices(self.name, library):
            return Availability(False, version, f"{library.path} works, but no Edge TPU is connected", CONNECT)
        about = f"; it has run other models, but {crash}" if crash else ""
        return Availability(True, version, f"{version} lists an Edge TPU{about}", remedy)

    def devices(self) -> Sequence[Device]:  # noqa: D102
        from .devices import list_devices
        from .library import open_library

        return list_devices(self.name, open_library(self._library))

    def match(self, source: Source) -> Match:  # noqa: D102
        if source.format == "object":
            if _edgetpu_library(source.object) is None:
                return Match(
                    False, f"{source} is no TFLite interpreter with the Edge TPU's delegate", "give the model file"
                )
            _check_settled(self._options)
            return Match(True, "an interpreter with the Edge TPU's delegate")
        from ..tflite_cpu.diagnosis import not_tflite
        from .routing import compiled_twin, is_compiled

        if source.format != "tflite":
            return Match(False, not_tflite(source), "convert it to TFLite, and compile that with edgetpu_compiler")
        if is_compiled(source):
            return Match(True, "a model compiled for the Edge TPU")
        twin, reason, remedy = compiled_twin(source)
        return Match(twin is not None, reason, remedy)

    def load(self, source: Source, options: LoadOptions) -> EdgeTPUModel:  # noqa: D102
        if source.format == "object":
            return self._adopt(source, options)
        from ...formats.tflite_compiled import cpu_twin
        from ..tflite_cpu.diagnosis import not_tflite
        from .routing import compiled_twin, is_compiled

        if source.format != "tflite":
            known = source.format not in ("", "directory")
            raise (UnsupportedModelError if known else ModelError)(f"edgetpu cannot run {source}: {not_tflite(source)}")
        if is_compiled(source):
            try:
                return self._load(source, options)
            except (DeviceNotFoundError, BackendNotAvailableError) as error:
                if twin := cpu_twin(source.path):
                    raise type(error)(f"{error}. On the CPU run the model's twin {twin}") from error
                raise
        twin, reason, remedy = compiled_twin(source)
        if twin is None:
            raise UnsupportedModelError(f"edgetpu cannot run {source}: {reason}; {remedy}")
        model = self._load(Source(twin), options)
        _log.warning("%s: its compiled twin %s runs in its place, on %s", source, twin, model.device)
        model.runtime = replace(model.runtime, details={**model.runtime.details, "compiled_twin": str(twin)})
        return model

    def _load(self, source: Source, options: LoadOptions) -> EdgeTPUModel:
        from ...cpus import default_threads
        from ...formats.tflite import ModelFile
        from .devices import lease, used_before
        from .library import open_library
        from .model import EdgeTPUModel
        from .requirements import needed_runtime
        from .trial import prove

        engine = pick(options.backend_options.get("engine"))
        delegate_options = _delegate_options(options.backend_options.get("delegate_options"))
        ModelFile(source.buffer(), str(source)).check_graphs()
        library = open_library(options.backend_options.get("library"))
        needed, there = needed_runtime(source.buffer()), library.runtime_version
        if needed is not None and there is not None and needed > there:
            raise BackendNotAvailableError(
                f"{source} was compiled for runtime version {needed} of the Edge TPU, and {library.path} has {there}; "
                f"update the library, or compile with: edgetpu_compiler --min_runtime_version {there}"
            )
        held = lease(self.name, library, options.device)
        try:
            # no other process can open a device that this one has open, with this library and engine
            if not used_before(held):
                prove(engine, library, source, held.device.id, delegate_options)
            options = replace(options, num_threads=default_threads(options))
            return EdgeTPUModel.open(engine, library, held, source, options, delegate_options)
        except BaseException:
            held.release()
            raise

    def _adopt(self, source: Source, options: LoadOptions) -> EdgeTPUModel:
        engine, path = engine_of(source.object), _edgetpu_library(source.object)
        if engine is None or path is None:
            raise UnsupportedModelError(
                f"edgetpu takes compiled models, and interpreters with the Edge TPU's delegate, not {source}"
            )
        _check_settled(options)
        from .library import Library
        from .model import EdgeTPUModel

        model = EdgeTPUModel.adopt(engine, source, options)
        listed = Library(path).devices()  # its owner has loaded it already
        device = listed[0].id if len(listed) == 1 else "edgetpu"  # of several, it does not tell which one it has
        model.runtime = replace(model.runtime, device=device)
        return model


def _check_settled(options: LoadOptions) -> None:
    if options.backend_options or options.num_threads is not None or options.device is not None:
        raise OptionError(
            "the engine, library, device and threads of an existing interpreter are settled: leave the options out"
        )


def _edgetpu_library(interpreter: Any) -> str | None:
    """Return the path of the Edge TPU's library that an interpreter's delegates come from."""
    if engine_of(interpreter) is None:
        return None
    for delegate in getattr(interpreter, "_delegates", None) or ():
        library = getattr(delegate, "_library", None)
        if hasattr(library, "edgetpu_list_devices"):  # a ctypes library looks the function up
            return str(getattr(library, "_name", ""))
    return None


def _delegate_options(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise OptionError(f"delegate_options is {given!r}; wanted a mapping such as {{'Performance': 'Max'}}")
    if "device" in given:
        raise OptionError("delegate_options has 'device'; give load(..., device=...) instead")
    return {key: str(value) for key, value in given.items()}
