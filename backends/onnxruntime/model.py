"""An ONNX model in an InferenceSession."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...binding import Binding
from ...chatter import held_back
from ...contract import LoadOptions
from ...cpus import usable_cpus
from ...errors import AccelerateError, DeviceNotFoundError, ModelError, OptionError, UnsupportedModelError
from ...formats.onnx import ModelFile
from ...formats.onnx_description import describe
from ...metadata import Metadata, TensorInfo
from ...model import Model, RuntimeInfo
from ...source import Source
from ...tensors import Array
from .binding import SessionBinding, can_share
from .elements import data_type, from_value, needs_value, strings_in, strings_out, to_value
from .errors import while_loading, while_running
from .profile import profile
from .providers import CPU, Placement

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ONNXModel"]

_log = logging.getLogger("accelerate")
_FATAL = 4  # log_severity_level; what goes wrong arrives as an exception anyway


class ONNXModel(Model):
    """One session. Use `build` or `adopt`."""

    _concurrent = True

    def __init__(self, session: Any, source: Source, runtime: RuntimeInfo, options: LoadOptions) -> None:
        import onnxruntime

        self._session: Any = session
        self._source = source
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _FATAL
        inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
        self._feed_names = [t.name for t in inputs]
        self._fetch_names = [t.name for t in outputs]
        self._plain = not any(t.data_type == "string" or needs_value(t.data_type) for t in (*inputs, *outputs))
        super().__init__("onnxruntime", inputs, outputs, runtime, options)

    @classmethod
    def build(cls, runtime: Any, placement: Placement, source: Source, options: LoadOptions) -> Self:
        """Build a session for a model file.

        Raises
        ------
        ModelError, UnsupportedModelError, DeviceNotFoundError
        """
        threads = options.num_threads or usable_cpus()
        _check_external_files(source)
        session = _session(runtime, placement, source, session_options(runtime, threads))
        nodes = _nodes(session)
        _check_placement(session, nodes, placement, full=bool(options.backend_options.get("full_delegation")))
        delegated = None if nodes is None else sum(nodes.get(placement.provider, Counter()).values())
        total = None if nodes is None else sum(sum(operators.values()) for operators in nodes.values())
        details = {
            "providers": session.get_providers(),
            "nodes": {} if nodes is None else {name: sum(operators.values()) for name, operators in nodes.items()},
            "num_threads": threads,
        }
        info = RuntimeInfo("ONNX Runtime", runtime.__version__, placement.device, delegated, total, details)
        return cls(session, source, info, options)

    @classmethod
    def adopt(cls, source: Source, options: LoadOptions) -> Self:
        """Use a session that the caller has made.

        Raises
        ------
        UnsupportedModelError
        """
        import onnxruntime

        providers = source.object.get_providers()
        device = "cpu" if providers[0] == CPU else providers[0].removesuffix("ExecutionProvider").lower()
        details = {"providers": providers, "adopted": True}
        info = RuntimeInfo("ONNX Runtime", onnxruntime.__version__, device, details=details)
        return cls(source.object, source, info, options)

    def _execute(self, feeds: list[Array]) -> list[Array]:
        return self._call(feeds, self._run_options)

    def _cancellable(self, feeds: list[Array]) -> tuple[Callable[[], list[Array]], Callable[[], None]]:
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = _FATAL
        return lambda: self._call(feeds, options), lambda: setattr(options, "terminate", True)

    def _call(self, feeds: list[Array], options: Any) -> list[Array]:
        session = self._session  # a call that runs keeps it alive after close()
        if session is None:
            self._check_open()
        try:
            if self._plain:
                outputs: list[Array] = session.run(
                    self._fetch_names, dict(zip(self._feed_names, feeds, strict=True)), options
                )
                return outputs
            return self._call_by_values(session, feeds, options)
        except AccelerateError:
            raise
        except Exception as error:
            raise while_running(error) from error

    def _call_by_values(self, session: Any, feeds: list[Array], options: Any) -> list[Array]:
        import onnxruntime

        values = {}
        for info, name, feed in zip(self._inputs, self._feed_names, feeds, strict=True):
            if needs_value(info.data_type):
                values[name] = to_value(feed)
            else:
                plain = strings_in(feed, info.name) if info.data_type == "string" else feed
                values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(plain)
        results = session.run_with_ort_values(self._fetch_names, values, options)
        outputs = []
        for info, value in zip(self._outputs, results, strict=True):
            if needs_value(info.data_type):
                outputs.append(from_value(value, info.data_type))
            else:
                array = value.numpy()
                outputs.append(strings_out(array) if info.data_type == "string" else array.copy())
        return outputs

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:  # noqa: D102
        self._check_open()
        inputs = self._allocate(shapes or {})
        if self._plain and self.device == "cpu" and can_share(inputs.values(), self._outputs):
            return SessionBinding(
                self._session,
                self._feed_names,
                self._fetch_names,
                inputs,
                self._outputs,
                self._check_open,
                self._call_within,
            )
        return Binding(self._run, inputs, self._outputs)

    def _describe(self) -> Metadata:
        meta = self._session.get_modelmeta()
        properties = dict(meta.custom_metadata_map)
        described = {}
        if self._source.format == "onnx":
            try:
                file = ModelFile(self._source.buffer(), str(self._source))
                described = {v.name: v.description for v in (*file.inputs, *file.outputs)}
            except ModelError as error:  # the runtime reads it: only the doc strings are lost
                _log.warning("%s; the tensors go without descriptions", error)
        return describe(
            meta.graph_name,
            meta.description or meta.graph_description,
            {"producer": meta.producer_name, **properties},
            _with_descriptions(self._inputs, self._feed_names, described),
            _with_descriptions(self._outputs, self._fetch_names, described),
        )

    def _commands(self) -> Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
        return {"profile": self._profile}

    def _profile(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Run a second session of the same model under ONNX Runtime's profiler."""
        if self._source.format != "onnx":
            raise OptionError("only a model that was loaded from a file or bytes can be profiled")
        return profile(self._source, self.runtime.details["providers"], self.runtime.details["num_threads"], command)

    def _release(self) -> None:
        self._session = None


