"""Devices and the execution providers that run on them."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate.contract import Array, Device, held_back, suggestion, try_digits
from accelerate.errors import InferenceError, OptionError

from .runtime import LINES, import_runtime

__all__ = [
    "CPU",
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
_GPU_REMEDY = (
    "install a build with this provider (pip uninstall onnxruntime; pip install onnxruntime-gpu; on a Jetson NVIDIA's "
    "own wheel)"
)


@dataclass(frozen=True)
class ProviderChain:
    """What a session is to run on."""

    device: str  # in our words: "cpu", "cuda:0", ...
    provider: str  # the execution provider that has to take part
    providers: list[Any]  # what InferenceSession takes, in order of preference


def chain_for(device: str, providers: Sequence[Any] | None) -> ProviderChain:
    """Turn a device that `devices` has listed, or ``providers=`` of `load`, into execution providers."""
    if providers is not None:
        pairs = parse_providers(providers)
        return ProviderChain(device, pairs[0][0], [pair if pair[1] else pair[0] for pair in pairs])
    kind, _, index = device.partition(":")
    provider = _PROVIDERS[kind]
    if provider == CPU:
        return ProviderChain(device, CPU, [CPU])
    chain: list[Any] = [(provider, {"device_id": index})]
    if kind == "tensorrt" and _PROVIDERS["cuda"] in available():
        chain.append((_PROVIDERS["cuda"], {"device_id": index}))  # what TensorRT leaves
    return ProviderChain(device, provider, [*chain, CPU])


def parse_providers(given: object) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and options of each provider, without a look at what this build has."""
    entries = [_pair(entry) for entry in given] if isinstance(given, (list, tuple)) else []
    pairs = [pair for pair in entries if pair is not None]
    if not pairs or len(pairs) < len(entries):
        raise OptionError(
            f"providers is {given!r:.200}; wanted a list of names or (name, options), such as ['CPUExecutionProvider']"
        )
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
    gpu = provider in (_PROVIDERS["cuda"], _PROVIDERS["tensorrt"])
    return reason, _GPU_REMEDY if gpu else "install a build of ONNX Runtime with this provider"


def available() -> list[str]:
    """Return the execution providers of this build of ONNX Runtime."""
    onnxruntime = import_runtime()
    return [str(name) for name in onnxruntime.get_available_providers()]


def devices(asked: str | None, *, gpu_here: bool, dtypes: Sequence[str]) -> list[Device]:
    """Return the devices, preferred first; what computes nothing, or needs another build, is not ready.

    What a user has asked for is listed even where the system shows none, and TensorRT, which starts for seconds and
    builds an engine for minutes, only then. `gpu_here`: the system shows an NVIDIA GPU. `dtypes`: what to compute.
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
    return [*found, Device("onnxruntime", "cpu", "cpu", _processor())]


def named_devices() -> list[str]:
    """Return those that `devices` lists only where they are named, as far as this build has them."""
    return ["tensorrt:0"] if _PROVIDERS["tensorrt"] in available() else []


def devices_of_providers(providers: object, dtypes: Sequence[str]) -> list[Device]:
    """Return the device that ``providers=`` of `load` names, with whether it is ready."""
    import onnxruntime

    pairs, known = parse_providers(providers), onnxruntime.get_all_providers()
    name = device_name(*pairs[0])
    for provider, _ in pairs:
        if provider not in known:
            raise OptionError(
                f"{provider!r} is no execution provider{suggestion(provider, known)}; known: {', '.join(known)}"
            )
        if provider not in available():
            return [_row(name, *_not_built_in(provider))]
    return [Device("onnxruntime", "cpu", "cpu", _processor()) if name == "cpu" else _tried(name, pairs[0][0], dtypes)]


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
            entry = session.get_inputs()[0]
            shape = [n if isinstance(n, int) else 1 for n in entry.shape]
            answer: Array = session.run(None, {entry.name: pixels.reshape(shape)})[0]
            return answer

    return try_digits(run, ".onnx", dtypes=dtypes)
