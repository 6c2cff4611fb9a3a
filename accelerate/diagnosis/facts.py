"""What backends are told of a machine, to say what on it does not fit together: `Facts`, answered by `Conflict`."""

from __future__ import annotations

import glob
import itertools
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence

from .._records import record
from ..system.debian import debian_version
from ..system.files import read_text
from .board import Board, find_board

__all__ = ["Conflict", "Distribution", "Facts", "gather"]

_MOST_FOUND = 1000


@record(frozen=True)
class Conflict:
    """Something installed that does not fit the rest.

    Attributes
    ----------
    reason : str
        What is wrong: what was found, and what it would have to be.
    remedy : str
        The one command or action that settles it.
    fatal : bool
        Whether something that is installed cannot work; else something may be lost, or only confuses.
    """

    reason: str
    remedy: str
    fatal: bool = False


@record(frozen=True)
class Distribution:
    """An installed distribution.

    Attributes
    ----------
    name : str
        Normalised: lower case, with dashes.
    version : str
    folder : str
        The folder of `sys.path` that it is in.
    """

    name: str
    version: str
    folder: str


@record(frozen=True)
class Facts:
    """A machine.

    Attributes
    ----------
    distributions : Mapping of str to Distribution
        By name; of several the one that is imported.
    python : tuple of int
        (major, minor).
    machine : str
        As `platform.machine` has it: "x86_64", "aarch64", "armv7l".
    board : Board
    root : str
        What stands before the paths of its files; "" on the machine itself.
    """

    distributions: Mapping[str, Distribution]
    python: tuple[int, int]
    machine: str
    board: Board
    root: str = ""

    def read(self, path: str) -> str:
        """Return the text of a file of the machine by its absolute path, "" where there is no such text."""
        return read_text(self.root + path)

    def debian_version(self, package: str) -> str:
        """Return the version of an installed Debian package, "" without it."""
        return debian_version(package, self.root)

    def find(self, *patterns: str) -> list[str]:
        """Return the absolute paths of the machine's files that fit one of the shell's patterns, sorted."""
        start = glob.escape(self.root)
        found = itertools.chain.from_iterable(glob.iglob(start + pattern) for pattern in patterns)
        return sorted({path[len(self.root) :] for path in itertools.islice(found, _MOST_FOUND)})


def gather(root: str = "", path: Sequence[str] | None = None, machine: str = "") -> Facts:
    """Find out about this machine, or the one whose files are in the folder `root`.

    `path` stands for `sys.path`, as the machine itself would have it; `machine` for `platform.machine`.
    """
    folders = sys.path if path is None else path
    distributions: dict[str, Distribution] = {}
    for found in _distributions(root, folders):
        distributions.setdefault(found.name, found)
    return Facts(distributions, sys.version_info[:2], machine or platform.machine(), find_board(root), root)


def _distributions(root: str, folders: Sequence[str]) -> Iterator[Distribution]:
    """Yield what is installed, in the order of the path.

    By the names of its folders, ``name-version.dist-info``
    (https://packaging.python.org/specifications/recording-installed-packages), or ``name-version[-py3.x].egg-info``,
    as Debian has them.
    """
    for folder in dict.fromkeys(folders):
        try:
            names = sorted(os.listdir(root + folder or os.curdir))
        except (OSError, ValueError):
            continue
        for entry in names:
            stem, dot, suffix = entry.rpartition(".")
            name, dash, version = stem.partition("-")
            if dot and dash and suffix in ("dist-info", "egg-info"):
                yield Distribution(name.lower().replace("_", "-").replace(".", "-"), version.partition("-")[0], folder)
