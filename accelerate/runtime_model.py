"""RuntimeModel: a Model over one object of a runtime. A backend's subclass implements `execute`, and what it needs.

A call goes: `infer` -> names and conversion (`conversion.InputAdapter`) -> `run` -> `execute` -> outputs by name.
"""

from __future__ import annotations

import abc
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic, perf_counter_ns
from typing import Any, ClassVar

from .arguments import whole_number
from .calls.awaiting import Background
from .calls.binding import Binding, CopyingBinding, allocate
from .calls.conversion import (
    Array,
    InputAdapter,
    blank,
    dequantize,
)
from .calls.deadlines import Turn, check_left, deadline, left, refuse_reentry, seconds
from .calls.forks import keep_in_children
from .calls.latency import LatencyStatistics
from .calls.names import NameIndex, Outputs, rename, suggestion
from .calls.normalization import normalization_by_name, with_image_meaning
from .calls.shapes import default_shape, naming_sizes, settle
from .errors import AccelerateError, InferenceError, TensorError, one_line
from .metadata import Metadata, Normalization, TensorInfo
from .model import Model
from .reports import LoadOptions, RuntimeInfo

__all__ = ["Command", "RuntimeModel"]

#: What `do_command` calls, with the whole command and the moment (of `time.monotonic`) at which its time is over.
Command = Callable[[Mapping[str, Any], "float | None"], "dict[str, Any]"]


