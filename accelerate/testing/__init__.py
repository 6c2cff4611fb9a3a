"""For tests of models and of backends: compare twins of a model, and the conformance suite that every backend keeps.

`BackendConformance`, `Case` and `ROLES` need the extra ``testing``; the rest needs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .comparison import Comparison, OutputDifference, compare
from .inputs import random_inputs

if TYPE_CHECKING:
    from .conformance import ROLES, BackendConformance, Case

__all__ = ["ROLES", "BackendConformance", "Case", "Comparison", "OutputDifference", "compare", "random_inputs"]


def __getattr__(name: str) -> Any:
    if name in ("ROLES", "BackendConformance", "Case"):
        from . import conformance

        return getattr(conformance, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
