"""A stranger's backend whose models fail on command, for tests of what goes on without them.

::

    source = flaky_backend.write("near")        # bytes of a model: float32 x [3] -> y = 2 x
    flaky_backend.tell("near", DeviceLostError("pulled out"))     # each run raises it
    flaky_backend.tell("near", lambda feeds: time.sleep(1))       # is called before each run
    flaky_backend.tell("near", None)                              # it works again
    flaky_backend.refuse("near", ServerError("not there"))        # loading raises it
    flaky_backend.runs("near"), flaky_backend.loads("near")       # how often it has run, was loaded
"""

from __future__ import annotations

import collections
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from declaring import declare

from accelerate.contract import (
    Array,
    Availability,
    Backend,
    Device,
    LoadOptions,
    Match,
    RuntimeInfo,
    RuntimeModel,
    Source,
)
from accelerate.errors import AccelerateError, InferenceError
from accelerate.metadata import Metadata, Normalization, Quantization, TensorInfo

MAGIC = b"FLAKY"
Said = AccelerateError | Callable[[list[Array]], object] | None

_said: dict[str, Said] = {}
_refused: dict[str, AccelerateError | None] = {}
_runs: collections.Counter[str] = collections.Counter()
_loads: collections.Counter[str] = collections.Counter()
_models: dict[str, Flaky] = {}


def write(name: str, inputs: Any = None, outputs: Any = None, **metadata: Any) -> bytes:
    """Return a model: each output is twice the input at its place, in real numbers."""
    tensors = {"inputs": inputs or [{"name": "x", "shape": [3]}], "outputs": outputs or [{"name": "y", "shape": [3]}]}
    return MAGIC + json.dumps({"name": name, **tensors, **metadata}).encode()


def tell(name: str, said: Said) -> None:
    """Tell models of this name how to run."""
    _said[name] = said


def refuse(name: str, error: AccelerateError | None) -> None:
    """Let the loading of models of this name fail."""
    _refused[name] = error


def runs(name: str) -> int:
    """Return how often models of this name have run, or tried to."""
    return _runs[name]


def loads(name: str) -> int:
    """Return how often one was loaded, or tried to be."""
    return _loads[name]


def newest(name: str) -> Flaky:
    """Return the model of this name that was loaded last."""
    return _models[name]


def let_go() -> None:
    """Hold no model any more."""
    _models.clear()


def forget() -> None:
    """Begin anew."""
    for kept in (_said, _refused, _runs, _loads, _models):
        kept.clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the backend for a test, which no failover's thread may outlive."""
    monkeypatch.syspath_prepend(declare(tmp_path / "site", "flaky_backend", flaky="Plugin"))
    forget()
    yield
    forget()
    assert eventually(lambda: not watchers())


def watchers() -> list[threading.Thread]:
    """Return the threads that try lost models."""
    return [thread for thread in threading.enumerate() if thread.name == "accelerate-failover"]


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait until something is so, and return whether it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def _tensor(said: Mapping[str, Any]) -> TensorInfo:
    given = {**said, "shape": tuple(said["shape"])}
    if (q := given.pop("levels", None)) is not None:
        given["quantization"] = Quantization((q[0],), (q[1],))
    if (n := given.pop("pixels", None)) is not None:
        given["normalization"] = Normalization((n[0],), (n[1],), "metadata")
    if "labels" in given:
        given["labels"] = tuple(given["labels"])
    return TensorInfo(**given)


class Flaky(RuntimeModel):
    """See the module."""

    def __init__(self, name: str, told: Metadata, options: LoadOptions) -> None:
        self.name, self.told = name, told
        info = RuntimeInfo("Flaky", "1", f"{name}:0")
        super().__init__("flaky", told.inputs, told.outputs, info, options)
        _models[name] = self

    def execute(self, feeds: list[Array]) -> list[Array]:
        with _counting:
            _runs[self.name] += 1
        said = _said.get(self.name)
        if callable(said):
            said(feeds)
        elif said is not None:
            raise type(said)(said.reason)
        results = []
        for feed, mine, out in zip(feeds, self.told.inputs, self.told.outputs, strict=True):
            real = _real(feed, mine.quantization)
            real = np.moveaxis(real, -3, -1) if mine.layout.endswith("CHW") else real
            results.append(_levels(2 * real, out))
        return results

    def describe(self) -> Metadata:
        return self.told


_counting = threading.Lock()


def _real(feed: Array, q: Quantization | None) -> Array:
    return feed.astype(np.float64) if q is None else (feed.astype(np.float64) - q.zero_point[0]) * q.scale[0]


def _levels(real: Array, info: TensorInfo) -> Array:
    q = info.quantization
    if q is None:
        return real.astype(info.data_type)
    limits = np.iinfo(info.data_type)
    return np.clip(np.rint(real / q.scale[0] + q.zero_point[0]), limits.min, limits.max).astype(info.data_type)


class Plugin(Backend):
    """Registered as "flaky"."""

    name = "flaky"
    description = "fails on command"
    extra = ""
    formats: ClassVar[Mapping[str, str]] = {"flaky": "a flaky model"}

    @classmethod
    def sniff(cls, head: bytes) -> str:
        return "flaky" if head.startswith(MAGIC) else ""

    def match(self, source: Source, options: LoadOptions) -> Match:
        return Match(source.format == "flaky", f"{source} is {source.likeness}")

    def availability(self) -> Availability:
        return Availability(True, "Flaky 1")

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        return [Device("flaky", "cpu", "cpu", "a flaky CPU")]

    def load(self, source: Source, options: LoadOptions) -> Flaky:
        said = json.loads(source.read()[len(MAGIC) :])
        name = said.pop("name")
        _loads[name] += 1
        if (error := _refused.get(name)) is not None:
            raise type(error)(error.reason)
        inputs, outputs = (tuple(map(_tensor, said.pop(side))) for side in ("inputs", "outputs"))
        labels = tuple(said.pop("labels", ()))
        return Flaky(name, Metadata("", "", "", inputs, outputs, labels, **said), options)

    def translate(self, error: Exception, source: Source) -> AccelerateError:
        return error if isinstance(error, AccelerateError) else InferenceError(str(error))
