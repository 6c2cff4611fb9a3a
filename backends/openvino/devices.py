"""The devices that OpenVINO finds, under names as the other backends have them."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.contract import Device
from accelerate.errors import OptionError

from .errors import text_of
from .runtime import core, import_runtime

__all__ = ["AUTO", "check_properties", "device_of", "devices", "kind_of", "kinds", "native_name"]

AUTO = "auto"
_INTEL = "0x8086"  # the vendor of PCI devices
_SHOWN = {"gpu": "/sys/class/drm/renderD*/device/vendor", "npu": "/sys/class/accel/accel*/device/vendor"}
_DRIVERS = {
    "gpu": "install its OpenCL driver (Debian and Ubuntu: apt install intel-opencl-icd) and be in the group render",
    "npu": "install its driver (github.com/intel/linux-npu-driver) and be in the group render",
}


def kinds() -> tuple[str, ...]:
    """Return the kinds of device that the system shows, without the runtime."""
    return (*(kind for kind in _SHOWN if _shows(kind)), "cpu")


def _shows(kind: str) -> bool:
    for path in glob.glob(_SHOWN[kind]):
        with contextlib.suppress(OSError):
            if Path(path).read_text().strip() == _INTEL:
                return True
    return False


def devices(asked: str | None) -> list[Device]:
    """Return the devices, the CPU last; OpenVINO's own choice among them only where it is asked for."""
    found = [_row(name) for name in core().available_devices]
    found = [row for row in found if row.kind != "cpu"] + [row for row in found if row.kind == "cpu"]
    if asked == AUTO and found:
        chosen = Device("openvino", AUTO, found[0].kind, "OpenVINO's AUTO, which chooses among these and may change")
        return [chosen, *found]
    return [*_missing(found), *found]


def _missing(found: Sequence[Device]) -> Iterator[Device]:
    """Yield what the system shows and OpenVINO does not find."""
    for kind in set(kinds()) - {row.kind for row in found}:
        name = device_id(kind.upper())
        reason = f"the system shows an Intel {kind.upper()}, and OpenVINO does not find it"
        yield Device("openvino", name, kind, f"Intel {kind.upper()}", False, reason, _DRIVERS[kind])


def _row(name: str) -> Device:
    mine = device_id(name)
    title = name
    with contextlib.suppress(Exception):  # a driver that does not tell
        title = str(core().get_property(name, "FULL_DEVICE_NAME"))
    word, _, number = mine.partition(":")
    return Device("openvino", mine, kind_of(mine), title, aliases=(word,) if number == "0" else ())


def kind_of(mine: str) -> str:
    """Return the kind of a device by its id: a stranger's plugin is an accelerator of some sort."""
    word = mine.partition(":")[0]
    return word if word in ("cpu", "gpu") else "npu"


def device_id(name: str) -> str:
    """Return what we call a device of OpenVINO: "CPU" is "cpu", "GPU" and "GPU.0" are "gpu:0", "NPU" is "npu"."""
    mine = name.lower().replace(".", ":", 1)
    return "gpu:0" if mine == "gpu" else mine


def native_name(mine: str) -> str:
    """Return what OpenVINO calls a device of ours that `devices` has listed."""
    if mine == AUTO:
        return "AUTO"
    return next((name for name in core().available_devices if device_id(name) == mine), mine.upper())


def check_properties(mine: str, config: Mapping[str, Any]) -> None:
    """Refuse properties that a device does not take, which only it can tell.

    Raises
    ------
    OptionError
    """
    name, scratch = native_name(mine), import_runtime().Core()  # one that nobody else has
    try:
        scratch.get_property(name, "FULL_DEVICE_NAME")  # which loads the plugin: before that it judges nothing
        scratch.set_property(name, dict(config))
    except Exception as error:
        raise OptionError(
            f"config: OpenVINO refuses a property for {mine}: {text_of(error)}", "correct it, or leave it out"
        ) from error


def device_of(compiled: Any) -> str:
    """Return the device that a compiled model runs on; of several the first."""
    names = compiled.get_property("EXECUTION_DEVICES")
    first = names[0] if isinstance(names, (list, tuple)) else str(names).split(",")[0]
    return device_id(str(first).strip("()"))
