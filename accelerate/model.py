"""Model: what `load` returns. Its public methods are the same for every backend; a backend supplies the hooks.

A backend's subclass implements `_execute` and, as far as it needs them, the other hooks that follow it.
"""

from __future__ import annotations

import abc
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any, ClassVar

from .asynchronous import call_async
from .binding import Binding, allocate
from .deadlines import Turn, Worker, in_words, left, seconds
from .errors import ClosedError, InferenceTimeoutError, OptionError, TensorError
from .labels import check_label_count, load_labels
from .latency import LatencyStatistics
from .metadata import Metadata, Normalization, TensorInfo
from .names import NameIndex, rename, suggestion
from .reports import LoadOptions, RuntimeInfo
from .tensors import Array, InputAdapter, blank, concrete_shape, dequantize, parse_normalization, with_image_meaning

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Command", "Model"]

#: What `do_command` calls, with the whole command and the moment (of `time.monotonic`) at which its time is over.
Command = Callable[[Mapping[str, Any], "float | None"], "dict[str, Any]"]


class Model(abc.ABC):
    """A loaded model. Any thread may call it; calls that its runtime cannot run side by side wait their turn.

    Parameters
    ----------
    backend : str
    inputs, outputs : sequence of TensorInfo
        Names, dtypes, shapes and quantisation, in the model's order. Descriptions may wait for `_describe`.
    runtime : RuntimeInfo
    options : LoadOptions

    Attributes
    ----------
    backend : str
    device : str
    runtime : RuntimeInfo
    """

    #: Whether the runtime takes calls of `_execute` from several threads at once.
    _concurrent: ClassVar[bool] = False
    #: How many calls a caller with many of them should have in work.
    _calls_at_once = 1
    #: Normalisation of a float image input that nothing describes; None makes such a conversion an error.
    _assumed_normalization: ClassVar[Normalization | None] = None

    def __init__(
        self,
        backend: str,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        runtime: RuntimeInfo,
        options: LoadOptions,
    ) -> None:
        self.backend = backend
        self.runtime = runtime
        self._options = options
        self._inputs, self._outputs = rename(inputs, outputs, options.tensor_names)
        self._normalization = parse_normalization(options.normalization, self._inputs)
        self._labels = None if options.label_path is None else load_labels(options.label_path)
        self._input_index = NameIndex(self._inputs, "input")
        self._output_names = tuple((i, t.name) for i, t in enumerate(self._outputs))
        self._adapters = [(t.name, self._adapter(i)) for i, t in enumerate(self._inputs)]
        self._metadata: Metadata | None = None
        self._describing = threading.Lock()
        self._latency = LatencyStatistics()
        self._turn = Turn()
        self._background: Worker | None = None
        self._closed = False

    # What a backend supplies

    @abc.abstractmethod
    def _execute(self, feeds: list[Array]) -> list[Array]:
        """Run the model once.

        Parameters
        ----------
        feeds : list of numpy.ndarray
            C-contiguous arrays in the order of the inputs, of their dtype and of a fitting shape. They may belong to
            the caller: do not keep or change them.

        Returns
        -------
        list of numpy.ndarray
            In the order of the outputs; nobody else holds their memory. Strings are object arrays of bytes.

        Raises
        ------
        InferenceError, DeviceLostError
        """

    def _cancellable(self, feeds: list[Array]) -> tuple[Callable[[], list[Array]], Callable[[], None]]:
        """Return `_execute` as a call for another thread, and what asks that call to end early."""
        return lambda: self._execute(feeds), lambda: None

    def _describe(self) -> Metadata:
        """Return all that the model says about itself, its tensors in the order of `inputs` and `outputs`."""
        return Metadata("", "", "", self._inputs, self._outputs)

    def _commands(self) -> Mapping[str, Command]:
        """Return the commands of `do_command` that only this backend knows."""
        return {}

    def phases(self) -> Mapping[str, tuple[int, float]] | None:
        """Return how often and for how many milliseconds in all each part of a call has run so far.

        None where the runtime measures no parts itself.
        """
        return None

    def _release(self) -> None:  # noqa: B027 - many runtimes have nothing to let go of
        """Let go of the runtime's objects. Called once; a call that still runs keeps what it uses alive."""

    # The public interface

    @property
    def device(self) -> str:
        """Where the model runs: "cpu", "cuda:0", "usb:0", ..."""
        return self.runtime.device

    def infer(
        self, input_tensors: Any, *, timeout: float | None = None, dequantize: bool | None = None
    ) -> dict[str, Array]:
        """Run the model once.

        Parameters
        ----------
        input_tensors : Mapping of str to array_like, or array_like
            One value for each input, by canonical name, alias or ordinal ("0"); a model with one input takes a bare
            array. Dtypes and shapes are converted as the README's table says.
        timeout : float, optional
            Seconds, including the conversion of the inputs and the wait for other callers.
        dequantize : bool, optional
            Return quantised outputs as float32 ``(q - zero_point) * scale``; default as given to `load`.

        Returns
        -------
        dict of str to numpy.ndarray
            The caller's own arrays, by canonical name, in the model's dtype; strings as object arrays of bytes.

        Raises
        ------
        TensorError
            An input is missing, surplus, unknown or cannot be converted.
        InferenceTimeoutError
            No answer within `timeout`. The runtime may still be busy with the call; later calls wait for it.
        InferenceError, DeviceLostError, ClosedError, OptionError
        """
        started = perf_counter_ns()
        try:
            if timeout is None:
                outputs = self._run(self._feeds(input_tensors), None)
            else:
                until = monotonic() + seconds(timeout)
                feeds = self._feeds(input_tensors)
                if monotonic() >= until and timeout > 0:
                    raise InferenceTimeoutError(  # noqa: TRY301 - it counts as an error of this call
                        f"no answer within {in_words(timeout)}: the conversion of the inputs took all of it; give a "
                        "longer timeout, or inputs in the model's dtype and size"
                    )
                outputs = self._run(feeds, left(until))
        except Exception:
            self._latency.record_error()
            raise
        if self._options.dequantize if dequantize is None else dequantize:
            outputs = self._dequantized(outputs)
        self._latency.record(perf_counter_ns() - started)
        answer = {}
        for i, name in self._output_names:  # less than half the time of a comprehension or a zip
            answer[name] = outputs[i]
        return answer

    def infer_image(
        self,
        frame: Any,
        *,
        timeout: float | None = None,
        dequantize: bool | None = None,
        resize: str = "stretch",
        resample: str = "bilinear",
        color: str = "RGB",
    ) -> dict[str, Array]:
        """Resize a frame to the model's image input and run it.

        Parameters
        ----------
        frame : numpy.ndarray, path or Pillow image
            H x W x 3, H x W x 1 or H x W, uint8; what `color` says.
        timeout, dequantize
            As for `infer`; resizing counts, too.
        resize, resample, color : str
            As for `accelerate.image.to_tensor`. Frames of OpenCV are "BGR".

        Raises
        ------
        TensorError
            The model has another input than one image, or the frame is none. And what `infer` raises.
        """
        from .image import to_tensor

        until = None if timeout is None else monotonic() + seconds(timeout)
        if not self._takes_pictures():
            raise TensorError(
                f"infer_image wants a model whose one input is an image; this one wants {self._wanted_inputs()}"
            )
        (info,) = self.metadata().inputs
        tensor = to_tensor(frame, info, resize=resize, resample=resample, color=color)
        return self.infer({info.name: tensor}, timeout=left(until), dequantize=dequantize)

    async def infer_async(
        self, input_tensors: Any, *, timeout: float | None = None, dequantize: bool | None = None
    ) -> dict[str, Array]:
        """Await `infer` without blocking the event loop; the same arguments, results and errors.

        Cancelling the task gives up a call that waits, and leaves one that runs alone.
        """
        until = None if timeout is None else monotonic() + seconds(timeout)

        def call() -> dict[str, Array]:
            return self.infer(input_tensors, timeout=left(until), dequantize=dequantize)

        self._check_open()
        if self._background is None or not self._background.usable:
            self._background = Worker(self._calls_at_once)
        outputs: dict[str, Array] = await call_async(self._background, call)
        return outputs

    def metadata(self) -> Metadata:
        """Return what is known about the model; read from the file at the first call."""
        self._check_open()
        if self._metadata is None:
            with self._describing:
                if self._metadata is None:
                    self._metadata = self._complete(self._describe())
        return self._metadata

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        """Return a `Binding`: arrays to write inputs into and read outputs from, call after call.

        Parameters
        ----------
        shapes : mapping of str to sequence of int, optional
            The shape of each input with dynamic dimensions; 1 for a dynamic first dimension that is not named.

        Raises
        ------
        TensorError
            A shape is missing or does not fit.
        """
        self._check_open()
        return Binding(self._run, allocate(self._inputs, self._input_index, shapes), self._outputs)

    def do_command(self, command: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        """Do something beside inference: ``{"command": "stats"}``, ``{"command": "warmup", "runs": 3}``, ...

        Parameters
        ----------
        command : mapping
            Its name, and its arguments.
        timeout : float, optional
            Seconds, for all of it.

        Raises
        ------
        NotImplementedError
            The command is unknown; the message lists the known ones.
        InferenceTimeoutError
            It did not end within `timeout`.
        """
        until = None if timeout is None else monotonic() + seconds(timeout)
        known: dict[str, Command] = {
            "stats": lambda _, __: self._latency.summary(),
            "warmup": lambda arguments, until: self._warm(arguments.get("runs", 1), until),
            **self._commands(),
        }
        name = command.get("command") if isinstance(command, Mapping) else None  # type: ignore[redundant-expr]
        if not isinstance(name, str) or name not in known:
            raise NotImplementedError(
                f"{self.backend} has no command {name!r}{suggestion(str(name), known)}; "
                f"known: {', '.join(sorted(known))}. Wanted {{'command': name, ...}}, got {command!r:.80}"
            )
        self._check_open()
        return known[name](command, until)

    def warmup(self, runs: int = 1) -> None:
        """Run the model `runs` times on zeros (dynamic dimensions are 1); not counted in the statistics."""
        self._warm(runs, None)

    def close(self) -> None:
        """Release the runtime. Later calls raise `ClosedError`; a call that still runs in another thread ends well.

        Never waits. Closing twice is fine.
        """
        if not self._closed:
            self._closed = True
            self._turn.stop()
            self._background = None
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"on {self.device}, {self.runtime.name} {self.runtime.version}"
        return f"<{type(self).__name__} {self.backend} {state}>"

    # How a call goes

    def _feeds(self, given: Any) -> list[Array]:
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
            if len(adapters) != 1:
                raise TensorError(f"the model has {len(adapters)} inputs; give a dict: {self._wanted_inputs()}")
            return [adapters[0][1](given)]
        return [adapt(value) for (_, adapt), value in zip(adapters, self._by_position(given), strict=True)]

    def _by_position(self, given: Mapping[Any, Any]) -> list[Any]:
        """Order the values of a mapping that uses any of the inputs' names."""
        used: dict[int, Any] = {}
        for name in given:
            position = self._input_index.find(name)
            if position in used:
                raise TensorError(
                    f"input {self._inputs[position].name!r} is given twice, as {used[position]!r} and as {name!r}"
                )
            used[position] = name
        missing = [t.name for i, t in enumerate(self._inputs) if i not in used]
        if missing:
            raise TensorError(f"missing input {', '.join(map(repr, missing))}; wanted {self._wanted_inputs()}")
        return [given[used[i]] for i in range(len(self._inputs))]

    def _takes_pictures(self) -> bool:
        """Return whether the one input is an image."""
        inputs = self.metadata().inputs
        return len(inputs) == 1 and bool(inputs[0].layout)

    def _wanted_inputs(self) -> str:
        return "{" + ", ".join(f"{t.name!r}: {t.data_type}{list(t.shape)}" for t in self._inputs) + "}"

    def _run(self, feeds: list[Array], timeout: float | None) -> list[Array]:
        if timeout is not None:
            return self._execute_within(feeds, seconds(timeout))
        if self._concurrent:
            self._check_open()
            return self._execute(feeds)
        with self._turn.lock:
            if self._closed:
                self._check_open()
            return self._execute(feeds)

    def _execute_within(
        self, feeds: list[Array], timeout: float, ended: Callable[[], None] | None = None
    ) -> list[Array]:
        """Run with a deadline. A runtime that keeps deadlines by itself overrides this.

        Parameters
        ----------
        feeds : list of numpy.ndarray
            As for `_execute`.
        timeout : float
            Seconds.
        ended : callable, optional
            Called once, when the runtime is done with the call, which may be after the caller has left.
        """
        call, cancel = self._cancellable(feeds)
        outputs: list[Array] = self._turn.call_within(call, cancel, timeout, self._check_open, ended)
        return outputs

    def _dequantized(self, outputs: list[Array]) -> list[Array]:
        return [dequantize(a, t.quantization) for a, t in zip(outputs, self._outputs, strict=True)]

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"this {self.backend} model is closed; load it again")

    def _warm(self, runs: object, until: float | None) -> dict[str, Any]:
        if not isinstance(runs, int) or runs < 1:
            raise OptionError(f"warmup runs is {runs!r}; wanted a whole number from 1")
        feeds = [blank(t, concrete_shape(t.shape)) for t in self._inputs]
        started = perf_counter_ns()
        for _ in range(runs):
            self._run(feeds, left(until))
        return {"runs": runs, "total_ms": (perf_counter_ns() - started) / 1e6}

    # What is known about the model

    def _adapter(self, position: int) -> Callable[[Any], Array]:
        owner = weakref.ref(self)  # a cycle would keep a forgotten model's memory until the next collection

        def details() -> TensorInfo:
            model = owner()
            assert model is not None, "an adapter is called by its model only"
            return model.metadata().inputs[position]

        return InputAdapter(self._inputs[position], details, strict=self._options.strict).fast_path()

    def _complete(self, described: Metadata) -> Metadata:
        """Add the options of `load` to what the model says."""
        inputs, outputs = list(described.inputs), list(described.outputs)
        for i, ours in enumerate(self._inputs):
            user = self._normalization
            one = user.get(ours.name) if isinstance(user, Mapping) else user
            named = replace(described.inputs[i], name=ours.name, aliases=ours.aliases)
            inputs[i] = with_image_meaning(named, one, self._assumed_normalization)
        for i, ours in enumerate(self._outputs):
            outputs[i] = replace(described.outputs[i], name=ours.name, aliases=ours.aliases)
            if self._options.label_path is not None:
                extra = {**outputs[i].extra, "labels": os.fsdecode(self._options.label_path)}
                outputs[i] = replace(outputs[i], extra=extra)
        labels = described.labels if self._labels is None else self._labels
        check_label_count(labels, outputs)
        return replace(described, inputs=tuple(inputs), outputs=tuple(outputs), labels=labels)
