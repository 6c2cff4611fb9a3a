"""Whether a runtime works here, established once in a process by letting it compute something that is known."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from ..errors import AccelerateError
from ..reports import Availability

__all__ = ["try_runtime"]

_tried: dict[tuple[str, bool], Availability] = {}


def try_runtime(
    title: str, package: str, remedy: str, version: Callable[[], str], compute: Callable[[], str] | None = None
) -> Availability:
    """Say whether a runtime's package is installed, can be imported, and computes a known answer.

    Parameters
    ----------
    title : str
        What a person calls it.
    package : str
        Its import name.
    remedy : str
        The command that installs it.
    version : callable
        Imports it and returns its version.
    compute : callable, optional
        Returns "", or what is wrong with the answer. Left out where a model that is to be loaded shows it anyway.
    """
    key = (package, compute is not None)
    if key not in _tried:
        _tried[key] = _try(title, package, remedy, version, compute)
    return _tried[key]


def _try(
    title: str, package: str, remedy: str, version: Callable[[], str], compute: Callable[[], str] | None
) -> Availability:
    try:
        if importlib.util.find_spec(package) is None:
            return Availability(False, reason=f"{title} is not installed", remedy=remedy)
        name = f"{title} {version()}"
        problem = compute() if compute is not None else ""
    except AccelerateError as error:
        return Availability(False, reason=error.reason, remedy=error.remedy or remedy)
    except Exception as error:  # a broken native library can raise anything
        problem = f"{type(error).__name__}: {error}"
    if problem:
        return Availability(False, reason=f"{title} is installed but fails: {problem}", remedy=remedy)
    return Availability(True, name, f"{name} computes a known answer" if compute is not None else f"{name} is here")
