"""The commands by name: our own, and those of backends, each imported when it is called or listed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import click

from ..errors import BackendNotAvailableError
from ..registry import BROKEN_REMEDY, backends

__all__ = ["Commands"]


class Commands(click.Group):
    """Finds a command by the "module:object" that is given for its name; ours go before those of backends."""

    def __init__(self, own: Mapping[str, str], **settings: Any) -> None:
        super().__init__(**settings)
        self._own = own

    @cached_property
    def _brought(self) -> dict[str, tuple[str, str]]:
        """The backend and the "module:object" of each command that backends bring, by its name."""
        found: dict[str, tuple[str, str]] = {}
        for owner, backend in backends().items():
            for name, target in backend.commands.items():
                found.setdefault(name, (owner, target))
        return found

    def list_commands(self, context: click.Context) -> list[str]:
        """Name ours, then those of backends."""
        return [*self._own, *sorted(self._brought.keys() - self._own.keys())]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command; one that a backend cannot bring says why when it is called."""
        if name in self._own:
            return _imported(self._own[name])
        if name not in self._brought:
            return None
        owner, target = self._brought[name]
        try:
            return _imported(target)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a stranger's code, SystemExit included: it does not end ours
            return _broken(name, f"the command {name!r} of the backend {owner!r} cannot be imported", error)


def _imported(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{target} is {command!r:.60}, no click.Command")
    return command


def _broken(name: str, reason: str, error: BaseException) -> click.Command:
    failure = BackendNotAvailableError(f"{reason}: {type(error).__name__}: {error}", BROKEN_REMEDY)

    def fail(**_: Any) -> None:
        raise failure from error

    anything = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
    settings = {"ignore_unknown_options": True, "help_option_names": []}
    return click.Command(name, settings, fail, [anything], short_help=f"Broken: {failure.reason}")
