"""Binding: input arrays to write into and output arrays to read from, call after call."""

from __future__ import annotations

import abc
import operator
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import AccelerateError, InferenceTimeoutError, OptionError, TensorError
from ..metadata import TensorInfo
from .conversion import Array, blank, dtype_of, fits
from .deadlines import Turn, in_words, left, refuse_reentry, seconds
from .forks import keep_in_children
from .names import NameIndex
from .shapes import default_shape

if TYPE_CHECKING:
    from typing_extensions import Never, Self

__all__ = ["Binding", "CopyingBinding", "Owner", "allocate", "read_only"]


class Owner(Protocol):
    """The model that a Binding belongs to."""

    turn: Turn
    inputs: tuple[TensorInfo, ...]

    def translate(self, error: Exception) -> AccelerateError:
        """Return the error for what the runtime has raised."""


class Binding(abc.ABC):
    """The buffers of one caller; no other call on the model changes them.

    A backend whose runtime can share memory implements `step`, which runs on the very arrays.

    Parameters
    ----------
    owner : RuntimeModel
        Once it is closed, the Binding runs no more.
    inputs, outputs : dict of str to numpy.ndarray
        By canonical name. `step` may put other outputs in the place of these by `replace_output`.
    zero_copy : bool

    Attributes
    ----------
    zero_copy : bool
        Whether every array is the very memory that the runtime reads or writes.
    """

    def __init__(self, owner: Owner, inputs: dict[str, Array], outputs: dict[str, Array], *, zero_copy: bool) -> None:
        self.zero_copy = zero_copy
        self._owner = owner
        self._owners_turn = owner.turn
        self._inputs = inputs
        self._outputs = {name: read_only(array) for name, array in outputs.items()}
        self._turn = Turn("this Binding", "call bind() again")
        self._lock = self._turn.lock
        keep_in_children(self)

    def forked(self) -> None:
        """In a forked child: another thread's run will never end here."""
        self._turn.forked()
        self._lock = self._turn.lock

    @abc.abstractmethod
    def step(self) -> None:
        """Run once on what the inputs hold; nobody else runs this Binding meanwhile.

        What the runtime raises becomes ours by the model's `translate`.
        """

    def cancellable(self) -> tuple[Callable[[], None], Callable[[], None] | None]:
        """Return `step` as a call for another thread, and what asks that call to end early, None for nothing."""
        return self.step, None

    def step_within(self, timeout: float) -> None:
        """Run with a deadline. A runtime that keeps deadlines by itself overrides this."""
        step, cancel = self.cancellable()

        def run() -> None:
            self.check_open()  # it may have been closed while this run waited for its turn
            step()

        self._turn.call_within(run, cancel, timeout)

    def replace_output(self, name: str, array: Array) -> None:
        """Show another array from now on."""
        self._outputs[name] = read_only(array)

    def check_open(self) -> None:
        """Raise ClosedError where this Binding or its model is closed."""
        self._turn.check_open()
        self._owners_turn.check_open()

    @property
    def inputs(self) -> Mapping[str, Array]:
        """Writable arrays by canonical name; what they hold at `run` is what the model gets."""
        self._turn.check_open()
        return MappingProxyType(self._inputs)

    @property
    def outputs(self) -> Mapping[str, Array]:
        """Read-only arrays by canonical name, valid until the next `run`."""
        self._turn.check_open()
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
        try:
            if timeout is not None:
                self.step_within(seconds(timeout))
                return
            lock = self._lock
            if lock._is_owned():  # type: ignore[attr-defined]
                refuse_reentry()
            try:  # not `with`: see Turn.lock
                lock.acquire()
                if self._turn.closed or self._owners_turn.closed:
                    self.check_open()
                self.step()
            finally:
                try:  # noqa: SIM105
                    lock.release()
                except RuntimeError:  # it was not ours yet
                    pass
        except AccelerateError:
            raise
        except Exception as error:
            raise self._owner.translate(error) from error

    def __reduce__(self) -> Never:
        raise OptionError(
            "a Binding cannot be pickled or copied: its arrays are memory of this process",
            "pickle the model, and call bind() where it arrives",
        )

    def close(self) -> None:
        """End the Binding. Arrays taken from it stay readable."""
        self._turn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CopyingBinding(Binding):
    """A Binding that copies from and to a model that cannot share memory.

    Parameters
    ----------
    owner : RuntimeModel
    run : callable
        Takes the input arrays and a timeout, returns the output arrays.
    inputs : dict of str to numpy.ndarray
    outputs : sequence of TensorInfo
    """

    def __init__(
        self,
        owner: Owner,
        run: Callable[[list[Array], float | None], list[Array]],
        inputs: dict[str, Array],
        outputs: Sequence[TensorInfo],
    ) -> None:
        self._feeds: list[Any] = [inputs.get(t.name) for t in owner.inputs]  # None for an optional one left out
        # a dynamic dimension is unknown until the first run
        self._buffers = {t.name: np.zeros([max(n, 0) for n in t.shape], dtype_of(t)) for t in outputs}
        self._call = run
        super().__init__(owner, inputs, self._buffers, zero_copy=False)

    def step(self) -> None:  # noqa: D102
        self.call(None)

    def step_within(self, timeout: float) -> None:  # noqa: D102
        # the model keeps the deadline, cancels the call, and has it end before the program does
        until = monotonic() + timeout
        lock = self._lock
        if lock._is_owned():  # type: ignore[attr-defined]
            refuse_reentry()
        try:  # not `with`: see Turn.lock
            if not lock.acquire(timeout=timeout):
                raise InferenceTimeoutError(
                    f"no answer within {in_words(timeout)}: another thread ran this Binding all that time",
                    "give a longer timeout, or each thread a Binding of its own",
                )
            self.check_open()
            self.call(left(until))
        finally:
            try:  # noqa: SIM105
                lock.release()
            except RuntimeError:  # it was not ours yet, or never
                pass

    def call(self, timeout: float | None) -> None:
        """Run once, with a deadline in seconds."""
        self.take(self._call(self._feeds, timeout))

    def take(self, results: Sequence[Array]) -> None:
        """Copy the results of a run into the outputs."""
        for (name, buffer), result in zip(self._buffers.items(), results, strict=True):
            if buffer.shape == result.shape:
                np.copyto(buffer, result)
            else:
                self._buffers[name] = result
                self.replace_output(name, result)


