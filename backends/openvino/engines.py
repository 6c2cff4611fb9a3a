"""Compiled models in the cache folder: a warm load takes a fifth of a cold one.

They are kept by content, not by OpenVINO's own CACHE_DIR: that knows a model by its path, size and time, and gives the
old one for another of the same (2026.4).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.contract import __version__, folder, write

from .runtime import core, import_runtime

__all__ = ["Engine"]

_log = logging.getLogger("accelerate")
_MAGIC = b"edge-accelerate engine 1\n"
_SUFFIX = ".engine"
_MOST = 1 << 30  # of all together
_MOST_OF_ONE = 1 << 28


class Engine:
    """The place of one compiled model.

    Parameters
    ----------
    digest : str
        Of the model with its weights.
    device : str
        OpenVINO's name.
    settled : str
        The shapes that the model was given.
    config : Mapping
        OpenVINO's properties.
    """

    def __init__(self, digest: str, device: str, settled: str, config: Mapping[str, Any]) -> None:
        from hashlib import sha256  # loads OpenSSL, 2.5 ms

        properties = sorted((key, str(value)) for key, value in config.items())
        said = (__version__, import_runtime().__version__, _hardware(device), digest, settled, properties)
        self._name = sha256(repr(said).encode()).hexdigest() + _SUFFIX

    @property
    def path(self) -> Path:
        """Where it lies. RuntimeError: a user without a home folder."""
        return folder() / "openvino" / self._name

    def read(self, device: str, config: Mapping[str, Any]) -> Any:
        """Return the compiled model, None where there is none that is whole and that OpenVINO takes."""
        from hashlib import sha256

        try:
            content = self.path.read_bytes()
        except (OSError, RuntimeError):
            return None
        start = len(_MAGIC) + 32
        head, content = content[:start], content[start:]
        if head != _MAGIC + sha256(content).digest():
            _log.info("%s is damaged; the model is compiled anew", self.path)
            return None
        try:
            compiled = core().import_model(content, device, dict(config))
        except Exception as error:  # of another processor or driver, say: it raises RuntimeError for all
            _log.info("OpenVINO does not take %s (%s); the model is compiled anew", self.path, type(error).__name__)
            return None
        with contextlib.suppress(OSError):
            os.utime(self.path)  # the least used ones go first
        return compiled

    def keep(self, compiled: Any) -> bool:
        """Write a compiled model, and return whether that could be done: the folder may be full, or not ours."""
        from hashlib import sha256

        try:
            content = compiled.export_model().getbuffer()
            if not content.nbytes or content.nbytes > _MOST_OF_ONE:
                return False
            write(self.path, b"".join((_MAGIC, sha256(content).digest(), content)))
        except Exception as error:  # devices that cannot export say so by RuntimeError
            _log.info("the compiled model is not kept: %s", error)
            return False
        with contextlib.suppress(OSError):
            self._tidy()
        return True

    def _tidy(self) -> None:
        """Remove those that were not used for longest, until the rest is no more than may be."""
        found = []
        with os.scandir(self.path.parent) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    status = entry.stat()
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
        left = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if left <= _MOST:
                break
            left -= size
            with contextlib.suppress(OSError):
                os.unlink(path)


def _hardware(device: str) -> tuple[str, ...]:
    """Return what a compiled model is made for."""
    told = []
    for name in ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "OPTIMIZATION_CAPABILITIES", "GPU_DRIVER_VERSION"):
        with contextlib.suppress(Exception):  # a property that this device has not
            told.append(str(core().get_property(device, name)))
    return (device, *told)