class RuntimeModel(Model):
    """A Model over one object of a runtime.

    Parameters
    ----------
    backend : str
    inputs, outputs : sequence of TensorInfo
        Names, dtypes, shapes and quantisation, in the model's order. Descriptions may wait for `describe`.
    runtime : RuntimeInfo
    options : LoadOptions

    Attributes
    ----------
    inputs, outputs : tuple of TensorInfo
        Under the names that the user gave them.
    input_index : NameIndex
    options : LoadOptions
    turn : Turn
        Held during `execute`, unless the runtime is `concurrent`.
    """

    #: Whether the runtime takes calls of `execute` from several threads at once.
    concurrent: ClassVar[bool] = False
    #: Whether a forked child may go on with what its parent has made, and release it.
    survives_fork: ClassVar[bool] = False
    #: Normalisation of a float image input that nothing describes; None makes such a conversion an error.
    assumed_normalization: Normalization | None = None

    def __init__(
        self,
        backend: str,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        runtime: RuntimeInfo,
        options: LoadOptions,
    ) -> None:
        self._backend = backend
        said = {name: value for name in ("passed_over", "tuned") if (value := getattr(options, name))}
        if said:
            runtime = replace(runtime, details={**runtime.details, **said})
        self._runtime = runtime
        self.options = options
        renamed, self.outputs = rename(inputs, outputs, options.tensor_names)
        self.inputs = settle(renamed, options.shapes)
        self._normalization = normalization_by_name(options.normalization, self.inputs)
        self.input_index = NameIndex(self.inputs, "input")
        self._output_index = NameIndex(self.outputs, "output")
        self._output_names = tuple((i, t.name) for i, t in enumerate(self.outputs))
        self._adapters = [(t.name, self.adapter(i)) for i, t in enumerate(self.inputs)]
        self._unchecked = True  # whether `execute` returns what it should
        self._metadata: Metadata | None = None
        self._describing = threading.Lock()
        self._latency = LatencyStatistics()
        self.turn = Turn(f"this {backend} model", "load it again")
        self._lock = self.turn.lock
        self._background = Background()
        self._inherited = False  # from the process that this one was forked off
        keep_in_children(self)

    # What a backend supplies

    @abc.abstractmethod
    def execute(self, feeds: list[Array]) -> list[Array]:
        """Run the model once. What the runtime raises becomes ours by `translate`.

        Parameters
        ----------
        feeds : list of numpy.ndarray
            C-contiguous arrays in the order of the inputs, of their dtype and of a fitting shape; None for an optional
            input that was left out. They may belong to the caller: do not keep or change them.

        Returns
        -------
        list of numpy.ndarray
            In the order of the outputs; nobody else holds their memory. Strings are object arrays of bytes.
        """

    def translate(self, error: Exception) -> AccelerateError:
        """Return the error for what the runtime has raised during a run."""
        return InferenceError(f"{self.runtime.name} failed: {one_line(error)}")

    def cancellable(self, feeds: list[Array]) -> tuple[Callable[[], list[Array]], Callable[[], None] | None]:
        """Return `execute` as a call for another thread, and what asks that call to end early, None for nothing."""
        return lambda: self.execute(feeds), None

    def execute_within(self, feeds: list[Array], timeout: float) -> list[Array]:
        """Run with a deadline, in seconds. A runtime that keeps deadlines by itself overrides this."""
        execute, cancel = self.cancellable(feeds)

        def call() -> list[Array]:
            self.check_open()  # it may have been closed while this call waited for its turn
            return execute()

        outputs: list[Array] = self.turn.call_within(call, cancel, timeout)
        return outputs

    def describe(self) -> Metadata:
        """Return all that the model says about itself, its tensors in the order of `inputs` and `outputs`."""
        return Metadata("", "", "", self.inputs, self.outputs)

    def warm(self, feeds: list[Array], runs: int, until: float | None) -> None:
        """Run several times; where the model keeps state, it is afterwards what it was before."""
        for _ in range(runs):
            self.run(feeds, left(until))

    def reset(self) -> None:
        """Clear what the model keeps from one call to the next. Called in turn."""

    def commands(self) -> Mapping[str, Command]:
        """Return the commands of `do_command` that only this backend knows."""
        return {}

    def release(self) -> None:
        """Let go of the runtime's objects. Called once; a call that still runs keeps what it uses alive.

        Not called in a forked child, which keeps them for ever, unless the model `survives_fork`.
        """

    def adapter(self, position: int) -> Callable[[Any], Array]:
        """Return what makes an input of a caller's value."""
        owner = weakref.ref(self)  # a cycle would keep a forgotten model's memory until the next collection

        def details() -> TensorInfo:
            model = owner()
            assert model is not None, "an adapter is called by its model only"
            return model.metadata().inputs[position]

        info = self.inputs[position]
        if (user := self._normalization_of(info.name)) is not None:
            info = replace(info, normalization=user)
        return InputAdapter(info, details, strict=self.options.strict).fast_path()

    # The public interface

    @property
    def backend(self) -> str:
        return self._backend

    @property
    def runtime(self) -> RuntimeInfo:
        return self._runtime

    @runtime.setter
    def runtime(self, info: RuntimeInfo) -> None:
        self._runtime = info

    @property
    def concurrency(self) -> int:
        return 1

    @property
    def cancels(self) -> bool:
        return type(self).cancellable is not RuntimeModel.cancellable

    def infer(
        self, input_tensors: Any, *, timeout: float | None = None, dequantize: bool | None = None
    ) -> dict[str, Array]:
        started = perf_counter_ns()
        try:
            if timeout is None:
                outputs = self.run(self.feeds(input_tensors), None)
            else:
                until = monotonic() + seconds(timeout)
                outputs = self.run(self.feeds_within(input_tensors, timeout, until), left(until))
            if self._unchecked:
                self._check(outputs)
        except Exception:
            self._latency.record_error()
            raise
        if self.options.dequantize if dequantize is None else dequantize:
            outputs = self._dequantized(outputs)
        self._latency.record(perf_counter_ns() - started)
        answer = Outputs()
        for i, name in self._output_names:  # less than half the time of a comprehension or a zip
            answer[name] = outputs[i]
        answer.index = self._output_index
        return answer

    async def infer_async(
        self, input_tensors: Any, *, timeout: float | None = None, dequantize: bool | None = None
    ) -> dict[str, Array]:
        self.check_open()
        timeout = self.patience if timeout is None else timeout
        return await self._background.infer(self.infer, self.concurrency, input_tensors, timeout, dequantize)

    def metadata(self, *, timeout: float | None = None) -> Metadata:
        self.check_open()
        if self._metadata is None:
            with self._describing:
                if self._metadata is None:
                    self._metadata = self._complete(self.describe())
        return self._metadata

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.check_open()
        return CopyingBinding(self, self.run, allocate(self.sized_inputs, self.input_index, shapes), self.outputs)

    def do_command(self, command: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        until = deadline(timeout)
        known: dict[str, Command] = {
            "stats": lambda _, __: self._latency.summary(),
            "warmup": lambda arguments, until: self._warm(arguments.get("runs", 1), until),
            "reset": lambda _, until: self.in_turn(self.reset, until) or {},
            **self.commands(),
        }
        name = command.get("command") if isinstance(command, Mapping) else None  # type: ignore[redundant-expr]
        if not isinstance(name, str) or name not in known:
            raise NotImplementedError(
                f"{self.backend} has no command {name!r}{suggestion(str(name), known)}; "
                f"known: {', '.join(sorted(known))}. Wanted {{'command': name, ...}}, got {command!r:.80}"
            )
        self.check_open()
        return known[name](command, until)

    def when_idle(self, callback: Callable[[], None]) -> None:
        self.turn.when_idle(callback)

    def phases(self) -> Mapping[str, tuple[int, float]] | None:
        return None

    def close(self) -> None:
        if self.turn.close():
            self._background.close()
            if self.survives_fork or not self._inherited:
                self.release()

    def forked(self) -> None:
        """In a forked child: the runtime's objects are the parent's, and another thread's call will never end here."""
        self._inherited = True
        self.turn.forked()
        self._lock, self._describing = self.turn.lock, threading.Lock()
        self._latency.forked()

    def __repr__(self) -> str:
        state = "closed" if self.turn.closed else f"on {self.device}, {self.runtime.name} {self.runtime.version}"
        return f"<{type(self).__name__} {self.backend} {state}>"

    @property
    def sized_inputs(self) -> Sequence[TensorInfo]:
        """The inputs, dynamic ones with the sizes that the model's own description names (`default_shape`)."""
        dynamic = any(min(t.shape, default=0) < 0 for t in self.inputs)
        return self.metadata().inputs if dynamic else self.inputs

    # How a call goes

    def run(self, feeds: list[Array], timeout: float | None) -> list[Array]:
        """Run on inputs that need no conversion, in turn with other callers; `timeout` in seconds."""
        try:
            if timeout is not None:
                return self.execute_within(feeds, seconds(timeout))
            if self.concurrent:
                self.turn.check_open()
                return self.execute(feeds)
            lock = self._lock
            if lock._is_owned():  # type: ignore[attr-defined]
                refuse_reentry()
            try:  # not `with`: see Turn.lock
                lock.acquire()
                if self.turn.closed:
                    self.turn.check_open()
                return self.execute(feeds)
            finally:
                try:  # noqa: SIM105
                    lock.release()
                except RuntimeError:  # it was not ours yet
                    pass
        except AccelerateError:
            raise
        except Exception as error:
            self.check_open()  # a call that finds the runtime's objects gone says why
            raise self.translate(error) from error

    def in_turn(self, call: Callable[[], Any], until: float | None) -> Any:
        """Do something with the runtime's objects that is no run, until a moment of `time.monotonic` at most."""

        def checked() -> Any:
            self.check_open()
            return call()

        try:
            if until is not None:
                return self.turn.call_within(checked, None, left(until) or 0.0)
            lock = self._lock
            if lock._is_owned():  # type: ignore[attr-defined]
                refuse_reentry()
            try:  # not `with`: see Turn.lock
                lock.acquire()
                return checked()
            finally:
                try:  # noqa: SIM105
                    lock.release()
                except RuntimeError:  # it was not ours yet
                    pass
        except AccelerateError:
            raise
        except Exception as error:
            raise self.translate(error) from error

    def share_turn(self, other: RuntimeModel) -> None:
        """Take turns with another model over the same object of the runtime."""
        self._lock = self.turn.lock = other.turn.lock

    def check_open(self) -> None:
        """Raise ClosedError once the model is closed."""
        self.turn.check_open()

    def _check(self, outputs: object) -> None:
        """Refuse what a stranger's `execute` returns against the contract, at the first call: later ones do alike."""
        if not isinstance(outputs, list) or len(outputs) != len(self.outputs):
            got = f"a list of {len(outputs)}" if isinstance(outputs, list) else f"a {type(outputs).__name__}"
            raise InferenceError(f"{self.backend} returned {got}, wanted a list of {len(self.outputs)} arrays")
        self._unchecked = False

    def feeds(self, given: Any) -> list[Array]:
        """Return what `execute` takes, in the order of the inputs, for what a caller gives `infer`."""
        adapters = self._adapters
        if type(given) is dict and len(given) == len(adapters):
            try:
                feeds = []
                for name, adapt in adapters:  # faster than a comprehension
                    feeds.append(adapt(given[name]))
                return feeds
            except KeyError:  # an alias or a wrong name
                pass
        if not isinstance(given, Mapping):
            if len(adapters) == 1:
                return [adapters[0][1](given)]
            required = [t.name for t in self.inputs if not t.optional]
            if len(required) != 1:
                raise TensorError(f"the model has {len(adapters)} inputs; give a dict: {self._wanted_inputs()}")
            given = {required[0]: given}
        return self._by_position(given)

    def feeds_within(self, given: Any, timeout: float | None, until: float | None) -> list[Array]:
        """Return `feeds`, unless they took all of the time."""
        feeds = self.feeds(given)
        remedy = "give a longer timeout, or inputs in the model's dtype and size"
        check_left(until, timeout, "the conversion of the inputs", remedy)
        return feeds

    def _by_position(self, given: Mapping[Any, Any]) -> list[Any]:
        """Adapt the values of a mapping that uses any of the inputs' names, None for an optional one left out."""
        used: dict[int, Any] = {}
        for name in given:
            position = self.input_index.find(name)
            if position in used:
                raise TensorError(
                    f"input {self.inputs[position].name!r} is given twice, as {used[position]!r} and as {name!r}"
                )
            used[position] = name
        missing = [t.name for i, t in enumerate(self.inputs) if i not in used and not t.optional]
        if missing:
            raise TensorError(f"missing input {', '.join(map(repr, missing))}; wanted {self._wanted_inputs()}")
        return [adapt(given[used[i]]) if i in used else None for i, (_, adapt) in enumerate(self._adapters)]

    def _wanted_inputs(self) -> str:
        wanted = [f"{t.name!r}: {t.data_type}{list(t.shape)}{' (optional)' * t.optional}" for t in self.inputs]
        return f"{{{', '.join(wanted)}}}"

    def answer(self, outputs: list[Array], dequantize: bool | None) -> dict[str, Array]:
        """Return the outputs of `run` by name; `infer` writes this out, as a call costs a small model 7 %."""
        if self._unchecked:
            self._check(outputs)
        if self.options.dequantize if dequantize is None else dequantize:
            outputs = self._dequantized(outputs)
        answer = Outputs({name: outputs[i] for i, name in self._output_names})
        answer.index = self._output_index
        return answer

    def _dequantized(self, outputs: list[Array]) -> list[Array]:
        return [dequantize(a, t.quantization) for a, t in zip(outputs, self.outputs, strict=True)]

    def _warm(self, runs: object, until: float | None) -> dict[str, Any]:
        count = whole_number("warmup runs", runs)
        inputs = self.sized_inputs
        feeds: list[Any] = [None if t.optional else blank(t, default_shape(t)) for t in inputs]
        started = perf_counter_ns()
        try:
            self.warm(feeds, count, until)
        except (InferenceError, TensorError) as error:
            runs_of = ((info, feed.shape) for info, feed in zip(inputs, feeds, strict=True) if feed is not None)
            raise naming_sizes(error, runs_of) from error.__cause__
        return {"runs": count, "total_ms": (perf_counter_ns() - started) / 1e6}

    # What is known about the model

    def _normalization_of(self, name: str) -> Normalization | None:
        """Return what the user said of an input."""
        user = self._normalization
        return user.get(name) if isinstance(user, Mapping) else user

    def _complete(self, described: Metadata) -> Metadata:
        """Add the options of `load` to what the model says."""
        inputs, outputs = list(described.inputs), list(described.outputs)
        for i, ours in enumerate(self.inputs):
            named = replace(described.inputs[i], name=ours.name, aliases=ours.aliases, shape=ours.shape)
            inputs[i] = with_image_meaning(named, self._normalization_of(ours.name), self.assumed_normalization)
        for i, ours in enumerate(self.outputs):
            outputs[i] = replace(described.outputs[i], name=ours.name, aliases=ours.aliases)
            if self.options.label_path is not None:
                extra = {**outputs[i].extra, "labels": os.fsdecode(self.options.label_path)}
                outputs[i] = replace(outputs[i], extra=extra)
        from .formats.classes import with_labels

        metadata = replace(described, inputs=tuple(inputs), outputs=tuple(outputs))
        if self.options.described:
            from .formats.beside import with_described

            metadata = with_described(metadata, self.options.described)
        return with_labels(metadata, self.options.labels)
