"""A TFLite model in an interpreter."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from accelerate.contract import (
    Array,
    Binding,
    CopyingBinding,
    LoadOptions,
    Model,
    RuntimeInfo,
    RuntimeModel,
    Source,
    allocate,
    held_back,
    random_tensor,
)
from accelerate.errors import AccelerateError, ClosedError, ModelError, OptionError, TensorError
from accelerate.formats.interface import Interface
from accelerate.formats.tflite.assumptions import ASSUMED_NORMALIZATION
from accelerate.formats.tflite.file import ModelFile
from accelerate.formats.tflite.interface import interface
from accelerate.metadata import Metadata

from .allocation import allocate_for, allocate_tensors, settled_interface
from .calls import ENGINE_ERRORS, Calls, runner
from .engines import ENGINES, LINES, Engine
from .graph import as_allocated, interface_of_interpreter, is_one_delegate, learn_dtypes
from .interpreter import check_file, make_interpreter, watched
from .state import Variables, state_of_interpreter

if TYPE_CHECKING:
    from typing_extensions import Self

    from .delegates.share import Share

__all__ = ["TFLiteModel"]

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
        share: Share | None = None,
    ) -> None:
        self._engine = engine
        self._share = share  # of a delegate, where there is one
        self._source = source
        self._file = file  # kept until metadata() is asked for: the file may be gone by then
        self._content = source.held()
        # of a file that the engine maps; else it has a copy
        self._mapped = engine.verifies and source.path is not None and self._content is None
        self._subgraph, self._input_indices, self._output_indices = (
            told.subgraph, told.input_indices, told.output_indices
        )  # fmt: skip
        self._state = state_of_interpreter(interpreter) if file is None else file.state
        self._callable = {0} if file is None else {0, *(signature.subgraph for signature in file.signatures)}
        self._parent: TFLiteModel | None = None  # of which this is another signature
        self._views: weakref.WeakSet[TFLiteModel] = weakref.WeakSet()
        # of the inputs of each graph, as they are allocated: models of one interpreter share it
        self._shapes: dict[int, list[tuple[int, ...]] | None] = {}
        self._allocated = {told.subgraph}
        inputs = told.inputs
        self._dynamic = any(min(t.shape, default=0) < 0 or "rank" in t.extra for t in inputs)
        settled = bool(options.shapes) and not self._dynamic
        outputs = as_allocated(told.outputs, told.output_indices, calls, settled=settled)
        # GetTensor gives an array of its own only for a tensor with at least one dimension and one element
        self._plain = all(t.shape and 0 not in t.shape for t in outputs)
        self._use(interpreter, calls)
        if share is not None:
            runtime = replace(runtime, delegated=share.delegated, total=share.total)
        super().__init__(self.backend_name, inputs, outputs, runtime, options)

    def _use(self, interpreter: Any, calls: Calls) -> None:
        """Run on an interpreter whose tensors are allocated for this model's graph."""
        self._interpreter = interpreter  # owns the memory behind `calls`
        self._calls: Calls | None = calls
        # those of other signatures' graphs are theirs
        graphs = self._callable - {self._subgraph}
        self._variables = Variables([(self._calls_for(g), i) for g, i in self._state.variables if g not in graphs])
        if self._dynamic:
            self._shapes[self._subgraph] = [calls.shape(i) for i in self._input_indices]
        run = runner(calls, self._input_indices, self._output_indices, plain=self._plain)
        self._once: Callable[[list[Array]], list[Array]] | None = watched(run, self._source) if self._mapped else run

    def _calls_for(self, subgraph: int) -> Calls:
        adopted = self._source.format == "object"
        return (Calls.of_users if adopted else Calls.of_ours)(self._interpreter, subgraph)

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
        told = settled_interface(interface(file, options.signature), options)
        learn_dtypes((*told.inputs, *told.outputs))
        try:
            plain = options.backend_options.get("xnnpack") is False
            interpreter = make_interpreter(engine, source, threads, verified=verified, delegates=delegates, plain=plain)
            calls = Calls.of_ours(interpreter, told.subgraph)
            share = cls._share_of(interpreter) if told.subgraph == 0 else None  # of others the engines tell nothing
            allocate_tensors(calls, told.input_indices, told.inputs, options)
            details = {"engine": engine.option, "num_threads": threads, "signature": told.signature}
            if plain:
                details["xnnpack"] = False
            runtime = RuntimeInfo(engine.title, engine.version(), "cpu", details=details)
            model = cls(engine, interpreter, calls, told, source, file, runtime, options, share)
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
        told = settled_interface(interface_of_interpreter(interpreter, options.signature), options)
        calls = Calls.of_users(interpreter, told.subgraph)
        share = cls._share_of(interpreter, adopted=True) if told.subgraph == 0 else None
        try:
            allocate_tensors(calls, told.input_indices, told.inputs, options)
        except AccelerateError:  # ours is a ValueError, too
            raise
        except ENGINE_ERRORS as error:
            raise ModelError(f"{source} does not allocate its tensors: {error}") from error
        details = {"engine": engine.option, "signature": told.signature, "adopted": True}
        runtime = RuntimeInfo(engine.title, engine.version(), "cpu", details=details)
        return cls(engine, interpreter, calls, told, source, None, runtime, options, share)

    @classmethod
    def _share_of(cls, interpreter: Any, *, adopted: bool = False) -> Share | None:
        """Return what a delegate has taken of an interpreter, whose tensors its owner alone may have allocated."""
        return None

    def _new_delegates(self) -> Sequence[Any]:
        """Return delegates for another interpreter of the same model."""
        return ()

    @staticmethod
    def _why_refused(engine: Engine, source: Source, error: Exception) -> AccelerateError:
        """Turn the interpreter's refusal of a model into an error that names the cause."""
        from .diagnosis import why_refused

        return why_refused(engine, source, error)

    def execute(self, feeds: list[Array]) -> list[Array]:
        run = self._once  # a call that runs keeps the interpreter alive through it
        if run is None:
            raise self._closed()
        if self._dynamic:
            self._resize(feeds)
        try:
            return run(feeds)
        except ValueError as error:
            if self._source.format != "object" or "Cannot set tensor" not in str(error):
                raise
            self._shapes[self._subgraph] = None  # its owner has resized it meanwhile, and nothing has run yet
            self._resize(feeds)
            return run(feeds)

    def _closed(self) -> ClosedError:
        """Return the error of a call that got its turn before another thread closed the model."""
        return ClosedError(f"this {self.backend} model is closed", "load it again")

    def _resize(self, feeds: list[Array]) -> None:
        shapes = [feed.shape for feed in feeds]
        if shapes == self._shapes[self._subgraph]:
            return
        if (calls := self._calls) is None:
            raise self._closed()
        if self._mapped:
            check_file(self._source)
        self._shapes[self._subgraph] = None  # a resize that fails half way is done again by the next call
        with self._variables.kept():
            allocate_for(calls, dict(zip(self._input_indices, shapes, strict=True)))
        self._shapes[self._subgraph] = shapes

    # Signatures and state

    def signature(self, name: str) -> Model:
        root = self._parent or self
        view: Model = root.in_turn(lambda: root._view(name), None)
        return view

    def _view(self, name: str) -> TFLiteModel:
        """Return the model of another signature over this one's interpreter."""
        if (file := self._opened()) is None:
            told = interface_of_interpreter(self._interpreter, name)
        else:
            told = interface(file, name)
        learn_dtypes((*told.inputs, *told.outputs))
        calls = self._calls_for(told.subgraph)
        if told.subgraph == self._subgraph:  # which runs with the shapes that were settled for it
            settled = (replace(one, shape=mine.shape) for one, mine in zip(told.inputs, self.inputs, strict=True))
            told = replace(told, inputs=tuple(settled))
        elif told.subgraph not in self._allocated:
            with held_back(LINES):
                calls.allocate()
            self._allocated.add(told.subgraph)
        given = self.options.normalization
        options = replace(
            self.options,
            signature=name,
            tensor_names={},
            shapes={},
            normalization=None if isinstance(given, Mapping) else given,
        )
        runtime = replace(self.runtime, details={**self.runtime.details, "signature": name})
        if told.subgraph != self._subgraph:
            runtime = replace(runtime, delegated=None, total=None)
        view = type(self)(self._engine, self._interpreter, calls, told, self._source, file, runtime, options)
        self._shapes.update(view._shapes)
        view._parent, view._shapes = self, self._shapes
        view.share_turn(self)
        self._views.add(view)
        return view

    def _opened(self) -> ModelFile | None:
        """Return the model's file, which may have gone since; None for an adopted interpreter."""
        if self._source.format == "object":
            return None
        self._check_again()
        return ModelFile(self._source.buffer() if self._content is None else self._content, str(self._source))

    def _check_again(self) -> None:
        """Raise where no second interpreter can be made."""
        if self._content is None and not self._source.unchanged():
            raise ModelError(f"{self._source} has changed since it was loaded", "load it again")

    def reset(self) -> None:
        root = self._parent or self
        if root._state.resources:
            root._renew()
            return
        for model in (root, *root._views):
            model._variables.clear()
        # and those of signatures that nobody holds any more
        Variables([(root._calls_for(graph), index) for graph, index in root._state.variables]).clear()

    def _renew(self) -> None:
        """Take a new interpreter, the only one whose resource variables have their first values."""
        if self._source.format == "object":
            raise OptionError(
                "this interpreter was made elsewhere, and its variables cannot be reset",
                "make a new interpreter, or load the model file",
            )
        interpreter = self._new_interpreter(self.runtime.details["num_threads"])
        self._allocated = {self._subgraph}
        for model in (self, *self._views):
            self._allocated.add(model._subgraph)
            calls = Calls.of_ours(interpreter, model._subgraph)
            allocate_tensors(calls, model._input_indices, model.inputs, model.options)
            model._use(interpreter, calls)

    def warm(self, feeds: list[Array], runs: int, until: float | None) -> None:
        if not self._state:
            super().warm(feeds, runs, until)
        elif self._state.resources:  # nothing can put these back
            RuntimeModel.warm(self._copy(), feeds, runs, until)
        else:
            self.in_turn(lambda: self._warm_and_put_back(feeds, runs), until)

    def _warm_and_put_back(self, feeds: list[Array], runs: int) -> None:
        variables = self._variables
        values = variables.values()
        try:
            for _ in range(runs):
                self.execute(feeds)
        finally:
            variables.put(values)

    def _copy(self) -> Self:
        """Return a model with an interpreter, and so with state, of its own."""
        if self._source.format == "object":
            raise OptionError(
                "this interpreter was made elsewhere and keeps state from one call to the next, so that there can be "
                "no second one like it",
                "load the model file",
            )
        self._check_again()
        delegates = self._new_delegates()
        return type(self).build(self._engine, self._source, self.options, verified=True, delegates=delegates)

    # Bindings

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.check_open()
        arrays = allocate(self.sized_inputs, self.input_index, shapes)
        bound = [array.shape for array in arrays.values()]
        # of an adopted interpreter, and of a file that is gone, there is no second interpreter
        alone = self._source.format == "object" or (self._content is None and not self._source.unchanged())
        calls = None if alone else self._another(bound)
        if calls is None:
            return CopyingBinding(self, (self._copy() if self._state else self).run, arrays, self.outputs)
        from .binding import InterpreterBinding

        return InterpreterBinding(
            self,
            calls,
            dict(zip(self._input_indices, self.inputs, strict=True)),
            dict(zip(self._output_indices, self.outputs, strict=True)),
            partial(check_file, self._source) if self._mapped else None,
        )

    def _another(self, shapes: Sequence[tuple[int, ...]]) -> Calls | None:
        """Build another interpreter for these inputs; None where arrays over its tensors cannot be given away.

        Where an operator finds out the shape of its result only as it runs, the interpreter makes room for what
        follows and may move every tensor, the inputs too. Such a result has no place before the first run. Delegates
        give none to what they compute; they are left out to see this, unless one of them computes everything.
        Elements smaller than a byte share bytes.
        """
        file = self._opened()
        assert file is not None, "an adopted interpreter is alone"
        graph = file.subgraph(self._subgraph)
        if not _SUB_BYTE.isdisjoint(tensor.data_type for tensor in (*graph.inputs, *graph.outputs)):
            return None
        interpreter = self._new_interpreter(self.runtime.details["num_threads"])
        calls = Calls.of_ours(interpreter, self._subgraph)
        allocate_for(calls, dict(zip(self._input_indices, shapes, strict=True)))
        computed = file.computed_tensors(self._subgraph)
        if self._subgraph == 0 and is_one_delegate(interpreter, computed, self._output_indices):
            return calls
        try:
            plain = Calls.of_ours(self._new_interpreter(1, plain=True), self._subgraph)
            allocate_for(plain, dict(zip(self._input_indices, shapes, strict=True)))
        except (*ENGINE_ERRORS, TensorError):  # operators that only the default delegate has
            return None
        return calls if all(map(plain.placed, computed)) else None

    def _new_interpreter(self, threads: int, *, plain: bool = False) -> Any:
        self._check_again()
        plain = plain or self.options.backend_options.get("xnnpack") is False
        return make_interpreter(
            self._engine, self._source, threads, verified=True, content=self._content, plain=plain,
            delegates=self._new_delegates(),
        )  # fmt: skip

    # What is known about the model

    def describe(self) -> Metadata:
        bare = replace(super().describe(), stateful=bool(self._state))
        file, self._file = self._file, None
        if file is None:
            self.check_open()  # an adopted interpreter has none; a model that another thread has just closed neither
            return bare
        if self._content is None:
            check_file(self._source)
        from accelerate.formats.tflite.description import describe

        try:
            return describe(file, self._subgraph, self.inputs, self.outputs)
        except ModelError as error:  # the engine reads it: only what the file says about itself is lost
            _log.warning("%s; the model goes without metadata", error.reason)
            return bare

    def release(self) -> None:
        for view in tuple(self._views):
            view.close()
        self._once = self._calls = self._interpreter = self._file = self._content = None
        self._variables = Variables(())


def try_model(model: bytes, option: str) -> None:
    """Load and run a model as the parent is going to (child's side). What ends in a typed error is no danger."""
    with (
        contextlib.suppress(AccelerateError),
        TFLiteModel.build(ENGINES[option], Source(model), LoadOptions(), verified=True) as loaded,
    ):
        random = np.random.default_rng(0)
        for _ in range(3):
            loaded.infer({t.name: random_tensor(t, random, (0, 1)) for t in loaded.metadata().inputs})
