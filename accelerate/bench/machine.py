"""What the machine is and how it does: read from /proc and /sys, where a figure that cannot be read is left out."""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..system.cpus import usable_cpus

__all__ = ["condition", "describe_machine", "peak_memory_mb", "reset_peak_memory", "resident_mb"]

_CPUS = Path("/sys/devices/system/cpu")
_THERMAL = Path("/sys/class/thermal")
# a Raspberry Pi says here whether it has been throttled since it was switched on
_PI_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")


def describe_machine() -> dict[str, Any]:
    """Return what a reader needs to judge the figures: the board, its CPUs, and the software."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "board": _board(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "governor": _read(_CPUS / "cpu0/cpufreq/scaling_governor"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "edge_accelerate": __version__,
    }


def condition() -> dict[str, Any]:
    """Return the temperature in degrees Celsius (the hottest zone), the load, and whether it is throttled.

    None for what the machine does not tell: virtual machines tell nothing.
    """
    temperatures = [int(text) / 1000 for zone in _THERMAL.glob("thermal_zone*/temp") if (text := _read(zone)).isdigit()]
    return {
        "temperature": max(temperatures, default=None),
        "throttled": _read(_PI_THROTTLED) or _throttle_count(),
        "load": os.getloadavg()[0],
    }


def resident_mb() -> float | None:
    """Return what the process holds in memory now, in MB of 10^6 bytes."""
    return _status("VmRSS:")


def peak_memory_mb() -> float | None:
    """Return the most that the process has held since `reset_peak_memory`, in MB of 10^6 bytes."""
    return _status("VmHWM:")


def reset_peak_memory() -> bool:
    """Begin to watch the peak anew; False where the kernel does not allow that.

    Writing 5 resets VmHWM: the kernel's Documentation/filesystems/proc.rst.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> float | None:
    for line in _read(Path("/proc/self/status")).splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def _board() -> str:
    # device tree strings end with a zero byte
    return _read(Path("/proc/device-tree/model")).rstrip("\0") or _read(Path("/sys/class/dmi/id/product_name"))


def _cpu() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def _throttle_count() -> str:
    counts = [_read(file) for file in _CPUS.glob("cpu*/thermal_throttle/core_throttle_count")]
    return str(sum(int(count) for count in counts if count.isdigit())) if counts else ""


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").strip()
    return ""
