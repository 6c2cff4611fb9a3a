"""Keeps model files away from an engine that does not verify them and would be taken down by a damaged one."""

from __future__ import annotations

import contextlib

import numpy as np

from accelerate.contract import ChildError, LoadOptions, Source, __version__, random_tensor, verdict
from accelerate.errors import AccelerateError, BackendNotAvailableError, ModelError

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
    BackendNotAvailableError
        Nothing can be tried from this program.
    """
    import hashlib

    def checked() -> bytes:
        from accelerate.formats.tflite.structure import check_structure

        check_structure(model, name)
        return model

    key = f"{engine.package} {engine.version()} edge-accelerate {__version__} {hashlib.sha256(model).hexdigest()}"
    try:
        crash = verdict("models", key, f"{__name__}:try_model", checked, _TIMEOUT, option=engine.option).crash
    except ChildError as error:
        if error.impossible:
            raise BackendNotAvailableError(
                f"{engine.title} does not verify files and could crash this program, and {error}",
                f"use engine='litert', or {error.remedy}",
            ) from error
        raise _damaged(engine, name, str(error)) from error
    if crash:
        raise _damaged(engine, name, crash)


def _damaged(engine: Engine, name: str, crash: str) -> ModelError:
    return ModelError(
        f"{name} is damaged: {engine.title}, which does not verify files, tried it in a child process and {crash}",
        "fetch the file again, or use engine='litert', which says what is wrong with it",
    )


def try_model(model: bytes, option: str) -> None:
    """Load and run a model as the parent is going to (child's side). What ends in a typed error is no danger."""
    from .model import TFLiteModel

    with (
        contextlib.suppress(AccelerateError),
        TFLiteModel.build(ENGINES[option], Source(model), LoadOptions(), verified=True) as loaded,
    ):
        random = np.random.default_rng(0)
        for _ in range(_RUNS):
            loaded.infer({t.name: random_tensor(t, random, (0, 1)) for t in loaded.metadata().inputs})
