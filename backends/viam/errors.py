"""From what grpclib and the machine report to this package's errors: one table, and the words that go with it."""

from __future__ import annotations

import asyncio
import concurrent.futures

from accelerate.contract import in_words
from accelerate.errors import (
    AccelerateError,
    InferenceError,
    InferenceTimeoutError,
    ModelNotFoundError,
    ServerError,
    one_line,
)

__all__ = ["TIMEOUTS", "timed_out", "translate"]

#: What an awaited call raises at its deadline: one class since Python 3.11, three before.
TIMEOUTS = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)
_SEE_LOG = "read the machine's log, which has the details"
_CREDENTIALS = "give load(..., api_key=, api_key_id=), or set VIAM_API_KEY and VIAM_API_KEY_ID"
_REACH = (
    "check that viam-server or the module runs there and that this is its port; a machine of the Viam app wants its "
    "own name and credentials (api_key=, api_key_id=)"
)
# what a status means for a caller, and what to do about it
_TABLE: dict[str, tuple[type[AccelerateError], str]] = {
    "NOT_FOUND": (ModelNotFoundError, "check the service's name, and that its configuration has no error"),
    "INVALID_ARGUMENT": (InferenceError, "load the model again, if it no longer has these tensors"),
    "UNAVAILABLE": (ServerError, _REACH),
    "DEADLINE_EXCEEDED": (InferenceTimeoutError, "give a longer timeout"),
    "UNAUTHENTICATED": (ServerError, _CREDENTIALS),
    "PERMISSION_DENIED": (ServerError, _CREDENTIALS),
    "RESOURCE_EXHAUSTED": (
        ServerError,
        "send less at once (viam-server takes 32 MiB a message), or call it less often",
    ),
    "UNIMPLEMENTED": (ServerError, "check that this is an ML model service of a Viam machine"),
    **dict.fromkeys(("CANCELLED", "ABORTED"), (InferenceError, "call again")),
    **dict.fromkeys(
        ("INTERNAL", "UNKNOWN", "DATA_LOSS", "FAILED_PRECONDITION", "OUT_OF_RANGE", "ALREADY_EXISTS"),
        (InferenceError, _SEE_LOG),
    ),
}


def timed_out(who: str, timeout: float) -> InferenceTimeoutError:
    """Return the error for a deadline that has passed."""
    return InferenceTimeoutError(
        f"{who}: no answer within {in_words(timeout)}; the call was cancelled", "give a longer timeout"
    )


def translate(
    error: BaseException, who: str, *, loading: bool = False, timeout: float | None = None
) -> AccelerateError:
    """Return our error for what a call has raised; raise it ``from`` that one.

    `who` is the service, as a URL; `timeout` after how many seconds the call was given up, where it was.
    """
    if isinstance(error, AccelerateError):
        return error
    status = getattr(getattr(error, "status", None), "name", None)
    passed = status == "DEADLINE_EXCEEDED" or (isinstance(error, TIMEOUTS) and getattr(error, "errno", None) is None)
    if passed and timeout is not None:
        if loading:
            return ServerError(f"{who}: no answer within {in_words(timeout)}", _REACH)
        return timed_out(who, timeout)
    if status is not None:
        kind, remedy = _TABLE.get(status, (ServerError, _SEE_LOG))
        if loading and kind is InferenceError:
            kind = ServerError
        said = " ".join(str(getattr(error, "message", None) or "").split())[:500]
        return kind(f"{who}: {said or status}" + (f" ({status})" if said else ""), remedy)
    if type(error).__name__ == "StreamTerminatedError":
        return ServerError(f"{who}: the connection broke ({one_line(error)})", f"call again; {_REACH}")
    if isinstance(error, OSError):
        return ServerError(f"{who}: it cannot be reached: {error.strerror or one_line(error)}", _REACH)
    return ServerError(f"{who}: {type(error).__name__}: {one_line(error)}", _REACH)
