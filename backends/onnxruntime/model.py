"""An ONNX model in an InferenceSession."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accelerate.contract import (
    Array,
    Binding,
    Command,
    CopyingBinding,
    LoadOptions,
    Model,
    RuntimeInfo,
    RuntimeModel,
    Source,
    allocate,
    held_back,
    interface_of,
    settle,
)
from accelerate.errors import (
    AccelerateError,
    DeviceNotFoundError,
    ModelError,
    OptionError,
    TensorError,
    UnsupportedModelError,
)
from accelerate.formats import REFETCH
from accelerate.formats.onnx.description import describe, name_values, with_producers
from accelerate.formats.onnx.file import FEW_DEFAULTS, ModelFile, ValueInfo
from accelerate.metadata import Metadata, TensorInfo

from .binding import SessionBinding, can_share
from .element_types import data_type, from_value, needs_value, strings_in, strings_out, to_value
from .engines import EngineCache
from .errors import left_behind, while_loading, while_running
from .profile import profile
from .providers import CPU, ProviderChain
from .runtime import ERROR, LINES, cancellable, import_runtime, run_options
from .settings import settings_for

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ONNXModel", "values_of_session"]

_log = logging.getLogger("accelerate")
_TELL_NODES = {"session.record_ep_graph_assignment_info": "1"}


class ONNXModel(RuntimeModel):
    """One session. Use `build` or `adopt`."""

    concurrent = True

    def __init__(
        self,
        session: Any,
        source: Source,
        runtime: RuntimeInfo,
        options: LoadOptions,
        engines: EngineCache | None = None,
    ) -> None:
        self._session: Any = session
        self._engines = engines
        self._source = source
        self._run_options = run_options()
        with _readable(source):
            values = values_of_session(session, source)
        inputs, outputs = map(name_values, values)
        self._feed_names, self._fetch_names = ([value.name for value in side] for side in values)
        # ONNX Runtime refuses inputs of one name, but takes such outputs, and outputs that are inputs
        names = [*self._feed_names, *self._fetch_names]
        self._repeats = len(set(names)) < len(names)
        kinds = {t.data_type for t in (*inputs, *outputs)}
        self._strings = "string" in kinds
        self._by_value = any(map(needs_value, kinds))
        self._narrowed = self._needs_threads = False
        if engines is not None and engines.chain.plugged:
            from .limits import narrows, needs_threads

            self._narrowed, self._needs_threads = narrows(engines.chain, inputs, source), needs_threads(engines.chain)
        self._left_behind = False  # in a forked child: the threads that would run it
        optional = any(t.optional for t in inputs)
        self._plain = not (self._strings or self._by_value or self._narrowed or optional)
        super().__init__("onnxruntime", inputs, outputs, runtime, options)

    @classmethod
    def build(cls, chain: ProviderChain, source: Source, options: LoadOptions) -> Self:
        """Build a session for a model file."""
        engines = EngineCache(chain, source, options)
        try:
            engines.announce()
            while True:
                try:
                    session, threads = _start(engines, source, options)
                    break
                except AccelerateError as error:
                    if not engines.retry(error):
                        raise
            nodes = _nodes(session)
            with _readable(source):
                _check_delegation(session, nodes, chain, full=options.backend_options.get("full_delegation", False))
            counts = engines.finish(None if nodes is None else {name: len(each) for name, each in nodes.items()})
            delegated = None if counts is None else counts.get(chain.provider, 0)
            total = None if counts is None else sum(counts.values())
            details = {"providers": session.get_providers(), "nodes": counts or {}, "num_threads": threads}
            if told := engines.told():
                details["engine_cache"] = told
            if chain.plugged:
                from .plugin_packages import plugin_of

                details["plugin"] = str(plugin_of(chain.device) or "registered by the program")
            version = import_runtime().__version__
            info = RuntimeInfo("ONNX Runtime", version, chain.device, delegated, total, details)
            return cls(session, source, info, options, engines)
        except BaseException:
            engines.close()
            raise

    @classmethod
    def adopt(cls, source: Source, options: LoadOptions) -> Self:
        """Use a session that the caller has made."""
        import onnxruntime

        providers = source.object.get_providers()
        details = {"providers": providers, "adopted": True}
        info = RuntimeInfo("ONNX Runtime", onnxruntime.__version__, options.device or "cpu", details=details)
        return cls(source.object, source, info, options)

    def translate(self, error: Exception) -> AccelerateError:
        return while_running(error)

    def execute(self, feeds: list[Array]) -> list[Array]:
        return self._call(feeds, self._run_options)

    def cancellable(self, feeds: list[Array]) -> tuple[Callable[[], list[Array]], Callable[[], None]]:
        return cancellable(lambda options: self._call(feeds, options))

    def _call(self, feeds: Sequence[Any], options: Any) -> list[Array]:
        session = self._session  # a call that runs keeps it alive after close()
        given = dict(zip(self._feed_names, feeds, strict=True))
        if not self._plain:
            self._check_feeds(feeds)
            given = {name: self._as_text(i, feed) for i, (name, feed) in enumerate(given.items()) if feed is not None}
            if self._by_value:
                return self._call_by_value(session, given, options)
        outputs: list[Array] = session.run(self._fetch_names, given, options)
        if self._strings:
            return [strings_out(a) if a.dtype.hasobject else a for a in outputs]
        # outputs of one name are one memory; an output that is an input is the caller's array (ONNX Runtime 1.23)
        return [output.copy() for output in outputs] if self._repeats else outputs

    def _check_feeds(self, feeds: Sequence[Any]) -> None:
        if self._left_behind:
            raise left_behind(self.device)
        if self._narrowed:
            from accelerate.contract import check_narrowed

            check_narrowed(self.inputs, feeds, "OpenVINO's CPU device")

    def forked(self) -> None:
        super().forked()
        if self._needs_threads:
            self._plain, self._left_behind = False, True

    def _call_by_value(self, session: Any, feeds: Mapping[str, Array], options: Any) -> list[Array]:
        import onnxruntime

        values = {}
        for name, feed in feeds.items():
            if needs_value(feed.dtype.name):
                values[name] = to_value(feed)
            else:
                values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(feed)
        results = session.run_with_ort_values(self._fetch_names, values, options)
        outputs = []
        for info, value in zip(self.outputs, results, strict=True):
            if needs_value(info.data_type):
                outputs.append(from_value(value, info.data_type))
            else:
                array = value.numpy()
                outputs.append(strings_out(array) if info.data_type == "string" else array.copy())
        return outputs

    def _as_text(self, position: int, feed: Array) -> Array:
        return strings_in(feed, self.inputs[position].name) if feed.dtype.hasobject else feed

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.check_open()
        if self._left_behind:
            raise left_behind(self.device)
        inputs = allocate(self.sized_inputs, self.input_index, shapes)
        named = {self.input_index.find(name) for name in shapes or ()}
        if unranked := [t.name for i, t in enumerate(self.inputs) if "rank" in t.extra and i not in named]:
            raise TensorError(
                f"input {unranked[0]!r} cannot be bound as it is: the model does not give its shape",
                f"give it: bind(shapes={{{unranked[0]!r}: shape}})",
            )
        # ONNX Runtime does not write an output that is an input at the same time, nor one output twice
        plain = not self._strings and not self._by_value and not self._repeats
        # where an input is dynamic, files often give outputs the shape that they had when the model was exported
        settled = all(min(t.shape, default=0) >= 0 for t in self.inputs if t.name in inputs)
        if plain and settled and self.device == "cpu" and can_share(inputs.values(), self.outputs):
            bound = [name for name, t in zip(self._feed_names, self.inputs, strict=True) if t.name in inputs]
            return SessionBinding(self, self._session, bound, self._fetch_names, inputs, self.outputs)
        return CopyingBinding(self, self.run, inputs, self.outputs)

    def describe(self) -> Metadata:
        with _readable(self._source):
            meta = self._session.get_modelmeta()
            about = meta.graph_name, meta.description or meta.graph_description
            properties = {"producer": meta.producer_name, **meta.custom_metadata_map}
        described, producers = {}, {}
        if self._source.format == "onnx":
            try:
                file = self._source.opened(ModelFile)
                described = {v.name: v.description for v in (*file.inputs, *file.outputs)}
                producers = dict(file.producers)
            except ModelError as error:  # the runtime reads it: only the doc strings are lost
                _log.warning("%s; the tensors go without descriptions", error.reason)
        outputs = _with_descriptions(self.outputs, self._fetch_names, described)
        return describe(
            *about,
            properties,
            _with_descriptions(self.inputs, self._feed_names, described),
            with_producers(outputs, self._fetch_names, producers),
        )

    def commands(self) -> Mapping[str, Command]:
        return {"profile": self._profile}

    def _profile(self, command: Mapping[str, Any], until: float | None) -> dict[str, Any]:
        """Run a second session of the same model under ONNX Runtime's profiler."""
        if self._source.format == "object":
            raise OptionError(
                "only a model that was loaded from a file or bytes can be profiled", "load the model file"
            )
        return profile(self._profiled, command.get("runs", 10), until)

    def _profiled(self, prefix: str) -> tuple[Model, Any]:
        if not self._source.unchanged():
            raise ModelError(f"{self._source} has changed since it was loaded", "load it again")

        with settings_for(self.options, {}, enable_profiling=True, profile_file_prefix=prefix) as settings:
            session = _session(self._chain(), self._source, settings)
        settled = LoadOptions(tensor_names=self.options.tensor_names, shapes=self.options.shapes)
        return type(self)(session, self._source, self.runtime, settled), session

    def _chain(self) -> ProviderChain:
        """Return what the session runs on, for another one."""
        if self._engines is not None and self._engines.chain.plugged:
            return self._engines.chain
        given = self._session.get_provider_options()
        providers = [
            (name, {k: v for k, v in given.get(name, {}).items() if k == "device_id"})
            for name in self._session.get_providers()
        ]
        return ProviderChain(self.device, "", providers)

    def release(self) -> None:
        self._session = None
        if self._engines is not None:
            self._engines.close()


