"""Streams many inputs through a model."""

from __future__ import annotations

import collections
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from os import PathLike
from typing import Any, Protocol

import numpy as np

from .arguments import whole_number
from .calls.conversion import fits
from .calls.deadlines import Job, Worker
from .errors import AccelerateError, OptionError
from .model import Model

__all__ = ["map"]


class Task(Protocol):
    """What makes more of a frame than a model's outputs, such as a `vision.Detector`."""

    model: Model | None

    def __call__(self, frame: Any, *, color: str = "RGB", timeout: float | None = None) -> Any: ...


def map(
    model: Model | Task | Sequence[Model | Task],
    frames: Iterable[Any],
    *,
    in_flight: int | None = None,
    progress: bool = False,
    resize: str = "stretch",
    resample: str = "bilinear",
    color: str = "RGB",
    anchor: str = "center",
    fill: int | Sequence[int] = 0,
) -> Iterator[Any]:
    """Run a model, or what makes more of its outputs, on many inputs, in order.

    Pictures are decoded and resized, the model is run and its outputs are decoded side by side: as many items at a time
    as the model has replicas, and one more.

    Parameters
    ----------
    model : Model, vision task, or sequence of them
        A vision task is a `vision.Detector` or alike. Of several, such as one model on each of two devices, each takes
        the next item when it is free.
    frames : iterable
        Each item is what `Model.infer` takes, or, for a model whose one input is an image, a frame for
        `Model.infer_image`: a path, a Pillow image, a picture's bytes, or a uint8 array that does not have the tensor's
        shape already or that `color` says something of. For a vision task it is a frame of any size. It is asked for
        the next item only when there is room for it; what it raises comes after the results of the items before.
    in_flight : int, optional
        How many items are in work at a time, those that wait for the consumer included; default: twice as many as the
        models run side by side, and two more.
    progress : bool
        Show a progress bar (needs the extra ``cli``).
    color : str
        What frames hold, as for `accelerate.image.to_tensor`.
    resize, resample, anchor, fill
        For frames of a model, as for `accelerate.image.to_tensor`. A vision task has its own.

    Yields
    ------
    dict of str to numpy.ndarray, the task's results, or Exception
        The outputs of each item, or what went wrong with it: one failure does not lose the others.

    Raises
    ------
    OptionError
    """
    several = isinstance(model, Iterable) and not (isinstance(model, Model) or callable(model))
    given: Any = model if several else [model]
    if isinstance(frames, (str, bytes, PathLike)) or not isinstance(frames, Iterable):
        raise OptionError(f"map() was given the frames {frames!r:.60}; wanted several", "for one give [frame]")
    runners = [_Runner(one) for one in given]
    if not runners:
        raise OptionError("there is no model to map", "give one, or several")
    # one is converted while others run; as many wait for the consumer, whose pauses leave no thread without work then
    own = 2 * (sum(one.concurrency for one in runners) + 1)
    limit = own if in_flight is None else whole_number("in_flight", in_flight)
    ways = {"resize": resize, "resample": resample, "color": color, "anchor": anchor, "fill": fill}
    for one in runners:
        one.check(ways)
    results = _in_order(runners, frames, limit, ways)
    return _with_progress(results, frames) if progress else results


_USUAL = {"resize": "stretch", "resample": "bilinear", "anchor": "center", "fill": 0}


class _Runner:
    """A model, or a task and its model."""

    def __init__(self, given: Any) -> None:
        self.task: Any = None if isinstance(given, Model) else given
        found = given if isinstance(given, Model) else getattr(given, "model", None)
        if not isinstance(found, Model) or not (isinstance(given, Model) or callable(given)):
            raise OptionError(
                f"map() was given {type(given).__name__} {given!r:.60}; wanted a model, a vision task that has one, or "
                "several"
            )
        self.model: Model = found

    @property
    def concurrency(self) -> int:
        return self.model.concurrency

    @property
    def threads(self) -> int:
        """One more than the model runs side by side, to convert the next item meanwhile.

        One with state is called in order, which callers that wait for each other do not keep.
        """
        try:
            stateful = self.model.metadata().stateful
        except AccelerateError:  # of a closed model, for one: it is the outcome of each item
            stateful = False
        return 1 if stateful else self.model.concurrency + 1

    def check(self, ways: Mapping[str, Any]) -> None:
        """Refuse what a task would not heed, and let it say what it assumes."""
        said = [name for name, usual in _USUAL.items() if ways[name] != usual]
        if self.task is not None and said:
            raise OptionError(
                f"map() was given {', '.join(said)}, and a {type(self.task).__name__}, which prepares frames by itself",
                f"give {said[0]} to the {type(self.task).__name__}",
            )
        if (announce := getattr(self.task, "announce", None)) is not None:
            announce()  # here, for in a thread nothing would lead to the caller

    def run(self, item: Any, ways: Mapping[str, Any]) -> Any:
        if self.task is not None:
            return self.task(item, color=ways["color"], timeout=self.model.patience)
        if _is_frame(item, self.model, ways["color"]):
            return self.model.infer_image(item, timeout=self.model.patience, **ways)
        return self.model.infer(item, timeout=self.model.patience)


def _in_order(runners: Sequence[_Runner], frames: Iterable[Any], limit: int, ways: Mapping[str, Any]) -> Iterator[Any]:
    free: queue.SimpleQueue[_Runner] = queue.SimpleQueue()
    for place in range(max(one.threads for one in runners)):
        for one in runners:
            if place < one.threads:
                free.put(one)
    worker = Worker(threads=min(limit, free.qsize()))
    waiting: collections.deque[Job] = collections.deque()
    items = iter(frames)
    failure: BaseException | None = None
    while True:
        try:
            frame = next(items)
        except StopIteration:
            break
        except Exception as error:  # of the caller's own iterable, raised behind the results of what came before
            failure = error
            break
        job = Job(_call_for(free, frame, ways))
        worker.submit(job)
        waiting.append(job)
        if len(waiting) >= limit:
            yield _outcome(waiting.popleft())
    while waiting:
        yield _outcome(waiting.popleft())
    if failure is not None:
        raise failure


def _call_for(free: queue.SimpleQueue[_Runner], item: Any, ways: Mapping[str, Any]) -> Callable[[], Any]:
    def call() -> Any:  # whatever fails in it is the outcome of this one item
        runner = free.get()
        try:
            return runner.run(item, ways)
        finally:
            free.put(runner)

    return call


def _is_frame(item: Any, model: Model, color: str) -> bool:
    """Return whether it has yet to become a tensor."""
    if hasattr(item, "getbands"):  # a Pillow image
        return True
    picture = isinstance(item, (str, PathLike, bytes, bytearray, memoryview))
    pixels = isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim in (2, 3)
    if not (picture or pixels) or not (metadata := model.metadata()).takes_pictures:
        return False
    want = metadata.required_inputs[0].shape
    if picture or color != "RGB" or not (fits(item.shape, want) or fits((1, *item.shape), want)):
        return True
    # it is as large as the tensor: one frame among others is converted like them
    return metadata.required_inputs[0].layout.endswith("C")


def _outcome(job: Job) -> Any:
    job.wait(-1)
    try:
        return job.result()
    except Exception as error:
        return error


def _with_progress(results: Iterator[Any], frames: Iterable[Any]) -> Iterator[Any]:
    try:
        from rich.progress import track
    except ImportError as error:
        raise OptionError("progress=True needs rich", 'pip install "edge-accelerate[cli]"') from error
    total = len(frames) if isinstance(frames, Sized) else None
    return iter(track(results, description="inference", total=total))
