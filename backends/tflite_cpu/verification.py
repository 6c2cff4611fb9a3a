"""Finds out in a child process whether a model file takes an engine down that does not verify files."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ...cache import recall, remember
from ...children import ChildError, run_in_child
from ...errors import ModelError
from .engines import ENGINES, Engine

__all__ = ["verify"]

_TIMEOUT = 30.0


def verify(engine: Engine, model: bytes, name: str) -> None:
    """Load and run a model once in a child process; the verdict is remembered by the model's SHA-256.

    Raises
    ------
    ModelError
        The file crashes the engine or makes it hang.
    """
    key = f"{engine.package} {engine.version()} {hashlib.sha256(model).hexdigest()}"
    verdict = recall("models", key)
    if verdict is None:
        try:
            run_in_child("backends.tflite_cpu.verification:try_model", model, _TIMEOUT, option=engine.option)
            verdict = ""
        except ChildError as error:
            verdict = str(error)
            if error.timed_out:  # says as much about the machine's load as about the file: not remembered
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
    """Load a model and run it on random inputs (child's side). What the engine refuses by itself is no danger."""
    try:
        interpreter = ENGINES[option].interpreter_class()(model_content=model)
        interpreter.allocate_tensors()
        random = np.random.default_rng(0)
        for tensor in interpreter.get_input_details():
            interpreter.set_tensor(tensor["index"], _random_input(random, tensor))
        interpreter.invoke()
        for tensor in interpreter.get_output_details():
            interpreter.get_tensor(tensor["index"])
    except (ValueError, RuntimeError):
        return False
    return True


def _random_input(random: np.random.Generator, tensor: dict[str, Any]) -> Any:
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind == "S":
        return np.full(tensor["shape"], b"text", object)
    return random.integers(0, 2, size=tensor["shape"]).astype(dtype)
