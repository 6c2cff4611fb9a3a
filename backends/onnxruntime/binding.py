"""A Binding over IOBinding: ONNX Runtime reads and writes the caller's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from accelerate.contract import Array, Binding, RuntimeModel, dtype_of
from accelerate.metadata import TensorInfo

from .runtime import cancellable, run_options

__all__ = ["SessionBinding", "can_share"]


def can_share(inputs: Iterable[Array], outputs: Iterable[TensorInfo]) -> bool:
    """Return whether every array can be bound: outputs of unknown shape, and empty ones, cannot."""
    known = all(min(t.shape, default=1) > 0 and "rank" not in t.extra for t in outputs)
    return known and all(a.size for a in inputs)


class SessionBinding(Binding):
    """All arrays are shared with the session: C-contiguous inputs, and outputs of fixed shape.

    They come in the order of `feed_names` and `fetch_names`, which are the session's own.
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

        buffers = {t.name: np.zeros(t.shape, dtype_of(t)) for t in outputs}
        super().__init__(model, inputs, buffers, zero_copy=True)
        self._bound = session.io_binding()
        # an OrtValue over a NumPy array on the CPU is the array's own memory, and keeps the array alive
        for name, array in zip(feed_names, inputs.values(), strict=True):
            self._bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in zip(fetch_names, buffers.values(), strict=True):
            self._bound.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        self._session = session
        self._options = run_options()

    def cancellable(self) -> tuple[Callable[[], None], Callable[[], None]]:
        return cancellable(lambda options: self._session.run_with_iobinding(self._bound, options))

    def step(self) -> None:
        self._session.run_with_iobinding(self._bound, self._options)
