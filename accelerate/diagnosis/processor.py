"""The CPUs: what they are, and by which rule their clock is set."""

from __future__ import annotations

import glob
import platform

from .._records import record
from ..system.files import read_text

__all__ = ["Processor", "find_processor"]


@record(frozen=True)
class Processor:
    """The CPUs of a machine.

    Attributes
    ----------
    name : str
        "Cortex-A76", "Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", or only the architecture.
    governor : str
        Of cpufreq, "" where the kernel has none: "ondemand", or several.
    driver : str
        Of cpufreq. "powersave" of intel_pstate and amd-pstate is no lowest clock but one that follows the load
        (the kernel's Documentation/admin-guide/pm/intel_pstate.rst).
    """

    name: str
    governor: str = ""
    driver: str = ""

    @property
    def slow(self) -> bool:
        """Whether the clock stays at its lowest."""
        return "powersave" in self.governor.split("/") and "pstate" not in self.driver


def find_processor(root: str = "") -> Processor:
    """Find out about the CPUs of this machine, or the one whose files are in the folder `root`."""
    start = f"{glob.escape(root)}/sys/devices/system/cpu/cpu[0-9]*/cpufreq"
    governors, drivers = (
        "/".join(sorted({text for file in glob.iglob(f"{start}/scaling_{field}") if (text := read_text(file, 100))}))
        for field in ("governor", "driver")
    )
    return Processor(_name(root), governors, drivers)


def _name(root: str) -> str:
    for line in read_text(f"{root}/proc/cpuinfo").splitlines():
        field, _, value = line.partition(":")
        if field.strip() == "model name" and value.strip():
            return value.strip()[:100]
    # an Arm CPU is known by numbers there, and its device tree calls it "arm,cortex-a76"
    core = read_text(f"{root}/proc/device-tree/cpus/cpu@0/compatible").partition("\0")[0].rpartition(",")[2]
    return core[:100] or platform.machine()
