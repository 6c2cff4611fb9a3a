"""Whether a runtime works here, established once in a process by letting it compute something that is known.

Data types are tried apart, for a runtime has other kernels for each: an emulated CPU was found on which one computed
int8 wrongly, and float32 and uint8 rightly.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import AccelerateError, one_line
from ..reports import Availability

__all__ = ["DTYPES", "WrongAnswers", "try_digits", "try_runtime"]

#: What `try_digits` tries.
DTYPES = ("float32", "uint8", "int8")
#: A data type -> what is wrong with the answers in it, and what to do about it, "" where nothing is known to help.
WrongAnswers: TypeAlias = Mapping[str, Sequence[str]]
Run: TypeAlias = Callable[[Path, NDArray[Any]], NDArray[Any]]

_DATA = Path(__file__).parents[1] / "data"
# No digit, but dots of every grey: ten scores that are far from 0 and 1, so that each weight counts.
_PICTURE = (np.arange(64) * 53 + 160) % 256
# What NumPy makes of it in float64 by the float model's weights. Quantised models come within 0.004 of it.
_SCORES = (0.0889, 0.0504, 0.0131, 0.2264, 0.1231, 0.0267, 0.1620, 0.1432, 0.0838, 0.0824)
_TOLERANCE = {"float32": 0.005, "uint8": 0.015, "int8": 0.015}

_tried: dict[tuple[str, bool], Availability] = {}


def try_runtime(
    title: str,
    package: str,
    remedy: str,
    version: Callable[[], str],
    compute: Callable[[], str | WrongAnswers] | None = None,
) -> Availability:
    """Say whether a runtime's package is installed, can be imported, and computes a known answer.

    One that computes only some data types wrongly is available, with that as its reason and a remedy.

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
        Returns "", or what is wrong with the answer; or what `try_digits` does. Left out where a model that is to be
        loaded shows it anyway.
    """
    key = (package, compute is not None)
    if key not in _tried:
        _tried[key] = _try(title, package, remedy, version, compute)
    return _tried[key]


def _try(
    title: str,
    package: str,
    remedy: str,
    version: Callable[[], str],
    compute: Callable[[], str | WrongAnswers] | None,
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
    if compute is None and not problem:
        return Availability(True, name, f"{name} is here")
    if not isinstance(problem, str):
        return _by_dtype(title, name, remedy, problem)
    if problem:
        return Availability(False, reason=f"{title} is installed but fails: {problem}", remedy=remedy)
    return Availability(True, name, f"{name} computes a known answer")


def _by_dtype(title: str, name: str, remedy: str, wrong: WrongAnswers) -> Availability:
    right = [dtype for dtype in DTYPES if dtype not in wrong]
    if not wrong:
        return Availability(True, name, f"{name} computes known answers in {_listed(right)}")
    amiss = "; ".join(f"{dtype} wrongly: {reason}" for dtype, (reason, _) in wrong.items())
    if not right:
        return Availability(False, reason=f"{title} is installed but computes {amiss}", remedy=remedy)
    known = dict.fromkeys(remedy for _, remedy in wrong.values() if remedy)
    return Availability(
        True, name, f"{name} computes {_listed(right)} rightly, but {amiss}",
        "; ".join(known) or f"on this machine use models in {_listed(right)} with it",
    )  # fmt: skip


def try_digits(
    run: Run, suffix: str, otherwise: Mapping[str, Run] | None = None, dtypes: Sequence[str] = DTYPES
) -> dict[str, tuple[str, str]]:
    """Let a runtime compute the project's models of digits, and return what is wrong by data type.

    Parameters
    ----------
    run : callable
        Runs a model file on its only input, 64 values in whatever shape the model has, and returns its only output.
    suffix : str
        Which files: ".tflite" or ".onnx".
    otherwise : Mapping of str to callable, optional
        Other ways to run them, by what gives a user that way. They are tried where `run` is wrong: one that is right is
        the remedy.
    dtypes : sequence of str

    Returns
    -------
    dict
        A data type -> what is wrong, and what to do; empty where all is right.
    """
    wrong = {}
    for dtype in dtypes:
        if reason := _try_digit(run, suffix, dtype):
            ways = [way for way, other in (otherwise or {}).items() if not _try_digit(other, suffix, dtype)]
            wrong[dtype] = reason, f"{ways[0]} computes {dtype} rightly here" if ways else ""
    return wrong


def _try_digit(run: Run, suffix: str, dtype: str) -> str:
    """Return what is wrong with one model's answer, "" where it is right."""
    kind = "" if (dtype, suffix) == ("float32", ".onnx") else f"_{dtype.removesuffix('32')}"
    path = _DATA / f"digits{kind}{suffix}"
    pixels: NDArray[Any] = _PICTURE.astype(np.uint8)
    if dtype == "float32":
        pixels = ((_PICTURE - 127.5) / 127.5).astype(np.float32)
    elif dtype == "int8":
        pixels = (_PICTURE - 128).astype(np.int8)
    try:
        answer = np.asarray(run(path, pixels)).ravel()
    except Exception as error:  # a broken native library can raise anything
        return f"{path.name} raises {type(error).__name__}: {one_line(error)}"
    if answer.size != len(_SCORES) or answer.dtype != pixels.dtype:
        return f"{path.name} gives {answer.size} values of {answer.dtype}, wanted {len(_SCORES)} of {pixels.dtype}"
    scores = answer.astype(np.float64)
    if dtype != "float32":  # a score in steps of 1/256 from the lowest level
        scores = (scores - np.iinfo(dtype).min) / 256
    off = np.abs(scores - _SCORES)
    worst = int(np.nan_to_num(off, nan=np.inf).argmax())
    if off[worst] <= _TOLERANCE[dtype]:
        return ""
    return f"got {scores[worst]:.3f}, wanted {_SCORES[worst]:.3f} (score {worst} of {path.name})"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
