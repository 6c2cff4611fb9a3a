"""What OpenVINO's plugin cannot do that ONNX Runtime can: it computes in 32 bits, and by threads of its own."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate.contract import Source, may_narrow
from accelerate.errors import UnsupportedModelError
from accelerate.metadata import TensorInfo

from .provider_options import OPENVINO, openvino_properties
from .providers import ProviderChain

__all__ = ["narrows", "needs_threads"]


def narrows(chain: ProviderChain, inputs: Sequence[TensorInfo], source: Source) -> bool:
    """Tell whether numbers of a model's inputs may change, with a warning where floats do.

    Raises
    ------
    UnsupportedModelError
        For an input that the provider fails on in each call.
    """
    if not any(device.provider == OPENVINO and device.kind == "cpu" for device, _ in chain.plugged):
        return False
    if empty := [t.name for t in inputs if 0 in t.shape]:
        raise UnsupportedModelError(
            f"{source}: input {empty[0]!r} has no elements, which OpenVINO's provider does not take", "use device='cpu'"
        )
    return may_narrow(inputs, str(source), "OpenVINO")


def needs_threads(chain: ProviderChain) -> bool:
    """Tell whether a call waits for threads of OpenVINO's: only its CPU device with one stream computes without."""
    for device, options in chain.plugged:
        if device.provider == OPENVINO:
            properties = openvino_properties(device, options)
            one = str(properties.get("NUM_STREAMS", 1)) == "1"
            if device.kind != "cpu" or not one or properties.get("PERFORMANCE_HINT", "LATENCY") != "LATENCY":
                return True
    return False
