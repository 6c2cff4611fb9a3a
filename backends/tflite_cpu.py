"""TFLite models on the CPU, by LiteRT or tflite-runtime."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from accelerate.backends.tflite.engines import availability, check_option, engine_of, libraries_of, pick
from accelerate.contract import Availability, Backend, Device, LoadOptions, Match, Source, check_settled, refusal
from accelerate.errors import OptionError
from accelerate.metadata import Metadata

if TYPE_CHECKING:
    from accelerate.backends.tflite.model import TFLiteModel
    from accelerate.contract import Conflict, Facts

__all__ = ["TFLiteCPU"]

#: Custom operators that both engines have (BuiltinOpResolver, tensorflow/lite/core/kernels/register.cc).
_KNOWN_OPERATORS = frozenset({"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify"})


class TFLiteCPU(Backend):
    """See the module."""

    name = "tflite_cpu"
    description = "TFLite models on the CPU, by LiteRT or tflite-runtime"
    extra = "litert"
    options = ("engine", "xnnpack")
    formats: ClassVar[Mapping[str, str]] = {"tflite": "a TFLite model"}

    def availability(self) -> Availability:
        return availability()

    def availability_for(self, source: Source, options: LoadOptions) -> Availability:
        return availability(options.backend_options.get("engine"), tried=False)

    def conflicts(self, facts: Facts) -> Sequence[Conflict]:
        from accelerate.backends.tflite.conflicts import find_conflicts

        return find_conflicts(facts)

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        return [Device(self.name, "cpu", "cpu", platform.machine())]

    def match(self, source: Source, options: LoadOptions) -> Match:
        if source.format == "object":
            engine = engine_of(source.object)
            if engine is None:
                if source.holds("ai_edge_litert", "CompiledModel"):
                    reason = f"{source} does not tell what its tensors' integers stand for, as an Interpreter does"
                    return Match(False, reason, "give the path or the bytes that it was made from")
                return Match(False, f"{source} is no TFLite interpreter", "give the model file, or an interpreter")
            if libraries_of(source.object):
                reason = f"{source} has a delegate, which runs what it takes of the model elsewhere"
                return Match(False, reason, "leave backend out, or give backend='tflite_delegate'")
            check_settled(options, "interpreter")
            return Match(True, f"an interpreter of {engine.title}")
        from accelerate.formats.tflite.compiled import COMPILED_OPERATOR, compiled_for_edgetpu

        if source.format != "tflite":
            return refusal(source, "a TFLite model")
        from accelerate.backends.tflite.state import check_replicas
        from accelerate.formats.description import interface_of
        from accelerate.formats.tflite.file import ModelFile

        check_option(options.backend_options.get("engine"))
        _check_xnnpack(options.backend_options.get("xnnpack"))
        file = source.opened(ModelFile)
        file.check_graphs()
        check_replicas(source, options)
        interface_of(source, options.signature)  # what the load reads of it, too
        custom = file.custom_operators
        if COMPILED_OPERATOR in custom:
            return Match(False, *compiled_for_edgetpu(source.path))
        if doubtful := [name for name in custom if name not in _KNOWN_OPERATORS]:
            return Match(
                True, f"a TFLite model with {', '.join(doubtful)}, which the engine may lack (loading shows it)"
            )
        return Match(True, "a TFLite model")

    def describe(self, source: Source, signature: str | None) -> Metadata | None:
        from accelerate.backends.tflite.graph import describe_interpreter

        return describe_interpreter(source, signature)

    def load(self, source: Source, options: LoadOptions) -> TFLiteModel:
        from accelerate.backends.tflite.model import TFLiteModel

        if source.format == "object":
            engine = engine_of(source.object)
            assert engine is not None, "match has said so"
            return TFLiteModel.adopt(engine, source, options)
        return TFLiteModel.build(pick(options.backend_options.get("engine")), source, options)


def _check_xnnpack(given: object) -> None:
    if given not in (None, True, False):
        raise OptionError(
            f"xnnpack is {given!r:.60}; wanted False to leave that delegate out, or True to have it as the engine does"
        )
