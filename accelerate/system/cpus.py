"""How many CPUs this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

from ..reports import LoadOptions

__all__ = ["default_threads", "usable_cpus"]


def usable_cpus() -> int:
    """Return the CPUs that the affinity mask and the cgroup's quota leave to this process, at least 1.

    The quota is that of cgroup v2 (``cpu.max``, the kernel's Documentation/admin-guide/cgroup-v2.rst) or v1
    (``cpu.cfs_quota_us``); a container with half a CPU counts as 1.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota())))


def default_threads(options: LoadOptions) -> int:
    """Return what `num_threads` says, else each replica's share of the CPUs."""
    return options.num_threads or max(1, usable_cpus() // options.replicas)


def _quota() -> float:
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        period_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else math.inf
    return math.inf
