"""The messages between a program and its child: packets of a socketpair, small ones, with the tensors elsewhere.

A request begins with a number of 4 bytes, and so does all that answers it, so that no answer is taken for another
call's. The plain answer of a run is the number alone.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

__all__ = [
    "ASK", "DONE", "FAILED", "LONGEST", "LOOSE", "MOST", "NEED", "NOTE", "ROOM", "RUN", "TOLD", "Packet", "new_pair",
    "run_of", "split",
]  # fmt: skip

#: Of a packet, in bytes; longer messages are several.
MOST = 16 << 10
#: Of an answer with the notes before it, in bytes: what comes in more is none of ours.
LONGEST = 256 << 20

# What a packet is. Requests: run a target; do what a JSON text says; here is the room that you need.
RUN, ASK, ROOM = 1, 2, 3
# Answers: outputs of sizes that the table behind it gives; so much room is needed; an error; an answer in JSON; and
# what comes before an answer, in JSON: lines of the log, and what the model runs on where that has changed.
DONE, LOOSE, NEED, FAILED, TOLD, NOTE = 0, 17, 18, 19, 20, 21
_MORE = 1

_HEADER = struct.Struct("<IBBxxId")  # number, kind, whether more follows, target, seconds


class Packet:
    """A packet taken apart: its number, kind and target, the seconds that its caller waits, and its content."""

    __slots__ = ("content", "kind", "more", "number", "seconds", "target")

    def __init__(self, packet: bytes) -> None:
        if len(packet) < _HEADER.size:
            if len(packet) != 4:
                raise ValueError(f"a packet of {len(packet)} bytes")
            self.number, self.kind, more, self.target, self.seconds = int.from_bytes(packet, "little"), DONE, 0, 0, 0.0
        else:
            self.number, self.kind, more, self.target, self.seconds = _HEADER.unpack_from(packet)
        self.more = bool(more & _MORE)
        self.content = packet[_HEADER.size :]


def run_of(target: int) -> bytes:
    """Return what follows the number in the packet that asks for a plain run."""
    return _HEADER.pack(0, RUN, 0, target, 0.0)[4:]


def split(number: int, kind: int, content: bytes = b"", target: int = 0, seconds: float = 0.0) -> Iterator[bytes]:
    """Yield the packets of a message."""
    room = MOST - _HEADER.size
    for start in range(0, max(1, len(content)), room):
        more = _MORE if start + room < len(content) else 0
        yield _HEADER.pack(number, kind, more, target, seconds) + content[start : start + room]


def new_pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends that keep packets apart, whatever the program's default timeout is."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(True)
    return ours, theirs
