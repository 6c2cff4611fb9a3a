"""Strangers' backends for the tests of `tune`, which are as fast, as right and as sound as a test wants them to be."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accelerate import registry

MODEL = b"TOY\0" + bytes(60)

_PLUGIN = """\
import time
from accelerate.contract import *
from accelerate.errors import *
from accelerate.metadata import TensorInfo


class Toy(RuntimeModel):
    def __init__(self, plugin, options):
        self.plugin, self.threads = plugin, options.num_threads
        tensors = [TensorInfo("x", shape=(1, 4))], [TensorInfo("y", shape=(1, 4))]
        details = {{"num_threads": options.num_threads, "replicas": options.replicas}}
        super().__init__(plugin.name, *tensors, RuntimeInfo("Toy", "1", options.device, details=details), options)
        plugin.open.append(self)

    def execute(self, feeds):
        time.sleep(self.plugin.ms / 1e3 / min(self.threads or 1, self.plugin.best))
        return [self.plugin.compute(feeds[0])]

    def release(self):
        self.plugin.open.remove(self)


class Plugin(Backend):
    name, description, extra = {name!r}, "a stranger's", ""
    options = ("mode",)
    kind, ms, best, version, here, named = "cpu", 1.0, 1, "Toy 1", True, ()

    def __init__(self):
        self.open, self.loaded = [], []

    @classmethod
    def sniff(cls, head):
        return "toy" if "toy" in cls.formats and head.startswith(b"TOY") else ""

    def compute(self, x):
        return x * 2

    def kinds(self):
        return (self.kind,)

    def match(self, source, options):
        return Match(source.format == "toy", "a toy model")

    def availability(self):
        return Availability(True, self.version)

    def devices(self, options):
        wanted = [name for name in self.named if name == options.device]
        here = [self.kind] if self.here else []
        return [Device(self.name, name, self.kind, name) for name in (*here, *wanted)]

    def named_devices(self, options):
        return self.named

    def load(self, source, options):
        self.loaded.append(options)
        return Toy(self, options)
"""
_numbers = itertools.count()
Install = Callable[..., Any]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a backend and return it: `own` for the format's own engine; attributes of its class as keywords.

    A `body` of the class is what a child process has of it, too.
    """

    def write(name: str, *, own: bool = False, body: str = "", **attributes: Any) -> Any:
        site, module = tmp_path / "site", f"tune_{name}_{next(_numbers)}"
        info = site / f"{module}-1.dist-info"
        info.mkdir(parents=True)
        (info / "entry_points.txt").write_text(f"[accelerate.backends]\n{name} = {module}:Plugin\n")
        formats = {"toy": "a toy model"} if own else {}
        (site / f"{module}.py").write_text(_PLUGIN.format(name=name) + f"\n    formats = {formats}\n    {body}\n")
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(site)
        backend = registry.backends()[name]
        for attribute, value in attributes.items():
            setattr(backend, attribute, value)
        return backend

    return write


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of the format that they run."""
    path = tmp_path / "net.toy"
    path.write_bytes(MODEL)
    return path
