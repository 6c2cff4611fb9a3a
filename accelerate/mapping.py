"""Streams many inputs through a model."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from os import PathLike
from typing import Any

import numpy as np

from .arguments import whole_number
from .calls.conversion import Array, fits
from .calls.deadlines import Job, Worker
from .errors import AccelerateError, OptionError
from .model import Model

__all__ = ["map"]


def map(
    model: Model,
    frames: Iterable[Any],
    *,
    in_flight: int | None = None,
    progress: bool = False,
    resize: str = "stretch",
    resample: str = "bilinear",
    color: str = "RGB",
    anchor: str = "center",
    fill: int | Sequence[int] = 0,
) -> Iterator[dict[str, Array] | Exception]:
    """Run a model on many inputs, in order.

    Parameters
    ----------
    model : Model
    frames : iterable
        Each item is what `Model.infer` takes, or, for a model whose one input is an image, a frame for
        `Model.infer_image`: a path, a Pillow image, a picture's bytes, or a uint8 array that does not have the tensor's
        shape already or that `color` says something of. It is asked for the next item only when there is room for it;
        what it raises comes after the results of the items before.
    in_flight : int, optional
        How many items are in work at a time; default: one more than the model runs side by side.
    progress : bool
        Show a progress bar (needs the extra ``cli``).
    resize, resample, color, anchor, fill
        For frames, as for `accelerate.image.to_tensor`.

    Yields
    ------
    dict of str to numpy.ndarray, or Exception
        The outputs of each item, or what went wrong with it: one failure does not lose the others.

    Raises
    ------
    OptionError
    """
    limit = model.concurrency + 1 if in_flight is None else whole_number("in_flight", in_flight)
    ways = {"resize": resize, "resample": resample, "color": color, "anchor": anchor, "fill": fill}
    results = _in_order(model, frames, limit, ways)
    return _with_progress(results, frames) if progress else results


def _in_order(
    model: Model, frames: Iterable[Any], limit: int, ways: Mapping[str, Any]
) -> Iterator[dict[str, Array] | Exception]:
    worker = Worker(threads=min(limit, _threads(model)))
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
        job = Job(_call_for(model, frame, ways))
        worker.submit(job)
        waiting.append(job)
        if len(waiting) >= limit:
            yield _outcome(waiting.popleft())
    while waiting:
        yield _outcome(waiting.popleft())
    if failure is not None:
        raise failure


def _threads(model: Model) -> int:
    """Return one more than the model runs side by side, to convert the next item meanwhile.

    One with state is called in order, which callers that wait for each other do not keep.
    """
    try:
        stateful = model.metadata().stateful
    except AccelerateError:  # of a closed model, for one: it is the outcome of each item
        stateful = False
    return 1 if stateful else model.concurrency + 1


def _call_for(model: Model, frame: Any, ways: Mapping[str, Any]) -> Callable[[], Any]:
    def call() -> dict[str, Array]:  # whatever fails in it is the outcome of this one item
        if _is_frame(frame, model, ways["color"]):
            return model.infer_image(frame, timeout=model.patience, **ways)
        return model.infer(frame, timeout=model.patience)

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


def _outcome(job: Job) -> dict[str, Array] | Exception:
    job.wait(-1)
    try:
        outputs: dict[str, Array] = job.result()
    except Exception as error:
        return error
    return outputs


def _with_progress(results: Iterator[Any], frames: Iterable[Any]) -> Iterator[Any]:
    try:
        from rich.progress import track
    except ImportError as error:
        raise OptionError("progress=True needs rich", 'pip install "edge-accelerate[cli]"') from error
    total = len(frames) if isinstance(frames, Sized) else None
    return iter(track(results, description="inference", total=total))
