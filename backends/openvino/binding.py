"""A Binding whose arrays an infer request reads and writes itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from accelerate.contract import Array, Binding, RuntimeModel, blank

from .requests import cancellable

__all__ = ["SharedBinding"]


class SharedBinding(Binding):
    """A request of its own, over arrays of settled shape."""

    def __init__(
        self, model: RuntimeModel, request: Any, inputs: dict[str, Array], places: Sequence[Sequence[int]]
    ) -> None:
        from openvino import Tensor

        outputs = {t.name: blank(t, t.shape) for t in model.outputs}
        # a tensor keeps its array alive, the request does not
        self._tensors = [[Tensor(array, shared_memory=True) for array in side.values()] for side in (inputs, outputs)]
        for place, tensor in zip(places[0], self._tensors[0], strict=True):
            request.set_input_tensor(place, tensor)
        for place, tensor in zip(places[1], self._tensors[1], strict=True):
            request.set_output_tensor(place, tensor)
        self._request = request
        self._here = True
        self._streams = model.runtime.details.get("streams", 1)
        super().__init__(model, inputs, outputs, zero_copy=True)

    def step(self) -> None:
        self._request.infer(share_outputs=True)

    def cancellable(self) -> tuple[Callable[[], None], Callable[[], None] | None]:
        return cancellable(self._request) if self._here else (self.step, None)

    def forked(self) -> None:
        super().forked()
        self._here = False  # the threads that would run it are the parent's
        if self._streams > 1:  # and a plain run would wait for them, too
            self._turn.forked(busy=True)
