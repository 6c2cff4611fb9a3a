"""Whether pip finds a wheel for this Python here: a command that cannot succeed is no remedy."""

from __future__ import annotations

import contextlib
import os
import sys

from .._records import record

__all__ = ["Here", "Wheels"]


@record(frozen=True)
class Here:
    """What decides which wheels fit.

    Attributes
    ----------
    python : tuple of int
        (major, minor).
    machine : str
        The system and the CPU's architecture: "linux x86_64", "linux aarch64", "linux armv7l", "darwin arm64".
    libc : tuple of int
        The version of glibc; () for another C library, or on a system without one.
    """

    python: tuple[int, int]
    machine: str
    libc: tuple[int, ...]

    @classmethod
    def now(cls) -> Here:
        """Return what holds for this process."""
        import platform

        machine = platform.machine().lower()
        if sys.maxsize < 1 << 32 and machine in ("aarch64", "armv8l"):  # 32-bit programs on a 64-bit kernel
            machine = "armv7l"
        libc: tuple[int, ...] = ()
        with contextlib.suppress(AttributeError, ValueError, OSError):  # no such name where it is not glibc
            _, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
            libc = tuple(map(int, version.split(".")[:2]))
        return cls(sys.version_info[:2], f"{sys.platform} {machine}", libc)


@record(frozen=True)
class Wheels:
    """What the wheels of a runtime fit, as its distribution is published.

    Attributes
    ----------
    extra : str
        The extra that installs it.
    newest : tuple of int
        The newest Python, (major, minor).
    machines : tuple of str
        See `Here.machine`.
    libc : tuple of int
        The least version of glibc on Linux.
    """

    extra: str
    newest: tuple[int, int]
    machines: tuple[str, ...]
    libc: tuple[int, int]

    def missing(self, here: Here | None = None) -> str:
        """Say what would have to be another for a wheel to fit; "" where one does. `here` is this process."""
        here = here or Here.now()
        wanted = []
        if here.machine not in self.machines:
            wanted.append(" or ".join(self.machines))
        if here.python > self.newest:
            wanted.append(f"Python {self.newest[0]}.{self.newest[1]} or older")
        if here.machine.startswith("linux") and here.libc < self.libc:
            wanted.append(f"a system with glibc {self.libc[0]}.{self.libc[1]} or newer")
        return ", ".join(wanted)

    def remedy(self, here: Here | None = None) -> str:
        """Return the command that installs the runtime, or what it takes for one to work; `here` is this process."""
        here = here or Here.now()
        if missing := self.missing(here):
            version = f"{here.python[0]}.{here.python[1]}"
            return f"there is no wheel for Python {version} on {here.machine}, it takes {missing}"
        return f'pip install "edge-accelerate[{self.extra}]"'