def session_options(runtime: Any, threads: int) -> Any:
    """Return the SessionOptions that every session of ours has."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL - 1  # errors of a provider that does not start say why
    return options


def _session(runtime: Any, placement: Placement, source: Source, options: Any) -> Any:
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    model = str(source.path) if source.path is not None else source.read()
    try:
        with held_back():
            # without the fallback: it would print, and run on the CPU what was asked of another device
            session = runtime.InferenceSession(model, options, providers=placement.providers, enable_fallback=0)
    except Exception as error:
        raise while_loading(error, str(source)) from error
    session.disable_fallback()
    return session


def _nodes(session: Any) -> dict[str, Counter[str]] | None:
    """Return the operators that each provider runs, or None where this version does not tell (before 1.24)."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    nodes: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        nodes.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return nodes


def _check_placement(session: Any, nodes: dict[str, Counter[str]] | None, placement: Placement, *, full: bool) -> None:
    """Refuse a session that does not use the device that was named; say what fell back to another one."""
    wanted = placement.provider
    if wanted not in session.get_providers():
        raise DeviceNotFoundError(
            f"{placement.device}: {wanted} does not start (its libraries or the driver are missing, or there is no "
            "such device); run edge-accelerate doctor"
        )
    if nodes is None or not nodes:  # unknown, or nothing is left to compute
        return
    elsewhere = {name: operators for name, operators in nodes.items() if name != wanted}
    if not elsewhere:
        return
    left = ", ".join(f"{n} x {op} on {name}" for name, ops in elsewhere.items() for op, n in ops.most_common(8))
    if wanted not in nodes:
        raise UnsupportedModelError(f"{placement.device} runs no operator of this model ({left}); use device='cpu'")
    if full:
        raise UnsupportedModelError(f"full_delegation=True, but {placement.device} does not run: {left}")
    _log.warning("%s runs only a part of the model; elsewhere: %s", placement.device, left)


def _check_external_files(source: Source) -> None:
    """Refuse weights outside of the model's folder; newer versions of ONNX Runtime check this too."""
    if source.path is None:
        return
    folder = source.path.resolve().parent
    for name in ModelFile(source.buffer(), str(source)).external_files:
        target = (folder / name).resolve()
        if not target.is_relative_to(folder):
            raise ModelError(
                f"{source}: its external data {name!r} lies outside of the model's folder; it is not followed"
            )
        if not target.is_file():
            raise ModelError(f"{source}: its external data {target} is missing; copy it beside the model")


def _tensors(entries: Sequence[Any]) -> list[TensorInfo]:
    tensors = []
    for entry in entries:
        shape = tuple(n if isinstance(n, int) and n >= 0 else -1 for n in entry.shape)
        names = [n if isinstance(n, str) else "" for n in entry.shape]
        extra = {"dimensions": tuple(names)} if any(names) else {}
        tensors.append(TensorInfo(entry.name, data_type=data_type(entry.type, entry.name), shape=shape, extra=extra))
    return tensors


def _with_descriptions(
    tensors: Sequence[TensorInfo], names: Sequence[str], described: Mapping[str, str]
) -> tuple[TensorInfo, ...]:
    return tuple(replace(t, description=described.get(n, "")) for t, n in zip(tensors, names, strict=True))
