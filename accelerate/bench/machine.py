"""What the machine is and how it does: read from /proc and /sys, where a figure that cannot be read is left out."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..diagnosis.board import find_board
from ..diagnosis.processor import find_processor
from ..diagnosis.throttling import find_throttling
from ..system.cpus import usable_cpus
from ..system.files import read_text

__all__ = ["condition", "describe_machine", "peak_memory_mb", "reset_peak_memory", "resident_mb"]


def describe_machine() -> dict[str, Any]:
    """Return what a reader needs to judge the figures: the board, its CPUs, and the software."""
    processor = find_processor()
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "board": find_board().name,
        "cpu": processor.name,
        "cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "governor": processor.governor,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "edge_accelerate": __version__,
    }


def condition() -> dict[str, Any]:
    """Return the temperature in degrees Celsius (the hottest zone), the load, and what slows it down or has.

    None, or "", for what the machine does not tell: virtual machines tell nothing.
    """
    found = find_throttling(find_board(), ask=False)  # a program would take time from what is measured
    return {
        "temperature": found.temperature,
        "throttled": ", ".join((*found.now, *found.before)),
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
    for line in read_text("/proc/self/status").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    return None
