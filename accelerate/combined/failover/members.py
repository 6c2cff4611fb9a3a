"""One model of a failover: how it is loaded and tried, and how long it stays away after it has failed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..._records import record
from ...calls.conversion import Array
from ...calls.deadlines import left
from ...errors import (
    AccelerateError,
    BackendNotAvailableError,
    ClosedError,
    InferenceError,
    InferenceTimeoutError,
    ModelError,
    NoBackendError,
    OptionError,
    TensorError,
)
from ...metadata import Metadata
from ...model import Model
from .interface import Interface, check_stateless
from .translation import Translation

if TYPE_CHECKING:
    import queue

__all__ = ["DOUBTFUL", "Member", "Opened", "Service", "bare", "close_quietly"]

_log = logging.getLogger("accelerate")

#: What may be the input's or the deadline's fault: only that another model answers the call shows that it is not.
DOUBTFUL = (InferenceError, InferenceTimeoutError)

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 5.0  # seconds between two attempts
_LONGEST_TO_LOAD = 60.0  # of what is no device or server that may be back at any moment: a file, a runtime
#: How many seconds a model has to answer after its return for its next failure to be a new one, and the longest time
#: that it is left alone where it is not: after a loss, and after a failure of which trying it on zeros shows nothing.
_SETTLED, _SETTLED_DOUBTFUL = 1.0, 60.0
_LONGEST_DOUBTFUL = 600.0
_PROBE, _FIRST_RUN = 1.0, 30.0  # seconds that a run on zeros may take, at the least; and one of unknown duration
_MARGIN = 1.1  # over a p99: for the hand-off to a thread that keeps the deadline, and the histogram's buckets
_OF_ONE_RUN = 2.0  # times what one run took is what more of them may take
_SHORT = 0.05  # seconds: a first run that took no longer is measured again, without what only the first one does
_LOAD_SHARE = 4  # an attempt to load takes CPU from those that answer: at most a fifth of the time goes to that


@record(frozen=True)
class Opened:
    """A model that has been loaded.

    Attributes
    ----------
    model : Model
    translation : Translation or None
        None for the one that the others are compared with.
    usual : float or None
        Seconds in which nearly every call ends; None where that is not known.
    on_zeros : bool
        Whether it runs on zeros, so that trying it shows whether it works.
    error : AccelerateError or None
        Why it does not answer, be it loaded.
    """

    model: Model
    translation: Translation | None
    usual: float | None
    on_zeros: bool
    error: AccelerateError | None = None


class Service:
    """A model from its arrival to its loss. A call that began before the loss cannot end a later service."""

    def __init__(self, place: int, opened: Opened) -> None:
        self.place = place
        self.model = opened.model
        self.name = f"{self.model.backend} on {self.model.device}"
        self.failures = 0  # in a row, that were not taken for the model's own
        self.fails_on_inputs = ""  # why, where it works and fails on some of them
        self.usual = opened.usual
        self.reserve: float | None = 0.0  # seconds for those behind it; None where that is not known
        self.behind = 0  # how many stand by behind it
        self._translation = opened.translation

    def infer(self, given: Any, timeout: float | None, dequantize: bool | None) -> dict[str, Array]:
        """Call the model, with and for what a caller knows of the first one."""
        translation = self._translation
        if translation is None:
            return self.model.infer(given, timeout=timeout, dequantize=dequantize)
        answer = self.model.infer(translation.inputs(given), timeout=timeout, dequantize=dequantize)
        return translation.outputs(answer)

    def infer_image(self, frame: Any, timeout: float | None, ways: dict[str, Any]) -> dict[str, Array]:
        """Give the model a frame, which it prepares for itself."""
        answer = self.model.infer_image(frame, timeout=timeout, **ways)
        return answer if self._translation is None else self._translation.outputs(answer)

    def share(self, until: float | None) -> float | None:
        """Return how many seconds of a call's time are this model's: it leaves those behind it what they need.

        That is the p99 of their calls; at least a quarter for each, for all callers come at once then, and on a busy
        system it takes milliseconds until a thread runs; at most a half.
        """
        seconds = left(until)
        if seconds is None or not self.behind:
            return seconds
        half = seconds / 2
        return seconds - (half if self.reserve is None else min(half, max(self.reserve, self.behind * seconds / 4)))

    def measured(self) -> float | None:
        """Return the seconds in which nearly every call ends, by its p99 where there were enough calls."""
        with contextlib.suppress(Exception):  # a stranger's command
            p99 = self.model.do_command({"command": "stats"}).get("p99_ms")
            return self.usual if p99 is None else _MARGIN * p99 / 1e3
        return self.usual


class Member:
    """See the module. Its attributes change under the failover's lock.

    Parameters
    ----------
    place : int
        0 is the first.
    name : str
        For messages: "failover[0]".
    load : callable
        Loads the model; once more where it is to be loaded again.
    dequantize, strict : bool
        As it is loaded with.

    Attributes
    ----------
    opened : Opened or None
        None where it is still to be loaded.
    service : Service or None
        None while it does not answer.
    error : AccelerateError or None
        Why it does not.
    dropped : bool
        It does not fit, and never will.
    """

    def __init__(self, place: int, name: str, load: Callable[[], Model], *, dequantize: bool, strict: bool) -> None:
        self.place, self.name = place, name
        self.opened: Opened | None = None
        self.service: Service | None = None
        self.error: AccelerateError | None = None
        self.dropped = False
        self.forgiving = False  # it works, and fails on some inputs
        self.wakeup: queue.SimpleQueue[None] | None = None  # of the thread that tries it again
        self._load = load
        self._dequantize, self._strict = dequantize, strict
        self._first_delay = self._delay = _FIRST_DELAY
        self._next = 0.0  # when it is to be tried again
        self._lost = 0.0
        self._returned = -1e9
        self._limit = _PROBE

    def open(self, known: Interface | None) -> tuple[Opened, Interface]:
        """Load the model, compare it and run it on zeros.

        Parameters
        ----------
        known : Interface or None
            What it has to fit; None for the first one.

        Raises
        ------
        OptionError
            It does not fit.
        AccelerateError
            It cannot be loaded.
        """
        model = self._load()
        try:
            metadata = model.metadata()
            translation = None
            if known is None:
                known = self._interface(metadata)
            else:
                translation = known.admit(self.name, metadata, dequantize=self._dequantize, strict=self._strict)
            return _tried(model, translation), known
        except BaseException:
            close_quietly(model)
            raise

    def _interface(self, metadata: Metadata) -> Interface:
        check_stateless(self.name, metadata)
        return Interface(self.name, metadata, dequantize=self._dequantize, strict=self._strict)

    def arrive(self, opened: Opened) -> Service:
        """Begin to answer."""
        self.opened, self.error = opened, None
        self._returned = monotonic()
        self.service = Service(self.place, opened)
        return self.service

    def lose(self, error: AccelerateError, limit: float | None = None) -> Model | None:
        """End to answer; return the model where it is of no use any more.

        Parameters
        ----------
        error : AccelerateError
        limit : float, optional
            The seconds that it had, where they were too few.
        """
        now = monotonic()
        doubtful = isinstance(error, DOUBTFUL)
        settled, longest = (_SETTLED_DOUBTFUL, _LONGEST_DOUBTFUL) if doubtful else (_SETTLED, _LONGEST_DELAY)
        relapsed = now < self._returned + settled
        self._first_delay = min(2 * self._first_delay, longest) if relapsed else _FIRST_DELAY
        self._delay, self._next, self._lost = self._first_delay, now + self._first_delay, now
        self.error, self.service = bare(error), None
        opened = self.opened
        if opened is None:
            return None
        self._limit = _FIRST_RUN if opened.usual is None else max(_PROBE, 3 * opened.usual)
        if isinstance(error, InferenceTimeoutError) and limit is not None:
            self._limit = min(self._limit, limit)  # what it missed then
        if isinstance(error, (ClosedError, ModelError)):  # nothing opens such a model again
            self.opened = None
            return opened.model
        return None

    def failed_again(self, error: AccelerateError, took: float) -> None:
        """Wait longer for the next attempt."""
        self.error = bare(error)
        at_any_moment = self.opened is not None or not isinstance(
            error, (BackendNotAvailableError, ModelError, NoBackendError)
        )
        self._delay = min(2 * self._delay, _LONGEST_DELAY if at_any_moment else _LONGEST_TO_LOAD)
        if self.opened is None:
            self._delay = max(self._delay, _LOAD_SHARE * took)
        self._next = monotonic() + self._delay

    def drop(self, error: OptionError) -> None:
        """Give it up for good."""
        self.error, self.dropped = bare(error), True

    @property
    def is_due_in(self) -> float | None:
        """The seconds until it is to be tried again; None where there is nothing to try."""
        if self.service is not None or self.dropped:
            return None
        return max(0.0, self._next - monotonic())

    @property
    def away_for(self) -> float:
        """The seconds since it has been lost."""
        return monotonic() - self._lost

    def attempt(self, interface: Interface) -> Callable[[], Opened]:
        """Return what tries it again, and holds no more of the failover than the model itself."""
        if (opened := self.opened) is None:
            load, name, dequantize, strict = self._load, self.name, self._dequantize, self._strict
            again = Member(self.place, name, load, dequantize=dequantize, strict=strict)
            return lambda: again.open(interface)[0]
        limit = self._limit
        return lambda: _probed(opened, limit)


def bare(error: AccelerateError) -> AccelerateError:
    """Return an error without the frames that it came through, which keep arrays and devices."""
    copy = error.with_remedy(error.remedy)
    copy.__cause__ = None
    return copy


def close_quietly(model: Model) -> None:
    """Close a model of no use any more; what a stranger's raises of it costs no call, and ends no thread."""
    try:
        model.close()
    except Exception as error:
        _log.debug("closing a model that was lost", exc_info=error)


def _tried(model: Model, translation: Translation | None) -> Opened:
    """Run a model on zeros: it is ready then, and it is known how long a call takes."""
    usual = None
    try:
        for _ in range(2):
            # with a deadline: the thread that keeps it is there by then, too
            took = model.do_command({"command": "warmup", "runs": 1}, timeout=_FIRST_RUN)["total_ms"] / 1e3
            usual = _OF_ONE_RUN * took
            if took > _SHORT:
                break
    except (InferenceError, TensorError):  # they are no input for every model
        return Opened(model, translation, None, on_zeros=False)
    except AccelerateError as error:
        return Opened(model, translation, usual, on_zeros=True, error=bare(error))
    return Opened(model, translation, usual, on_zeros=True)


def _probed(opened: Opened, limit: float) -> Opened:
    """Run a model that was lost on zeros.

    Raises
    ------
    AccelerateError
        It does not answer.
    """
    try:
        opened.model.do_command({"command": "warmup", "runs": 1}, timeout=limit)
    except (InferenceError, TensorError):
        if opened.on_zeros:
            raise
    return Opened(opened.model, opened.translation, opened.usual, opened.on_zeros)
