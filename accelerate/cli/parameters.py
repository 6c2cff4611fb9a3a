"""The types of options that several commands have."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

__all__ = ["POSITIVE", "load_option", "shape_option"]


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


def _parse_shapes(
    _: click.Context, __: click.Parameter, given: Sequence[str]
) -> Mapping[str, tuple[int, ...]] | tuple[int, ...] | None:
    """Return the `shapes` of `load`: a single one without a name is that of the only input."""
    shapes = {}
    for text in given:
        name, equals, sizes = text.rpartition("=")
        parts = sizes.lower().split("x")
        if not all(part.isascii() and part.isdigit() for part in parts) or (equals and not name):
            raise click.BadParameter(f"{text!r}; wanted NAME=1x3x320x320, or 1x3x320x320 for a model with one input")
        if name in shapes or (len(given) > 1 and not name):
            raise click.BadParameter(f"{text!r}; of several shapes each needs the name of another input")
        shapes[name] = tuple(map(int, parts))
    return shapes.get("", shapes or None)


shape_option = click.option(
    "--shape",
    "shapes",
    metavar="[NAME=]1x3x320x320",
    multiple=True,
    callback=_parse_shapes,
    help="Settle the dynamic dimensions of an input; with one input its name may be left out. Repeatable.",
)


def load_option(elsewhere: Mapping[str, str]) -> Callable[[Any], Any]:
    """Return ``--option``, which takes any argument of `load` but those that have another place in the command."""

    def parse(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for item in given:
            key, equals, text = item.partition("=")
            if not (key and equals):
                raise click.BadParameter(f"{item!r}; wanted KEY=VALUE")
            if key in elsewhere:
                raise click.BadParameter(f"{key} is given by {elsewhere[key]}")
            options[key] = _parse_value(text)
        return options

    return click.option(
        "--option",
        "options",
        metavar="KEY=VALUE",
        multiple=True,
        callback=parse,
        help="Another argument of accelerate.load(), such as dequantize=true; VALUE is JSON, a Python literal or text. "
        "Repeatable.",
    )


def _parse_value(text: str) -> Any:
    """Read JSON, or else what an error message of `load` shows: a Python literal such as ``(127.5, 127.5)``."""
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return parse(text)
    return text
