"""The first load and inference of a model, in a child process: some pairs of library and runtime crash or hang."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import __version__, errors
from ...cache import folder, recall, remember
from ...children import ChildError, run_in_child
from ...errors import AccelerateError, BackendNotAvailableError
from ...reports import LoadOptions
from ...source import Source
from ..tflite_cpu.engines import ENGINES, Engine
from .library import Library, stamp

__all__ = ["SECONDS", "judge", "prove"]

#: Until the child is given up: a Raspberry Pi starts Python, opens the stick and sends it a large model within this.
SECONDS = 60.0


def prove(engine: Engine, library: Library, source: Source, device: str, delegate_options: Mapping[str, str]) -> None:
    """Load and run a model once in a child process, unless these very versions have been tried with this very model.

    Raises
    ------
    BackendNotAvailableError
        They crash or hang together.
    AccelerateError
        What the child was told: no device, a model that is refused.
    """
    model = source.read()
    if not engine.verifies:
        from ...formats.tflite_structure import check_structure

        check_structure(model, str(source))
    key = f"{sorted(delegate_options.items())} {hashlib.sha256(model).hexdigest()}"
    known = _verdicts(engine, library).get(key)
    if known is None:
        crash = _try_in_child(engine, library, model, source, device, delegate_options)
        # read again: another process may have added to them meanwhile
        verdicts = {**_verdicts(engine, library), key: [str(source), crash]}
        remember("edgetpu", _pair(engine, library), verdicts)
    else:
        crash = known[1]
    if crash:
        reason, remedy = _about_crash(engine, library, str(source), crash)
        raise BackendNotAvailableError(f"{reason}. {remedy[0].upper()}{remedy[1:]}")


def judge(engine: Engine, library: Library) -> tuple[bool, str, str]:
    """Say what the models that were tried with a library and engine tell about them.

    Returns
    -------
    usable : bool
        False where some have crashed and none has run.
    reason, remedy : str
        About the last crash; "" where there was none.
    """
    verdicts = _verdicts(engine, library).values()
    crashes = [(name, crash) for name, crash in verdicts if crash]
    if not crashes:
        return True, "", ""
    return len(crashes) < len(verdicts), *_about_crash(engine, library, *crashes[-1])


def _pair(engine: Engine, library: Library) -> str:
    return (
        f"edge-accelerate {__version__} {library.path} {stamp(library.path)} {engine.package} {engine.version()} "
        f"numpy {np.__version__}"
    )


def _verdicts(engine: Engine, library: Library) -> Mapping[str, Any]:
    """Return what is remembered: for each model and its options its name, and how it crashed or ""."""
    known = recall("edgetpu", _pair(engine, library))
    return known if isinstance(known, dict) else {}


def _about_crash(engine: Engine, library: Library, name: str, crash: str) -> tuple[str, str]:
    """Return reason and remedy."""
    return (
        f"{library.path} ({library.version}) and {engine.title} {engine.version()} crash together: {name} was tried in "
        f"a child process and {crash}",
        "install a build of the library for this runtime (README, 'Where is PyCoral?'). The verdict holds until one of "
        f"them changes; to try again, delete {folder() / 'edgetpu'}",
    )


def _try_in_child(
    engine: Engine, library: Library, model: bytes, source: Source, device: str, delegate_options: Mapping[str, str]
) -> str:
    """Return how the child crashed, "" if it ran the model."""
    try:
        outcome = run_in_child(
            "backends.edgetpu.trial:try_model", model, SECONDS,
            engine=engine.option, library=library.path, device=device, delegate_options=dict(delegate_options),
            name=str(source),
        )  # fmt: skip
    except ChildError as error:
        if error.timed_out:  # says as much about the device or the machine's load: not remembered
            raise BackendNotAvailableError(
                f"the Edge TPU {device} gave no answer within {SECONDS:g} s when {source} was tried in a child "
                "process: unplug the device and plug it in again, or restart the machine"
            ) from error
        if not error.crashed:
            raise BackendNotAvailableError(
                f"{source} could not be tried on the Edge TPU {device} in a child process: {error}. Load it again; "
                "where the process was killed, look whether memory is short (sudo dmesg | grep -i oom)"
            ) from error
        return str(error)
    if outcome["error"]:  # about the device as it is now, or a model that is quickly refused again
        raise getattr(errors, outcome["error"])(outcome["message"])
    return ""


def try_model(
    model: bytes, engine: str, library: str, device: str, delegate_options: Mapping[str, str], name: str
) -> dict[str, str]:
    """Load and run a model as the parent is going to (child's side)."""
    from .model import EdgeTPUModel, connect

    try:
        loaded_library = Library(library)
        delegate = connect(loaded_library, device, delegate_options)
        with EdgeTPUModel.build(
            ENGINES[engine], Source(model), LoadOptions(), verified=True, delegates=[delegate]
        ) as loaded:
            del delegate
            loaded.warmup()
    except AccelerateError as error:
        return {"error": type(error).__name__, "message": str(error).replace(str(Source(model)), name)}
    except Exception as error:  # it is no crash, and not to be remembered as one
        return {"error": "InferenceError", "message": f"{name}: {type(error).__name__}: {error}"}
    return {"error": "", "message": ""}
