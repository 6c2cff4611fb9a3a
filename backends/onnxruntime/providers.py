"""Devices and the execution providers that run on them."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.contract import Array, Device, held_back, suggestion, try_digits
from accelerate.errors import InferenceError, OptionError

from .provider_options import check_pairs, plugin_options
from .runtime import IN_BUILDS, LINES, answer_of, import_runtime

if TYPE_CHECKING:
    from .plugins import PluginDevice

__all__ = [
    "COMPILING",
    "CPU",
    "KEEPING",
    "ProviderChain",
    "chain_for",
    "device_name",
    "device_of_session",
    "devices",
    "devices_of_providers",
    "known_answers",
    "parse_providers",
]

CPU = "CPUExecutionProvider"
_PROVIDERS = {"cpu": CPU, "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
# what others than these run on is a GPU
_KINDS = {
    **dict.fromkeys(("cpu", "dnnl", "openvino", "xnnpack"), "cpu"),
    **dict.fromkeys(("qnn", "vitisai"), "npu"),
    "azure": "server",
}
#: Providers that keep what they build for a model in a folder, if they are told to.
KEEPING = frozenset({"OpenVINOExecutionProvider", "TensorrtExecutionProvider"})
#: Providers for which ONNX Runtime writes another model, which holds what was compiled ("EP context").
COMPILING = frozenset({"QNNExecutionProvider", "NvTensorRTRTXExecutionProvider"})
_GPU_REMEDY = (
    "install a build with this provider (pip uninstall onnxruntime; pip install onnxruntime-gpu; on a Jetson NVIDIA's "
    "own wheel)"
)


@dataclass(frozen=True)
class ProviderChain:
    """What a session is to run on."""

    device: str  # in our words: "cpu", "cuda:0", ...
    provider: str  # the execution provider that has to take part
    providers: list[Any]  # what InferenceSession takes, in order of preference; nothing where plugins take part
    plugged: Sequence[tuple[PluginDevice, dict[str, str]]] = ()  # plugins' devices, with options of theirs

    def add_to(self, settings: Any) -> None:
        """Add what plugins bring to SessionOptions: a session takes them by no name."""
        for device, options in self.plugged:
            settings.add_provider_for_devices([device.handle], options)


def chain_for(device: str, providers: Sequence[Any] | None, threads: int) -> ProviderChain:
    """Turn a device that `devices` has listed, or ``providers=`` of `load`, into execution providers.

    `threads`: for plugins that have their own.
    """
    if providers is not None:
        pairs = parse_providers(providers)
        if _is_plugged(pairs[0][0]):
            return _plugged(device, [pair for pair in pairs if pair[0] != CPU], threads)
        return ProviderChain(device, pairs[0][0], [pair if pair[1] else pair[0] for pair in pairs])
    kind, _, index = device.partition(":")
    if kind not in _PROVIDERS:
        return _plugged(device, [("", {})], threads)
    provider = _PROVIDERS[kind]
    if provider == CPU:
        return ProviderChain(device, CPU, [CPU])
    chain: list[Any] = [(provider, {"device_id": index})]
    if kind == "tensorrt" and _PROVIDERS["cuda"] in available():
        chain.append((_PROVIDERS["cuda"], {"device_id": index}))  # what TensorRT leaves
    return ProviderChain(device, provider, [*chain, CPU])


def _plugged(name: str, pairs: Sequence[tuple[str, Mapping[str, Any]]], threads: int) -> ProviderChain:
    """Return a chain of plugins' devices: the first is known, others are the first that their options name."""
    from . import plugins

    ids = [name, *(_row_of(*pair).id for pair in pairs[1:])]
    found = [(plugins.find_device(one), given) for one, (_, given) in zip(ids, pairs, strict=True)]
    chain = [(device, plugin_options(device, given, threads)) for device, given in found]
    return ProviderChain(name, chain[0][0].provider, [], chain)


