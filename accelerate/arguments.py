"""Checks of arguments that several functions and backends take."""

from __future__ import annotations

import contextlib
import operator
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import OptionError
from .reports import LoadOptions, Match

if TYPE_CHECKING:
    from .source import Source

__all__ = ["check_settled", "refusal", "whole_number"]


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


def check_settled(options: LoadOptions, what: str) -> None:
    """Refuse the options that an existing runtime object has settled: device, threads, the backend's own.

    Parameters
    ----------
    options : LoadOptions
    what : str
        "interpreter", "session", ...

    Raises
    ------
    OptionError
    """
    chosen = {"device": options.asked, "num_threads": options.num_threads, **options.backend_options}
    if given := sorted(name for name, value in chosen.items() if value is not None):
        raise OptionError(f"{given[0]} is settled by the existing {what}", "leave it out, or load the model file")


def refusal(source: Source, *wanted: str, remedy: str = "") -> Match:
    """Return a backend's answer to a source of none of its formats.

    Parameters
    ----------
    source : Source
    *wanted : str
        What a person calls files of its formats: "an ONNX model".
    remedy : str
        Default: what to do with such a file, else to convert it, or to use another backend.
    """
    formats = " or ".join(wanted)
    to = re.sub(r"\ban? | model\b", "", formats)
    if source.url is not None or source.object is not None:
        remedy = "give the path of a model file, or its bytes: nothing is fetched or converted here"
    remedy = remedy or source.remedy or f"convert it to {to}, or use the backend for its format"
    return Match(False, f"{source} is {source.likeness}, not {formats}", remedy)
