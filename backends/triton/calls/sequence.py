"""One sequence of a model that keeps state between calls: the server tells sequences apart by their identifiers.

See https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html,
"Sequence Batcher".
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from accelerate.contract import in_words
from accelerate.errors import InferenceTimeoutError, OptionError

from ..connection import Deadline
from ..errors import SequenceLostError
from .request import pack_parameters

__all__ = ["CallSequence", "sequence_of"]

Shapes = tuple["tuple[int, ...] | None", ...]
_MOST = np.iinfo(np.int64).max  # of what a parameter holds


class CallSequence:
    """Its calls go one after the other; the first after `CallSequence` or `finish` begins it on the server.

    Attributes
    ----------
    identifier : int or str
    """

    def __init__(self, identifier: int | str, most: int) -> None:
        self.identifier = identifier
        self._most = most  # of an identifier that is a number
        self._lock = threading.Lock()
        self._shapes: Shapes | None = None  # of the last call's inputs; None before the first one
        self._pid = os.getpid()

    def another(self) -> CallSequence:
        """Return a sequence with an identifier that nobody else has."""
        own = secrets.token_hex(8) if isinstance(self.identifier, str) else 1 + secrets.randbelow(self._most)
        return CallSequence(own, self._most)

    @contextmanager
    def turn(self, shapes: Shapes, deadline: Deadline, who: str) -> Iterator[bytes]:
        """Wait for the call before, and yield what goes into the request of this one, which counts if it succeeds."""
        self._wait(deadline, who)
        try:
            yield self._parameters(sequence_start=self._shapes is None)
            self._shapes = shapes
        except SequenceLostError:
            self._shapes = None
            raise
        finally:
            self._lock.release()

    @contextmanager
    def finish(self, deadline: Deadline, who: str) -> Iterator[tuple[Shapes, bytes] | None]:
        """Keep others away while it is ended; yield the shapes and parameters of that request, None without one."""
        self._wait(deadline, who)
        try:
            shapes, self._shapes = self._shapes, None
            yield None if shapes is None else (shapes, self._parameters(sequence_end=True))
        finally:
            self._lock.release()

    def _wait(self, deadline: Deadline, who: str) -> None:
        if self._pid != os.getpid():  # a forked child begins one of its own: the parent goes on with this
            self.__dict__.update(vars(self.another()))
        if not self._lock.acquire(timeout=deadline.left(who)):
            raise InferenceTimeoutError(
                f"{who}: no answer within {in_words(deadline.timeout)}: an earlier call of the sequence took it all",
                "give a longer timeout, or call it less often",
            )

    def _parameters(self, **flags: bool) -> bytes:
        return pack_parameters({"sequence_id": self.identifier, **{name: True for name, on in flags.items() if on}})


def sequence_of(kind: str | None, given: int | str | None) -> CallSequence | None:
    """Return a model's sequence; None for a model that has none.

    `kind` is the ModelDescription's `sequence`, `given` the identifier that the user wants.

    Raises
    ------
    OptionError
        The model takes no such identifier: the server would make another one of it, which might be somebody else's.
    """
    if kind is None and given is None:
        return None
    text = kind == "string" if given is None else isinstance(given, str)
    most = _MOST if kind in (None, "", "string") else min(_MOST, np.iinfo(np.dtype(kind)).max)
    if given is None:
        return CallSequence("" if text else 0, most).another()
    if kind and (text != (kind == "string") or (isinstance(given, int) and given > most)):
        raise OptionError(f"parameters: sequence_id is {given!r}, and the model takes {kind}", "give that, or none")
    return CallSequence(given, most)
