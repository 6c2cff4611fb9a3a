"""A TFLite model in an interpreter whose Edge TPU operators run on the device."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import Any

from accelerate.backends.tflite.allocation import allocate_tensors
from accelerate.backends.tflite.calls import ENGINE_ERRORS, Calls
from accelerate.backends.tflite.delegates.library import Delegate
from accelerate.backends.tflite.delegates.model import DelegatedModel
from accelerate.backends.tflite.delegates.share import Share, share_of
from accelerate.backends.tflite.diagnosis import why_unresolved
from accelerate.backends.tflite.engines import Engine
from accelerate.backends.tflite.interpreter import make_interpreter
from accelerate.backends.tflite.state import Variables
from accelerate.contract import Array, LoadOptions, Model, Source
from accelerate.errors import (
    AccelerateError,
    BackendNotAvailableError,
    ClosedError,
    DeviceLostError,
    DeviceNotFoundError,
    OptionError,
    one_line,
)
from accelerate.formats.tflite.compiled import COMPILED_OPERATOR
from accelerate.formats.tflite.file import ModelFile

from .devices import CONNECT, Lease, move, why_not_opened
from .library import Library

__all__ = ["EdgeTPUModel", "connect"]

_log = logging.getLogger("accelerate")
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 5.0  # seconds between attempts to open a lost device
_SETTLING, _COMING_BACK = 0.5, 3.0  # seconds that a stick takes to appear with its firmware, and may take


def connect(library: Library, device: str, options: Mapping[str, str]) -> Delegate:
    """Open a device; where that is refused, once again after a moment.

    A stick that has just been given its firmware leaves the bus and comes back under another id.
    """
    try:
        return library.create({"device": device, **options})
    except DeviceNotFoundError:
        deadline = monotonic() + _COMING_BACK
        time.sleep(_SETTLING)
        while monotonic() < deadline and device not in (d.id for d in library.devices()):
            time.sleep(_SETTLING)
    try:
        return library.create({"device": device, **options})
    except DeviceNotFoundError as error:
        reason, remedy = why_not_opened(library, device)
        raise DeviceNotFoundError(f"{error.reason}: {reason}", remedy) from error


class EdgeTPUModel(DelegatedModel):
    """See the module. A Model whose device has gone opens it again when it is called after a growing delay."""

    backend_name = "edgetpu"
    _library: Library | None

    def __init__(self, engine: Engine, interpreter: Any, *arguments: Any) -> None:
        self._lease: Lease | None = None  # None for an interpreter that is its owner's to open again
        self._lost = False
        self._delay = _FIRST_DELAY
        self._next_attempt = 0.0
        super().__init__(engine, interpreter, *arguments)

    @classmethod
    def open_on(
        cls,
        engine: Engine,
        library: Library,
        lease: Lease,
        source: Source,
        options: LoadOptions,
        delegate_options: Mapping[str, str],
    ) -> EdgeTPUModel:
        """Open the device and build an interpreter; the model has been tried in a child process."""
        delegate = connect(library, lease.device.id, delegate_options)
        model = cls.open(engine, library, source, options, delegate_options, delegate)
        model._lease = lease
        model.runtime = replace(
            model.runtime,
            device=lease.device.id,
            details={
                **model.runtime.details,
                "library_version": library.version,
                "device_path": lease.device.path,
            },
        )
        return model

    def signature(self, name: str) -> Model:
        # a second model of the interpreter would have to learn of it when the device is lost
        raise OptionError(
            f"one Edge TPU model runs one signature; this one runs {self.runtime.details['signature']!r}",
            f"load the file again: load(..., signature={name!r})",
        )

    def _check_again(self) -> None:
        raise OptionError(
            "an Edge TPU has one interpreter of a model, and this model's variables take a second one",
            "load it again instead",
        )

    @classmethod
    def _share_of(cls, interpreter: Any, *, adopted: bool = False) -> Share:
        return share_of(interpreter, COMPILED_OPERATOR)  # one that its owner has allocated has the engine's own, too

    def execute(self, feeds: list[Array]) -> list[Array]:
        if self._lost:
            self._reopen()
        try:
            return super().execute(feeds)
        except AccelerateError:  # ours is a ValueError, too
            raise
        except ENGINE_ERRORS as error:
            cause: Exception = error
            if not self.delegate_failed(str(cause)):
                raise
        self._lose()
        raise DeviceLostError(
            f"the Edge TPU {self.device} was lost during a run ({one_line(cause)})"
            + (", and with it the state that the model kept" if self._state else ""),
            "call the model again once the device is back: it opens it then",
        ) from _without_frames(cause)

    def _lose(self) -> None:
        if self._library is None or self._lease is None:
            return
        self._lost = True
        self._delay, self._next_attempt = _FIRST_DELAY, monotonic() + _FIRST_DELAY
        # the library gives a device to whoever asks for it for as long as somebody has it open, even a dead one
        self._once = self._calls = self._interpreter = None
        self._variables = Variables(())
        _log.warning("the Edge TPU %s (%s) was lost", self.device, self._lease.device.path)

    def _reopen(self) -> None:
        wait = self._next_attempt - monotonic()
        if wait > 0:
            raise DeviceLostError(f"the Edge TPU {self.device} is lost; it is tried again in {wait:.2f} s")
        try:
            interpreter, calls = self._open_again()
        except AccelerateError as error:
            reason, remedy, cause = error.reason, error.remedy, _without_frames(error)
        except ENGINE_ERRORS as error:
            reason, remedy, cause = str(error), "", _without_frames(error)
        else:
            self._use(interpreter, calls)
            self._lost = False
            if self.turn.closed:
                self.release()
                raise ClosedError("this edgetpu model was closed while its device was being opened again")
            _log.warning("the Edge TPU %s is back", self.device)
            return
        self._delay = min(2 * self._delay, _LONGEST_DELAY)
        self._next_attempt = monotonic() + self._delay
        raise DeviceLostError(
            f"the Edge TPU {self.device} is lost ({reason}); it is tried again in {self._delay:.2f} s", remedy
        ) from cause

    def _open_again(self) -> tuple[Any, Calls]:
        library, lease = self._library, self._lease
        if library is None or lease is None:
            raise ClosedError("this edgetpu model is closed", "load it again")
        super()._check_again()
        asked = self.options.asked
        kinds = ("usb", "pci") if asked in (None, "tpu") else (asked,) if asked in ("usb", "pci") else ()
        if not move(lease, library, kinds):
            raise DeviceNotFoundError("it is not connected", CONNECT)
        delegate = library.create({"device": lease.device.id, **self._delegate_options})
        interpreter = make_interpreter(
            self._engine,
            self._source,
            self.runtime.details["num_threads"],
            verified=True,
            content=self._content,
            delegates=[delegate],
        )
        calls = Calls.of_ours(interpreter, self._subgraph)
        allocate_tensors(calls, self._input_indices, self.inputs, self.options)
        details = {**self.runtime.details, "device_path": lease.device.path}
        self.runtime = replace(self.runtime, device=lease.device.id, details=details)
        return interpreter, calls

    def release(self) -> None:
        super().release()
        if self._lease is not None:
            self._lease.release()

    @staticmethod
    def _why_refused(engine: Engine, source: Source, error: Exception) -> AccelerateError:
        said = one_line(error).rstrip(".")
        if "newer than this runtime version" in said:
            return BackendNotAvailableError(
                f"{source} was compiled for a newer version of the Edge TPU's runtime library: {said}",
                "update the library (docs/coral.md, 'Where is PyCoral?'), or compile with an older one: "
                "edgetpu_compiler --min_runtime_version",
            )
        if "Unsupported data type in custom op handler" in said:
            return BackendNotAvailableError(
                f"the Edge TPU's runtime library and this version of the interpreter do not fit together: {said}",
                "install a build of the library for this interpreter (docs/coral.md, 'Where is PyCoral?')",
            )
        others = [name for name in source.opened(ModelFile).custom_operators if name != COMPILED_OPERATOR]
        return why_unresolved(engine, source, others, error)


def _without_frames(error: BaseException) -> BaseException:
    """Return an error whose traceback no longer keeps an interpreter, and with it the device, open."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
