"""The shared memory regions of one model: made, registered with the server, lent to calls, and let go of, once each.

A region is neither reused nor let go of while the server may still work on it. A call whose end is not known (its
deadline passed, a connection broke) leaves its region dirty. The server refuses to unregister a region that a request
uses, so unregistering it is how we learn that it is free again.
"""

from __future__ import annotations

import threading

from accelerate.contract import Array
from accelerate.errors import AccelerateError, ClosedError
from accelerate.formats.open_inference import messages

from ..connection import Connection, Deadline
from ..errors import SharingError, region_in_use, translate
from .request import Layout
from .shared_memory import Region, sweep

__all__ = ["Regions", "Slot"]

_LIMIT = 16  # per model, so that calls which the server never ends cannot fill /dev/shm
_REMEMBERED = 64
_GOODBYE = 0.05  # seconds that letting go may spend on telling the server
_PAUSE = 0.005  # seconds until a region in use is asked for again


class Slot:
    """A region, and the request that goes with what lies in it; a `bound` one belongs to a Binding."""

    def __init__(self, region: Region, *, bound: bool) -> None:
        self.region, self.bound = region, bound
        self.busy = True  # a call of ours uses it
        self.dirty = False  # the server may still work on it
        self.registered = False
        self.discarded = False
        self.layout: Layout | None = None
        self.inputs: list[Array | None] = []
        self.outputs: list[Array | None] = []
        self.request = b""
        self._generation = 0
        self.confirmed = b""  # the answer that has been found to say: every output lies in its view

    def arrange(self, layout: Layout) -> None:
        """Divide the region as a layout says."""
        if self.layout is not layout:
            self.confirmed = b""
            self.inputs, self.outputs = layout.views(self.region.memory)
            self.request = layout.request(self.name)
            self.layout = layout

    @property
    def name(self) -> str:
        """By which the server knows the region: its file's name and a number."""
        return f"{self.region.name}.{self._generation}"

    def released(self) -> None:
        """Note that the server has let go of the region.

        A request that we gave up may still be on its way. It must not find the region when that is registered anew and
        holds another call's tensors: so the name is another one then.
        """
        self.dirty = self.registered = False
        self._generation += 1
        if self.layout is not None:
            self.request = self.layout.request(self.name)


