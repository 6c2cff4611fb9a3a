"""The sizes of dynamic dimensions: settled by `load`, else those that the model was exported for, else assumed."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ..errors import AccelerateError, OptionError
from ..metadata import TensorInfo
from .conversion import concrete_shape, fits, image_layout
from .names import NameIndex, rename

__all__ = ["Shapes", "check_shapes", "default_shape", "exported_for", "naming_sizes", "settle"]

#: Of inputs by any of their names, or of the only input.
Shapes: TypeAlias = "Mapping[str, tuple[int, ...]] | tuple[int, ...]"

# what only a dynamic dimension has
_OF_OPEN_SHAPES = frozenset({"default_shape", "dimensions", "rank"})
_MOST = (1 << 31) - 1  # runtimes count in 32 bits
_LONGEST_SIDE = 1 << 14  # pixels; a larger one in a file is damage, and would take all of the memory


def check_shapes(given: Any) -> Shapes:
    """Return ``load(shapes=...)`` if it has the right form, whatever the names in it.

    Raises
    ------
    OptionError
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {name: _sizes(given, name, shape) for name, shape in given.items()}
    return _sizes(given, "", given)


def _sizes(given: Any, name: object, shape: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, shape))
    except TypeError:
        sizes = (-1,)
    possible = min(sizes, default=0) >= 0 and max(sizes, default=0) <= _MOST
    if not isinstance(name, str) or not possible or (given is shape and not sizes):
        raise OptionError(
            f"shapes is {given!r:.120}; wanted {{input name: shape}}, each a sequence of whole numbers such as "
            "(1, 3, 320, 320), or that alone for a model with one input"
        )
    return sizes


def settle(
    inputs: Sequence[TensorInfo], shapes: Shapes, tensor_names: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[TensorInfo, ...]:
    """Give the inputs the shapes of ``load(shapes=...)``.

    Parameters
    ----------
    inputs : sequence of TensorInfo
    shapes : mapping of str to tuple of int, or tuple of int
        As `LoadOptions` has it.
    tensor_names : mapping, optional
        As `LoadOptions` has it, where the inputs have not been given their names yet.

    Raises
    ------
    OptionError
        No input has such a name, or its rank or one of its fixed sizes is another.
    """
    if not shapes:
        return tuple(inputs)
    named, _ = rename(inputs, (), {"inputs": (tensor_names or {}).get("inputs", {})})
    if not isinstance(shapes, Mapping):
        if len(named) != 1:
            known = ", ".join(repr(t.name) for t in named)
            raise OptionError(
                f"shapes is {list(shapes)} without a name, and the model has {len(named)} inputs: {known}",
                "say whose it is: {name: shape}, on the command line --shape NAME=1x3x320x320",
            )
        shapes = {named[0].name: shapes}
    settled = list(inputs)
    for position, name in NameIndex(named, "input").positions(shapes, "shapes").items():
        shape = shapes[name]
        _check_fit(named[position], shape)
        extra = {key: value for key, value in inputs[position].extra.items() if key not in _OF_OPEN_SHAPES}
        settled[position] = replace(inputs[position], shape=shape, extra=extra)
    return tuple(settled)


def _check_fit(info: TensorInfo, shape: tuple[int, ...]) -> None:
    if "rank" in info.extra or fits(shape, info.shape):
        return
    remedy = "keep its rank, and every size but those shown as -1"
    raise OptionError(
        f"shapes: input {info.name!r} is {info.data_type}{list(info.shape)}, which cannot become {list(shape)}",
        remedy if -1 in info.shape else "leave it out: its shape is fixed",
    )


def default_shape(info: TensorInfo) -> tuple[int, ...]:
    """Return the shape to run an input with where nobody gives one.

    A dynamic dimension has the size that the model was exported for (``extra["default_shape"]``), else 1.
    """
    usual = info.extra.get("default_shape", ())
    if len(usual) != len(info.shape):
        return concrete_shape(info.shape)
    return tuple(n if n >= 0 else max(1, size) for n, size in zip(info.shape, usual, strict=True))


def exported_for(inputs: Sequence[TensorInfo], imgsz: object) -> tuple[TensorInfo, ...]:
    """Note with dynamic images the size that their exporter names.

    Parameters
    ----------
    inputs : sequence of TensorInfo
    imgsz : object
        Ultralytics' property of this name: (height, width), or one number for both, also as text; None without one.
    """
    sides = _sides(imgsz)
    return tuple(inputs if sides is None else (_exported_for(info, sides) for info in inputs))


def _exported_for(info: TensorInfo, sides: Mapping[str, int]) -> TensorInfo:
    layout = info.layout or image_layout(info.shape)
    if len(layout) != len(info.shape) or min(info.shape, default=0) >= 0:
        return info
    usual = zip(layout, info.shape, default_shape(info), strict=True)
    shape = tuple(n if n >= 0 else sides.get(axis, size) for axis, n, size in usual)
    return replace(info, extra={**info.extra, "default_shape": shape})


def _sides(imgsz: object) -> Mapping[str, int] | None:
    if isinstance(imgsz, str):
        import re

        imgsz = [int(digits) for digits in re.findall(r"\d{1,9}", imgsz)]
    sizes: list[Any] = list(imgsz) if isinstance(imgsz, (list, tuple)) else [imgsz]
    sizes = sizes * 2 if len(sizes) == 1 else sizes
    if len(sizes) != 2 or not all(isinstance(n, int) and 1 <= n <= _LONGEST_SIDE for n in sizes):
        return None
    return {"H": sizes[0], "W": sizes[1]}


def naming_sizes(error: AccelerateError, runs: Iterable[tuple[TensorInfo, Sequence[int]]]) -> AccelerateError:
    """Return the error of a run with a remedy that names the sizes which nobody has given.

    Parameters
    ----------
    error : AccelerateError
    runs : iterable of (TensorInfo, shape)
        The inputs, and the shapes that they were run with.
    """
    assumed = [(info, shape) for info, shape in runs if min(info.shape, default=0) < 0]
    if not assumed:
        return error
    ran = ", ".join(f"{info.name!r} {list(info.shape)} was run as {list(shape)}" for info, shape in assumed)
    wanted = ", ".join(f"{info.name!r}: (...)" for info, _ in assumed)
    advice = (
        f"the model may not take this size, which nobody has settled: input {ran}; settle another by "
        f"load(..., shapes={{{wanted}}})"
    )
    return error.with_remedy("; ".join(filter(None, (error.remedy, advice))))
