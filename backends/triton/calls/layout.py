"""Where the tensors of one call lie: in a shared memory region or in the message, and the request that says so."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate.errors import TensorError
from accelerate.tensors import Array

from ..description import ModelDescription, TensorSpec
from .wire import Place, request_head

__all__ = ["Layout"]

_ALIGNMENT = 64  # a cache line, and more than any vector instruction asks for


class Layout:
    """The layout of a call with inputs of certain shapes.

    Strings have no size before they are written, and an output with a dynamic dimension none before the model has run:
    they travel in the message.

    Parameters
    ----------
    description : ModelDescription
    version : str
        The version to ask for; "" leaves it to the server.
    shapes : sequence of tuple of int
        Of the inputs.

    Attributes
    ----------
    size : int
        Of the region, in bytes; 0 where nothing can be shared.
    head : bytes
        The request without a region.

    Raises
    ------
    TensorError
        The batch is larger than the server takes, or not the same for every input.
    """

    def __init__(self, description: ModelDescription, version: str, shapes: Sequence[tuple[int, ...]]) -> None:
        self._description, self._version, self._shapes = description, version, shapes
        if description.most_at_once:
            self._check_batch(description.most_at_once)
        self.size = 0
        self._inputs = [self._place(t, shape) for t, shape in zip(description.inputs, shapes, strict=True)]
        self._outputs = [self._place(t, self._output_shape(t)) for t in description.outputs]
        self.head = self._request("", shared=False)

    def views(self, memory: Array) -> tuple[list[Array | None], list[Array | None]]:
        """Return the tensors in a region's memory; None for those in the message."""
        every = zip(
            (*self._description.inputs, *self._description.outputs), (*self._inputs, *self._outputs), strict=True
        )
        arrays = [
            None if place is None else memory[place[0] : place[0] + place[1]].view(spec.dtype).reshape(place[2])
            for spec, place in every
        ]
        count = len(self._inputs)
        return arrays[:count], arrays[count:]

    def request(self, region: str) -> bytes:
        """Return the request for tensors in the region of that name."""
        return self._request(region, shared=True)

    def _check_batch(self, most: int) -> None:
        sizes = {shape[0] for shape in self._shapes if shape}
        if len(sizes) != 1 or not 0 < max(sizes) <= most:
            given = ", ".join(
                f"{t.name!r}: {list(s)}" for t, s in zip(self._description.inputs, self._shapes, strict=True)
            )
            raise TensorError(
                f"the inputs have the shapes {given}; wanted one batch, of 1 to {most} (the model's max_batch_size), "
                "as the first dimension of each: split it, or raise max_batch_size on the server"
            )

    def _place(self, spec: TensorSpec, shape: tuple[int, ...] | None) -> tuple[int, int, tuple[int, ...]] | None:
        if shape is None or spec.is_text:
            return None
        offset, size = self.size, spec.size(shape)
        self.size = -(-(offset + size) // _ALIGNMENT) * _ALIGNMENT
        return offset, size, shape

    def _output_shape(self, spec: TensorSpec) -> tuple[int, ...] | None:
        shape = spec.shape
        if self._description.most_at_once and shape[:1] == (-1,):
            shape = (self._shapes[0][0], *shape[1:])
        return None if min(shape, default=0) < 0 else shape

    def _request(self, region: str, *, shared: bool) -> bytes:
        def place(where: tuple[int, int, tuple[int, ...]] | None) -> Place | None:
            return Place(region, where[0], where[1]) if shared and where is not None else None

        d = self._description
        return request_head(
            d.name,
            self._version,
            [
                (t.name, t.datatype, (1,) if t.scalar else shape, place(where))
                for t, shape, where in zip(d.inputs, self._shapes, self._inputs, strict=True)
            ],
            [(t.name, place(where)) for t, where in zip(d.outputs, self._outputs, strict=True)],
        )
