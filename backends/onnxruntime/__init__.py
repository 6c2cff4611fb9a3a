"""ONNX models on the CPU, NVIDIA GPUs and other devices, by ONNX Runtime."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ...contract import Backend
from ...errors import BackendNotAvailableError, ModelError, OptionError, UnsupportedModelError
from ...reports import Availability, Device, LoadOptions, Match
from ...source import Source
from .model import ONNXModel, check_settled, full_delegation
from .providers import CPU, check_one_of, devices, devices_of_providers, known_answer, parse_providers, place

__all__ = ["ONNXRuntime"]

_NO_SIGNATURES = "an ONNX model has no signatures"
_REMEDY = 'pip install "edge-accelerate[onnxruntime]"'


class ONNXRuntime(Backend):
    """See the module."""

    name = "onnxruntime"
    description = "ONNX models on the CPU and on NVIDIA GPUs, by ONNX Runtime"
    extra = "onnxruntime"
    options = ("full_delegation", "providers")
    formats: ClassVar[Mapping[str, str]] = {"onnx": "an ONNX model"}
    priority = 20

    def __init__(self, asked: LoadOptions | None = None) -> None:
        self._asked = asked  # None where nobody asks for a model

    def configured(self, options: LoadOptions) -> ONNXRuntime:  # noqa: D102
        full_delegation(options.backend_options)
        if options.backend_options.get("providers") is not None:
            parse_providers(options.backend_options["providers"])
            check_one_of(options.device, options.backend_options["providers"])
        return ONNXRuntime(options)

    def availability(self) -> Availability:  # noqa: D102
        try:
            if importlib.util.find_spec("onnxruntime") is None:
                return Availability(False, reason="onnxruntime is not installed", remedy=_REMEDY)
            import onnxruntime

            problem = known_answer([CPU], CPU)
        except Exception as error:  # a broken native library can raise anything
            problem = f"{type(error).__name__}: {error}"
        if problem:
            return Availability(False, reason=f"onnxruntime is installed but fails: {problem}", remedy=_REMEDY)
        version = f"ONNX Runtime {onnxruntime.__version__}"
        return Availability(True, version, *_conflict(onnxruntime.__file__, f"{version} computes a known answer"))

    def devices(self) -> Sequence[Device]:  # noqa: D102
        if self._asked is not None and self._asked.backend_options.get("providers") is not None:
            return devices_of_providers(self._asked.backend_options["providers"])
        return devices(all_kinds=self._asked is not None)

    def match(self, source: Source) -> Match:  # noqa: D102
        if source.format == "onnx":
            if self._asked is not None and self._asked.signature is not None:
                raise OptionError(f"{_NO_SIGNATURES}: leave the option out")
            return Match(True, "an ONNX model")
        if source.format == "object" and _is_session(source.object):
            check_settled(self._asked or LoadOptions())
            return Match(True, "an existing InferenceSession")
        return Match(
            False,
            f"it is {source.likeness}, not an ONNX model",
            "convert it to ONNX, or use the backend for its format",
        )

    def load(self, source: Source, options: LoadOptions) -> ONNXModel:  # noqa: D102
        if options.signature is not None:
            raise OptionError(f"{_NO_SIGNATURES}: leave the option out")
        if source.format == "object" and _is_session(source.object):
            return ONNXModel.adopt(source, options)
        if source.format != "onnx":
            known = source.format not in ("", "directory")
            raise (UnsupportedModelError if known else ModelError)(
                f"onnxruntime cannot run {source}: it is {source.likeness}, not an ONNX model"
            )
        try:
            import onnxruntime
        except Exception as error:  # a broken native library can raise anything
            raise BackendNotAvailableError(
                f"onnxruntime cannot be imported ({type(error).__name__}: {error}). Install it: {_REMEDY}"
            ) from error
        placement = place(options.device, options.backend_options.get("providers"))
        return ONNXModel.build(onnxruntime, placement, source, options)


def _is_session(given: object) -> bool:
    return any(
        k.__name__ == "InferenceSession" and k.__module__.startswith("onnxruntime.") for k in type(given).__mro__
    )


def _conflict(package_file: str, reason: str) -> tuple[str, str]:
    """Return reason and remedy: two distributions of the same package overwrite each other's libraries."""
    site = os.path.dirname(os.path.dirname(package_file))
    owners = sorted(
        name.partition("-")[0].replace("_", "-")
        for name in os.listdir(site)
        if name.startswith("onnxruntime") and name.endswith(".dist-info")
    )
    builds = [name for name in owners if name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")]
    if len(builds) < 2:
        return reason, ""
    return (
        f"{reason}; but {' and '.join(builds)} are both installed and overwrite each other: the GPU may be lost",
        f"pip uninstall -y {' '.join(builds)}, then pip install the one you want",
    )
