"""Runs small programs in fresh Python processes, for what happens only once in a process: imports and first calls."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .sidebyside import Timings

__all__ = ["ROOT", "Program", "measure_fresh", "run_python"]

ROOT = Path(__file__).resolve().parents[1]

_SCRIPT = """
{before}
from time import perf_counter as clock
answer, started = None, clock()
{timed}
print(clock() - started, answer)
"""


@dataclass(frozen=True)
class Program:
    """Python source whose part `timed` is timed; what it puts into ``answer`` must be the same for all programs."""

    timed: str
    before: str = ""


def measure_fresh(programs: Mapping[str, Program], *, runs: int) -> Timings:
    """Run every program `runs` times, each time in a new process, in turn.

    Raises
    ------
    AssertionError
        Two programs answer differently.
    """
    times: dict[str, list[float]] = {name: [] for name in programs}
    answers: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache:
        for run in range(runs + 1):
            for name, program in programs.items():
                taken, _, answer = run_python(_SCRIPT.format(**vars(program)), cache).partition(" ")
                if answers.setdefault(name, answer) != answer or len(set(answers.values())) > 1:
                    raise AssertionError(f"the programs give different answers: {answers}")
                if run:  # the first one compiles the modules and fills the page cache
                    times[name].append(float(taken))
    return Timings(times)


def run_python(source: str, bytecode: str | None = None) -> str:
    """Run source in a new process in the checkout's root and return the last line it prints.

    Parameters
    ----------
    bytecode : str, optional
        A folder for compiled modules. An installed package is compiled once and for all; a checkout under
        PYTHONDONTWRITEBYTECODE is compiled again by every process, which takes longer than all that is measured here.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    if bytecode is not None:
        environment["PYTHONPYCACHEPREFIX"] = bytecode
    ended = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"a measured program failed:\n{ended.stderr}")
    return ended.stdout.strip().rpartition("\n")[2]
