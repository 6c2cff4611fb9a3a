"""A Binding over IOBinding: ONNX Runtime reads and writes the caller's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from accelerate.contract import Array, Binding, CopyingBinding, RuntimeModel
from accelerate.metadata import TensorInfo

from .runtime import cancellable, run_options

__all__ = ["SessionBinding", "can_share"]


def can_share(inputs: Iterable[Array], outputs: Iterable[TensorInfo]) -> bool:
    """Return whether every array can be bound: outputs of unknown shape, and empty ones, cannot."""
    known = all(min(t.shape, default=1) > 0 and "rank" not in t.extra for t in outputs)
    return known and all(a.size for a in inputs)


class SessionBinding(CopyingBinding):
    """All arrays are shared with the session: C-contiguous inputs, and outputs of fixed shape.

    They come in the order of `feed_names` and `fetch_names`, which are the session's own. A file may say a shape that
    an output has not. ONNX Runtime then refuses to write it into the array, and from that run on outputs are copied.
    """

    def __init__(
        self,
        model: RuntimeModel,
        session: Any,
        feed_names: Sequence[str],
        fetch_names: Sequence[str],
        inputs: dict[str, Array],
        outputs: Sequence[TensorInfo],
    ) -> None:
        import onnxruntime

        super().__init__(model, model.run, inputs, outputs)
        self.zero_copy = True
        self._given = dict(zip(feed_names, inputs.values(), strict=True))
        self._fetch_names = fetch_names
        self._bound = session.io_binding()
        # an OrtValue over a NumPy array on the CPU is the array's own memory, and keeps the array alive
        for name, array in self._given.items():
            self._bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in zip(fetch_names, self._buffers.values(), strict=True):
            self._bound.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        self._session = session
        self._options = run_options()

    def cancellable(self) -> tuple[Callable[[], None], Callable[[], None]]:
        return cancellable(self.step)

    def step_within(self, timeout: float) -> None:
        Binding.step_within(self, timeout)

    def step(self, options: Any = None) -> None:
        options = self._options if options is None else options
        try:
            if self.zero_copy:
                self._session.run_with_iobinding(self._bound, options)
                return
        except Exception:
            pass  # if it is not for the shape of an output, the other way fails, too
        self.take(self._session.run(self._fetch_names, self._given, options))
        self.zero_copy = False
