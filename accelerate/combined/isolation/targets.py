"""What may be run in a child: a model, or a Binding, with the memory of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...calls.conversion import Array, dtype_of
from ...metadata import TensorInfo
from .frames import run_of
from .memory import Region, new_region
from .placing import Place, fixed_places
from .process import Child

__all__ = ["Target"]

Shapes = Mapping[str, tuple[int, ...]]


class Target:
    """A model or a Binding. `Link` tells a child of it at the first run there.

    Parameters
    ----------
    number : int
        What the child is to call it.
    model : int
        The child's number of the model.
    inputs, outputs : sequence of TensorInfo
    bound : bool
        It is a Binding.
    shapes : mapping of str to tuple of int, or None
        As given to `bind`; in the end those of all bound inputs.

    Attributes
    ----------
    given, taken : list of (int, numpy.ndarray)
        The inputs and outputs that have a place for good, by position.
    loose : list of int
        The other inputs, which are sent with each call.
    whole : bool
        Every output has a place.
    known_to : Child or None
    closed : bool
    """

    def __init__(
        self,
        number: int,
        model: int,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        *,
        bound: bool = False,
        shapes: Any = None,
    ) -> None:
        self.number, self.model = number, model
        self.inputs, self.outputs = inputs, outputs
        self.bound, self.shapes = bound, shapes
        self.given: list[tuple[int, Array]] = []
        self.taken: list[tuple[int, Array]] = []
        self.loose: list[int] = []
        self.whole = False
        self.known_to: Child | None = None
        self.closed = False
        self.run = run_of(number)
        self.region: Region | None = None
        self.places: list[list[Place]] = []

    def settle(self, told: tuple[Shapes, Shapes] | None) -> None:
        """Give the tensors their places, once; `told` are the shapes of the arrays of a child's Binding.

        Raises
        ------
        ValueError
            Another child has told others.
        InferenceError
            There is no memory or no descriptor left.
        """
        if told is not None and self.places:
            if dict(told[0]) != self.shapes:
                raise ValueError(f"a Binding of {told[0]}, wanted {self.shapes}")
            return
        if self.places:
            return
        sides: list[list[tuple[TensorInfo, tuple[int, ...] | None]]]
        if told is None:  # what may be left out is not always there
            sides = [
                [(t, None if t.optional else t.shape) for t in self.inputs],
                [(t, t.shape) for t in self.outputs],
            ]
        else:
            sides = [[(t, shapes.get(t.name)) for t in side] for shapes, side in zip(told, self._sides, strict=True)]
            self.shapes = dict(told[0])
        places, size = fixed_places(sides)
        self.region = region = new_region(size) if size else None
        for infos, found, side in zip(self._sides, (self.given, self.taken), places, strict=True):
            for position, start, shape in side:
                assert region is not None, "what has a place takes some"
                found.append((position, region.array(start, dtype_of(infos[position]), shape)))
        placed = {position for position, _ in self.given}
        there = None if told is None else set(told[0])
        self.loose = [i for i, t in enumerate(self.inputs) if i not in placed and (there is None or t.name in there)]
        self.whole = len(self.taken) == len(self.outputs)
        self.places = places

    @property
    def _sides(self) -> tuple[Sequence[TensorInfo], Sequence[TensorInfo]]:
        return self.inputs, self.outputs

    def give(self, feeds: Sequence[Any]) -> None:
        """Copy the inputs that have a place there."""
        for position, array in self.given:
            np.copyto(array, feeds[position])

    def take(self, left: Mapping[int, Array]) -> list[Array]:
        """Return all outputs as arrays of their own; `left` are those that have no place, or did not fit it."""
        if not left:
            return [array.copy() for _, array in self.taken]
        placed = dict(self.taken)
        return [left[i] if i in left else placed[i].copy() for i in range(len(self.outputs))]

    def close(self) -> None:
        """Let go of the memory; a Binding's arrays stay readable."""
        if self.region is not None:
            self.region.close()
        self.given, self.taken, self.region, self.known_to, self.closed = [], [], None, None, True
