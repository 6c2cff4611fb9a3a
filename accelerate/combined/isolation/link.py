"""A model in a child, and in another one after that has died: what is run, by whom, and what becomes of it.

Models of several signatures and Bindings share one link, and take turns: whoever talks to the child holds `_lock`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ...calls.forks import keep_in_children
from ...errors import (
    AccelerateError,
    BackendNotAvailableError,
    ClosedError,
    DeviceLostError,
    DeviceNotFoundError,
    InferenceError,
)
from ...reports import RuntimeInfo
from .exchange import Exchange, Limit, busy
from .frames import ASK, RUN
from .memory import Region
from .process import Child, Died
from .rooms import Rooms
from .specification import Specification
from .targets import Target

__all__ = ["Link"]

Result = TypeVar("Result")
_log = logging.getLogger("accelerate")


class Link:
    """See the module.

    Parameters
    ----------
    specification : Specification
        What the child loads.

    Attributes
    ----------
    described : Mapping
        What the child has told of its model.
    runtime : RuntimeInfo
        As it told last.
    """

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        self._lock = threading.Lock()
        self._exchange = Exchange(self)
        self._rooms = Rooms(self._exchange)
        self._child: Child | None = None
        self._complete: Child | None = None  # the child that knows all of `_signatures`
        self._signatures: dict[str, Mapping[str, Any]] = {}  # what the child tells of them; it has the first as 1, ...
        self._lost = ""  # why a child is gone that kept state, until a caller was told
        self._refused: AccelerateError | None = None  # the error of a load that no caller has waited for
        self._targets: weakref.WeakSet[Target] = weakref.WeakSet()
        self._next_target = 0
        self._retired: list[tuple[int, Target | None]] = []  # targets that nobody uses any more
        self._closing = False
        self._pid, self._parted = os.getpid(), False
        self.described: Mapping[str, Any] = {}
        self.runtime: Any = None
        keep_in_children(self)

    @property
    def pid(self) -> int | None:
        """The child's process; None while there is none."""
        child = self._child
        return child.pid if child is not None and child.alive else None

    @property
    def stateful(self) -> bool:
        """Whether the model keeps values from one call to the next."""
        metadata = self.described.get("metadata")
        return metadata is not None and bool(metadata.stateful)

    # A child, and another one in its place

    def begin(self) -> None:
        """Start a child and send it what it has to load; `finish` waits for that."""
        self._begin(None)

    def finish(self) -> None:
        """Wait until the child has loaded the model.

        Raises
        ------
        AccelerateError
            Of the backend's load; ModelError where the child has died of it.
        """
        child, number = self._child, self._exchange.awaited
        assert child is not None, "begin() comes before"
        assert number is not None, "begin() comes before"
        try:
            self.has_loaded(child, (*self._exchange.received(child, number, None), ()))
        except Died as died:
            raise self._specification.crashed(died) from died
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused

    def has_loaded(self, child: Child, answer: Any) -> None:
        """Take what a child says of its load: `_refused` is the error, None where it has the model."""
        try:
            told = self._exchange.told(child, *answer)
            self.described, self.runtime = told, told["runtime"]
        except AccelerateError as error:
            self._refused = error
            child.dismiss()
        except (LookupError, TypeError) as error:
            raise child.nonsense(error) from error
        else:
            self._refused, child.loaded = None, True

    def has_answered(self, child: Child, answer: Any) -> None:
        """Take what comes of a request whose caller has left it: of a load all, else what was logged."""
        if child.loaded:
            self._exchange.take_notes(child, answer[2])
        else:
            self.has_loaded(child, answer)

    def runs_on(self, runtime: RuntimeInfo) -> None:
        """Note what the model runs on by now."""
        self.runtime = runtime

    def lose(self, why: str) -> None:
        """Note that the child is gone, with all that the model kept."""
        if self._child is not None and self._child.loaded:
            _log.warning("%s: the child process that ran it is gone: %s", self._specification.source, why)
            self._lost = why if self.stateful else ""
        self._child = None

    def _begin(self, limit: Limit | None) -> tuple[Child, int]:
        try:
            self._child = child = Child()
            content, descriptors = self._specification.request()
        except OSError as error:
            raise BackendNotAvailableError(
                f"no child process can be started for {self._specification.source}: {error.strerror or error}",
                "close files, or raise the limits of files and processes (ulimit -n, ulimit -u)",
            ) from error
        try:
            return child, self._exchange.send(child, ASK, content, limit, descriptors=descriptors)
        finally:
            self._specification.sent(descriptors)

    def _again(self, limit: Limit | None) -> Child:
        """Load the model in another child."""
        self._specification.check_source()
        try:
            if self._refused is None:  # else by a load that its caller has left
                child, number = self._begin(limit)
                self.has_loaded(child, (*self._exchange.received(child, number, limit), ()))
            if (error := self._refused) is None:
                return child
        except Died as died:
            error = self._specification.crashed(died)
        except BackendNotAvailableError as refused:
            error = refused
        self._refused, self._child = None, None
        kind = DeviceLostError if isinstance(error, (DeviceNotFoundError, DeviceLostError)) else InferenceError
        reason = f"the child process that ran the model is gone, and no other has loaded it: {error.reason}"
        raise kind(reason, error.remedy) from error

    def _ready(self, limit: Limit | None) -> Child:
        """Return a child that has the model and waits for requests."""
        self._check_open()
        self._exchange.settle(self._child, limit)
        if self._lost:
            why, self._lost = self._lost, ""
            raise InferenceError(
                f"the child process that ran this model is gone ({why}), and with it what the model kept from call to "
                "call",
                "the next call starts a new one, with the model in its first state",
            )
        child = self._child
        if child is None or not child.alive or not child.loaded:
            child = self._again(limit)
        if self._complete is not child:
            for number, name in enumerate(self._signatures, 1):
                self._exchange.ask(child, limit, "signature", model=number, signature=name)
            self._complete = child
        if retired := self._retired[:]:
            del self._retired[: len(retired)]
            for _, target in retired:
                if target is not None:
                    target.close()
            self._exchange.ask(child, limit, "drop", targets=[number for number, _ in retired])
        return child

    # What is asked of it

    def run(self, target: Target, feeds: Sequence[Any], timeout: float | None) -> Any:
        """Run a target once.

        Parameters
        ----------
        target : Target
        feeds : sequence of numpy.ndarray or None
            In the order of the inputs; of a Binding only those that have no place are looked at.
        timeout : float or None
            Seconds.

        Returns
        -------
        list of numpy.ndarray, or dict of int to numpy.ndarray
            All outputs; of a Binding only those that have no place or did not fit it, by position.

        Raises
        ------
        InferenceError
            The child has died, or its runtime failed.
        InferenceTimeoutError, ClosedError, DeviceLostError
        """
        if timeout is not None:
            limit = Limit(timeout)
            with self._turn(limit):
                return self._run(target, feeds, limit)
        try:
            with self._lock:  # as `_turn`, which costs a few microseconds more
                return self._run(target, feeds, None)
        finally:
            if self._closing:
                self.close_if_asked()

    def ask(self, what: str, timeout: float | None = None, **arguments: Any) -> Any:
        """Have the child do something else; what it raises is raised here."""
        limit = None if timeout is None else Limit(timeout)
        with self._turn(limit):
            return self._in_a_child(lambda child: self._exchange.ask(child, limit, what, **arguments), limit)

    def signature(self, name: str) -> Mapping[str, Any]:
        """Return what the child tells of the model of another signature, which it makes once."""
        with self._turn(None):
            if name not in self._signatures:
                number = len(self._signatures) + 1
                self._signatures[name] = self._in_a_child(
                    lambda child: self._exchange.ask(child, None, "signature", model=number, signature=name), None
                )
            return self._signatures[name]

    def target(self, model: int, inputs: Any, outputs: Any, *, bound: bool = False, shapes: Any = None) -> Target:
        """Return what may be run; a Binding is made in the child at once, as its shapes are to be had from there."""
        with self._turn(None):
            self._next_target += 1
            target = Target(self._next_target, model, inputs, outputs, bound=bound, shapes=shapes)
            self._targets.add(target)
            weakref.finalize(target, self._retired.append, (target.number, None)).atexit = False
            if bound:
                self._in_a_child(lambda child: self._introduce(child, target, None), None)
        return target

    def retire(self, target: Target) -> None:
        """Let go of a target that nobody runs again, here and in the child: now, or when the call at work has ended."""
        self._retired.append((target.number, target))
        if self._lock.acquire(blocking=False):
            try:
                target.close()
            finally:
                self._lock.release()
            if self._closing:
                self.close_if_asked()

    @contextlib.contextmanager
    def _turn(self, limit: Limit | None) -> Iterator[None]:
        if not self._lock.acquire(timeout=-1 if limit is None else limit.left):
            raise busy(limit)
        try:
            yield
        finally:
            self._lock.release()
            if self._closing:
                self.close_if_asked()

    def _run(self, target: Target, feeds: Sequence[Any], limit: Limit | None) -> Any:
        child = self._child
        if (
            child is None
            or target.known_to is not child
            or self._exchange.awaited is not None
            or self._retired
            or self._closing
        ):
            return self._in_a_child(lambda child: self._run_in(child, target, feeds, limit), limit)
        try:
            return self._run_in(child, target, feeds, limit)
        except Died as died:
            self._may_go_on_after(died)
        return self._run(target, feeds, limit)

    def _in_a_child(self, do: Callable[[Child], Result], limit: Limit | None) -> Result:
        """Do something with a child that is ready; where it had died before that, with the next one."""
        try:
            return do(self._ready(limit))
        except Died as died:
            self._may_go_on_after(died)
        try:
            return do(self._ready(limit))
        except Died as died:
            raise self._crashed(died) from died

    def _may_go_on_after(self, died: Died) -> None:
        """Raise, unless the child had died before it was asked, and nothing is lost with it."""
        if not died.unsent or self.stateful:
            raise self._crashed(died) from died
        self.lose(str(died))

    def _crashed(self, died: Died) -> InferenceError:
        self._child = None
        lost = ", and with it what the model kept from call to call" if self.stateful else ""
        return InferenceError(
            f"the child process that ran the model died during the call{lost}: {died}",
            "the next call starts a new one",
        )

    def _run_in(self, child: Child, target: Target, feeds: Sequence[Any], limit: Limit | None) -> Any:
        if target.known_to is not child:
            if target.closed:
                raise ClosedError("this Binding is closed", "call bind() again")
            self._introduce(child, target, limit)
        if not target.bound:
            target.give(feeds)
        if limit is None and not target.loose:
            answer = self._exchange.run(child, target.run)
        else:
            table = self._rooms.lay(child, target, feeds, limit) if target.loose else b""
            number = self._exchange.send(child, RUN, table, limit, target=target.number)
            answer = self._exchange.received(child, number, limit)
        if answer is None and not target.whole:
            raise child.nonsense("outputs are missing")
        left = {} if answer is None else self._rooms.left(child, target, answer, limit)
        return left if target.bound else target.take(left)

    def _introduce(self, child: Child, target: Target, limit: Limit | None) -> None:
        """Tell a child of a target, and of its memory."""
        told = self._exchange.ask(
            child, limit, "open", model=target.model, target=target.number, bound=target.bound, shapes=target.shapes
        )
        try:
            target.settle(told)
        except (ValueError, TypeError, LookupError) as error:
            raise child.nonsense(error) from error
        if (region := target.region) is not None:
            inputs, outputs = target.places
            self._exchange.ask(
                child, limit, "place", descriptors=[region.descriptor],
                target=target.number, size=region.size, inputs=inputs, outputs=outputs,
            )  # fmt: skip
        target.known_to = child

    # The end

    def _check_open(self) -> None:
        if self._closing:
            raise ClosedError(f"this {self._specification.backend} model is closed", "load it again")

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call something once no request is at work whose caller has left; at once without one."""
        self._exchange.when_idle(callback)

    def close(self) -> None:
        """End the child, once a call that is at work has its answer. Does not wait."""
        self._closing = True
        self.close_if_asked()

    def close_if_asked(self) -> None:
        """End the child of a link that is closed, if nobody talks to it: who does, calls this afterwards."""
        if not self._closing or not self._lock.acquire(blocking=False):
            return
        try:
            if self._exchange.at_work:
                return
            child, self._child = self._child, None
            if child is not None and child.alive:
                child.dismiss()
            self._rooms.close()
            for target in tuple(self._targets):
                target.close()
        finally:
            self._lock.release()

    def forked(self) -> None:
        """In a forked child: the child is the parent's, and so is the memory that it shares."""
        self.part_from_parent()

    def part_from_parent(self) -> bool:
        """In a forked child: let go of the parent's child, once; return whether a call was at work, or this failed.

        The next call starts a child of this process's own. The arrays of Bindings lie over memory of its own as well.
        """
        if self._pid == os.getpid():
            return self._parted
        self._pid, self._parted = os.getpid(), self._lock.locked()
        self._lock = threading.Lock()
        if self._child is not None:
            self._child.leave()
            self.lose("this process was forked off from the one that it belongs to")
        self._exchange.forget()
        regions: list[Region] = [t.region for t in tuple(self._targets) if t.region is not None]
        for region in (*self._rooms.regions, *regions):
            try:
                region.part_from_parent()
            except OSError:
                self._parted = True
        return self._parted
