"""A model in an infer request of OpenVINO's."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from accelerate.contract import (
    ASSUMED_NORMALIZATION,
    Array,
    Binding,
    CopyingBinding,
    LoadOptions,
    RuntimeInfo,
    RuntimeModel,
    Source,
    allocate,
    dtype_of,
)
from accelerate.errors import AccelerateError, InferenceError, TensorError
from accelerate.metadata import Metadata, TensorInfo

from .binding import SharedBinding
from .devices import device_of
from .errors import while_running
from .ports import arranged, is_viewed, own_names, settled
from .requests import cancellable
from .runtime import version

__all__ = ["OpenVINOModel"]

_log = logging.getLogger("accelerate")
#: What a CPU computes in 32 bits, and the numbers that these can hold.
_INTEGERS = (int(np.iinfo(np.int32).min), int(np.iinfo(np.int32).max))
_FLOATS = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))
_NARROWED = {"int64": _INTEGERS, "uint64": _INTEGERS, "float64": _FLOATS}


class OpenVINOModel(RuntimeModel):
    """One request of a compiled model, which replicas share."""

    def __init__(
        self, compiled: Any, source: Source, told: Metadata, options: LoadOptions, kept: Mapping[str, str]
    ) -> None:
        self._compiled = compiled
        self._request: Any = compiled.create_infer_request()
        self._told = told
        self._left: object = None  # what a forked child must not let go of
        self.assumed_normalization = ASSUMED_NORMALIZATION if source.format == "tflite" else None
        names = own_names(source, told)
        self._places = [
            arranged(ports, own, side)
            for ports, own, side in zip((compiled.inputs, compiled.outputs), names, ("input", "output"), strict=True)
        ]
        sides = zip((compiled.inputs, compiled.outputs), self._places, (told.inputs, told.outputs), strict=True)
        inputs, outputs = (
            [settled(ports[place], info) for place, info in zip(places, infos, strict=True)]
            for ports, places, infos in sides
        )
        device = device_of(compiled)
        plain = all(min(t.shape, default=0) >= 0 and "rank" not in t.extra for t in (*inputs, *outputs))
        self._strings = any(t.data_type == "string" for t in (*inputs, *outputs))
        self._limits = [_NARROWED.get(t.data_type) if device == "cpu" else None for t in inputs]
        self._limited = any(self._limits)
        if _FLOATS in self._limits:
            _log.warning("%s takes float64, which OpenVINO computes in float32 on this device", source)
        self._fast: tuple[list[Array], list[Array], Callable[..., Any]] | None = None
        details: dict[str, Any] = {"adopted": True} if source.format == "object" else {}
        if kept:
            details["engine_cache"] = dict(kept)
        runtime = RuntimeInfo("OpenVINO", version(), device, details={**details, **_properties(compiled)})
        super().__init__("openvino", inputs, outputs, runtime, options)
        if plain and not self._strings and not self._limited and device == "cpu":
            # tensors of a settled shape stay where they are
            request = self._request
            self._fast = (
                self._views(0, request.get_input_tensor),
                self._views(1, request.get_output_tensor),
                request.infer,
            )

    def translate(self, error: Exception) -> AccelerateError:
        return while_running(error)

    def execute(self, feeds: list[Array]) -> list[Array]:
        fast = self._fast  # a call that runs keeps it alive after close()
        if fast is None:
            return self._execute(feeds)
        inputs, outputs, infer = fast
        for view, feed in zip(inputs, feeds):  # noqa: B905 - which costs a small model 1 %
            view[...] = feed
        infer(share_outputs=True)
        results = []
        for view in outputs:
            results.append(view.copy())  # noqa: PERF401 - a comprehension costs it 3 %
        return results

    def _execute(self, feeds: list[Array]) -> list[Array]:
        request = self._present()
        self._fill(request, feeds)
        if self._strings:  # infer() would convert the outputs, and warn of it
            request.start_async()
            request.wait()
        else:
            request.infer(share_outputs=True)
        return self._results(request)

    def cancellable(self, feeds: list[Array]) -> tuple[Callable[[], list[Array]], Callable[[], None] | None]:
        if self._inherited:  # the threads that would run it are the parent's
            return lambda: self.execute(feeds), None
        request = self._request
        run, cancel = cancellable(request)

        def call() -> list[Array]:
            self._fill(request, feeds)
            run()
            return self._results(request)

        return call, cancel

    def forked(self) -> None:
        super().forked()
        if self.runtime.details.get("streams", 1) > 1:  # its requests wait for threads that are the parent's
            self._left = self._compiled, self._request, self._fast
            self._compiled = self._request = self._fast = None

    def _present(self) -> Any:
        """Return the request, which a forked child may be without."""
        request = self._request
        if request is None:
            self.check_open()
            raise InferenceError(
                "replicas of OpenVINO do not run in a forked child, where their threads are missing",
                "load them in the child alone, without replicas before the fork, or start it by spawn",
            )
        return request

    def _fill(self, request: Any, feeds: Sequence[Array]) -> None:
        if self._limited:
            self._check_limits(feeds)
        for place, info, feed in zip(self._places[0], self.inputs, feeds, strict=True):
            tensor = request.get_input_tensor(place)
            if tuple(tensor.shape) != feed.shape:
                tensor.shape = feed.shape
            if info.data_type == "string":
                tensor.bytes_data = _fixed_width(feed, info)
            elif feed.size:
                _as_told(tensor.data, info)[...] = feed

    def _results(self, request: Any) -> list[Array]:
        results: list[Array] = []
        for place, info in zip(self._places[1], self.outputs, strict=True):
            tensor = request.get_output_tensor(place)
            if info.data_type == "string":
                results.append(np.asarray(tensor.bytes_data).astype(object))
            else:
                results.append(_as_told(tensor.data, info).copy())
        return results

    def _views(self, side: int, tensor_at: Callable[[int], Any]) -> list[Array]:
        """Return arrays over the tensors of the inputs (side 0) or outputs (side 1) of a request."""
        infos = (self.inputs, self.outputs)[side]
        return [_as_told(tensor_at(place).data, info) for place, info in zip(self._places[side], infos, strict=True)]

    def _check_limits(self, feeds: Sequence[Array]) -> None:
        """Refuse numbers that would become others: OpenVINO's CPU device computes those of 64 bits in 32."""
        for limits, info, feed in zip(self._limits, self.inputs, feeds, strict=True):
            if limits is None or not feed.size:
                continue
            values = feed[~np.isnan(feed)] if limits is _FLOATS else feed
            low, high = (values.min(), values.max()) if values.size else (0, 0)
            if low < limits[0] or high > limits[1]:
                raise TensorError(
                    f"input {info.name!r} holds numbers beyond 32 bits, {low} to {high}, which OpenVINO's "
                    "CPU device would change",
                    "run the model by the backend of its own format",
                )

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.check_open()
        self._present()
        inputs = allocate(self.sized_inputs, self.input_index, shapes)
        if self._shares(inputs):
            return SharedBinding(self, self._compiled.create_infer_request(), inputs, self._places)
        return CopyingBinding(self, self.run, inputs, self.outputs)

    def _shares(self, inputs: Mapping[str, Array]) -> bool:
        """Return whether the request can read and write arrays of ours.

        An output larger than its array is lost, one that is an input is never written, and two of one port are one.
        """
        if self.device != "cpu" or self._strings or self._limited:
            return False
        given = set().union(*(port.get_names() for port in self._compiled.inputs))
        passed = any(port.get_names() & given for port in self._compiled.outputs)
        twice = len(set(self._places[1])) < len(self._places[1])
        plain = not any(map(is_viewed, (*self.inputs, *self.outputs))) and all(a.size for a in inputs.values())
        fixed = all(min(t.shape, default=1) > 0 and "rank" not in t.extra for t in self.outputs)
        return plain and fixed and not passed and not twice

    def describe(self) -> Metadata:
        inputs = (_seen(ours, said) for ours, said in zip(self.inputs, self._told.inputs, strict=True))
        outputs = (_seen(ours, said) for ours, said in zip(self.outputs, self._told.outputs, strict=True))
        return replace(self._told, inputs=tuple(inputs), outputs=tuple(outputs))

    def release(self) -> None:
        self._request = self._compiled = self._fast = None


