"""The values that an interpreter keeps from one call to the next, and how they outlive what would clear them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from accelerate.contract import Array, LoadOptions, Source
from accelerate.errors import OptionError
from accelerate.formats.tflite.file import ModelFile
from accelerate.formats.tflite.state import RESOURCE_OPERATORS, STATE_INPUTS, State

from .calls import ENGINE_ERRORS, Calls

__all__ = ["Variables", "check_replicas", "state_of_interpreter"]


class Variables:
    """The variable tensors of one graph of an interpreter, and of the graphs that only it calls."""

    def __init__(self, tensors: Sequence[tuple[Calls, int]]) -> None:
        self._tensors = tensors
        self._kept: list[Array | None] | None = None  # while the tensors have no place

    def values(self) -> list[Array | None]:
        """Return a copy of the values; None for one that has no place, and so no value."""
        return [_value(calls, index) for calls, index in self._tensors] if self._kept is None else self._kept

    def put(self, values: Sequence[Array | None]) -> None:
        """Set the values."""
        if self._kept is not None:
            self._kept = list(values)
            return
        for (calls, index), value in zip(self._tensors, values, strict=True):
            if value is not None:
                calls.set(index, value)

    def clear(self) -> None:
        """Set all values to zero."""
        self.put([None if value is None else np.zeros_like(value) for value in self.values()])

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the values over an allocation of the graph's tensors; one that fails leaves them to the next.

        An allocation clears them, and one that fails leaves them without a place.
        """
        self._kept = self.values()
        yield
        values, self._kept = self._kept, None
        self.put(values)


def _value(calls: Calls, index: int) -> Array | None:
    try:
        value: Array = calls.get(index)
    except ENGINE_ERRORS:  # nobody has allocated that graph
        return None
    return value


def state_of_interpreter(interpreter: Any) -> State:
    """Return what an existing interpreter keeps, as far as it tells: that of its main graph."""
    native = interpreter._interpreter
    variables: list[tuple[int, int]] = []
    resources = False
    for node in range(native.NumNodes()):
        name = native.NodeName(node)
        resources = resources or name in RESOURCE_OPERATORS
        if name in STATE_INPUTS:
            inputs = native.NodeInputs(node)  # operators of older converters have fewer, and no state
            variables += ((0, int(inputs[at])) for at in STATE_INPUTS[name] if at < len(inputs) and inputs[at] >= 0)
    return State(tuple(dict.fromkeys(variables)), resources)


def check_replicas(source: Source, options: LoadOptions) -> None:
    """Refuse to share the calls of a model with state out among several."""
    if options.replicas > 1 and source.format == "tflite" and source.opened(ModelFile).state:
        raise OptionError(
            f"{source} keeps state from one call to the next, of which each of {options.replicas} replicas would have "
            "its own",
            "leave replicas out, or load the model once for each sequence of calls",
        )
