"""Decoder: what makes candidates of a model's outputs, by the layout that these have."""

from __future__ import annotations

import abc
from collections.abc import Mapping

from ..calls.conversion import Array
from .candidates import Candidates
from .layout import Layout

__all__ = ["Decoder"]


class Decoder(abc.ABC):
    """Decodes the outputs of one model whose tensor has one size.

    Parameters
    ----------
    layout : Layout
    size : tuple of int
        (height, width) of the tensor.
    masks : int
        How many coefficients each mask has, 0 for none.

    Attributes
    ----------
    names : tuple of str
        The outputs that are read.
    """

    def __init__(self, layout: Layout, size: tuple[int, int], masks: int) -> None:
        self.layout, self._size, self._masks = layout, size, masks
        self.names = tuple(name for part in layout.outputs for name in layout.names(part))

    @property
    @abc.abstractmethod
    def unsettled(self) -> bool:
        """Whether only values tell something of the layout."""

    @abc.abstractmethod
    def settle(self, outputs: Mapping[str, Array]) -> Layout:
        """Look at the values for what only these tell of the layout, and return the layout that they tell."""

    @abc.abstractmethod
    def decode(self, outputs: Mapping[str, Array], floor: float) -> Candidates:
        """Return the objects whose score is at least `floor`.

        Raises
        ------
        TensorError
            The outputs have other shapes than the layout's.
        """
