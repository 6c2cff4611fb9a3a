"""How a call reaches the server and its results come back: through shared memory, or in a message."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accelerate.contract import Array
from accelerate.errors import AccelerateError, ClosedError, InferenceError, InferenceTimeoutError, ServerError
from accelerate.formats.open_inference.raw import pack_strings

from ..connection import Connection, Deadline
from ..description import ModelDescription
from ..errors import SharingError, lost_registration, repeatable, translate
from .answer import pair, read_answer, read_output
from .regions import Regions, Slot
from .request import Layout, bytes_of, join, pack_parameters
from .sequence import CallSequence

__all__ = ["Restore", "Transport"]

Restore = Callable[[Connection, Deadline], None]
Feeds = Sequence["Array | None"]  # in the order of the inputs; None for an optional one that is left out

_log = logging.getLogger("accelerate")
# seconds before a call is repeated, drawn at random: clients of one server do not come back as one
_PAUSE = (0.02, 0.1)
_RENEWALS = 2  # of a registration, in one call
_GOODBYE = 0.25  # seconds that ending a sequence may take, which is a run of the model
_LAYOUTS = 32  # remembered per model
_inherited: list[object] = []  # what a forked child has of its parent: collecting it would end the parent's connections


class Transport:
    """One model's way to its server. Any thread may use it.

    It holds no reference to the Model, so that a forgotten Model is collected and cleaned up after. `memory` is
    "system", "none", or None to find out; `restore` brings the model back to a server that has lost it, over a
    connection and until a deadline; `shares` tells whether the server has the extension for shared memory. "transport"
    and "shared_memory" in `details`, those of the RuntimeInfo, are kept true.
    """

    def __init__(
        self,
        connection: Connection,
        description: ModelDescription,
        memory: str | None,
        restore: Restore | None,
        *,
        shares: bool,
        details: dict[str, Any],
    ) -> None:
        self.connection = connection
        self.regions: Regions | None = None
        self._description = description
        self._restore = restore
        self._must_share = memory == "system"
        self._may_share = memory != "none"
        self._shares = shares
        self.details = details
        self._parameters = pack_parameters(connection.settings.parameters)
        self._who = str(connection.address)
        self._layouts: dict[tuple[tuple[int, ...] | None, ...], Layout] = {}
        self._say_messages("shared_memory='none' was asked for")

    def settle(self, deadline: Deadline) -> None:
        """Find out whether the server is on this machine by sharing a region with it."""
        if not self._may_share:
            return
        problem = self._try_sharing(deadline)
        if problem and self._must_share:
            raise ServerError(
                f"{self._who}: shared_memory='system' cannot be had: {problem}",
                "run the server on this machine, as root or the same user, with this /dev/shm (docker: --ipc=host), or "
                "leave the option out",
            )
        if problem:
            self._say_messages(problem)

    def restore(self, timeout: float) -> bool:
        """Bring the model back to a server that has lost it; return whether that can be done from here."""
        if self._restore is None:
            return False
        self._check_process()
        self._restore(self.connection, Deadline(timeout))
        return True

    def call(self, feeds: Feeds, timeout: float, sequence: CallSequence | None = None) -> list[Array]:
        """Run the model; the results are the caller's own."""
        self._check_process()
        deadline = Deadline(timeout)
        with self.connection.held():
            if sequence is None:
                return self._call(feeds, deadline, b"")
            with sequence.turn(_shapes(feeds), deadline, self._who) as parameters:
                return self._call(feeds, deadline, parameters)

    def end(self, sequence: CallSequence, timeout: float) -> None:
        """End a sequence: its next call begins another.

        Triton has no request for that alone: the model runs once more, on zeros. Where the server cannot be told, it
        ends the sequence some time after its last call, or when the next one begins.

        Raises
        ------
        InferenceTimeoutError
            A call of it goes on for longer than `timeout`.
        """
        import grpc

        with sequence.finish(Deadline(timeout), self._who) as last:
            if last is None:
                return
            shapes, parameters = last
            feeds = [
                None if shape is None else spec.blank(shape)
                for spec, shape in zip(self._description.inputs, shapes, strict=True)
            ]
            request = join(self.layout(shapes).head + parameters, _contents(feeds))
            with contextlib.suppress(grpc.RpcError, ClosedError), self.connection.held():
                self.connection.infer(request, timeout)

    def leave(self, sequence: CallSequence) -> None:
        """End a sequence that nobody wants any more, without waiting for long."""
        if self.connection.pid == os.getpid():
            with contextlib.suppress(InferenceTimeoutError):
                self.end(sequence, _GOODBYE)

    def _call(self, feeds: Feeds, deadline: Deadline, parameters: bytes) -> list[Array]:
        layout = self.layout(_shapes(feeds))
        regions = self.regions
        slot = None if regions is None or not layout.size else self._slot(regions, layout, deadline)
        if regions is None or slot is None:
            return self._by_message(layout, feeds, deadline, parameters)
        try:
            for view, feed in zip(slot.inputs, feeds, strict=True):
                if view is not None and feed is not None:
                    np.copyto(view, feed)
            return [_own(result) for result in self._by_region(regions, slot, feeds, deadline, parameters)]
        except SharingError as error:
            self._lost(regions, error)
        finally:
            regions.give(slot)
        return self._by_message(layout, feeds, deadline, parameters)

    def call_bound(self, regions: Regions, slot: Slot, feeds: Feeds, timeout: float) -> list[Array]:
        """Run the model on a Binding's slot; the results may be views of its region."""
        if regions.pid != os.getpid():
            raise ClosedError("this Binding belongs to the process that this one was forked off", "call bind() again")
        with self.connection.held():
            return self._call_bound(regions, slot, feeds, Deadline(timeout))

    def _call_bound(self, regions: Regions, slot: Slot, feeds: Feeds, deadline: Deadline) -> list[Array]:
        if self.regions is regions:
            regions.begin(slot)
            try:
                return self._by_region(regions, slot, feeds, deadline)
            except SharingError as error:
                self._lost(regions, error)
            finally:
                regions.give(slot)
        # the region is still this process's memory, only not the server's
        return self._by_message(self.layout(_shapes(feeds)), feeds, deadline)

    def bind(self, layout: Layout, timeout: float) -> tuple[Regions, Slot] | None:
        """Return a slot for a Binding; None where tensors travel in messages."""
        self._check_process()
        regions = self.regions
        if regions is None or not layout.size:
            return None
        try:
            return regions, regions.bind(layout, Deadline(timeout))
        except SharingError as error:
            self._lost(regions, error)
        except OSError as error:
            self._no_memory(regions, layout, error)
        return None

    def layout(self, shapes: tuple[tuple[int, ...] | None, ...]) -> Layout:
        """Return the layout of a call with inputs of these shapes."""
        layout = self._layouts.get(shapes)
        if layout is None:
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            version = self.connection.address.version
            layout = self._layouts[shapes] = Layout(self._description, version, shapes, self._parameters)
        return layout

    def close(self) -> None:
        """Let go of the regions, then of the connection."""
        if self.connection.pid == os.getpid():
            if self.regions is not None:
                self.regions.close()
            self.connection.close()

    # Shared memory

    def _try_sharing(self, deadline: Deadline) -> str:
        """Share a region with the server and keep it for the first call; return what stands in the way."""
        import grpc

        if not self._shares:
            return "the server has no shared memory extension"
        if self.connection.target.fleet:
            return "several servers answer at this address, and a region is registered with one"
        layout = self.layout(self._description.smallest_call)
        if not layout.size:
            self._say_messages("every tensor is text, or of a size that is known only afterwards")
            return ""
        regions = Regions(self.connection)
        try:
            regions.sweep(deadline)
            slot = regions.take(layout, deadline)
        except (AccelerateError, grpc.RpcError, OSError) as error:
            regions.close()
            if isinstance(error, grpc.RpcError):
                return str(error.details())
            if isinstance(error, AccelerateError):
                return error.reason
            if not self._must_share:
                self._warn_no_memory(layout, error)
            return _no_region(layout, error)
        if slot is not None:
            regions.give(slot)
        self.regions = regions
        self.details.update(transport="system-shared-memory", shared_memory="used")
        return ""

    def _slot(self, regions: Regions, layout: Layout, deadline: Deadline) -> Slot | None:
        try:
            return regions.take(layout, deadline)
        except ClosedError:
            if self.regions is regions:
                raise
            # another thread has just found that messages it must be
        except SharingError as error:
            self._lost(regions, error)
        except OSError as error:
            self._no_memory(regions, layout, error)
        return None

    def _lost(self, regions: Regions, error: SharingError) -> None:
        """Send messages from now on: whoever answers now cannot map our regions."""
        if self._must_share:
            raise error
        if self.regions is regions:
            _log.warning("tensors travel in messages from now on: %s", error)
        self._stop_sharing(regions, error.reason)

    def _no_memory(self, regions: Regions, layout: Layout, error: OSError) -> None:
        if isinstance(error, AccelerateError):  # InferenceTimeoutError is an OSError too
            raise error
        if self._must_share:
            raise ServerError(
                f"{self._who}: {_no_region(layout, error)}",
                "enlarge it (docker: --shm-size), or leave shared_memory='system' out",
            ) from error
        if self.regions is regions:
            self._warn_no_memory(layout, error)
        self._stop_sharing(regions, _no_region(layout, error))

    def _warn_no_memory(self, layout: Layout, error: BaseException) -> None:
        _log.warning(
            "%s: %s: tensors travel in messages, which is slower. Enlarge it (docker: --shm-size), or settle it with "
            "load(..., shared_memory='none')",
            self._who,
            _no_region(layout, error),
        )

    def _stop_sharing(self, regions: Regions, why: str) -> None:
        if self.regions is regions:
            self.regions = None
            self._say_messages(why)
            regions.close()

    def _say_messages(self, why: str) -> None:
        self.details.update(transport="message", shared_memory=f"not used: {why}")

    def _check_process(self) -> None:
        """In a forked child, connect anew: the threads and sockets of the parent's connection are not the child's."""
        if self.connection.pid != os.getpid():
            _inherited.append((self.connection, self.regions))
            shared = self.regions is not None
            self.connection = self.connection.renewed()
            self.regions = Regions(self.connection) if shared else None

    # Requests and answers

    def _by_message(self, layout: Layout, feeds: Feeds, deadline: Deadline, parameters: bytes = b"") -> list[Array]:
        request = join(layout.head + parameters, _contents(feeds))
        answer = self._exchange(lambda: request, deadline)
        return [_own(result) for result in self._results(answer, None)]

    def _by_region(
        self, regions: Regions, slot: Slot, feeds: Feeds, deadline: Deadline, parameters: bytes = b""
    ) -> list[Array]:
        """Run on what lies in a slot; `feeds` gives the strings. The results may be views of its region."""
        texts = [
            pack_strings(feed)
            for view, feed in zip(slot.inputs, feeds, strict=True)
            if view is None and feed is not None
        ]

        def request() -> bytes:
            head = slot.request + parameters  # the very same object without parameters
            return join(head, texts) if texts else head

        return self._results(self._exchange(request, deadline, regions, slot), slot)

    def _exchange(
        self,
        request: Callable[[], bytes],
        deadline: Deadline,
        regions: Regions | None = None,
        slot: Slot | None = None,
    ) -> bytes:
        """Send a request and return the answer; once more where that is safe and may help.

        It is asked for each time, for the name of the region in it may have changed.
        """
        import grpc

        repeats, renewals, restore = 1, _RENEWALS, self._restore
        stateful = self._description.sequence is not None
        while True:
            if regions is not None and slot is not None:
                regions.prepare(slot, deadline)
                slot.dirty = True  # until it is known that the server has ended its work
            try:
                answer = self.connection.infer(request(), deadline.left(self._who))
            except grpc.RpcError as error:
                code = error.code()
                if slot is not None and code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                    slot.dirty = False  # it was refused before any work
                    if renewals and lost_registration(error):
                        renewals -= 1
                        slot.registered = False
                        continue
                if restore is not None and code is grpc.StatusCode.NOT_FOUND and not lost_registration(error):
                    restore(self.connection, deadline)
                    restore = None
                    continue
                if repeats and repeatable(error, stateful=stateful):
                    repeats -= 1
                    deadline.pause(random.uniform(*_PAUSE), self._who)
                    continue
                raise translate(error, self._who, "infer", timeout=deadline.timeout) from error
            if slot is not None:
                slot.dirty = False
            return answer

    def _results(self, message: bytes, slot: Slot | None) -> list[Array]:
        """Return the outputs in the model's order, as views of the message or of a slot's region."""
        if slot is not None and message == slot.confirmed:  # a fixed shape makes for the same answer at every call
            return [view for view in slot.outputs if view is not None]
        answers, raw = read_answer(message)
        views = [None] * len(self._description.outputs) if slot is None else slot.outputs
        shared = {t.name for t, view in zip(self._description.outputs, views, strict=True) if view is not None}
        contents = pair(answers, raw, shared)
        given = {answer.name: answer for answer in answers}
        results = []
        for spec, view in zip(self._description.outputs, views, strict=True):
            answer = given.get(spec.name)
            if answer is None or answer.datatype != spec.datatype:
                got = "nothing" if answer is None else answer.datatype
                raise InferenceError(
                    f"{self._who}: the server answered {got} for output {spec.name!r}, announced as {spec.datatype}",
                    "load the model again, or correct its configuration",
                )
            results.append(read_output(spec, answer, contents.get(spec.name), view))
        if slot is not None and all(a is b for a, b in zip(results, slot.outputs, strict=True)):
            slot.confirmed = message
        return results


def _no_region(layout: Layout, error: BaseException) -> str:
    return f"no region of {layout.size} bytes in /dev/shm ({error})"


def _contents(feeds: Feeds) -> list[Any]:
    return [pack_strings(feed) if feed.dtype.hasobject else bytes_of(feed) for feed in feeds if feed is not None]


def _shapes(feeds: Feeds) -> tuple[tuple[int, ...] | None, ...]:
    return tuple([None if feed is None else feed.shape for feed in feeds])


def _own(array: Array) -> Array:
    """Return an array that is the caller's: what is read-only or lies in a region is copied."""
    return array if array.flags.owndata and array.flags.writeable else array.copy()
