"""What a container or a service leaves to this process: CPUs, memory, shared memory."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator

from .._records import record
from ..system.cgroups import own_cgroups
from ..system.cpus import cpu_quota
from ..system.files import read_text

__all__ = ["Limits", "find_limits"]

#: Where others name themselves: https://systemd.io/CONTAINER_INTERFACE ("systemd-nspawn", "lxc", "wsl").
_MANAGERS = ("/run/host/container-manager", "/run/systemd/container")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@record(frozen=True)
class Limits:
    """What there is for this process, in CPUs and in bytes.

    Attributes
    ----------
    container : str
        "Docker", "Podman", "Kubernetes", "systemd-nspawn", ..., or "" outside of any.
    cpus : float or None
        The quota of its cgroups; None without one.
    memory : int or None
        The limit of its cgroups; None without one.
    total_memory : int or None
        The machine's.
    shared_memory : int or None
        The size of /dev/shm; 0 where it is missing, None where nothing tells.
    """

    container: str = ""
    cpus: float | None = None
    memory: int | None = None
    total_memory: int | None = None
    shared_memory: int | None = None


def find_limits(root: str = "") -> Limits:
    """Find out about this process's limits, or those of one whose files are in the folder `root`."""
    quota = cpu_quota(root)
    total = re.search(r"^MemTotal:\s+(\d{1,15}) kB", read_text(f"{root}/proc/meminfo"), re.MULTILINE)
    memory = int(total[1]) * 1024 if total else None
    limit = min(_memory_limits(root), default=None)
    return Limits(
        _container(root),
        None if math.isinf(quota) else quota,
        limit if limit is not None and (memory is None or limit < memory) else None,
        memory,
        _shared_memory(root, memory),
    )


def _container(root: str) -> str:
    """Return what the container is, by the files that its engine leaves in it, else by the name of its cgroup."""
    cgroup = read_text(f"{root}/proc/self/cgroup")
    for name, found in (
        ("Kubernetes", "kubepods" in cgroup or os.path.exists(f"{root}/var/run/secrets/kubernetes.io")),
        ("Docker", os.path.exists(f"{root}/.dockerenv") or "/docker" in cgroup),
        ("Podman", os.path.exists(f"{root}/run/.containerenv") or "libpod" in cgroup),
        ("LXC", "/lxc" in cgroup),
    ):
        if found:
            return name
    for file in _MANAGERS:
        if said := re.fullmatch(r"[\w.+-]{1,40}", read_text(root + file, 100), re.ASCII):
            return said[0]
    return ""


def _memory_limits(root: str) -> Iterator[int]:
    """Yield the limits of this process's cgroups, of v2 (memory.max) or v1 (memory.limit_in_bytes)."""
    for folder in own_cgroups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read_text(f"{folder}/{name}", 100)
            if re.fullmatch(r"\d{1,20}", text, re.ASCII):
                yield int(text)


def _shared_memory(root: str, total: int | None) -> int | None:
    """Return the size of /dev/shm: by the option of its mount, else half of the memory (tmpfs(5))."""
    mounts = [line.split(" ") for line in read_text(f"{root}/proc/self/mounts").splitlines()]
    for _, place, kind, options, *_ in (each for each in reversed(mounts) if len(each) >= 4):
        if place == "/dev/shm" and kind == "tmpfs":
            size = re.search(r"(?:^|,)size=(\d{1,15})([kmg]?)(?:,|$)", options)
            return int(size[1]) * _UNITS[size[2]] if size else total and total // 2
    return 0 if mounts and not os.path.isdir(f"{root}/dev/shm") else None
