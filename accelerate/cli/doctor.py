"""``edge-accelerate doctor``: what this machine can run models on, and what stands in the way of the rest."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import __version__
from ..api import list_backends, list_devices
from .rendering import print_fields, print_heading, print_table

__all__ = ["doctor"]

_PACKAGE = Path(__file__).parents[1]


@click.command(short_help="Check the backends and devices here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> int:
    """Check every backend by a small computation, and say what would help.

    Exits with 0 where at least one backend passes, else with 1.
    """
    report: dict[str, Any] = {
        "edge_accelerate": {"version": __version__, "path": str(_PACKAGE)},
        "python": {"version": platform.python_version(), "path": sys.executable},
        "numpy": np.__version__,
        "platform": platform.platform(),
        "backends": [asdict(info) for info in list_backends().values()],
        "devices": [asdict(device) for device in list_devices()],
        "huggingface_accelerate": _find_namesake(),
    }
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    return 0 if any(info["available"] for info in report["backends"]) else 1


def _find_namesake() -> list[dict[str, str]]:
    """Find Hugging Face accelerate on `sys.path`.

    In the very folder of this package it would have overwritten files; importing this package refuses that, so what is
    found here stands in another folder.
    """
    return [
        {"version": found.version, "path": str(Path(str(found.locate_file(""))))}
        for found in distributions(name="accelerate")
    ]


def _print(report: Mapping[str, Any]) -> None:
    python, own = report["python"], report["edge_accelerate"]
    print_fields(
        [
            ("edge-accelerate", f"{own['version']} in {own['path']}"),
            ("Python", f"{python['version']}, {python['path']}"),
            ("NumPy", report["numpy"]),
            ("platform", report["platform"]),
            ("import name", _say_namesake(report["huggingface_accelerate"])),
        ]
    )
    print_heading("Backends")
    backends = [(_verdict(b["available"]), b["name"], b["version"] or "-", b["reason"]) for b in report["backends"]]
    print_table(("", "backend", "runtime", "why"), backends, wrap=["runtime", "why"])
    if report["devices"]:
        print_heading("Devices")
        devices = [(_verdict(d["ready"]), d["backend"], d["id"], _about_device(d)) for d in report["devices"]]
        print_table(("", "backend", "device", "what"), devices, wrap=["what"])
    remedies = [(b["name"], b["remedy"]) for b in report["backends"] if b["remedy"]]
    remedies += [(f"{d['backend']} {d['id']}", d["remedy"]) for d in report["devices"] if d["remedy"]]
    if remedies:
        print_heading("Remedies")
        print_fields(remedies)


def _about_device(device: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, (device["name"], device["reason"])))


def _verdict(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


def _say_namesake(found: list[dict[str, str]]) -> str:
    if not found:
        return "no other package named 'accelerate' is installed here"
    others = ", ".join(f"{one['version']} in {one['path']}" for one in found)
    return (
        f"Hugging Face accelerate is installed too ({others}); the order of sys.path decides which one a program "
        "imports. Use a virtual environment for each"
    )
