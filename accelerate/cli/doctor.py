"""``edge-accelerate doctor``: what this machine can run models on, and what stands in the way of the rest."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import __version__, environment, measurements, registry
from ..api import list_backends, list_devices
from ..diagnosis import distributions
from ..diagnosis.facts import Facts, gather
from ..diagnosis.findings import judge_devices, judge_limits, judge_machine, judge_settings
from ..diagnosis.limits import find_limits
from ..diagnosis.permissions import find_denied
from ..diagnosis.processor import find_processor
from ..diagnosis.throttling import find_throttling
from ..diagnosis.variables import find_cache, set_variables, unknown_variables
from ..errors import OptionError
from ..system.cpus import affinity
from .rendering import print_fields, print_heading, print_table
from .terms import as_options

__all__ = ["doctor", "examine"]

_PACKAGE = Path(__file__).parents[1]
_PASS, _WARN, _FAIL = "PASS", "WARN", "FAIL"
_READ_BY_TESTS = tuple(map("EDGE_ACCELERATE_{}".format, ("TEST_MODELS", "FUZZ_SCALE")))


@click.command(short_help="Check the backends and devices here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> int:
    """Check the machine, and every backend and device by small computations, and say what would help.

    Exits with 0 where a device here can run models, or the environment names a server for them; else with 1.
    """
    report = {
        **examine(gather()),
        "backends": [asdict(info) for info in list_backends().values()],
        "devices": [asdict(device) for device in list_devices()],
        "tuned": [{**asdict(each), "outdated": reason} for each, reason in measurements.judged()],
    }
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    return 0 if _something_runs(report) else 1


def _something_runs(report: Mapping[str, Any]) -> bool:
    """Tell whether models can be run: a backend of servers can always open a connection, if only it knew where to."""
    if any(device["ready"] and device["kind"] != "server" for device in report["devices"]):
        return True
    available = [info["name"] for info in report["backends"] if info["available"]]
    return any(set(registry.find(name).variables) & set(report["environment"]) for name in available)


def examine(facts: Facts) -> dict[str, Any]:
    """Return what the report says of a machine, without its backends' computations.

    The facts may be another machine's; this process's own Python, settings and CPUs are in it all the same.
    """
    board, root, cpus = facts.board, facts.root, affinity()
    processor, throttling, limits = find_processor(root), find_throttling(board, root), find_limits(root)
    denied, cache, variables = find_denied(root), find_cache(), set_variables()
    backends = registry.backends()
    own = [name for backend in backends.values() for name in backend.variables]
    unknown = unknown_variables([*environment.VARIABLES, *own, *_READ_BY_TESTS])
    lines = [
        *judge_machine(board, processor, throttling, cpus),
        *judge_limits(limits, cpus),
        *judge_devices(denied),
        *judge_settings(cache, variables, unknown, _wrong_value()),
    ]
    return {
        "edge_accelerate": {"version": __version__, "path": str(_PACKAGE)},
        "python": {"version": platform.python_version(), "path": sys.executable},
        "numpy": np.__version__,
        "platform": platform.platform(),
        "kernel": f"{platform.system()} {platform.release()}",
        "board": asdict(board),
        "processor": asdict(processor),
        "throttling": asdict(throttling),
        "limits": asdict(limits),
        "denied": [asdict(each) for each in denied],
        "cache": asdict(cache),
        "environment": {name: "" if name in unknown else value for name, value in variables.items()},
        "machine": [{"verdict": _WARN if each.remedy else _PASS, **asdict(each)} for each in lines],
        "conflicts": list(_conflicts(facts)),
        "huggingface_accelerate": [
            {"version": each.version, "path": each.folder} for each in distributions.find_namesakes(facts)
        ],
    }


def _wrong_value() -> str:
    try:
        environment.check()
    except OptionError as error:
        return error.reason
    return ""


def _conflicts(facts: Facts) -> Iterator[dict[str, Any]]:
    """Yield what does not fit together, with the backend that says so, "" for the core."""
    for conflict in distributions.find_conflicts(facts):
        yield {"backend": "", **asdict(conflict)}
    for name, backend in registry.backends().items():
        for conflict in registry.conflicts(backend, facts):
            yield {"backend": name, **asdict(conflict)}


def _print(report: Mapping[str, Any]) -> None:
    python, own = report["python"], report["edge_accelerate"]
    print_fields(
        [
            ("edge-accelerate", f"{own['version']} in {own['path']}"),
            ("Python", f"{python['version']}, {python['path']}"),
            ("NumPy", report["numpy"]),
            ("platform", report["platform"]),
            *_import_name(report["huggingface_accelerate"]),
        ]
    )
    remedies = [(each["what"], each["remedy"]) for each in report["machine"]]
    print_heading("Machine")
    machine = [(each["verdict"], each["what"], each["found"]) for each in report["machine"]]
    print_table(("", "what", "found"), machine, wrap=["found"])
    if report["conflicts"]:
        print_heading("What does not fit together")
        rows = [(_FAIL if c["fatal"] else _WARN, c["backend"] or "-", c["reason"]) for c in report["conflicts"]]
        print_table(("", "backend", "what"), rows, wrap=["what"])
        remedies += [(c["backend"] or "packages", c["remedy"]) for c in report["conflicts"]]
    print_heading("Backends")
    backends = [
        (_verdict(b["available"], b["remedy"]), b["name"], b["version"] or "-", b["reason"]) for b in report["backends"]
    ]
    print_table(("", "backend", "runtime", "why"), backends, wrap=["runtime", "why"])
    remedies += [(b["name"], b["remedy"]) for b in report["backends"]]
    if report["devices"]:
        print_heading("Devices")
        devices = [
            (_verdict(d["ready"], d["reason"]), d["backend"], d["id"], _about_device(d)) for d in report["devices"]
        ]
        print_table(("", "backend", "device", "what"), devices, wrap=["what"])
        remedies += [(f"{d['backend']} {d['id']}", d["remedy"]) for d in report["devices"]]
    _print_tuned(report["tuned"])
    if remedies := [(name, as_options(remedy)) for name, remedy in remedies if remedy]:
        print_heading("Remedies")
        print_fields(remedies)


def _print_tuned(stored: Sequence[Mapping[str, Any]]) -> None:
    if stored:
        print_heading("Tuned")
        rows = [
            (
                Path(each["path"]).name,
                each["backend"],
                each["device"],
                str(each["num_threads"] or ""),
                f"{each['p50_ms']:.3g}",
                each["date"],
                f"outdated: {each['outdated']}" if each["outdated"] else "in use",
            )
            for each in stored
        ]
        columns = ("model", "backend", "device", "threads", "p50 ms", "date", "state")
        print_table(columns, rows, wrap=["model", "state"])


def _import_name(namesakes: Sequence[object]) -> Iterator[tuple[str, str]]:
    if not namesakes:  # else it is a conflict
        yield "import name", "no other package named 'accelerate' is installed here"


def _about_device(device: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, (device["name"], device["reason"])))


def _verdict(passed: bool, but: str) -> str:
    return _FAIL if not passed else _WARN if but else _PASS