def parse_providers(given: object) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and options of each provider, without a look at what this build has."""
    entries = [_pair(entry) for entry in given] if isinstance(given, (list, tuple)) else []
    pairs = [pair for pair in entries if pair is not None]
    if not pairs or len(pairs) < len(entries):
        raise OptionError(
            f"providers is {given!r:.200}; wanted a list of names or (name, options), such as ['CPUExecutionProvider']"
        )
    check_pairs(pairs)
    return pairs


def _pair(entry: object) -> tuple[str, dict[str, Any]] | None:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, (list, tuple)) and len(entry) == 2:
        name, options = entry
        if isinstance(name, str) and isinstance(options, Mapping):
            return name, dict(options)
    return None


def device_name(provider: str, options: Mapping[str, Any]) -> str:
    """Return what we call the device of an execution provider with these options."""
    kind = next((k for k, v in _PROVIDERS.items() if v == provider), provider.removesuffix("ExecutionProvider").lower())
    return kind if kind == "cpu" else f"{kind}:{options.get('device_id', 0)}"


def _not_built_in(provider: str) -> tuple[str, str]:
    """Return reason and remedy."""
    onnxruntime = import_runtime()
    reason = (
        f"this onnxruntime {onnxruntime.__version__} was built without {provider} (it has {', '.join(available())})"
    )
    if provider in (_PROVIDERS["cuda"], _PROVIDERS["tensorrt"]):
        return reason, _GPU_REMEDY
    from .plugin_packages import remedy_for, short_name

    return reason, remedy_for(short_name(provider)) or "install a build of ONNX Runtime with this provider"


def available() -> list[str]:
    """Return the execution providers of this build of ONNX Runtime, which itself lists those of plugins, too."""
    onnxruntime = import_runtime()
    listed = onnxruntime.get_ep_devices() if hasattr(onnxruntime, "get_ep_devices") else ()
    plugged = {device.ep_name for device in listed} - IN_BUILDS
    return [str(name) for name in onnxruntime.get_available_providers() if name not in plugged]


def devices(asked: str | None, *, gpu_here: bool, dtypes: Sequence[str], all_plugins: bool) -> list[Device]:
    """Return the devices, preferred first; what computes nothing, or needs another build, is not ready.

    What a user has asked for is listed even where the system shows none, and TensorRT, which starts for seconds and
    builds an engine for minutes, only then; so are those of plugins, unless all are wanted. `gpu_here`: the system
    shows an NVIDIA GPU. `dtypes`: what to compute.
    """
    built, found = available(), []
    if _PROVIDERS["cuda"] in built:
        found.append(_tried("cuda:0", _PROVIDERS["cuda"], dtypes))
    elif gpu_here:
        found.append(_row("cuda:0", *_not_built_in(_PROVIDERS["cuda"])))
    named = re.fullmatch(r"(cuda|tensorrt)(?::(\d+))?", asked or "")
    if named and (name := f"{named[1]}:{int(named[2] or 0)}") not in [device.id for device in found]:
        provider = _PROVIDERS[named[1]]
        if provider not in built:
            found.append(_row(name, *_not_built_in(provider)))
        elif named[1] == "tensorrt":
            found.append(_row(name, "", ""))
        else:
            found.append(_tried(name, provider, dtypes))
    return [*found, Device("onnxruntime", "cpu", "cpu", _processor()), *_of_plugins(asked, found, all_of=all_plugins)]


def _of_plugins(asked: str | None, others: Sequence[Device], *, all_of: bool) -> list[Device]:
    """Return the devices of plugins that are asked for: by name, or by a kind that nothing else here is of."""
    there = {"cpu", *(device.kind for device in others if device.ready)}
    if (asked is None and not all_of) or asked in there or (asked or "").partition(":")[0] in _PROVIDERS:
        return []
    from . import plugins

    return plugins.devices(asked)


def named_devices(*, gpu_here: bool) -> list[str]:
    """Return those that `devices` lists only where they are named, as far as they are here."""
    from . import plugins

    built = ["tensorrt:0"] if gpu_here and _PROVIDERS["tensorrt"] in available() else []
    return built + [device.id for device in plugins.devices(None) if device.ready]


def devices_of_providers(providers: object, dtypes: Sequence[str]) -> list[Device]:
    """Return the device that ``providers=`` of `load` names, with whether it is ready."""
    import onnxruntime

    pairs, known = parse_providers(providers), onnxruntime.get_all_providers()
    if plugged := [pair for pair in pairs if _is_plugged(pair[0])]:
        return _plugged_rows(plugged, [name for name, _ in pairs])
    name = device_name(*pairs[0])
    for provider, _ in pairs:
        if provider not in known:
            raise OptionError(
                f"{provider!r} is no execution provider{suggestion(provider, known)}; known: {', '.join(known)}"
            )
        if provider not in available():
            return [_row(name, *_not_built_in(provider))]
    return [Device("onnxruntime", "cpu", "cpu", _processor()) if name == "cpu" else _tried(name, pairs[0][0], dtypes)]


def _is_plugged(provider: str) -> bool:
    """Tell whether a provider is a plugin's and not part of the build."""
    if provider in _PROVIDERS.values() or provider in available():
        return False
    from . import plugins

    registered = {device.provider for device in plugins.registered_devices()}
    return provider in registered or plugins.brings(provider)


