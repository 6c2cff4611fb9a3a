"""Sets two reports side by side, and says which rows have become slower: a gate for two versions, or for two boards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OptionError
from .runner import SCHEMA
from .statistics import PERCENTILES, Rounds, compared_interval, summarize

__all__ = ["SHARES", "Change", "Gate", "Outcome", "compare_reports", "differences", "judge", "read_report", "shares_of"]

# What two runs of the same program differ by although nothing has changed (where things happen to lie in memory, which
# core it runs on, the room's temperature) is not in the spread of either run: a change within it is none.
_BETWEEN_RUNS = 0.03
# a report has many rows, and a gate runs on every commit: 95 % would be a false alarm every week
_CONFIDENCE = 0.99
#: What rows have of answers to a user's inputs.
SHARES = ("top1", "top5", "boxes", "pixels")
_UNITS = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}
_ROUNDING = 1e-9  # of percentage points, which are differences of shares
_WRITE = "write one: edge-accelerate bench MODEL --json > FILE"


@dataclass(frozen=True)
class Change:
    """What became of one row at one percentile, or of its share of right answers."""

    model: str
    backend: str
    device: str
    metric: str
    before: float | None = None  # microseconds, like `after`; a share from 0 to 1 of answers
    after: float | None = None
    ratio: float | None = None  # ``after / before``; its interval is from `low` to `high`
    low: float | None = None
    high: float | None = None
    longer_us: float | None = None  # by how many microseconds at least, by the same confidence
    #: "slower", "faster", of answers "worse", "better"; "same" (no change that is more than chance and than what runs
    #: differ by), "lost" (it ran before, and no more), "new", "not run" (neither before nor now), or "cannot tell"
    verdict: str = "cannot tell"
    reason: str = ""  # why it cannot be told, how it was lost, or why it does not run

    @property
    def points(self) -> float | None:
        """By how many percentage points a share has become more; None where one of the two is not known."""
        return None if self.before is None or self.after is None else 100 * (self.after - self.before)


@dataclass(frozen=True)
class Gate:
    """A condition such as ``p50>+5%``: fails where a percentile has become longer by more than that.

    With ``,+50us`` behind it, it fails where that is more than 50 microseconds, too: five percent of three microseconds
    are nobody's concern. ``top1<-1%`` fails where the share has become less by more than one percentage point.
    """

    metric: str
    percent: float
    floor_us: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read ``METRIC>+N%``, ``METRIC>+N%,+Mus`` or ``METRIC<-N%``."""
        number = r"([0-9]+(?:\.[0-9]+)?)"
        longer = re.fullmatch(rf"(p[0-9.]+)>\+?{number}%(?:,\+?{number}(us|µs|ms|s))?", re.sub(r"\s", "", text))
        if longer is not None and longer[1] in PERCENTILES:
            return cls(longer[1], float(longer[2]), float(longer[3] or 0) * _UNITS[longer[4] or "us"])
        less = re.fullmatch(rf"([a-z0-9]+)<-{number}%", re.sub(r"\s", "", text))
        if less is not None and less[1] in SHARES:
            return cls(less[1], float(less[2]))
        raise OptionError(
            f"the gate is {text!r}; wanted METRIC>+N%, such as 'p50>+5%' or 'p50>+5%,+50us', or METRIC<-N%, such as "
            "'top1<-1%'",
            f"METRIC is one of {', '.join(PERCENTILES)}, or of {', '.join(SHARES)} (of answers to --inputs)",
        )

    def __str__(self) -> str:
        if self.metric in SHARES:
            return f"{self.metric}<-{self.percent:g}%"
        floor = f",+{self.floor_us:g}us" if self.floor_us else ""
        return f"{self.metric}>+{self.percent:g}%{floor}"

    def failed_by(self, change: Change) -> bool:
        """Return whether a change of this metric is certainly beyond the limit, or its row is lost."""
        if change.verdict == "lost":
            return True
        if self.metric in SHARES:  # of the same inputs: nothing of it is chance
            points = None if change.verdict == "cannot tell" else change.points
            return points is not None and points < -self.percent - _ROUNDING
        return (
            change.low is not None
            and change.low > 1 + max(self.percent / 100, _BETWEEN_RUNS)
            and (not self.floor_us or (change.longer_us is not None and change.longer_us > self.floor_us))
        )


