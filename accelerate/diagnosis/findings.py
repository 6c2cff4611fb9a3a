"""What was found out about the machine, judged and in words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from .._records import record
from .board import Board
from .limits import Limits
from .permissions import Denied
from .processor import Processor
from .throttling import Throttling
from .variables import CacheFolder

__all__ = ["Finding", "judge_devices", "judge_limits", "judge_machine", "judge_settings"]

_HOT = 80.0  # degrees Celsius: a Raspberry Pi slows down from here on, most others a little later
_LITTLE_MEMORY = 1 << 30
_LITTLE_SHARED_MEMORY = 128 << 20  # Docker gives 64 MiB


@record(frozen=True)
class Finding:
    """A line of ``doctor``.

    Attributes
    ----------
    what : str
        What it is about.
    found : str
    remedy : str
        "" where nothing has to be done.
    """

    what: str
    found: str
    remedy: str = ""


def judge_machine(board: Board, processor: Processor, throttling: Throttling, cpus: int) -> Iterator[Finding]:
    """Judge the board, its CPUs, and whether it is slowed down."""
    if board.kind == "jetson":
        versions = f"L4T {board.l4t or 'unknown'}, JetPack {board.jetpack or 'unknown'}"
        yield Finding("board", f"{board.name or 'Jetson'}: {versions}")
    elif board.name:
        yield Finding("board", board.name)
    clock = f", governor {processor.governor}" if processor.governor else ""
    yield Finding(
        "CPU",
        f"{cpus} x {processor.name}{clock}" + (": the clock stays at its lowest" if processor.slow else ""),
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor" if processor.slow else "",
    )
    yield from _judge_throttling(board, throttling)


def _judge_throttling(board: Board, throttling: Throttling) -> Iterator[Finding]:
    hot = throttling.temperature is not None and throttling.temperature >= _HOT
    warmth = "" if throttling.temperature is None else f"{throttling.temperature:.0f} degrees Celsius"
    said = [warmth] if warmth else []
    if throttling.now:
        said.append(f"slowed down now by {', '.join(throttling.now)}")
    if throttling.before:
        said.append(f"since it was switched on: {', '.join(throttling.before)}")
    if not throttling.now and not throttling.before and throttling.told:
        said.append("not slowed down")
    if not said:
        return
    amiss = " ".join((*throttling.now, *throttling.before))
    needs = []
    if "voltage" in amiss or "current" in amiss:
        needs.append(
            "use the board's own power supply and cable"
            if board.kind == "raspberry-pi"
            else "use a stronger power supply, or a lower power mode"
        )
    if hot or (amiss and not needs) or any(word in amiss for word in ("heat", "temperature")):
        needs.append("cool it: a heat sink or a fan")
    yield Finding("throttling", "; ".join(said), "; ".join(needs))


def judge_limits(limits: Limits, cpus: int) -> Iterator[Finding]:
    """Judge what a container or a service leaves to this process; `cpus` is how many its affinity allows."""
    said = [limits.container or ("no container" if os.name == "posix" else "")]
    needs = []
    if limits.cpus is not None and limits.cpus < cpus:
        said.append(f"{limits.cpus:.3g} of {cpus} CPUs")
        if limits.cpus < 1:
            said[-1] += ": a call is stopped in its middle until the next period of 100 ms"
            needs.append("docker run --cpus 1, or more")
    memory = limits.memory if limits.memory is not None else limits.total_memory
    if memory is not None:
        of = f" of {_size(limits.total_memory)}" if limits.memory is not None and limits.total_memory else ""
        said.append(f"{_size(memory)}{of} memory")
        if limits.memory is not None and memory < _LITTLE_MEMORY:
            said[-1] += ": a runtime takes some hundred MB, and past the limit the process is killed"
            needs.append("docker run --memory 1g, or more")
    yield Finding("limits", "; ".join(filter(None, said)), "; ".join(needs))
    if limits.shared_memory is not None:
        small = limits.shared_memory < _LITTLE_SHARED_MEMORY
        yield Finding(
            "/dev/shm",
            _size(limits.shared_memory) + (": little for tensors in shared memory with a server" if small else "")
            if limits.shared_memory
            else "there is none: no tensors in shared memory with a server",
            ("docker run --shm-size 256m, or --ipc host" if limits.container else "mount a tmpfs at /dev/shm")
            if small
            else "",
        )


def judge_devices(denied: Sequence[Denied]) -> Iterator[Finding]:
    """Say which devices are there, but not for this user: a line for each group that may use them."""
    for group in dict.fromkeys(each.group for each in denied):
        paths = [each.path for each in denied if each.group == group]
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        yield Finding(
            "permissions",
            f"this user may not read and write {', '.join(paths[:3])}{more}",
            f"they are for the group {group}: sudo usermod -aG {group} $USER, then log in again"
            if group
            else "only root may: a udev rule of the driver's package has to open them",
        )


def judge_settings(
    cache: CacheFolder, variables: Mapping[str, str], unknown: Mapping[str, str], wrong: str
) -> Iterator[Finding]:
    """Judge the cache folder and the environment variables.

    `unknown` has those that nobody reads, with a suggestion each; `wrong` says which value is none.
    """
    if cache.problem:
        yield Finding(
            "cache",
            f"{cache.path or 'no folder'} cannot be written ({cache.problem}): nothing is remembered",
            "set EDGE_ACCELERATE_CACHE to a folder that this user may write",
        )
    else:
        yield Finding("cache", cache.path)
    for name, value in variables.items():
        if name in unknown:
            yield Finding("environment", f"{name} is set, and nobody reads it{unknown[name]}", f"unset {name}")
        else:
            yield Finding("environment", f"{name}={value}")
    if wrong:
        yield Finding("environment", wrong, "correct it, or unset it")


def _size(number: int) -> str:
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MiB"
