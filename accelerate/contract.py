"""All that a backend imports from the core: a new runtime implements `Backend` and a `RuntimeModel`, and nothing else.

The core never imports a backend: it finds them through entry points (`registry`) and talks to them only through what
is here.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, ClassVar

from ._records import record
from ._version import __version__
from .arguments import check_settled, refusal, whole_number
from .calls.binding import Binding, CopyingBinding, Owner, allocate, read_only
from .calls.conversion import Array, InputAdapter, blank, concrete_shape, dtype_of
from .calls.deadlines import in_words, left, seconds
from .calls.names import NameIndex, name_tensors, suggestion
from .calls.normalization import with_image_meaning
from .calls.random_tensors import random_tensor
from .calls.shapes import default_shape, settle
from .errors import AccelerateError, ModelError, one_line
from .given import host_and_port
from .metadata import Metadata
from .model import Model
from .reports import Availability, Device, LoadOptions, Match, RuntimeInfo
from .runtime_model import Command, RuntimeModel
from .source import Source, without_secrets
from .system.cache import folder, recall, remember, write
from .system.children import ChildError, Verdict, run_in_child, verdict, verdicts
from .system.cpus import default_threads, usable_cpus
from .system.known_answers import DTYPES, try_digits, try_runtime
from .system.stderr import held_back
from .system.wheels import Wheels

if TYPE_CHECKING:
    from .calls.held_open import HeldOpen
    from .calls.narrowed import check_narrowed, may_narrow
    from .calls.texts import encoded_texts
    from .diagnosis.facts import Conflict, Distribution, Facts
    from .formats.description import describe_source, interface_of
    from .formats.tflite.assumptions import ASSUMED_NORMALIZATION
    from .system.kept import KeptEngine, kept_engine
else:  # what only some backends need is imported when one names it

    def __getattr__(name: str) -> Any:
        """Import what says what a file means, what connections are made of, and what only ``doctor`` asks."""
        from importlib import import_module

        modules = {
            "ASSUMED_NORMALIZATION": ".formats.tflite.assumptions",
            "Conflict": ".diagnosis.facts",
            "Distribution": ".diagnosis.facts",
            "Facts": ".diagnosis.facts",
            "HeldOpen": ".calls.held_open",
            "check_narrowed": ".calls.narrowed",
            "describe_source": ".formats.description",
            "interface_of": ".formats.description",
            "encoded_texts": ".calls.texts",
            "may_narrow": ".calls.narrowed",
            "KeptEngine": ".system.kept",
            "kept_engine": ".system.kept",
        }
        if name in modules:
            return getattr(import_module(modules[name], __package__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ASSUMED_NORMALIZATION",
    "DTYPES",
    "Array",
    "Availability",
    "Backend",
    "Binding",
    "ChildError",
    "Command",
    "Conflict",
    "CopyingBinding",
    "Device",
    "Distribution",
    "Facts",
    "HeldOpen",
    "InputAdapter",
    "KeptEngine",
    "LoadOptions",
    "Match",
    "Model",
    "NameIndex",
    "Owner",
    "RuntimeInfo",
    "RuntimeModel",
    "Source",
    "Verdict",
    "Wheels",
    "__version__",
    "allocate",
    "blank",
    "check_narrowed",
    "check_settled",
    "concrete_shape",
    "default_shape",
    "default_threads",
    "describe_source",
    "dtype_of",
    "encoded_texts",
    "folder",
    "held_back",
    "host_and_port",
    "in_words",
    "interface_of",
    "kept_engine",
    "left",
    "may_narrow",
    "name_tensors",
    "random_tensor",
    "read_only",
    "recall",
    "record",
    "refusal",
    "remember",
    "run_in_child",
    "seconds",
    "settle",
    "suggestion",
    "try_digits",
    "try_runtime",
    "usable_cpus",
    "verdict",
    "verdicts",
    "whole_number",
    "with_image_meaning",
    "without_secrets",
    "write",
]


class Backend(abc.ABC):
    """One runtime.

    `load` is `plan` carried out: `match`, `availability` and `devices` are asked alike for both, and what they answer
    or raise is what the plan shows and `load` raises.

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
    formats : Mapping of str to str
        The formats of which this is the files' own engine, each with what a person calls such a file: among devices of
        one kind `auto` takes it first, and other engines' answers are judged by its own.
    in_process : bool
        The models run in the program's own process, which ``load(isolation="process")`` changes. A backend whose models
        run in another one, or on another machine, says False and is loaded as without.
    commands : Mapping of str to str
        What the backend brings to the command line: the name of a command, and the "module:object" of a
        `click.Command`. The module is imported when the command is called, or listed by ``--help``. Needs the extra
        ``cli``, as every command does.
    variables : tuple of str
        The environment variables of the backend's own, ``EDGE_ACCELERATE_...``, so that ``doctor`` knows a wrong name.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    extra: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    formats: ClassVar[Mapping[str, str]] = {}
    in_process: ClassVar[bool] = True
    commands: ClassVar[Mapping[str, str]] = {}
    variables: ClassVar[tuple[str, ...]] = ()

    def kinds(self) -> Sequence[str]:
        """Tell which kinds of device (`reports.KINDS`) there may be here, without the runtime.

        From /dev, /sys, package files. `auto` starts a runtime only for the kinds that it names.
        """
        return ("cpu",)

    def check_environment(self) -> None:  # noqa: B027 - most backends read no variables
        """Refuse a wrong value of a variable of the environment that this backend reads, naming it.

        Raises
        ------
        OptionError
        """

    @abc.abstractmethod
    def match(self, source: Source, options: LoadOptions) -> Match:
        """Judge a source and the options by what they are. Must not import the runtime.

        Reasons are sentences that name the source.

        Raises
        ------
        OptionError, ModelError, BackendNotAvailableError
            What `load` would raise.
        """

    @abc.abstractmethod
    def availability(self) -> Availability:
        """Say whether a model can be built here, established by building one."""

    def availability_for(self, source: Source, options: LoadOptions) -> Availability:
        """Say the same for a model and options that decide about it: a library, an engine."""
        return self.availability()

    def conflicts(self, facts: Facts) -> Sequence[Conflict]:
        """Say what is installed on a machine that does not fit together, for ``doctor``.

        Must not import the runtime: the facts may be another machine's.
        """
        return ()

    @abc.abstractmethod
    def devices(self, options: LoadOptions) -> Sequence[Device]:
        """List the devices, preferred first. Called only where the backend is available.

        It may have computed more on them than `devices_for`, which is asked for a load. A device that is only used when
        it is named is listed where `options.device` names it.
        """

    def named_devices(self, options: LoadOptions) -> Sequence[str]:
        """Name the devices that `devices_for` lists only where they are named, since they start slowly, say.

        `tune` tries them.
        """
        return ()

    def devices_for(self, source: Source, options: LoadOptions) -> Sequence[Device]:
        """List the same for a model; an existing runtime object has settled where it runs."""
        return self.devices(options)

    @abc.abstractmethod
    def load(self, source: Source, options: LoadOptions) -> Model:
        """Build the model on the device `options.device`. What the runtime raises becomes ours by `translate`."""

    def load_replicas(self, source: Source, options: LoadOptions, count: int) -> list[Model]:
        """Build several models for as many callers; a runtime that can share one among them overrides this."""
        with ExitStack() as stack:  # those before a failure are closed
            models = [stack.enter_context(closing(self.load(source, options))) for _ in range(count)]
            stack.pop_all()
        return models

    def translate(self, error: Exception, source: Source) -> AccelerateError:
        """Return the error for what the runtime has raised while a model was loaded."""
        ours = ModelError(f"{self.name} refuses {source}: {one_line(error)}")
        return error if isinstance(error, AccelerateError) else ours

    @classmethod
    def sniff(cls, head: bytes) -> str:
        """Return which of `formats` a file is of by its first bytes, "" for none; for formats unknown to the core."""
        return ""

    def describe(self, source: Source, signature: str | None) -> Metadata | None:
        """Return what a file of `formats` that the core does not know says about itself, without the runtime.

        And what an existing object says, with it.

        Raises
        ------
        ModelError
        OptionError
            There is no such signature.
        """
        return None
