"""The way of tensors that have no place of their own: strings, and those whose size only the call tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...calls.conversion import Array
from .exchange import Exchange, Limit
from .frames import DONE, FAILED, LOOSE, NEED, ROOM, Packet
from .memory import Region, new_region
from .placing import Loose, read_loose
from .process import Child
from .targets import Target

__all__ = ["Rooms"]


class Rooms:
    """Two regions that grow, one for inputs and one for outputs, of all that is run in one child."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._rooms: dict[str, Region] = {}
        self._known_to: Child | None = None  # the child that has the one for inputs

    def lay(self, child: Child, target: Target, feeds: Sequence[Any], limit: Limit | None) -> bytes:
        """Copy the inputs that have no place into the room for them; return their table."""
        loose = Loose([(target.inputs[i], feeds[i]) for i in target.loose])
        room = self._rooms.get("in")
        if room is None or room.size < loose.size or self._known_to is not child:
            self._known_to = None  # until the child has taken it: what it had before holds other inputs
            room = self._rooms["in"] = self._room_for("in", loose.size)
            self._exchange.ask(child, limit, "room", descriptors=[room.descriptor], side="in", size=room.size)
            self._known_to = child
        return loose.lay(room)

    def left(self, child: Child, target: Target, answer: tuple[Packet, bytes], limit: Limit | None) -> dict[int, Array]:
        """Return the outputs that an answer has beside those in their places, by position."""
        packet, content = answer
        if packet.kind == NEED:
            room = self._room_for("out", int.from_bytes(content[:8], "little"))
            self._rooms.pop("out", None)  # until the child has taken it: nothing is read where it may not have written
            size = room.size.to_bytes(8, "little")
            number = self._exchange.send(child, ROOM, size, limit, descriptors=[room.descriptor])
            packet, content = self._exchange.received(child, number, limit)
            if packet.kind == LOOSE:
                self._rooms["out"] = room
        if packet.kind == FAILED:
            self._exchange.told(child, packet, content)
        try:
            if packet.kind == DONE and target.whole:
                return {}
            if packet.kind != LOOSE:
                raise ValueError(f"an answer of the kind {packet.kind}")  # noqa: TRY301
            return self._read(target, content)
        except (ValueError, LookupError, MemoryError, TypeError) as error:
            raise child.nonsense(error) from error

    def _read(self, target: Target, content: bytes) -> dict[int, Array]:
        count = int.from_bytes(content[:8], "little")
        positions = np.frombuffer(content[8 : 8 + 8 * count], np.int64).tolist()
        missing = set(range(len(target.outputs))) - {i for i, _ in target.taken} - set(positions)
        if missing or not count or len(positions) != count:
            raise ValueError("outputs are missing")
        infos = [target.outputs[i] for i in positions]
        arrays = read_loose(content[8 + 8 * count :], infos, self._rooms.get("out"))
        found = {i: array for i, array in zip(positions, arrays, strict=True) if array is not None}
        if len(found) != count:
            raise ValueError("outputs are left out")
        return found

    def _room_for(self, side: str, size: int) -> Region:
        """Return memory for so much, with some to spare: the next call may need a little more."""
        old = self._rooms.get(side)
        if old is not None and old.size >= size:
            return old
        return new_region(size + size // 4)

    @property
    def regions(self) -> list[Region]:
        """The memory."""
        return list(self._rooms.values())

    def close(self) -> None:
        """Let go of it."""
        for region in self._rooms.values():
            region.close()
        self._rooms = {}
