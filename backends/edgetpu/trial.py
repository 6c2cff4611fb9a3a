"""The child's side of a model's first load and inference on an Edge TPU."""

from __future__ import annotations

from collections.abc import Mapping

from accelerate.backends.tflite.delegates.trial import outcome
from accelerate.backends.tflite.engines import ENGINES
from accelerate.contract import LoadOptions, Source

from .library import Library
from .model import EdgeTPUModel, connect

__all__ = ["try_model"]


def try_model(
    model: bytes, engine: str, library: str, device: str, delegate_options: Mapping[str, str]
) -> tuple[str, str, str] | None:
    """Load and run a model as the parent is going to; return the error's name, reason and remedy."""
    source = Source(model)

    def build() -> EdgeTPUModel:
        delegate = connect(Library(library), device, delegate_options)
        return EdgeTPUModel.build(ENGINES[engine], source, LoadOptions(), verified=True, delegates=[delegate])

    return outcome(source, build)
