"""A Binding over an interpreter's own tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from accelerate.contract import Array, Binding, RuntimeModel, dtype_of
from accelerate.metadata import TensorInfo

from .calls import Calls, own_array

__all__ = ["InterpreterBinding"]


class InterpreterBinding(Binding):
    """The arrays are the interpreter's tensors, as far as it gives them a fixed place.

    Strings, empty tensors, and outputs whose shape only a run tells have none: they are copied. The interpreter is for
    this Binding alone, its inputs resized and its tensors allocated; `inputs` and `outputs` are by its index, in the
    model's order. `check_file` is called before each run.
    """

    def __init__(
        self,
        model: RuntimeModel,
        calls: Calls,
        inputs: Mapping[int, TensorInfo],
        outputs: Mapping[int, TensorInfo],
        check_file: Callable[[], None] | None = None,
    ) -> None:
        self._check_file = check_file
        self._calls = calls
        self._invoke = calls.invoke
        given: dict[str, Array] = {}
        results: dict[str, Array] = {}
        self._copied_inputs: list[tuple[int, Array]] = []
        self._copied_outputs: list[tuple[int, str]] = []
        for index, info in inputs.items():
            array = calls.view(index)
            if array is None:
                shape = calls.details(index)["shape"]
                array = np.full(shape, b"", object) if info.data_type == "string" else np.zeros(shape, dtype_of(info))
                self._copied_inputs.append((index, array))
            else:
                array[...] = 0  # the interpreter's memory holds whatever was there
            given[info.name] = array
        for index, info in outputs.items():
            array = calls.view(index)
            # an operator that works in place may have put an output into an input's memory
            if array is None or any(np.shares_memory(array, other) for other in given.values()):
                self._copied_outputs.append((index, info.name))
                array = np.zeros([max(n, 0) for n in info.shape], dtype_of(info))
            results[info.name] = array
        super().__init__(model, given, results, zero_copy=not (self._copied_inputs or self._copied_outputs))

    def step(self) -> None:
        if self._check_file is not None:
            self._check_file()
        if self.zero_copy:
            self._invoke()
            return
        for index, array in self._copied_inputs:
            self._calls.set(index, array)
        self._invoke()
        for index, name in self._copied_outputs:
            self.replace_output(name, own_array(self._calls, index))
