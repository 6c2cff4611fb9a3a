"""The first load and inference of a model, in a child process: some pairs of library and runtime crash or hang."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from ... import __version__, errors
from ...cache import folder, recall, remember
from ...children import ChildError, run_in_child
from ...contract import LoadOptions
from ...errors import AccelerateError, BackendNotAvailableError
from ...source import Source
from ..tflite_cpu.engines import ENGINES, Engine
from .library import Library, stamp

__all__ = ["SECONDS", "prove"]

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
    key = (
        f"edge-accelerate {__version__} {library.path} {stamp(library.path)} {engine.package} {engine.version()} "
        f"numpy {np.__version__} {sorted(delegate_options.items())} {hashlib.sha256(model).hexdigest()}"
    )
    verdict = recall("edgetpu", key)
    if verdict is None:
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
            verdict = str(error)
        else:
            if outcome["error"]:  # about the device as it is now, or a model that is quickly refused again
                raise getattr(errors, outcome["error"])(outcome["message"])
            verdict = ""
        remember("edgetpu", key, verdict)
    if verdict:
        raise BackendNotAvailableError(
            f"{library.path} ({library.version}) and {engine.title} {engine.version()} crash together: {source} was "
            f"tried in a child process and {verdict}. Install a build of the library for this runtime (README, 'Where "
            f"is PyCoral?'). The verdict holds until one of them changes; to try again, delete {folder() / 'edgetpu'}"
        )


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
