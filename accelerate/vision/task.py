"""What all vision tasks share: frames of a model in, its answers decoded."""

from __future__ import annotations

import abc
import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from ..arguments import whole_number
from ..calls.conversion import Array, dequantize
from ..calls.deadlines import check_left, deadline, left
from ..calls.pixels import note_frame, warn_of_assumption
from ..calls.shapes import naming_sizes
from ..errors import AccelerateError, InferenceError, OptionError, TensorError
from ..image.converter import converter_of
from ..image.fitting import Geometry
from ..metadata import Metadata, TensorInfo
from ..model import Model
from .completeness import check_complete
from .layout import GivenLayout, Layout
from .outputs import known_of, picture_input
from .preparation import Preparation, preparation_for, warn_of
from .recognition import unrecognized

__all__ = ["BestFirst", "VisionTask", "placed", "share"]

_Answer = TypeVar("_Answer")
#: What took the time, and what to do.
_LATE = ("resizing the frame", "give a longer timeout, or a smaller frame")
#: Bytes of whole numbers from which on they are no levels of a quantised output, but a program's own.
_WIDE = 4
#: Inputs beside the picture that want a size, and in which order of the tensor's sides.
_SIZES = {"orig_target_sizes": "WH", "image_shape": "HW"}


class VisionTask(abc.ABC, Generic[_Answer]):
    """A model with what makes its tensor of a frame, and answers of its outputs. Any thread may call it.

    Parameters
    ----------
    model : Model or Metadata
        With a Metadata it decodes outputs that another program has computed, and runs nothing.
    """

    def __init__(self, model: Model | Metadata, ways: Mapping[str, Any]) -> None:
        if not isinstance(model, (Model, Metadata)):
            raise OptionError(
                f"{type(self).__name__} was given {type(model).__name__} {model!r:.60}; wanted a model that "
                "accelerate.load returned, or a Metadata to decode by"
            )
        self.model = model if isinstance(model, Model) else None
        self.metadata = model.metadata() if isinstance(model, Model) else model
        picture = picture_input(self.metadata)
        if picture is not None and picture.layout.startswith("N") and picture.shape[0] > 1:
            raise OptionError(
                f"the model takes {picture.shape[0]} frames at once: input {picture.name!r}, "
                f"{picture.data_type}{list(picture.shape)}; wanted one that takes a single frame",
                "export it with a batch of 1, or call infer",
            )
        self._ways = ways
        self._infos = {info.name: info for info in self.metadata.outputs}
        self._lock = threading.Lock()
        self._preparation: Preparation | None = None
        self._said = False  # what is assumed of the frames

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)  # its model has been loaded again
        self._lock = threading.Lock()

    def _given_layout(self, layout: str | Layout | Mapping[str, Any]) -> GivenLayout | None:
        """Return what is said of the layout: by the caller, else by the description file; None for nothing."""
        known = self.metadata.outputs
        if not (isinstance(layout, str) and layout == "auto"):
            return GivenLayout(layout, known)
        described = self.metadata.extra.get("vision", {})
        return GivenLayout(described["layout"], known, described["file"]) if described.get("layout") else None

    def _settled_layout(
        self, layout: str | Layout | Mapping[str, Any], kinds: Sequence[str], recognize: Callable[[], Layout | None]
    ) -> Layout:
        """Return the layout, of one of some kinds, of outputs that need no look at their values."""
        given = self._given_layout(layout)
        found = None if given is not None and given.whole else recognize()
        if given is not None:
            found = given.over(found)
        if found is None:
            raise unrecognized(known_of(self.metadata), f"a {type(self).__name__}")
        if found.kind not in kinds:
            raise OptionError(
                f"layout is of kind {found.kind!r}; wanted {' or '.join(map(repr, kinds))} for a {type(self).__name__}"
            )
        check_complete(found)
        return found

    @property
    @abc.abstractmethod
    def layout(self) -> Layout | None:
        """What the outputs hold, and what says so; None as long as only an answer can tell."""

    @property
    def preparation(self) -> Preparation:
        """What is done to the frames, and who says so."""
        if self._preparation is None:
            self._preparation = self._prepared()
        return self._preparation

    def _prepared(self) -> Preparation:
        return preparation_for(self.metadata, self._ways, self.layout)

    def announce(self) -> None:
        """Say once what is assumed of the frames, so that the warning points at the caller's line.

        A program that calls the task in threads of its own may do this before; `call_async` and `accelerate.map` do.

        Warns
        -----
        AssumptionWarning
        """
        if self._said:
            return
        with self._lock:  # the other threads' first calls wait, and find it said
            if not self._said:
                prepared = self.preparation
                warn_of(prepared, f"{type(self).__name__}s of such a model")
                if (assumed := converter_of(prepared.info).assumed) is not None:
                    warn_of_assumption(prepared.info, assumed)
                self._said = True

    def prepare(self, frame: Any, *, color: str = "RGB") -> tuple[dict[str, Array], Geometry]:
        """Make what `infer` takes of a frame, for a program that runs the model by itself and then calls `decode`.

        Parameters
        ----------
        frame, color
            As for a call.

        Returns
        -------
        feeds : dict of str to numpy.ndarray
            The tensor, and the sizes that some models want beside it.
        geometry : Geometry
            Where the frame lies in the tensor.

        Raises
        ------
        TensorError, OptionError
        """
        self.announce()
        prepared = self.preparation
        converter = converter_of(prepared.info)
        tensor, geometry = converter.convert(
            frame, None, prepared.resize, "bilinear", color, prepared.anchor, prepared.fill
        )
        note_frame(tensor)
        feeds = {prepared.info.name: tensor}
        for info in self.metadata.required_inputs:
            if info.name != prepared.info.name:
                feeds[info.name] = self._size_for(info, geometry)
        return feeds, geometry

    def _run(self, frame: Any, color: str, timeout: float | None, limits: Mapping[str, Any]) -> _Answer:
        model, until = self._model(), deadline(timeout)
        feeds, geometry = self.prepare(frame, color=color)
        check_left(until, timeout, *_LATE)
        try:
            outputs = model.infer(feeds, timeout=left(until))
        except (InferenceError, TensorError) as error:
            raise self._naming_sizes(error, feeds) from error.__cause__
        return self._decode(outputs, geometry, limits)

    async def _run_async(self, frame: Any, color: str, timeout: float | None, limits: Mapping[str, Any]) -> _Answer:
        model, until = self._model(), deadline(timeout)
        self.announce()  # here, for in a thread nothing would lead to the caller
        feeds, geometry = await asyncio.to_thread(partial(self.prepare, frame, color=color))
        check_left(until, timeout, *_LATE)
        try:
            outputs = await model.infer_async(feeds, timeout=left(until))
        except (InferenceError, TensorError) as error:
            raise self._naming_sizes(error, feeds) from error.__cause__
        return await asyncio.to_thread(self._decode, outputs, geometry, limits)

    def _naming_sizes(self, error: InferenceError | TensorError, feeds: Mapping[str, Array]) -> AccelerateError:
        return naming_sizes(error, [(info, feeds[info.name].shape) for info in self.metadata.required_inputs])

    @abc.abstractmethod
    def _decode(self, outputs: Mapping[str, Any], geometry: Geometry, limits: Mapping[str, Any]) -> _Answer: ...

    def _model(self) -> Model:
        if self.model is None:
            raise OptionError(
                f"this {type(self).__name__} was made of a Metadata and has no model to run",
                "call its decode(), or give it a model",
            )
        return self.model

    def _size_for(self, info: TensorInfo, geometry: Geometry) -> Array:
        order = next((sides for name, sides in _SIZES.items() if name in (info.name, *info.aliases)), None)
        if order is None:
            raise TensorError(
                f"the model wants more than a picture: input {info.name!r}, {info.data_type}{list(info.shape)}",
                "call infer with all inputs, and decode() with its answer",
            )
        sides = dict(zip("HW", geometry.tensor_size, strict=True))
        return np.array([[sides[side] for side in order]], info.data_type)

    def _values(self, outputs: Mapping[str, Any], names: Sequence[str]) -> dict[str, Array]:
        """Return outputs as real numbers, or as the whole ones that they are.

        Raises
        ------
        TensorError
            One is missing, or no array of one frame.
        """
        if not isinstance(outputs, Mapping):
            raise TensorError(f"the outputs are a {type(outputs).__name__}; wanted {{name: array}}, infer's answer")
        found = {}
        for name in names:
            info = self._infos[name]
            value = outputs.get(name)
            if value is None:
                value = next((outputs[alias] for alias in info.aliases if alias in outputs), None)
            if value is None:
                raise TensorError(
                    f"there is no output {name!r} among {', '.join(map(repr, outputs))}", "give the answer of infer"
                )
            found[name] = _numbers(value, info)
        return found


