"""A delegate's library, through the two functions by which TFLite interpreters load one.

They are ``tflite_plugin_create_delegate`` and ``tflite_plugin_destroy_delegate`` (external_delegate_interface.h of
TensorFlow).
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

from accelerate.contract import ChildError, __version__, folder, held_back, verdict
from accelerate.errors import BackendNotAvailableError, DeviceNotFoundError

from ..engines import LINES
from .library_file import LibraryKind, find_file, wanted_file, why_unloadable

__all__ = ["CREATE_SECONDS", "Delegate", "DelegateLibrary", "open_library", "stamp"]

#: Drivers take seconds: a stick without firmware is given it when it is opened, over USB 2 for one.
CREATE_SECONDS = 30.0
_LOADING_SECONDS = 30.0
_ErrorHandler = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


class DelegateLibrary:
    """A loaded library.

    Attributes
    ----------
    path : str
    """

    #: What it does when a delegate is created, and what to do where it does not come back from that.
    refuses: ClassVar[str] = "creates no delegate"
    revive: ClassVar[str] = "restart the machine"

    def __init__(self, path: str) -> None:
        self.path = path
        # not PyDLL, which load_delegate of the engines uses: opening a device takes seconds, for which it would stop
        # every thread of the program
        self._dll = ctypes.CDLL(path)
        self._create = self._dll.tflite_plugin_create_delegate
        texts = ctypes.POINTER(ctypes.c_char_p)
        self._create.argtypes = [texts, texts, ctypes.c_size_t, _ErrorHandler]
        self._create.restype = ctypes.c_void_p
        self._destroy = self._dll.tflite_plugin_destroy_delegate
        self._destroy.argtypes = [ctypes.c_void_p]
        self._destroy.restype = None

    def __str__(self) -> str:
        return self.path

    def create(self, options: Mapping[str, str]) -> Delegate:
        """Create a delegate, which opens the device.

        Raises
        ------
        DeviceNotFoundError
            The library refuses; most do so without a reason.
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
        thread = threading.Thread(target=attempt, name="accelerate-delegate", daemon=True)
        with held_back(LINES):
            thread.start()
            thread.join(CREATE_SECONDS)
        if not outcome:
            raise BackendNotAvailableError(f"{self.path} {self.refuses} within {CREATE_SECONDS:g} s", self.revive)
        (result,) = outcome
        if isinstance(result, Exception):
            raise result
        return result


class Delegate:
    """A TfLiteDelegate. The interpreter that uses it keeps it alive, and lets go of it last.

    It stands in for what ``load_delegate`` of the engines returns, whose finaliser fails loudly where loading failed.
    """

    def __init__(self, library: DelegateLibrary, options: Mapping[str, str]) -> None:
        self._library = library
        self._pointer: int | None = None
        said: list[str] = []
        report = _ErrorHandler(lambda text: said.append((text or b"").decode("utf-8", "replace")))
        texts = ctypes.c_char_p * len(options)
        keys, values = (texts(*(text.encode() for text in side)) for side in (options.keys(), options.values()))
        self._pointer = library._create(keys, values, len(options), report)
        if self._pointer is None:
            raise DeviceNotFoundError(
                f"{library.path} {library.refuses}{': ' if said else ''}{' '.join(' '.join(said).split())}"
            )

    def _get_native_delegate_pointer(self) -> int | None:  # the name by which the engines ask
        return self._pointer

    def __del__(self) -> None:
        if self._pointer is not None:
            self._library._destroy(self._pointer)
            self._pointer = None


_Library = TypeVar("_Library", bound=DelegateLibrary)
_opened: dict[str, tuple[str, DelegateLibrary]] = {}  # path -> (state of the file, library)


def open_library(
    kind: LibraryKind, library_class: type[_Library], option: object, attempt: str, *, otherwise: str = ""
) -> _Library:
    """Load the library: the one named, else the one that the variable names, else `otherwise`.

    It is loaded in a child process first, once for each version of its file.

    Parameters
    ----------
    kind : LibraryKind
    library_class : type
    option : object
        What ``library=`` of `load` says.
    attempt : str
        The "module:function" that the child calls with the library's `path`.
    otherwise : str
        The name of the system's library.

    Raises
    ------
    BackendNotAvailableError
    """
    wanted = wanted_file(kind, option)
    path = find_file(wanted or otherwise)
    state = stamp(path)
    known_state, known = _opened.get(path, ("", None))
    if isinstance(known, library_class) and known_state == state:
        return known
    _try_in_child(kind, path, state, attempt, library_class.revive)
    try:
        library = library_class(path)
    except (OSError, AttributeError) as error:
        raise BackendNotAvailableError(*why_unloadable(kind, path, str(error), named=bool(wanted))) from error
    _opened[path] = state, library
    return library


def stamp(path: str) -> str:
    """Return what tells one version of a library's file from another."""
    try:
        status = os.stat(path)
    except OSError:  # found by the loader alone, under a bare name
        return ""
    return f"{status.st_mtime_ns} {status.st_size}"


def _try_in_child(kind: LibraryKind, path: str, state: str, attempt: str, revive: str) -> None:
    """Refuse a library that crashes or hangs as it is loaded, unless its file is known to do neither."""
    if not Path(path).is_file():  # most machines have none, and a bare name is looked up by the loader anyway
        return
    versions = f"edge-accelerate {__version__} {path} {state}"
    remedy = kind.fitting
    try:
        said = verdict(kind.topic, versions, attempt, lambda: b"", _LOADING_SECONDS, path=path).crash
        remedy += f"; a crash is remembered: to try this one again, delete {folder() / kind.topic}"
    except ChildError as error:
        said, remedy = str(error), error.remedy or (revive if error.timed_out else remedy)
    if said:
        raise BackendNotAvailableError(
            f"{path} cannot be used: it is loaded in a child process first, and {said}", remedy
        )