def _plugged_rows(plugged: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str]) -> list[Device]:
    own = [name for name, _ in plugged]
    if names[: len(own)] != own or names[len(own) :] not in ([], [CPU]):
        raise OptionError(
            f"providers is {list(names)}; {own[0]} is a plugin's: beside it are only those of others, and {CPU} last",
            f"give providers={[*own, CPU]}",
        )
    rows = [_row_of(*pair) for pair in plugged]
    return [next((row for row in rows if not row.ready), rows[0])]


def _row_of(provider: str, options: Mapping[str, Any]) -> Device:
    """Return the device of a plugin's provider that its options name, by kind and number; the first without."""
    from . import plugins
    from .plugin_packages import short_name

    name, kind = short_name(provider), str(options.get("device_type", "")).lower()
    rows = plugins.devices(name)
    fitting = [row for row in rows if kind in ("", row.kind)]
    number = str(options.get("device_id", 0))
    if not number.isdecimal() or int(number) >= len(fitting):
        said = {key: options[key] for key in ("device_type", "device_id") if key in options}
        raise OptionError(f"{provider} has no device {said}", f"its devices: {', '.join(row.id for row in rows)}")
    chosen = fitting[int(number)]
    return next(row for row in plugins.devices(chosen.id) if row.id == chosen.id)


def _tried(name: str, provider: str, dtypes: Sequence[str]) -> Device:
    wrong = _try_provider(provider, name.partition(":")[2], tuple(dtypes))
    if not wrong:
        return _row(name, "", "")
    if dtypes[0] in wrong:
        remedy = (
            "run nvidia-smi; the versions of CUDA and cuDNN must be those that onnxruntime-gpu names"
            if name.startswith(("cuda:", "tensorrt:"))
            else f"install the libraries and the driver that {provider} needs"
        )
        return _row(name, wrong[dtypes[0]][0], remedy)
    reason = "; ".join(f"it computes {dtype} wrongly: {why}" for dtype, (why, _) in wrong.items())
    return replace(_row(name, "", ""), reason=reason, remedy='run such models with device="cpu"')


def _row(name: str, reason: str, remedy: str) -> Device:
    kind, _, number = name.partition(":")
    titles = {"cuda": f"NVIDIA GPU {number}", "tensorrt": f"NVIDIA GPU {number}, by TensorRT"}
    aliases = (kind,) if number == "0" else ()
    title = titles.get(kind, kind)
    return Device("onnxruntime", name, _KINDS.get(kind, "gpu"), title, not reason, reason, remedy, aliases)


def device_of_session(session: Any) -> Device:
    """Return the device that an existing session prefers."""
    provider = session.get_providers()[0]
    return _row(device_name(provider, session.get_provider_options().get(provider, {})), "", "")


def _processor() -> str:
    return os.uname().machine if hasattr(os, "uname") else "CPU"


@functools.cache
def _try_provider(provider: str, index: str, dtypes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return by data type what is wrong with a provider's known answers; asked once in a process."""
    return known_answers([(provider, {"device_id": index}), CPU], provider, dtypes)


def known_answers(providers: list[Any], wanted: str, dtypes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Run the project's digit models; return what is wrong by data type, as `try_digits` does."""
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def run(path: Path, pixels: Array) -> Array:
        with held_back(LINES):
            session = onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
            if wanted not in session.get_providers():
                raise InferenceError(
                    f"{wanted} is part of this build but does not start (its libraries or the driver are missing)"
                )
            return answer_of(session, pixels)

    return try_digits(run, ".onnx", dtypes=dtypes)
