"""What ``load(failover=...)`` says: further ways to load the model, each with arguments of `load` of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ... import registry
from ...errors import AccelerateError, BackendNotAvailableError, OptionError
from ...given import is_file_url, path_of
from ...loading import Decision, carry_out, decision, load_one
from ...model import Model
from ...planning import summarize
from ...reports import Candidate, Plan
from ...source import Source
from .members import Member
from .model import Failover

__all__ = ["Entry", "load_failover", "plan_failover", "read"]

#: What a None in an entry stands for, where it is not None.
_DEFAULTS: Mapping[str, Any] = {"backend": "auto", "dequantize": False, "strict": False, "replicas": 1}
_FIRST = "the first model"
_WANTED = "wanted names of backends, or dicts of load's own arguments such as {'source': ..., 'backend': ...}"


def read(arguments: Mapping[str, Any], failover: Any, folder: str) -> list[Entry]:
    """Check a call's arguments and its entries, before anything is loaded.

    Parameters
    ----------
    arguments : mapping
        Those of `load` by name, without `failover`.
    failover : object
        As given; something.
    folder : str
        From which relative paths go out.

    Returns
    -------
    list of Entry
        The call itself, then the entries.

    Raises
    ------
    OptionError
        It names the entry.
    """
    entries = [Entry(_FIRST, {}, dict(arguments), folder)]
    for position, given in enumerate(_listed(failover)):
        entries.append(Entry(f"failover[{position}]", given, _merged(arguments, given), folder))
    return entries


def load_failover(entries: Sequence[Entry]) -> Failover:
    """Load what has been read.

    Raises
    ------
    OptionError, NoBackendError
    """
    return Failover.of([entry.member(place) for place, entry in enumerate(entries)])


def plan_failover(entries: Sequence[Entry]) -> Plan:
    """Show the rows of the call, then those of each entry."""
    plans = [entry.plan() for entry in entries]
    candidates = tuple(row for plan in plans for row in plan.candidates)
    skipped = tuple(row for plan in plans for row in plan.skipped)
    return Plan(candidates[0] if candidates else None, candidates, skipped)


class Entry:
    """One way to load the model.

    Parameters
    ----------
    name : str
        For messages: "failover[0]".
    given : mapping
        What the entry says.
    arguments : mapping
        All arguments of `load` that follow from it and from the call.
    folder : str
        From which relative paths go out.
    """

    def __init__(self, name: str, given: Mapping[str, Any], arguments: Mapping[str, Any], folder: str) -> None:
        self.name = name
        self._given, self._arguments, self._folder = given, arguments, folder
        self._decided: Decision | None = None
        self._refused: AccelerateError | None = None
        self._source: Source | None = None
        try:
            self._decided = decision(**arguments, heeds_environment=self._is_call)
            self._source = self._decided.source
        except OptionError as error:
            raise self._named(error) from error.__cause__
        except BackendNotAvailableError as error:
            if error.remedy == registry.BROKEN_REMEDY:
                self._refused = error
            elif self._is_call:
                raise
            else:
                raise self._named(OptionError(error.reason, _remedy(given, error))) from error
        except AccelerateError as error:  # its file is not there
            self._refused = error

    @property
    def _is_call(self) -> bool:
        # what the environment says stands in for what a call leaves open; entries are there to be something else
        return self.name == _FIRST

    def member(self, place: int) -> Member:
        """Return the model that it stands for, still to be loaded."""
        dequantize, strict = bool(self._arguments["dequantize"]), bool(self._arguments["strict"])
        return Member(place, self.name, self.load, dequantize=dequantize, strict=strict)

    def load(self) -> Model:
        """Load the model: by what was decided when it was read, after that anew.

        Raises
        ------
        AccelerateError
        """
        decided, self._decided = self._decided, None
        refused, self._refused = self._refused, None
        try:
            if refused is not None:
                raise refused
            if decided is not None:
                return carry_out(decided)
            again = {**self._arguments, **self._places(self._arguments, self._folder)}
            return load_one(again, heeds_environment=self._is_call)[1]
        except OptionError as error:
            raise self._named(error) from error.__cause__

    def plan(self) -> Plan:
        """Return its part of the plan.

        Raises
        ------
        AccelerateError
            The call itself is refused before anything is chosen, as it would be without entries.
        """
        if self._decided is None:
            error = self._refused
            assert error is not None, "one of both is there"
            backend = self._arguments["backend"]
            name = backend if isinstance(backend, str) else ", ".join(backend)
            return Plan(
                None, (), (self._row(Candidate(name, self._arguments["device"] or "-", error.reason, error.remedy)),)
            )
        with self._decided.source.kept_open():
            plan = summarize(list(self._decided.rows))
        candidates, skipped = (tuple(map(self._row, rows)) for rows in (plan.candidates, plan.skipped))
        return Plan(candidates[0] if candidates else None, candidates, skipped)

    def again(self, folder: str) -> Any:
        """Return the source as another process can be given it; a relative path is one from `folder`.

        Raises
        ------
        OptionError
            It is an existing object.
        """
        if self._source is not None:
            return self._source.again(folder)
        given = self._arguments["source"]  # of a file that was not there
        is_path = isinstance(given, os.PathLike) or (
            isinstance(given, str) and ("://" not in given or is_file_url(given))
        )
        return os.path.join(folder, path_of(given)) if is_path else given

    def portable(self, folder: str) -> dict[str, Any]:
        """Return what the entry says as another process can be given it."""
        return {**self._given, **self._places(self._given, folder)}

    def _places(self, said: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Return the paths in arguments as they hold from any folder."""
        places = {}
        if said.get("source") is not None:
            existing = self._source is not None and self._source.object is not None
            places["source"] = said["source"] if existing else self.again(folder)
        if said.get("label_path") is not None:
            places["label_path"] = os.path.join(folder, os.fsdecode(said["label_path"]))
        return places

    def _named(self, error: OptionError) -> OptionError:
        return error if self._is_call or error.reason.startswith(self.name) else error.about(self.name)

    def _row(self, row: Candidate) -> Candidate:
        reason = row.reason if self._is_call else f"{self.name}: {row.reason}"
        return Candidate(row.backend, row.device, reason, row.remedy)


