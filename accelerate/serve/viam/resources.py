"""What the module serves beside vision: a model that loads behind its service, and the commands of one."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from typing_extensions import Self
from viam.proto.app.robot import ComponentConfig
from viam.proto.common import ResourceName
from viam.resource.base import ResourceBase
from viam.services.generic import Generic
from viam.services.mlmodel import MLModel
from viam.utils import struct_to_dict

from ... import api
from ...calls.deadlines import deadline, in_words, left
from ...calls.names import suggestion
from ...errors import AccelerateError, ClosedError, InferenceTimeoutError, ModelNotFoundError, OptionError
from ...metadata import Metadata
from ...model import Model
from ...services.arguments import load_arguments
from .description import check_sendable
from .local import LocalMLModel
from .rpc import answering
from .threads import in_thread

__all__ = ["Commands", "Host", "ServedModel", "attributes_of", "check_known", "mlmodel_name", "place"]

Dependencies = Mapping[ResourceName, ResourceBase]


class Host(Protocol):
    """Where a resource finds others: the module."""

    async def mlmodel(self, name: str) -> MLModel:
        """Return the model of this process with a name, else the machine's."""

    async def camera(self, name: str) -> Any:
        """Return a camera of the machine."""


class ServedModel(LocalMLModel):
    """An ML model service whose model is being loaded while calls already wait for it, each for its own time."""

    def __init__(self, config: ComponentConfig) -> None:
        self._prepare(config.name)
        self._config = config
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    def new(cls, config: ComponentConfig, dependencies: Dependencies) -> Self:
        """Return the service without a model; `start` loads it."""
        return cls(config)

    @classmethod
    def validate_config(cls, config: ComponentConfig) -> tuple[Sequence[str], Sequence[str]]:
        """Check the attributes; a file may still arrive."""
        attributes = attributes_of(config)
        label_path = attributes.get("label_path")
        if isinstance(label_path, str) and not os.path.exists(label_path):
            del attributes["label_path"]
        with contextlib.suppress(ModelNotFoundError):
            load_arguments(config.model, attributes, place(config))
        return [], []

    async def start(self, host: Host) -> None:
        """Load the model in a thread.

        Raises
        ------
        AccelerateError
            What `load` raises, with the service's name.
        """
        loading = in_thread(self._load)
        try:
            model, metadata = await asyncio.shield(loading)
            if self._closing:
                await in_thread(model.close)
                raise ClosedError(f"{place(self._config)}: closed while its model was loading")  # noqa: TRY301
            self._take(model, metadata)
        except BaseException as error:
            if not loading.done():  # nobody waits for it any more
                loading.add_done_callback(_close)
            said = error if isinstance(error, Exception) else ClosedError(f"loading {self.name!r} was cancelled")
            self._fail(said)
            raise
        if not self._loaded.done():
            self._loaded.set_result(None)

    def _load(self) -> tuple[Model, Metadata]:
        where = place(self._config)
        source, arguments = load_arguments(self._config.model, attributes_of(self._config), where)
        model = None
        try:
            model = api.load(source, **arguments)
            metadata = model.metadata()
            check_sendable(metadata)
        except BaseException as error:
            if model is not None:
                model.close()
            if isinstance(error, AccelerateError):
                raise error.about(where) from error.__cause__
            raise
        return model, metadata

    async def model_within(self, timeout: float | None) -> tuple[Model, Metadata]:
        """Return the model once it is loaded."""
        if not self._loaded.done():
            try:
                await asyncio.wait_for(asyncio.shield(self._loaded), timeout)
            except asyncio.TimeoutError:
                raise InferenceTimeoutError(
                    f"no answer within {in_words(timeout or 0.0)}: the model of {self.name!r} is still being loaded",
                    "call again",
                ) from None
        return await super().model_within(timeout)

    async def close(self) -> None:
        """Close the model, after the calls that are in work; one that is loading as soon as it is there."""
        self._closing = True
        self._fail(ClosedError(f"the ML model service {self.name!r} was closed"))
        await super().close()

    def _fail(self, error: Exception) -> None:
        """Tell those who wait for the model, if it still is to come."""
        if not self._loaded.done():
            self._loaded.set_exception(error)
            self._loaded.exception()  # there may be nobody who waits


class Commands(Generic):
    """A Generic service that passes commands on to a model: the protocol of ML model services has none."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__(config.name)
        self.validate_config(config)
        self._mlmodel = mlmodel_name(config)
        self._host: Host | None = None

    @classmethod
    def new(cls, config: ComponentConfig, dependencies: Dependencies) -> Self:
        """Return the service."""
        return cls(config)

    @classmethod
    def validate_config(cls, config: ComponentConfig) -> tuple[Sequence[str], Sequence[str]]:
        """Check the attributes, and name the model as a dependency."""
        check_known(config, ("mlmodel_name",))
        return [mlmodel_name(config)], []

    async def start(self, host: Host) -> None:
        """Note where the model is looked for, at each call."""
        self._host = host

    async def do_command(
        self, command: Mapping[str, Any], *, timeout: float | None = None, **_: Any
    ) -> Mapping[str, Any]:
        """Do what the model's `do_command` does."""
        until = deadline(timeout)
        with answering():
            model = await self._model()
            if not isinstance(model, LocalMLModel):
                raise NotImplementedError(
                    f"the ML model service {self._mlmodel!r} is not this module's, and Viam's protocol has no commands "
                    "for those of others"
                )
            return await model.do_command(command, timeout=left(until))

    async def get_status(self, *, timeout: float | None = None, **_: Any) -> Mapping[str, Any]:
        """Return the model's status."""
        until = deadline(timeout)
        with answering():
            return await (await self._model()).get_status(timeout=left(until))

    async def _model(self) -> MLModel:
        assert self._host is not None, "the module starts what it serves"
        return await self._host.mlmodel(self._mlmodel)


def attributes_of(config: ComponentConfig) -> dict[str, Any]:
    """Return a resource's attributes."""
    return dict(struct_to_dict(config.attributes))


def place(config: ComponentConfig) -> str:
    """Return what a resource is called in messages."""
    return f"service {config.name!r}"


def check_known(config: ComponentConfig, known: Sequence[str]) -> None:
    """Refuse attributes that a resource does not know.

    Raises
    ------
    OptionError
    """
    for name in attributes_of(config):
        if name not in known:
            raise OptionError(
                f"{place(config)}: there is no attribute {name!r:.80}{suggestion(name, known)}",
                f"{config.model} knows {', '.join(sorted(known))}",
            )


def mlmodel_name(config: ComponentConfig) -> str:
    """Return the attribute that names an ML model service.

    Raises
    ------
    OptionError
    """
    name = attributes_of(config).get("mlmodel_name")
    if not isinstance(name, str) or not name:
        said = "there is no mlmodel_name" if name is None else f"mlmodel_name is {name!r:.60}"
        raise OptionError(f"{place(config)}: {said}", 'write "mlmodel_name": the name of an ML model service')
    return name


def _close(loading: asyncio.Future[tuple[Model, Metadata]]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result()[0].close()
