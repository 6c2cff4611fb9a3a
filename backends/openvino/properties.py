"""What a compiled model says of how it computes."""

from __future__ import annotations

import contextlib
from typing import Any

from .devices import device_id

__all__ = ["needs_threads", "told_properties"]

#: OpenVINO's properties by our names.
_TOLD = {
    "num_threads": "INFERENCE_NUM_THREADS", "precision": "INFERENCE_PRECISION_HINT",
    "execution_mode": "EXECUTION_MODE_HINT", "streams": "NUM_STREAMS",
}  # fmt: skip


def told_properties(compiled: Any, device: str) -> dict[str, Any]:
    """Return what `Model.runtime.details` has of it, without what this device does not tell."""
    of_device: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # AUTO and HETERO tell by device, others themselves
        by_device = compiled.get_property("DEVICE_PROPERTIES")
        of_device = next(properties for name, properties in by_device.items() if device_id(name) == device)
    told: dict[str, Any] = {}
    for mine, theirs in _TOLD.items():
        with contextlib.suppress(Exception):
            value = of_device[theirs] if of_device else compiled.get_property(theirs)
            told[mine] = value if isinstance(value, int) and not hasattr(value, "name") else _word(value)
    return told


def _word(value: Any) -> str:
    """Return a property as a person writes it: "f32" for its Type, "ACCURACY" for its ExecutionMode."""
    if hasattr(value, "get_type_name"):
        return str(value.get_type_name())
    return str(getattr(value, "name", value))


def needs_threads(compiled: Any, device: str) -> bool:
    """Return whether a call waits for threads of OpenVINO's: only the CPU's own with one stream computes without.

    AUTO has a thread whatever it has chosen. It has no NUM_STREAMS of its own, nor has HETERO.
    """
    try:
        return device != "cpu" or compiled.get_property("NUM_STREAMS") != 1
    except Exception:
        return True
