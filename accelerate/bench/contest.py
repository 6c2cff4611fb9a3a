"""The comparison that `tune` makes: all candidates loaded, given the same inputs, set against a reference, timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..calls.conversion import Array
from ..errors import UnsupportedModelError
from ..metadata import Metadata
from ..model import Model
from ..testing.comparison import Reference
from .agreement import adapted_feeds, compare_answers, feeds_from, random_real_inputs, real_values
from .candidates import Candidate
from .turns import Notify, caught, part_of, take_turns, warm_up

__all__ = ["Contest", "Inputs"]

#: What makes the inputs, each with what it is called in messages, once a model has told what it takes.
Inputs: TypeAlias = Callable[[Metadata], Sequence[tuple[str, Any]]]

_SEED = 0
_RANDOM = 8  # inputs, where none are given


class Contest:
    """Runs candidates against each other.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of the model that the inputs are for come first.
    inputs : callable or None
        Random ones for None.
    seconds : float
        Of steady state on each.
    notify : callable

    Attributes
    ----------
    reference : Candidate or None
        Whose answers the others' were set against.
    inputs : str
        What they ran on, in words.
    given : bool
        They are the caller's.
    """

    def __init__(self, candidates: Sequence[Candidate], inputs: Inputs | None, seconds: float, notify: Notify) -> None:
        self._candidates = candidates
        self._inputs = inputs
        self.given = inputs is not None
        self._seconds = seconds
        self._notify = notify
        self.reference: Candidate | None = None
        self.inputs = ""

    def run(self) -> None:
        """Load, compare and measure; what fails says so by its `failure`.

        Raises
        ------
        TensorError
            An input does not fit the model.
        """
        for n, one in enumerate(self._candidates):
            self._notify(f"loading {one.target}", 0.1 * n / len(self._candidates))
            with caught(one):
                one.open()
        self._give_inputs()
        self._compare()
        warm_up(self._candidates, max(1.0, self._seconds), part_of(self._notify, 0.2, 0.3))
        turn = 0

        def between(_: float) -> None:
            nonlocal turn
            for one in self._open_ones:
                one.turn_to(turn)
            turn += 1

        take_turns(self._candidates, self._seconds, part_of(self._notify, 0.3, 1.0), between)
        self._notify("done", 1.0)

    @property
    def _open_ones(self) -> list[Candidate]:
        return [one for one in self._candidates if one.model is not None]

    def _give_inputs(self) -> None:
        first = next(iter(self._open_ones), None)
        if first is None:
            return
        assert first.model is not None
        if self._inputs is None:
            reals = random_real_inputs(first.model, _RANDOM, _SEED)
            cases = [feeds_from(real, first.model, first.model) for real in reals]
            self.inputs = f"{_RANDOM} random inputs"
        else:
            given = self._inputs(first.model.metadata())
            cases = [adapted_feeds(first.model.metadata(), name, value) for name, value in given]
            reals = [real_values(first.model, case) for case in cases]
            self.inputs = f"{len(cases)} input{'' if len(cases) == 1 else 's'} of yours"
        made: dict[tuple[int, str], list[dict[str, Any]]] = {}  # threads make no difference
        for one in self._open_ones:
            key = id(one.given), one.backend
            with caught(one):
                if key not in made:
                    made[key] = cases if one.given is first.given else _for_twin(first, one, cases, reals)
                one.cases = made[key]
                one.turn_to(0)

    def _compare(self) -> None:
        """Set all against the file's own engine on the CPU, else any CPU; no other device is known to be right."""
        known: list[Reference] = []
        while self.reference is None and (fit := [one for one in self._open_ones if one.unfitness < 2]):
            best = min(fit, key=lambda one: one.unfitness)
            self._notify(f"asking {best.target} for the answers", 0.1)
            with caught(best):
                model = _fresh(best)
                known = [Reference(model, case) for case in best.cases]
                self.reference = best
        for n, one in enumerate(self._open_ones if self.reference is not None else ()):
            self._notify(f"comparing the answers of {one.target}", 0.1 + 0.1 * n / len(self._candidates))
            with caught(one):
                one.agreement = compare_answers(known, _fresh(one))


def _model(candidate: Candidate) -> Model:
    assert candidate.model is not None, "only those that are open are asked"
    return candidate.model


def _fresh(candidate: Candidate) -> Model:
    """Return a model that remembers nothing: its answers are compared with those of another that did not, either."""
    model = _model(candidate)
    if model.metadata().stateful:
        model.do_command({"command": "reset"})
    return model


def _for_twin(
    first: Candidate, twin: Candidate, cases: Sequence[dict[str, Array]], reals: Sequence[list[Array]]
) -> list[dict[str, Array]]:
    """Return the first model's inputs as a twin takes them."""
    model, other = _model(first), _model(twin)
    ours, theirs = (len(one.metadata().required_inputs) for one in (model, other))
    if ours != theirs:
        raise UnsupportedModelError(
            f"{twin.given.name} has {theirs} inputs and {first.given.name} {ours}", "give twins of one network"
        )
    own = {info.name for info in model.metadata().required_inputs}
    return [
        {**feeds_from(real, model, other), **{name: array for name, array in case.items() if name not in own}}
        for case, real in zip(cases, reals, strict=True)
    ]
