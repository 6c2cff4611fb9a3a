"""The types of options that several commands have."""

from __future__ import annotations

import math
from typing import Any

import click

__all__ = ["POSITIVE"]


class _Positive(click.FloatRange):
    """A finite number above 0; click's own range lets nan through, which is neither in a range nor outside."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r}; wanted a finite number above 0", param, ctx)
        return number


POSITIVE = _Positive()
