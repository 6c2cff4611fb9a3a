"""Builds an engine's interpreter for a model file."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.contract import Source, held_back

from .engines import LINES, Engine

__all__ = ["make_interpreter"]

#: What a child calls to try a model for an engine that does not verify files.
_TRY = f"{__package__}.model:try_model"


def make_interpreter(
    engine: Engine,
    source: Source,
    threads: int,
    *,
    verified: bool = False,
    delegates: Sequence[Any] = (),
    content: bytes | None = None,
    plain: bool = False,
) -> Any:
    """Build the engine's Interpreter for a file; what the engine raises about it is in `ENGINE_ERRORS`.

    `content` is the file's where it is known already. `plain` is without the delegate that the engine applies by
    itself.
    """
    interpreter_class = engine.interpreter_class()
    content = source.held() if content is None else content
    if content is None and engine.verifies and source.path is not None and _is_utf8(source.path):
        model: dict[str, Any] = {"model_path": str(source.path)}  # mapped by the engine: replicas share the page cache
    else:
        content = source.read() if content is None else content
        if not (engine.verifies or verified):
            from .verification import verify

            verify(engine, content, str(source), _TRY)
        model = {"model_content": content}
    if plain:
        model["experimental_op_resolver_type"] = engine.resolver("BUILTIN_WITHOUT_DEFAULT_DELEGATES")
    if delegates:
        model["experimental_delegates"] = list(delegates)
    with held_back(LINES):
        interpreter = interpreter_class(num_threads=threads, **model)
    for delegate in delegates:
        # the interpreter's destructor calls into the delegates' kernels, and `Calls` may keep the native interpreter
        # longer than the Python object that holds the delegates
        weakref.finalize(interpreter._interpreter, _outlived, delegate).atexit = False
    return interpreter


def _is_utf8(path: Path) -> bool:
    """Return whether the engine can be given a path: it takes UTF-8 only."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _outlived(_: Any) -> None:
    """Let go of a delegate, once its interpreter has ended."""