@dataclass(frozen=True)
class Outcome:
    """What the gates found."""

    failures: list[str]  # a line for each way in which a gate failed
    not_judged: list[str]  # a line for each row about which a gate cannot say yes or no


def read_report(path: Path) -> dict[str, Any]:
    """Read what ``bench --json`` printed."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"the report {path} cannot be read: {error.strerror}", "check the path") from error
    except (ValueError, RecursionError) as error:  # the latter of thousands of brackets
        raise OptionError(f"{path} is no report: {error}", _WRITE) from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise OptionError(f"{path} is no report of this version", _WRITE)
    rows = report.get("results")
    has_parts = isinstance(report.get("machine"), dict) and isinstance(report.get("inputs", {}), dict)
    if not has_parts or not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise OptionError(f"{path} is a report of which parts are missing or have been changed", _WRITE)
    return report


def compare_reports(
    before: Mapping[str, Any], after: Mapping[str, Any], metrics: Sequence[str] = ("p50",)
) -> list[Change]:
    """Compare the rows that have the same model name, backend and device."""
    old, new = _rows(before), _rows(after)
    same = before.get("inputs", {}).get("digest") == after.get("inputs", {}).get("digest")
    return [
        _answers(key, metric, old.get(key), new.get(key), same)
        if metric in SHARES
        else _change(key, metric, old.get(key), new.get(key))
        for key in dict.fromkeys((*old, *new))
        for metric in metrics
    ]


def shares_of(*reports: Mapping[str, Any]) -> list[str]:
    """Return which shares some row of each of the reports has."""
    return [
        share
        for share in SHARES
        if all(any(_share(row, share)[0] is not None for row in report["results"]) for report in reports)
    ]


def judge(changes: Sequence[Change], gates: Sequence[Gate]) -> Outcome:
    """Return which gates failed, and which cannot be judged: an INVALID run is no evidence that nothing is slower."""
    outcome = Outcome([], [])
    for gate in gates:
        mine = [change for change in changes if change.metric == gate.metric]
        if all(change.verdict in ("new", "not run") for change in mine or changes):
            outcome.not_judged.append(f"{gate}: nothing was measured before that could be compared with")
        for change in mine:
            what = f"{change.model} on {change.backend}:{change.device}"
            if gate.failed_by(change):
                outcome.failures.append(f"{what} {_failure(gate, change)}")
            elif change.verdict == "cannot tell":
                outcome.not_judged.append(f"{gate} for {what}: {change.reason}")
    return outcome


def _failure(gate: Gate, change: Change) -> str:
    if gate.metric in SHARES and change.before is not None and change.after is not None:
        return (
            f"has {gate.metric} {change.after:.1%} after {change.before:.1%}, {change.points:+.2g} points; "
            f"the limit is {-gate.percent:g}"
        )
    if change.ratio is None or change.low is None:
        return f"ran before and does not now: {change.reason}"
    return (
        f"has {gate.metric} {change.ratio - 1:+.1%}, certainly over {change.low - 1:+.1%}; "
        f"the limit is {gate.percent:+g}%" + (f" and {gate.floor_us:+g} us" if gate.floor_us else "")
    )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield in what two reports differ beside their figures: such a comparison may mean something else."""
    for name, what in (("board", "board"), ("cpu", "CPU"), ("governor", "governor"), ("usable_cpus", "usable CPUs")):
        one, other = before["machine"].get(name), after["machine"].get(name)
        if one != other:
            yield f"the {what} differs: {one or '-'} and {other or '-'}"
    old, new = _rows(before), _rows(after)
    for key in old.keys() & new.keys():
        if old[key].get("sha256") != new[key].get("sha256"):
            yield f"{key[0]} is not the same file in both (SHA-256)"
        counts = [rows[key].get("threads") or "an unknown number of" for rows in (old, new)]
        if counts[0] != counts[1]:
            yield f"{key[0]} on {key[1]}:{key[2]} had {counts[0]} threads and has {counts[1]}"


