"""TFLite models on the CPU, by LiteRT or tflite-runtime."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from ...contract import Backend
from ...errors import DeviceNotFoundError, ModelError, OptionError, UnsupportedModelError
from ...reports import Availability, Device, LoadOptions, Match
from ...source import Source
from .engines import availability, check_option, engine_of, pick
from .model import TFLiteModel

__all__ = ["TFLiteCPU"]

#: Custom operators that both engines have (BuiltinOpResolver, tensorflow/lite/core/kernels/register.cc).
_KNOWN_OPERATORS = frozenset({"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify"})


class TFLiteCPU(Backend):
    """See the module."""

    name = "tflite_cpu"
    description = "TFLite models on the CPU, by LiteRT or tflite-runtime"
    extra = "litert"
    options = ("engine",)
    priority = 10

    def __init__(self, options: LoadOptions | None = None) -> None:
        self._options = options or LoadOptions()
        self._engine = self._options.backend_options.get("engine")

    def configured(self, options: LoadOptions) -> TFLiteCPU:  # noqa: D102
        check_option(options.backend_options.get("engine"))
        return TFLiteCPU(options)

    def availability(self) -> Availability:  # noqa: D102
        return availability(self._engine)

    def devices(self) -> Sequence[Device]:  # noqa: D102
        return [Device(self.name, "cpu", "cpu", platform.machine())]

    def match(self, source: Source) -> Match:  # noqa: D102
        if source.format == "object":
            engine = engine_of(source.object)
            if engine is None:
                return Match(False, f"{source} is no TFLite interpreter", "give the model file, or an interpreter")
            _check_settled(self._options)
            return Match(True, f"an interpreter of {engine.title}")
        from ...formats.tflite import custom_operators
        from ...formats.tflite_compiled import COMPILED_OPERATOR, compiled_for_edgetpu
        from .diagnosis import not_tflite

        if source.format != "tflite":
            return Match(False, not_tflite(source), "convert it to TFLite, or use the backend for its format")
        custom = custom_operators(source.buffer(), str(source))
        if COMPILED_OPERATOR in custom:
            return Match(False, *compiled_for_edgetpu(source.path))
        if doubtful := [name for name in custom if name not in _KNOWN_OPERATORS]:
            return Match(
                True, f"a TFLite model with {', '.join(doubtful)}, which the engine may lack (loading shows it)"
            )
        return Match(True, "a TFLite model")

    def load(self, source: Source, options: LoadOptions) -> TFLiteModel:  # noqa: D102
        if options.device not in (None, "cpu"):
            raise DeviceNotFoundError(f"tflite_cpu has no device {options.device!r}; its only device is 'cpu'")
        if source.format == "object":
            return self._adopt(source, options)
        if source.format != "tflite":
            from .diagnosis import not_tflite

            known = source.format not in ("", "directory")
            raise (UnsupportedModelError if known else ModelError)(
                f"tflite_cpu cannot run {source}: {not_tflite(source)}"
            )
        return TFLiteModel.build(pick(options.backend_options.get("engine")), source, options)

    def _adopt(self, source: Source, options: LoadOptions) -> TFLiteModel:
        engine = engine_of(source.object)
        if engine is None:
            raise UnsupportedModelError(f"tflite_cpu takes TFLite models and interpreters, not {source}")
        _check_settled(options)
        return TFLiteModel.adopt(engine, source, options)


def _check_settled(options: LoadOptions) -> None:
    if "engine" in options.backend_options or options.num_threads is not None:
        raise OptionError("the engine and threads of an existing interpreter are settled: leave these options out")
