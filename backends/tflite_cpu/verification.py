"""Keeps model files away from an engine that does not verify them and would be taken down by a damaged one."""

from __future__ import annotations

import numpy as np

from ... import __version__
from ...cache import recall, remember
from ...children import ChildError, run_in_child
from ...errors import AccelerateError, ModelError
from ...reports import LoadOptions
from ...source import Source
from ...tensors import concrete_shape, dtype_of
from .engines import ENGINES, Engine

__all__ = ["verify"]

_TIMEOUT = 30.0
_RUNS = 3


def verify(engine: Engine, model: bytes, name: str) -> None:
    """Check a file's structure, then load and run it in a child process; the verdict is remembered by its SHA-256.

    Raises
    ------
    ModelError
        The file is damaged, crashes the engine, or makes it hang.
    """
    import hashlib

    from ...formats.tflite_structure import check_structure

    key = f"{engine.package} {engine.version()} edge-accelerate {__version__} {hashlib.sha256(model).hexdigest()}"
    verdict = recall("models", key)
    if verdict is None:
        check_structure(model, name)
        try:
            run_in_child("backends.tflite_cpu.verification:try_model", model, _TIMEOUT, option=engine.option)
            verdict = ""
        except ChildError as error:
            verdict = str(error)
            if not error.crashed:  # it may be the machine's load or an installation that changes just now
                raise _damaged(engine, name, verdict) from error
        remember("models", key, verdict)
    if verdict:
        raise _damaged(engine, name, verdict)


def _damaged(engine: Engine, name: str, verdict: str) -> ModelError:
    return ModelError(
        f"{name} is damaged: {engine.title}, which does not verify files, tried it in a child process and {verdict}. "
        "Fetch the file again, or use engine='litert', which says what is wrong with it"
    )


def try_model(model: bytes, option: str) -> bool:
    """Load and run a model as the parent is going to (child's side). What ends in a typed error is no danger."""
    from .model import TFLiteModel

    try:
        with TFLiteModel.build(ENGINES[option], Source(model), LoadOptions(), verified=True) as loaded:
            random = np.random.default_rng(0)
            for _ in range(_RUNS):
                loaded.infer(
                    {
                        t.name: random.integers(0, 2, concrete_shape(t.shape)).astype(dtype_of(t))
                        if t.data_type != "string"
                        else np.full(concrete_shape(t.shape), b"text", object)
                        for t in loaded.metadata().inputs
                    }
                )
    except AccelerateError:
        return False
    return True
