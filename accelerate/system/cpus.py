"""How many CPUs this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator

from ..reports import LoadOptions

__all__ = ["default_threads", "usable_cpus"]


def usable_cpus(root: str = "") -> int:
    """Return the CPUs that the affinity mask and the quotas of cgroups leave to this process, at least 1.

    The quotas are those of the process's own cgroup and its ancestors, of v2 (``cpu.max``, the kernel's
    Documentation/admin-guide/cgroup-v2.rst) or v1 (``cpu.cfs_quota_us``); half a CPU counts as 1. `root` stands before
    the paths of /proc and of the cgroups.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(root))))


def default_threads(options: LoadOptions) -> int:
    """Return what `num_threads` says, else each replica's share of the CPUs."""
    return options.num_threads or max(1, usable_cpus() // options.replicas)


def _quota(root: str) -> float:
    """Return the smallest quota, in CPUs, of the cgroups that this process is in."""
    smallest = math.inf
    with contextlib.suppress(OSError, ValueError, IndexError):  # not Linux, or a form that no kernel has had yet
        for top, own in _cgroups(_read(f"{root}/proc/self/cgroup"), _read(f"{root}/proc/self/mountinfo")):
            folder = own
            while folder.startswith(top):  # from the process's own to the topmost that it sees
                smallest = min(smallest, _quota_of(root + folder))
                folder = os.path.dirname(folder) if folder != top else ""
    return smallest


def _cgroups(memberships: str, mounts: str) -> Iterator[tuple[str, str]]:
    """Yield where each hierarchy with CPU quotas is mounted, and the folder in it of the process's own cgroup.

    The lines are those of cgroups(7) and of /proc/[pid]/mountinfo in proc(5).
    """
    own: dict[str, str] = {}
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            own["cgroup" if controllers else "cgroup2"] = path
    for line in mounts.splitlines():
        place, separator, kind = line.partition(" - ")
        kind, *options = kind.split(" ")
        if not separator or kind not in own or (kind == "cgroup" and "cpu" not in options[-1].split(",")):
            continue
        mounted, top = place.split(" ")[3:5]
        inside = own[kind].removeprefix(mounted.rstrip("/"))
        # a container may see its own cgroup as the topmost one, or be in one that it does not see
        seen = inside.startswith("/") and ".." not in inside.split("/")
        yield top, (top + inside).rstrip("/") if seen else top


def _quota_of(folder: str) -> float:
    with contextlib.suppress(OSError, ValueError):
        quota, period = _read(f"{folder}/cpu.max").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota_us = int(_read(f"{folder}/cpu.cfs_quota_us"))
        return quota_us / int(_read(f"{folder}/cpu.cfs_period_us")) if quota_us > 0 else math.inf
    return math.inf


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()
