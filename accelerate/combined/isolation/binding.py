"""A Binding over memory that is shared with the child: nothing is copied in this process."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from ...calls.binding import Binding, Owner
from ...calls.conversion import Array, blank, dtype_of
from ...calls.deadlines import in_words
from ...errors import InferenceTimeoutError
from .link import Link
from .targets import Target

__all__ = ["IsolatedBinding"]


class IsolatedBinding(Binding):
    """The child has a Binding of its own, from and to which it copies once each way.

    So `zero_copy` is False: these arrays are not what the runtime reads and writes. They stay the same for good,
    except those of outputs whose size only a run tells and of strings, which are sent.
    """

    def __init__(self, model: Owner, link: Link, target: Target) -> None:
        self._link, self._target = link, target
        inputs: dict[str, Array] = {}
        self._loose: list[Any] = [None] * len(target.inputs)
        placed = dict(target.given)
        for position, info in enumerate(target.inputs):
            if position in placed:
                inputs[info.name] = placed[position]
            elif position in target.loose:
                inputs[info.name] = self._loose[position] = blank(info, target.shapes[info.name])
        self._fixed: dict[str, Array] = {target.outputs[i].name: array for i, array in target.taken}
        outputs = {
            t.name: self._fixed.get(t.name, np.zeros([max(n, 0) for n in t.shape], dtype_of(t))) for t in target.outputs
        }
        self._replaced: set[str] = set()
        super().__init__(model, inputs, outputs, zero_copy=False)

    def step(self) -> None:
        self._run(None)

    def step_within(self, timeout: float) -> None:
        if not self._lock.acquire(timeout=timeout):
            raise InferenceTimeoutError(
                f"no answer within {in_words(timeout)}: another thread ran this Binding all that time",
                "give a longer timeout, or each thread a Binding of its own",
            )
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.release)
            self.check_open()
            self._run(timeout)

    def _run(self, timeout: float | None) -> None:
        left = self._link.run(self._target, self._loose, timeout)
        if not left and not self._replaced:
            return
        shown = {self._target.outputs[i].name: array for i, array in left.items()}
        for name in self._replaced - set(shown):
            self.replace_output(name, self._fixed[name])
        for name, array in shown.items():
            self.replace_output(name, array)
        self._replaced = set(shown) & set(self._fixed)

    def close(self) -> None:
        super().close()
        self._link.retire(self._target)
