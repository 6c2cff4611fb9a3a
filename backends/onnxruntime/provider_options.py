"""Options that providers are given: the exact mode and the threads of OpenVINO, and where engines are to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accelerate.errors import OptionError

if TYPE_CHECKING:
    from .plugins import PluginDevice

__all__ = ["OPENVINO", "check_pairs", "keeping", "openvino_properties", "plugin_options", "speaks_of_caches"]

Options = Mapping[str, str]
OPENVINO, _TENSORRT = "OpenVINOExecutionProvider", "TensorrtExecutionProvider"
_CONFIG = "load_config"  # OpenVINO's properties by its names of devices, as JSON


def check_pairs(pairs: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Judge ``providers=`` of `load`, without the runtime.

    Raises
    ------
    OptionError
    """
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError(f"providers has {twice[0]} twice", "name each provider once")
    for name, options in pairs:
        if name == OPENVINO and _CONFIG in options:
            _config(options[_CONFIG])


def _config(given: Any) -> dict[str, dict[str, Any]]:
    import json

    try:
        config = dict(given) if isinstance(given, Mapping) else json.loads(given)
        if isinstance(config, dict) and all(isinstance(properties, Mapping) for properties in config.values()):
            return config
    except (TypeError, ValueError):
        pass
    raise OptionError(
        f"providers: {_CONFIG} of {OPENVINO} is {given!r:.100}; wanted OpenVINO's properties by device, as JSON or a "
        'dict, such as {"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}'
    )


def plugin_options(device: PluginDevice, given: Mapping[str, Any], threads: int) -> dict[str, str]:
    """Return the options of a plugin's provider: the user's, and what they leave open.

    OpenVINO computes in bfloat16 where the CPU can, which takes answers far from the model's, unless it is told to be
    exact. It maps files of its cache, and a mapping of one that is cut short ends the process. What it knows of threads
    is its own.
    """
    import json

    options = {key: str(value) for key, value in given.items() if key not in ("device_type", "device_id", _CONFIG)}
    if _CONFIG in given:
        options[_CONFIG] = json.dumps(_config(given[_CONFIG])) if device.provider == OPENVINO else str(given[_CONFIG])
    if device.provider != OPENVINO:
        return options
    settled = {"ENABLE_MMAP": "NO"}
    if device.kind in ("cpu", "gpu"):
        settled["EXECUTION_MODE_HINT"] = "ACCURACY"
    if device.kind == "cpu":
        settled["INFERENCE_NUM_THREADS"] = str(threads)
    return _configured(options, device, settled)


def _configured(options: Options, device: PluginDevice, more: Options) -> dict[str, str]:
    """Add to OpenVINO's own properties of a device, where the user has not set them."""
    import json

    config = json.loads(options.get(_CONFIG, "{}"))
    name = _name_in_config(device)
    config[name] = {**more, **config.get(name, {})}
    return {**options, _CONFIG: json.dumps(config)}


def openvino_properties(device: PluginDevice, options: Options) -> Mapping[str, Any]:
    """Return what `plugin_options` has settled of OpenVINO's own properties of a device."""
    return _config(options.get(_CONFIG, "{}")).get(_name_in_config(device), {})


def _name_in_config(device: PluginDevice) -> str:
    return device.properties.get("ov_device", device.kind.upper()).partition(".")[0]


def keeping(provider: str, options: Options, folder: str, device: PluginDevice | None) -> dict[str, str]:
    """Return the options under which a provider keeps what it builds in a folder."""
    if provider == OPENVINO and device is not None:
        return _configured(options, device, {"CACHE_DIR": folder})
    if provider == _TENSORRT:
        caches = {f"trt_{kind}_cache_{what}": value for kind in ("engine", "timing")
                  for what, value in (("enable", "1"), ("path", folder))}  # fmt: skip
        return {**caches, **options}
    return dict(options)


def speaks_of_caches(options: Mapping[str, Any]) -> bool:
    """Tell whether a user's options settle where a provider keeps what it builds."""
    names = {str(name).lower() for name in options}
    if _CONFIG in options:
        names |= {str(name).lower() for properties in _config(options[_CONFIG]).values() for name in properties}
    return any("cache" in name for name in names - {"kv_cache_precision"})
