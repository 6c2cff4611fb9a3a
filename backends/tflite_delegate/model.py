"""A TFLite model in an interpreter with a delegate of a library that the user has named."""

from __future__ import annotations

from typing import Any

from accelerate.backends.tflite.calls import Calls
from accelerate.backends.tflite.delegates.model import DelegatedModel
from accelerate.backends.tflite.delegates.share import Share, share_of
from accelerate.backends.tflite.diagnosis import why_unresolved
from accelerate.backends.tflite.engines import Engine
from accelerate.contract import Source
from accelerate.errors import AccelerateError, UnsupportedModelError, one_line
from accelerate.formats.tflite.file import ModelFile

__all__ = ["TFLiteDelegateModel"]

_ON_THE_CPU = "run it on the CPU: backend='tflite_cpu'"


class TFLiteDelegateModel(DelegatedModel):
    """See the module."""

    backend_name = "tflite_delegate"

    @classmethod
    def _share_of(cls, interpreter: Any, *, adopted: bool = False) -> Share | None:
        return None if adopted and _is_allocated(interpreter) else share_of(interpreter)

    def _tell(self, share: Share) -> None:
        if not share.delegated and self._library is not None:
            self.close()
            raise UnsupportedModelError(
                f"{self._library} takes none of the {share.total} operators of {self._source} "
                f"({', '.join(dict.fromkeys(share.others))})",
                f"most NPUs want a model that is quantised to int8 or uint8; or {_ON_THE_CPU}",
            )
        super()._tell(share)

    @staticmethod
    def _why_refused(engine: Engine, source: Source, error: Exception) -> AccelerateError:
        refused = why_unresolved(engine, source, source.opened(ModelFile).custom_operators, error)
        said = str(error)  # "" where a delegate takes none whose shapes only a run tells: that goes to stderr alone
        if type(refused) is UnsupportedModelError or (said and "elegate" not in said):
            return refused
        about = f": {one_line(error)}" if said else ""
        return UnsupportedModelError(f"{source}: with the delegate the interpreter refuses it{about}", _ON_THE_CPU)


def _is_allocated(interpreter: Any) -> bool:
    """Return whether an interpreter has its tensors already, so that the engine's own delegate may have taken some."""
    calls = Calls.of_ours(interpreter, 0)
    details = (*interpreter.get_input_details(), *interpreter.get_output_details())
    return any(calls.placed(int(tensor["index"])) for tensor in details)
