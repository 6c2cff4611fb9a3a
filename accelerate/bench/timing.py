"""Times the calls of a model: single ones at a cost far below theirs, their parts, many at once or at a fixed rate."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from time import perf_counter_ns, sleep
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calls.conversion import Array, InputAdapter, concrete_shape
from ..errors import AccelerateError
from ..metadata import TensorInfo
from ..model import Model
from .statistics import summarize

__all__ = [
    "at_rate",
    "calls_within",
    "is_steady",
    "measure_phases",
    "own_cost_us",
    "sample",
    "throughput",
    "without_collector",
]

Nanoseconds = npt.NDArray[np.int64]

_WINDOWS, _STEADY_WITHIN = 3, 0.05
_MOST_CALLS = 100_000  # in one block: what is kept of them until the block ends takes memory
# a sleeping thread wakes up to 0.1 ms late, which would count as the device's latency: the rest of the wait is a loop
_AWAKE_NS = 500_000


def sample(call: Callable[[Any], object], argument: Any, calls: int) -> Nanoseconds:
    """Call so many times, one after the other, and return what each call took, in nanoseconds.

    The clock is read once a call: one call's end is the next one's start, so that everything but the loop itself is
    measured, and nothing twice.
    """
    clock = perf_counter_ns
    ends = [clock()]
    mark = ends.append
    for _ in repeat(None, calls):
        call(argument)
        mark(clock())
    taken: Nanoseconds = np.diff(np.array(ends, np.int64)).astype(np.int64, copy=False)
    return taken


def own_cost_us() -> float:
    """Return what `sample` adds to a call, in microseconds: the loop around a function that does nothing.

    That function's own call is in it, too, so that the true cost is lower.
    """

    def nothing(_: object) -> None:
        pass

    return float(np.median(sample(nothing, None, 20_000))) / 1e3


def calls_within(seconds: float, call_ns: float) -> int:
    """Return how many calls fit into a time, at least one."""
    return max(1, min(_MOST_CALLS, int(seconds * 1e9 / max(call_ns, 1.0))))


def is_steady(medians: Sequence[float]) -> bool:
    """Return whether the last three windows' medians lie within 5 % of each other."""
    last = medians[-_WINDOWS:]
    return len(last) == _WINDOWS and max(last) <= min(last) * (1 + _STEADY_WITHIN)


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep Python's garbage collector from running inside a measured call of whoever happens to have its turn."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# The parts of a call


def measure_phases(model: Model, feeds: Mapping[str, Array], seconds: float) -> dict[str, Any]:
    """Measure the parts of a call one by one, through a Binding: medians in microseconds.

    Returns
    -------
    dict
        ``convert``: from a camera's uint8 pixels, or float32 values, to the model's dtype; None where the model does
        not say how, or nothing is to be converted. ``copy_in``, ``execute``, ``copy_out``; ``zero_copy``: whether the
        arrays copied into are the runtime's own. Where the runtime measures parts of ``execute`` itself (a server, say)
        ``inside``: those parts, and ``outside``: the rest, both as means.
    """
    share = seconds / 4
    phases: dict[str, Any] = {"convert": _convert(model, share)}
    shapes = {name: array.shape for name, array in feeds.items()}
    dynamic = {t.name: shapes[t.name] for t in model.metadata().required_inputs if min(t.shape, default=0) < 0}
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
        before = model.phases()
        executed = _sample(lambda _: binding.run(), share)
        after = model.phases()
        phases["execute"] = float(np.median(executed))
        phases["copy_out"] = _median(copy_out, share)
        phases["zero_copy"] = binding.zero_copy
    if before is not None and after is not None:
        phases["inside"] = {
            name: 1e3 * (total - before[name][1]) / max(1, count - before[name][0])
            for name, (count, total) in after.items()
            if name in before
        }
        phases["outside"] = max(0.0, float(np.mean(executed)) - sum(phases["inside"].values()))
    return phases


def _sample(call: Callable[[object], object], seconds: float) -> Any:
    """Return microseconds."""
    first = float(np.median(sample(call, None, 3)))
    return np.asarray(sample(call, None, calls_within(seconds, first))) / 1e3


def _median(call: Callable[[object], object], seconds: float) -> float:
    return float(np.median(_sample(call, seconds)))


def _convert(model: Model, seconds: float) -> float | None:
    work: list[tuple[Callable[[Any], Array], Array]] = []
    for info in model.metadata().required_inputs:
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


# Under load


def throughput(load: Callable[..., Model], feeds: Any, callers: int, seconds: float) -> dict[str, Any]:
    """Let so many threads call as fast as they can, on as many replicas of the model.

    Returns
    -------
    dict
        ``callers``, ``per_second``: answers of all of them together, ``latency_us``: what each of them waited.
    """
    with load(replicas=callers) if callers > 1 else load() as model:
        start, stop = threading.Barrier(callers + 1), threading.Event()
        ends: list[list[int]] = [[] for _ in range(callers)]
        failures: list[Exception] = []

        def call(own: list[int]) -> None:
            infer, clock, stopped = model.infer, perf_counter_ns, stop.is_set
            start.wait()
            own.append(clock())
            try:
                while not stopped():
                    infer(feeds)
                    own.append(clock())
            except Exception as error:  # raised in the thread that asked
                failures.append(error)

        threads = [threading.Thread(target=call, args=(own,), daemon=True) for own in ends]
        for thread in threads:
            thread.start()
        start.wait()
        sleep(seconds / 3)  # the replicas' first calls
        began = perf_counter_ns()
        sleep(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        # up to the last answer: where a call takes long, the calls that ran at the bell count with all their time
        took = (max(own[-1] for own in ends if own) - began) / 1e9
    if failures:
        raise failures[0]
    latencies = np.concatenate([np.diff(own)[np.array(own[1:]) > began] for own in ends]) / 1e3
    return {"callers": callers, "per_second": len(latencies) / took, "latency_us": summarize(latencies)}


def at_rate(call: Callable[[Any], object], feeds: Any, rate: float, seconds: float) -> dict[str, Any]:
    """Call at scheduled times, `rate` a second, and count latency from the time at which a call was due.

    A caller that waits for one answer before it asks again leaves out just those requests that a slow answer would have
    kept waiting (Gil Tene's "coordinated omission"). Here they are made late, and their wait counts.

    Returns
    -------
    dict
        ``rate``: as wanted, ``per_second``: as answered, ``latency_us``: from the scheduled time, ``service_us``: of
        the calls alone, ``kept_up``: whether the last tenth was no later than a period behind its time, ``behind_ms``.
    """
    count = max(1, round(rate * seconds))
    period = 1e9 / rate
    latency, service = np.empty(count), np.empty(count)
    begin = perf_counter_ns() + 1_000_000
    starts_late = np.empty(count)
    for i in range(count):
        due = begin + round(i * period)
        _wait_until(due)
        started = perf_counter_ns()
        call(feeds)
        ended = perf_counter_ns()
        latency[i], service[i], starts_late[i] = ended - due, ended - started, started - due
    took = (perf_counter_ns() - begin) / 1e9
    behind = float(np.median(starts_late[-max(1, count // 10) :]))
    return {
        "rate": rate,
        "per_second": count / took,
        "latency_us": summarize(latency / 1e3),
        "service_us": summarize(service / 1e3),
        "kept_up": behind <= period,
        "behind_ms": behind / 1e6,
    }


def _wait_until(due: int) -> None:
    left = due - perf_counter_ns()
    if left > _AWAKE_NS:
        sleep((left - _AWAKE_NS) / 1e9)
    while perf_counter_ns() < due:
        pass
