"""Hugging Face's `accelerate` has the same import name: installed into one environment, each overwrites the other.

Stands alone (standard library, no relative import): `edge_accelerate_cli` also loads it by its path on a mixed tree.
"""

from __future__ import annotations

import os
import re

__all__ = ["REPAIR", "collision"]

REPAIR = (
    "pip uninstall -y accelerate edge-accelerate\n"
    "    pip install --no-cache-dir edge-accelerate\n"
    "Use another virtual environment for programs that need Hugging Face accelerate."
)


def collision(site: str) -> str | None:
    """Return a message when another distribution owns ``accelerate/__init__.py`` in the folder `site`.

    The folder is listed rather than asked through `importlib.metadata`, which takes over 30 ms to import.
    """
    try:
        names = os.listdir(site)
    except OSError:  # inside a zip file: nothing was overwritten there
        return None
    for name in names:
        if re.fullmatch(r"accelerate-[^-]+\.dist-info", name) and _owns_package(os.path.join(site, name, "RECORD")):
            version = name[len("accelerate-") : -len(".dist-info")]
            return (
                f"Hugging Face accelerate {version} and edge-accelerate are both installed in {site}; both are "
                f"imported as 'accelerate' and have overwritten each other's files. To repair:\n    {REPAIR}"
            )
    return None


def _owns_package(record: str) -> bool:
    try:
        with open(record, encoding="utf-8") as file:
            return any(line.startswith("accelerate/__init__.py,") for line in file)
    except OSError:
        return False
