"""An infer request: runs of it whose caller may leave, and a Binding whose arrays it reads and writes itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from accelerate.contract import Array, Binding, RuntimeModel, blank
from accelerate.errors import InferenceError

__all__ = ["SharedBinding", "cancellable", "left_behind"]


def cancellable(request: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a run, and what ends it before its next operator: ``infer`` ignores ``cancel``, this obeys.

    It costs a thread's switch, so it is for calls with a deadline alone.
    """
    left: list[bool] = []

    def run() -> None:
        if not left:
            request.start_async()
            if left:  # before there was something to cancel
                request.cancel()
            request.wait()

    def cancel() -> None:
        left.append(True)
        request.cancel()

    return run, cancel


def left_behind() -> InferenceError:
    """Return the error for a call in a forked child that would wait for threads of its parent's for ever."""
    return InferenceError(
        "this model was loaded in the process that this one was forked from, and waits for threads of OpenVINO's that "
        "are missing here: it has several streams, or is not on the CPU alone",
        "fork before the first model is loaded by OpenVINO, or start the process by spawn",
    )


class SharedBinding(Binding):
    """A request of its own, over arrays of settled shape.

    Parameters
    ----------
    model : RuntimeModel
    request : InferRequest
    inputs : dict of str to numpy.ndarray
    places : sequence of sequence of int
        Those of the inputs and of the outputs among its ports.
    needs_threads : bool
        Whether a forked child cannot run it.
    """

    def __init__(
        self,
        model: RuntimeModel,
        request: Any,
        inputs: dict[str, Array],
        places: Sequence[Sequence[int]],
        *,
        needs_threads: bool,
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
        self._needs_threads = needs_threads
        super().__init__(model, inputs, outputs, zero_copy=True)

    def step(self) -> None:
        if self._needs_threads and not self._here:
            raise left_behind()
        self._request.infer(share_outputs=True)

    def cancellable(self) -> tuple[Callable[[], None], Callable[[], None] | None]:
        return cancellable(self._request) if self._here else (self.step, None)

    def forked(self) -> None:
        super().forked()
        self._here = False  # the threads that would run it are the parent's
