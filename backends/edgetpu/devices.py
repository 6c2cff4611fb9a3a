"""Which Edge TPU a model runs on: Coral's words for devices, and who uses which."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accelerate.contract import Device
from accelerate.errors import DeviceNotFoundError

from .hardware import Seen, holders, look
from .library import Library, ListedDevice

__all__ = ["CONNECT", "Lease", "lease", "list_devices", "move", "used_before", "why_not_opened"]

_WORDS = re.compile(r"(usb|pci)?(?::(\d+))?")


class Lease:
    """That a model of this process uses a device, from its creation until `release` or its end."""

    def __init__(self, device: ListedDevice) -> None:
        self.device = device
        _leases.add(self)

    def release(self) -> None:
        """Say that the device is no longer used."""
        with _choosing:
            _leases.discard(self)


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()
_choosing = threading.Lock()


def list_devices(backend: str, library: Library, root: Path = Path("/")) -> list[Device]:
    """List the library's devices, then those that only the system shows, whose sys and dev are in the folder `root`."""
    seen = look(root)
    rows = []
    counts = {"usb": 0, "pci": 0}
    for device in library.devices():
        counts[device.kind] = counts.get(device.kind, 0) + 1
        known = _find(seen, device)
        if known is None:
            rows.append(Device(backend, device.id, "tpu", _name(device)))
        else:
            seen.remove(known)
            rows.append(_row(backend, device.id, known))
    for other in seen:
        rows.append(_row(backend, f"{other.kind}:{counts[other.kind]}", other, listed=False))
        counts[other.kind] += 1
    rows = [replace(row, aliases=_words_for(i, row.id)) for i, row in enumerate(rows)]
    # of several, the one that the fewest models of this process use
    used = {device.id: _users(device) for device in library.devices()}
    return sorted(rows, key=lambda row: (not row.ready, used.get(row.id, 0)))


def _words_for(position: int, name: str) -> tuple[str, ...]:
    """Return Coral's other words for a device: its place among all, and its kind where it is the first of that kind."""
    kind, _, number = name.partition(":")
    return (f":{position}", kind) if number == "0" else (f":{position}",)


def lease(backend: str, library: Library, words: str | None, root: Path = Path("/")) -> Lease:
    """Take the device that Coral's words name; of several, the first that the fewest models of this process use.

    ":0" is the first Edge TPU, "usb" any on USB, "usb:1" the second on USB, "pci:0" the first on PCIe; None is any.

    Raises
    ------
    DeviceNotFoundError
        There is no such device, or it is not ready; says why and what to do.
    """
    said = _WORDS.fullmatch(words or "")
    if words is not None and (said is None or not words):
        raise DeviceNotFoundError(
            f"there is no device {words!r}; Edge TPUs are called ':0', 'usb', 'usb:0', 'pci', 'pci:0', ..."
        )
    rows = {row.id: row for row in list_devices(backend, library, root)}
    with _choosing:
        listed = library.devices()
        wanted = [d for d in listed if said is None or said[1] in (None, d.kind)]
        if said is not None and said[2] is not None:
            wanted = wanted[int(said[2]) : int(said[2]) + 1]
        ready = [d for d in wanted if d.id not in rows or rows[d.id].ready]
        if ready:
            return Lease(min(ready, key=_users))
    unusable = next((rows[d.id] for d in wanted if d.id in rows), None) or next(
        (row for row in rows.values() if not row.ready and (said is None or said[1] in (None, row.id[:3]))), None
    )
    if unusable is not None:
        raise DeviceNotFoundError(f"the Edge TPU {unusable.id} cannot be used: {unusable.reason}", unusable.remedy)
    if not listed:
        raise DeviceNotFoundError("no Edge TPU is connected", CONNECT)
    raise DeviceNotFoundError(f"there is no Edge TPU {words!r}; there are: {', '.join(d.id for d in listed)}")


#: What to do where neither the library nor the system shows a device.
CONNECT = "plug it in, into a USB 3 port without a hub where it is a stick; `lsusb` or `lspci` must show it"


def move(held: Lease, library: Library, kinds: Sequence[str]) -> bool:
    """Find a lease's device again, which may have another number now, and tell whether it is there.

    While it is gone, another device of these kinds will do, if no model of this process uses it.
    """
    with _choosing:
        listed = library.devices()
        same = [d for d in listed if d.path == held.device.path]
        others = [d for d in listed if d.kind in kinds and not _users(d)]
        for device in (*same, *others):
            held.device = device
            return True
    return False


def used_before(held: Lease) -> bool:
    """Tell whether another model of this process uses the device of a lease."""
    with _choosing:
        return _users(held.device) > 1


def why_not_opened(library: Library, words: str, root: Path = Path("/")) -> tuple[str, str]:
    """Return why the library does not open a device, which it does not tell, and what to do."""
    device = next((d for d in library.devices() if d.id == words), None)
    if device is None:
        return f"{words} is no longer connected", CONNECT
    known = _find(look(root), device)
    if known is not None and known.reason:
        return known.reason, known.remedy
    if known is not None and known.node is not None and (others := holders(known.node, root)):
        return f"it is busy: {', '.join(others)} has it open; an Edge TPU works for one process at a time", "end that"
    return (
        "it gives no reason; another user's process may have it open, or the device is stuck",
        f"end the process that sudo lsof shows, or {_revive(device.kind)}",
    )


def _revive(kind: str) -> str:
    return "restart the machine" if kind == "pci" else "unplug it and plug it in again"


def _users(device: ListedDevice) -> int:
    return sum(other.device.path == device.path for other in _leases)


def _find(seen: Sequence[Seen], device: ListedDevice) -> Seen | None:
    key = device.path.rpartition("/")[2]
    return next((s for s in seen if s.kind == device.kind and s.key == key), None)


def _row(backend: str, name: str, seen: Seen, *, listed: bool = True) -> Device:
    if seen.reason or listed:
        return Device(backend, name, "tpu", seen.name, not seen.reason, seen.reason, seen.remedy)
    return Device(
        backend, name, "tpu", seen.name, False, "the system shows it, but the library does not list it",
        _revive(seen.kind),
    )  # fmt: skip


def _name(device: ListedDevice) -> str:
    return {"usb": "Coral Edge TPU on USB", "pci": "Coral Edge TPU on PCIe"}.get(device.kind, "Edge TPU")
