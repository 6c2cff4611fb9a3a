"""Bindings to a model on a server: over messages, and over a region that the server reads and writes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import numpy as np

from accelerate.contract import Array, CopyingBinding, Owner, read_only
from accelerate.metadata import TensorInfo

from .regions import Regions, Slot

__all__ = ["SharedBinding"]


class SharedBinding(CopyingBinding):
    """A Binding over a region. Strings and outputs of dynamic shape are copied from and into messages.

    After a call whose end is not known (its deadline passed), the server may still write: `outputs` then holds copies
    of what was there before, and arrays taken from it earlier may change until the next `run` has returned. `run` takes
    the slot's Regions, the slot, the input arrays and a timeout; inputs outside the region are used as they are.
    """

    def __init__(
        self,
        owner: Owner,
        run: Callable[[Regions, Slot, list[Array], float | None], list[Array]],
        regions: Regions,
        slot: Slot,
        inputs: dict[str, Array],
        outputs: Sequence[TensorInfo],
    ) -> None:
        shared = zip(inputs.items(), slot.inputs, strict=True)
        super().__init__(
            owner,
            lambda feeds, timeout: run(regions, slot, feeds, timeout),
            {name: array if view is None else view for (name, array), view in shared},
            outputs,
        )
        self._regions, self._slot = regions, slot
        for tensor, view in zip(outputs, slot.outputs, strict=True):
            if view is not None:
                self._buffers[tensor.name] = view
                self.replace_output(tensor.name, view)
        self.zero_copy = all(view is not None for view in (*slot.inputs, *slot.outputs))
        self._views = dict(self._outputs)
        self._unsettled = False
        self._finalizer = weakref.finalize(self, regions.abandon, slot)

    def call(self, timeout: float | None) -> None:
        try:
            results = self._call(self._feeds, timeout)
        except BaseException:
            if self._slot.dirty and not self._unsettled:
                self._unsettled = True
                self._outputs = {name: read_only(view.copy()) for name, view in self._outputs.items()}
            raise
        if self._unsettled:
            self._unsettled = False
            self._outputs = dict(self._views)
        for (name, buffer), view, result in zip(self._buffers.items(), self._slot.outputs, results, strict=True):
            if result is view:
                continue
            if buffer.shape == result.shape:
                np.copyto(buffer, result)
            else:
                self._buffers[name] = result.copy()
                self.replace_output(name, self._buffers[name])

    def close(self) -> None:
        """End the Binding. Arrays taken from it stay readable."""
        super().close()
        if self._finalizer.detach():
            self._regions.discard(self._slot)
