"""The child's side: it loads one model and does what comes over the channel, until that ends.

``python -m accelerate._child accelerate.combined.isolation.child:serve '{"channel": 5, "lifeline": 6}' 0``
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ... import registry
from ...calls.conversion import Array
from ...contract import Backend
from ...errors import AccelerateError, InferenceError
from ...model import Model
from ...reports import LoadOptions, RuntimeInfo
from ...runtime_model import RuntimeModel
from ...source import Source
from .coding import decode, encode, encode_error
from .frames import FAILED, LOOSE, MOST, NEED, NOTE, ROOM, RUN, TOLD, Packet, run_of, split
from .memory import Region
from .placing import Loose
from .served import Served

__all__ = ["serve"]

_MOST_DESCRIPTORS = 4  # of one packet
_MOST_NOTES = 1000  # lines of the log between two answers


def serve(_: bytes, channel: int, lifeline: int) -> None:
    """Serve one program until it closes the channel, or ends."""
    for descriptor in (channel, lifeline):
        os.set_inheritable(descriptor, False)  # what a runtime starts must not keep them open
    _die_with(lifeline)
    with socket.socket(fileno=channel) as end:
        _Child(end).serve()
    sys.stderr.flush()
    os._exit(0)  # the model is closed: what a runtime does as Python ends has nothing left to save


def _die_with(lifeline: int) -> None:
    """Have the kernel end this process when the other end of a socket closes, whatever it is doing then.

    It is the signal of an event on a descriptor. PR_SET_PDEATHSIG would come when the *thread* ends that has started
    this process, and a thread that watches the socket would wait for a GIL that a native call may never give back.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()
    poller.register(lifeline, 0)
    if poller.poll(0):  # it has closed before
        os._exit(1)


