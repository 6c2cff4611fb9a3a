"""Engines that a provider builds for a model: kept in the cache folder, found again, and told of."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.contract import LoadOptions, Source, __version__
from accelerate.errors import AccelerateError

from .provider_options import keeping, speaks_of_caches
from .providers import COMPILING, KEEPING, ProviderChain
from .runtime import import_runtime

if TYPE_CHECKING:
    from accelerate.contract import KeptEngine

__all__ = ["EngineCache"]

_log = logging.getLogger("accelerate")
_LEAST_ROOM = 1 << 20
_COMPILED, _NODES = "model.onnx", "nodes.json"
#: What tells one driver, or one board, from another.
_DRIVERS = ("/proc/driver/nvidia/version", "/etc/nv_tegra_release", "/proc/device-tree/model")
_TENSORRT = ("libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8")


class EngineCache:
    """The engine of one model on one chain of providers, as far as it can be kept.

    Attributes
    ----------
    chain : ProviderChain
        Told where to keep what it builds.
    """

    def __init__(self, chain: ProviderChain, source: Source, options: LoadOptions) -> None:
        self.chain = chain
        self._plain = chain
        self._source = source
        self._kept: KeptEngine | None = None
        self._state = ""
        self._reason = ""
        compiles = chain.provider in COMPILING and source.format == "onnx"
        if not (compiles or chain.provider in KEEPING) or _settled_by_user(chain):
            return
        try:
            self._kept = _folder(chain, source, options)
        except OSError as error:
            self._state, self._reason = "not kept", f"{error.strerror or error}"
        self._settle()

    @property
    def entries(self) -> Mapping[str, str]:
        """Configuration entries for the session's options."""
        if self._kept is None or self._kept.found or self.chain.provider not in COMPILING:
            return {}
        return {
            "ep.context_enable": "1",
            "ep.context_embed_mode": "0",
            "ep.context_file_path": str(self._kept.path / _COMPILED),
        }

    @property
    def compiled(self) -> str | None:
        """The path of what is loaded in the place of the model, None for the model itself."""
        found = self._kept is not None and self._kept.found and self.chain.provider in COMPILING
        return str(self._kept.path / _COMPILED) if found and self._kept is not None else None

    def announce(self) -> None:
        """Say that what follows takes long, where it does and nobody has done it before."""
        if (self._kept is not None and self._kept.found) or _settled_by_user(self._plain):
            return
        if self.chain.provider in KEEPING | COMPILING and not self.chain.device.startswith("openvino:cpu"):
            then = "it is kept for the next load" if self._kept is not None else (
                f"it cannot be kept ({self._reason}), so that each load builds it; "
                "EDGE_ACCELERATE_CACHE names another folder"
            )  # fmt: skip
            _log.warning(
                "%s builds an engine for %s, which may take minutes; %s", self.chain.device, self._source, then
            )

    def retry(self, error: AccelerateError) -> bool:
        """Tell whether to build again after an error: without a kept engine that may have led to it."""
        kept = self._kept
        if kept is None:
            return False
        if kept.found:
            _log.warning("the engine in %s is of no use and is built again: %s", kept.path, error.reason)
            try:
                kept.renew()
            except OSError as why:
                self._without(str(why))
            return True
        if str(kept.path) in error.reason or not _has_room(kept.path):
            self._without(error.reason)
            return True
        return False

    def finish(self, nodes: Mapping[str, int] | None) -> Mapping[str, int] | None:
        """Keep what was built; return how many operators each provider runs: of the model, not of what was compiled."""
        kept, compiles = self._kept, self.chain.provider in COMPILING
        if kept is None:
            return nodes
        import json

        with contextlib.suppress(OSError, ValueError, TypeError):  # then it is what the session says
            if compiles and kept.found:
                nodes = {str(name): int(n) for name, n in json.loads((kept.path / _NODES).read_bytes()).items()}
            elif compiles and (kept.path / _COMPILED).is_file():
                (kept.path / _NODES).write_text(json.dumps(nodes), "utf-8")
        try:
            self._state = "kept" if kept.found else "built"
            if not kept.keep():
                self._without("the provider has written nothing")
        except OSError as error:
            _log.warning("the engine of %s is not kept: %s", self._source, error.strerror or error)
            self._without(error.strerror or str(error))
        return nodes

    def told(self) -> dict[str, str]:
        """Return what `Model.runtime.details` says of it."""
        if self._kept is not None:
            return {"state": self._state, "path": str(self._kept.path)}
        return {"state": self._state, "reason": self._reason} if self._state else {}

    def close(self) -> None:
        """Be done with it: no session uses the engine any more, or none has come of it."""
        if self._kept is not None:
            if self._state not in ("kept", "built"):
                self._kept.discard()
            self._kept.close()

    def _without(self, reason: str) -> None:
        if self._kept is not None:
            self._kept.discard()
        self._kept, self._state, self._reason = None, "not kept", reason
        self._settle()

    def _settle(self) -> None:
        self.chain = self._plain
        if self._kept is None or self._plain.provider not in KEEPING:
            return
        folder, provider = str(self._kept.path), self._plain.provider
        if self._plain.plugged:
            (device, options), *rest = self._plain.plugged
            plugged = [(device, keeping(provider, options, folder, device)), *rest]
            self.chain = replace(self._plain, plugged=plugged)
        else:
            providers: list[Any] = []
            for entry in self._plain.providers:
                name, options = (entry, {}) if isinstance(entry, str) else entry
                providers.append((name, keeping(name, options, folder, None)) if name == provider else entry)
            self.chain = replace(self._plain, providers=providers)


