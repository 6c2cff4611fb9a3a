"""Models on a Triton Inference Server, or another server of the Open Inference Protocol, over gRPC."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import ClassVar

from accelerate.contract import Backend
from accelerate.errors import BackendNotAvailableError, OptionError, UnsupportedModelError
from accelerate.model import Model
from accelerate.reports import Availability, Device, LoadOptions, Match
from accelerate.source import Source, without_secrets

from .address import SCHEMES, SERVER_VARIABLE, Address, server_address

__all__ = ["Triton"]

_log = logging.getLogger("accelerate")
_told: set[str] = set()  # why the server of the variable is not used; once is enough


class Triton(Backend):
    """See the module."""

    name = "triton"
    description = "Models on a Triton or other Open Inference server, over gRPC"
    extra = "triton"
    options = ("url", "shared_memory", "headers", "ssl", "channel_args")
    priority = 30
    commands: ClassVar[Mapping[str, str]] = {"sidecar": "accelerate.backends.triton.sidecar:sidecar"}

    def __init__(self, options: LoadOptions | None = None) -> None:
        self._options = options or LoadOptions()
        self._url = self._options.backend_options.get("url")

    def configured(self, options: LoadOptions) -> Triton:  # noqa: D102
        return Triton(options)

    def availability(self) -> Availability:  # noqa: D102
        from .connection import import_grpc

        try:
            grpc = import_grpc()
            grpc.insecure_channel("localhost:0").close()
        except BackendNotAvailableError as error:
            _say_once(str(error))
            return Availability(False, reason=error.reason, remedy=error.remedy)
        return Availability(True, f"gRPC {grpc.__version__}", "it can open connections; a URL names the server")

    def devices(self) -> Sequence[Device]:  # noqa: D102
        # the model's instance_group on the server decides; `load` compares
        return [
            Device(self.name, "server", "server", "whatever the server that a URL names has chosen for the model"),
            Device(self.name, "gpu", "server", "a GPU of that server, which load() makes sure of"),
            Device(self.name, "cpu", "server", "the CPU of that server, which load() makes sure of"),
        ]

    def match(self, source: Source) -> Match:  # noqa: D102
        if source.url is None:
            return self._match_file(source)
        scheme = source.url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            return Match(False, f"it begins with {scheme}://, not {' or '.join(f'{s}://' for s in SCHEMES)}")
        if self._url is not None:
            return Match(
                False,
                f"url={without_secrets(self._url)!r} says which server to use, and {source} does already",
                "leave one out",
            )
        return Match(True, f"a model on a server: {Address.parse(source.url)}")

    def _match_file(self, source: Source) -> Match:
        if not (self._url or os.environ.get(SERVER_VARIABLE)):
            return Match(
                False,
                f"it is {source.likeness}, and triton runs what a server has",
                f"load(..., backend='triton', url='host:8001') ships a file there, or set {SERVER_VARIABLE}",
            )
        if not self._url and source.format not in ("onnx", "tflite"):
            return Match(False, f"it is {source.likeness}, which auto ships to no server", "backend='triton'")
        try:
            address = server_address(self._url)
        except OptionError as error:
            if self._url:
                raise
            _say_once(str(error))
            return Match(False, f"{SERVER_VARIABLE} names no server: {error.reason}", f"correct {SERVER_VARIABLE}")
        from .connection import Settings
        from .shipping.package import check_shippable

        Settings.parse(self._options, address)
        device = None if self._options.device == "server" else self._options.device
        try:
            check_shippable(source, device, self._options.signature)
        except UnsupportedModelError as error:
            return Match(False, error.reason, error.remedy)
        return Match(True, f"{source.likeness}, to be shipped to {address}")

    def load(self, source: Source, options: LoadOptions) -> Model:  # noqa: D102
        from .connection import import_grpc

        if source.url is None:
            if not (options.backend_options.get("url") or os.environ.get(SERVER_VARIABLE)):
                match = self.match(source)
                raise UnsupportedModelError(f"triton cannot run {source}: {match.reason}", match.remedy)
            import_grpc()
            from .shipping.shipped import load_shipped

            return load_shipped(source, options)
        match = self.match(source)
        if not match.accepts:
            raise UnsupportedModelError(f"triton cannot run {source}: {match.reason}", match.remedy)
        if options.backend_options.get("url") is not None:
            raise OptionError(f"url= says which server to use, and {source} does already", "leave one out")
        for option in ("num_threads", "signature"):
            if getattr(options, option) is not None:
                raise OptionError(f"{option} is settled in the model's configuration on the server", "leave it out")
        import_grpc()
        from .model import TritonModel

        return TritonModel.connect(Address.parse(source.url), options)


def _say_once(reason: str) -> None:
    """Say why `auto` will not use the server that the variable names, which its user counts on."""
    if os.environ.get(SERVER_VARIABLE) and reason not in _told:
        _told.add(reason)
        _log.warning("the server that %s names is not used: %s", SERVER_VARIABLE, reason)
