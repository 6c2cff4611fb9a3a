"""What the system shows of Edge TPUs, whether or not the library can use them.

The paths are those of Linux; other systems show nothing here, and the library's own list is all there is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from accelerate.contract import record

__all__ = ["Seen", "holders", "look"]

_UNINITIALISED, _INITIALISED = ("1a6e", "089a"), ("18d1", "9302")  # Coral's USB ids before and after the firmware
_PCI = ("0x1ac1", "0x089a")


@record(frozen=True)
class Seen:
    """A device that the system shows."""

    kind: str  # "usb" or "pci"
    key: str  # the last part of the path by which the library calls it: "2-3", "apex_0"; "" without one
    name: str  # what a person calls it
    node: Path | None  # the device file that programs open
    reason: str = ""  # why it cannot be used; "" where nothing speaks against it
    remedy: str = ""


def look(root: Path = Path("/")) -> list[Seen]:
    """List the devices that the system shows; `root` is where sys and dev are."""
    return [*_usb(root), *_pci(root)]


def holders(node: Path, root: Path = Path("/")) -> list[str]:
    """Name the processes that have a device file open, as far as this user may see them: "frigate (process 71)"."""
    found = []
    for process in sorted((root / "proc").glob("[0-9]*")):
        if int(process.name) == os.getpid():
            continue
        try:
            if any(_leads_to(link, node) for link in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text().strip()} (process {process.name})")
        except OSError:  # another user's, or it has ended
            continue
    return found


def _leads_to(link: Path, node: Path) -> bool:
    try:
        return os.readlink(link) == str(node)
    except OSError:
        return False


def _usb(root: Path) -> Iterator[Seen]:
    for folder in sorted((root / "sys/bus/usb/devices").glob("*")):
        ids = _read(folder / "idVendor"), _read(folder / "idProduct")
        if ids not in (_UNINITIALISED, _INITIALISED):
            continue
        try:
            node = root / f"dev/bus/usb/{int(_read(folder / 'busnum')):03}/{int(_read(folder / 'devnum')):03}"
        except ValueError:  # it has just been pulled out
            continue
        name = "Coral USB Accelerator" + (", not yet initialised" if ids == _UNINITIALISED else "")
        if not node.exists():
            yield Seen(
                "usb", folder.name, name, None, f"there is no device file {node}",
                "in a container, pass the USB bus on: docker run --device /dev/bus/usb",
            )  # fmt: skip
        else:
            yield Seen("usb", folder.name, name, node, *_permission(node, "usb"))


def _pci(root: Path) -> Iterator[Seen]:
    devices = [
        folder.name
        for folder in sorted((root / "sys/bus/pci/devices").glob("*"))
        if (_read(folder / "vendor"), _read(folder / "device")) == _PCI
    ]
    nodes = sorted((root / "dev").glob("apex_*"))
    for node in nodes:
        yield Seen("pci", node.name, "Coral PCIe Edge TPU", node, *_permission(node, "pci"))
    for address in devices[len(nodes) :]:
        if (root / "sys/module/apex").exists():
            why = "the driver apex is loaded but has made no device file /dev/apex_*"
            remedy = "see what it says: sudo dmesg | grep apex; in a container: docker run --device /dev/apex_0"
        else:
            why = "the driver apex is not loaded, so there is no device file /dev/apex_*"
            remedy = "install the package gasket-dkms, then: sudo modprobe apex"
        yield Seen("pci", "", f"Coral PCIe Edge TPU at {address}", None, why, remedy)


def _permission(node: Path, kind: str) -> tuple[str, str]:
    if os.access(node, os.R_OK | os.W_OK):
        return "", ""
    import grp  # Unix has it

    status = node.stat()
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    reason = f"this user may not read and write {node}"
    if status.st_mode & 0o060 == 0o060 and status.st_gid != 0:
        return reason, f"it is for the group {group}: sudo usermod -aG {group} $USER, then log in again"
    rule, match = (
        ("60-apex.rules", 'SUBSYSTEM=="apex"')
        if kind == "pci"
        else ("60-edgetpu.rules", 'SUBSYSTEM=="usb", ATTR{idVendor}=="1a6e|18d1", ATTR{idProduct}=="089a|9302"')
    )
    return reason, (
        f"""write this line into /etc/udev/rules.d/{rule}: {match}, MODE="0660", TAG+="uaccess", GROUP="plugdev"; """
        "then: sudo udevadm control --reload && sudo udevadm trigger"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