def _settled_by_user(chain: ProviderChain) -> bool:
    """Tell whether the options of the provider that builds say something of caches."""
    if chain.plugged:
        return speaks_of_caches(chain.plugged[0][1])
    first = chain.providers[0]
    return not isinstance(first, str) and speaks_of_caches(first[1])


def _folder(chain: ProviderChain, source: Source, options: LoadOptions) -> KeptEngine:
    """Return the engine's folder; an OSError says why there is none."""
    from accelerate.contract import kept_engine

    if source.path is None:  # it may be no matter for the disk, and an engine holds its weights
        raise OSError("the model came as bytes")
    digest = source.digest()
    if digest is None:
        raise OSError("the model cannot be read again")
    kept = kept_engine("onnxruntime", _key(chain, digest, options))
    try:
        str(kept.path).encode()
    except UnicodeError:  # providers take texts
        kept.discard()
        raise OSError("the path of the cache folder is no UTF-8") from None
    return kept


def _key(chain: ProviderChain, digest: str, options: LoadOptions) -> dict[str, object]:
    """Return all that an engine depends on."""
    device = chain.plugged[0][0] if chain.plugged else None
    return {
        "model": digest,
        "device": chain.device,
        "hardware": "" if device is None else sorted(device.properties.items()),
        "driver": [text for path in _DRIVERS if (text := _first_line(path))],
        "options": [chain.providers, [(one.provider, given) for one, given in chain.plugged]],
        "shapes": sorted(options.shapes.items()) if isinstance(options.shapes, Mapping) else options.shapes,
        "versions": [
            f"edge-accelerate {__version__}",
            f"onnxruntime {import_runtime().__version__}",
            *_libraries(chain),
        ],
    }


def _libraries(chain: ProviderChain) -> Sequence[str]:
    if chain.plugged:
        from .plugin_packages import plugin_of

        plugin = plugin_of(chain.device)
        return [f"{plugin} {plugin.stamp}"] if plugin is not None else []
    import ctypes

    for library in _TENSORRT:
        with contextlib.suppress(OSError, AttributeError):
            return [f"TensorRT {ctypes.CDLL(library).getInferLibVersion()}"]
    return []


def _first_line(path: str) -> str:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.readline(1000).decode("latin-1").strip("\0\n")
    return ""


def _has_room(path: Path) -> bool:
    import shutil

    with contextlib.suppress(OSError):
        return shutil.disk_usage(path).free >= _LEAST_ROOM
    return True
