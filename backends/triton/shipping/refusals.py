"""What keeps a server from loading a model that it was given, from the words in which it says so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from accelerate.errors import DeviceNotFoundError, ModelError, ServerError, UnsupportedModelError
from accelerate.source import Source

from ..errors import translate
from .package import Package

if TYPE_CHECKING:
    from ..connection import Connection

__all__ = ["BackendMissingError", "at", "explain"]

_RUNTIMES = {"ai_edge_litert": "ai-edge-litert", "onnxruntime": "onnxruntime"}

_NO_BACKEND = re.compile(r"unable to find backend library for backend '([^']+)'")
_NO_GPU = re.compile(r"has kind KIND_GPU but no GPUs are available")
_NUMPY = re.compile(r"RuntimeError: (numpy .* does not fit this Triton release.*?)\s*At:", re.DOTALL)
_NO_OPERATOR = re.compile(r"unresolved custom op: ([^.]+)")
_NO_MODULE = re.compile(r"No module named '([^'.]+)")
_REASON = re.compile(r"is at UNAVAILABLE state: (.*?);?\s*$", re.DOTALL)


class BackendMissingError(Exception):
    """The server has not the Triton backend that a package asks for."""


def explain(error: Any, connection: Connection, source: Source, made: Package) -> Exception:
    """Say what keeps the server from loading a model."""
    said = str(error.details() or "")
    where = at(connection)
    if match := _NO_BACKEND.search(said):
        missing = BackendMissingError(match[1])
        missing.__cause__ = error
        return missing
    if _NO_GPU.search(said):
        return DeviceNotFoundError(
            f"{source}: device='gpu' was asked for, and the server at {where} sees no GPU; start it where it does "
            "(docker run --gpus=all, on a Jetson --runtime=nvidia), or leave device out"
        )
    match = _NO_MODULE.search(said)
    if made.backend == "python" and match and match[1] in _RUNTIMES:
        return UnsupportedModelError(
            f"{source}: the Python of the server at {where} has no {match[1]}, which runs this model in Triton's "
            f"Python backend; there: pip install {_RUNTIMES[match[1]]}"
        )
    if match := _NUMPY.search(said):
        return ServerError(f"{source}: the server at {where} cannot run the model: {match[1]}")
    if match := _NO_OPERATOR.search(said):
        return UnsupportedModelError(
            f"{source} uses the custom operator {match[1]!r}, which the TFLite interpreter of the server at {where} "
            "does not have; convert the model without it"
        )
    if reason := _REASON.search(said):
        lines = " ".join(reason[1].partition("\n\nAt:")[0].split())
        return ModelError(f"{source}: the server at {where} cannot load the model: {lines}")
    return translate(error, where, "load")


def at(connection: Connection) -> str:
    """Return the server, for messages."""
    return ", ".join(f"{host}:{port}" for host, port in connection.address.hosts)
