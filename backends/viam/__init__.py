"""Models that run on a Viam machine, over gRPC: any service of ``rdk:service:mlmodel``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from accelerate.contract import (
    Availability,
    Backend,
    Device,
    LoadOptions,
    Match,
    Source,
    check_settled,
    without_secrets,
)
from accelerate.errors import AccelerateError, BackendNotAvailableError, OptionError
from accelerate.metadata import Metadata

if TYPE_CHECKING:
    from .model import ViamModel

__all__ = ["Viam"]

#: Objects of Viam's SDK that lead to a machine, with the package of each; the last one names its service, too.
_OBJECTS = (("viam", "RobotClient"), ("viam", "ViamChannel"), ("grpclib", "Channel"), ("viam", "MLModelClient"))


class Viam(Backend):
    """See the module."""

    name = "viam"
    description = "Models of the ML model services of a Viam machine, over gRPC"
    extra = "viam"
    options = ("api_key", "api_key_id", "service")
    in_process = False

    def kinds(self) -> Sequence[str]:
        return ("server",)

    def availability(self) -> Availability:
        from .sdk import import_sdk

        try:
            version = import_sdk()
        except BackendNotAvailableError as error:
            return Availability(False, reason=error.reason, remedy=error.remedy)
        return Availability(True, f"viam-sdk {version}", "it can open connections; a URL names the machine")

    def devices(self, options: LoadOptions) -> Sequence[Device]:
        return [Device(self.name, "server", "server", "whatever the machine runs the service's model on")]

    def match(self, source: Source, options: LoadOptions) -> Match:
        if (kind := _kind(source)) is not None:
            return _match_object(kind, options)
        scheme = "" if source.url is None else source.url.partition("://")[0].lower()
        if scheme != "viam":
            return Match(
                False,
                f"{source} is {source.likeness}, and viam runs what the ML model services of a machine have",
                "a model there is viam://host:8080/service; for a file on this machine use another backend",
            )
        from .address import Address, Credentials

        assert source.url is not None
        address = Address.parse(source.url)
        if (service := options.backend_options.get("service")) is not None:
            raise OptionError(
                f"service={service!r:.60} says which service to use, and {without_secrets(source.url)} does already",
                "leave one out",
            )
        Credentials.find(options.backend_options)
        _check_common(options)
        return Match(True, f"a model on a Viam machine: {address}", named=True)

    def describe(self, source: Source, signature: str | None) -> Metadata | None:
        if _kind(source) != "MLModelClient":  # without the option nobody knows the service
            return None
        from .model import ViamModel

        with ViamModel.adopt(source.object, source.object.name, LoadOptions()) as model:
            return Metadata("", "", "", model.inputs, model.outputs)

    def load(self, source: Source, options: LoadOptions) -> ViamModel:
        from .model import ViamModel

        if source.url is None:
            service = options.backend_options.get("service") or source.object.name
            return ViamModel.adopt(source.object, service, options)
        from .address import Address, Credentials

        return ViamModel.connect(Address.parse(source.url), Credentials.find(options.backend_options), options)

    def translate(self, error: Exception, source: Source) -> AccelerateError:
        from .errors import translate

        return translate(error, str(source), loading=True)


def _kind(source: Source) -> str | None:
    """Return which of the SDK's objects this is."""
    return next((kind for package, kind in _OBJECTS if source.holds(package, kind)), None)


def _match_object(kind: str, options: LoadOptions) -> Match:
    own = dict(options.backend_options)
    service = own.pop("service", None)
    check_settled(replace(options, backend_options=own), kind)
    _check_common(options)
    if kind == "MLModelClient":
        if service is not None:
            raise OptionError(f"service={service!r:.60} is settled by the existing {kind}", "leave it out")
        return Match(True, f"an existing {kind}", named=True)
    if not isinstance(service, str) or not service:
        raise OptionError(
            f"service is {service!r:.60}; wanted the name of an ML model service of the machine",
            f"load({'machine' if kind == 'RobotClient' else 'channel'}, service='my_mlmodel')",
        )
    return Match(True, f"the service {service!r} by an existing {kind}", named=True)


def _check_common(options: LoadOptions) -> None:
    for option in ("num_threads", "signature"):
        if getattr(options, option) is not None:
            raise OptionError(f"{option} is settled in the service's configuration on the machine", "leave it out")