def _listed(failover: Any) -> list[Mapping[str, Any]]:
    """Return the entries as mappings; one alone needs no list, as with `backend`."""
    one = isinstance(failover, (str, Mapping))
    if not one and (not isinstance(failover, Sequence) or isinstance(failover, (bytes, bytearray, memoryview))):
        raise OptionError(f"failover is {failover!r:.80}; {_WANTED}")
    entries: list[Mapping[str, Any]] = []
    for position, given in enumerate([failover] if one else failover):
        if isinstance(given, str):
            entries.append({"backend": given})
        elif isinstance(given, Mapping) and all(isinstance(key, str) for key in given):
            entries.append(given)
        else:
            raise OptionError(f"failover[{position}] is {given!r:.80}; {_WANTED}")
        if "failover" in entries[-1]:
            raise OptionError(
                f"failover[{position}] has failover of its own",
                "write all of them into one list, in the order to be tried",
            )
    return entries


def _merged(arguments: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an entry: its own, then those of the call but for where that one runs."""
    merged: dict[str, Any] = {**arguments, "backend": None, "device": None}
    options = {}
    for name, value in given.items():
        if name not in arguments or name == "backend_options":
            options[name] = value
        elif name != "source" or value is not None:
            merged[name] = value
    for name, value in _DEFAULTS.items():
        if merged[name] is None:
            merged[name] = value
    return {**merged, "backend_options": options}


def _remedy(given: Mapping[str, Any], error: AccelerateError) -> str:
    """Return what to do about a backend that there is not; a model in its place is a likely slip."""
    backend = given.get("backend")
    if isinstance(backend, str) and ("/" in backend or "." in backend):
        return f"for a model write {{'source': {backend!r}}}"
    return error.remedy
