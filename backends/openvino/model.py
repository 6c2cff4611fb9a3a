"""A model in an infer request of OpenVINO's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
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
    check_narrowed,
    dtype_of,
    encoded_texts,
    may_narrow,
)
from accelerate.errors import AccelerateError, TensorError
from accelerate.metadata import Metadata, TensorInfo

from .binding import SharedBinding, cancellable, left_behind
from .devices import device_of
from .errors import while_running
from .ports import arranged, is_viewed, own_names, settled
from .properties import needs_threads, told_properties
from .runtime import version

__all__ = ["OpenVINOModel"]


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
        self._needs_threads = needs_threads(compiled, device)
        plain = all(min(t.shape, default=0) >= 0 and "rank" not in t.extra for t in (*inputs, *outputs))
        self._strings = any(t.data_type == "string" for t in (*inputs, *outputs))
        self._narrowed = device == "cpu" and may_narrow(inputs, str(source), "OpenVINO")
        self._fast: tuple[list[Array], list[Array], Callable[..., Any]] | None = None
        details: dict[str, Any] = {"adopted": True} if source.format == "object" else {}
        if kept:
            details["engine_cache"] = dict(kept)
        runtime = RuntimeInfo("OpenVINO", version(), device, details={**details, **told_properties(compiled, device)})
        super().__init__("openvino", inputs, outputs, runtime, options)
        if plain and not self._strings and not self._narrowed and device == "cpu":
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
            request = self._present()
            # infer() would convert texts that come out, and warn of it
            run = cancellable(request)[0] if self._strings else partial(request.infer, share_outputs=True)
            return self._computed(request, run, feeds)
        inputs, outputs, infer = fast
        for view, feed in zip(inputs, feeds):  # noqa: B905 - which costs a small model 1 %
            view[...] = feed
        infer(share_outputs=True)
        results = []
        for view in outputs:
            results.append(view.copy())  # noqa: PERF401 - a comprehension costs it 3 %
        return results

    def cancellable(self, feeds: list[Array]) -> tuple[Callable[[], list[Array]], Callable[[], None] | None]:
        if self._inherited:  # the threads that would run it are the parent's
            return lambda: self.execute(feeds), None
        request = self._request
        run, cancel = cancellable(request)
        return lambda: self._computed(request, run, feeds), cancel

    def forked(self) -> None:
        super().forked()
        if self._needs_threads:  # which are the parent's
            self._left = self._compiled, self._request, self._fast
            self._compiled = self._request = self._fast = None

    def _present(self) -> Any:
        """Return the request, which a forked child may be without."""
        request = self._request
        if request is None:
            self.check_open()
            raise left_behind()
        return request

    def _computed(self, request: Any, run: Callable[[], object], feeds: Sequence[Array]) -> list[Array]:
        self._fill(request, feeds)
        run()
        return self._results(request)

    def _fill(self, request: Any, feeds: Sequence[Array]) -> None:
        if self._narrowed:
            check_narrowed(self.inputs, feeds, "OpenVINO's CPU device")
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

    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        self.check_open()
        self._present()
        inputs = allocate(self.sized_inputs, self.input_index, shapes)
        if self._shares(inputs):
            request = self._compiled.create_infer_request()
            return SharedBinding(self, request, inputs, self._places, needs_threads=self._needs_threads)
        return CopyingBinding(self, self.run, inputs, self.outputs)

    def _shares(self, inputs: Mapping[str, Array]) -> bool:
        """Return whether the request can read and write arrays of ours.

        An output larger than its array is lost, one that is an input is never written, and two of one port are one.
        """
        if self.device != "cpu" or self._strings or self._narrowed:
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
    texts = encoded_texts(feed, info.name)
    if not texts:
        raise TensorError(
            f"input {info.name!r} holds no text at all, at which OpenVINO answers as it did before", "give one or more"
        )
    if any(text.endswith(b"\0") for text in texts):
        raise TensorError(
            f"input {info.name!r} has a text that ends with a zero byte, which OpenVINO would lose", "take it off"
        )
    return np.asarray(texts, dtype=bytes).reshape(feed.shape)
