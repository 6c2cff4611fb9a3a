"""From a frame to the answer: what a program waits for, beside the model's own part of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from time import perf_counter_ns
from typing import Any

import numpy as np

from ..calls.conversion import Array
from ..calls.pixels import AssumptionWarning
from ..errors import OptionError
from ..model import Model
from ..vision import task_for
from .statistics import summarize
from .verdicts import kind_of

__all__ = ["measure_frames", "noise"]

_WARMUP, _MOST = 3, 100_000


def noise(seed: int) -> Array:
    """Return a frame of a camera that shows noise: uint8 (720, 1280, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (720, 1280, 3), np.uint8)


def measure_frames(
    model: Model, frames: Sequence[Array], feeds: Mapping[str, Array], seconds: float
) -> dict[str, Any] | None:
    """Measure a task on frames that are in memory, in turn with `infer` on the model's own tensors.

    Returns
    -------
    dict or None
        ``latency_us``: from the frame to the decoded answer; ``infer_us``: of `infer` alone; ``sizes``: of the frames;
        ``kind``: what is decoded. None for a model of which nothing tells what its outputs say of a frame.
    """
    try:
        task: Any = task_for(model)
    except OptionError:
        return None
    whole: list[int] = []
    alone: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)  # of no account for how long it takes
        for frame in (*frames, *[frames[0]] * _WARMUP):
            task(frame)
        until = perf_counter_ns() + int(seconds * 1e9)
        for frame in cycle(frames):
            began = perf_counter_ns()
            task(frame)
            between = perf_counter_ns()
            model.infer(feeds)
            ended = perf_counter_ns()
            whole.append(between - began)
            alone.append(ended - between)
            if ended > until or len(whole) >= _MOST:
                break
    return {
        "kind": kind_of(task),
        "sizes": sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames}),
        "latency_us": summarize(np.array(whole) / 1e3),
        "infer_us": summarize(np.array(alone) / 1e3),
    }
