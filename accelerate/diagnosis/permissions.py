"""Device files that are there, but not for this user, of accelerators whose backend cannot say so itself."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence

from .._records import record

__all__ = ["Denied", "find_denied"]

#: GPUs of a card and of a Jetson, GPUs and NPUs by the kernel's own interfaces, and other makers' accelerators.
_DEVICES = (
    "/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvmap",
    "/dev/nvgpu/igpu0/as", "/dev/dri/renderD*", "/dev/accel/accel*", "/dev/hailo*",
)  # fmt: skip


@record(frozen=True)
class Denied:
    """A device file that this user may not read and write.

    Attributes
    ----------
    path : str
    group : str
        Whose members may; "" where only root may.
    """

    path: str
    group: str


def find_denied(root: str = "") -> Sequence[Denied]:
    """Find what this user may not use, of this machine or the one whose files are in the folder `root`."""
    found = []
    for pattern in _DEVICES:
        for path in sorted(glob.iglob(glob.escape(root) + pattern)):
            try:
                status = os.stat(path)
            except OSError:
                continue
            if not stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.W_OK):
                open_to_group = status.st_mode & 0o060 == 0o060 and status.st_gid != 0
                found.append(Denied(path[len(root) :], _group_name(status.st_gid) if open_to_group else ""))
    return found


def _group_name(number: int) -> str:
    import grp  # Unix has it

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:  # a container knows the host's groups by their numbers only
        return str(number)
