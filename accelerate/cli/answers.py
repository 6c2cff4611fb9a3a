"""Runs the model of ``edge-accelerate run`` on one INPUT after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from ..calls.conversion import Array
from ..calls.shapes import naming_sizes
from ..errors import InferenceError, OptionError, TensorError
from ..image import Geometry
from ..inputs.files import is_picture, no_picture, open_picture, picture_tensor, read_arrays
from ..metadata import Metadata, TensorInfo
from ..model import Model
from ..vision import Segmenter, VisionTask, task_for
from ..vision.outputs import known_of, picture_input
from ..vision.recognition import unrecognized

__all__ = ["Answer", "Runner"]

#: Exporters' words for tasks that are more than classes.
_TASKS = frozenset({"detect", "segment", "pose", "obb"})


@dataclass
class Answer:
    """What came of one input.

    Attributes
    ----------
    picture : numpy.ndarray or None
        None where the input holds arrays.
    outputs : dict
        The tensors, dequantised.
    results : Classifications, Detections, Poses, Segmentation or None
        What they say of the picture; None where nothing tells it.
    """

    path: Path
    feeds: Any
    outputs: dict[str, Array]
    milliseconds: float
    picture: Array | None = None
    results: Any = None


class Runner:
    """A model and its vision task, which the first picture asks for.

    Attributes
    ----------
    task : VisionTask or None
        None as long as there was no picture, and where nothing tells what the outputs say of one.
    refusal : OptionError, TensorError or None
        Why there is none.
    expected : bool
        Whether a user expects more of the model than tensors: all but one thing is known, or it says what it is.
    """

    def __init__(self, model: Model, *, top: int | None, min_score: float | None, timeout: float | None) -> None:
        self._model, self._timeout = model, timeout
        self._top, self._min_score = top, min_score
        self.metadata: Metadata = model.metadata()
        self.task: VisionTask[Any] | None = None
        self.refusal: OptionError | TensorError | None = None
        self.expected = False

    def answer(self, path: Path) -> Answer:
        """Run the model on a file."""
        inputs = self.metadata.required_inputs
        if not is_picture(path):
            return self._run(path, read_arrays(path, inputs), None)
        picture = open_picture(path)
        task = self._task()
        if task is None:
            answer = self._run(path, tensor := picture_tensor(picture, path, inputs), (inputs[0], tensor.shape))
        else:
            feeds, geometry = self._prepared(task, picture, path)
            info = task.preparation.info
            answer = self._run(path, feeds, (info, feeds[info.name].shape))
            answer.results = self._decoded(task, answer.outputs, geometry)
        answer.picture = picture
        return answer

    def again(self, answer: Answer) -> float:
        """Call the model once more with the same tensors, and return the milliseconds."""
        return self._run(answer.path, answer.feeds, None).milliseconds

    def _task(self) -> VisionTask[Any] | None:
        if self.task is None and self.refusal is None:
            try:
                found = task_for(self._model)
                if isinstance(found, Segmenter) and self._min_score is not None:
                    found = Segmenter(self._model, min_score=self._min_score)
                self.task = found
            except OptionError as error:
                self._refuse(error, None)
        return self.task

    def _refuse(self, error: OptionError | TensorError, size: tuple[int, int] | None) -> None:
        """Note why there is no task; `size` is the tensor's where an answer was looked at."""
        self.task, self.refusal = None, error
        said = self.metadata.type.endswith("_detector") or self.metadata.extra.get("task") in _TASKS
        known = known_of(self.metadata, size=size)
        nothing = unrecognized(known, "a Detector").reason == error.reason
        self.expected = picture_input(self.metadata) is not None and (said or not nothing)

    def _prepared(self, task: VisionTask[Any], picture: Array, path: Path) -> tuple[Any, Geometry]:
        try:
            return task.prepare(picture)
        except TensorError as error:
            inputs = self.metadata.required_inputs
            raise (error if len(inputs) == 1 else no_picture(path, inputs)) from error.__cause__

    def _decoded(self, task: Any, outputs: dict[str, Array], geometry: Geometry) -> Any:
        limits = {} if isinstance(task, Segmenter) else {"max_results": self._top, "min_score": self._min_score}
        try:
            return task.decode(outputs, geometry, **limits)
        except (OptionError, TensorError) as error:  # only the answer could tell, and does not
            self._refuse(error, geometry.tensor_size)
            return None

    def _run(self, path: Path, feeds: Any, ours: tuple[TensorInfo, Any] | None) -> Answer:
        """Call the model; `ours` is the input whose size is not the caller's choice, with that size."""
        started = perf_counter()
        try:
            outputs = self._model.infer(feeds, timeout=self._timeout, dequantize=True)
        except (InferenceError, TensorError) as error:
            if ours is None:
                raise
            raise naming_sizes(error, [ours]) from error.__cause__
        return Answer(path, feeds, outputs, (perf_counter() - started) * 1e3)
