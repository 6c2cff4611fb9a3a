"""Models on a Triton Inference Server, or another server of the Open Inference Protocol, over gRPC."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from accelerate.contract import Availability, Backend, Device, LoadOptions, Match, Model, Source, without_secrets
from accelerate.errors import BackendNotAvailableError, OptionError

__all__ = ["SERVER_VARIABLE", "Triton"]

_log = logging.getLogger("accelerate")
#: The environment variable with the server that model files are shipped to where load(..., url=) names none.
SERVER_VARIABLE = "EDGE_ACCELERATE_TRITON_URL"
_DEVICES = {
    "server": "whatever the server has chosen for the model",
    "gpu": "a GPU of the server, which load() makes sure of",
    "cpu": "the CPU of the server, which load() makes sure of",
}
_told: set[str] = set()  # why the server of the variable is not used; once is enough


class Triton(Backend):
    """See the module."""

    name = "triton"
    description = "Models on a Triton or other Open Inference server, over gRPC"
    extra = "triton"
    options = ("url", "shared_memory", "headers", "ssl", "channel_args", "parameters")
    in_process = False
    commands: ClassVar[Mapping[str, str]] = {"sidecar": "accelerate.backends.triton.sidecar:sidecar"}
    variables = (SERVER_VARIABLE,)

    def kinds(self) -> Sequence[str]:
        return ("server",)

    def availability(self) -> Availability:
        from .connection import import_grpc

        try:
            grpc = import_grpc()
            grpc.insecure_channel("localhost:0").close()
        except BackendNotAvailableError as error:
            _say_once(str(error))
            return Availability(False, reason=error.reason, remedy=error.remedy)
        return Availability(True, f"gRPC {grpc.__version__}", "it can open connections; a URL names the server")

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        # the model's instance_group on the server decides; `load` compares
        wanted = options.device if options.device in _DEVICES else "server"
        return [Device(self.name, wanted, "server", _DEVICES[wanted])]

    def match(self, source: Source, options: LoadOptions) -> Match:
        if source.url is None:
            return self._match_file(source, options)
        from .address import SCHEMES, Address
        from .connection import Settings

        scheme = source.url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            ours = {"grpc": "triton", "grpcs": "tritons"}.get(scheme)
            right = f"{ours}://{source.url.partition('://')[2]}" if ours else "triton://host:8001/model"
            return Match(
                False,
                f"{source} does not begin with {' or '.join(f'{s}://' for s in SCHEMES)}",
                f"a model on a server is {without_secrets(right)}",
            )
        address = Address.parse(source.url)
        if (url := options.backend_options.get("url")) is not None:
            raise OptionError(
                f"url={without_secrets(url)!r} says which server to use, and {source} does already", "leave one out"
            )
        for option in ("num_threads", "signature"):
            if getattr(options, option) is not None:
                raise OptionError(f"{option} is settled in the model's configuration on the server", "leave it out")
        Settings.parse(options, address)
        return Match(True, f"a model on a server: {address}", named=True)

    def _match_file(self, source: Source, options: LoadOptions) -> Match:
        if not (server := _server(options)):
            return Match(
                False,
                f"{source} is {source.likeness}, and triton runs what a server has",
                f"load(..., backend='triton', url='host:8001') ships a file there, or set {SERVER_VARIABLE}"
                if source.format in ("onnx", "openvino", "tflite", "")
                else source.remedy or "convert it to ONNX or TFLite",
            )
        from .address import server_address
        from .connection import Settings
        from .shipping.package import check_shippable

        address = server_address(server)
        Settings.parse(options, address)
        check_shippable(source, None if options.device == "server" else options.device, options.signature)
        return Match(True, f"{source.likeness}, to be shipped to {address}", named=True)

    def check_environment(self) -> None:
        if server := os.environ.get(SERVER_VARIABLE):
            from .address import server_address

            try:
                server_address(server)
            except OptionError as error:
                raise error.about(SERVER_VARIABLE) from error

    def load(self, source: Source, options: LoadOptions) -> Model:
        if source.url is None:
            from .shipping.shipped import load_shipped

            return load_shipped(source, _server(options), options)
        from .address import Address
        from .model import TritonModel

        return TritonModel.connect(Address.parse(source.url), options)


def _server(options: LoadOptions) -> Any:
    """Return the server that model files are shipped to, as the user names it."""
    return options.backend_options.get("url") or os.environ.get(SERVER_VARIABLE)


def _say_once(reason: str) -> None:
    """Say why `auto` will not use the server that the variable names, which its user counts on."""
    if os.environ.get(SERVER_VARIABLE) and reason not in _told:
        _told.add(reason)
        _log.warning("the server that %s names is not used: %s", SERVER_VARIABLE, reason)
