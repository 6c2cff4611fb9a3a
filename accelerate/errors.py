"""Every error this package raises.

::

    AccelerateError
    ├── OptionError                  ValueError         an argument of load() or a call is wrong
    ├── BackendNotAvailableError     ImportError        the backend's runtime is missing or broken here
    ├── DeviceNotFoundError          OSError            the named device does not exist here
    ├── DeviceLostError              OSError            the device went away while in use
    ├── ModelError                   ValueError         the model file is damaged or refused
    │   ├── ModelNotFoundError       FileNotFoundError  there is no such file
    │   └── UnsupportedModelError                       a sound file that this backend cannot run
    ├── TensorError                  ValueError         an input does not fit the model's tensor
    ├── InferenceError               RuntimeError       the runtime failed while running the model
    ├── InferenceTimeoutError        TimeoutError       no answer within the caller's timeout
    ├── ServerError                                     a model server could not do its part
    ├── ClosedError                                     the Model or Binding was closed
    └── NoBackendError                                  nothing here can run the model; carries the Plan

An error says what it got and what it wanted (`reason`), and what to do (`remedy`); its text is both, joined here only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from .reports import Plan

__all__ = [
    "AccelerateError",
    "BackendNotAvailableError",
    "ClosedError",
    "DeviceLostError",
    "DeviceNotFoundError",
    "InferenceError",
    "InferenceTimeoutError",
    "ModelError",
    "ModelNotFoundError",
    "NoBackendError",
    "OptionError",
    "ServerError",
    "TensorError",
    "UnsupportedModelError",
    "one_line",
]


class AccelerateError(Exception):
    """Base of every error raised by this package.

    Parameters
    ----------
    reason : str
    remedy : str
        What the reader can do; "" where the reason says all.

    Attributes
    ----------
    reason, remedy : str
    """

    reason = remedy = ""  # for a stranger's subclass that does without the rest of this

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)  # one argument: OSError takes two for an errno
        self.reason = reason
        self.remedy = remedy

    def with_remedy(self, remedy: str) -> Self:
        """Return the same error with another remedy."""
        return self._told(self.reason, remedy)

    def about(self, where: str) -> Self:
        """Return the same error, whose reason begins with the place that it is about."""
        return self._told(f"{where}: {self.reason}", self.remedy)

    def _told(self, reason: str, remedy: str) -> Self:
        # not by its arguments: a stranger's class may want others. What is an OSError, too, only that can make
        maker: Any = OSError if OSError in type(self).__mro__ else type(self)
        other: Self = maker.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.reason, other.remedy = reason, remedy
        other.args = (f"{reason}; {remedy}" if remedy else reason,)
        if isinstance(other, ImportError):
            other.msg = other.args[0]  # its text
        other.__cause__ = self.__cause__
        return other


class OptionError(AccelerateError, ValueError):
    """An option is unknown or has a value that cannot be used."""


class BackendNotAvailableError(AccelerateError, ImportError):
    """The named backend is unknown, or its runtime cannot build a model on this machine."""


class DeviceNotFoundError(AccelerateError, OSError):
    """The named device does not exist, or is not ready, on this machine."""


class DeviceLostError(AccelerateError, OSError):
    """The device went away while a model was using it."""


class ModelError(AccelerateError, ValueError):
    """The model cannot be read: damaged, truncated, or refused by the runtime."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """There is no model at the given path or address."""


class UnsupportedModelError(ModelError):
    """The model is sound, but this backend or device cannot run it."""


class TensorError(AccelerateError, ValueError):
    """An input tensor is missing, surplus, or does not fit what the model wants."""


class InferenceError(AccelerateError, RuntimeError):
    """The runtime reported an error while running the model."""


class InferenceTimeoutError(AccelerateError, TimeoutError):
    """No answer arrived within the caller's ``timeout``."""


class ServerError(AccelerateError):
    """A model server refused the request or could not be reached."""


class ClosedError(AccelerateError):
    """The Model or Binding was used after ``close()``."""


class NoBackendError(AccelerateError):
    """No backend on this machine can run the model.

    Attributes
    ----------
    plan : Plan
        Every backend that was considered, with its reason and remedy.
    """

    def __init__(self, reason: str, plan: Plan, remedy: str = "") -> None:
        super().__init__(reason, remedy)
        self.plan = plan

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.plan, self.remedy)


def one_line(error: BaseException, most: int = 300) -> str:
    """Return what an exception of somebody else says, for a message of ours: its text in one line, or its class."""
    return " ".join(str(error).split())[:most] or type(error).__name__
