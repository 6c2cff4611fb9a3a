"""A model on a server of the Open Inference Protocol."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from accelerate.contract import (
    Array,
    Command,
    CopyingBinding,
    LoadOptions,
    RuntimeInfo,
    RuntimeModel,
    allocate,
    default_shape,
    left,
    seconds,
)
from accelerate.errors import AccelerateError, OptionError, UnsupportedModelError
from accelerate.formats.open_inference import messages
from accelerate.formats.open_inference.raw import pack_strings
from accelerate.metadata import Metadata

from .address import Address
from .calls.answer import read_answer, unpack_strings
from .calls.binding import SequenceBinding, SharedBinding
from .calls.regions import Regions, Slot
from .calls.request import bytes_of, join, request_head
from .calls.sequence import CallSequence, sequence_of
from .calls.transport import Restore, Transport
from .connection import Connection, Deadline, Settings
from .description import ModelDescription, check_device, labels_of
from .errors import translate

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TritonModel"]

_log = logging.getLogger("accelerate")
_DEFAULT_TIMEOUT = 10.0
_MOST_REASON = 500  # characters
# of a server's statistics; the rest of what a call takes is the network and the client
_PHASES = ("queue", "compute_input", "compute_infer", "compute_output")
_MOST_CLASSES = 100_000  # an answer with a label for each is some megabytes


class TritonModel(RuntimeModel):
    """Use `connect`."""

    concurrent = True
    survives_fork = True

    def __init__(
        self,
        transport: Transport,
        extensions: frozenset[str],
        description: ModelDescription,
        runtime: RuntimeInfo,
        options: LoadOptions,
        sequence: CallSequence | None,
    ) -> None:
        self._transport = transport
        self._sequence = sequence
        self._extensions = extensions
        self._description = description
        self._afterwards: Callable[[], object] | None = None
        super().__init__("triton", *description.infos, runtime, options)
        # they may have been copied, and what the transport writes must be seen
        transport.details.update(self.runtime.details)
        self.runtime = replace(self.runtime, details=transport.details)
        self._finalizer = weakref.finalize(self, _leave, transport, sequence)

    @classmethod
    def connect(
        cls,
        address: Address,
        options: LoadOptions,
        complete: Callable[[ModelDescription], ModelDescription] = lambda description: description,
        restore: Restore | None = None,
    ) -> Self:
        """Ask the server for the model and settle how tensors travel.

        `complete` adds what else is known to what the server tells; `restore` brings the model back to a server that
        has lost it, over a connection and until a deadline.
        """
        settings = Settings.parse(options, address)
        deadline = Deadline(_DEFAULT_TIMEOUT)
        connection = Connection(address, address.target(), settings)
        try:
            extensions, runtime, description = _ask_for_model(connection, deadline)
            check_device(str(address), options.device, description)
            description = complete(description)
            sequence = sequence_of(description.sequence, settings.sequence_id)
            if sequence is not None:
                _check_sequence(connection, options)
                description = replace(description, sequence=description.sequence or "")  # an ensemble does not say so
        except BaseException:
            connection.close()
            raise
        details: dict[str, Any] = {
            "url": str(address),
            "platform": description.platform,
            "versions": description.versions,
            "fleet": connection.target.fleet,
        }
        if sequence is not None:
            details["sequence_id"] = sequence.identifier
        shares = "system_shared_memory" in extensions
        transport = Transport(connection, description, settings.shared_memory, restore, shares=shares, details=details)
        try:
            transport.settle(deadline)
            return cls(transport, extensions, description, replace(runtime, details=details), options, sequence)
        except BaseException:
            transport.close()
            raise

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> CopyingBinding:
        self.check_open()
        arrays = allocate(self.sized_inputs, self.input_index, shapes)
        if self._sequence is not None:
            own = self._sequence.another()
            return SequenceBinding(
                self, partial(self._run_aside, own), partial(self._transport.leave, own), arrays, self.outputs
            )
        bound = [arrays.get(tensor.name) for tensor in self.inputs]
        layout = self._transport.layout(tuple(None if array is None else array.shape for array in bound))
        shared = self._transport.bind(layout, _DEFAULT_TIMEOUT)
        if shared is None:
            return CopyingBinding(self, self.run, arrays, self.outputs)
        return SharedBinding(self, self._run_bound, *shared, arrays, self.outputs)

    @property
    def concurrency(self) -> int:
        if self._sequence is not None:
            return 1
        return 8  # enough to fill a batch where the server makes batches of calls

    def execute(self, feeds: list[Array]) -> list[Array]:
        return self._transport.call(feeds, _DEFAULT_TIMEOUT, self._sequence)

    def execute_within(self, feeds: list[Array], timeout: float) -> list[Array]:
        self.check_open()
        return self._transport.call(feeds, timeout, self._sequence)

    def _run_bound(self, regions: Regions, slot: Slot, feeds: list[Array], timeout: float | None) -> list[Array]:
        self.check_open()
        return self._transport.call_bound(regions, slot, feeds, _limit(timeout))

    def _run_aside(self, sequence: CallSequence, feeds: list[Array], timeout: float | None) -> list[Array]:
        """Run in another sequence than this model's."""
        self.check_open()
        return self._transport.call(feeds, _limit(timeout), sequence)

    def warm(self, feeds: list[Array], runs: int, until: float | None) -> None:
        if self._sequence is None:
            super().warm(feeds, runs, until)
            return
        aside = self._sequence.another()
        try:
            for _ in range(runs):
                self._run_aside(aside, feeds, left(until))
        finally:
            self._transport.leave(aside)

    def after_close(self, finalizer: Callable[[], object]) -> None:
        """Call something when the model has been closed."""
        self._afterwards = finalizer

    def release(self) -> None:
        self._finalizer()
        if self._afterwards is not None:
            self._afterwards()

    # What the server tells beside the tensors

    def describe(self) -> Metadata:
        d = self._description
        if d.told is not None:
            return replace(d.told, inputs=self.inputs, outputs=self.outputs, stateful=self._sequence is not None)
        outputs = list(self.outputs)
        for position in d.label_files if self.options.labels is None else ():
            outputs[position] = replace(outputs[position], labels=self._labels_of(position))
        labels = next((t.labels for t in outputs if t.labels), ())
        return Metadata(d.name, "", "", self.inputs, tuple(outputs), labels, stateful=self._sequence is not None)

    def _labels_of(self, position: int) -> tuple[str, ...]:
        """Return the lines of an output's label file: Triton gives them only as the names of ranked results."""
        d = self._description
        output = d.outputs[position]
        if "classification" not in self._extensions or self._sequence is not None:
            return ()
        needed = [(t, default_shape(i)) for t, i in zip(d.inputs, self.inputs, strict=True) if not i.optional]
        blanks = [t.blank(shape) for t, shape in needed]
        head = request_head(
            d.name,
            self._transport.connection.address.version,
            [(t.name, t.datatype, shape, None) for t, shape in needed],
            [(output.name, None)],
            classes=_MOST_CLASSES,
        )
        contents = [pack_strings(b) if b.dtype.hasobject else bytes_of(b) for b in blanks]
        try:
            answers, raw = read_answer(self._ask_raw(join(head, contents)))
            return labels_of(unpack_strings(raw[0], answers[0].shape).ravel().tolist())
        except (AccelerateError, IndexError) as error:  # only the labels are lost
            _log.warning("%s: the labels cannot be had from the server: %s", self._transport.connection.address, error)
            return ()

    def _ask_raw(self, request: bytes) -> bytes:
        import grpc

        connection = self._transport.connection
        try:
            with connection.held():
                return connection.infer(request, _DEFAULT_TIMEOUT)
        except grpc.RpcError as error:
            raise translate(error, str(connection.address), "infer") from error

    # Commands

    def commands(self) -> Mapping[str, Command]:
        commands: dict[str, Command] = {}
        if "statistics" in self._extensions:
            commands["statistics"] = lambda _, until: self._statistics(until)
        if "model_repository" in self._extensions:
            commands["load"] = lambda _, until: self._load(until)
            commands["unload"] = lambda _, until: self._repository("Unload", until)
        if (sequence := self._sequence) is not None:
            commands["reset"] = lambda _, until: self._reset(sequence, until)
        return commands

    def _reset(self, sequence: CallSequence, until: float | None) -> dict[str, Any]:
        self._transport.end(sequence, _left(until))
        return {}

    def _statistics(self, until: float | None) -> dict[str, Any]:
        """Return what the server has measured, from its start or the model's loading on; durations are means in ms."""
        connection = self._transport.connection
        address = connection.address
        request = messages.ModelStatisticsRequest(name=address.model, version=address.version)
        answer = connection.answer("ModelStatistics", request, _left(until), str(address), "statistics")
        return {
            "versions": {
                one.version: {
                    "inferences": one.inference_count,
                    "executions": one.execution_count,
                    **{
                        name: {"count": part.count, "mean_ms": part.ns / part.count / 1e6 if part.count else 0.0}
                        for name, part in (
                            (field.name, getattr(one.inference_stats, field.name))
                            for field in one.inference_stats.DESCRIPTOR.fields
                        )
                    },
                }
                for one in answer.model_stats
            }
        }

    def phases(self) -> Mapping[str, tuple[int, float]] | None:
        if "statistics" not in self._extensions:
            return None
        totals: dict[str, tuple[int, float]] = {}
        for version in self._statistics(None)["versions"].values():
            for name in _PHASES:
                part, (count, total) = version[name], totals.get(name, (0, 0.0))
                totals[name] = count + part["count"], total + part["count"] * part["mean_ms"]
        return totals

    def _load(self, until: float | None) -> dict[str, Any]:
        # the server's repository has nothing of a model that was shipped there
        if self._transport.restore(_left(until)):
            return {"model": self._transport.connection.address.model, "loaded": True}
        return self._repository("Load", until)

    def _repository(self, action: str, until: float | None) -> dict[str, Any]:
        connection = self._transport.connection
        address = connection.address
        request = getattr(messages, f"RepositoryModel{action}Request")(model_name=address.model)
        connection.answer(f"RepositoryModel{action}", request, _left(until), str(address), action.lower())
        return {"model": address.model, "loaded": action == "Load"}


