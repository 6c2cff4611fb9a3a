"""What a child loads, and whether a load may go to one."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from ...contract import Backend
from ...errors import InferenceError, ModelError, OptionError
from ...reports import LoadOptions
from ...source import Source, stamp_of
from ...system.children import why_impossible
from .coding import encode

__all__ = ["Specification", "check_isolation"]


def check_isolation(
    isolation: object, source: Source, given: Mapping[str, Any], considered: Sequence[Backend]
) -> str | None:
    """Check the argument `isolation` of `load`, and what a child would have to be given.

    Raises
    ------
    OptionError
        It is neither None nor "process"; there can be no child here; the source or an option is an object that cannot
        leave this process.
    """
    if isolation is None:
        return None
    if isolation != "process" or not isinstance(isolation, str):
        raise OptionError(f"isolation is {isolation!r:.60}; wanted 'process', or None")
    if sys.platform != "linux":
        raise OptionError(
            f"isolation='process' needs Linux, and this is {sys.platform}: the system has no sealed memory to share",
            "leave isolation out",
        )
    if reason := why_impossible():
        raise OptionError(
            f"isolation='process' starts a Python, and there is none to start: {reason}",
            "leave isolation out, or load the model in a plain Python",
        )
    here = [backend for backend in considered if backend.in_process]
    if source.format == "object" and here:
        raise OptionError(
            f"isolation='process' cannot move {source}, an existing object, into another process",
            "give the model file, or leave isolation out",
        )
    for name, value in given.items():
        if any(name in backend.options for backend in here):
            try:
                encode(value)
            except TypeError as error:
                raise OptionError(
                    f"isolation='process' cannot hand {name}= to another process: there is {error} in it",
                    "give it as texts, numbers, lists and mappings, or leave isolation out",
                ) from error
    return isolation


class Specification:
    """A load as a child carries it out, as often as it has to.

    Attributes
    ----------
    source : Source
    backend : str
        Its name.
    """

    def __init__(self, backend: Backend, source: Source, options: LoadOptions) -> None:
        self.source, self.backend = source, backend.name
        kind = type(backend)
        label_path = options.label_path
        options = replace(
            options,
            isolation=None,
            label_path=label_path if isinstance(label_path, (str, PurePath, type(None))) else os.fspath(label_path),
        )
        folder = None
        with contextlib.suppress(OSError):  # somebody has removed it: then no path is a relative one
            folder = os.getcwd()
        # the program may be in another folder by then
        self._path = None if source.path is None else os.path.join(folder or "", source.path)
        self._stamp = None if self._path is None else stamp_of(self._path)
        self._arguments: dict[str, Any] = {
            "backend": f"{kind.__module__}:{kind.__qualname__}",
            "format": source.format,
            "likeness": source.likeness,
            "options": options,
            "folder": folder,
            "level": logging.getLogger("accelerate").getEffectiveLevel(),
        }

    def request(self) -> tuple[bytes, list[int]]:
        """Return what is asked of a child, and the descriptors that go with it, which `sent` closes.

        Raises
        ------
        OSError
        """
        source = self.source
        given: Any = source.url if source.path is None else source.path
        descriptors = []
        if given is None:  # not through the socket: it may be large
            from .memory import sealed_file  # which only Linux has

            content = source.read()
            descriptors.append(sealed_file(len(content)))
        try:
            if descriptors:
                left = memoryview(content)
                while left:
                    left = left[os.write(descriptors[0], left) :]
                os.lseek(descriptors[0], 0, os.SEEK_SET)
            return encode(("load", {**self._arguments, "source": given})), descriptors
        except BaseException as error:
            self.sent(descriptors)
            if isinstance(error, TypeError):  # in what is no option of a backend
                raise OptionError(f"isolation='process' cannot hand {error} to another process") from error
            raise

    @staticmethod
    def sent(descriptors: Sequence[int]) -> None:
        """Close what was sent."""
        for descriptor in descriptors:
            os.close(descriptor)

    def check_source(self) -> None:
        """Raise where another child would load another model.

        Raises
        ------
        InferenceError
        """
        if self._path is not None and stamp_of(self._path) != self._stamp:
            raise InferenceError(
                f"{self.source} has changed since it was loaded, and the child process that ran it is gone",
                "load it again",
            )

    def crashed(self, why: object) -> ModelError:
        """Return the error of a load that has ended its child."""
        return ModelError(
            f"the child process in which {self.backend} loaded {self.source} did not live: {why}",
            "another backend or device may run it; the same model without isolation would end the program",
        )
