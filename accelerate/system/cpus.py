"""How many CPUs this process may use."""

from __future__ import annotations

import contextlib
import math
import os

from ..reports import LoadOptions
from .cgroups import own_cgroups
from .files import read_text

__all__ = ["affinity", "cpu_quota", "default_threads", "usable_cpus"]


def usable_cpus(root: str = "") -> int:
    """Return the CPUs that the affinity mask and the quotas of cgroups leave to this process, at least 1.

    The quotas are those of the process's own cgroup and its ancestors, of v2 (``cpu.max``, the kernel's
    Documentation/admin-guide/cgroup-v2.rst) or v1 (``cpu.cfs_quota_us``); half a CPU counts as 1. `root` stands before
    the paths of /proc and of the cgroups.
    """
    return max(1, math.ceil(min(affinity(), cpu_quota(root))))


def affinity() -> int:
    """Return the CPUs that the affinity mask leaves to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads(options: LoadOptions) -> int:
    """Return what `num_threads` says, else each replica's share of the CPUs."""
    return options.num_threads or max(1, usable_cpus() // options.replicas)


def cpu_quota(root: str = "") -> float:
    """Return the smallest quota, in CPUs, of the cgroups that this process is in; infinity without one."""
    return min(map(_quota_of, own_cgroups("cpu", root)), default=math.inf)


def _quota_of(folder: str) -> float:
    with contextlib.suppress(ValueError, ZeroDivisionError):
        quota, period = read_text(f"{folder}/cpu.max").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(ValueError, ZeroDivisionError):
        quota_us = int(read_text(f"{folder}/cpu.cfs_quota_us"))
        return quota_us / int(read_text(f"{folder}/cpu.cfs_period_us")) if quota_us > 0 else math.inf
    return math.inf
