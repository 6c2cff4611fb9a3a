"""A stranger's backend that crashes, hangs and lies on command, installed into a folder as `pip` does it.

Its models are JSON behind "PERIL": what to do when it is loaded ("load"), and in which calls ("every") to do what
("do"). Else a call doubles its three numbers; it also adds the number of calls so far to them where "counts" is true.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from declaring import declare

import accelerate

__all__ = ["MAGIC", "install", "peril"]

MAGIC = b"PERIL"

_PLUGIN = '''\
import ctypes, json, logging, os, signal, socket, sys, time
from accelerate.contract import *
from accelerate.errors import *
from accelerate.metadata import Metadata, TensorInfo


def crash():
    print("driver: the bus has gone", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def spin():
    """In native code, without letting the GIL go."""
    sum(range(10**15))


def block():
    """In the kernel, without letting the GIL go."""
    ctypes.PyDLL(None).sleep(60)


def chatter():
    os.write(2, b"".join(b"line %d of what a driver says\\n" % n for n in range(200_000)))


def babble():
    """Write into whatever socket is open."""
    for descriptor in range(3, 64):
        try:
            socket.socket(fileno=os.dup(descriptor)).send(b"\\xff" * 100)
        except OSError:
            pass


def gossip():
    """Have each later answer come behind lines of the log without an end."""
    from accelerate.combined.isolation import child

    def tell(self, number, runtime):
        while True:
            for part in child.split(number, child.NOTE, b'["dict",["log",["list"]],["runtime",null]]'):
                self._channel.send(part)

    child._Child._tell = tell
    logging.getLogger("accelerate").warning("have you heard")


def cramped():
    """Have no memory for the third and the fifth room: of large inputs, and of large outputs."""
    from accelerate.combined.isolation import child
    region, count = child.Region, iter(range(100))

    def fail(size, descriptor):
        found = region(size, descriptor)
        if next(count) in (2, 4):
            raise MemoryError("no room here")
        return found

    child.Region = fail


def late():
    time.sleep(0.5)
    logging.getLogger("accelerate").warning("better late")


def lie(table):
    """Have each later answer give this as the table of the outputs that have no place."""
    from accelerate.combined.isolation import child
    child._Child._outputs = lambda self, target, left: (17, table)
    child.Served.run = lambda self, *_: [(0, None)]


def shrink():
    """Make all shared memory shorter, which would end who reads it."""
    found = {True: 0, False: 0}
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if "memfd:accelerate " in os.readlink(f"/proc/self/fd/{descriptor}"):
                os.ftruncate(int(descriptor), 0)
                found[True] += 1
        except PermissionError:
            found[False] += 1
        except FileNotFoundError:
            pass
    raise RuntimeError(f"refused: {found[False]}, done: {found[True]}")


ACTS = {
    "crash": crash, "spin": spin, "block": block, "chatter": chatter, "babble": babble,
    "sleep": lambda: time.sleep(60), "nap": lambda: time.sleep(1), "exit": lambda: os._exit(3),
    "shrink": shrink, "raise": lambda: [].pop(), "leave": sys.exit, "hide": lambda: os.close(2),
    "doze": lambda: (time.sleep(0.3), [].pop()),
    "gossip": gossip, "cramped": cramped, "late": late, "lie": lambda: lie(bytes.fromhex(os.environ["PERIL_TABLE"])),
}


class Perilous(RuntimeModel):
    def execute(self, feeds):
        self.calls += 1
        if self.calls % self.told.get("every", 1) == 0 and "do" in self.told:
            ACTS[self.told["do"]]()
        return [2 * feeds[0] + (self.calls if self.told.get("counts") else 0)]

    def describe(self):
        return Metadata("perilous", "", "", self.inputs, self.outputs, stateful=bool(self.told.get("counts")))

    def commands(self):
        return {"look": lambda arguments, until: open(arguments["path"]), "group": self.group}

    def group(self, arguments, until):
        raise ExceptionGroup("several", [ValueError("one")])

    def reset(self):
        self.calls = 0


class Plugin(Backend):
    name, description, extra = "peril", "a stranger's", ""
    formats = {"peril": "a perilous model"}
    options = ("tag",)

    @classmethod
    def sniff(cls, head):
        return "peril" if head.startswith(b"PERIL") else ""

    def match(self, source, options):
        return Match(source.format == "peril", f"{source} is {source.likeness}")

    def availability(self):
        return Availability(True, "Peril 1")

    def devices(self, options):
        return [Device(self.name, "cpu", "cpu", "the CPU")]

    def load(self, source, options):
        told = json.loads(source.read()[5:])
        if "load" in told and self.name == "peril":
            ACTS[told["load"]]()
        if told.get("log"):
            logging.getLogger("accelerate").warning("%s", told["log"])
        shape = (told.get("size", 3),)
        tensors = [TensorInfo("x", shape=shape)], [TensorInfo("y", shape=shape)]
        details = {"tag": options.backend_options.get("tag"), "home": os.getcwd(), "process": os.getpid()}
        model = Perilous(self.name, *tensors, RuntimeInfo("Peril", "1", options.device, details=details), options)
        model.told, model.calls = told, 0
        return model


class Gentle(Plugin):
    """Who loads what the other one dies of."""

    name, formats = "gentle", {}

    @classmethod
    def sniff(cls, head):
        return ""
'''


def install(folder: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> Path:
    """Install it into a folder, and put that on the path."""
    declare(folder, "perilous_plugin", peril="Plugin", gentle="Gentle")
    (folder / "perilous_plugin.py").write_text(_PLUGIN)
    if monkeypatch is not None:
        monkeypatch.syspath_prepend(folder)
        sys.modules.pop("perilous_plugin", None)
    return folder


def peril(**told: Any) -> bytes:
    """Return a model."""
    return MAGIC + json.dumps(told).encode()


def load(told: bytes, **options: Any) -> accelerate.Model:
    """Load a model in a child."""
    return accelerate.load(told, backend="peril", **{"isolation": "process", **options})
