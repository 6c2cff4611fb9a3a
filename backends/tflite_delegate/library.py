"""A library that the user names, and whether it creates a delegate here: told in a child process."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping

from accelerate.backends.tflite.delegates.library import CREATE_SECONDS, Delegate, DelegateLibrary, stamp
from accelerate.backends.tflite.delegates.library import open_library as open_delegate_library
from accelerate.backends.tflite.delegates.overhearing import overheard
from accelerate.contract import ChildError, __version__, folder, verdict
from accelerate.errors import BackendNotAvailableError, DeviceNotFoundError

from .known import KIND, needs_of

__all__ = ["NamedLibrary", "open_library", "refusal_of"]


class NamedLibrary(DelegateLibrary):
    """A delegate's library, which has no way to tell its version or its devices."""

    @property
    def dated_name(self) -> str:
        """The file's name and its day, which stand for its version."""
        with contextlib.suppress(OSError):
            day = time.strftime("%Y-%m-%d", time.localtime(os.stat(self.path).st_mtime))
            return f"{os.path.basename(self.path)} of {day}"
        return os.path.basename(self.path)

    @property
    def is_edgetpu(self) -> bool:
        """Whether it is the library of an Edge TPU, for which there is a backend that knows more."""
        return hasattr(self._dll, "edgetpu_list_devices")


def open_library(option: object) -> NamedLibrary:
    """Load the library that is named, else the one that the variable names.

    Raises
    ------
    BackendNotAvailableError
    """
    library = open_delegate_library(KIND, NamedLibrary, option, f"{__name__}:try_loading")
    if library.is_edgetpu:
        raise BackendNotAvailableError(f"{library.path} is the Edge TPU's library", "use backend='edgetpu'")
    return library


def refusal_of(library: NamedLibrary, delegate_options: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Let a library create a delegate in a child process, unless it is known to do so with these options.

    Returns
    -------
    tuple of str or None
        The name of an error, its reason and its remedy; None where a delegate is created.
    """
    versions = f"edge-accelerate {__version__} {library.path} {stamp(library.path)} creating"
    try:
        tried = verdict(
            KIND.topic, versions, f"{__name__}:try_creating", lambda: b"", CREATE_SECONDS,
            key=str(sorted(delegate_options.items())), path=library.path, delegate_options=dict(delegate_options),
        )  # fmt: skip
    except ChildError as error:
        remedy = error.remedy or (library.revive if error.timed_out else KIND.fitting)
        return _unavailable(f"{library} was to create a delegate in a child process first, and {error}", remedy)
    if tried.crash:
        return _unavailable(
            f"{library} was to create a delegate in a child process first, and {tried.crash}",
            f"{KIND.fitting}; a crash is remembered: to try this one again, delete {folder() / KIND.topic}",
        )
    if tried.wrong:
        kind, reason, remedy = tried.wrong
        return kind, reason, remedy
    return None


def _unavailable(reason: str, remedy: str) -> tuple[str, str, str]:
    return BackendNotAvailableError.__name__, reason, remedy


# The child's side


def try_loading(_: bytes, path: str) -> None:
    """Load a library; what the loader refuses is no danger."""
    with contextlib.suppress(OSError, AttributeError):
        NamedLibrary(path)


def try_creating(_: bytes, path: str, delegate_options: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Create a delegate and let it go; return the error's name, reason and remedy."""
    library = NamedLibrary(path)
    refused = _attempt(library, delegate_options)
    if refused is None:
        return None
    if delegate_options and _attempt(library, {}) is None:
        options = ", ".join(f"{key!r}: {value!r}" for key, value in delegate_options.items())
        return "OptionError", f"{refused} with delegate_options={{{options}}}", "correct them: without any it does"
    return "DeviceNotFoundError", refused, needs_of(path)


def _attempt(library: NamedLibrary, delegate_options: Mapping[str, str]) -> str | None:
    """Return why a library creates no delegate, with what it writes meanwhile; None where it creates one."""
    with overheard() as said:
        try:
            Delegate(library, delegate_options)
        except DeviceNotFoundError as error:
            return ": ".join(filter(None, (error.reason, said())))
    return None
