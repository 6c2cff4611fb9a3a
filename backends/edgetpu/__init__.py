"""TFLite models that are compiled for the Coral Edge TPU, through libedgetpu and LiteRT or tflite-runtime."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accelerate.backends.tflite.delegates.library_file import wanted_file
from accelerate.backends.tflite.delegates.options import check_delegate_options
from accelerate.backends.tflite.engines import availability as engine_availability
from accelerate.backends.tflite.engines import check_option, engine_of, libraries_of, pick
from accelerate.contract import Availability, Backend, Device, LoadOptions, Match, Model, Source, check_settled, refusal
from accelerate.errors import BackendNotAvailableError, DeviceNotFoundError, OptionError
from accelerate.metadata import Metadata

from .library_file import KIND, about_namesake, file_of

if TYPE_CHECKING:
    from accelerate.contract import Conflict, Facts

    from .model import EdgeTPUModel

__all__ = ["EdgeTPU"]

_log = logging.getLogger("accelerate")


class EdgeTPU(Backend):
    """See the module."""

    name = "edgetpu"
    description = "TFLite models compiled for the Coral Edge TPU, by libedgetpu"
    extra = "edgetpu"
    options = ("engine", "library", "delegate_options")
    variables = (KIND.variable,)

    def kinds(self) -> Sequence[str]:
        from .hardware import look

        return ("tpu",) if os.path.isfile(file_of(None)) or look() else ()

    def availability(self) -> Availability:
        from accelerate.backends.tflite.delegates.trial import Trial

        from .library import open_library

        state = _library_state(LoadOptions(), tried=True)
        if not state.available:
            return state
        # which models have crashed is for a load of another one to find out
        usable, crash, remedy = Trial(KIND, open_library(None), pick(None)).judge()
        if not usable:
            return Availability(False, state.version, crash, remedy)
        try:
            self.devices(LoadOptions())
        except DeviceNotFoundError as error:
            return Availability(False, state.version, error.reason, error.remedy)
        about = f"; it has run other models, but {crash}" if crash else ""
        return Availability(True, state.version, f"{state.version} lists an Edge TPU{about}", remedy)

    def availability_for(self, source: Source, options: LoadOptions) -> Availability:
        state = _library_state(options, tried=False)  # of the engine the model itself shows it
        if not state.available or source.format == "object":
            return state
        from accelerate.backends.tflite.delegates.trial import Trial

        from .library import open_library
        from .twins import compiled_twin, is_compiled

        given = options.backend_options
        trial = Trial(KIND, open_library(given.get("library")), pick(given.get("engine")))
        runs = source if is_compiled(source) else Source(compiled_twin(source)[0])
        crash = trial.known_crash(runs, _delegate_options(given.get("delegate_options")))
        return state if crash is None else Availability(False, state.version, *crash)

    def conflicts(self, facts: Facts) -> Sequence[Conflict]:
        from .conflicts import find_conflicts

        return find_conflicts(facts)

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        from .devices import CONNECT, list_devices
        from .library import open_library

        library = open_library(options.backend_options.get("library"))
        found = list_devices(self.name, library)
        if not found:
            raise DeviceNotFoundError(f"{library.path} works, but no Edge TPU is connected", CONNECT)
        return found

    def match(self, source: Source, options: LoadOptions) -> Match:
        if source.format == "object":
            if _edgetpu_library(source.object) is None:
                return Match(
                    False, f"{source} is no TFLite interpreter with the Edge TPU's delegate", "give the model file"
                )
            check_settled(options, "interpreter")
            return Match(True, "an interpreter with the Edge TPU's delegate")
        from accelerate.backends.tflite.state import check_replicas
        from accelerate.formats.tflite.compiled import cpu_twin
        from accelerate.formats.tflite.file import ModelFile

        if source.format != "tflite":
            remedy = source.remedy or "convert it to TFLite, and compile that with edgetpu_compiler"
            return refusal(source, "a TFLite model", remedy=remedy)
        from .twins import compiled_twin, is_compiled

        check_option(options.backend_options.get("engine"))
        _delegate_options(options.backend_options.get("delegate_options"))
        wanted_file(KIND, options.backend_options.get("library"))
        source.opened(ModelFile).check_graphs()
        check_replicas(source, options)
        if is_compiled(source):
            other = cpu_twin(source.path)
            return Match(True, "a model compiled for the Edge TPU", f"on the CPU run its twin {other}" if other else "")
        twin, reason, remedy = compiled_twin(source)
        return Match(twin is not None, reason, remedy)

    def describe(self, source: Source, signature: str | None) -> Metadata | None:
        from accelerate.backends.tflite.graph import describe_interpreter

        return describe_interpreter(source, signature)

    def load(self, source: Source, options: LoadOptions) -> EdgeTPUModel:
        if source.format == "object":
            return self._adopt(source, options)
        from .twins import compiled_twin, is_compiled

        if is_compiled(source):
            return self._load(source, options)
        twin, _, _ = compiled_twin(source)
        assert twin is not None, "match has said so"
        model = self._load(Source(twin), options)
        _log.warning("%s: its compiled twin %s runs in its place, on %s", source, twin, model.device)
        model.runtime = replace(model.runtime, details={**model.runtime.details, "compiled_twin": str(twin)})
        return model

    def load_replicas(self, source: Source, options: LoadOptions, count: int) -> list[Model]:
        # each goes to the stick that the fewest models use, unless one was named
        device = None if options.asked == "tpu" else options.asked
        return super().load_replicas(source, replace(options, device=device), count)

    def _load(self, source: Source, options: LoadOptions) -> EdgeTPUModel:
        from accelerate.backends.tflite.delegates.trial import Trial
        from accelerate.contract import default_threads

        from .devices import lease, used_before
        from .library import open_library
        from .model import EdgeTPUModel
        from .twins import needed_runtime

        engine = pick(options.backend_options.get("engine"))
        delegate_options = _delegate_options(options.backend_options.get("delegate_options"))
        library = open_library(options.backend_options.get("library"))
        needed, there = needed_runtime(source.buffer()), library.runtime_version
        if needed is not None and there is not None and needed > there:
            raise BackendNotAvailableError(
                f"{source} was compiled for runtime version {needed} of the Edge TPU, and {library.path} has {there}",
                f"update the library, or compile with: edgetpu_compiler --min_runtime_version {there}",
            )
        held = lease(self.name, library, options.device)
        try:
            # no other process can open a device that this one has open, with this library and engine
            if not used_before(held):
                device = held.device.id
                attempt, where = f"{__name__}.trial:try_model", f"the Edge TPU {device}"
                Trial(KIND, library, engine).prove(source, attempt, where, delegate_options, device=device)
            options = replace(options, num_threads=default_threads(options))
            return EdgeTPUModel.open_on(engine, library, held, source, options, delegate_options)
        except BaseException:
            held.release()
            raise

    def _adopt(self, source: Source, options: LoadOptions) -> EdgeTPUModel:
        engine, path = engine_of(source.object), _edgetpu_library(source.object)
        assert engine is not None, "match has said so"
        assert path is not None, "match has said so"
        from .library import Library
        from .model import EdgeTPUModel

        model = EdgeTPUModel.adopt(engine, source, options)
        listed = Library(path).devices()  # its owner has loaded it already
        device = listed[0].id if len(listed) == 1 else "edgetpu"  # of several, it does not tell which one it has
        model.runtime = replace(model.runtime, device=device)
        return model


def _library_state(options: LoadOptions, *, tried: bool) -> Availability:
    """Say whether engine and library can be loaded here."""
    from .library import open_library

    state = engine_availability(options.backend_options.get("engine"), tried=tried)
    if not state.available:
        return state
    try:
        library = open_library(options.backend_options.get("library"))
    except BackendNotAvailableError as error:
        return Availability(False, reason=error.reason, remedy=error.remedy + about_namesake())
    version = f"{state.version} with Edge TPU runtime {library.runtime_version or 'of unknown version'}"
    return Availability(True, version, f"{version} can be loaded")


def _edgetpu_library(interpreter: Any) -> str | None:
    """Return the path of the Edge TPU's library that an interpreter's delegates come from."""
    if engine_of(interpreter) is None:
        return None
    for library in libraries_of(interpreter):
        if hasattr(library, "edgetpu_list_devices"):  # a ctypes library looks the function up
            return str(getattr(library, "_name", ""))
    return None


def _delegate_options(given: object) -> dict[str, str]:
    options = check_delegate_options(given, "{'Performance': 'Max'}")
    if "device" in options:
        raise OptionError("delegate_options has 'device'", "give load(..., device=...) instead")
    return options