def _left(until: float | None) -> float:
    return _DEFAULT_TIMEOUT if until is None else max(0.0, until - monotonic())


def _limit(timeout: float | None) -> float:
    return _DEFAULT_TIMEOUT if timeout is None else seconds(timeout)


def _leave(transport: Transport, sequence: CallSequence | None) -> None:
    if sequence is not None:
        transport.leave(sequence)
    transport.close()


def _check_sequence(connection: Connection, options: LoadOptions) -> None:
    why = f"{connection.address} keeps state between the calls of a sequence"
    if connection.target.fleet:
        raise UnsupportedModelError(f"{why}, and a fleet's calls go to different servers", "name one server")
    if options.replicas > 1:
        raise OptionError(f"{why}, and replicas={options.replicas} would spread them", "leave replicas out")


def _ask_for_model(connection: Connection, deadline: Deadline) -> tuple[frozenset[str], RuntimeInfo, ModelDescription]:
    """Return the server's extensions, what runs the model, and the model."""
    import grpc

    address, who = connection.address, str(connection.address)
    named = {"name": address.model, "version": address.version}
    server = None
    try:
        server = connection.server_metadata(deadline.left(who))
        metadata = connection.ask("ModelMetadata", messages.ModelMetadataRequest(**named), deadline.left(who))
        config = None
        if "model_configuration" in server.extensions:
            request = messages.ModelConfigRequest(**named)
            answer = connection.optional("ModelConfig", request, deadline.left(who))
            config = None if answer is None else answer.config
    except grpc.RpcError as error:
        reason = ""
        if server is not None and "model_repository" in server.extensions:
            reason = _why_not_loaded(connection, deadline)
        raise translate(error, who, "load", reason) from error
    description = ModelDescription.read(who, metadata, config)
    name = "Triton" if server.name == "triton" else server.name or "Open Inference server"
    runtime = RuntimeInfo(name, server.version or "unknown", description.device)
    return frozenset(server.extensions), runtime, description


def _why_not_loaded(connection: Connection, deadline: Deadline) -> str:
    """Return what has kept the server from loading the model, "" where it does not tell."""
    import grpc

    address = connection.address
    try:
        index = connection.ask("RepositoryIndex", messages.RepositoryIndexRequest(), deadline.left(str(address)))
    except (grpc.RpcError, AccelerateError):  # the first error says what is wrong, too
        return ""
    reasons = [one.reason for one in index.models if one.name == address.model and address.version in ("", one.version)]
    return "; ".join(filter(None, reasons))[:_MOST_REASON]