class _Notes(logging.Handler):
    """Keeps what is logged here for the program."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.kept) < _MOST_NOTES:
            self.kept.append((record.name, record.levelno, record.getMessage()))


class _Child:
    """The state of a child: its models, what may be run of them, and the memory that it shares."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._models: dict[int, Model] = {}
        self._targets: dict[int, Served] = {}
        self._plain: dict[bytes, Served] = {}  # the same, by what asks for a plain run
        self._room: dict[str, Region] = {}  # for inputs and outputs that have no place of their own
        self._results: Loose | None = None  # that wait for room
        self._positions: list[int] = []
        self._runtime: Any = None
        self._notes = _Notes()
        self._asks: Mapping[str, Callable[..., Any]] = {
            "load": self._load,
            "signature": self._signature,
            "open": self._open,
            "place": self._place,
            "room": self._take_room,
            "drop": self._drop,
            "command": self._command,
            "phases": self._phases,
        }

    def serve(self) -> None:
        """Do what comes, until the channel ends."""
        parts: list[bytes] = []
        descriptors: list[int] = []
        number = -1
        receive, space = self._channel.recvmsg, socket.CMSG_SPACE(4 * _MOST_DESCRIPTORS)
        try:
            while True:
                data, ancillary, _, _ = receive(MOST, space, socket.MSG_CMSG_CLOEXEC)
                if (plain := self._plain.get(data[4:])) is not None:  # most of all requests: as short as it can be
                    self._answer(data[:4], self._run, plain, b"", 0.0)
                    continue
                if not data:
                    return
                packet = Packet(data)
                if packet.number != number:  # what was begun before was given up
                    parts, descriptors, number = [], [], packet.number
                parts.append(packet.content)
                if ancillary:
                    descriptors += _descriptors(ancillary)
                if not packet.more:
                    self._answer(data[:4], self._do, packet, b"".join(parts), descriptors)
                    parts, descriptors = [], []
        except ConnectionError:  # the program has gone
            return
        finally:
            for model in self._models.values():
                with contextlib.suppress(Exception):
                    model.close()

    def _answer(self, number: bytes, do: Callable[..., tuple[int, bytes] | None], *arguments: Any) -> None:
        """Do something and send what comes of it; None is the plain answer of a run."""
        try:
            answer = do(*arguments)
        except Exception as error:
            answer = FAILED, encode(encode_error(error))
        except SystemExit as error:  # a stranger's code
            answer = FAILED, encode(encode_error(InferenceError(f"the backend ended with SystemExit: {error}")))
        runtime = self._models[0].runtime if self._models else None
        if self._notes.kept or runtime is not self._runtime:
            self._tell(int.from_bytes(number, "little"), runtime)
        if answer is None:
            self._channel.send(number)
            return
        for part in split(int.from_bytes(number, "little"), *answer):
            self._channel.send(part)

    def _do(self, packet: Packet, content: bytes, descriptors: list[int]) -> tuple[int, bytes] | None:
        if packet.kind == RUN:
            return self._run(self._targets[packet.target], content, packet.seconds)
        if packet.kind == ROOM:
            self._take_room("out", int.from_bytes(content, "little"), descriptors)
            return self._lay()
        name, arguments = decode(content)
        told = self._asks[name](**arguments, **({"descriptors": descriptors} if descriptors else {}))
        return TOLD, encode(told)

    def _run(self, target: Served, table: bytes, seconds: float) -> tuple[int, bytes] | None:
        self._results = None
        left = target.run(table, self._room.get("in"), seconds)
        return self._outputs(target, left) if left else None

    def _tell(self, number: int, runtime: RuntimeInfo | None) -> None:
        """Send what was logged, and what the model runs on where that has changed."""
        kept, self._notes.kept = self._notes.kept, []
        told = {"log": kept, "runtime": None if runtime is self._runtime else runtime}
        self._runtime = runtime
        for part in split(number, NOTE, encode(told)):
            self._channel.send(part)

    # Outputs without a place

    def _outputs(self, target: Served, left: list[tuple[int, Array]]) -> tuple[int, bytes]:
        self._positions = [position for position, _ in left]
        self._results = Loose([(target.outputs[position], array) for position, array in left])
        return self._lay()

    def _lay(self) -> tuple[int, bytes]:
        if self._results is None:
            raise InferenceError("there are no outputs that wait for room")
        room = self._room.get("out")
        if room is None or room.size < self._results.size:
            return NEED, self._results.size.to_bytes(8, "little")
        table = self._results.lay(room)
        self._results = None
        count = len(self._positions)
        return LOOSE, np.array([count, *self._positions], np.int64).tobytes() + table

    def _take_room(self, side: str, size: int, descriptors: list[int]) -> None:
        self._room.pop(side, None)  # where there is no memory for this one, the program is asked again
        self._room[side] = Region(size, descriptors[0])

    # What is asked of it

    def _load(
        self, backend: str, source: Any, format: str, likeness: str, options: LoadOptions, folder: str | None,
        level: int, descriptors: list[int] | None = None,
    ) -> Any:  # fmt: skip
        logger = logging.getLogger("accelerate")
        logger.setLevel(level)
        logger.addHandler(self._notes)
        logger.propagate = False
        if folder is not None:
            with contextlib.suppress(OSError):
                os.chdir(folder)
        module, _, name = backend.partition(":")
        kind: type[Backend] = getattr(importlib.import_module(module), name)
        if descriptors:
            with os.fdopen(descriptors[0], "rb") as file:
                source = file.read()
        loaded = kind()
        given = Source(source)
        if not given.format:
            given.format, given.likeness = format, likeness
        with given.kept_open():
            try:
                model = loaded.load(given, options)
            except AccelerateError:
                raise
            except (Exception, SystemExit) as error:
                raise registry.translated(loaded, error, given) from error
            if not isinstance(model, Model):
                wrong = TypeError(f"load() returned {model!r:.60}, wanted one of class Model")
                raise registry.failure(loaded, wrong)
            return self._described(0, model)

    def _signature(self, model: int, signature: str) -> Any:
        return self._described(model, self._models[0].signature(signature))

    def _described(self, number: int, model: Model) -> Any:
        self._models[number] = model
        runtime = model.runtime
        if not number:
            self._runtime = runtime
        ours = model if isinstance(model, RuntimeModel) else None
        try:
            metadata, problem = model.metadata(), None
        except AccelerateError as error:
            if ours is None:
                raise
            metadata, problem = None, encode_error(error)
        tensors: Any = metadata if ours is None else ours
        return {
            "model": number,
            "inputs": tensors.inputs,
            "outputs": tensors.outputs,
            "metadata": metadata,
            "problem": problem,
            "runtime": runtime,
            "assumed": None if ours is None else ours.assumed_normalization,
            "commands": [] if ours is None else list(ours.commands()),
            "phases": model.phases() is not None if ours is None else type(ours).phases is not RuntimeModel.phases,
        }

    def _open(self, model: int, target: int, bound: bool, shapes: Any) -> Any:
        found = self._models[model]
        binding = found.bind(shapes) if bound else None
        self._targets[target] = self._plain[run_of(target)] = Served(found, binding)
        if binding is None:
            return None
        return tuple({name: array.shape for name, array in side.items()} for side in (binding.inputs, binding.outputs))

    def _place(self, target: int, size: int, inputs: Any, outputs: Any, descriptors: list[int]) -> None:
        self._targets[target].place(Region(size, descriptors[0]), inputs, outputs)

    def _drop(self, targets: list[int]) -> None:
        for number in targets:
            self._plain.pop(run_of(number), None)
            target = self._targets.pop(number, None)
            if target is not None and target.binding is not None:
                target.binding.close()

    def _command(self, model: int, command: Any, seconds: float | None) -> Any:
        return self._models[model].do_command(command, timeout=seconds)

    def _phases(self, model: int) -> Any:
        return self._models[model].phases()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found += np.frombuffer(data[: len(data) // 4 * 4], np.int32).tolist()
    return found
