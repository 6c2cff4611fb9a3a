"""Builds an engine's interpreter for a model file, and watches a file that is mapped."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from accelerate.contract import Array, Source, held_back
from accelerate.errors import ModelError

from .engines import LINES, Engine

__all__ = ["check_file", "make_interpreter", "watched"]

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
    if content is None and engine.verifies and (path := source.utf8_path) is not None:
        model: dict[str, Any] = {"model_path": path}  # mapped by the engine: replicas share the page cache
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


def _outlived(_: Any) -> None:
    """Let go of a delegate, once its interpreter has ended."""


def check_file(source: Source) -> None:
    """Refuse to run on what somebody has written into a file that an engine maps.

    Raises
    ------
    ModelError
    """
    if source.overwritten():
        raise ModelError(
            f"{source} was written to after it was loaded, and holds another model",
            "load it again; replace a model's file by renaming another one over it, which leaves what runs alone",
        )


def watched(run: Callable[[list[Array]], list[Array]], source: Source) -> Callable[[list[Array]], list[Array]]:
    """Return a run that looks at its mapped file first."""

    def run_on_what_was_loaded(feeds: list[Array]) -> list[Array]:
        check_file(source)
        return run(feeds)

    return run_on_what_was_loaded
