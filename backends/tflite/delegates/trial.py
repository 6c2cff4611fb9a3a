"""The first load and inference of a model with a delegate, in a child process: some pairs of library and engine crash.

Others hang. What is proved once is remembered, and what crashes, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from accelerate import errors
from accelerate.contract import ChildError, Source, __version__, folder, record, verdict, verdicts
from accelerate.errors import AccelerateError, BackendNotAvailableError, InferenceError

from ..engines import Engine
from .library import DelegateLibrary, stamp
from .library_file import LibraryKind
from .model import DelegatedModel
from .overhearing import overheard

__all__ = ["SECONDS", "Trial", "outcome"]

#: Until the child is given up: a Raspberry Pi starts Python, opens the stick and sends it a large model within this.
SECONDS = 60.0


@record(frozen=True)
class Trial:
    """A library and an engine, which are tried together with one model after the other.

    Attributes
    ----------
    kind : LibraryKind
    library : DelegateLibrary
    engine : Engine
    """

    kind: LibraryKind
    library: DelegateLibrary
    engine: Engine

    def prove(
        self, source: Source, attempt: str, where: str, delegate_options: Mapping[str, str], **arguments: Any
    ) -> None:
        """Load and run a model once in a child process, unless these very versions have been tried with this very one.

        Parameters
        ----------
        source : Source
        attempt : str
            The "module:function" that the child calls with the model, the engine's option, the library's path,
            `delegate_options` and the other arguments. Returns what `outcome` does.
        where : str
            What the model runs on, for messages.
        delegate_options : Mapping of str to str
        **arguments
            On which the verdict does not depend.

        Raises
        ------
        BackendNotAvailableError
            They crash or hang together.
        AccelerateError
            What the child was told: no device, a model that is refused.
        """
        model, name = source.read(), str(source)
        if not self.engine.verifies:
            from accelerate.formats.tflite.structure import check_structure

            check_structure(model, name)
        try:
            tried = verdict(
                self.kind.topic, self._versions(), attempt, lambda: model, SECONDS, key=_key(model, delegate_options),
                name=name, engine=self.engine.option, library=self.library.path,
                delegate_options=dict(delegate_options), **arguments,
            )  # fmt: skip
        except ChildError as error:
            raise BackendNotAvailableError(*self._about_failure(error, name, where)) from error
        if tried.crash:
            raise BackendNotAvailableError(*self._about_crash(name, tried.crash))
        if tried.wrong:  # about the device as it is now, or a model that is quickly refused again
            kind, reason, remedy = tried.wrong
            raise getattr(errors, kind)(reason.replace(str(Source(model)), name), remedy)

    def known_crash(self, source: Source, delegate_options: Mapping[str, str]) -> tuple[str, str] | None:
        """Return reason and remedy where this very model is remembered to crash these versions."""
        crashes = {key: each.crash for key, each in verdicts(self.kind.topic, self._versions()).items() if each.crash}
        crash = crashes.get(_key(source.read(), delegate_options)) if crashes else None  # else the file is not read
        return None if crash is None else self._about_crash(str(source), crash)

    def judge(self) -> tuple[bool, str, str]:
        """Say what the models that were tried tell about the library and the engine.

        Returns
        -------
        usable : bool
            False where some have crashed and none has run.
        reason, remedy : str
            About the last crash; "" where there was none.
        """
        tried = verdicts(self.kind.topic, self._versions()).values()
        crashes = [each for each in tried if each.crash]
        if not crashes:
            return True, "", ""
        return len(crashes) < len(tried), *self._about_crash(crashes[-1].name, crashes[-1].crash)

    def _versions(self) -> str:
        return (
            f"edge-accelerate {__version__} {self.library.path} {stamp(self.library.path)} {self.engine.package} "
            f"{self.engine.version()} numpy {np.__version__}"
        )

    def _about_crash(self, name: str, crash: str) -> tuple[str, str]:
        """Return reason and remedy."""
        return (
            f"{self.library} and {self.engine.title} {self.engine.version()} crash together: {name} was tried in a "
            f"child process and {crash}",
            f"{self.kind.fitting}. The verdict holds until one of them changes; to try again, delete "
            f"{folder() / self.kind.topic}",
        )

    def _about_failure(self, error: ChildError, name: str, where: str) -> tuple[str, str]:
        """Return reason and remedy; none of this is remembered."""
        if error.impossible:
            return f"{self.library.path} could crash this program with {name}, and {error}", error.remedy
        if error.timed_out:  # says as much about the device or the machine's load
            return f"{where} gave {error} when {name} was tried in a child process", self.library.revive
        return (
            f"{name} could not be tried on {where} in a child process: {error}",
            "load it again; where the process was killed, look whether memory is short (sudo dmesg | grep -i oom)",
        )


def outcome(source: Source, build: Callable[[], DelegatedModel]) -> tuple[str, str, str] | None:
    """Load and run a model as the parent is going to (child's side); return the error's name, reason and remedy."""
    with overheard() as said:
        try:
            _run(build)
        except AccelerateError as error:
            # the interpreter leaves out of its exceptions what it writes
            return type(error).__name__, f"{error.reason} ({said()})" if said() else error.reason, error.remedy
        except Exception as error:  # it is no crash, and not to be remembered as one
            return "InferenceError", f"{source}: {type(error).__name__}: {error}", ""
    return None


def _run(build: Callable[[], DelegatedModel]) -> None:
    with build() as loaded:
        try:
            loaded.warmup()
        except InferenceError as error:
            if loaded.delegate_failed(error.reason):
                raise
            # zeros may not suit an operator on the CPU, for which the delegate cannot be blamed


def _key(model: bytes, delegate_options: Mapping[str, str]) -> str:
    return f"{sorted(delegate_options.items())} {hashlib.sha256(model).hexdigest()}"
