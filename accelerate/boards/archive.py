"""The file that a board's owner sends: written whole after each step, so that a board that hangs leaves what it had."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import OptionError
from .masking import Mask

__all__ = ["Archive"]


class Archive:
    """A zip file of texts, with what is private masked.

    Parameters
    ----------
    path : pathlib.Path
    mask : Mask
    """

    def __init__(self, path: Path, mask: Mask) -> None:
        self.path = path
        self._mask = mask

    def write(self, report: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Write it anew; where that fails, the file as it was before stays.

        Parameters
        ----------
        report : Mapping
            For ``report.json``.
        files : Mapping of str to str
            The further files' names and contents.

        Raises
        ------
        OptionError
            The file cannot be written.
        """
        part = self.path.with_name(f".{self.path.name}.part")
        texts = {"report.json": json.dumps(self._mask.value(report), indent=1)}
        texts |= {name: self._mask.text(content) for name, content in files.items()}
        try:
            with part.open("wb") as raw:
                with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as file:
                    for name, content in texts.items():
                        file.writestr(name, content.encode("utf-8", "backslashreplace"))
                raw.flush()
                os.fsync(raw.fileno())  # a board that the next step crashes comes up with the file whole
            part.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise OptionError(
                f"the report {self.path} cannot be written: {error.strerror or error}",
                "free some space, or give another --output",
            ) from error
