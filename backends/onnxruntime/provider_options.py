"""Options that providers are given: the exact mode and the threads of OpenVINO, and where engines are to be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .plugins import PluginDevice

__all__ = ["keeping", "plugin_options"]

Options = Mapping[str, str]


def plugin_options(device: PluginDevice, given: Mapping[str, Any], threads: int) -> dict[str, str]:
    """Return the options of a plugin's provider: the user's, and what they leave open.

    OpenVINO computes in bfloat16 where the CPU can, which takes answers far from the model's, unless it is told to be
    exact. What it knows of threads is its own.
    """
    options = {key: str(value) for key, value in given.items() if key not in ("device_type", "device_id")}
    if device.provider != _OPENVINO:
        return options
    settled = {"EXECUTION_MODE_HINT": "ACCURACY"} if device.kind in ("cpu", "gpu") else {}
    if device.kind == "cpu":
        settled["INFERENCE_NUM_THREADS"] = str(threads)
    return _configured(options, device, settled)


def _configured(options: Options, device: PluginDevice, more: Options) -> dict[str, str]:
    """Add to OpenVINO's own properties of a device, where the user has not set them."""
    import json

    try:
        config = json.loads(options.get("load_config", "{}"))
        name = device.properties.get("ov_device", device.kind.upper()).partition(".")[0]
        config[name] = {**more, **config.get(name, {})}
    except (TypeError, ValueError, AttributeError):  # no JSON of this form: the provider says so
        return dict(options)
    return {**options, "load_config": json.dumps(config)}


def keeping(provider: str, options: Options, folder: str, device: PluginDevice | None) -> dict[str, str]:
    """Return the options under which a provider keeps what it builds in a folder."""
    if provider == _OPENVINO and device is not None:
        return _configured(options, device, {"CACHE_DIR": folder})
    if provider == _TENSORRT:
        caches = {f"trt_{kind}_cache_{what}": value for kind in ("engine", "timing")
                  for what, value in (("enable", "1"), ("path", folder))}  # fmt: skip
        return {**caches, **options}
    return dict(options)


_OPENVINO, _TENSORRT = "OpenVINOExecutionProvider", "TensorrtExecutionProvider"
