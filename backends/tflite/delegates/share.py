"""Which of a model's operators a delegate runs, by the interpreter's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate.contract import record

__all__ = ["DELEGATE_NODE", "Share", "share_of"]

#: What both engines call an operator that a delegate runs.
DELEGATE_NODE = "DELEGATE"


@record(frozen=True)
class Share:
    """What delegates have taken of an interpreter's main graph.

    Attributes
    ----------
    nodes : frozenset of int
        The delegates' own nodes.
    delegated : int
        How many of the file's operators they run.
    others : tuple of str
        The names of those that stay with the interpreter.
    """

    nodes: frozenset[int]
    delegated: int
    others: tuple[str, ...]

    @property
    def total(self) -> int:
        """How many operators the file has."""
        return self.delegated + len(self.others)


def share_of(interpreter: Any, operator: str = "") -> Share:
    """Look at an interpreter, before its tensors are allocated: then the engine's own delegate takes what is left.

    An interpreter keeps the file's operators beside the delegate's. One is taken if a delegate's node gives its result,
    or works it out on the way from its inputs to its outputs.

    Parameters
    ----------
    interpreter : object
        One of an engine.
    operator : str
        Only delegates that have taken an operator of this name count, where one is given.
    """
    native = interpreter._interpreter
    names = [native.NodeName(i) for i in range(native.NumNodes())]
    own = [i for i, name in enumerate(names) if name != DELEGATE_NODE]
    makers = {int(output): i for i in own for output in native.NodeOutputs(i)}
    nodes: set[int] = set()
    taken: set[int] = set()
    for i, name in enumerate(names):
        replaced = _replaced(native, i, makers) if name == DELEGATE_NODE else set()
        if replaced and (not operator or any(names[n] == operator for n in replaced)):
            nodes.add(i)
            taken |= replaced
    return Share(frozenset(nodes), len(taken), tuple(names[i] for i in own if i not in taken))


def _replaced(native: Any, node: int, makers: Mapping[int, int]) -> set[int]:
    """Return the file's operators between the inputs and the outputs of a delegate's node."""
    inputs = {int(tensor) for tensor in native.NodeInputs(node)}
    waiting = [int(tensor) for tensor in native.NodeOutputs(node)]
    found: set[int] = set()
    while waiting:
        tensor = waiting.pop()
        maker = None if tensor in inputs else makers.get(tensor)
        if maker is not None and maker not in found:
            found.add(maker)
            waiting.extend(int(tensor) for tensor in native.NodeInputs(maker))
    return found
