"""A TFLite model in an interpreter."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from accelerate.contract import (
    Array,
    Binding,
    CopyingBinding,
    LoadOptions,
    RuntimeInfo,
    RuntimeModel,
    Source,
    allocate,
    held_back,
    random_tensor,
)
from accelerate.errors import AccelerateError, ClosedError, ModelError, TensorError, one_line
from accelerate.formats.interface import Interface
from accelerate.formats.tflite.assumptions import ASSUMED_NORMALIZATION
from accelerate.formats.tflite.file import ModelFile
from accelerate.formats.tflite.interface import interface
from accelerate.metadata import Metadata

from .calls import ENGINE_ERRORS, Calls, runner
from .engines import ENGINES, LINES, Engine
from .graph import as_allocated, interface_of_interpreter, learn_dtypes

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TFLiteModel", "make_interpreter"]

_log = logging.getLogger("accelerate")
_SUB_BYTE = frozenset({"int4", "uint4", "int2"})


class TFLiteModel(RuntimeModel):
    """One interpreter. Use `build` or `adopt`.

    A backend that runs a model through a delegate of the interpreter subclasses it.
    """

    assumed_normalization = ASSUMED_NORMALIZATION
    backend_name: ClassVar[str] = "tflite_cpu"

    def __init__(
        self,
        engine: Engine,
        interpreter: Any,
        calls: Calls,
        told: Interface,
        source: Source,
        file: ModelFile | None,
        runtime: RuntimeInfo,
        options: LoadOptions,
    ) -> None:
        self._engine = engine
        self._source = source
        self._file = file  # kept until metadata() is asked for: the file may be gone by then
        self._subgraph, self._input_indices, self._output_indices = (
            told.subgraph, told.input_indices, told.output_indices
        )  # fmt: skip
        inputs, outputs = told.inputs, as_allocated(told.outputs, told.output_indices, calls)
        self._dynamic = any(min(t.shape, default=0) < 0 for t in inputs)
        self._shapes: list[tuple[int, ...]] | None = self._allocated(calls) if self._dynamic else None
        # GetTensor gives an array of its own only for a tensor with at least one dimension and one element
        self._plain = all(t.shape and 0 not in t.shape for t in outputs)
        self._use(interpreter, calls)
        super().__init__(self.backend_name, inputs, outputs, runtime, options)

    def _use(self, interpreter: Any, calls: Calls) -> None:
        self._interpreter = interpreter  # owns the memory behind `calls`
        self._calls: Calls | None = calls
        self._once: Callable[[list[Array]], list[Array]] | None = runner(
            calls, self._input_indices, self._output_indices, plain=self._plain
        )

    @classmethod
    def build(
        cls,
        engine: Engine,
        source: Source,
        options: LoadOptions,
        *,
        verified: bool = False,
        delegates: Sequence[Any] = (),
    ) -> Self:
        """Build an interpreter for a model file; one that is `verified` is known not to crash the engine.

        `delegates` are what the engine's ``load_delegate`` returns, or behave like it; the interpreter keeps them
        alive.
        """
        threads = options.num_threads or 1
        file = source.opened(ModelFile)
        file.check_graphs()
        told = interface(file, options.signature)
        learn_dtypes((*told.inputs, *told.outputs))
        try:
            interpreter = make_interpreter(engine, source, threads, verified=verified, delegates=delegates)
            with held_back(LINES):
                calls = Calls.of_ours(interpreter, told.subgraph)
                calls.allocate()
            details = {"engine": engine.option, "num_threads": threads, "signature": told.signature}
            runtime = RuntimeInfo(engine.title, engine.version(), "cpu", details=details)
            model = cls(engine, interpreter, calls, told, source, file, runtime, options)
        except AccelerateError:
            raise
        except ENGINE_ERRORS as error:
            raise cls._why_refused(engine, source, error) from error
        if told.problem:
            _log.warning("%s", told.problem)
        return model

    @classmethod
    def adopt(cls, engine: Engine, source: Source, options: LoadOptions) -> Self:
        """Use an interpreter that the caller has made. It stays the caller's: `close` leaves it as it is."""
        interpreter = source.object
        calls = Calls.of_users(interpreter)
        try:
            with held_back(LINES):
                calls.allocate()
        except ENGINE_ERRORS as error:
            raise ModelError(f"{source} does not allocate its tensors: {error}") from error
        told = interface_of_interpreter(interpreter, options.signature)
        details = {"engine": engine.option, "signature": told.signature, "adopted": True}
        runtime = RuntimeInfo(engine.title, engine.version(), "cpu", details=details)
        return cls(engine, interpreter, calls, told, source, None, runtime, options)

    @staticmethod
    def _why_refused(engine: Engine, source: Source, error: Exception) -> AccelerateError:
        """Turn the interpreter's refusal of a model into an error that names the cause."""
        from .diagnosis import why_refused

        return why_refused(engine, source, error)

    def execute(self, feeds: list[Array]) -> list[Array]:
        run, calls = self._once, self._calls  # a call that runs keeps the interpreter alive through them
        if run is None or calls is None:  # closed since this call got its turn
            raise ClosedError(f"this {self.backend} model is closed", "load it again")
        if self._dynamic:
            self._resize(calls, feeds)
        try:
            return run(feeds)
        except ValueError as error:
            if self._source.format != "object" or "Cannot set tensor" not in str(error):
                raise
            self._shapes = None  # its owner has resized it meanwhile, and nothing has run yet
            self._resize(calls, feeds)
            return run(feeds)

    def _allocated(self, calls: Calls) -> list[tuple[int, ...]]:
        return [calls.shape(i) for i in self._input_indices]

    def _resize(self, calls: Calls, feeds: list[Array]) -> None:
        shapes = [feed.shape for feed in feeds]
        if shapes == self._shapes:
            return
        self._shapes = None  # a resize that fails half way is done again by the next call
        for index, shape in zip(self._input_indices, shapes, strict=True):
            calls.resize(index, np.asarray(shape, np.int32))
        try:
            calls.allocate()
        except ENGINE_ERRORS as error:
            raise _impossible_shapes(shapes, error) from error
        self._shapes = shapes

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.check_open()
        arrays = allocate(self.inputs, self.input_index, shapes)
        bound = [array.shape for array in arrays.values()]
        # of an adopted interpreter, and of a file that is gone, there is no second interpreter
        if not self._source.unchanged() or not self._tensors_stay(bound):
            return CopyingBinding(self, self.run, arrays, self.outputs)
        from .binding import InterpreterBinding

        calls = self._another(bound, self.runtime.details["num_threads"])
        return InterpreterBinding(
            self,
            calls,
            dict(zip(self._input_indices, self.inputs, strict=True)),
            dict(zip(self._output_indices, self.outputs, strict=True)),
        )

    def _another(self, shapes: Sequence[tuple[int, ...]], threads: int, *, plain: bool = False) -> Calls:
        """Build another interpreter of this model, for inputs of these shapes; `plain` leaves delegates out."""
        try:
            interpreter = make_interpreter(self._engine, self._source, threads, verified=True, plain=plain)
            calls = Calls.of_ours(interpreter, self._subgraph)
            with held_back(LINES):
                for index, shape in zip(self._input_indices, shapes, strict=True):
                    calls.resize(index, np.asarray(shape, np.int32))
                calls.allocate()
        except ENGINE_ERRORS as error:
            raise _impossible_shapes(shapes, error) from error
        return calls

    def _tensors_stay(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Return whether arrays over the interpreter's tensors may be given away.

        Where an operator finds out the shape of its result only as it runs, the interpreter makes room for what
        follows and may move every tensor, the inputs too. Such a result has no place before the first run; delegates,
        which give none to what they compute, are left out for this. Elements smaller than a byte share bytes.
        """
        subgraph = self._subgraph
        file = ModelFile(self._source.buffer(), str(self._source))
        graph = file.subgraphs[subgraph]
        if not _SUB_BYTE.isdisjoint(tensor.data_type for tensor in (*graph.inputs, *graph.outputs)):
            return False
        calls = self._another(shapes, 1, plain=True)
        return all(map(calls.placed, file.computed_tensors(subgraph)))

    def release(self) -> None:
        self._once = self._calls = self._interpreter = self._file = None

    def describe(self) -> Metadata:
        file, self._file = self._file, None
        if file is None:
            self.check_open()  # an adopted interpreter has none; a model that another thread has just closed neither
            return super().describe()
        if self._source.overwritten():
            raise ModelError(
                f"{self._source} was written to after it was loaded, and holds another model", "load it again"
            )
        from accelerate.formats.tflite.description import describe

        try:
            return describe(file, self._subgraph, self.inputs, self.outputs, labels=self.options.labels is None)
        except ModelError as error:  # the engine reads it: only what the file says about itself is lost
            _log.warning("%s; the model goes without metadata", error.reason)
            return super().describe()


def _impossible_shapes(shapes: Sequence[tuple[int, ...]], error: Exception) -> TensorError:
    return TensorError(
        f"the model cannot run with inputs of shape {', '.join(str(list(s)) for s in shapes)}: {one_line(error)}"
    )


def make_interpreter(
    engine: Engine,
    source: Source,
    threads: int,
    *,
    verified: bool = False,
    delegates: Sequence[Any] = (),
    plain: bool = False,
) -> Any:
    """Build the engine's Interpreter for a file; what the engine raises about it is in `ENGINE_ERRORS`.

    `plain` is without the delegate that the engine applies by itself.
    """
    interpreter_class = engine.interpreter_class()
    if engine.verifies and source.path is not None and _is_utf8(source.path):
        model: dict[str, Any] = {"model_path": str(source.path)}  # mapped by the engine: replicas share the page cache
    else:
        content = source.read()
        if not (engine.verifies or verified):
            from .verification import verify

            verify(engine, content, str(source), f"{__name__}:try_model")
        model = {"model_content": content}
    if plain:
        model["experimental_op_resolver_type"] = engine.resolver("BUILTIN_WITHOUT_DEFAULT_DELEGATES")
    if delegates:
        model["experimental_delegates"] = list(delegates)
    with held_back(LINES):
        interpreter = interpreter_class(num_threads=threads, **model)
    for delegate in delegates:
        # the interpreter's destructor calls into the delegates' kernels, and `Calls` may keep the native interpreter
        # longer than the Python object that holds the delegates
        weakref.finalize(interpreter._interpreter, _outlived, delegate).atexit = False
    return interpreter


def _is_utf8(path: Path) -> bool:
    """Return whether the engine can be given a path: it takes UTF-8 only."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _outlived(_: Any) -> None:
    """Let go of a delegate, once its interpreter has ended."""


def try_model(model: bytes, option: str) -> None:
    """Load and run a model as the parent is going to (child's side). What ends in a typed error is no danger."""
    with (
        contextlib.suppress(AccelerateError),
        TFLiteModel.build(ENGINES[option], Source(model), LoadOptions(), verified=True) as loaded,
    ):
        random = np.random.default_rng(0)
        for _ in range(3):
            loaded.infer({t.name: random_tensor(t, random, (0, 1)) for t in loaded.metadata().inputs})
