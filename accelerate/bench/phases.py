"""Where a call's time goes: convert, copy in, execute, copy out; for a server also its queue, its own work, the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import AccelerateError
from ..metadata import TensorInfo
from ..model import Model
from ..tensors import Array, InputAdapter, concrete_shape
from .sampling import calls_within, sample

__all__ = ["measure_phases"]

# of a server's statistics; the rest of what a call takes is the network and the client
_SERVER = ("queue", "compute_input", "compute_infer", "compute_output")


def measure_phases(model: Model, feeds: Mapping[str, Array], seconds: float) -> dict[str, Any]:
    """Measure the parts of a call one by one, through a Binding: medians in microseconds.

    Returns
    -------
    dict
        ``convert``: from a camera's uint8 pixels, or float32 values, to the model's dtype; None where the model does
        not say how, or nothing is to be converted. ``copy_in``, ``execute``, ``copy_out``; ``zero_copy``: whether the
        arrays copied into are the runtime's own. For a server ``server``: its own
        parts, and ``network``: the rest, both as means, since a server keeps nothing else.
    """
    share = seconds / 4
    phases: dict[str, Any] = {"convert": _convert(model, share)}
    shapes = {name: array.shape for name, array in feeds.items()}
    dynamic = {t.name: shapes[t.name] for t in model.metadata().inputs if min(t.shape, default=0) < 0}
    with model.bind(dynamic or None) as binding:
        inputs = [(binding.inputs[name], array) for name, array in feeds.items()]

        def copy_in(_: object) -> None:
            for target, array in inputs:
                target[...] = array

        def copy_out(_: object) -> list[Array]:
            return [array.copy() for array in binding.outputs.values()]

        copy_in(None)
        binding.run()
        phases["copy_in"] = _median(copy_in, share)
        before = _server_totals(model)
        executed = _sample(lambda _: binding.run(), share)
        after = _server_totals(model)
        phases["execute"] = float(np.median(executed))
        phases["copy_out"] = _median(copy_out, share)
        phases["zero_copy"] = binding.zero_copy
    if before is not None and after is not None:
        server = {
            name: 1e3 * (after[name][1] - before[name][1]) / max(1, after[name][0] - before[name][0])
            for name in _SERVER
            if name in after and name in before
        }
        phases["server"] = server
        phases["network"] = max(0.0, float(np.mean(executed)) - sum(server.values()))
    return phases


def _sample(call: Callable[[object], object], seconds: float) -> Any:
    """Return microseconds."""
    first = float(np.median(sample(call, None, 3)))
    return np.asarray(sample(call, None, calls_within(seconds, first))) / 1e3


def _median(call: Callable[[object], object], seconds: float) -> float:
    return float(np.median(_sample(call, seconds)))


def _convert(model: Model, seconds: float) -> float | None:
    work: list[tuple[Callable[[Any], Array], Array]] = []
    for info in model.metadata().inputs:
        given = _natural(info)
        if given is None:
            return None
        adapt = InputAdapter(info, lambda info=info: info).fast_path()  # type: ignore[misc]
        try:
            adapt(given)
        except AccelerateError:  # uint8 pixels for a model that does not say how they become its values
            return None
        work.append((adapt, given))

    def convert(_: object) -> None:
        for adapt, given in work:
            adapt(given)

    return _median(convert, seconds)


def _natural(info: TensorInfo) -> Array | None:
    """Return what a program has at hand for an input."""
    shape = concrete_shape(info.shape)
    if info.layout:
        return np.zeros(shape, np.uint8)
    if info.quantization is not None or info.data_type.startswith("float"):
        return np.zeros(shape, np.float32)
    return None


def _server_totals(model: Model) -> dict[str, tuple[int, float]] | None:
    """Return count and total milliseconds of each part that the server has measured so far."""
    try:
        answer = model.do_command({"command": "statistics"})
    except NotImplementedError:
        return None
    totals: dict[str, tuple[int, float]] = {}
    for version in answer["versions"].values():
        for name, part in version.items():
            if isinstance(part, Mapping):
                count, total = totals.get(name, (0, 0.0))
                totals[name] = count + part["count"], total + part["count"] * part["mean_ms"]
    return totals
