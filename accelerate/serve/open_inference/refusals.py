"""What the server answers instead of a result: a status of gRPC and the reason, also for this package's errors."""

from __future__ import annotations

from itertools import accumulate
from urllib.parse import quote

import grpc

from ...errors import (
    AccelerateError,
    ClosedError,
    DeviceLostError,
    InferenceTimeoutError,
    ModelNotFoundError,
    OptionError,
    ServerError,
    TensorError,
    one_line,
)

__all__ = ["RefusalError", "refusal_of"]

_MOST_TEXT = 4500  # bytes as they travel: in a header, of which gRPC takes 8 KiB in all
_LARGEST = 12  # bytes of a character: each of its four in UTF-8 is written as %F0
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_STATUSES: tuple[tuple[type[AccelerateError], grpc.StatusCode], ...] = (
    (InferenceTimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (TensorError, grpc.StatusCode.INVALID_ARGUMENT),
    (OptionError, grpc.StatusCode.INVALID_ARGUMENT),
    (ModelNotFoundError, grpc.StatusCode.NOT_FOUND),
    (ClosedError, grpc.StatusCode.UNAVAILABLE),
    (DeviceLostError, grpc.StatusCode.UNAVAILABLE),
    (ServerError, grpc.StatusCode.UNAVAILABLE),
)


class RefusalError(Exception):
    """A request that gets a status in the place of an answer."""

    def __init__(self, status: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def details(self) -> str:
        """The reason as it travels."""
        text = str(self)[: _MOST_TEXT + 1].encode("utf-8", "backslashreplace").decode()
        if len(text) * _LARGEST <= _MOST_TEXT:
            return text
        sizes = accumulate(len(quote(one, safe=_PLAIN)) for one in text)
        fitting = sum(size <= _MOST_TEXT for size in sizes)
        return text if fitting == len(text) else f"{text[: fitting - 3]}..."


def refusal_of(error: Exception) -> RefusalError:
    """Return what a client is told of an error."""
    if isinstance(error, RefusalError):
        return error
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    ours = isinstance(error, AccelerateError)
    return RefusalError(status, str(error) if ours else f"{type(error).__name__}: {one_line(error)}")