class Regions:
    """See the module. Any thread may use it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.pid = connection.pid
        self._who = str(connection.address)
        self._lock = threading.Lock()
        self._all: set[Slot] = set()
        self._free: list[Slot] = []
        self._abandoned: list[Slot] = []
        self._still_registered: list[str] = []  # of slots that are gone; the server was still using them
        self._closed = False

    def sweep(self, deadline: Deadline) -> None:
        """Remove what dead clients have left, here and on the server."""
        request = messages.SystemSharedMemoryStatusRequest()
        status = self._connection.ask("SystemSharedMemoryStatus", request, deadline.left(self._who))
        for name in sweep(status.regions):
            self._unregister(name, deadline)

    def take(self, layout: Layout, deadline: Deadline) -> Slot | None:
        """Return a slot for one call, arranged for the layout; None where no more may be made.

        Raises
        ------
        OSError
            There is too little shared memory.
        ServerError, ModelError, InferenceError, InferenceTimeoutError, ClosedError
            The server does not take the region.
        """
        slot = self._idle(layout.size) or self._recovered(layout.size) or self._new(layout.size)
        if slot is not None:
            self._prepare_or_give(slot, layout, deadline)
        return slot

    def bind(self, layout: Layout, deadline: Deadline) -> Slot:
        """Return a slot that is the caller's until `discard`."""
        slot = self._add(Slot(Region(layout.size), bound=True))
        self._prepare_or_give(slot, layout, deadline)
        self.give(slot)
        return slot

    def begin(self, slot: Slot) -> None:
        """Note that a call uses a Binding's slot."""
        with self._lock:
            if self._closed or slot.discarded:
                raise ClosedError(f"the model {self._who} is closed", "load it again")
            slot.busy = True

    def give(self, slot: Slot) -> None:
        """End a call's use of a slot."""
        with self._lock:
            slot.busy = False
            keep = not (self._closed or slot.discarded)
            if keep and not slot.bound:
                self._free.append(slot)
        if not keep:
            self._let_go(slot, Deadline(_GOODBYE))

    def discard(self, slot: Slot) -> None:
        """Let go of a slot, as soon as no call of ours uses it."""
        with self._lock:
            slot.discarded = True
            idle = not slot.busy
        if idle:
            self._let_go(slot, Deadline(_GOODBYE))

    def abandon(self, slot: Slot) -> None:
        """Let go of a slot without taking a lock or asking the server yet: its Binding is being collected."""
        slot.region.remove()
        self._abandoned.append(slot)

    def close(self) -> None:
        """Let go of every slot, of those that calls still use when these end."""
        with self._lock:
            self._closed = True
            self._free.clear()
            idle = [slot for slot in self._all if not slot.busy]
        deadline = Deadline(_GOODBYE)
        for slot in idle:
            self._let_go(slot, deadline)
        self._retry_unregistering(deadline)

    def prepare(self, slot: Slot, deadline: Deadline) -> None:
        """Wait until the server has ended its earlier work on a slot, and see that it knows the region."""
        while slot.dirty:
            if self._unregister(slot.name, deadline):
                slot.released()
            else:
                deadline.pause(_PAUSE, self._who)
        if not slot.registered:
            self._register(slot, deadline)

    def _prepare_or_give(self, slot: Slot, layout: Layout, deadline: Deadline) -> None:
        slot.arrange(layout)
        try:
            self.prepare(slot, deadline)
        except BaseException:
            slot.dirty = True  # whether the server has it is not known
            self.discard(slot)
            self.give(slot)
            raise

    def _idle(self, size: int) -> Slot | None:
        with self._lock:
            if self._closed:
                raise ClosedError(f"the model {self._who} is closed", "load it again")
            for position in range(len(self._free) - 1, -1, -1):  # the one used last is the warmest
                slot = self._free[position]
                if not slot.dirty and slot.region.size >= size:
                    slot.busy = True
                    return self._free.pop(position)
        return None

    def _recovered(self, size: int) -> Slot | None:
        """Return a dirty slot that the server has ended its work on."""
        with self._lock:
            slot = next((s for s in self._free if s.dirty and s.region.size >= size), None)
            if slot is None:
                return None
            self._free.remove(slot)
            slot.busy = True
        try:
            if self._unregister(slot.name, Deadline(_GOODBYE)):
                slot.released()
                return slot
        except AccelerateError:  # the next call finds out what is wrong
            pass
        self.give(slot)
        return None

    def _new(self, size: int) -> Slot | None:
        with self._lock:
            full = sum(not s.bound for s in self._all) >= _LIMIT
            small = next((s for s in self._free if s.region.size < size and not s.dirty), None)
            if small is not None:
                self._free.remove(small)
        if small is not None:  # the model has outgrown it
            self.discard(small)
        elif full:
            return None
        return self._add(Slot(Region(size), bound=False))

    def _add(self, slot: Slot) -> Slot:
        with self._lock:
            self._all.add(slot)
        self._retry_unregistering(Deadline(_GOODBYE))
        return slot

    def _let_go(self, slot: Slot, deadline: Deadline) -> None:
        with self._lock:
            if slot not in self._all:
                return
            self._all.remove(slot)
        slot.region.remove()
        if slot.registered or slot.dirty:
            with self._lock:
                self._still_registered.append(slot.name)
            self._retry_unregistering(deadline)

    def _retry_unregistering(self, deadline: Deadline) -> None:
        """Unregister what slots have left; what the server still uses, or cannot be told in time, stays for later."""
        while self._abandoned:
            self.discard(self._abandoned.pop())
        if not self._still_registered:
            return
        with self._lock:
            names, self._still_registered = self._still_registered, []
        try:
            while names and self._unregister(names[-1], deadline):
                names.pop()
        except AccelerateError:
            pass
        with self._lock:
            # while a server is away, every call adds one; the next client unregisters those that are forgotten here
            self._still_registered = (self._still_registered + names)[-_REMEMBERED:]

    def _register(self, slot: Slot, deadline: Deadline) -> None:
        import grpc

        region = slot.region
        request = messages.SystemSharedMemoryRegisterRequest(
            name=slot.name, key=f"/{region.name}", offset=0, byte_size=region.size
        )
        try:
            self._connection.ask("SystemSharedMemoryRegister", request, deadline.left(self._who))
        except grpc.RpcError as error:
            status = error.code().name
            if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
                raise translate(error, self._who, "share memory", timeout=deadline.timeout) from error
            # ALREADY_EXISTS: the answer to an earlier try was lost on its way; nobody else can know the name
            if status != "ALREADY_EXISTS":
                raise SharingError(
                    f"{self._who}: the server cannot share memory with this program: {error.details()} ({status})",
                    "run it on this machine, as root or the same user, with this /dev/shm (docker: --ipc=host)",
                ) from error
        slot.registered = True

    def _unregister(self, name: str, deadline: Deadline) -> bool:
        """Return False where a request still uses the region."""
        import grpc

        request = messages.SystemSharedMemoryUnregisterRequest(name=name)
        try:
            self._connection.ask("SystemSharedMemoryUnregister", request, deadline.left(self._who))
        except grpc.RpcError as error:
            if region_in_use(error):
                return False
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise translate(error, self._who, "share memory", timeout=deadline.timeout) from error
        return True
