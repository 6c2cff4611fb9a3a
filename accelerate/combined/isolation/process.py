"""The child as a process: how it is started, spoken to, and ended; what it wrote to stderr, and why it died."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from time import monotonic

from ...system.children import how_to_start, signal_name
from .frames import LONGEST, MOST, NOTE, Packet, new_pair

__all__ = ["Child", "Died"]

_TASK = f"{__package__}.child:serve"
_KEPT = 8 << 10  # bytes of what it wrote to stderr
_SHOWN = 5  # lines of it in an error
_LOOK = 1.0  # seconds between two looks at whether it lives, where something else may hold its end open
_FIRST = 0.05  # seconds that a call waits for the answer alone; then also for what fills the pipe of stderr
_END = 2.0  # seconds that an idle child has to close its model


class Died(Exception):
    """The child has ended, or answered nonsense; the text says what is known about it.

    Attributes
    ----------
    unsent : bool
        It had ended before it was sent the request.
    """

    def __init__(self, why: str, *, unsent: bool = False) -> None:
        super().__init__(why)
        self.unsent = unsent


#: The program's ends of all sockets, also of a child that another thread is just starting. Held here, they outlive a
#: `Child` that is collected with a cycle, and it is that which closes them.
_ours: set[socket.socket] = set()


def _close(end: socket.socket) -> None:
    _ours.discard(end)
    end.close()


def _close_parents_ends() -> None:
    """In a forked child: the lifelines are the parent's, and would outlive it here."""
    for end in tuple(_ours):
        _close(end)


os.register_at_fork(after_in_child=_close_parents_ends)


class _Process(subprocess.Popen[bytes]):
    def __del__(self, *_: object) -> None:
        """Warn of nothing: the kernel ends a child that nobody has ended, with this process at the latest."""


