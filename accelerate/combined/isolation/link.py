"""Calls to a model in a child: one at a time, with deadlines, and in a new child after one that has died.

Models of several signatures and Bindings share one link, and take turns: whoever talks to the child holds `_lock`. A
caller that leaves before its answer leaves a thread behind (`_Abandoned`), which takes the answer, or ends the child.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

import numpy as np

from ...calls.conversion import Array
from ...calls.deadlines import in_words
from ...calls.forks import keep_in_children
from ...errors import (
    AccelerateError,
    BackendNotAvailableError,
    ClosedError,
    DeviceLostError,
    DeviceNotFoundError,
    InferenceError,
    InferenceTimeoutError,
    OptionError,
)
from .coding import decode, decode_error, encode
from .frames import ASK, DONE, FAILED, LOOSE, NEED, ROOM, RUN, TOLD, Packet, split
from .memory import Region
from .placing import Loose, read_loose
from .process import Child, Died
from .specification import Specification
from .targets import Target

__all__ = ["Link"]

_PATIENCE = 2.0  # seconds that a call has to end after its caller has left it
_PATIENCE_OF_A_LOAD = 60.0  # which callers with short deadlines begin, and later ones find done

_log = logging.getLogger("accelerate")


class _Abandoned:
    """A request whose caller has left: a thread takes its answer, and ends the child where none comes."""

    def __init__(self, link: Link, child: Child, number: int, patience: float) -> None:
        self.ended = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._guard = threading.Lock()
        arguments = (link, child, number, patience)
        threading.Thread(target=self._take, args=arguments, name="accelerate-abandoned", daemon=True).start()

    def _take(self, link: Link, child: Child, number: int, patience: float) -> None:
        try:
            answer = child.answer(number, monotonic() + patience)
            if answer is None:
                child.kill()
                link.lose(f"it was still busy {patience:g} s after its caller had left it, and was ended")
            elif not child.loaded:
                link.has_loaded(child, answer)
        except Died as died:
            link.lose(str(died))
        with self._guard:
            self.ended.set()
        for callback in self._callbacks:
            callback()
        link.close_if_asked()

    def then(self, callback: Callable[[], None]) -> None:
        """Call something once it is over; at once where it is."""
        with self._guard:
            if not self.ended.is_set():
                self._callbacks.append(callback)
                return
        callback()


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
        self._child: Child | None = None
        self._complete: Child | None = None  # the child that knows all of `_signatures`
        self._number = 0
        self._awaited: int | None = None  # the number of the request whose answer has not come
        self._abandoned: _Abandoned | None = None
        self._lost = ""  # why a child is gone that kept state, until a caller was told
        self._refused: AccelerateError | None = None  # the error of a load that no caller has waited for
        self._closing = False
        self._room: dict[str, Region] = {}  # for tensors that have no place of their own
        self._room_of: Child | None = None  # the child that has the room for inputs
        self._retired: list[int] = []  # targets that nobody has any more
        self._targets: weakref.WeakSet[Target] = weakref.WeakSet()
        self._next_target = 0
        self._signatures: dict[str, int] = {}  # the child's numbers of the models that `signature` has made
        self._pid, self._parted = os.getpid(), False
        self.described: Mapping[str, Any] = {}
        self.runtime: Any = None
        keep_in_children(self)

    @property
    def pid(self) -> int | None:
        """The child's process; None while there is none."""
        child = self._child
        return child.pid if child is not None and child.alive else None

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
        child, number = self._child, self._awaited
        assert child is not None, "begin() comes before"
        assert number is not None, "begin() comes before"
        try:
            self.has_loaded(child, child.answer(number, None))
        except Died as died:
            raise self._specification.crashed(died) from died
        self._awaited = None
        if self._refused is not None:
            refused, self._refused = self._refused, None
            raise refused

    def has_loaded(self, child: Child, answer: Any) -> None:
        """Take what a child says of its load: `_refused` is the error, None where it has the model."""
        try:
            told = self._told(child, *answer)
            self.described, self.runtime = told, told["runtime"]
        except AccelerateError as error:
            self._refused = error
            child.dismiss()
        else:
            self._refused, child.loaded = None, True

    def lose(self, why: str) -> None:
        """Note that the child is gone, with all that the model kept."""
        if self._child is not None and self._child.loaded:
            _log.warning("%s: the child process that ran it is gone: %s", self._specification.source, why)
            self._lost = why if self._stateful else ""
        self._child = None

    @property
    def _stateful(self) -> bool:
        metadata = self.described.get("metadata")
        return metadata is not None and bool(metadata.stateful)

    def _begin(self, until: float | None) -> tuple[Child, int]:
        try:
            self._child = child = Child()
            content, descriptors = self._specification.request()
        except OSError as error:
            raise BackendNotAvailableError(
                f"no child process can be started for {self._specification.source}: {error.strerror or error}",
                "close files, or raise the limits of files and processes (ulimit -n, ulimit -u)",
            ) from error
        try:
            return child, self._send(child, ASK, content, descriptors=descriptors, until=until)
        finally:
            self._specification.sent(descriptors)

    def _again(self, until: float | None, timeout: float | None) -> Child:
        """Load the model in another child."""
        self._specification.check_source()
        try:
            if self._refused is None:  # else by a load that its caller has left
                child, number = self._begin(until)
                self.has_loaded(child, self._received(child, number, until, timeout))
            if (error := self._refused) is None:
                return child
        except Died as died:
            error = self._specification.crashed(died)
        except BackendNotAvailableError as refused:
            error = refused
        self._refused, self._child = None, None
        kind = DeviceLostError if isinstance(error, (DeviceNotFoundError, DeviceLostError)) else InferenceError
        raise kind(f"the child process that ran the model is gone, and no other has loaded it: {error.reason}",
                   error.remedy) from error  # fmt: skip

    def _ready(self, until: float | None, timeout: float | None) -> Child:
        """Return a child that has the model and waits for requests."""
        if self._awaited is not None and self._abandoned is None and self._child is not None:
            self._abandon(self._child, self._awaited)  # Ctrl-C has kept its caller from it
        if self._abandoned is not None:
            if not self._abandoned.ended.wait(None if until is None else max(0.0, until - monotonic())):
                raise InferenceTimeoutError(
                    f"no answer within {in_words(timeout or 0)}: the model was busy with earlier calls all that time",
                    "give a longer timeout, call it less often, or load(..., replicas=n)",
                )
            self._abandoned = None
        self._awaited = None
        if self._lost:
            why, self._lost = self._lost, ""
            raise InferenceError(
                f"the child process that ran this model is gone ({why}), and with it what the model kept from call to "
                "call",
                "the next call starts a new one, with the model in its first state",
            )
        child = self._child
        if child is None or not child.alive or not child.loaded:
            child = self._again(until, timeout)
        if self._complete is not child:
            for name, number in self._signatures.items():
                if self._asked(child, until, timeout, "signature", signature=name)["model"] != number:
                    raise child.nonsense(f"another number of the signature {name!r}")
            self._complete = child
        if self._retired:
            retired, self._retired = self._retired, []
            self._asked(child, until, timeout, "drop", targets=retired)
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
        try:
            if timeout is None:
                with self._lock:
                    return self._run(target, feeds, None, None)
            until = monotonic() + timeout
            with self._turn(until, timeout):
                return self._run(target, feeds, until, timeout)
        finally:
            if self._closing:
                self.close_if_asked()

    def ask(self, what: str, timeout: float | None = None, **arguments: Any) -> Any:
        """Have the child do something else; what it raises is raised here."""
        until = None if timeout is None else monotonic() + timeout
        try:
            with self._turn(until, timeout):
                return self._in_a_child(
                    lambda child: self._asked(child, until, timeout, what, **arguments), until, timeout
                )
        finally:
            if self._closing:
                self.close_if_asked()

    def signature(self, name: str) -> Mapping[str, Any]:
        """Have the child make the model of another signature; return what it tells of that."""
        told: Mapping[str, Any] = self.ask("signature", signature=name)
        self._signatures[name] = told["model"]
        return told

    def target(self, model: int, inputs: Any, outputs: Any, *, bound: bool = False, shapes: Any = None) -> Target:
        """Return what may be run; a Binding is made in the child at once, as its shapes are to be had from there."""
        with self._lock:
            self._next_target += 1
            target = Target(self._next_target, model, inputs, outputs, bound=bound, shapes=shapes)
        self._targets.add(target)
        weakref.finalize(target, self._retired.append, target.number).atexit = False
        if bound:
            with self._lock:
                self._in_a_child(lambda child: self._introduce(child, target, None, None), None, None)
        return target

    @contextlib.contextmanager
    def _turn(self, until: float | None, timeout: float | None) -> Iterator[None]:
        if not self._lock.acquire(timeout=-1 if until is None else max(0.0, until - monotonic())):
            raise InferenceTimeoutError(
                f"no answer within {in_words(timeout or 0)}: the model was busy with earlier calls all that time",
                "give a longer timeout, call it less often, or load(..., replicas=n)",
            )
        try:
            yield
        finally:
            self._lock.release()

    def _in_a_child(self, do: Callable[[Child], Any], until: float | None, timeout: float | None) -> Any:
        """Do something with a child that is ready; where it had died before that, with the next one."""
        for again in (True, False):
            try:
                return do(self._ready(until, timeout))
            except Died as died:
                if not (again and died.unsent) or self._stateful:
                    raise self._crashed(died) from died
                self.lose(str(died))
            except OSError as error:
                if isinstance(error, AccelerateError):
                    raise
                raise InferenceError(
                    f"there is no memory to share with the child process: {error.strerror or error}",
                    "close files, or raise the limit (ulimit -n); or give smaller inputs",
                ) from error
        raise AssertionError("the second time it has returned or raised")

    def _run(self, target: Target, feeds: Sequence[Any], until: float | None, timeout: float | None) -> Any:
        if self._closing:
            raise ClosedError(f"this {self._specification.backend} model is closed", "load it again")
        child = self._child
        if child is None or target.known_to is not child or self._awaited is not None or self._retired:
            return self._in_a_child(lambda child: self._run_in(child, target, feeds, until, timeout), until, timeout)
        try:
            return self._run_in(child, target, feeds, until, timeout)
        except Died as died:
            if not died.unsent or self._stateful:
                raise self._crashed(died) from died
            self.lose(str(died))
        return self._run(target, feeds, until, timeout)

    def _run_in(
        self, child: Child, target: Target, feeds: Sequence[Any], until: float | None, timeout: float | None
    ) -> Any:
        if target.known_to is not child:
            self._introduce(child, target, until, timeout)
        if not target.bound:
            target.give(feeds)
        if until is None and not target.loose:
            answer = self._run_plainly(child, target)
        else:
            table = self._lay(child, target, feeds, until, timeout) if target.loose else b""
            number = self._send(child, RUN, table, target=target.number, until=until)
            answer = self._received(child, number, until, timeout)
        left = {} if answer is None else self._left(child, target, answer, until, timeout)
        return left if target.bound else target.take(left)

    def _run_plainly(self, child: Child, target: Target) -> tuple[Packet, bytes] | None:
        """Run what has all its inputs in place; None is the plain answer, that all outputs are, too."""
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        ours = number.to_bytes(4, "little")
        self._awaited = number
        try:
            packet = child.call(ours + target.run)
        except Died:
            self._awaited = None
            raise
        except BaseException:
            self._abandon(child, number)
            raise
        if packet == ours and target.whole:
            self._awaited = None
            return None
        return self._received(child, number, None, None, first=packet)

    def _introduce(self, child: Child, target: Target, until: float | None, timeout: float | None) -> None:
        """Tell a child of a target, and of its memory."""
        told = self._asked(
            child, until, timeout, "open",
            model=target.model, target=target.number, bound=target.bound, shapes=target.shapes,
        )  # fmt: skip
        try:
            target.settle(told)
        except (ValueError, TypeError, KeyError) as error:
            raise child.nonsense(error) from error
        if target.region is not None:
            self._asked(
                child, until, timeout, "place", descriptors=[target.region.descriptor],
                target=target.number, size=target.region.size, inputs=target.places[0], outputs=target.places[1],
            )  # fmt: skip
        target.known_to = child

    # Tensors without a place

    def _lay(
        self, child: Child, target: Target, feeds: Sequence[Any], until: float | None, timeout: float | None
    ) -> bytes:
        loose = Loose([(target.inputs[i], feeds[i]) for i in target.loose])
        room = self._room.get("in")
        if room is None or room.size < loose.size or self._room_of is not child:
            room = self._make_room("in", loose.size)
            self._asked(child, until, timeout, "room", descriptors=[room.descriptor], side="in", size=room.size)
            self._room_of = child
        return loose.lay(room)

    def _make_room(self, side: str, size: int) -> Region:
        """Return memory for so much, with some to spare: the next call may need a little more."""
        old = self._room.get(side)
        if old is not None and old.size >= size:
            return old
        self._room[side] = room = Region(size + size // 4)
        if old is not None:
            old.close()
        return room

    def _left(
        self, child: Child, target: Target, answer: tuple[Packet, bytes], until: float | None, timeout: float | None
    ) -> dict[int, Array]:
        """Return the outputs that an answer has beside those in their places."""
        packet, content = answer
        if packet.kind == NEED:
            room = self._make_room("out", int.from_bytes(content[:8], "little"))
            size = room.size.to_bytes(8, "little")
            number = self._send(child, ROOM, size, descriptors=[room.descriptor], until=until)
            packet, content = self._received(child, number, until, timeout)
        if packet.kind == FAILED:
            self._told(child, packet, content)
        try:
            if packet.kind == DONE and target.whole:
                return {}
            if packet.kind != LOOSE:
                raise ValueError(f"an answer of the kind {packet.kind}")  # noqa: TRY301
            count = int.from_bytes(content[:8], "little")
            positions = np.frombuffer(content[8 : 8 + 8 * count], np.int64).tolist()
            missing = set(range(len(target.outputs))) - {i for i, _ in target.taken} - set(positions)
            if missing or not count or len(positions) != count:
                raise ValueError("outputs are missing")  # noqa: TRY301
            infos = [target.outputs[i] for i in positions]
            arrays = read_loose(content[8 + 8 * count :], infos, self._room.get("out"))
            found = {i: array for i, array in zip(positions, arrays, strict=True) if array is not None}
            if len(found) != count:
                raise ValueError("outputs are left out")  # noqa: TRY301
            return found
        except (ValueError, LookupError, MemoryError, TypeError) as error:
            raise child.nonsense(error) from error

    # Requests

    def _send(
        self, child: Child, kind: int, content: bytes, *, target: int = 0, descriptors: Sequence[int] = (),
        until: float | None = None,
    ) -> int:  # fmt: skip
        """Send a request; return its number, which is `_awaited` until its answer has come."""
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        seconds = 0.0 if until is None else max(1e-6, until - monotonic())
        self._awaited = number
        try:
            for packet in split(number, kind, content, target, seconds):
                if not child.send(packet, descriptors, until):
                    raise child.nonsense("it reads nothing")  # noqa: TRY301
                descriptors = ()
        except Died:
            self._awaited = None
            raise
        except BaseException:
            self._abandon(child, number)
            raise
        return number

    def _received(
        self, child: Child, number: int, until: float | None, timeout: float | None, first: bytes | None = None
    ) -> tuple[Packet, bytes]:
        """Return the answer of a request, within its time."""
        try:
            answer = child.answer(number, until, first)
            if answer is None:
                raise InferenceTimeoutError(  # noqa: TRY301
                    f"no answer within {in_words(timeout or 0)}; the child process is ended if it is still busy in "
                    f"{_PATIENCE:g} s" + (", and the state that the model keeps with it" if self._stateful else "")
                )
        except Died:
            self._awaited = None
            raise
        except BaseException:
            self._abandon(child, number)
            raise
        self._awaited = None
        packet, content, notes = answer
        for note in notes:
            self._take_note(child, note)
        return packet, content

    def _asked(
        self, child: Child, until: float | None, timeout: float | None, what: str, *, descriptors: Sequence[int] = (),
        **arguments: Any,
    ) -> Any:  # fmt: skip
        try:
            content = encode((what, arguments))
        except TypeError as error:
            raise OptionError(f"{error} cannot be handed to the child process that runs the model") from error
        number = self._send(child, ASK, content, descriptors=descriptors, until=until)
        return self._told(child, *self._received(child, number, until, timeout))

    def _told(self, child: Child, packet: Packet, content: bytes, notes: Sequence[bytes] = ()) -> Any:
        """Return what an answer in JSON says, or raise it."""
        for note in notes:
            self._take_note(child, note)
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

    def _take_note(self, child: Child, note: bytes) -> None:
        try:
            told = decode(note)
            for name, level, text in told["log"]:
                logging.getLogger(name).log(level, "%s", text)
            self.runtime = told["runtime"] or self.runtime
        except (ValueError, LookupError, TypeError) as error:
            raise child.nonsense(error) from error

    def _abandon(self, child: Child, number: int) -> None:
        self._abandoned = _Abandoned(self, child, number, _PATIENCE if child.loaded else _PATIENCE_OF_A_LOAD)

    def _crashed(self, died: Died) -> InferenceError:
        stateful = self._stateful
        self._child = None
        lost = ", and with it what the model kept from call to call" if stateful else ""
        return InferenceError(
            f"the child process that ran the model died during the call{lost}: {died}",
            "the next call starts a new one",
        )

    # The end

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call something once no request is at work whose caller has left; at once without one."""
        if (abandoned := self._abandoned) is None:
            callback()
        else:
            abandoned.then(callback)

    def close(self) -> None:
        """End the child, once a call that is at work has its answer. Does not wait."""
        self._closing = True
        self.close_if_asked()

    def close_if_asked(self) -> None:
        """End the child of a link that is closed, if nobody talks to it: who does, calls this afterwards."""
        if not self._closing or not self._lock.acquire(blocking=False):
            return
        try:
            if self._abandoned is not None and not self._abandoned.ended.is_set():
                return
            child, self._child = self._child, None
            if child is not None and child.alive:
                child.dismiss()
            for room in self._room.values():
                room.close()
            self._room = {}
            for target in tuple(self._targets):
                target.close()
        finally:
            self._lock.release()

    def _regions(self) -> list[Region]:
        return [*self._room.values(), *(t.region for t in tuple(self._targets) if t.region is not None)]

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
        self._awaited = self._abandoned = None
        for region in self._regions():
            try:
                region.part_from_parent()
            except OSError:
                self._parted = True
        return self._parted
