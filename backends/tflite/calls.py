"""The calls of a TFLite interpreter that a model makes, for ours and for a user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accelerate.contract import Array, record

__all__ = ["ENGINE_ERRORS", "Calls", "own_array", "runner"]

#: What both engines raise for whatever goes wrong.
ENGINE_ERRORS = (ValueError, RuntimeError)


@record(frozen=True)
class Calls:
    """The interpreter's calls for one subgraph.

    An interpreter of ours is called through its native wrapper: the public methods reach subgraph 0 only, and count
    references before each run to see whether anybody holds a view. `view` gives a tensor's own memory as an array that
    keeps the interpreter alive, or None where that cannot be had; `placed` tells whether there is such memory. A user's
    interpreter is called through the public methods, since holding its wrapper here would make that count refuse the
    user's own calls.
    """

    set: Callable[[int, Array], None]
    invoke: Callable[[], None]
    get: Callable[[int], Any]
    resize: Callable[[int, Array], None]
    allocate: Callable[[], None]
    details: Callable[[int], dict[str, Any]]
    shape: Callable[[int], tuple[int, ...]]
    view: Callable[[int], Array | None]
    placed: Callable[[int], bool]

    @classmethod
    def of_ours(cls, interpreter: Any, subgraph: int) -> Calls:
        """Return the calls of an interpreter that nobody else uses."""
        native = interpreter._interpreter

        def details(index: int) -> dict[str, Any]:
            found: dict[str, Any] = interpreter._get_tensor_details(index, subgraph)
            return found

        def shape(index: int) -> tuple[int, ...]:
            return tuple(native.TensorSize(index, subgraph).tolist())

        def memory(index: int) -> Any:
            if np.dtype(details(index)["dtype"]).kind == "S":  # asking for a string's memory crashes the engines
                return None
            try:
                return native.tensor(interpreter, index, subgraph)
            except ValueError:  # it is empty, or has no place before the first run
                return None

        def view(index: int) -> Array | None:
            found = memory(index)
            return found if isinstance(found, np.ndarray) else None  # of a scalar there are only copies

        def placed(index: int) -> bool:
            return memory(index) is not None

        if subgraph == 0:  # leaving the argument out is faster
            return cls(
                native.SetTensor, native.Invoke, native.GetTensor,
                lambda i, shape: native.ResizeInputTensor(i, shape, False), native.AllocateTensors, details, shape,
                view, placed,
            )  # fmt: skip
        return cls(
            lambda i, value: native.SetTensor(i, value, subgraph),
            lambda: native.Invoke(subgraph),
            lambda i: native.GetTensor(i, subgraph),
            lambda i, shape: native.ResizeInputTensor(i, shape, False, subgraph),
            lambda: native.AllocateTensors(subgraph),
            details,
            shape,
            view,
            placed,
        )

    @classmethod
    def of_users(cls, interpreter: Any, subgraph: int = 0) -> Calls:
        """Return the calls of an interpreter that its owner may use, too."""

        def details(index: int) -> dict[str, Any]:
            found: dict[str, Any] = interpreter._get_tensor_details(index, subgraph)
            return found

        def shape(index: int) -> tuple[int, ...]:
            return tuple(interpreter._interpreter.TensorSize(index, subgraph).tolist())

        if subgraph == 0:
            return cls(
                interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor,
                interpreter.resize_tensor_input, interpreter.allocate_tensors, details, shape, lambda _: None,
                lambda _: False,
            )  # fmt: skip

        return cls(  # the public methods reach the main graph only; the wrapper is let go after each call
            lambda i, value: interpreter._interpreter.SetTensor(i, value, subgraph),
            lambda: interpreter._interpreter.Invoke(subgraph),
            lambda i: interpreter._interpreter.GetTensor(i, subgraph),
            lambda i, shape: interpreter._interpreter.ResizeInputTensor(i, shape, False, subgraph),
            lambda: interpreter._interpreter.AllocateTensors(subgraph),
            details,
            shape,
            lambda _: None,
            lambda _: False,
        )


def runner(
    calls: Calls, inputs: Sequence[int], outputs: Sequence[int], *, plain: bool
) -> Callable[[list[Array]], list[Array]]:
    """Return a function that copies the inputs in, runs and copies the outputs out.

    A small model runs for less than a microsecond, so what can be settled once is settled here.
    """
    set_tensor, invoke = calls.set, calls.invoke
    get: Callable[[int], Any] = calls.get if plain else lambda index: own_array(calls, index)
    numbered = tuple(enumerate(inputs))  # twice as fast as a strict zip

    def run(feeds: list[Array]) -> list[Array]:
        for position, index in numbered:
            set_tensor(index, feeds[position])
        invoke()
        results = []
        try:
            for index in outputs:
                results.append(get(index))  # noqa: PERF401 - a comprehension costs as much as a copy
        except ValueError:  # an output that is declared with a fixed shape has come out empty: older converters
            return [own_array(calls, index) for index in outputs]
        return results

    return run


def own_array(calls: Calls, index: int) -> Array:
    """Read an output of any shape: the engines refuse to copy out an empty tensor and give scalars without an array."""
    shape = calls.shape(index)
    if 0 in shape:
        dtype = np.dtype(calls.details(index)["dtype"])
        return np.empty(shape, object if dtype.kind == "S" else dtype)
    return np.array(calls.get(index)) if not shape else np.asarray(calls.get(index))