class BestFirst(VisionTask[_Answer]):
    """A task that answers with results of a least score, the best ones first, and no more than so many."""

    _min_score: float
    _max_results: int

    def _limit(self, min_score: float, max_results: int) -> None:
        """Note what holds where a call says nothing else.

        Raises
        ------
        OptionError
        """
        self._min_score = share("min_score", min_score)
        self._max_results = whole_number("max_results", max_results)

    def __call__(
        self,
        frame: Any,
        *,
        min_score: float | None = None,
        max_results: int | None = None,
        color: str = "RGB",
        timeout: float | None = None,
    ) -> _Answer:
        """Find what is in a frame.

        Parameters
        ----------
        frame
            As for `accelerate.image.to_tensor`: an array of any size, a path, encoded bytes or a Pillow image.
        min_score, max_results
            In place of those of the task.
        color : str
            What an array holds, as for `to_tensor`: "RGB", "BGR", "NV12", "I420", "YUYV", ...
        timeout : float, optional
            Seconds, as for `Model.infer`.

        Returns
        -------
        Classifications, Detections or Poses
            Best first; what has a place, in the frame's pixels.

        Raises
        ------
        TensorError, OptionError, InferenceError, InferenceTimeoutError, DeviceLostError, ClosedError

        Warns
        -----
        AssumptionWarning
            Once: nothing says how frames are prepared, and a convention is followed.
        """
        return self._run(frame, color, timeout, {"min_score": min_score, "max_results": max_results})

    async def call_async(
        self,
        frame: Any,
        *,
        min_score: float | None = None,
        max_results: int | None = None,
        color: str = "RGB",
        timeout: float | None = None,
    ) -> _Answer:
        """Await a call without blocking the event loop; the same arguments, results and errors."""
        limits = {"min_score": min_score, "max_results": max_results}
        return await self._run_async(frame, color, timeout, limits)

    def decode(
        self,
        outputs: Mapping[str, Any],
        geometry: Geometry,
        *,
        min_score: float | None = None,
        max_results: int | None = None,
    ) -> _Answer:
        """Return what is in a frame that somebody else has prepared and run.

        Parameters
        ----------
        outputs : mapping of str to array_like
            What `infer` returns, or the outputs of a Binding; quantised or real.
        geometry : Geometry
            Where the frame lies in the tensor: ``accelerate.image.geometry(frame.shape[:2], input, resize)``.
        min_score, max_results
            As for a call, as are results and errors.
        """
        return self._decode_passing(outputs, placed(geometry), {"min_score": min_score, "max_results": max_results})

    def _decode_passing(self, outputs: Mapping[str, Any], geometry: Geometry, limits: Mapping[str, Any]) -> _Answer:
        """Decode outputs whose memory may hold something else soon."""
        return self._decode(outputs, geometry, limits)

    def _limits(self, given: Mapping[str, Any]) -> tuple[float, int]:
        """Return the least score, and how many results there may be at most.

        Raises
        ------
        OptionError
        """
        least, most = given["min_score"], given["max_results"]
        return (
            self._min_score if least is None else share("min_score", least),
            self._max_results if most is None else whole_number("max_results", most),
        )


