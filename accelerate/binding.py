"""Binding: input arrays to write into and output arrays to read from, call after call."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from .deadlines import Turn, seconds
from .errors import ClosedError, TensorError
from .metadata import TensorInfo
from .names import NameIndex
from .tensors import Array, blank, dtype_of

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Binding", "allocate", "read_only"]


class Binding:
    """The buffers of one caller; no other call on the model changes them. This form copies from and to the runtime.

    Parameters
    ----------
    run : callable
        Takes the input arrays and a timeout, returns the output arrays.
    inputs : dict of str to numpy.ndarray
    outputs : sequence of TensorInfo

    Attributes
    ----------
    zero_copy : bool
        Whether every array is the very memory that the runtime reads or writes.
    """

    zero_copy = False

    def __init__(
        self,
        run: Callable[[list[Array], float | None], list[Array]],
        inputs: dict[str, Array],
        outputs: Sequence[TensorInfo],
    ) -> None:
        self._run = run
        self._inputs = inputs
        # a dynamic dimension is unknown until the first run
        self._buffers = {t.name: np.zeros([max(n, 0) for n in t.shape], dtype_of(t)) for t in outputs}
        self._outputs = {name: read_only(array) for name, array in self._buffers.items()}
        self._start()

    def _start(self) -> None:
        self._turn = Turn()
        self._lock = self._turn.lock
        self._closed = False

    @property
    def inputs(self) -> Mapping[str, Array]:
        """Writable arrays by canonical name; what they hold at `run` is what the model gets."""
        self._check_open()
        return MappingProxyType(self._inputs)

    @property
    def outputs(self) -> Mapping[str, Array]:
        """Read-only arrays by canonical name, valid until the next `run`."""
        self._check_open()
        return MappingProxyType(self._outputs)

    def run(self, timeout: float | None = None) -> None:
        """Run the model on what `inputs` holds.

        Parameters
        ----------
        timeout : float, optional
            Seconds, including the wait for another thread's run.

        Raises
        ------
        InferenceTimeoutError, InferenceError, DeviceLostError, ClosedError
            After a timeout the runtime may still be busy with the arrays; later runs wait for it.
        """
        if timeout is not None:
            self._run_within(seconds(timeout))
            return
        with self._lock:
            if self._closed:
                self._check_open()
            self._step(None)

    def _run_within(self, timeout: float) -> None:
        """Run with a deadline. A runtime that keeps deadlines by itself overrides this."""
        self._turn.call_within(self._step_if_open, lambda: None, timeout, self._check_open)

    def _step_if_open(self) -> None:
        if self._closed:  # while this run waited for its turn
            self._check_open()
        self._step(None)

    def _step(self, timeout: float | None) -> None:
        """Run once; a backend whose runtime can share memory overrides this."""
        results = self._run(list(self._inputs.values()), timeout)
        for (name, buffer), result in zip(self._buffers.items(), results, strict=True):
            if buffer.shape == result.shape:
                np.copyto(buffer, result)
            else:
                self._buffers[name] = result
                self._outputs[name] = read_only(result)

    def close(self) -> None:
        """End the Binding. Arrays taken from it stay readable."""
        self._closed = True
        self._turn.stop()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this Binding is closed", "call bind() again")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def allocate(inputs: Sequence[TensorInfo], names: NameIndex, shapes: Any) -> dict[str, Array]:
    """Make the input arrays of a Binding.

    Parameters
    ----------
    inputs : sequence of TensorInfo
    names : NameIndex
        Of `inputs`.
    shapes : mapping of str to sequence of int, or None
        As given to `bind`.

    Raises
    ------
    TensorError
    """
    wanted = _wanted_shapes(names, shapes)
    arrays = {}
    for position, tensor in enumerate(inputs):
        known = (1, *tensor.shape[1:]) if tensor.shape and tensor.shape[0] == -1 else tensor.shape
        shape = wanted.get(position, known)
        if len(shape) != len(tensor.shape) or any(
            n < 0 or w not in (n, -1) for n, w in zip(shape, tensor.shape, strict=True)
        ):
            raise TensorError(
                f"input {tensor.name!r} has shape {list(tensor.shape)}, to be bound as {list(shape)}",
                f"give every dimension shown as -1 in bind(shapes={{{tensor.name!r}: shape}}), and keep the others",
            )
        arrays[tensor.name] = blank(tensor, shape)
    return arrays


def _wanted_shapes(names: NameIndex, shapes: Any) -> dict[int, tuple[int, ...]]:
    wanted: dict[int, tuple[int, ...]] = {}
    if shapes is None:
        return wanted
    if not isinstance(shapes, Mapping):
        raise TensorError(f"bind: shapes is {shapes!r:.60}; wanted {{input name: shape}}")
    for name, shape in shapes.items():
        position = names.find(name)
        if position in wanted:
            raise TensorError(f"bind(shapes=...) gives the same input twice, at last as {name!r}")
        try:
            wanted[position] = tuple(map(operator.index, shape))
        except TypeError as error:
            raise TensorError(
                f"bind: the shape of input {name!r} is {shape!r:.60}; wanted a sequence of whole numbers"
            ) from error
    return wanted


def read_only(array: Array) -> Array:
    """Return a view that cannot be written through."""
    view: Array = array.view()
    view.flags.writeable = False
    return view
