"""Damages models where a reader of files finds nothing wrong: fields get other values, and the file stays well formed.

`mutation` changes bytes, most of which a format's own checks find. Here a number of a parsed model becomes another
plausible one, an element of a list is left out, doubled or put elsewhere, and a name is taken from somebody else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

__all__ = ["onnx_mutant", "tflite_mutant"]

#: A place in a model: what stands there, and what puts something else there.
_Slot = tuple[Any, Callable[[Any], None]]
_NUMBERS = (-2, -1, 0, 1, 2, 3, 4, 7, 8, 16, 64, 127, 128, 255, 256, 1000, 1 << 15, 1 << 20, (1 << 31) - 1)


def tflite_mutant(seed: int, bases: Sequence[Callable[[], bytes]]) -> bytes:
    """Change some fields of a sound .tflite model, by its schema."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    choose = random.Random(seed)
    data = choose.choice(bases)()
    while True:  # until what comes out can be written at all
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))
        slots = list(_of_object(model))
        for _ in range(choose.choice((1, 1, 1, 2, 3))):
            value, put = choose.choice(slots)
            put(_changed(value, choose, [other for other, _ in slots if isinstance(other, bytes)]))
        builder = flatbuffers.Builder(len(data) * 2)
        try:
            builder.Finish(model.Pack(builder), b"TFL3")
        except Exception:
            continue
        return bytes(builder.Output())


def onnx_mutant(seed: int, bases: Sequence[Callable[[], bytes]]) -> bytes:
    """Change some fields of a sound .onnx model, by its messages."""
    import onnx

    choose = random.Random(seed)
    data = choose.choice(bases)()
    while True:
        model = onnx.ModelProto.FromString(data)
        slots = list(_of_message(model))
        try:
            for _ in range(choose.choice((1, 1, 1, 2, 3))):
                value, put = choose.choice(slots)
                put(_changed(value, choose, [other for other, _ in slots if isinstance(other, (str, bytes))]))
            return bytes(model.SerializeToString())
        except (ValueError, TypeError, IndexError):
            continue


def _of_object(thing: Any) -> Iterator[_Slot]:
    """Yield the places of a tree that the schema's generated code has read; weights are left as they are."""
    for name, value in vars(thing).items():
        if name in ("data", "metadataBuffer", "description") or value is None:
            continue
        put = partial(setattr, thing, name)
        if isinstance(value, (bool, int, float, bytes)):
            yield value, put
        elif isinstance(value, (list, np.ndarray)):
            yield list(value), put
            for number, item in enumerate(value):
                if hasattr(item, "__dict__"):
                    yield from _of_object(item)
                elif number < 16:
                    yield item, partial(_put_within, put, value, number)
        elif hasattr(value, "__dict__"):
            yield from _of_object(value)


def _of_message(message: Any) -> Iterator[_Slot]:
    for field, value in message.ListFields():
        if field.name in ("raw_data", "doc_string", "metadata_props"):
            continue
        if not field.is_repeated:
            if field.message_type is not None:
                yield from _of_message(value)
            else:
                yield value, partial(setattr, message, field.name)
            continue
        yield list(value), partial(_refill, message, field.name)
        for number, item in enumerate(value):
            if field.message_type is not None:
                yield from _of_message(item)
            elif number < 16:
                yield item, partial(value.__setitem__, number)


def _refill(message: Any, name: str, new: Sequence[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) if hasattr(item, "ListFields") else item for item in new]
    message.ClearField(name)
    getattr(message, name).extend(copies)


def _put_within(put: Callable[[Any], None], values: Any, number: int, new: Any) -> None:
    changed = list(values)
    changed[number] = new
    put(changed)


def _changed(value: Any, choose: random.Random, texts: Sequence[Any]) -> Any:
    """Return another value of the kind that stands somewhere."""
    if isinstance(value, (bool, np.bool_)):
        return not value
    if isinstance(value, (int, np.integer)):
        return choose.choice((int(value) + 1, int(value) - 1, 2 * int(value), *choose.choices(_NUMBERS, k=3)))
    if isinstance(value, (float, np.floating)):
        return choose.choice((0.0, -float(value), float(value) * 1e6, float("nan"), float("inf"), 1e-30))
    if isinstance(value, (str, bytes)):
        return choose.choice([type(value)(), *(text for text in texts if type(text) is type(value))])
    values = list(value)
    if not values:
        return values
    at, other = choose.randrange(len(values)), choose.randrange(len(values))
    change = choose.randrange(4)
    if change == 0:
        del values[at]
    elif change == 1:
        values.insert(other, values[at])
    elif change == 2:
        values[at], values[other] = values[other], values[at]
    else:
        values = values[:at]
    return values