def _rows(report: Mapping[str, Any]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    return {(row["model"], row["backend"], row["device"]): row for row in report["results"]}


def _is_row(row: Any) -> bool:
    """Return whether a row has what is read of it here, in the types that `bench` writes."""
    told = ("model", "backend", "device", "status", "reason")
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in told):
        return False
    if not _are_shares(row.get("on_inputs", {})):
        return False
    if "latency_us" not in row:
        return True
    figures, rounds = row["latency_us"], row.get("rounds")
    return (
        isinstance(figures, dict)
        and all(isinstance(figures.get(metric, 1.0), (int, float)) for metric in PERCENTILES)
        and isinstance(rounds, list)
        and all(isinstance(one, dict) and _are_numbers(one.get("us")) for one in rounds)
    )


def _are_shares(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    right = found.get("accuracy", {"inputs": 0})
    if not isinstance(right, dict) or not isinstance(right.get("inputs"), int):
        return False
    shares = [one.get(name) for one in (found, right) for name in SHARES]
    return all(share is None or isinstance(share, (int, float)) for share in shares)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and len(values) > 0 and all(isinstance(value, (int, float)) for value in values)


def _change(
    key: tuple[str, str, str], metric: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> Change:
    ran_before, runs_now = (row is not None and "latency_us" in row for row in (old, new))
    if not runs_now:
        reason = "it is not in the report" if new is None else str(new["reason"])
        return Change(*key, metric, verdict="lost" if ran_before else "not run", reason=reason)
    if not ran_before:
        return Change(*key, metric, verdict="new")
    assert old is not None
    assert new is not None
    rank, needed = PERCENTILES[metric]
    ours, theirs = _rounds(new), _rounds(old)
    if min(sum(map(len, rounds)) for rounds in (ours, theirs)) < needed:
        return Change(*key, metric, reason=f"{metric} needs {needed} calls")
    # from all calls where they are in the report; the interval comes from those that were kept
    before, after = (
        row["latency_us"].get(metric) or summarize(np.concatenate(kept))[metric]
        for row, kept in ((old, theirs), (new, ours))
    )
    ratio = after / before
    low, high = compared_interval(np.divide, ours, theirs, rank, confidence=_CONFIDENCE)
    both = (("before", old), ("after", new))
    longer, _ = compared_interval(np.subtract, ours, theirs, rank, confidence=_CONFIDENCE)
    invalid = [f"{which} is INVALID: {row['reason']}" for which, row in both if row["status"] != "ok"]
    if invalid:
        return Change(*key, metric, before, after, ratio, reason="; ".join(invalid))
    verdict = "slower" if low > 1 + _BETWEEN_RUNS else "faster" if high < 1 / (1 + _BETWEEN_RUNS) else "same"
    return Change(*key, metric, before, after, ratio, low, high, longer, verdict)


def _answers(
    key: tuple[str, str, str],
    metric: str,
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
    same_inputs: bool,
) -> Change:
    """Return what became of a share of answers: of right ones where labels say so, else of the reference's."""
    (before, of_before), (after, of_after) = _share(old, metric), _share(new, metric)
    if before is None:
        return Change(*key, metric, verdict="not run" if after is None else "new")
    if new is None or "latency_us" not in new:
        reason = "it is not in the report" if new is None else str(new["reason"])
        return Change(*key, metric, before, verdict="lost", reason=reason)
    if after is None:
        return Change(*key, metric, before, reason="it was run without --inputs")
    if not same_inputs:
        return Change(*key, metric, before, after, reason="the inputs are not the same in both")
    if of_before != of_after:
        return Change(*key, metric, before, after, reason=f"it was {of_before} before, and is {of_after} now")
    verdict = "same" if after == before else "better" if after > before else "worse"
    return Change(*key, metric, before, after, verdict=verdict)


def _share(row: Mapping[str, Any] | None, metric: str) -> tuple[float | None, str]:
    """Return a share of a row's answers, and of what it is the share."""
    found = {} if row is None else row.get("on_inputs", {})
    if (right := found.get("accuracy", {}).get(metric)) is not None:
        return right, f"right answers to {found['accuracy']['inputs']} inputs"
    return found.get(metric), f"agreement with {found.get('reference')} on {found.get('inputs')} inputs"


def _rounds(row: Mapping[str, Any]) -> Rounds:
    return [np.asarray(one["us"], np.float64) for one in row["rounds"]]
