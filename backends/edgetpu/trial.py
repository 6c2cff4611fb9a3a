"""The first load and inference of a model, in a child process: some pairs of library and runtime crash or hang."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from accelerate import errors
from accelerate.backends.tflite.delegates.library import stamp
from accelerate.backends.tflite.engines import ENGINES, Engine
from accelerate.contract import ChildError, LoadOptions, Source, __version__, folder, verdict, verdicts
from accelerate.errors import AccelerateError, BackendNotAvailableError

from .library import Library

__all__ = ["SECONDS", "judge", "known_crash", "prove"]

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
    model, name = source.read(), str(source)
    if not engine.verifies:
        from accelerate.formats.tflite.structure import check_structure

        check_structure(model, name)
    key = _key(model, delegate_options)
    try:
        tried = verdict(
            "edgetpu", _versions(engine, library), f"{__name__}:try_model", lambda: model, SECONDS, key=key, name=name,
            engine=engine.option, library=library.path, device=device, delegate_options=dict(delegate_options),
        )  # fmt: skip
    except ChildError as error:
        raise BackendNotAvailableError(*_about_failure(error, library, name, device)) from error
    if tried.crash:
        raise BackendNotAvailableError(*_about_crash(engine, library, name, tried.crash))
    if tried.wrong:  # about the device as it is now, or a model that is quickly refused again
        kind, reason, remedy = tried.wrong
        raise getattr(errors, kind)(reason.replace(str(Source(model)), name), remedy)


def known_crash(
    engine: Engine, library: Library, source: Source, delegate_options: Mapping[str, str]
) -> tuple[str, str] | None:
    """Return reason and remedy where this very model is remembered to crash these versions."""
    tried = verdicts("edgetpu", _versions(engine, library)).get(_key(source.read(), delegate_options))
    return None if tried is None or not tried.crash else _about_crash(engine, library, str(source), tried.crash)


def judge(engine: Engine, library: Library) -> tuple[bool, str, str]:
    """Say what the models that were tried with a library and engine tell about them.

    Returns
    -------
    usable : bool
        False where some have crashed and none has run.
    reason, remedy : str
        About the last crash; "" where there was none.
    """
    tried = verdicts("edgetpu", _versions(engine, library)).values()
    crashes = [each for each in tried if each.crash]
    if not crashes:
        return True, "", ""
    return len(crashes) < len(tried), *_about_crash(engine, library, crashes[-1].name, crashes[-1].crash)


def _key(model: bytes, delegate_options: Mapping[str, str]) -> str:
    return f"{sorted(delegate_options.items())} {hashlib.sha256(model).hexdigest()}"


def _versions(engine: Engine, library: Library) -> str:
    return (
        f"edge-accelerate {__version__} {library.path} {stamp(library.path)} {engine.package} {engine.version()} "
        f"numpy {np.__version__}"
    )


def _about_crash(engine: Engine, library: Library, name: str, crash: str) -> tuple[str, str]:
    """Return reason and remedy."""
    return (
        f"{library.path} ({library.version}) and {engine.title} {engine.version()} crash together: {name} was tried in "
        f"a child process and {crash}",
        "install a build of the library for this runtime (docs/coral.md, 'Where is PyCoral?'). The verdict holds until "
        f"one of them changes; to try again, delete {folder() / 'edgetpu'}",
    )


def _about_failure(error: ChildError, library: Library, name: str, device: str) -> tuple[str, str]:
    """Return reason and remedy; none of this is remembered."""
    if error.impossible:
        return f"{library.path} could crash this program with {name}, and {error}", error.remedy
    if error.timed_out:  # says as much about the device or the machine's load
        return (
            f"the Edge TPU {device} gave {error} when {name} was tried in a child process",
            "unplug the device and plug it in again, or restart the machine",
        )
    return (
        f"{name} could not be tried on the Edge TPU {device} in a child process: {error}",
        "load it again; where the process was killed, look whether memory is short (sudo dmesg | grep -i oom)",
    )


def try_model(
    model: bytes, engine: str, library: str, device: str, delegate_options: Mapping[str, str]
) -> tuple[str, str, str] | None:
    """Load and run a model as the parent is going to (child's side); return the error's name, reason and remedy."""
    from .model import EdgeTPUModel, connect

    source = Source(model)
    try:
        loaded_library = Library(library)
        delegate = connect(loaded_library, device, delegate_options)
        with EdgeTPUModel.build(ENGINES[engine], source, LoadOptions(), verified=True, delegates=[delegate]) as loaded:
            del delegate
            loaded.warmup()
    except AccelerateError as error:
        return type(error).__name__, error.reason, error.remedy
    except Exception as error:  # it is no crash, and not to be remembered as one
        return "InferenceError", f"{source}: {type(error).__name__}: {error}", ""
    return None
