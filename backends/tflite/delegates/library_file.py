"""Finds a delegate's library, and says why one cannot be loaded."""

from __future__ import annotations

import os
import re
import struct
import sys
from pathlib import Path

from accelerate.contract import record
from accelerate.errors import OptionError

__all__ = ["LibraryKind", "find_file", "wanted_file", "why_unloadable"]

_MACHINES = {3: "x86", 40: "32-bit ARM", 62: "x86-64", 183: "64-bit ARM", 243: "RISC-V"}  # e_machine of the ELF header


@record(frozen=True)
class LibraryKind:
    """A kind of library, as messages speak of it.

    Attributes
    ----------
    topic : str
        The folder of the cache for what is known of such libraries.
    title : str
        What it is: "the runtime library of the board".
    variable : str
        The environment variable that names one.
    install : str
        What to do where there is none, or where it is something else.
    fitting : str
        What to do where it crashes, alone or together with an interpreter.
    """

    topic: str
    title: str
    variable: str
    install: str
    fitting: str


def wanted_file(kind: LibraryKind, option: object) -> str:
    """Return the path or name that ``library=`` of `load` gives, else the variable; "" where neither does."""
    if option is None:
        return os.environ.get(kind.variable, "")
    given = os.fspath(option) if isinstance(option, os.PathLike) else option
    if not isinstance(given, str) or not given or "\0" in given:
        raise OptionError(f"library is {option!r:.60}; wanted the path of {kind.title}, or None")
    return given


def find_file(name: str) -> str:
    """Return the path of a library by its path or name; a bare name where only the system's loader may know it."""
    if os.path.dirname(name):
        return os.path.abspath(name)
    for folder in _folders():
        if os.path.isfile(path := os.path.join(folder, name)):
            return path
    return name


def _folders() -> list[str]:
    import sysconfig

    named = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    ours = sysconfig.get_config_var("MULTIARCH") or ""
    return [
        *filter(None, named),
        *(f"{root}/{ours}" for root in ("/usr/lib", "/lib") if ours),
        *("/usr/local/lib", "/usr/lib64", "/usr/lib", "/lib", "/opt/homebrew/lib"),
    ]


def why_unloadable(kind: LibraryKind, path: str, said: str, *, named: bool) -> tuple[str, str]:
    """Return why the loader refuses the library in the words that it `said`, and what to do.

    `named` tells whether it is the user who has named it.
    """
    looked_up = not os.path.dirname(path)  # by the loader alone, which does not look into the working folder
    if (looked_up or not os.path.isfile(path)) and (named or path in said or "not found" in said):
        if named and os.path.isfile(path):
            return f"the system's loader finds no {path}", f"for the one in this folder give ./{path}"
        if named:
            return f"there is no library {path}", f"correct library= or {kind.variable}"
        return f"{kind.title} {path} is not installed", kind.install
    theirs, ours = _machine(path), _machine("/proc/self/exe")
    if theirs and ours and theirs != ours:
        return f"{path} is built for {theirs}, this Python for {ours}", f"install the library's package for {ours}"
    if os.path.isfile(path) and not theirs and sys.platform == "linux":
        return f"{path} is no library ({said})", kind.install
    if "libusb" in said:
        return f"{path} needs libusb-1.0, which is not installed", "sudo apt install libusb-1.0-0"
    if missing := re.search(r"([\w.+-]+\.so[\w.]*): cannot open shared object", said):
        return f"{path} needs {missing[1]}, which is not installed", "install the package that has it"
    if version := re.search(r"version [`'](\w+_[\d.]+)'", said):
        return (
            f"{path} is built for a newer system: it needs {version[1]}",
            "install the library's package for this version of the system",
        )
    if "symbol" in said:
        return f"{path} is not {kind.title}, or damaged ({said})", kind.install
    return f"{path} cannot be loaded ({said})", kind.install


def _machine(path: str) -> str:
    """Return what processor an ELF file is for, "" for any other file."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(20)
    except OSError:
        return ""
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return ""
    (machine,) = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)
    return _MACHINES.get(machine, f"machine {machine}")
