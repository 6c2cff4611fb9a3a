"""What a backend is. A new runtime implements `Backend` and a `Model`, and nothing else.

The core never imports a backend: it finds them through entry points (`registry`) and talks to them only through
this module and `model.Model`.
"""

from __future__ import annotations

import abc
import contextlib
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .errors import OptionError
from .reports import Availability, Device, LoadOptions, Match

if TYPE_CHECKING:
    from .model import Model
    from .source import Source

__all__ = ["Availability", "Backend", "Device", "LoadOptions", "Match", "whole_number"]


def whole_number(name: str, value: Any, most: int | None = None) -> int:
    """Check an option that counts something, from 1; NumPy's integers are integers.

    Raises
    ------
    OptionError
    """
    with contextlib.suppress(TypeError):
        count = operator.index(value)
        if not isinstance(value, (bool, np.bool_)) and count >= 1 and (most is None or count <= most):
            return count
    limit = "" if most is None else f" to {most}"
    raise OptionError(f"{name} is {value!r:.60}; wanted a whole number from 1{limit}")


class Backend(abc.ABC):
    """One runtime.

    Class attributes
    ----------------
    name : str
        What ``load(..., backend=...)`` takes.
    description : str
        One line for `list_backends` and ``doctor``.
    extra : str
        The extra of the distribution that installs the runtime.
    options : tuple of str
        The backend options that `load` accepts beside the common ones.
    priority : int
        `auto` asks backends with a higher priority first (an accelerator before the CPU), then by name.
    commands : Mapping of str to str
        What the backend brings to the command line: the name of a command, and the "module:object" of a
        `click.Command`. The module is imported when the command is called, or listed by ``--help``. Needs the extra
        ``cli``, as every command does.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    extra: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    priority: ClassVar[int] = 0
    commands: ClassVar[Mapping[str, str]] = {}

    @abc.abstractmethod
    def availability(self) -> Availability:
        """Say whether a model can be built here, established by building one."""

    @abc.abstractmethod
    def devices(self) -> Sequence[Device]:
        """List the devices, preferred first. Called only where the backend is available."""

    def configured(self, options: LoadOptions) -> Backend:
        """Return a backend whose other answers take the options of `load` into account, for `plan`.

        A backend whose options change nothing about what it can run keeps this method. Must not import the runtime.

        Raises
        ------
        OptionError, BackendNotAvailableError
            Where `load` would refuse them.
        """
        return self

    @abc.abstractmethod
    def match(self, source: Source) -> Match:
        """Judge a source by what it is. Must not import the runtime."""

    @abc.abstractmethod
    def load(self, source: Source, options: LoadOptions) -> Model:
        """Build the model.

        Raises
        ------
        BackendNotAvailableError, DeviceNotFoundError, ModelError, UnsupportedModelError, OptionError
        """
