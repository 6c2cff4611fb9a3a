"""Which cgroups this process is in: where the kernel keeps the limits of a container or a service."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .files import read_text

__all__ = ["own_cgroups"]


def own_cgroups(controller: str, root: str = "") -> Iterator[str]:
    """Yield the folders of this process's own cgroup and its ancestors, as far as it sees them.

    Of v2, and of v1 where that has the controller ("cpu", "memory"). The lines read are those of cgroups(7) and of
    /proc/[pid]/mountinfo in proc(5). `root` stands before the paths of /proc and of the cgroups.
    """
    memberships, mounts = (read_text(f"{root}/proc/self/{name}") for name in ("cgroup", "mountinfo"))
    for top, own in _mounted(controller, memberships, mounts):
        folder, inner = own, ""
        while folder.startswith(top) and folder != inner:  # from the process's own to the topmost that it sees
            yield root + folder
            folder, inner = os.path.dirname(folder) if folder != top else "", folder


def _mounted(controller: str, memberships: str, mounts: str) -> Iterator[tuple[str, str]]:
    """Yield where each hierarchy is mounted, and the folder in it of the process's own cgroup."""
    own: dict[str, str] = {}
    for line in memberships.splitlines():
        number, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if number.isdigit() and separator and (not controllers or controller in controllers.split(",")):
            own["cgroup" if controllers else "cgroup2"] = path
    for line in mounts.splitlines():
        place, separator, kind = line.partition(" - ")
        kind, *options = kind.split(" ")
        parts = place.split(" ")
        if not separator or kind not in own or len(parts) < 5 or not options:
            continue
        if kind == "cgroup" and controller not in options[-1].split(","):
            continue
        mounted, top = parts[3:5]
        inside = own[kind].removeprefix(mounted.rstrip("/"))
        # a container may see its own cgroup as the topmost one, or be in one that it does not see
        seen = inside.startswith("/") and ".." not in inside.split("/")
        yield top, (top + inside).rstrip("/") if seen else top
