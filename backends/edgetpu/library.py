"""The Edge TPU's runtime library, libedgetpu, through its C interface (edgetpu_c.h of google-coral/libedgetpu)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from pathlib import Path
from typing import ClassVar

from accelerate.contract import ChildError, __version__, folder, record, verdict
from accelerate.errors import BackendNotAvailableError, DeviceNotFoundError

from .library_file import find_file, wanted_file, why_unloadable

__all__ = ["CREATE_SECONDS", "Delegate", "Library", "ListedDevice", "open_library"]

#: A stick without firmware is given it when it is opened, which takes some seconds over USB 2.
CREATE_SECONDS = 30.0
_LISTING_SECONDS = 30.0
_KINDS = {0: "pci", 1: "usb"}  # enum edgetpu_device_type
_ErrorHandler = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


@record(frozen=True)
class ListedDevice:
    """A device as the library lists it."""

    id: str  # in Coral's words: "usb:0" is the first on USB, "pci:0" the first on PCIe
    kind: str  # "usb" or "pci"
    #: such as "/sys/bus/usb/devices/2-3" or "/dev/apex_0"; a device keeps it when it is plugged in again there
    path: str


class _DeviceStruct(ctypes.Structure):
    _fields_: ClassVar = [("type", ctypes.c_int), ("path", ctypes.c_char_p)]


class Library:
    """A loaded library.

    Attributes
    ----------
    path : str
    version : str
        What the library says of itself; "" where it says nothing.
    runtime_version : int or None
        Compared with what a compiled model needs.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # not PyDLL, which load_delegate of the engines uses: opening a stick takes seconds, for which it would stop
        # every thread of the program
        self._dll = ctypes.CDLL(path)
        self._create = self._dll.tflite_plugin_create_delegate
        texts = ctypes.POINTER(ctypes.c_char_p)
        self._create.argtypes = [texts, texts, ctypes.c_size_t, _ErrorHandler]
        self._create.restype = ctypes.c_void_p
        self._destroy = self._dll.tflite_plugin_destroy_delegate
        self._destroy.argtypes = [ctypes.c_void_p]
        self._destroy.restype = None
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

    def create(self, options: dict[str, str]) -> Delegate:
        """Create a delegate, which opens the device.

        Raises
        ------
        DeviceNotFoundError
            The library refuses, which it does without a reason.
        BackendNotAvailableError
            It does not answer in time.
        """
        outcome: list[Delegate | Exception] = []

        def attempt() -> None:
            try:
                outcome.append(Delegate(self, options))
            except Exception as error:  # raised by the caller
                outcome.append(error.with_traceback(None))

        # one that hangs is left behind, while the program goes on
        thread = threading.Thread(target=attempt, name="accelerate-edgetpu", daemon=True)
        thread.start()
        thread.join(CREATE_SECONDS)
        if not outcome:
            raise BackendNotAvailableError(
                f"{self.path} does not open the device within {CREATE_SECONDS:g} s", "unplug it and plug it in again"
            )
        (result,) = outcome
        if isinstance(result, Exception):
            raise result
        return result


class Delegate:
    """A TfLiteDelegate. The interpreter that uses it keeps it alive, and lets go of it last.

    It stands in for what ``load_delegate`` of the engines returns, whose finaliser fails loudly where loading failed.
    """

    def __init__(self, library: Library, options: dict[str, str]) -> None:
        self._library = library
        self._pointer: int | None = None
        said: list[str] = []
        report = _ErrorHandler(lambda text: said.append((text or b"").decode("utf-8", "replace")))
        texts = ctypes.c_char_p * len(options)
        keys, values = (texts(*(text.encode() for text in side)) for side in (options.keys(), options.values()))
        self._pointer = library._create(keys, values, len(options), report)
        if self._pointer is None:
            raise DeviceNotFoundError(
                f"{library.path} does not open the device{': ' if said else ''}{' '.join(' '.join(said).split())}"
            )

    def _get_native_delegate_pointer(self) -> int | None:  # the name by which the engines ask
        return self._pointer

    def __del__(self) -> None:
        if self._pointer is not None:
            self._library._destroy(self._pointer)
            self._pointer = None


_opened: dict[str, tuple[str, Library]] = {}  # path -> (state of the file, library)


def open_library(option: str | os.PathLike[str] | None) -> Library:
    """Load the library: the one named, else the one that the variable names, else the system's.

    It is loaded and asked for its devices in a child process first, once for each version of its file.
    """
    wanted = wanted_file(option)
    path = find_file(wanted)
    state = stamp(path)
    if path in _opened and _opened[path][0] == state:
        return _opened[path][1]
    _try_in_child(path, state)
    try:
        library = Library(path)
    except (OSError, AttributeError) as error:
        raise BackendNotAvailableError(*why_unloadable(path, str(error), named=bool(wanted))) from error
    _opened[path] = state, library
    return library


def stamp(path: str) -> str:
    """Return what tells one version of a library's file from another."""
    try:
        status = os.stat(path)
    except OSError:  # found by the loader alone, under a bare name
        return ""
    return f"{status.st_mtime_ns} {status.st_size}"


def _try_in_child(path: str, state: str) -> None:
    """Refuse a library that crashes or hangs as it is loaded, unless its file is known to do neither."""
    if not Path(path).is_file():  # most machines have none, and a bare name is looked up by the loader anyway
        return
    versions = f"edge-accelerate {__version__} {path} {state}"
    remedy = (
        "install a version of the library that is built for this system (docs/coral.md, 'Where is PyCoral?'); a crash "
        f"is remembered: to try this one again, delete {folder() / 'edgetpu'}"
    )
    try:
        said = verdict("edgetpu", versions, f"{__name__}:try_listing", lambda: b"", _LISTING_SECONDS, path=path).crash
    except ChildError as error:
        said, remedy = str(error), error.remedy or remedy
    if said:
        raise BackendNotAvailableError(
            f"{path} cannot be used: its devices are listed in a child process first, and {said}", remedy
        )


def try_listing(_: bytes, path: str) -> None:
    """Load the library and list its devices (child's side); what the loader refuses is no danger."""
    with contextlib.suppress(OSError, AttributeError):
        Library(path).devices()
