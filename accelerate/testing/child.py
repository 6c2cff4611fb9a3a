"""What the conformance suite does in a process of its own.

``python -m accelerate.testing.child TASK '[source, backend, options, arguments]'``
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..api import load, plan
from ..contract import Backend, LoadOptions, Source, concrete_shape
from ..errors import AccelerateError, InferenceError, InferenceTimeoutError, ModelError, OptionError, TensorError
from .inputs import random_inputs

_LIGHT = {"accelerate", "numpy", "flatbuffers", *sys.builtin_module_names, *sys.stdlib_module_names}
_COMMON = {field.name for field in fields(LoadOptions)}


def _judge(source: str, backend: str, options: Mapping[str, Any], other: str) -> dict[str, Any]:
    """Let a backend judge its own model and another file; return which packages that has imported."""
    from importlib.metadata import entry_points

    (declared, *_) = [entry for entry in entry_points(group="accelerate.backends") if entry.name == backend]
    before = _packages()
    kind: type[Backend] = declared.load()
    common = {name: value for name, value in options.items() if name in _COMMON}
    own = {name: value for name, value in options.items() if name not in _COMMON}
    found = kind()
    given = Source(source)
    if not given.format and given.path is not None:
        given.format = kind.sniff(given.head)
    found.kinds()
    accepts = found.match(given, LoadOptions(**common, backend_options=own)).accepts
    with contextlib.suppress(AccelerateError):
        found.match(Source(other), LoadOptions(**common, backend_options=own))
    imported = _packages() - before - _LIGHT - {kind.__module__.partition(".")[0]}
    assert plan(other, backend=backend).chosen is None  # which asks other backends, too, whose format it is
    return {"accepts": accepts, "imported": sorted(imported)}


def _packages() -> set[str]:
    return {name.partition(".")[0] for name in tuple(sys.modules)}


def _damage(_: str, backend: str, options: Mapping[str, Any], whole: str) -> dict[str, str]:
    """Load damaged copies of a file, and run what loads; return what has become of each."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:  # the model's own may be anybody's
        damaged = Path(folder) / "damaged.model"
        for what, content, plain in _damaged(Path(whole).read_bytes()):
            print(what, flush=True)  # the last of these names the copy that has ended the process
            damaged.write_bytes(content)
            judged, loaded = _judged(damaged, backend, options), _outcome(damaged, backend, options)
            if plain and judged == "accepted" and loaded == "ModelError":
                loaded = "accepted by match, refused by load: match is to read what load needs"
            found[what] = judged if judged.startswith("raised ") else loaded
    return found


def _damaged(whole: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """Yield what was done, the damaged copy, and whether that is plain to see: it lacks what load needs."""
    choose = random.Random(11)
    for part in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):  # the last bytes may be what only the runtime reads
        yield f"the first {part:.0%}", whole[: max(1, int(part * len(whole)))], part < 0.99
    for _ in range(14):
        at, bit = choose.randrange(len(whole)), choose.randrange(8)
        yield f"bit {bit} of byte {at}", whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :], False


def _judged(file: Path, backend: str, options: Mapping[str, Any]) -> str:
    """Return what becomes of a file before it is loaded: in a plan, and where it is asked what the file says."""
    source = registry.recognize(Source(file))
    try:
        registry.find(backend).describe(source, None)
    except (ModelError, OptionError):
        pass
    except Exception as error:  # whatever it is, it is to be told
        return f"raised {type(error).__name__} in describe: {error}"
    try:
        decided = plan(file, backend=backend, **options)
    except AccelerateError:
        return "refused"
    if failed := [row.reason for row in decided.skipped if row.remedy == registry.BROKEN_REMEDY]:
        return f"raised in match: {failed[0]}"
    return "accepted" if decided.chosen else "refused"


def _outcome(file: Path, backend: str, options: Mapping[str, Any]) -> str:
    try:
        model = load(file, backend=backend, **options)
    except ModelError as error:
        return type(error).__name__
    except Exception as error:  # whatever it is, it is to be told
        return f"raised {type(error).__name__} by load: {error}"
    with model:
        try:
            if any(np.prod(concrete_shape(t.shape), dtype=float) > 1e6 for t in model.metadata().inputs):
                return "too large to feed"
            model.infer(random_inputs(model), timeout=20)
        except (InferenceError, InferenceTimeoutError, ModelError, TensorError) as error:
            return type(error).__name__
        except Exception as error:  # whatever it is, it is to be told
            return f"raised {type(error).__name__} by infer: {error}"
    return "answered"


def _leave(source: str, backend: str, options: Mapping[str, Any]) -> list[str]:
    """End the program while a call and a Binding's run that were left at their deadlines are in work."""
    models = [load(source, backend=backend, **options) for _ in range(2)]
    inputs = random_inputs(models[0])
    binding = models[1].bind()
    for name, value in inputs.items():
        binding.inputs[name][...] = value
    left = []
    for name, call in (
        ("infer", lambda: models[0].infer(inputs, timeout=0.05)),
        ("run", lambda: binding.run(timeout=0.05)),
    ):
        try:
            call()
        except InferenceTimeoutError:
            left.append(name)
    _kept.extend([*models, binding, _Last()])  # nobody closes them
    return left


class _Last:
    """Keeps the interpreter at its end for a second, so that abandoned calls return into it there."""

    def __init__(self) -> None:
        self.wait = time.sleep

    def __del__(self) -> None:
        self.wait(1)


_kept: list[Any] = []
_TASKS: Mapping[str, Callable[..., Any]] = {"judge": _judge, "damage": _damage, "leave": _leave}


if __name__ == "__main__":
    *given, arguments = json.loads(sys.argv[2])
    print(json.dumps(_TASKS[sys.argv[1]](*given, **arguments)), flush=True)
