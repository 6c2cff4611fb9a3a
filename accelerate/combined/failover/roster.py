"""Who of a failover's models answers, who is lost, and what has been said of it."""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...calls.forks import keep_in_children
from ...errors import AccelerateError, InferenceError, InferenceTimeoutError, OptionError, one_line
from ...model import Model
from . import recovery
from .interface import Interface
from .members import DOUBTFUL, Member, Opened, Service, close_quietly

__all__ = ["Failure", "Roster"]

#: What has failed in a call, why, and the seconds that it had.
Failure = tuple[Service, AccelerateError, "float | None"]

_KEPT = 64  # switches that `Model.runtime` tells of
_IN_A_ROW = 3  # failures of a model that works on zeros, until it is taken for broken all the same

_log = logging.getLogger("accelerate")


class Roster:
    """See the module. Any thread may tell it what has happened; its lock is never held while a model works.

    Parameters
    ----------
    members : sequence of Member
        Opened ones, or such as have an `error`; one of them at least answers.
    interface : Interface
        Of the first that was there.

    Attributes
    ----------
    serving : tuple of Service
        Those that answer, preferred first.
    current : Model
        The first of them, or the one that was it at last.
    switches : int
    unattended : bool
        Nobody may be trying the lost ones, so that the next answer is to be noted.
    """

    def __init__(self, members: Sequence[Member], interface: Interface) -> None:
        self._members = tuple(members)
        self._interface = interface
        self._lock = threading.Lock()
        self._closed = False
        self._history: collections.deque[dict[str, Any]] = collections.deque(maxlen=_KEPT)
        self.switches = 0
        self.unattended = False
        self.serving: Sequence[Service] = ()
        self._arrange()
        self.current: Model = next(iter(self.serving)).model
        keep_in_children(self)
        self._attend()

    def forked(self) -> None:
        """In a forked child: the threads that try the lost ones are the parent's."""
        self._lock = threading.Lock()
        for member in self._members:
            member.wakeup = None
        self.unattended = True

    def told(self) -> dict[str, Any]:
        """Return the latest switches, who does not answer and who fails on some inputs, for `RuntimeInfo.details`."""
        with self._lock:
            history = tuple(dict(entry) for entry in self._history)
            lost = {member.name: str(member.error) for member in self._members if member.error is not None}
            fails = {self._members[one.place].name: one.fails_on_inputs for one in self.serving if one.fails_on_inputs}
        return {"failover": history, "lost": lost, "fails_on_inputs": fails}

    def models(self) -> list[Model]:
        """Return all that have been loaded."""
        with self._lock:
            return [member.opened.model for member in self._members if member.opened is not None]

    def close(self) -> None:
        """Take nobody back, and let the threads that try the lost ones end."""
        with self._lock:
            self._closed = True
            for member in self._members:
                if member.wakeup is not None:
                    member.wakeup.put(None)

    # What calls ask and tell

    def candidates(self, failures: Sequence[Failure], tried: set[int]) -> list[Service]:
        """Return who is left for a call: those that answer, else, where all are lost, whoever may be back."""
        serving = [service for service in self.serving if service.place not in tried]
        if serving or any(isinstance(error, DOUBTFUL) for _, error, _ in failures):
            return serving
        lost = [m for m in self._members if m.service is None and m.opened is not None and m.place not in tried]
        # one that does not return from a call would keep this one, too
        sure = [member for member in lost if not isinstance(member.error, InferenceTimeoutError)]
        chosen = sure if sure or failures else lost
        return [Service(member.place, opened) for member in chosen if (opened := member.opened) is not None]

    def note_failure(self, service: Service, error: AccelerateError) -> None:
        """Take a model out that is lost for certain; of what may be the input's fault the next one's answer decides."""
        if not isinstance(error, DOUBTFUL):
            self._lose(service, error, None)

    def note_answer(self, service: Service, failures: Sequence[Failure]) -> None:
        """Draw the consequences from an answer: others have failed in the same call, or it was tried though lost."""
        service.failures = 0
        if self.unattended:
            self._attend()
        for failed, error, limit in failures:
            if isinstance(error, DOUBTFUL) and not self._forgives(failed, error, service):
                self._lose(failed, error, limit)
        member = self._members[service.place]
        if member.service is None and (opened := member.opened) is not None and opened.model is service.model:
            self.arrived(service.place, opened)

    def no_answer(self) -> AccelerateError:
        """Return the error of a call for which nobody is there."""
        lost = "; ".join(f"{member.name}: {member.error}" for member in self._members)
        return InferenceError(f"no model of this failover answers ({lost})", "they are tried again in the background")

    def _forgives(self, failed: Service, error: AccelerateError, answered: Service) -> bool:
        """Return whether a failure is the input's: the model was away for the like before, and ran again on zeros.

        Another switch would lead back here, and so for ever.
        """
        forgiving = self._members[failed.place].forgiving and isinstance(error, InferenceError)
        if not forgiving or failed.failures + 1 >= _IN_A_ROW:
            return False
        failed.failures += 1
        if not failed.fails_on_inputs:
            failed.fails_on_inputs = str(error)
            _log.warning("%s fails on some inputs, which %s answers: %s", failed.name, answered.name, str(error))
        return True

    def _lose(self, service: Service, error: AccelerateError, limit: float | None) -> None:
        """Take a model out. Of many calls that find it lost, the first does."""
        with self._lock:
            member = self._members[service.place]
            if member.service is not service or self._closed:
                return
            self.unattended = True  # what Ctrl-C leaves half done here, the next answer sees to
            useless = member.lose(error, limit)
            switch = self._arrange(one_line(error))
        self._attend()
        if useless is not None:
            close_quietly(useless)
        said = str(error)  # a handler may keep what is logged, and the error keeps the arrays of its call
        if switch is None:
            _log.warning("%s, which stands by, does not answer: %s", service.name, said)
        else:
            after = f"{switch['to']} answers from now on" if switch["to"] else "no other is left"
            _log.warning("%s does not answer (%s); %s", service.name, said, after)

    def _arrange(self, reason: str = "") -> dict[str, Any] | None:
        """Settle who answers, and return the switch where that is another one now. Called with the lock."""
        serving = [member.service for member in self._members if member.service is not None]
        reserve: float | None = 0.0
        for behind, service in enumerate(reversed(serving)):
            service.reserve, service.behind = reserve, behind
            reserve = None if reserve is None or service.usual is None else reserve + service.usual
        before, self.serving = self.serving[:1], tuple(serving)
        if serving:
            self.current = serving[0].model
        if not reason or before == self.serving[:1]:
            return None
        names = [one[0].name if one else "" for one in (before, serving)]
        switch = {"time": time.time(), "from": names[0], "to": names[1], "reason": reason}
        self._history.append(switch)
        self.switches += 1
        return switch

    def _attend(self) -> None:
        """Have the lost ones tried again, each by a thread of its own."""
        with self._lock:
            for member in self._members:
                if member.wakeup is None and member.is_due_in is not None and not self._closed:
                    with contextlib.suppress(RuntimeError):  # no more threads: the next loss asks for it again
                        member.wakeup = recovery.start(self, member.place)
            self.unattended = False

    # What the threads that try the lost ones ask and tell: `recovery.Patient`

    def due_in(self, place: int) -> float | None:
        """Return the seconds until a model is to be tried; None where there is nothing to do any more."""
        with self._lock:
            member = self._members[place]
            seconds = None if self._closed else member.is_due_in
            if seconds is None:
                member.wakeup = None
            return seconds

    def attempt(self, place: int) -> Callable[[], Opened]:
        """Return what tries a model again."""
        with self._lock:
            return self._members[place].attempt(self._interface)

    def arrived(self, place: int, opened: Opened) -> None:
        """Let a model answer again, or for the first time."""
        for standing in self.serving:
            standing.usual = standing.measured()
        with self._lock:
            member = self._members[place]
            known = member.opened is not None and member.opened.model is opened.model
            if self._closed or member.service is not None:
                stale, switch = None if known else opened.model, None
            else:
                stale, away = None, member.away_for
                member.forgiving = isinstance(member.error, InferenceError)
                name = member.arrive(opened).name
                switch = self._arrange(f"{name} answers again, after {away:.3g} s")
        if stale is not None:
            close_quietly(stale)
        if switch is not None:
            _log.warning("%s%s", switch["reason"], f"; {switch['from']} stands by" if switch["from"] else "")

    def failed_again(self, place: int, error: AccelerateError, took: float) -> None:
        """Note that a model is still lost; one that does not fit is given up."""
        with self._lock:
            member = self._members[place]
            if member.service is not None or self._closed:
                return
            if not isinstance(error, OptionError) or member.opened is not None:
                member.failed_again(error, took)
                return
            member.drop(error)
        _log.warning("%s does not fit, and is left out for good: %s", member.name, str(error))
