"""TFLite models through any external delegate of the interpreter: a vendor's library for an NPU, a DSP or a GPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from accelerate.backends.tflite.delegates.library_file import find_file, wanted_file
from accelerate.backends.tflite.delegates.options import check_delegate_options
from accelerate.backends.tflite.engines import availability as engine_availability
from accelerate.backends.tflite.engines import check_option, engine_of, libraries_of, pick
from accelerate.contract import Availability, Backend, Device, LoadOptions, Match, Source, check_settled, refusal
from accelerate.errors import BackendNotAvailableError, OptionError
from accelerate.metadata import Metadata

from .known import KIND, title_of

if TYPE_CHECKING:
    from .model import TFLiteDelegateModel

__all__ = ["TFLiteDelegate"]

_DEVICE = "delegate"  # what a library runs on, it does not tell
_EXAMPLE = "{'backend_type': 'htp'}"


class TFLiteDelegate(Backend):
    """See the module."""

    name = "tflite_delegate"
    description = "TFLite models through a delegate's library that you name: Teflon, VX, QNN, Arm NN, ..."
    extra = "tflite-delegate"
    options = ("engine", "library", "delegate_options")
    variables = (KIND.variable,)

    def kinds(self) -> Sequence[str]:
        return ("npu",) if os.environ.get(KIND.variable) else ()

    def availability(self) -> Availability:
        return self._state(LoadOptions(), tried=True)

    def availability_for(self, source: Source, options: LoadOptions) -> Availability:
        if source.format == "object":
            engine = engine_of(source.object)
            assert engine is not None, "match has said so"
            return Availability(True, engine.full_name(), f"{engine.full_name()} has made it")
        state = self._state(options, tried=False)  # of the engine the model itself shows it
        if not state.available:
            return state
        from accelerate.backends.tflite.delegates.trial import Trial

        from .library import open_library

        given = options.backend_options
        trial = Trial(KIND, open_library(given.get("library")), pick(given.get("engine")))
        crash = trial.known_crash(source, check_delegate_options(given.get("delegate_options"), _EXAMPLE))
        return state if crash is None else Availability(False, state.version, *crash)

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        path = find_file(wanted_file(KIND, options.backend_options.get("library")))
        return [Device(self.name, _DEVICE, "npu", title_of(path))]

    def devices_for(self, source: Source, options: LoadOptions) -> Sequence[Device]:
        if source.format == "object":
            return [Device(self.name, _DEVICE, "npu", title_of(_path_of(source)))]
        return self.devices(options)

    def match(self, source: Source, options: LoadOptions) -> Match:
        if source.format == "object":
            if engine_of(source.object) is None or not libraries_of(source.object):
                return Match(False, f"{source} is no TFLite interpreter with a delegate", "give the model file")
            check_settled(options, "interpreter")
            return Match(True, "an interpreter with a delegate")
        from accelerate.backends.tflite.state import check_replicas
        from accelerate.formats.description import interface_of
        from accelerate.formats.tflite.compiled import COMPILED_OPERATOR, compiled_for_edgetpu
        from accelerate.formats.tflite.file import ModelFile

        if source.format != "tflite":
            return refusal(source, "a TFLite model")
        check_option(options.backend_options.get("engine"))
        check_delegate_options(options.backend_options.get("delegate_options"), _EXAMPLE)
        wanted_file(KIND, options.backend_options.get("library"))
        file = source.opened(ModelFile)
        file.check_graphs()
        check_replicas(source, options)
        interface_of(source, options.signature)  # what the load reads of it, too
        if COMPILED_OPERATOR in file.custom_operators:
            return Match(False, *compiled_for_edgetpu(source.path))
        return Match(True, "a TFLite model")

    def describe(self, source: Source, signature: str | None) -> Metadata | None:
        from accelerate.backends.tflite.graph import describe_interpreter

        return describe_interpreter(source, signature)

    def load(self, source: Source, options: LoadOptions) -> TFLiteDelegateModel:
        from accelerate.contract import default_threads

        from .model import TFLiteDelegateModel

        if source.format == "object":
            engine = engine_of(source.object)
            assert engine is not None, "match has said so"
            model = TFLiteDelegateModel.adopt(engine, source, options)
            details = {**model.runtime.details, "library": _path_of(source)}
            model.runtime = replace(model.runtime, device=_DEVICE, details=details)
            return model
        from accelerate.backends.tflite.delegates.trial import Trial

        from .library import open_library

        given = options.backend_options
        engine, library = pick(given.get("engine")), open_library(given.get("library"))
        delegate_options = check_delegate_options(given.get("delegate_options"), _EXAMPLE)
        Trial(KIND, library, engine).prove(source, f"{__name__}.trial:try_model", str(library), delegate_options)
        options = replace(options, num_threads=default_threads(options))
        delegate = library.create(delegate_options)
        model = TFLiteDelegateModel.open(engine, library, source, options, delegate_options, delegate)
        details = {**model.runtime.details, "delegate_options": delegate_options}
        model.runtime = replace(model.runtime, device=_DEVICE, details=details)
        return model

    def _state(self, options: LoadOptions, *, tried: bool) -> Availability:
        """Say whether engine and library can be loaded here, and the library creates a delegate."""
        from .library import open_library, refusal_of

        given = options.backend_options
        if not wanted_file(KIND, given.get("library")):
            return Availability(
                False,
                reason="no delegate's library is named",
                remedy=f"name one: load(..., library=path), or {KIND.variable}=path (docs/delegates.md)",
            )
        state = engine_availability(given.get("engine"), tried=tried)
        if not state.available:
            return state
        try:
            library = open_library(given.get("library"))
        except BackendNotAvailableError as error:
            return Availability(False, reason=error.reason, remedy=error.remedy)
        version = f"{state.version} with {library.dated_name}"
        refused = refusal_of(library, check_delegate_options(given.get("delegate_options"), _EXAMPLE))
        if refused is None:
            return Availability(True, version, f"{version} creates a delegate")
        kind, reason, remedy = refused
        if kind == OptionError.__name__:
            raise OptionError(reason, remedy)
        return Availability(False, version, reason, remedy)


def _path_of(source: Source) -> str:
    """Return the file of the first delegate of an interpreter; "" where it does not tell."""
    return str(getattr(libraries_of(source.object)[0], "_name", ""))