def allocate(inputs: Sequence[TensorInfo], names: NameIndex, shapes: Any) -> dict[str, Array]:
    """Make the input arrays of a Binding; an optional input has one only where `shapes` names it.

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
        if tensor.optional and position not in wanted:
            continue
        known = (1, *tensor.shape[1:]) if tensor.shape and tensor.shape[0] == -1 else tensor.shape
        if "default_shape" in tensor.extra:
            known = default_shape(tensor)
        shape = wanted.get(position, known)
        of_any_rank = "rank" in tensor.extra
        if min(shape, default=0) < 0 or not (of_any_rank or fits(shape, tensor.shape)):
            raise TensorError(
                f"input {tensor.name!r} has shape {list(tensor.shape)}, to be bound as {list(shape)}",
                f"give every dimension shown as -1 in bind(shapes={{{tensor.name!r}: shape}}), or once for all in "
                "load(..., shapes=), and keep the others",
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
            if max(wanted[position], default=0) >= 1 << 31:
                raise ValueError("runtimes count in 32 bits")  # noqa: TRY301
        except (TypeError, ValueError) as error:
            raise TensorError(
                f"bind: the shape of input {name!r} is {shape!r:.60}; wanted a sequence of whole numbers"
            ) from error
    return wanted


def read_only(array: Array) -> Array:
    """Return a view that cannot be written through."""
    view: Array = array.view()
    view.flags.writeable = False
    return view
