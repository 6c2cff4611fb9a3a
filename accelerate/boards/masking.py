"""What a report must not tell of its owner, found on this machine and masked in all that goes into the file."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..system.files import read_text

__all__ = ["Mask", "find_private"]

#: What makers of boards call their users and hosts: it tells nothing of the owner, and masked it would garble words.
_FACTORY = frozenset(
    (
        "root",
        "admin",
        "user",
        "pi",
        "ubuntu",
        "debian",
        "mendel",
        "jetson",
        "nvidia",
        "coral",
        "raspberrypi",
        "localhost",
    )
)
_SERIALS = (
    "/proc/device-tree/serial-number",
    "/etc/machine-id",
    "/sys/class/dmi/id/product_serial",
    "/sys/class/dmi/id/product_uuid",
    "/sys/class/dmi/id/board_serial",
    "/sys/class/dmi/id/chassis_serial",
)
_FEWEST = 3  # characters; what is shorter is in too many words
_OWN = "EDGE_ACCELERATE_"
_SECRET = re.compile("TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH|COOKIE", re.I)
_FORMS = (
    (re.compile(r"\b(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I), "<serial>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I), "<serial>"),
    (re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", re.I), "<address>"),
    # a version number may look like any other IPv4 address
    (re.compile(r"\b(?:192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2}\b"), "<address>"),
    (re.compile(r"(?<=://)[^/\s@'\"]*@"), "<user>@"),
)


def find_private(
    root: str = "", environment: Mapping[str, str] = os.environ, models: Sequence[str] = ()
) -> dict[str, str]:
    """Find what this machine's owner need not tell, each with what stands for it in a report.

    Parameters
    ----------
    root : str
        The folder with the machine's files, for another machine's.
    environment : Mapping of str to str
    models : sequence of str
        Files of the owner's whose folders need not be told.
    """
    found: dict[str, str] = {}
    for what, stands in (
        *_variables(environment),
        *((str(Path(model).absolute().parent), "<models>") for model in models),
        (str(Path(__file__).parents[2]), "<packages>"),
        (sys.prefix, "<python>"),
        *((folder, "~") for folder in _homes(environment)),
        *((serial, "<serial>") for serial in _serials(root)),
        *((name, "<host>") for name in _hosts()),
        *((name, "<user>") for name in _users(environment)),
    ):
        if len(what) >= _FEWEST and what.lower() not in _FACTORY:
            found.setdefault(what, stands)
    return found


def _variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        if name.startswith(_OWN) or _SECRET.search(name):
            yield value, f"<{name}>"


def _homes(environment: Mapping[str, str]) -> Iterator[str]:
    home = environment.get("HOME", "")
    if home.count("/") and home != "/":
        yield home.rstrip("/")


def _serials(root: str) -> Iterator[str]:
    for path in _SERIALS:
        yield read_text(f"{root}{path}")
    with contextlib.suppress(OSError):
        for file in Path(f"{root}/sys/bus/usb/devices").glob("*/serial"):
            yield read_text(str(file))
    for line in read_text(f"{root}/proc/cpuinfo").splitlines():
        if line.startswith("Serial"):
            yield line.partition(":")[2].strip()


def _hosts() -> Iterator[str]:
    with contextlib.suppress(OSError):
        name = socket.gethostname()
        yield name
        yield name.partition(".")[0]


def _users(environment: Mapping[str, str]) -> Iterator[str]:
    for name in ("USER", "LOGNAME", "SUDO_USER"):
        yield environment.get(name, "")
    with contextlib.suppress(ImportError, KeyError, OSError):
        import pwd

        yield pwd.getpwuid(os.getuid()).pw_name


class Mask:
    """Replaces what is private in texts.

    Parameters
    ----------
    private : Mapping of str to str
        As `find_private` returns it.
    """

    def __init__(self, private: Mapping[str, str]) -> None:
        self._stands = {what.lower(): stands for what, stands in private.items()}
        # the longest first: a home folder has the user's name in it; whole words: a user may be called "art"
        words = sorted(map(re.escape, self._stands), key=len, reverse=True)
        self._private = re.compile(rf"(?<![^\W_])(?:{'|'.join(words)})(?![^\W_])", re.I) if words else None

    def text(self, text: str) -> str:
        """Mask a text."""
        if self._private is not None:
            text = self._private.sub(lambda found: self._stands[found[0].lower()], text)
        for form, stands in _FORMS:
            text = form.sub(stands, text)
        return text

    def value(self, value: Any) -> Any:
        """Mask all texts in a value that JSON can hold, keys apart: these are ours, or names of tensors."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(each) for each in value]
        return value
