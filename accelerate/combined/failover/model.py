"""Failover: one Model made of several. The first that can answers; what a failure costs a call is time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from time import perf_counter_ns
from typing import Any, TypeVar

from ...calls.binding import Binding, CopyingBinding, allocate
from ...calls.conversion import Array
from ...calls.deadlines import deadline, in_words, left
from ...calls.forks import keep_in_children
from ...errors import (
    AccelerateError,
    InferenceError,
    InferenceTimeoutError,
    NoBackendError,
    OptionError,
    TensorError,
    one_line,
)
from ...metadata import Metadata
from ...model import Model
from ...reports import Candidate, Plan, RuntimeInfo
from ..wrapper import ModelWrapper, when_all_idle
from .interface import Interface
from .members import DOUBTFUL, Member, Service, bare, close_quietly
from .roster import Failure, Roster

__all__ = ["Failover"]

Result = TypeVar("Result")
_Use = Callable[[Service, "float | None"], Result]

_log = logging.getLogger("accelerate")


class Failover(ModelWrapper):
    """The first of its models that can answers each call; those that are lost are tried again in the background.

    Parameters
    ----------
    members : sequence of Member
        Opened ones, or such as have an `error`; one of them at least answers.
    interface : Interface
        Of the first that was there.

    Attributes
    ----------
    inputs : tuple of TensorInfo
        As that one has them.
    """

    def __init__(self, members: Sequence[Member], interface: Interface) -> None:
        self._roster = Roster(members, interface)
        self._interface = interface
        self.inputs = interface.metadata.inputs
        super().__init__("this failover")
        keep_in_children(self)

    @classmethod
    def of(cls, members: Sequence[Member]) -> Failover:
        """Load the models, as many as can be.

        Raises
        ------
        OptionError
            An option of one is wrong, or two do not fit together.
        AccelerateError
            None can be loaded: a NoBackendError that tells of all, or what all of them say.
        """
        interface: Interface | None = None
        with ExitStack() as stack:
            for member in members:
                try:
                    opened, interface = member.open(interface)
                except OptionError:
                    raise
                except AccelerateError as error:
                    member.lose(error)
                    continue
                stack.callback(opened.model.close)
                member.arrive(opened)
                if opened.error is not None and (useless := member.lose(opened.error)) is not None:
                    close_quietly(useless)
            answering = [member.service.name for member in members if member.service is not None]
            if interface is None or not answering:
                raise _none_loads(members)
            made = cls(members, interface)
            stack.pop_all()
        if lost := [f"{name}: {why}" for name, why in made.runtime.details["lost"].items()]:
            _log.warning("%s answers; what does not yet is tried again: %s", answering[0], "; ".join(lost))
        return made

    def forked(self) -> None:
        """In a forked child: another thread's call will never end here."""
        self._latency.forked()
        self.turn.forked()

    @property
    def current(self) -> Model:
        """The model that answers now."""
        return self._roster.current

    @property
    def runtime(self) -> RuntimeInfo:
        """What the model that answers now runs on.

        ``details`` has ``failover``, the latest switches, each with ``time`` (of `time.time`), ``from``, ``to`` and
        ``reason``; ``lost``, what does not answer now and why; ``fails_on_inputs``, what leaves some calls to others.
        """
        runtime = self.current.runtime
        return replace(runtime, details={**runtime.details, **self._roster.told()})

    def metadata(self, *, timeout: float | None = None) -> Metadata:
        """Return what the first of the models that was there says: what all have in common, and its own types."""
        self.turn.check_open()
        return self._interface.metadata

    # How a call goes

    def answer(self, input_tensors: Any, timeout: float | None, dequantize: bool | None) -> dict[str, Array]:
        """Let the first that can answer."""
        if dequantize is not None:
            self._interface.check_call(dequantize)
        return self._call(lambda service, limit: service.infer(input_tensors, limit, dequantize), timeout)

    def infer_image(
        self, frame: Any, *, timeout: float | None = None, dequantize: bool | None = None, **ways: Any
    ) -> dict[str, Array]:
        """Let each model that is asked make its own tensor of the frame."""
        started = perf_counter_ns()
        try:
            if dequantize is not None:
                self._interface.check_call(dequantize)
            given = {**ways, "dequantize": dequantize}
            outputs = self._call(lambda service, limit: service.infer_image(frame, limit, given), timeout)
        except Exception:
            self._latency.record_error()
            raise
        self._latency.record(perf_counter_ns() - started)
        return outputs

    async def infer_image_async(
        self, frame: Any, *, timeout: float | None = None, dequantize: bool | None = None, **ways: Any
    ) -> dict[str, Array]:
        self.turn.check_open()
        timeout = self.patience if timeout is None else timeout
        infer = partial(self.infer_image, **ways)
        return await self._background.infer(infer, self.concurrency, frame, timeout, dequantize)

    def _call(self, use: _Use[Result], timeout: float | None) -> Result:
        """Let one model after the other try, until one has done it."""
        if self.turn.closed:
            self.turn.check_open()
        until = deadline(timeout)
        if not (serving := self._roster.serving):
            return self._elsewhere(use, until, timeout, [])
        service = serving[0]
        limit = None if until is None else service.share(until)
        try:
            result = use(service, limit)
        except (TensorError, OptionError):  # a caller's mistake is one anywhere
            raise
        except AccelerateError as error:
            failures: list[Failure] = [(service, error, limit)]
            self._note_failure(service, error)
        else:
            if service.failures or self._roster.unattended:
                self._roster.note_answer(service, ())
            return result
        return self._elsewhere(use, until, timeout, failures)

    def _elsewhere(
        self, use: _Use[Result], until: float | None, timeout: float | None, failures: list[Failure]
    ) -> Result:
        """Go on with the others, after those that have failed in this call. Each keeps its part of the time."""
        tried = {service.place for service, _, _ in failures}
        try:
            while candidates := self._roster.candidates(failures, tried):
                service = candidates[0]
                tried.add(service.place)
                limit = service.share(until) if len(candidates) > 1 else left(until)
                try:
                    result = use(service, limit)
                except (TensorError, OptionError):
                    raise
                except AccelerateError as error:
                    failures.append((service, error, limit))
                    self._note_failure(service, error)
                else:
                    self._roster.note_answer(service, failures)
                    return result
            raise self._verdict([error for _, error, _ in failures], timeout)
        finally:
            failures.clear()  # their frames are this one's, too

    def _note_failure(self, service: Service, error: AccelerateError) -> None:
        self.turn.check_open()  # closed meanwhile: it was not the model's fault
        self._roster.note_failure(service, error)

    def _verdict(self, errors: Sequence[AccelerateError], timeout: float | None) -> AccelerateError:
        """Return the error of a call that nobody could answer."""
        if failed := [error for error in errors if isinstance(error, InferenceError)]:
            return failed[0]
        late = [error for error in errors if isinstance(error, InferenceTimeoutError)]
        if late and timeout is not None and len(errors) > 1:
            told = "; ".join(error.reason for error in errors)
            return InferenceTimeoutError(f"no answer within {in_words(timeout)}: {told}", "give a longer timeout")
        return next(iter(late or errors), None) or self._roster.no_answer()

    # The rest of the interface

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        """Return a `Binding` with arrays of its own, which go on working after a switch.

        Their types are those of `metadata`; outputs are float32 where the models' levels stand for different numbers.
        """
        self.turn.check_open()
        arrays = allocate(self.inputs, self._interface.inputs, shapes)
        return CopyingBinding(self, self._run_bound, arrays, self._interface.bound_outputs())

    def _run_bound(self, feeds: list[Array], timeout: float | None) -> list[Array]:
        given = {t.name: feed for t, feed in zip(self.inputs, feeds, strict=True) if feed is not None}  # type: ignore[redundant-expr]
        real = self._interface.bound_dequantize
        outputs = self._call(lambda service, limit: service.infer(given, limit, real), timeout)
        return [outputs[t.name] for t in self._interface.metadata.outputs]

    def translate(self, error: Exception) -> AccelerateError:
        """Return the error for what a stranger's model has raised in a Binding's run."""
        return InferenceError(f"{self.backend} failed: {one_line(error)}")

    def signature(self, name: str) -> Model:
        self.turn.check_open()
        raise OptionError(
            "the models of a failover run the one signature that they were loaded with",
            f"load another failover: load(..., signature={name!r:.60})",
        )

    def do_command(self, command: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        """Tell the statistics of all calls, with ``switches``; warm up all that are there; ask the current one."""
        name = command.get("command") if isinstance(command, Mapping) else None  # type: ignore[redundant-expr]
        if name == "warmup":
            return self._warm_up(command, timeout)
        answer = super().do_command(command, timeout=timeout)
        return {**answer, "switches": self._roster.switches} if name == "stats" else answer

    def _warm_up(self, command: Mapping[str, Any], timeout: float | None) -> dict[str, Any]:
        self.turn.check_open()
        until = deadline(timeout)
        reports, lost = [], None
        for service in self._roster.serving:
            try:
                reports.append(service.model.do_command(command, timeout=left(until)))
            except (*DOUBTFUL, OptionError, TensorError):
                raise
            except AccelerateError as error:
                lost = bare(error)
                self._note_failure(service, error)
        if not reports:
            raise lost or self._roster.no_answer()
        return {"runs": reports[0]["runs"], "total_ms": sum(report["total_ms"] for report in reports)}

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Wait for all models."""
        when_all_idle(self._roster.models(), callback)

    def release(self) -> None:
        """Close the models, all of them whatever one raises."""
        self._roster.close()
        with ExitStack() as stack:
            for model in self._roster.models():
                stack.callback(model.close)


def _none_loads(members: Sequence[Member]) -> AccelerateError:
    """Return the error of a load of which nothing came: what all say, else each has its row."""
    errors = [member.error for member in members if member.error is not None]
    if len({(type(error), str(error)) for error in errors}) == 1:
        return errors[0]
    told = "\n".join(f"  {member.name}: {member.error}" for member in members)
    rows = [Candidate(m.name, "-", m.error.reason, m.error.remedy) for m in members if m.error is not None]
    return NoBackendError(f"none of the models of this failover can be loaded:\n{told}", Plan(None, (), tuple(rows)))
