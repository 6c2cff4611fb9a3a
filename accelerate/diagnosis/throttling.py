"""Whether the machine is slowed down, by heat or for want of power, and how warm it is."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import signal

from .._records import record
from ..system.files import read_text
from .board import Board

__all__ = ["Throttling", "find_throttling"]

#: Bits of a Raspberry Pi's get_throttled, now; what has occurred since it was switched on is 16 bits higher:
#: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled.
_BITS = {0: "under-voltage", 1: "a capped frequency", 2: "throttling", 3: "the soft temperature limit"}
_OCCURRED = 16
#: Of /sys/class/thermal, whose state above 0 slows something down, other than a fan: the kernel's own names
#: (Documentation/driver-api/thermal/sysfs-api.rst), and a Jetson's alerts ("gpu-throttle-alert").
_SLOWS = re.compile(r"(thermal-)?(cpu|dev)freq\b.*|Processor|.*-throttle-alert")
#: A zone whose temperature is no measurement: a Jetson Nano's and TX2's power chip says 100 degrees, cold or hot.
_NO_SENSOR = "PMIC"
_SECONDS = 2.0  # for a program that asks the firmware


@record(frozen=True)
class Throttling:
    """Whether a machine is slowed down.

    Attributes
    ----------
    temperature : float or None
        Of its hottest zone, in degrees Celsius; None where nothing tells.
    now : tuple of str
        What slows it down now.
    before : tuple of str
        What has, since it was switched on.
    told : bool
        Whether anything tells: virtual machines tell nothing.
    """

    temperature: float | None = None
    now: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    told: bool = False


def find_throttling(board: Board, root: str = "", *, ask: bool = True) -> Throttling:
    """Find out whether this machine is slowed down, or the one whose files are in the folder `root`.

    `ask` allows to start a program where no file tells; not for another machine.
    """
    zones = [
        _number(f"{folder}/temp")
        for folder in glob.iglob(f"{glob.escape(root)}/sys/class/thermal/thermal_zone*")
        if not read_text(f"{folder}/type", 100).startswith(_NO_SENSOR)
    ]
    temperature = max((zone / 1000 for zone in zones if zone is not None), default=None)
    now: list[str] = []
    before: list[str] = []
    told = False
    for found in (_of_firmware(board, root, ask and not root), _of_cooling(root), _of_counters(root)):
        if found is not None:
            told = True
            now += found[0]
            before += found[1]
    return Throttling(temperature, tuple(now), tuple(before), told)


def _of_firmware(board: Board, root: str, ask: bool) -> tuple[list[str], list[str]] | None:
    """Return what a Raspberry Pi's firmware says: hexadecimal in a file, else by the program vcgencmd."""
    if board.kind != "raspberry-pi":
        return None
    files = glob.glob(f"{glob.escape(root)}/sys/devices/platform/soc*/soc*:firmware/get_throttled")
    said = read_text(files[0]) if files else _ask_firmware() if ask else ""
    bits = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", said)
    if bits is None:
        return None
    value = int(bits[1], 16)
    return (
        [text for bit, text in _BITS.items() if value >> bit & 1],
        [text for bit, text in _BITS.items() if value >> bit + _OCCURRED & 1 and not value >> bit & 1],
    )


def _ask_firmware() -> str:
    """Return what ``vcgencmd get_throttled`` prints, "" where it fails or gives no answer in time."""
    import subprocess

    try:
        asked = subprocess.Popen(
            ["vcgencmd", "get_throttled"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except OSError:
        return ""
    try:
        said, _ = asked.communicate(timeout=_SECONDS)
        return said.decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:  # with all that it has started, which may hold the pipe open
        with contextlib.suppress(OSError):
            os.killpg(asked.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that a driver holds fast cannot even be killed
            asked.wait(_SECONDS)
        if asked.stdout is not None:
            asked.stdout.close()
        return ""


def _of_cooling(root: str) -> tuple[list[str], list[str]] | None:
    """Return which of the kernel's cooling devices slow something down now."""
    found, slowed = False, []
    for folder in sorted(glob.iglob(f"{glob.escape(root)}/sys/class/thermal/cooling_device*")):
        kind, state = read_text(f"{folder}/type"), _number(f"{folder}/cur_state")
        if state is not None and _SLOWS.fullmatch(kind):
            found = True
            if state > 0:
                slowed.append(f"heat ({kind})")
    return (list(dict.fromkeys(slowed)), []) if found else None


def _of_counters(root: str) -> tuple[list[str], list[str]] | None:
    """Return what has been counted: heat of an x86 CPU's cores, and over-current events of a Jetson.

    The kernel's Documentation/ABI/testing/sysfs-devices-system-cpu (core_throttle_count), and "Over-current Throttling"
    in the Jetson Linux Developer Guide (oc1_event_cnt, ...).
    """
    start, texts, found = glob.escape(root), [], False
    for pattern, text in (
        ("/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count", "heat"),
        ("/sys/class/hwmon/hwmon*/oc*_event_cnt", "over-current"),
    ):
        counts = [count for file in glob.iglob(start + pattern) if (count := _number(file)) is not None]
        found = found or bool(counts)
        if total := sum(counts):
            texts.append(f"{text} ({total} times)")
    return ([], texts) if found else None


def _number(path: str) -> int | None:
    text = read_text(path, 100)
    return int(text) if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else None
