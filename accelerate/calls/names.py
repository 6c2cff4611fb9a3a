"""Tensor names: one canonical name per tensor, its aliases, and finding a tensor by any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import OptionError, TensorError
from ..metadata import TensorInfo

__all__ = ["NameIndex", "Outputs", "check_tensor_names", "name_tensors", "rename", "suggestion"]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the nearest known name, or ""."""
    import difflib

    folded = {k.casefold(): k for k in known}  # another case is nearer than another letter
    near = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=0.6)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""


def name_tensors(candidates: Sequence[Sequence[str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Choose the canonical name and the aliases of each tensor.

    Parameters
    ----------
    candidates : sequence of sequence of str
        For each tensor its names, the preferred one first; empty names are passed over.

    Returns
    -------
    list of (name, aliases)
        Names are unique: a duplicate gets ``:1``, ``:2``, ... in order.
    """
    preferred = [next((n for n in names if n), "tensor") for names in candidates]
    reserved, given = set(preferred), set[str]()
    named = []
    for first, names in zip(preferred, candidates, strict=True):
        name, n = first, 0
        while name in given or (n and name in reserved):
            n += 1
            name = f"{first}:{n}"
        given.add(name)
        named.append((name, tuple(dict.fromkeys(n for n in names if n and n != name))))
    return named


class NameIndex:
    """Finds a tensor's position by its canonical name, an alias, or its ordinal as text.

    Parameters
    ----------
    tensors : sequence of TensorInfo
    kind : str
        "input" or "output", for messages.
    """

    def __init__(self, tensors: Sequence[TensorInfo], kind: str) -> None:
        self._tensors = tensors
        self._kind = kind
        self._position = {t.name: i for i, t in enumerate(tensors)}
        self._shared: dict[str, list[str]] = {}
        canonical = frozenset(self._position)
        for i, tensor in enumerate(tensors):
            for alias in tensor.aliases:
                if alias not in canonical and self._position.setdefault(alias, i) != i:
                    self._shared.setdefault(alias, [tensors[self._position[alias]].name]).append(tensor.name)
        for i in range(len(tensors)):
            self._position.setdefault(str(i), i)

    def find(self, name: object) -> int:
        """Return the position of the tensor that the caller calls `name`.

        Raises
        ------
        TensorError
            When no tensor, or more than one, goes by that name.
        """
        if name in self._shared:
            owners = " and ".join(map(repr, self._shared[str(name)]))
            raise TensorError(f"{name!r} is an alias of both {owners}", "use one of these names")
        if isinstance(name, str) and name in self._position:
            return self._position[name]
        known = ", ".join(repr(t.name) for t in self._tensors) or "none"
        raise TensorError(
            f"the model has no {self._kind} {name!r}{suggestion(str(name), self._position)}; its {self._kind}s: {known}"
        )

    def positions(self, names: Iterable[str], option: str) -> dict[int, str]:
        """Return the names that an option of `load` gives, by the positions of their tensors.

        Raises
        ------
        OptionError
            As `find`, and for two names of one tensor.
        """
        given: dict[int, str] = {}
        for name in names:
            try:
                position = self.find(name)
            except TensorError as error:
                raise OptionError(f"{option}: {error.reason}", error.remedy) from error
            if position in given:
                raise OptionError(f"{option} names one {self._kind} twice, as {given[position]!r} and as {name!r}")
            given[position] = name
        return given

    def name_of(self, name: object) -> str:
        """Return the canonical name of the tensor that the caller calls `name`; the errors are those of `find`."""
        return self._tensors[self.find(name)].name


class Outputs(dict[str, Any]):
    """What `infer` returns: a dict by canonical name, in which an alias or an ordinal ("0") is found, too.

    `in`, iteration and comparison know the canonical names alone. What is copied or pickled of it is a plain dict.
    """

    __slots__ = ("index",)

    index: NameIndex

    def __missing__(self, name: str) -> Any:
        try:
            canonical = self.index.name_of(name)
        except TensorError as error:
            raise KeyError(str(error)) from None
        if canonical == name:  # its owner has taken it out
            raise KeyError(name)
        return self[canonical]

    def get(self, name: str, default: Any = None) -> Any:
        """Return what is found by any of an output's names."""
        try:
            return self[name]
        except KeyError:
            return default

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def check_tensor_names(given: Any) -> Mapping[str, Mapping[str, str]]:
    """Return ``load(tensor_names=...)`` if it has the right form, whatever the names in it.

    Raises
    ------
    OptionError
    """
    if given is None:
        return {}
    if not (
        isinstance(given, Mapping)
        and set(given) <= {"inputs", "outputs"}
        and all(isinstance(side, Mapping) for side in given.values())
        and all(isinstance(mine, str) and mine for side in given.values() for mine in side.values())
    ):
        raise OptionError(
            f"tensor_names is {given!r:.80}; wanted {{'inputs': {{theirs: mine}}, 'outputs': {{theirs: mine}}}}"
        )
    return given


def rename(
    inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], tensor_names: Mapping[str, Mapping[str, str]]
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Apply ``tensor_names={"inputs": {theirs: mine}, "outputs": {theirs: mine}}``; `theirs` may be any alias.

    Raises
    ------
    OptionError
        For an unknown name, or two tensors that would have one name.
    """
    return (
        _rename_side(inputs, tensor_names.get("inputs", {}), "input"),
        _rename_side(outputs, tensor_names.get("outputs", {}), "output"),
    )


def _rename_side(tensors: Sequence[TensorInfo], mapping: Mapping[str, str], kind: str) -> tuple[TensorInfo, ...]:
    renamed = list(tensors)
    for position, theirs in NameIndex(tensors, kind).positions(mapping, "tensor_names").items():
        tensor, mine = tensors[position], mapping[theirs]
        aliases = tuple(a for a in (tensor.name, *tensor.aliases) if a != mine)
        renamed[position] = replace(tensor, name=mine, aliases=aliases)
    names = [t.name for t in renamed]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise OptionError(f"tensor_names gives the name {twice[0]!r} to more than one {kind}; names must differ")
    return tuple(renamed)
