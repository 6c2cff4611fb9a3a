"""Which distributions that bring an execution provider are installed, and which pip finds.

None is imported for that: importing one may load libraries, and change where others are looked for.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate.contract import Wheels, record

__all__ = ["Plugin", "installed", "is_plugged", "plugin_of", "remedy_for", "short_name"]

_DISTRIBUTION = re.compile(r"(onnxruntime[-_](?:ep[-_]\w[\w.]*?|qnn))-([^-]+)\.dist-info", re.I)


@record(frozen=True)
class Plugin:
    """An installed distribution that brings a provider.

    Attributes
    ----------
    package : str
        What is imported.
    distribution, version : str
    stamp : int
        Of its installation.
    """

    package: str
    distribution: str = ""
    version: str = ""
    stamp: int = 0

    @property
    def name(self) -> str:
        """What the ids of its devices begin with."""
        return short_name(self.package)

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


def short_name(provider: str) -> str:
    """Return what the ids of a provider's devices begin with, by its name or by that of its package."""
    name = re.sub("^onnxruntime_(ep_)?|ExecutionProvider.*$", "", provider).lower()
    return "tensorrt_rtx" if name in ("nv_tensorrt_rtx", "nvtensorrtrtx") else name


def installed() -> list[Plugin]:
    """Return the plugins on `sys.path`; an earlier one hides a later one of its name."""
    found: dict[str, Plugin] = {}
    for folder in dict.fromkeys(sys.path):
        try:
            entries = sorted(os.listdir(folder or os.curdir))
        except OSError:  # a zip file, or no folder at all
            continue
        for entry in entries:
            if match := _DISTRIBUTION.fullmatch(entry):
                where = Path(folder, entry)
                for package in _packages(where, match[1]):
                    if package not in found and importlib.util.find_spec(package) is not None:
                        name = match[1].replace("_", "-").lower()
                        found[package] = Plugin(package, name, match[2], where.stat().st_mtime_ns)
    return list(found.values())


def plugin_of(device: str) -> Plugin | None:
    """Return the installed plugin that a device's id names, if it names one."""
    name = device.partition(":")[0]
    return next((plugin for plugin in installed() if plugin.name == name), None)


def is_plugged(device: str | None, providers: Sequence[str]) -> bool:
    """Tell whether a device's id or one of these providers is of a plugin that is installed."""
    return any(plugin_of(name) is not None for name in (device or "", *map(short_name, providers)))


def _packages(where: Path, distribution: str) -> Sequence[str]:
    """Return what a distribution lets import: one may have another name, or nothing in it but what it requires."""
    try:
        return (where / "top_level.txt").read_text("utf-8").split()
    except (OSError, ValueError):
        return [re.sub("[-.]", "_", distribution).lower()]


@record(frozen=True)
class _Offer:
    """A distribution that pip finds for some machines, and the oldest Python that it takes."""

    distribution: str
    wheels: Wheels
    oldest: tuple[int, int] = (3, 10)


_X86 = ("linux x86_64", "win32 amd64")
_BOTH = (*_X86, "linux aarch64", "win32 arm64")
_OFFERS = {
    "openvino": _Offer("onnxruntime-ep-openvino", Wheels("", (3, 14), _X86, (2, 28))),
    "qnn": _Offer("onnxruntime-qnn", Wheels("", (3, 14), _BOTH, (2, 35)), (3, 11)),
    "tensorrt_rtx": _Offer("onnxruntime-ep-nv-tensorrt-rtx", Wheels("", (3, 14), _BOTH, (2, 35))),
    "webgpu": _Offer("onnxruntime-ep-webgpu", Wheels("", (3, 14), (*_BOTH, "darwin arm64"), (2, 28)), (3, 11)),
}


def remedy_for(name: str) -> str:
    """Return what gives this Python the plugin whose devices' ids begin with a name; "" for an unknown one."""
    offer = _OFFERS.get(name)
    if offer is None:
        return ""
    wanted = offer.wheels.missing()
    if sys.version_info[:2] < offer.oldest:
        wanted = ", ".join(filter(None, (wanted, f"Python {offer.oldest[0]}.{offer.oldest[1]} or newer")))
    if wanted:
        return f"there is no wheel of {offer.distribution} for this machine, it takes {wanted}"
    return f"pip install {offer.distribution}"