def _numbers(value: Any, info: TensorInfo) -> Array:
    """Return an output as real numbers, or as the whole ones that they are."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TensorError(f"output {info.name!r} is a {type(value).__name__} that is no array: {error}") from error
    kind = array.dtype.kind
    if kind == "f":
        return array.astype(np.float32, copy=False)
    if kind not in "iub":
        raise TensorError(f"output {info.name!r} is {array.dtype}{list(array.shape)}; wanted numbers")
    # a count, an index or a class may be of any type of whole numbers
    levels = info.quantization is not None or not info.data_type.startswith(("int", "uint", "bool"))
    if levels and kind != "b" and array.itemsize < _WIDE and array.dtype.name != info.data_type:
        raise TensorError(
            f"output {info.name!r} is {array.dtype}{list(array.shape)}, and the model's is {info.data_type}: levels of "
            "another quantisation stand for other numbers",
            "give the values that they stand for, as float32, or make this of the Metadata of the model they come from",
        )
    return array if info.quantization is None else dequantize(array, info.quantization)


def placed(geometry: Geometry) -> Geometry:
    """Return a caller's geometry.

    Raises
    ------
    TensorError
        It is none.
    """
    if not isinstance(geometry, Geometry):
        raise TensorError(
            f"geometry is {geometry!r:.60}; wanted where the frame lies in the tensor",
            "prepare() returns it with the tensor, and accelerate.image.geometry for one that was made by itself",
        )
    return geometry


def share(name: str, given: Any) -> float:
    """Return an option that is a number from 0 to 1.

    Raises
    ------
    OptionError
    """
    if isinstance(given, (bool, np.bool_)) or not isinstance(given, (int, float, np.number)) or not 0 <= given <= 1:
        raise OptionError(f"{name} is {given!r:.60}; wanted a number from 0 to 1")
    return float(given)
