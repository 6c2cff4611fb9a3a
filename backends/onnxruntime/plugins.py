"""Execution providers that come as plugins: libraries in distributions of their own, which ONNX Runtime loads.

What a user names, or asks for in a list, is registered in a child process first: a library that was made for another
version of ONNX Runtime may crash it. So may its first run, which is made there, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.contract import (
    DTYPES,
    Array,
    ChildError,
    Device,
    __version__,
    held_back,
    record,
    try_digits,
    verdict,
)
from accelerate.errors import DeviceNotFoundError, InferenceError

from .errors import without_noise
from .plugin_packages import Plugin, installed, plugin_of, remedy_for, short_name
from .runtime import IN_BUILDS, LINES, answer_of, import_runtime
from .shared_libraries import fuller_copies, load_fuller_copies

__all__ = [
    "PluginDevice",
    "brings",
    "devices",
    "find_device",
    "registered_devices",
    "try_device",
    "try_library",
]

_Judgement = tuple[bool, str, str]  # whether it is ready, and what else: reason and remedy
_READY: _Judgement = True, "", ""
_VIRTUAL: _Judgement = (
    False, "it is no device that is here, but one that models can be compiled for", "use a machine that has one",
)  # fmt: skip
#: The kind of what a provider is known for: where its library cannot tell, and where several devices are wanted.
_KINDS = {"openvino": "npu", "qnn": "npu", "vitisai": "npu"}
_TITLES = {"openvino": "OpenVINO", "qnn": "QNN", "tensorrt_rtx": "TensorRT RTX", "webgpu": "WebGPU"}
#: Of devices, preferred first.
_PREFERRED = ("gpu", "npu", "cpu")
_TIMEOUT = 120.0
_TOPIC = "onnxruntime-plugins"
#: What a plugin may lack that registers and finds no device.
_MISSING = {
    "webgpu": "install a Vulkan loader (Debian: apt install libvulkan1) and the driver of the GPU",
    "qnn": "run it on a machine with a Qualcomm NPU",
    "tensorrt_rtx": "install the driver of an NVIDIA RTX GPU",
}


@record(frozen=True)
class PluginDevice:
    """A device that a registered plugin has found.

    Attributes
    ----------
    id, kind, name : str
        As `Device` has them.
    provider : str
        The execution provider.
    handle : object
        The ``OrtEpDevice``.
    """

    id: str
    kind: str
    name: str
    provider: str
    handle: Any

    @property
    def properties(self) -> Mapping[str, str]:
        """What the provider says of it."""
        return {str(key): str(value) for key, value in self.handle.ep_metadata.items()}

    @property
    def is_virtual(self) -> bool:
        """Whether it is only there to be compiled for."""
        return str(self.handle.device.metadata.get("is_virtual")) == "1"


def devices(wanted: str | None) -> list[Device]:
    """Return the devices of all plugins, or those that an id or a kind may mean, each with whether it is ready."""
    only = "" if wanted is None or wanted in _PREFERRED else wanted.partition(":")[0]
    plugins = [plugin for plugin in installed() if only in ("", plugin.name)]
    rows: list[Device] = []
    for plugin in plugins:
        rows += _devices_of(plugin, wanted)
    for device in _foreign({plugin.name for plugin in plugins}):
        if only in ("", _owner(device.provider)):
            rows.append(_row(device, _judged_here(device)))
    if not plugins and not rows and remedy_for(only):
        reason = f"no plugin of ONNX Runtime that has {wanted} is installed"
        rows.append(_unusable(only, wanted, reason, remedy_for(only)))
    rows.sort(key=lambda row: _PREFERRED.index(row.kind))
    return rows


def brings(provider: str) -> bool:
    """Tell whether a provider is that of an installed plugin, by their names."""
    return "." not in provider and plugin_of(short_name(provider)) is not None


_used_in: dict[str, int] = {}  # a provider -> the process that has first built a session on it


def find_device(name: str) -> PluginDevice:
    """Return a device that `devices` has found ready, for a session in this process, in which its plugin is registered.

    Raises
    ------
    DeviceNotFoundError
    """
    if (plugin := plugin_of(name)) is not None:
        _register(plugin)
    for device in registered_devices():
        if device.id == name:
            if _used_in.setdefault(device.provider, os.getpid()) != os.getpid():
                raise DeviceNotFoundError(
                    f"{name} was used by the process that this one was forked off; its threads are not here, and a "
                    "session would wait for them",
                    "load(..., isolation='process'), or start workers without a fork (multiprocessing's 'spawn')",
                )
            return device
    raise DeviceNotFoundError(f"{name} is not here any more", "run edge-accelerate doctor")


def _devices_of(plugin: Plugin, wanted: str | None) -> Iterator[Device]:
    refusal = _why_not_registered(plugin)
    if refusal is not None:
        yield _unusable(plugin.name, wanted, *refusal)
        return
    found = [device for device in registered_devices() if _owner(device.provider) == plugin.name]
    for device in found:
        aliases = _aliases(device, found)
        meant = wanted is None or wanted in (device.id, device.kind, *aliases)
        if meant:
            yield _row(device, _trial(plugin, device), aliases)
        elif wanted not in _PREFERRED:  # it is not what is loaded, and need not be tried
            yield _row(device, _READY, aliases)
    if not found:
        reason = f"{plugin} finds no device here"
        yield _unusable(plugin.name, wanted, reason, _MISSING.get(plugin.name, "install the driver of its device"))


def _why_not_registered(plugin: Plugin) -> tuple[str, str] | None:
    """Register a plugin; return reason and remedy where that cannot be done, else None."""
    runtime = import_runtime()
    here = f"onnxruntime {runtime.__version__}"
    if not hasattr(runtime, "register_execution_provider_library"):
        return f"{here} takes no plugins, such as {plugin}", "pip install --upgrade onnxruntime (1.23 or newer)"
    update = f"install versions that fit each other: pip install --upgrade onnxruntime {plugin.distribution}"
    try:
        found = verdict(
            _TOPIC, _versions(), f"{__name__}:try_library", bytes, _TIMEOUT,
            key=_key(plugin), name=str(plugin), package=plugin.package,
        )  # fmt: skip
    except ChildError as error:
        return f"{plugin} could not be tried: {error}", error.remedy or "try again"
    if found.crash:
        return f"registering {plugin} crashes {here}: {found.crash}", update
    if found.wrong:
        return f"{plugin} does not register with {here}: {found.wrong}", update
    try:
        _register(plugin)
    except Exception as error:  # a stranger's code, and a library that any program may have registered in another way
        return f"{plugin} does not register with {here}: {without_noise(error)}", update
    return None


def _versions() -> str:
    return f"edge-accelerate {__version__}, onnxruntime {import_runtime().__version__}"


def _key(plugin: Plugin, *more: str) -> str:
    spec = importlib.util.find_spec(plugin.package)
    shared = fuller_copies(Path(spec.origin).parent) if spec is not None and spec.origin is not None else ()
    copies = [f"{path} {path.stat().st_mtime_ns}" for path in shared]
    return " ".join((plugin.package, plugin.version, str(plugin.stamp), *copies, *more))


def try_library(_: bytes, package: str) -> str:
    """Register a plugin, in a child; return what is wrong with it."""
    try:
        _register(Plugin(package))
        registered_devices()
    except Exception as error:
        return without_noise(error)
    return ""


def try_device(_: bytes, package: str, device: str) -> list[list[str]]:
    """Let a device compute what is known, in a child; return what is wrong: data type and reason."""
    _register(Plugin(package))
    found = next((one for one in registered_devices() if one.id == device), None)
    return [["", f"there is no {device} in a child process"]] if found is None else _answers(found)


def _trial(plugin: Plugin, device: PluginDevice) -> _Judgement:
    """Judge a device by what it computes in a child, once for its library and driver."""
    if device.is_virtual:
        return _VIRTUAL
    try:
        found = verdict(
            _TOPIC, _versions(), f"{__name__}:try_device", bytes, _TIMEOUT,
            key=_key(plugin, device.id, *map("=".join, sorted(device.properties.items()))),
            name=f"{plugin} on {device.id}", package=plugin.package, device=device.id,
        )  # fmt: skip
    except ChildError as error:
        return False, f"it could not be tried: {error}", error.remedy or "try again"
    if found.crash:
        return False, f"it crashes: {found.crash}", f"update {plugin.distribution} and the driver of the device"
    return _judgement(found.wrong or ())


def _judgement(wrong: Sequence[Sequence[str]]) -> _Judgement:
    """Judge a device by what is wrong with its answers: without float32 it is of no use, without others of some."""
    if not wrong:
        return _READY
    for dtype, reason in wrong:
        if dtype in ("", DTYPES[0]):
            return False, reason, "install the driver and the libraries that it needs, or use device='cpu'"
    reason = "; ".join(f"it computes {dtype} wrongly: {why}" for dtype, why in wrong)
    return True, reason, "run such models with device='cpu'"


_judged: dict[tuple[str, str], _Judgement] = {}


def _judged_here(device: PluginDevice) -> _Judgement:
    """Judge a device whose library the program has loaded itself, once in a process."""
    key = device.id, device.provider
    if key not in _judged:
        _judged[key] = _VIRTUAL if device.is_virtual else _judgement(_answers(device))
    return _judged[key]


def _answers(device: PluginDevice) -> list[list[str]]:
    """Let a device compute what is known; return what is wrong."""
    runtime = import_runtime()

    def run(path: Path, pixels: Array) -> Array:
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        options.add_provider_for_devices([device.handle], {})
        try:
            with held_back(LINES):
                session = runtime.InferenceSession(str(path), options, enable_fallback=0)
                answer = answer_of(session, pixels)
        except Exception as error:  # in its own words, without the C++ around them
            raise InferenceError(without_noise(error)) from error
        if hasattr(session, "get_provider_graph_assignment_info"):
            runs = {part.ep_name for part in session.get_provider_graph_assignment_info()}
            if device.provider not in runs:
                raise InferenceError(f"{device.provider} runs no operator of it")
        return answer

    return [[dtype, reason] for dtype, (reason, _) in try_digits(run, ".onnx", dtypes=DTYPES).items()]


_registering = threading.Lock()
_registered: dict[str, tuple[str, ...]] = {}  # package -> its providers


def _register(plugin: Plugin) -> None:
    """Load a plugin's library into ONNX Runtime, unless the program has done so under whatever name."""
    with _registering:
        if plugin.package in _registered:
            return
        runtime, module = import_runtime(), importlib.import_module(plugin.package)
        library = os.fspath(module.get_library_path())
        names = tuple(map(str, module.get_ep_names()))
        known = {device.ep_metadata.get("library_path") for device in runtime.get_ep_devices()}
        if library not in known:
            load_fuller_copies(os.path.dirname(library))
            try:
                with held_back(LINES):
                    runtime.register_execution_provider_library(names[0], library)
            except Exception as error:
                if "already registered" not in str(error):
                    raise
        _registered[plugin.package] = names


