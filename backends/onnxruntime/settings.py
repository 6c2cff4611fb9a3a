"""The SessionOptions of a session: ours, or the user's with what they leave open."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from accelerate.contract import LoadOptions, default_threads, held_back
from accelerate.errors import OptionError

from .runtime import ERROR, LINES, import_runtime

__all__ = ["check_session_options", "settings_for"]

_in_use = threading.Lock()  # an object of the user's is ours for as long as a session is built by it


def check_session_options(given: Any, num_threads: int | None) -> None:
    """Judge ``session_options=`` of `load`, without the runtime.

    Raises
    ------
    OptionError
    """
    if not any(k.__name__ == "SessionOptions" and k.__module__.startswith("onnxruntime.") for k in type(given).__mro__):
        raise OptionError(f"session_options is {given!r:.60}; wanted an onnxruntime.SessionOptions")
    threads = given.intra_op_num_threads
    if num_threads is not None and threads not in (0, num_threads):
        raise OptionError(
            f"num_threads={num_threads} and session_options.intra_op_num_threads={threads} differ", "give one"
        )


@contextlib.contextmanager
def settings_for(options: LoadOptions, entries: Mapping[str, str], **attributes: Any) -> Iterator[Any]:
    """Give the SessionOptions to build a session by; the user's are as they were afterwards.

    Parameters
    ----------
    options : LoadOptions
    entries : Mapping of str to str
        Configuration entries. One that the user's object had not is "0" there afterwards: none can be taken away.
    **attributes
        Of the SessionOptions.
    """
    given = options.backend_options.get("session_options")
    if given is None:
        settings = import_runtime().SessionOptions()
        settings.inter_op_num_threads = 1
        _set(settings, entries, {**_left_open(settings, options), **attributes})
        yield settings
        return
    with _in_use:
        attributes = {**_left_open(given, options), **attributes}
        kept = {name: getattr(given, name) for name in attributes}
        before = {key: _entry(given, key) for key in entries}
        try:
            with held_back(LINES):  # it says that it had an entry already
                _set(given, entries, attributes)
            yield given
        finally:
            with held_back(LINES):
                _set(given, before, kept)


def _left_open(settings: Any, options: LoadOptions) -> dict[str, Any]:
    """Return what is settled where the user has not."""
    settled: dict[str, Any] = {}
    if settings.log_severity_level < 0:
        settled["log_severity_level"] = ERROR
    if settings.intra_op_num_threads == 0 and settings.use_per_session_threads:
        settled["intra_op_num_threads"] = default_threads(options)
    return settled


def _set(settings: Any, entries: Mapping[str, str], attributes: Mapping[str, Any]) -> None:
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    for name, value in attributes.items():
        setattr(settings, name, value)


def _entry(settings: Any, key: str) -> str:
    try:
        return str(settings.get_session_config_entry(key))
    except RuntimeError:
        return "0"
