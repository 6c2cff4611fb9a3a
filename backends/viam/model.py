"""A model of an ML model service."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from accelerate.contract import (
    ASSUMED_NORMALIZATION,
    Array,
    LoadOptions,
    RuntimeInfo,
    RuntimeModel,
    blank,
    default_shape,
)
from accelerate.errors import AccelerateError, InferenceError, TensorError, UnsupportedModelError
from accelerate.formats.flat_tensors import decode, encode
from accelerate.metadata import Metadata

from .address import Address, Credentials
from .connection import Connection, borrowed, dialed
from .description import Description
from .errors import translate
from .sdk import import_sdk

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ViamModel"]

_log = logging.getLogger("accelerate")
_DEFAULT_TIMEOUT = 10.0


class ViamModel(RuntimeModel):
    """Use `connect` or `adopt`."""

    concurrent = True
    survives_fork = True
    assumed_normalization = ASSUMED_NORMALIZATION

    def __init__(
        self, connection: Connection, description: Description, runtime: RuntimeInfo, options: LoadOptions
    ) -> None:
        self._connection = connection
        self._description = description
        self._wire_names = [t.name for t in description.inputs]
        self._said: set[str] = set()
        self._of_parents: list[Connection] = []
        super().__init__("viam", description.inputs, description.outputs, runtime, options)
        self._finalizer = weakref.finalize(self, connection.close)

    @classmethod
    def connect(cls, address: Address, credentials: Credentials | None, options: LoadOptions) -> Self:
        """Ask the machine at an address for a model."""
        return cls._of(dialed(address, credentials), {"url": str(address)}, options)

    @classmethod
    def adopt(cls, given: Any, service: str, options: LoadOptions) -> Self:
        """Ask for a model over an existing object of the SDK."""
        return cls._of(borrowed(given, service), {"object": type(given).__name__}, options)

    @classmethod
    def _of(cls, connection: Connection, details: Mapping[str, Any], options: LoadOptions) -> Self:
        try:
            until = monotonic() + _DEFAULT_TIMEOUT
            description = Description.read(connection.who, connection.metadata(_DEFAULT_TIMEOUT))
            if not description.complete:  # services of models without metadata of their own do not tell
                description = description.seen(_probe(connection, description, until - monotonic()))
            runtime = RuntimeInfo("Viam", import_sdk(), "server", details={**details, "service": connection.service})
            return cls(connection, description, runtime, options)
        except BaseException:
            connection.close()
            raise

    @property
    def concurrency(self) -> int:
        return 8  # enough to have the next request there when the machine has answered one

    def execute(self, feeds: list[Array]) -> list[Array]:
        return self._ask(feeds, _DEFAULT_TIMEOUT)

    def execute_within(self, feeds: list[Array], timeout: float) -> list[Array]:
        self.check_open()
        return self._ask(feeds, timeout)

    def _ask(self, feeds: list[Array], timeout: float) -> list[Array]:
        answer = _infer(self._connection, dict(zip(self._wire_names, feeds, strict=True)), timeout)
        outputs = []
        for tensor in self._description.outputs:
            array = answer.pop(tensor.name, None)
            if array is None:
                raise InferenceError(
                    f"{self._connection.who}: the answer has no {tensor.name!r}, which the service's metadata lists; "
                    f"others in it: {', '.join(map(repr, answer)) or 'none'}",
                    "correct the service, or load the model again if it is another one now",
                )
            if array.dtype.name != tensor.data_type:
                self._say_once(f"output {tensor.name!r} is {array.dtype.name}; its metadata says {tensor.data_type}")
            outputs.append(array)
        if answer:
            self._say_once(f"outputs that its metadata does not list are left out: {', '.join(map(repr, answer))}")
        return outputs

    def _say_once(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s: %s", self._connection.who, what)

    def translate(self, error: Exception) -> AccelerateError:
        return translate(error, self._connection.who)

    def describe(self) -> Metadata:
        return self._description.told(self.inputs, self.outputs, labels=self.options.labels is None)

    def forked(self) -> None:
        super().forked()
        self._finalizer.detach()
        self._of_parents.append(self._connection)  # to free it would be to close it
        self._connection = self._connection.renewed()
        self._finalizer = weakref.finalize(self, self._connection.close)

    def release(self) -> None:
        self._finalizer()


def _probe(connection: Connection, description: Description, timeout: float) -> dict[str, Array]:
    """Run once on zeros, to see which outputs there are."""
    zeros = {t.name: blank(t, default_shape(t)) for t in description.inputs}
    try:
        return _infer(connection, zeros, timeout)
    except InferenceError as error:
        raise UnsupportedModelError(
            f"{connection.who}: the service does not say which outputs its model has, and running it on zeros to see "
            f"them failed: {error.reason}",
            "give its model metadata with the names of its tensors",
        ) from error


def _infer(connection: Connection, tensors: Mapping[str, Array], timeout: float) -> dict[str, Array]:
    answer = connection.infer(encode(tensors), timeout)
    try:
        return decode(answer, f"{connection.who}: the answer", copy=True)
    except TensorError as error:
        raise InferenceError(error.reason, error.remedy) from error
