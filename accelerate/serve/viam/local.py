"""LocalMLModel: a Model as the SDK's MLModel, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from viam.services.mlmodel import Metadata as MetadataMessage
from viam.services.mlmodel import MLModel

from ...calls.conversion import Array
from ...calls.deadlines import deadline, left
from ...errors import ClosedError
from ...metadata import Metadata
from ...model import Model
from ...services.arguments import whole_floats
from .description import check_sendable, received, sendable, to_message
from .threads import in_thread
from .values import plain

__all__ = ["LocalMLModel"]

#: Seconds that `close` waits for calls in work, which end well after it, too, unless they still wait their turn.
_PATIENCE = 10.0


class LocalMLModel(MLModel):
    """A model of `accelerate.load` with the interface of Viam's ML model service, so without a machine.

    What a program does with an MLModelClient it does with this, and a Viam `Server` serves it. Nothing blocks the event
    loop. The model is closed by `close`.

    Parameters
    ----------
    name : str
        The service's.
    model : Model

    Raises
    ------
    UnsupportedModelError
        A tensor is of a kind that Viam's protocol cannot carry: strings.
    """

    def __init__(self, name: str, model: Model) -> None:
        self._prepare(name)
        self._take(model, model.metadata())

    def _prepare(self, name: str) -> None:
        super().__init__(name)
        self._running = 0
        self._closing = False
        self._end: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._model: Model | None = None
        self._metadata: Metadata | None = None

    def _take(self, model: Model, metadata: Metadata) -> None:
        """Use a model.

        Raises
        ------
        UnsupportedModelError
        """
        check_sendable(metadata)
        self._model, self._metadata = model, metadata

    async def model_within(self, timeout: float | None) -> tuple[Model, Metadata]:
        """Return the model and what is known about it, once it is there.

        Raises
        ------
        ClosedError, InferenceTimeoutError
        """
        if self._closing or self._model is None or self._metadata is None:
            raise ClosedError(f"the ML model service {self.name!r} was closed")
        return self._model, self._metadata

    async def infer(
        self,
        input_tensors: Mapping[str, Any],
        *,
        extra: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> dict[str, Array]:
        """Run the model once.

        Parameters
        ----------
        input_tensors : mapping of str to array_like
            By name, as for `Model.infer`, which converts them; a single one for a model that wants one may have any
            name, as Viam's own models take it.
        extra
            Not read.
        timeout : float, optional
            Seconds.

        Returns
        -------
        dict of str to numpy.ndarray
            The outputs in dtypes of Viam's protocol: bool as uint8, float16 as float32.

        Raises
        ------
        TensorError, InferenceTimeoutError, InferenceError, DeviceLostError, ServerError, ClosedError
        """
        return {name: sendable(array) for name, array in (await self.call(input_tensors, timeout)).items()}

    async def call(self, input_tensors: Mapping[str, Any], timeout: float | None) -> dict[str, Array]:
        """Run the model once, and return its outputs in its own dtypes."""
        until = deadline(timeout)
        model, metadata = await self.model_within(timeout)
        given: Any = input_tensors
        if len(input_tensors) == 1 and len(metadata.required_inputs) == 1:
            ((name, tensor),) = input_tensors.items()
            if not any(name in (info.name, *info.aliases) for info in metadata.inputs):
                given = {metadata.required_inputs[0].name: tensor}
        if any(info.data_type == "bool" for info in metadata.inputs):
            given = received(given, metadata)
        with self._counted():
            return await model.infer_async(given, timeout=left(until))

    async def metadata(
        self, *, extra: Mapping[str, Any] | None = None, timeout: float | None = None, **_: Any
    ) -> MetadataMessage:
        """Return the model's metadata as the SDK's message.

        Data types are those that `infer` returns; `extra` of a tensor has ``labels`` (the path that was given),
        ``boxOrder``, ``quantization``, and ``data_type`` where the model's own is another one.
        """
        return to_message((await self.model_within(timeout))[1])

    async def do_command(
        self, command: Mapping[str, Any], *, timeout: float | None = None, **_: Any
    ) -> Mapping[str, Any]:
        """Do what `Model.do_command` does; whole floats are taken as integers.

        Raises
        ------
        NotImplementedError
            There is no such command; the message lists those that there are.
        """
        until = deadline(timeout)
        model, _metadata = await self.model_within(timeout)
        with self._counted():
            answer = await in_thread(
                lambda: model.do_command(whole_floats(command, "the command"), timeout=left(until))
            )
        return {str(key): plain(value) for key, value in answer.items()}

    async def get_status(self, *, timeout: float | None = None, **_: Any) -> Mapping[str, Any]:
        """Return on what the model runs, and its statistics."""
        until = deadline(timeout)
        model, _metadata = await self.model_within(timeout)
        with self._counted():
            stats = await in_thread(lambda: model.do_command({"command": "stats"}, timeout=left(until)))
        runtime = model.runtime
        known = {
            "name": runtime.name, "version": runtime.version, "delegated": runtime.delegated, "total": runtime.total,
            "details": runtime.details,
        }  # fmt: skip
        status = {"backend": model.backend, "device": model.device, "runtime": known, "stats": stats}
        return {key: plain(value) for key, value in status.items()}

    async def close(self) -> None:
        """Close the model, after the calls that are in work; it is closed then, too, where nobody waits any more."""
        self._closing = True
        if self._end is None:
            self._end = asyncio.ensure_future(self._ended())
        await asyncio.shield(self._end)

    async def _ended(self) -> None:
        try:
            await asyncio.wait_for(self._idle.wait(), _PATIENCE)
        except asyncio.TimeoutError:
            self.logger.warning("closing %s although calls have been running for %g s", self.name, _PATIENCE)
        model, self._model = self._model, None
        if model is not None:
            await in_thread(model.close)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
