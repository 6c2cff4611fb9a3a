"""Keeps model files away from an engine that does not verify them and would be taken down by a damaged one."""

from __future__ import annotations

from accelerate.contract import ChildError, __version__, verdict
from accelerate.errors import BackendNotAvailableError, ModelError

from .engines import Engine

__all__ = ["verify"]

_TIMEOUT = 30.0


def verify(engine: Engine, model: bytes, name: str, attempt: str) -> None:
    """Check a file's structure, then load and run it in a child process; the verdict is remembered by its SHA-256.

    Parameters
    ----------
    engine : Engine
    model : bytes
    name : str
        The model's, for messages.
    attempt : str
        The "module:function" that the child calls with the model and the engine's option.

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
        crash = verdict("models", key, attempt, checked, _TIMEOUT, option=engine.option).crash
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
