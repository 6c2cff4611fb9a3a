"""Requests to a child and their answers, one at a time and within deadlines.

A caller that leaves before its answer leaves a thread behind (`_Abandoned`), which takes the answer, or ends the child.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol

from ...calls.deadlines import in_words
from ...errors import InferenceTimeoutError, OptionError
from ...reports import RuntimeInfo
from .coding import decode, decode_error, encode
from .frames import ASK, FAILED, TOLD, Packet, split
from .process import Child, Died

__all__ = ["Exchange", "Limit", "busy"]

_PATIENCE = 2.0  # seconds that a call has to end after its caller has left it
_PATIENCE_OF_A_LOAD = 60.0  # which callers with short deadlines begin, and later ones find done


class Limit:
    """When a call's time is over, and how much it was; None stands for no deadline."""

    __slots__ = ("timeout", "until")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.until = monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds, not below 0."""
        return max(0.0, self.until - monotonic())


def busy(limit: Limit | None) -> InferenceTimeoutError:
    """Return the error of a call whose turn has not come."""
    return InferenceTimeoutError(
        f"no answer within {in_words(limit.timeout if limit else 0)}: the model was busy with earlier calls all that "
        "time",
        "give a longer timeout, call it less often, or load(..., replicas=n)",
    )


class Owner(Protocol):
    """Whose child it is."""

    @property
    def stateful(self) -> bool:
        """Whether its model keeps values from one call to the next."""

    def lose(self, why: str) -> None:
        """Note that the child is gone."""

    def has_answered(self, child: Child, answer: Any) -> None:
        """Take what comes of a request whose caller has left it."""

    def runs_on(self, runtime: RuntimeInfo) -> None:
        """Note what the model runs on by now."""

    def close_if_asked(self) -> None:
        """End the child where nobody wants it any more."""


class _Abandoned:
    """A request whose caller has left: a thread takes its answer, and ends the child where none comes."""

    def __init__(self, owner: Owner, child: Child, number: int, patience: float) -> None:
        self.ended = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._guard = threading.Lock()
        arguments = (owner, child, number, patience)
        threading.Thread(target=self._take, args=arguments, name="accelerate-abandoned", daemon=True).start()

    def _take(self, owner: Owner, child: Child, number: int, patience: float) -> None:
        try:
            answer = child.answer(number, monotonic() + patience)
            if answer is None:
                child.kill()
                owner.lose(f"it was still busy {patience:g} s after its caller had left it, and was ended")
            else:
                owner.has_answered(child, answer)
        except Died as died:
            owner.lose(str(died))
        finally:  # whatever a program's own handler of the log has raised: all later calls wait for this
            with self._guard:
                self.ended.set()
        for callback in self._callbacks:
            callback()
        owner.close_if_asked()

    def then(self, callback: Callable[[], None]) -> None:
        """Call something once it is over; at once where it is."""
        with self._guard:
            if not self.ended.is_set():
                self._callbacks.append(callback)
                return
        callback()


class Exchange:
    """See the module. Whoever uses it holds the owner's lock.

    Attributes
    ----------
    awaited : int or None
        The number of the request whose answer has not come.
    """

    def __init__(self, owner: Owner) -> None:
        self._ref = weakref.ref(owner)  # who holds this one: a cycle would keep a forgotten model's child
        self._number = 0
        self.awaited: int | None = None
        self._abandoned: _Abandoned | None = None

    @property
    def _owner(self) -> Owner:
        owner = self._ref()
        assert owner is not None, "it is the owner that calls"
        return owner

    # Calls that were left

    def settle(self, child: Child | None, limit: Limit | None) -> None:
        """Wait for the end of a request whose caller has left it."""
        if self.awaited is not None and self._abandoned is None and child is not None:
            self._abandon(child, self.awaited)  # Ctrl-C has kept its caller from it
        if self._abandoned is not None:
            if not self._abandoned.ended.wait(None if limit is None else limit.left):
                raise busy(limit)
            self._abandoned = None
        self.awaited = None

    @property
    def at_work(self) -> bool:
        """Whether the child is at a request that its caller has left."""
        return self._abandoned is not None and not self._abandoned.ended.is_set()

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call something once it is not `at_work`; at once where it is not."""
        if (abandoned := self._abandoned) is None:
            callback()
        else:
            abandoned.then(callback)

    def forget(self) -> None:
        """In a forked child: what was at work is the parent's."""
        self.awaited = self._abandoned = None

    def _abandon(self, child: Child, number: int) -> None:
        patience = _PATIENCE if child.loaded else _PATIENCE_OF_A_LOAD
        try:
            self._abandoned = _Abandoned(self._owner, child, number, patience)
        except RuntimeError as error:  # there can be no more threads
            child.kill()
            self.awaited = None
            self._owner.lose(str(error))

    # Requests

    def run(self, child: Child, run: bytes) -> tuple[Packet, bytes] | None:
        """Make a plain run, without a deadline; None is the plain answer, that all outputs are in their places."""
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        ours = number.to_bytes(4, "little")
        self.awaited = number
        try:
            packet = child.call(ours + run)
        except Died:
            self.awaited = None
            raise
        except BaseException:
            self._abandon(child, number)
            raise
        if packet == ours:
            self.awaited = None
            return None
        return self.received(child, number, None, first=packet)

    def send(
        self, child: Child, kind: int, content: bytes, limit: Limit | None, *, target: int = 0,
        descriptors: Sequence[int] = (),
    ) -> int:  # fmt: skip
        """Send a request; return its number, which is `awaited` until `received` has its answer."""
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        seconds, until = (0.0, None) if limit is None else (max(1e-6, limit.left), limit.until)
        self.awaited = number
        try:
            for packet in split(number, kind, content, target, seconds):
                if not child.send(packet, descriptors, until):
                    raise child.nonsense("it reads nothing")  # noqa: TRY301
                descriptors = ()
        except Died:
            self.awaited = None
            raise
        except BaseException:
            self._abandon(child, number)
            raise
        return number

    def received(
        self, child: Child, number: int, limit: Limit | None, first: bytes | None = None
    ) -> tuple[Packet, bytes]:
        """Return the answer of a request, within its time; `first` is its first packet, where that has come."""
        try:
            answer = child.answer(number, None if limit is None else limit.until, first)
            if answer is None:
                raise self._too_late(limit)  # noqa: TRY301
        except Died:
            self.awaited = None
            raise
        except BaseException:
            self._abandon(child, number)
            raise
        self.awaited = None
        packet, content, notes = answer
        self.take_notes(child, notes)
        if packet.kind == FAILED and limit is not None and not limit.left:
            raise self._too_late(limit)  # what comes of a call that the child has ended early, at its deadline
        return packet, content

    def _too_late(self, limit: Limit | None) -> InferenceTimeoutError:
        kept = ", and the state that the model keeps with it" if self._owner.stateful else ""
        return InferenceTimeoutError(
            f"no answer within {in_words(limit.timeout if limit else 0)}; the child process is ended if it is still "
            f"busy in {_PATIENCE:g} s{kept}"
        )

    def ask(
        self, child: Child, limit: Limit | None, what: str, *, descriptors: Sequence[int] = (), **arguments: Any
    ) -> Any:
        """Have a child do something else than a run; what it raises is raised here."""
        try:
            content = encode((what, arguments))
        except TypeError as error:
            raise OptionError(f"{error} cannot be handed to the child process that runs the model") from error
        number = self.send(child, ASK, content, limit, descriptors=descriptors)
        return self.told(child, *self.received(child, number, limit))

    def told(self, child: Child, packet: Packet, content: bytes, notes: Sequence[bytes] = ()) -> Any:
        """Return what an answer in JSON says, or raise it."""
        self.take_notes(child, notes)
        try:
            told = decode(content)
            error = decode_error(told) if packet.kind == FAILED else None
            if error is None and packet.kind != TOLD:
                raise ValueError(f"an answer of the kind {packet.kind}")  # noqa: TRY301
        except (ValueError, LookupError, TypeError) as failure:
            raise child.nonsense(failure) from failure
        if error is not None:
            raise error
        return told

    def take_notes(self, child: Child, notes: Sequence[bytes]) -> None:
        """Log what was logged in the child, and note what its model runs on by now."""
        try:
            for note in notes:
                told = decode(note)
                for name, level, text in told["log"]:
                    logging.getLogger(name).log(level, "%s", text)
                if told["runtime"] is not None:
                    self._owner.runs_on(told["runtime"])
        except (ValueError, LookupError, TypeError) as error:
            raise child.nonsense(error) from error
