"""Recognises the package on PyPI that is called pycoral and has nothing to do with the Edge TPU."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["about_namesake"]


def about_namesake() -> str:
    """Return a remark for messages about the missing library, "" where that package is not installed."""
    for folder in map(Path, sys.path):
        if any(folder.glob("pycoral-*.dist-info")) and not (folder / "pycoral/utils/edgetpu.py").is_file():
            return f" (the package pycoral in {folder} is an unrelated program: pip uninstall pycoral)"
    return ""
