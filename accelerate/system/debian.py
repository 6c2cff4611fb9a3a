"""What dpkg has installed: Debian, Ubuntu, Raspberry Pi OS, Jetson Linux."""

from __future__ import annotations

import re

from .files import read_text

__all__ = ["debian_version"]

_MOST = 1 << 25  # of dpkg's database; a desktop's has 5 MB


def debian_version(package: str, root: str = "") -> str:
    """Return the version of an installed package, "" without it; `root` stands before the path of dpkg's database.

    A paragraph for each package, a field a line (deb822(5), dpkg-query(1)).
    """
    database = read_text(f"{root}/var/lib/dpkg/status", _MOST)
    for found in re.finditer(rf"^Package: {re.escape(package)}\n(?:.+\n?)*", database, re.MULTILINE):
        version = re.search(r"^Version: *(\S+)", found[0], re.MULTILINE)
        if version and re.search(r"^Status: \S+ \S+ installed$", found[0], re.MULTILINE):
            return version[1]
    return ""