def _seen(ours: TensorInfo, said: TensorInfo) -> TensorInfo:
    """Return what the file says of a tensor, with the type and shape that it has here."""
    return replace(said, data_type=ours.data_type, shape=ours.shape, extra=ours.extra)


def _as_told(data: Array, info: TensorInfo) -> Array:
    """Return OpenVINO's array of a tensor in the type that is meant."""
    return data.view(dtype_of(info)) if is_viewed(info) else data


def _fixed_width(feed: Array, info: TensorInfo) -> Array:
    """Return byte strings in an array that NumPy keeps itself; it cuts zeros off their ends."""
    words = feed.ravel().tolist()
    if any(isinstance(word, bytes) and word.endswith(b"\0") for word in words):
        raise TensorError(
            f"input {info.name!r} has a text that ends with a zero byte, which OpenVINO would lose", "take it off"
        )
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    return np.asarray(encoded, dtype=bytes).reshape(feed.shape) if encoded else np.zeros(feed.shape, "S1")


def _properties(compiled: Any) -> dict[str, Any]:
    """Return what a compiled model says of how it computes."""
    wanted = {
        "num_threads": "INFERENCE_NUM_THREADS", "precision": "INFERENCE_PRECISION_HINT",
        "execution_mode": "EXECUTION_MODE_HINT", "streams": "NUM_STREAMS",
    }  # fmt: skip
    told: dict[str, Any] = {}
    for mine, theirs in wanted.items():
        with contextlib.suppress(Exception):  # a property that this device has not
            value = compiled.get_property(theirs)
            told[mine] = value if isinstance(value, int) and not hasattr(value, "name") else _word(value)
    return told


def _word(value: Any) -> str:
    """Return a property as a person writes it: "f32" for its Type, "ACCURACY" for its ExecutionMode."""
    if hasattr(value, "get_type_name"):
        return str(value.get_type_name())
    return str(getattr(value, "name", value))
