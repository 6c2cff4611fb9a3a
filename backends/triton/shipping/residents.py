"""Which models this process wants on which servers: how many use each, and one at a time who ships it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

from accelerate.contract import in_words
from accelerate.errors import InferenceTimeoutError

if TYPE_CHECKING:
    from ..connection import Connection, Deadline

__all__ = ["Resident", "resident_of"]

_residents: dict[tuple[str, str], Resident] = {}
# a collection may end a forgotten model, which then counts itself out, while this thread is here: so nothing is made,
# and no thread is started, while the lock is held
_counting = threading.RLock()


class Resident:
    """A model on a server, as far as this process has to do with it.

    Attributes
    ----------
    lock : threading.Lock
        Held by whoever ships the model or takes it away.
    ours : bool
        Whether this process has shipped it, so that its last user takes it away.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ours = False
        self._users = 0
        self._restoring: Future[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether this process has a use for the model."""
        return self._users > 0

    def enter(self) -> None:
        """Count one user more."""
        with _counting:
            self._users += 1

    def leave(self) -> None:
        """Count one user less."""
        with _counting:
            self._users -= 1

    def restore(self, ship: Callable[[], None], who: str, deadline: Deadline) -> None:
        """Have `ship` called in a thread, once for all who wait for that, and wait for its end.

        The shipping goes on where a caller's time is over: the next one finds it done, or waits for the same.

        Raises
        ------
        InferenceTimeoutError
            The deadline has passed. And what `ship` raises.
        """
        mine: Future[None] = Future()
        thread = threading.Thread(target=self._ship, args=(ship, mine), name="accelerate-restore", daemon=True)
        with _counting:
            restoring = self._restoring
            if restoring is None:
                restoring = self._restoring = mine
        if restoring is mine:
            thread.start()
        if wait([restoring], deadline.left(who)).not_done:
            raise InferenceTimeoutError(
                f"{who}: no answer within {in_words(deadline.timeout)}: the server has lost the model, which is "
                "shipped to it again",
                "call again, or give a longer timeout",
            )
        restoring.result()

    def _ship(self, ship: Callable[[], None], restoring: Future[None]) -> None:
        try:
            ship()
        except BaseException as error:  # handed to those who wait
            self._restoring = None
            restoring.set_exception(error)
        else:
            self._restoring = None
            restoring.set_result(None)


def resident_of(connection: Connection, model: str) -> Resident:
    """Return a model of the server that a connection goes to."""
    target = connection.target
    # "localhost" and "127.0.0.1" are one server
    port = connection.address.hosts[0][1]
    server = f"loopback:{port}" if target.loopback and port and not target.fleet else target.name
    fresh = Resident()
    with _counting:
        return _residents.setdefault((server, model), fresh)


def _after_fork() -> None:
    """Free what threads of the parent, which are not in this process, were about to free."""
    global _counting
    _counting = threading.RLock()
    for resident in _residents.values():
        resident.lock = threading.Lock()
        resident._restoring = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
