"""The Edge TPU's runtime library, libedgetpu, through its C interface (edgetpu_c.h of google-coral/libedgetpu)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from typing import ClassVar

from accelerate.backends.tflite.delegates.library import DelegateLibrary
from accelerate.backends.tflite.delegates.library import open_library as open_delegate_library
from accelerate.contract import record

from .library_file import KIND, name_on_this_platform

__all__ = ["Library", "ListedDevice", "open_library"]

_KINDS = {0: "pci", 1: "usb"}  # enum edgetpu_device_type


@record(frozen=True)
class ListedDevice:
    """A device as the library lists it."""

    id: str  # in Coral's words: "usb:0" is the first on USB, "pci:0" the first on PCIe
    kind: str  # "usb" or "pci"
    #: such as "/sys/bus/usb/devices/2-3" or "/dev/apex_0"; a device keeps it when it is plugged in again there
    path: str


class _DeviceStruct(ctypes.Structure):
    _fields_: ClassVar = [("type", ctypes.c_int), ("path", ctypes.c_char_p)]


class Library(DelegateLibrary):
    """A loaded library.

    Attributes
    ----------
    version : str
        What the library says of itself; "" where it says nothing.
    runtime_version : int or None
        Compared with what a compiled model needs.
    """

    refuses = "does not open the device"
    revive = "unplug the device and plug it in again, or restart the machine"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._list = self._dll.edgetpu_list_devices
        self._list.argtypes = [ctypes.POINTER(ctypes.c_size_t)]
        self._list.restype = ctypes.POINTER(_DeviceStruct)
        self._free_list = self._dll.edgetpu_free_devices
        self._free_list.argtypes = [ctypes.POINTER(_DeviceStruct)]
        self._free_list.restype = None
        self._dll.edgetpu_version.restype = ctypes.c_char_p
        self.version = (self._dll.edgetpu_version() or b"").decode("utf-8", "replace")
        said = re.search(r"RuntimeVersion\((\d+)\)", self.version)
        self.runtime_version = int(said[1]) if said else None

    def __str__(self) -> str:
        return f"{self.path} ({self.version})"

    def devices(self) -> list[ListedDevice]:
        """List the devices, open ones too, in the library's order."""
        count = ctypes.c_size_t()
        listed = self._list(ctypes.byref(count))
        found: list[ListedDevice] = []
        try:
            for i in range(count.value):
                kind = _KINDS.get(listed[i].type, "other")
                number = sum(device.kind == kind for device in found)
                path = (listed[i].path or b"").decode("utf-8", "replace")
                found.append(ListedDevice(f"{kind}:{number}", kind, path))
        finally:
            if listed:
                self._free_list(listed)
        return found


def open_library(option: str | os.PathLike[str] | None) -> Library:
    """Load the library: the one named, else the one that the variable names, else the system's."""
    attempt = f"{__name__}:try_listing"
    return open_delegate_library(KIND, Library, option, attempt, otherwise=name_on_this_platform())


def try_listing(_: bytes, path: str) -> None:
    """Load the library and list its devices (child's side); what the loader refuses is no danger."""
    with contextlib.suppress(OSError, AttributeError):
        Library(path).devices()
