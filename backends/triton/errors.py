"""From what gRPC and the server report to this package's errors: one table, and the words that go with it."""

from __future__ import annotations

import re
from typing import Any

from accelerate.contract import in_words
from accelerate.errors import (
    AccelerateError,
    InferenceError,
    InferenceTimeoutError,
    ModelError,
    ModelNotFoundError,
    OptionError,
    ServerError,
    TensorError,
)

__all__ = [
    "SequenceLostError",
    "SharingError",
    "lost_registration",
    "region_in_use",
    "repeatable",
    "timed_out",
    "translate",
]


class SharingError(ServerError):
    """The server that answers cannot map this machine's regions."""


class SequenceLostError(InferenceError):
    """The server has ended the sequence that a call belongs to."""


_SEE_LOG = "read the server's log, which has the details"
# what a status means for a caller, and what to do about it
_TABLE: dict[str, tuple[type[AccelerateError], str]] = {
    "NOT_FOUND": (
        ModelNotFoundError,
        "check the model's name and version in the URL, and that the server has loaded it",
    ),
    "INVALID_ARGUMENT": (InferenceError, "load the model again, if it no longer has these tensors"),
    "UNAVAILABLE": (
        ServerError,
        "check that it runs, that this is its gRPC port (usually 8001), and whether it wants TLS (tritons://) or a "
        "certificate (ssl=)",
    ),
    "DEADLINE_EXCEEDED": (
        InferenceTimeoutError,
        "give a longer timeout, or look at do_command({'command': 'statistics'})",
    ),
    "UNAUTHENTICATED": (ServerError, "give load(..., headers={'authorization': 'Bearer ...'}) or ssl={...}"),
    "PERMISSION_DENIED": (ServerError, "give load() headers= or an ssl= certificate that permit this"),
    "RESOURCE_EXHAUSTED": (ServerError, "call it less often: it is out of memory, or its queue is full"),
    "UNIMPLEMENTED": (ServerError, "check that an Open Inference Protocol server listens there"),
    **dict.fromkeys(("CANCELLED", "ABORTED"), (InferenceError, "call again")),
    **dict.fromkeys(("INTERNAL", "UNKNOWN"), (InferenceError, _SEE_LOG)),
}
_TOO_LARGE = re.compile(r"message larger than max \((\d+) vs\. (\d+)\)", re.IGNORECASE)
_LOST = re.compile(r"unable to find (?:system )?shared memory region", re.IGNORECASE)
_SEQUENCE_LOST = re.compile(r"inference request for sequence .* must specify the START flag")
_HEADER_MISSING = re.compile(r"expecting header '([^']+)'")


def translate(error: Any, who: str, doing: str, reason: str = "", timeout: float | None = None) -> AccelerateError:
    """Return our error for a `grpc.RpcError`; raise it ``from`` that one.

    `who` is the server and model, as a URL; `doing` what was asked for: "load", "infer", ...; `reason` what else the
    server says about it; `timeout` after how many seconds the call was given up, where it was.
    """
    if timeout is not None and error.code().name == "DEADLINE_EXCEEDED":
        return timed_out(who, timeout)
    status, said = error.code().name, " ".join(f"{error.details() or ''} {reason}".split())
    if _SEQUENCE_LOST.search(said):
        return SequenceLostError(
            f"{who}: the server has ended the sequence of calls, and its state is lost: it was idle for the model's "
            "max_sequence_idle_microseconds, or the server was restarted",
            "call again, which begins a new one, or raise that time in the model's configuration",
        )
    kind, remedy = _TABLE.get(status, (ServerError, _SEE_LOG))
    special = _special(status, said, doing)
    if special is not None:
        kind, remedy = special
    return kind(f"{who}: {said or 'no explanation'} ({status})", remedy)


def _special(status: str, said: str, doing: str) -> tuple[type[AccelerateError], str] | None:
    """Tell apart what gRPC or Triton report with one status."""
    lower = said.lower()
    if match := _TOO_LARGE.search(said):
        return ServerError, (
            f"raise the limit of {match[2]} bytes for a message: the server's, or that of "
            "load(..., channel_args={'grpc.max_receive_message_length': ...})"
        )
    if match := _HEADER_MISSING.search(said):  # --grpc-restricted-protocol
        return ServerError, f"give load(..., headers={{{match[1]!r}: its value}}): the server protects this call"
    if "must specify a non-zero or non-empty correlation id" in lower:  # of a model within an ensemble
        return InferenceError, "load(..., parameters={'sequence_id': 7}): a model there keeps state between calls"
    if "invalid value type for" in lower:
        return InferenceError, "correct load(..., parameters=...)"
    if "that are no utf-8" in lower:  # the shim, of an ONNX model
        return TensorError, "give text: ONNX strings are UTF-8"
    if status == "UNAVAILABLE":
        if any(word in lower for word in ("certificate", "handshake", "ssl", "hostname verification")):
            return ServerError, (
                "check both certificates' dates and names, and ssl={'ca': path, 'certificate': path, 'key': path}; "
                "triton:// is without TLS, tritons:// with"
            )
        if "not ready" in lower or "no available versions" in lower:
            return ServerError, "wait until the model is ready, or read the server's log for why it is not"
        if "load / unload is not allowed" in lower:
            return ServerError, "start the server with --model-control-mode=explicit"
    if status == "NOT_FOUND" and "shared memory" in lower:
        return ServerError, "load(..., shared_memory='none'): the server has lost the region and cannot map it again"
    if "failed to create channel" in lower:
        return OptionError, "correct channel_args="
    if "load failed for model" in lower:
        return ModelError, "correct the model's files on the server; its log has the details"
    if status == "INVALID_ARGUMENT" and doing == "load":
        return ModelError, "check the URL"
    if status == "INVALID_ARGUMENT" and ("shape" in lower or "input" in lower):
        return TensorError, "load the model again: the server wants other tensors than when it was loaded"
    if status == "INTERNAL" and "shared memory size specified" in lower:
        return InferenceError, (
            "correct the model's configuration, which says less than this output, or load(..., shared_memory='none')"
        )
    if status == "INTERNAL" and doing in ("load", "unload"):
        return ModelError, _SEE_LOG
    return None


def timed_out(who: str, timeout: float) -> InferenceTimeoutError:
    """Return the error of a call whose deadline has passed."""
    return InferenceTimeoutError(
        f"{who}: no answer within {in_words(timeout)}; the server may still be computing",
        "give a longer timeout, or look at do_command({'command': 'statistics'})",
    )


def lost_registration(error: Any) -> bool:
    """Whether the server does not know our regions: it has been restarted, or another one answers."""
    return bool(_LOST.search(error.details() or ""))


def region_in_use(error: Any) -> bool:
    """Whether the server refuses to let go of a region that a request of it still uses."""
    return "in use" in (error.details() or "")


def repeatable(error: Any, *, stateful: bool) -> bool:
    """Whether a call has failed on its way, so that another try may succeed: not what the server itself has refused.

    A `stateful` model may have counted what has been sent.
    """
    if error.code().name != "UNAVAILABLE":
        return False
    said = (error.details() or "").lower()
    if stateful and "failed to connect" not in said:
        return False
    return not any(word in said for word in ("not ready", "no available versions", "expecting header", "certificate"))