def _owner(provider: str) -> str:
    """Return what the ids of a provider's devices begin with."""
    package = next((package for package, names in _registered.items() if provider in names), provider)
    return short_name(package)


def registered_devices() -> list[PluginDevice]:
    """Return the devices of all registered libraries, each once: a library may be registered under several names."""
    runtime = import_runtime()
    found: list[PluginDevice] = []
    seen: set[tuple[str, int]] = set()
    numbers: dict[str, int] = {}
    handles = list(runtime.get_ep_devices()) if hasattr(runtime, "get_ep_devices") else []
    hardware = [handle.device for handle in handles]  # kept: one object for one piece of hardware
    for handle, piece in zip(handles, hardware, strict=True):
        provider = str(handle.ep_name)
        # what chooses among devices is none, such as OpenVINOExecutionProvider.AUTO
        if provider in IN_BUILDS or "." in provider or (provider, id(piece)) in seen:
            continue
        seen.add((provider, id(piece)))
        kind = str(piece.type.name).lower()
        place = f"{_owner(provider)}:{kind}"
        number = numbers[place] = numbers.get(place, -1) + 1
        found.append(
            PluginDevice(f"{place}:{number}" if number else place, kind, _hardware_name(handle), provider, handle)
        )
    return found


def _foreign(known: Collection[str]) -> list[PluginDevice]:
    """Return the devices of libraries that the program itself has registered."""
    if "onnxruntime" not in sys.modules:
        return []
    return [device for device in registered_devices() if _owner(device.provider) not in known]


