"""The child's side of a model's first load and inference with a delegate."""

from __future__ import annotations

from collections.abc import Mapping

from accelerate.backends.tflite.delegates.trial import outcome
from accelerate.backends.tflite.engines import ENGINES
from accelerate.contract import LoadOptions, Source

from .library import NamedLibrary
from .model import TFLiteDelegateModel

__all__ = ["try_model"]


def try_model(
    model: bytes, engine: str, library: str, delegate_options: Mapping[str, str]
) -> tuple[str, str, str] | None:
    """Load and run a model as the parent is going to; return the error's name, reason and remedy.

    One of which the delegate takes nothing runs on the CPU here: the parent finds that out without danger.
    """
    source = Source(model)

    def build() -> TFLiteDelegateModel:
        delegate = NamedLibrary(library).create(delegate_options)
        return TFLiteDelegateModel.build(ENGINES[engine], source, LoadOptions(), verified=True, delegates=[delegate])

    return outcome(source, build)