@contextlib.contextmanager
def _readable(source: Source) -> Iterator[None]:
    """Name the cause when ONNX Runtime cannot hand out a text of the model."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{source}: a name in it is no UTF-8 text ({error.reason}); the file is damaged", REFETCH
        ) from error


def _settle_dimensions(settings: Any, source: Source, options: LoadOptions) -> None:
    """Tell ONNX Runtime what its dimensions of a name are: it works out the outputs' shapes, and its memory, at once.

    A name that an input left open has, or that is given two sizes, is no safe guide: it stays open.
    """
    ours = "session_options" not in options.backend_options  # nothing takes an override back from the user's object
    told = interface_of(source) if options.shapes and ours else None
    if told is None:
        return
    sizes: dict[str, set[int]] = {}
    for before, after in zip(told.inputs, settle(told.inputs, options.shapes, options.tensor_names), strict=True):
        names = before.extra.get("dimensions", ())
        for name, size in zip(names, after.shape, strict=False):  # of an unknown rank there are none
            sizes.setdefault(name, set()).add(size)
    for name, found in sizes.items():
        if name and len(found) == 1 and min(found) > 0:
            settings.add_free_dimension_override_by_name(name, *found)


def _start(engines: EngineCache, source: Source, options: LoadOptions) -> tuple[Any, int]:
    """Return a session, and how many threads it has."""
    full = options.backend_options.get("full_delegation", False)
    chain, entries = engines.chain, {**_TELL_NODES, **engines.entries}
    if full and chain.provider != CPU and not _tells_nodes(import_runtime().InferenceSession):
        entries["session.disable_cpu_ep_fallback"] = "1"
        # the CPU is refused beside that setting
        chain = replace(chain, providers=[entry for entry in chain.providers if entry != CPU])
    with settings_for(options, entries) as settings:
        _settle_dimensions(settings, source, options)
        try:
            session = _session(chain, source, settings, engines.compiled)
        except ModelError as error:
            if not (options.shapes and "ShapeInferenceError" in error.reason):
                raise
            raise OptionError(f"shapes: {error.reason}", "give others, or leave them out") from error.__cause__
        return session, settings.intra_op_num_threads


def _session(chain: ProviderChain, source: Source, settings: Any, compiled: str | None = None) -> Any:
    if source.format == "ort":  # which ONNX Runtime tells by the name alone
        settings.add_session_config_entry("session.load_model_format", "ORT")
    model = compiled or source.utf8_path or source.read()
    try:
        chain.add_to(settings)
        # a user whose options ask for more lines than errors gets them
        with held_back(LINES) if settings.log_severity_level >= ERROR else contextlib.nullcontext():
            # without the fallback: it would print, and run on the CPU what was asked of another device
            session = import_runtime().InferenceSession(
                model, settings, providers=chain.providers or None, enable_fallback=0
            )
    except Exception as error:
        raise while_loading(error, str(source)) from error
    finally:
        if source.format == "ort":  # the user's object may build others, too
            with held_back(LINES):
                settings.add_session_config_entry("session.load_model_format", "")
    session.disable_fallback()
    return session


def _tells_nodes(session: Any) -> bool:
    return hasattr(session, "get_provider_graph_assignment_info")


def _nodes(session: Any) -> dict[str, list[Any]] | None:
    """Return the operators that each provider runs, or None where this version does not tell (before 1.24)."""
    if not _tells_nodes(session):
        return None
    nodes: dict[str, list[Any]] = {}
    for part in session.get_provider_graph_assignment_info():
        nodes.setdefault(part.ep_name, []).extend(part.get_nodes())
    return nodes


def _check_delegation(
    session: Any, nodes: Mapping[str, Sequence[Any]] | None, chain: ProviderChain, *, full: bool
) -> None:
    """Refuse a session that does not use the device that was named; say what fell back to another one."""
    wanted = chain.provider
    if wanted not in session.get_providers():
        raise DeviceNotFoundError(
            f"{chain.device}: {wanted} does not start (its libraries or the driver are missing, or there is no "
            "such device)",
            "run edge-accelerate doctor",
        )
    if nodes is None and not full and wanted != CPU:
        _log.warning(
            "onnxruntime before 1.24 does not tell what %s runs and what the CPU: update it, or load with "
            "full_delegation=True to have all there or an error",
            chain.device,
        )
    elsewhere = {name: each for name, each in (nodes or {}).items() if name != wanted}
    if not nodes or not elsewhere:  # unknown, or nothing is left to compute, or all as wanted
        return
    operators = ((name, Counter(node.op_type for node in each)) for name, each in elsewhere.items())
    left = ", ".join(f"{n} x {op} on {name}" for name, counts in operators for op, n in counts.most_common(8))
    if wanted not in nodes:
        raise UnsupportedModelError(f"{chain.device} runs no operator of this model ({left})", "use device='cpu'")
    if full:
        raise UnsupportedModelError(
            f"full_delegation=True, but {chain.device} does not run: {left}", "leave full_delegation out"
        )
    _log.warning("%s runs only a part of the model; elsewhere: %s", chain.device, left)


def _without_rank(entries: Sequence[Any], source: Source) -> Collection[str]:
    """Return the names of the tensors whose rank nobody knows; ONNX Runtime gives them the shape of a scalar."""
    doubtful = {entry.name for entry in entries if not entry.shape}
    if not doubtful or source.format != "onnx":
        return doubtful
    try:
        file = source.opened(ModelFile)
        return {v.name for v in (*file.inputs, *file.outputs) if v.name in doubtful and not v.ranked}
    except ModelError:
        return doubtful


def values_of_session(session: Any, source: Source) -> tuple[list[ValueInfo], list[ValueInfo]]:
    """Return the inputs and outputs of a session, the optional inputs behind the others."""
    required, optional, outputs = session.get_inputs(), _defaults(session, source), session.get_outputs()
    unranked = _without_rank((*required, *optional, *outputs), source)
    inputs = [_value(entry, unranked) for entry in required]
    inputs += [replace(_value(entry, unranked), optional=True) for entry in optional]
    return inputs, [_value(entry, unranked) for entry in outputs]


def _defaults(session: Any, source: Source) -> Sequence[Any]:
    """Return the initializers that a caller may override, unless they are all the weights of the file."""
    entries: Sequence[Any] = session.get_overridable_initializers()
    if len(entries) <= FEW_DEFAULTS:
        return entries
    try:  # a session does not tell whether there are other initializers
        meant = {v.name for v in source.opened(ModelFile).inputs} if source.format == "onnx" else ()
    except ModelError:
        return ()
    return [entry for entry in entries if entry.name in meant]


def _value(entry: Any, unranked: Collection[str]) -> ValueInfo:
    """Return what a session says of an input or output: it has worked out more shapes than the file gives."""
    shape = tuple(n if isinstance(n, int) else -1 for n in entry.shape)
    dimensions = tuple(n if isinstance(n, str) else "" for n in entry.shape)
    element = data_type(entry.type, entry.name)
    return ValueInfo(entry.name, "", "tensor", element, shape, dimensions, entry.name not in unranked)


def _with_descriptions(
    tensors: Sequence[TensorInfo], names: Sequence[str], described: Mapping[str, str]
) -> tuple[TensorInfo, ...]:
    return tuple(replace(t, description=described.get(n, "")) for t, n in zip(tensors, names, strict=True))
