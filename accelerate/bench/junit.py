"""Writes results as the XML that CI servers show as tests: JUnit's, in the form that Jenkins and GitLab read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..errors import OptionError
from .gates import SHARES, Change, Gate, judge
from .report_inputs import suspects

__all__ = ["Case", "gate_cases", "row_cases", "write_junit"]

#: What XML 1.0 (2.2) cannot hold, not even escaped; names of files may.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One test: failed where `failure` says why, skipped where `skipped` does."""

    suite: str
    name: str
    seconds: float = 0.0
    failure: str = ""
    skipped: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)


def row_cases(report: Mapping[str, Any]) -> Iterator[Case]:
    """Yield a test for each row of a report."""
    rows = report["results"]
    for row in rows:
        told = "; ".join(filter(None, (row["reason"], row["remedy"])))
        differs = "\n".join(line for _, *lines in suspects([row]) for line in lines)
        missing = row["status"] == "missing"
        yield Case(
            row["model"],
            f"{row['backend']}:{row['device']}",
            row["latency_us"]["p50"] / 1e6 if "latency_us" in row else 0.0,
            "" if missing else "\n".join(filter(None, (f"{row['status']}: {told}" * (row["status"] != "ok"), differs))),
            told if missing else "",
            dict(_figures(row)),
        )


def _figures(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("p50", "p99"):
        if key in row.get("latency_us", {}):
            yield f"{key}_us", f"{row['latency_us'][key]:.3f}"
    found = row.get("on_inputs", {})
    for prefix, shares in (("", found), ("accuracy_", found.get("accuracy", {}))):
        for key in SHARES:
            if shares.get(key) is not None:
                yield f"{prefix}{key}", f"{shares[key]:.4f}"


def gate_cases(changes: Sequence[Change], gates: Sequence[Gate]) -> Iterator[Case]:
    """Yield a test for each gate and row; what cannot be judged is skipped with the reason."""
    for gate in gates:
        for change in changes:
            if change.metric != gate.metric:
                continue
            outcome = judge([change], [gate])
            name = f"{change.backend}:{change.device} {gate}"
            yield Case(change.model, name, 0.0, "\n".join(outcome.failures), "\n".join(outcome.not_judged))


def write_junit(path: Path, name: str, cases: Iterable[Case]) -> None:
    """Write test cases to a file.

    Raises
    ------
    OptionError
        It cannot be written.
    """
    cases = list(cases)
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(bool(case.failure) for case in cases)),
        "skipped": str(sum(bool(case.skipped) for case in cases)),
        "errors": "0",
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    for case in cases:
        attributes = {"classname": _clean(case.suite), "name": _clean(case.name), "time": f"{case.seconds:.6f}"}
        element = ElementTree.SubElement(suite, "testcase", attributes)
        if case.figures:
            properties = ElementTree.SubElement(element, "properties")
            for key, value in case.figures.items():
                ElementTree.SubElement(properties, "property", {"name": key, "value": value})
        for tag, told in (("failure", case.failure), ("skipped", case.skipped)):
            if told:
                said = _clean(told)
                ElementTree.SubElement(element, tag, {"message": said.partition("\n")[0]}).text = said
    try:
        ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise OptionError(f"the report {path} cannot be written: {error.strerror}", "give another --junit") from error


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
