"""The thread that tries a lost model again. It is there for as long as that model is lost, and keeps none alive."""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from ...calls.deadlines import guarded
from ...errors import AccelerateError, InferenceError, one_line
from .members import Opened, bare, close_quietly

__all__ = ["Patient", "start"]

_log = logging.getLogger("accelerate")


class Patient(Protocol):
    """What has models to be tried again, by their places."""

    def due_in(self, place: int) -> float | None:
        """Return the seconds until a model is to be tried; None where there is nothing to do any more."""

    def attempt(self, place: int) -> Callable[[], Opened]:
        """Return what tries it."""

    def arrived(self, place: int, opened: Opened) -> None:
        """Take it in."""

    def failed_again(self, place: int, error: AccelerateError, took: float) -> None:
        """Note that it is still lost."""


def start(patient: Patient, place: int) -> queue.SimpleQueue[None]:
    """Start the thread for one model; what is put into the queue wakes it.

    Raises
    ------
    RuntimeError
        There can be no more threads.
    """
    # not an Event: a queue takes what is put into it wherever the garbage collector comes in between
    wakeup: queue.SimpleQueue[None] = queue.SimpleQueue()
    patients = weakref.ref(patient, lambda _: wakeup.put(None))
    threading.Thread(target=_recover, args=(patients, place, wakeup), name="accelerate-failover", daemon=True).start()
    return wakeup


def _recover(patients: Callable[[], Patient | None], place: int, wakeup: queue.SimpleQueue[None]) -> None:
    while _wait(patients, place, wakeup):
        if (patient := patients()) is None:
            return
        attempt = patient.attempt(place)
        del patient  # a model that its program forgets meanwhile goes as soon as this attempt has ended
        _try(patients, place, attempt)
        del attempt


def _wait(patients: Callable[[], Patient | None], place: int, wakeup: queue.SimpleQueue[None]) -> bool:
    """Wait until the next attempt; return whether there is to be one."""
    while (patient := patients()) is not None and (seconds := patient.due_in(place)) is not None:
        del patient
        if not seconds:
            return True
        try:
            wakeup.get(timeout=seconds)
        except queue.Empty:
            continue
    return False


def _try(patients: Callable[[], Patient | None], place: int, attempt: Callable[[], Opened]) -> None:
    started = monotonic()
    opened, failure = None, None
    try:
        # the end of the program waits for it: a runtime cannot be left in the middle of loading a model
        opened = guarded(attempt, lambda: None)()
    except AccelerateError as error:
        failure = bare(error)  # its frames are this one's, too
    except Exception as error:  # a stranger's code
        _log.debug("an attempt to have a model back", exc_info=error)
        failure = InferenceError(f"it raised {type(error).__name__}: {one_line(error)}")
    patient = patients()
    if patient is None:
        if opened is not None:
            close_quietly(opened.model)
    elif opened is None or opened.error is not None:
        said = failure if opened is None else opened.error
        assert said is not None, "one of both is there"
        if opened is not None:
            close_quietly(opened.model)
        patient.failed_again(place, said, monotonic() - started)
    else:
        patient.arrived(place, opened)
