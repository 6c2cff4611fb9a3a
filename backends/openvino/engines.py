"""Compiled models in the cache folder: a warm load takes a tenth of a cold one.

They are known by the model's content. OpenVINO's own CACHE_DIR knows a model by its path, size and time, and gives the
old one for another of the same (2026.4).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from accelerate.contract import __version__, kept_engine, write

from .runtime import core, import_runtime

if TYPE_CHECKING:
    from accelerate.contract import KeptEngine

__all__ = ["Engine"]

_log = logging.getLogger("accelerate")
_FILE = "compiled"
_MOST_BYTES = 1 << 28  # it is held in memory twice while it is written


class Engine:
    """The place of one compiled model.

    Parameters
    ----------
    digest : str
        Of the model with its weights.
    device : str
        OpenVINO's name.
    shapes : str
        Those that the inputs were given.
    config : Mapping
        OpenVINO's properties.
    """

    def __init__(self, digest: str, device: str, shapes: str, config: Mapping[str, Any]) -> None:
        self._device, self._config = device, dict(config)
        self._kept: KeptEngine | None = None
        self._state = self._reason = ""
        key = {
            "model": digest, "shapes": shapes, "device": device, "hardware": _hardware(device), "ours": __version__,
            "openvino": str(import_runtime().__version__), "config": sorted((k, str(v)) for k, v in config.items()),
        }  # fmt: skip
        try:
            self._kept = kept_engine("openvino", key)
        except OSError as error:
            self._without(error)

    def read(self) -> Any:
        """Return the compiled model, None where there is none that is whole and that OpenVINO takes."""
        if self._kept is None or not self._kept.found:
            return None
        try:
            compiled = core().import_model((self._kept.path / _FILE).read_bytes(), self._device, self._config)
        except Exception as error:  # it raises RuntimeError for all that is wrong with it
            _log.info("the compiled model in %s is of no use (%s), and made anew", self._kept.path, error)
            try:
                self._kept.renew()
            except OSError as why:
                self._without(why)
            return None
        self._state = "kept"
        self._kept.close()
        return compiled

    def keep(self, compiled: Any) -> None:
        """Write a compiled model, where that can be done: the folder may be full, or not ours."""
        if self._kept is None:
            return
        try:
            content = compiled.export_model().getbuffer()
            if content.nbytes > _MOST_BYTES:
                raise OSError(f"it has {content.nbytes} bytes; at most {_MOST_BYTES} are kept")  # noqa: TRY301
            write(self._kept.path / _FILE, content)
            self._kept.keep()
            self._state = "built"
            self._kept.close()
        except Exception as error:  # a device that exports nothing raises RuntimeError
            self._without(error)

    def discard(self) -> None:
        """Leave nothing behind where no model has come of it."""
        if self._kept is not None:
            self._kept.discard()

    def told(self) -> dict[str, str]:
        """Return what `Model.runtime.details` says of it."""
        if self._kept is None:
            return {"state": "not kept", "reason": self._reason}
        return {"state": self._state, "path": str(self._kept.path)}

    def _without(self, error: Exception) -> None:
        self._reason = getattr(error, "strerror", None) or str(error)
        _log.info("the compiled model is not kept: %s", self._reason)
        if self._kept is not None:
            self._kept.discard()
            self._kept = None


def _hardware(device: str) -> tuple[str, ...]:
    """Return what a compiled model is made for."""
    told = []
    for name in ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "OPTIMIZATION_CAPABILITIES", "GPU_DRIVER_VERSION"):
        with contextlib.suppress(Exception):  # a property that this device has not
            told.append(str(core().get_property(device, name)))
    return tuple(told)
