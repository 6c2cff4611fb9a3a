"""The module: what viam-server starts, and whose resources it adds, rebuilds and removes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import viam.logging
from viam.components.camera import Camera
from viam.errors import ResourceNotFoundError
from viam.module.module import Module
from viam.proto.app.robot import ComponentConfig
from viam.proto.module import (
    AddResourceRequest,
    ReconfigureResourceRequest,
    ValidateConfigRequest,
    ValidateConfigResponse,
)
from viam.resource.base import ResourceBase
from viam.resource.registry import Registry, ResourceCreatorRegistration
from viam.resource.types import API, Model, resource_name_from_string
from viam.services.generic import Generic
from viam.services.mlmodel import MLModel
from viam.services.vision import Vision

from ... import registry
from ...errors import OptionError
from ...services.arguments import OURS
from .resources import Commands, ServedModel
from .rpc import answering, replace_services
from .vision import VisionService

__all__ = ["AccelerateModule", "main"]

_GENERIC, _VISION = "edge-accelerate:generic:mlmodel", "edge-accelerate:vision:mlmodel"


class AccelerateModule(Module):
    """A module whose resources load off the event loop, and are there for callers while they do."""

    async def start(self) -> None:
        """Serve until a signal."""
        _hang_up_when_closed(self.server._server)
        await super().start()  # type: ignore[no-untyped-call]

    async def add_resource(self, request: AddResourceRequest, *, deadline: Any = None) -> None:
        """Add a resource and load what it needs; a failure leaves nothing behind but its reason."""
        with answering():
            await self._put(request.config, None)

    async def reconfigure_resource(self, request: ReconfigureResourceRequest) -> None:
        """Put a new resource in the place of one, whose calls in work end first. Calls that come meanwhile wait.

        Where the last configuration has failed, there is none to replace: viam-server says so by this call all the
        same, and would have no resource until the module is started again.
        """
        with answering():
            config = request.config
            name = resource_name_from_string(f"{API.from_string(config.api)}/{config.name}")
            await self._put(config, self.server.resources.get(name))

    async def _put(self, config: ComponentConfig, old: ResourceBase | None) -> None:
        creator = Registry.lookup_resource_creator(
            API.from_string(config.api), Model.from_string(config.model, ignore_errors=True)
        )
        name = resource_name_from_string(f"{API.from_string(config.api)}/{config.name}")
        try:
            made: Any = creator(config, {})
        except BaseException:
            if old is not None:  # its configuration holds no more
                await self.server.remove_resource(name)
            raise
        viam.logging.update_log_level(made.logger, config.log_configuration.level.upper())
        if old is None:
            self.server.register(made)
        else:
            self.server.resources[name] = made
        try:
            if old is not None:
                await old.close()  # type: ignore[no-untyped-call]
            await made.start(self)
        except BaseException:
            if self.server.resources.get(name) is made:
                del self.server.resources[name]
            await made.close()
            raise

    async def validate_config(self, request: ValidateConfigRequest) -> ValidateConfigResponse:
        """Check a resource's attributes; the SDK's own puts a wrong class's name before the reason."""
        config = request.config
        validator = Registry.lookup_validator(API.from_string(config.api), Model.from_string(config.model))
        with answering():
            needed, optional = validator(config)
        return ValidateConfigResponse(dependencies=needed, optional_dependencies=optional)

    async def mlmodel(self, name: str) -> MLModel:
        """Return the ML model service of this process with a name, else the machine's.

        Raises
        ------
        OptionError
            There is none.
        """
        wanted = MLModel.get_resource_name(name.rpartition("/")[2])
        with contextlib.suppress(ResourceNotFoundError):
            return self.server.get_resource(MLModel, wanted)  # type: ignore[type-abstract]
        found: MLModel = await self._of_machine(wanted, "ML model service", "mlmodel_name")
        return found

    async def camera(self, name: str) -> Camera:
        """Return a camera of the machine.

        Raises
        ------
        OptionError
            There is none.
        """
        found: Camera = await self._of_machine(Camera.get_resource_name(name.rpartition("/")[2]), "camera", "its name")
        return found

    async def _of_machine(self, name: Any, kind: str, attribute: str) -> Any:
        parent, known = self.parent, ""
        if parent is not None:
            for attempt in range(2):
                with contextlib.suppress(ResourceNotFoundError):
                    return parent.get_component(name) if name.type == "component" else parent.get_service(name)
                if not attempt:
                    await parent.refresh()  # type: ignore[no-untyped-call]
            found = sorted(one.name for one in parent.resource_names if one.subtype == name.subtype)
            known = f"; it has {', '.join(map(repr, found)) or 'none'}"
        raise OptionError(f"the machine has no {kind} {name.name!r}{known}", f"correct {attribute}, or configure it")


def _hang_up_when_closed(server: Any) -> None:
    """Have grpclib's server end its clients' connections when it is closed, once their calls have ended.

    It leaves them to the clients, and asyncio's server waits for them (since Python 3.12): but viam-server keeps its
    connection for as long as the module runs.
    """
    connected: weakref.WeakSet[Any] = weakref.WeakSet()
    connect, close = server._protocol_factory, server.close
    ending: list[asyncio.Task[None]] = []  # asyncio itself does not keep them

    def remember() -> Any:
        protocol = connect()
        connected.add(protocol)
        return protocol

    async def hang_up() -> None:
        for protocol in [*connected]:
            await protocol.handler.wait_closed()
            protocol.connection.close()

    def end() -> None:
        close()
        ending.append(asyncio.get_running_loop().create_task(hang_up()))

    server._protocol_factory, server.close = remember, end


def _register() -> None:
    """Register the models of the module, one for each backend among them."""
    made: Mapping[str, tuple[Any, Any]] = {
        _GENERIC: (Generic.API, Commands),
        _VISION: (Vision.API, VisionService),
        **{f"{OURS}{name}": (MLModel.API, ServedModel) for name in ("auto", *registry.backends())},
    }
    for model, (api, kind) in made.items():
        Registry.register_resource_creator(
            api, Model.from_string(model), ResourceCreatorRegistration(kind.new, kind.validate_config)
        )


def main() -> None:
    """Serve on the socket that the command line names, until a signal."""
    _register()
    replace_services()
    logging.captureWarnings(True)
    warnings.formatwarning = lambda message, *_, **__: str(message)  # the lines here are no user's
    for name in ("accelerate", "py.warnings"):
        viam.logging.getLogger(name)  # so that what they say gets to the machine's log
    asyncio.run(AccelerateModule.run_from_registry())  # type: ignore[no-untyped-call]
