"""The other side of `steps`: finds devices, asks known answers of them, and runs the conformance suite over them.

``python -m accelerate.boards.child TASK ARGUMENTS``
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import registry
from ..api import load, plan
from ..contract import DTYPES, Array, LoadOptions, try_digits
from ..errors import AccelerateError
from ..reports import RuntimeInfo
from ..testing.inputs import random_inputs
from .models import DIGITS

__all__: list[str] = []

#: Seconds after which a child whose parent is gone ends itself, whatever a native library is doing.
_LIMIT = 900
Told = Callable[[Mapping[str, Any]], None]


def _devices(tell: Told, skip: Sequence[str]) -> None:
    """Tell of each backend whether it is available, and its devices: those that wait to be named, too."""
    for name, backend in registry.backends().items():
        if name not in skip:
            tell({"begin": name})
            state, devices = registry.availability(backend), []
            if state.available:
                listed = [asdict(device) for device in registry.devices(backend, LoadOptions())]
                known = {device["id"] for device in listed}
                named = [each for each in backend.named_devices(LoadOptions()) if each not in known]
                devices = listed + [
                    {"id": each, "kind": "", "ready": True, "reason": "only where it is named"} for each in named
                ]
            status = "available" if state.available else "absent"
            tell({"item": name, "status": status, "reason": state.reason, "devices": devices})


def _answers(tell: Told, skip: Sequence[str], backend: str, device: str, models: Sequence[str]) -> None:
    """Tell of each of the project's models whether its answer is the known one, and of others that they answer."""
    here = {"backend": backend, "device": device}
    for path in (*DIGITS, *map(Path, models)):
        if path.name in skip:
            continue
        tell({"begin": path.name})
        try:
            status, reason = _try(path, here)
        except AccelerateError as error:
            status, reason = "failed", str(error)
        tell({"item": path.name, "status": status, "reason": reason})


def _try(path: Path, here: Mapping[str, Any]) -> tuple[str, str]:
    decided = plan(path, **here)
    if decided.chosen is None:
        return "refused", "; ".join(one.reason for one in decided.skipped)
    if path not in DIGITS:
        with load(path, **here) as model:
            model.infer(random_inputs(model))
            return "answered", _said(model.runtime)
    runtime = ""

    def run(file: Path, pixels: Array) -> Array:
        nonlocal runtime
        with load(file, **here) as model:
            runtime = _said(model.runtime)
            (wanted,) = model.metadata().inputs
            shape = [max(1, size) for size in wanted.shape]
            (answer,) = model.infer({wanted.name: pixels.reshape(shape)}, dequantize=False).values()
            return answer

    dtype = next((each for each in DTYPES if each.removesuffix("32") in path.stem), DTYPES[0])
    wrong = try_digits(run, path.suffix, dtypes=[dtype])
    return ("wrong", wrong[dtype][0]) if wrong else ("right", runtime)


def _said(runtime: RuntimeInfo) -> str:
    share = "" if runtime.total is None else f", {runtime.delegated} of {runtime.total} operators delegated"
    return f"{runtime.name} {runtime.version} on {runtime.device}{share}"


def _conformance(tell: Told, skip: Sequence[str], backend: str, device: str, models: Sequence[str]) -> None:
    from .conformance import run_suite

    run_suite(tell, skip, backend, device, models)


_TASKS: Mapping[str, Callable[..., None]] = {"devices": _devices, "answers": _answers, "conformance": _conformance}


def _teller() -> Told:
    """Return what writes a line to stdout as it was: a runtime's and pytest's chatter goes to stderr."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(line: Mapping[str, Any]) -> None:
        if hasattr(signal, "alarm"):
            signal.alarm(_LIMIT)
        print(json.dumps(line), file=pipe, flush=True)

    return tell


if __name__ == "__main__":
    _TASKS[sys.argv[1]](_teller(), **json.loads(sys.argv[2]))