class Child:
    """One process. A thread at a time talks to it.

    Attributes
    ----------
    pid : int
    alive : bool
        False once it is known to have ended, or was ended from here.
    loaded : bool
        It has a model.
    channel : socket.socket
        For the plain runs, which go without what is below.

    Raises
    ------
    OSError
        It does not start.
    """

    def __init__(self) -> None:
        self.alive, self.loaded = True, False
        self._tail = bytearray()
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self.channel, channel = new_pair()
            _ours.add(self.channel)
            ours.callback(_close, self.channel)
            theirs.callback(channel.close)
            self._lifeline, lifeline = socket.socketpair()
            _ours.add(self._lifeline)
            ours.callback(_close, self._lifeline)
            theirs.callback(lifeline.close)
            self._stderr, stderr = os.pipe()
            ours.callback(os.close, self._stderr)
            theirs.callback(os.close, stderr)
            os.set_blocking(self._stderr, False)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self.channel.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 0, int(_FIRST * 1e6)))
            told = json.dumps({"channel": channel.fileno(), "lifeline": lifeline.fileno()})
            self._process = _Process(
                **how_to_start(_TASK, told, 0),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                pass_fds=(channel.fileno(), lifeline.fileno()),
                start_new_session=True,  # Ctrl-C in a terminal is for the program, and not for its children
            )
            self._ends = ours.pop_all()
        self.pid = self._process.pid
        self._poller = select.poll()
        self._poller.register(self.channel, select.POLLIN)
        self._poller.register(self._stderr, select.POLLIN)

    # Talking

    def call(self, packet: bytes) -> bytes:
        """Send one small packet and return the first one that comes: a plain run, without a deadline."""
        try:
            self.channel.send(packet, socket.MSG_NOSIGNAL)
        except ConnectionError as error:
            raise Died(self.death(), unsent=True) from error
        return self.receive(None) or b""

    def send(self, packet: bytes, descriptors: Sequence[int] = (), until: float | None = None) -> bool:
        """Send a packet; return whether there was room for it in time. `Died` where there is nobody."""
        while True:
            try:
                if descriptors:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]
                    self.channel.sendmsg([packet], rights, socket.MSG_NOSIGNAL)
                else:
                    self.channel.send(packet, socket.MSG_NOSIGNAL)
                return True
            except BlockingIOError:
                self._drain()
                if until is not None and monotonic() >= until:
                    return False
            except ConnectionError as error:
                raise Died(self.death(until), unsent=True) from error

    def receive(self, until: float | None) -> bytes | None:
        """Return the next packet, None where there is none in time. `Died` where there will be none."""
        packet = self._taken(until) if until is None else None  # waits, but not for ever: see _FIRST
        return self._wait(until) if packet is None else packet

    def _taken(self, until: float | None) -> bytes | None:
        """Take the next packet, None where none has come."""
        try:
            packet = self.channel.recv(MOST)
        except BlockingIOError:
            return None
        except ConnectionError as error:
            raise Died(self.death(until)) from error
        if not packet:
            raise Died(self.death(until))
        return packet

    def answer(
        self, number: int, until: float | None, first: bytes | None = None
    ) -> tuple[Packet, bytes, list[bytes]] | None:
        """Return the answer of a request, its whole content, and the notes before it; None without one in time.

        `first` is the first packet, where it has come. There is none for others: a request whose caller has left is
        answered, or its child ended, before the next one is sent.
        """
        parts: list[bytes] = []
        notes: list[bytes] = []
        size = 0
        while (data := self.receive(until) if first is None else first) is not None:
            first = None
            try:
                packet = Packet(data)
            except ValueError as error:
                raise self.nonsense(error) from error
            if packet.number != number:
                raise self.nonsense(f"an answer to call {packet.number} in the place of {number}")
            parts.append(packet.content)
            size += len(data)  # with all notes: whoever only ever logs would fill the memory
            if size > LONGEST:
                raise self.nonsense("an answer without an end")
            if packet.more:
                continue
            content, parts = b"".join(parts), []
            if packet.kind != NOTE:
                return packet, content, notes
            notes.append(content)
        return None

    def _wait(self, until: float | None) -> bytes | None:
        """Wait for the answer, and meanwhile make room in the pipe of stderr."""
        while True:
            rest = _LOOK if until is None else max(0.0, min(_LOOK, until - monotonic()))
            for descriptor, _ in self._poller.poll(rest * 1000):
                if descriptor == self._stderr:
                    self._drain()
                elif (packet := self._taken(until)) is not None:
                    return packet
            if until is not None and monotonic() >= until:
                return None
            if self._process.poll() is not None:  # and something that it has started holds its end of the channel
                raise Died(self.death(until))

    # Its end

    def __del__(self) -> None:
        if not self.alive or not hasattr(self, "pid"):  # or it has never started
            return
        if sys.is_finalizing():  # which ends it as well
            self._ends.close()
        else:
            self.dismiss()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self.alive = False
        self._process.kill()
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:  # a driver holds it fast, and its end comes when that lets go of it
            self.dismiss()
        else:
            self._let_go()

    def nonsense(self, what: object) -> Died:
        """End a child that does not keep to the protocol; return the exception to raise."""
        self.kill()
        return Died(f"it answered nonsense ({what}), and was ended{self._last_lines()}")

    def death(self, until: float | None = None) -> str:
        """Return why a child that has gone did so, with the last that it wrote to stderr."""
        self.alive = False
        patience = _END if until is None else max(0.0, min(_END, until - monotonic()))
        try:
            code: int | None = self._process.wait(patience)
        except subprocess.TimeoutExpired:  # it has closed its end, and does not end; or its core is being written
            code = None
        if code is None:
            self.dismiss()
        else:
            self._let_go()
        said = self._last_lines()
        if code is None:
            return f"it does not answer any more{said}"
        return f"it was killed by {signal_name(-code)}{said}" if code < 0 else f"it ended with status {code}{said}"

    def dismiss(self) -> None:
        """Have an idle child close its model and end; who does not is killed. Does not wait for that."""
        import threading

        self.alive = False
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)
        try:
            threading.Thread(target=self._see_off, name="accelerate-end-of-child", daemon=True).start()
        except RuntimeError:  # no thread can be started, as at the end of the program
            self._process.kill()
            self._process.wait()
            self._let_go()

    def _see_off(self) -> None:
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._let_go()

    def leave(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self.alive = False
        self._process.returncode = 0  # it is not a child of this process
        self._ends.close()
        self._stderr = -1

    def _let_go(self) -> None:
        self._drain()
        self._ends.close()
        self._stderr = -1

    def _drain(self) -> None:
        """Empty the pipe of its stderr, of which the last is kept."""
        if self._stderr < 0:
            return
        with contextlib.suppress(OSError):
            while written := os.read(self._stderr, 65536):
                self._tail += written
                del self._tail[:-_KEPT]
            with contextlib.suppress(KeyError):
                self._poller.unregister(self._stderr)  # nobody has its other end

    def _last_lines(self) -> str:
        lines = self._tail.decode("utf-8", "replace").strip().splitlines()[-_SHOWN:]
        shown = " | ".join(line.strip()[:200] for line in lines if line.strip())
        return f"; the last that it wrote: {shown}" if shown else ""
