"""Model: what `load` returns. Its methods are the same for every backend, and for models made of models."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .calls.binding import Binding
from .calls.conversion import Array
from .calls.deadlines import check_left, deadline, left
from .calls.shapes import naming_sizes
from .errors import AccelerateError, InferenceError, OptionError, TensorError
from .metadata import Metadata
from .reports import RuntimeInfo

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Model"]


class Model(abc.ABC):
    """A loaded model. Any thread may call it; calls that its runtime cannot run side by side wait their turn.

    It is pickled as the arguments of `load`, which are carried out again where it arrives; `copy.deepcopy` loads, too.
    """

    #: How `load` has made it: what `__reduce__` returns, worked out when it is asked for.
    loaded_by: Callable[[], tuple[Any, ...]] | None = None

    @property
    @abc.abstractmethod
    def backend(self) -> str:
        """The name of the backend that runs it."""

    @property
    @abc.abstractmethod
    def runtime(self) -> RuntimeInfo:
        """What it really runs on."""

    @property
    def device(self) -> str:
        """Where the model runs: "cpu", "cuda:0", "usb:0", ..."""
        return self.runtime.device

    @property
    @abc.abstractmethod
    def concurrency(self) -> int:
        """How many calls a caller with many of them should have in work."""

    @property
    def cancels(self) -> bool:
        """Whether its runtime can end a call early: then the end of the program ends one that has a deadline."""
        return False

    @property
    def patience(self) -> float | None:
        """The `timeout` of a call without one that nobody may wait for in the end."""
        return math.inf if self.cancels else None

    @abc.abstractmethod
    def infer(
        self, input_tensors: Any, *, timeout: float | None = None, dequantize: bool | None = None
    ) -> dict[str, Array]:
        """Run the model once.

        Parameters
        ----------
        input_tensors : Mapping of str to array_like, or array_like
            One value for each input, by canonical name, alias or ordinal ("0"); optional ones may be left out. A model
            with one required input takes a bare array. Dtypes and shapes are converted as the README's table says.
        timeout : float, optional
            Seconds, including the conversion of the inputs and the wait for other callers.
        dequantize : bool, optional
            Return quantised outputs as float32 ``(q - zero_point) * scale``; default as given to `load`.

        Returns
        -------
        dict of str to numpy.ndarray
            The caller's own arrays, by canonical name, in the model's dtype; strings as object arrays of bytes.

        Raises
        ------
        TensorError
            An input is missing, surplus, unknown or cannot be converted.
        InferenceTimeoutError
            No answer within `timeout`. The runtime may still be busy with the call; later calls wait for it.
        InferenceError, DeviceLostError, ClosedError, OptionError
        """

    @abc.abstractmethod
    async def infer_async(
        self, input_tensors: Any, *, timeout: float | None = None, dequantize: bool | None = None
    ) -> dict[str, Array]:
        """Await `infer` without blocking the event loop; the same arguments, results and errors.

        Cancelling the task gives up a call that waits, and leaves one that runs alone.
        """

    def infer_image(
        self,
        frame: Any,
        *,
        timeout: float | None = None,
        dequantize: bool | None = None,
        resize: str = "stretch",
        resample: str = "bilinear",
        color: str = "RGB",
        anchor: str = "center",
        fill: int | Sequence[int] = 0,
    ) -> dict[str, Array]:
        """Resize a frame to the model's image input and run it.

        Parameters
        ----------
        frame : numpy.ndarray, path, encoded bytes or Pillow image
            H x W x 3, H x W x 1 or H x W, uint8; what `color` says. Where the model's height and width are dynamic, it
            takes the size that it was exported for, else the frame's own.
        timeout, dequantize
            As for `infer`; resizing counts, too.
        resize, resample, color, anchor, fill
            As for `accelerate.image.to_tensor`. Frames of OpenCV are "BGR".

        Raises
        ------
        TensorError
            The model has another input than one image, or the frame is none. And what `infer` raises.
        """
        until = deadline(timeout)
        tensors = self._tensors_of(
            frame, until, timeout, resize=resize, resample=resample, color=color, anchor=anchor, fill=fill
        )
        try:
            return self.infer(tensors, timeout=left(until), dequantize=dequantize)
        except (InferenceError, TensorError) as error:
            raise self._naming_sizes(error, tensors) from error.__cause__

    async def infer_image_async(
        self,
        frame: Any,
        *,
        timeout: float | None = None,
        dequantize: bool | None = None,
        resize: str = "stretch",
        resample: str = "bilinear",
        color: str = "RGB",
        anchor: str = "center",
        fill: int | Sequence[int] = 0,
    ) -> dict[str, Array]:
        """Await `infer_image` without blocking the event loop; the same arguments, results and errors.

        The frame is resized in a thread of the loop's own pool, be it that the model runs another one meanwhile. Do not
        write into the frame before the answer is there.
        """
        import asyncio

        until = deadline(timeout)
        ways = {"resize": resize, "resample": resample, "color": color, "anchor": anchor, "fill": fill}
        tensors = await asyncio.to_thread(self._tensors_of, frame, until, timeout, **ways)
        try:
            return await self.infer_async(tensors, timeout=left(until), dequantize=dequantize)
        except (InferenceError, TensorError) as error:
            raise self._naming_sizes(error, tensors) from error.__cause__

    def _naming_sizes(self, error: AccelerateError, tensors: Mapping[str, Array]) -> AccelerateError:
        return naming_sizes(error, [(info, tensors[info.name].shape) for info in self.metadata().required_inputs])

    def _tensors_of(self, frame: Any, until: float | None, timeout: float | None, **ways: Any) -> dict[str, Array]:
        """Return what `infer` takes for a frame, unless that took all of the time."""
        from .image import to_tensor

        metadata = self.metadata(timeout=left(until))
        if not metadata.takes_pictures:
            wanted = ", ".join(f"{t.name!r}: {t.data_type}{list(t.shape)}" for t in metadata.required_inputs)
            raise TensorError(f"infer_image wants a model whose one input is an image; this one wants {{{wanted}}}")
        (info,) = metadata.required_inputs
        tensor = to_tensor(frame, info, **ways)
        check_left(until, timeout, "resizing the frame", "give a longer timeout, or a smaller frame")
        return {info.name: tensor}

    @abc.abstractmethod
    def metadata(self, *, timeout: float | None = None) -> Metadata:
        """Return what is known about the model; read from its file or server at the first call.

        Parameters
        ----------
        timeout : float, optional
            Seconds, where a server has to be asked; what is known here answers at once.
        """

    def signature(self, name: str) -> Model:
        """Return another function of the same model: a Model over the same runtime object, and so over its state.

        Both take turns, and each has names, metadata and statistics of its own. `close` ends this one, or both where it
        is that of the model that was loaded. Of the options of `load`, those that go by tensors' names do not apply.

        Raises
        ------
        OptionError
            The model has no such signature.
        """
        raise OptionError(f"models of {self.backend} have no signatures; got {name!r:.60}", "call the model itself")

    @abc.abstractmethod
    def bind(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        """Return a `Binding`: arrays to write inputs into and read outputs from, call after call.

        Parameters
        ----------
        shapes : mapping of str to sequence of int, optional
            The shape of each input with dynamic dimensions; an input that is not named has the sizes that the model
            was exported for, else 1 for a dynamic first dimension. An optional input is bound only where it is named.

        Raises
        ------
        TensorError
            A shape is missing or does not fit.
        """

    @abc.abstractmethod
    def do_command(self, command: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        """Do something beside inference: ``{"command": "stats"}``, ``{"command": "warmup", "runs": 3}``, ...

        ``{"command": "reset"}`` clears what the model keeps from one call to the next (`Metadata.stateful`); where it
        keeps nothing, there is nothing to do.

        Parameters
        ----------
        command : mapping
            Its name, and its arguments.
        timeout : float, optional
            Seconds, for all of it.

        Raises
        ------
        NotImplementedError
            The command is unknown; the message lists the known ones.
        InferenceTimeoutError
            It did not end within `timeout`.
        """

    def warmup(self, runs: int = 1) -> None:
        """Run the model `runs` times on zeros; it leaves neither state nor statistics. Optional inputs are left out.

        Dynamic dimensions have the sizes given to `load`, else those that the model was exported for, else 1.
        """
        self.do_command({"command": "warmup", "runs": runs})

    @abc.abstractmethod
    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call something once no call that was left at its deadline is running any more; at once without one."""

    @abc.abstractmethod
    def phases(self) -> Mapping[str, tuple[int, float]] | None:
        """Return count and total milliseconds of each part of the calls that the runtime has measured so far.

        None where it measures none.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Release the runtime. Later calls raise `ClosedError`; a call that still runs in another thread ends well.

        Never waits. Closing twice is fine.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        if self.loaded_by is None:
            raise OptionError(
                f"{self!r} was not made by load(), and cannot be pickled or copied", "load it where it is to run"
            )
        return self.loaded_by()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
