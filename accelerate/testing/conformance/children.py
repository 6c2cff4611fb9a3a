"""Questions that only a process of its own can answer: what it imports, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .cases import CaseTests

__all__ = ["ask_child"]

_PATIENCE = 120.0  # seconds


def ask_child(task: str, tests: CaseTests, role: str, folder: Path, **arguments: Any) -> Any:
    """Do one of `accelerate.testing.child`'s tasks in a fresh interpreter, which must end well and quietly.

    Parameters
    ----------
    task : str
    tests : CaseTests
    role : str
        Whose model the child loads.
    folder : pathlib.Path
        For a copy of the model's file.
    **arguments
        Of the task; what JSON can hold.
    """
    case = tests.case(role)
    source = case.source
    if isinstance(source, (bytes, bytearray, memoryview)):
        path = folder / f"{role}.model"
        path.write_bytes(source)
        source = str(path)
    try:
        request = json.dumps([os.fspath(source), tests.backend, dict(case.options), arguments])
    except TypeError as error:
        pytest.skip(f"a child process cannot be given the source or the options of {role!r}: {error}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, "-m", "accelerate.testing.child", task, request]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, env=environment, check=False
    )
    assert done.returncode == 0, f"the child ended with status {done.returncode}:\n{done.stderr[-3000:]}"
    assert not done.stderr, f"the child wrote:\n{done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])