def _hardware_name(handle: Any) -> str:
    piece = handle.device
    said = handle.ep_metadata.get("FULL_DEVICE_NAME") or piece.metadata.get("Description")
    title = _TITLES.get(_owner(handle.ep_name), str(handle.ep_name))
    name = " ".join(str(said or f"{piece.vendor} {piece.type.name}").split())
    return f"{name[:80]}, by {title}"


def _aliases(device: PluginDevice, among: Sequence[PluginDevice]) -> tuple[str, ...]:
    """Return other words for a device: with its number, and the provider alone where that has no other device."""
    numbered = () if device.id.count(":") > 1 else (f"{device.id}:0",)
    return (*numbered, *((_owner(device.provider),) if len(among) == 1 else ()))


def _row(device: PluginDevice, judgement: _Judgement, aliases: tuple[str, ...] = ()) -> Device:
    return Device("onnxruntime", device.id, device.kind, device.name, *judgement, aliases)


def _unusable(name: str, wanted: str | None, reason: str, remedy: str) -> Device:
    """Return the row of a plugin that shows no device: what the user has asked for, or its provider's name."""
    asked = wanted if wanted is not None and wanted.partition(":")[0] == name else name
    kind = asked.split(":")[1] if asked.count(":") else _KINDS.get(name, "gpu")
    kind = kind if kind in _PREFERRED else _KINDS.get(name, "gpu")
    return Device("onnxruntime", asked, kind, _TITLES.get(name, name), False, reason, remedy)
