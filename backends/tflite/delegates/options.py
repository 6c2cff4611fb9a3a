"""What ``delegate_options=`` of `load` may be."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from accelerate.errors import OptionError

__all__ = ["check_delegate_options"]


def check_delegate_options(given: object, example: str) -> dict[str, str]:
    """Return the options as a delegate's library takes them: texts, as the engines' ``load_delegate`` makes them.

    Raises
    ------
    OptionError
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) and key for key in given):
        raise OptionError(f"delegate_options is {given!r:.80}; wanted a mapping such as {example}")
    return {key: _text(key, value) for key, value in given.items()}


def _text(key: str, value: object) -> str:
    if not isinstance(value, (str, int, float, np.integer, np.floating, np.bool_, os.PathLike)):
        raise OptionError(
            f"delegate_options[{key!r}] is {value!r:.60}; wanted a text or a number, which is all that a library takes"
        )
    text = os.fsdecode(value) if isinstance(value, os.PathLike) else str(value)
    if "\0" in key + text or not _encodable(key + text):
        raise OptionError(f"delegate_options[{key!r}] is {value!r:.60}; wanted a text without NUL that UTF-8 can write")
    return text


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
