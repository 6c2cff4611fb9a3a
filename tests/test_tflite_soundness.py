"""Graphs that look odd: what the engines run is not refused, and what they do not survive is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import engines
import numpy as np
import odd_graphs
import pytest

import accelerate

_SCRIPT = Path(odd_graphs.__file__)
#: What sound graphs answer to ones.
_VALUES: dict[str, dict[str, list[float]]] = {
    "a first graph without lists": {"y": [1, 2, 3]},
    "a loop that drops a result": {"m": [4]},
    "neither inputs nor operators": {"c": [1, 2]},
    "no list of operators": {"x": [1, 1, 1]},
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", engines.INSTALLED)
def test_only_what_an_engine_refuses_or_dies_of_is_refused(engine: str) -> None:
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), engine], capture_output=True, text=True, timeout=120, check=True,
        env=os.environ | {"MALLOC_PERTURB_": "165"},  # reading what nobody wrote always looks the same
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 400
    # of numbers read as text, and the other way round, some kill a process and some give nonsense; an operator without
    # outputs writes to whatever lies there
    nonsense = ("string", "with 0 outputs")
    assert [row for row in rows if row[1] and row[2] == "runs" and not any(word in row[0] for word in nonsense)] == []
    assert [row for row in rows if not row[1] and row[2] == "dies"] == []
    fates = {name: fate for name, _, fate in rows}
    assert {name: fates[name] for name in odd_graphs.SOUND} == dict.fromkeys(odd_graphs.SOUND, "runs")
    assert sum(fate == "dies" for fate in fates.values()) > 50


@pytest.mark.parametrize("engine", engines.INSTALLED)
@pytest.mark.parametrize("name", odd_graphs.SOUND)
def test_sound_graphs_load_and_run(engine: str, name: str) -> None:
    with accelerate.load(odd_graphs.SOUND[name](), backend="tflite_cpu", engine=engine) as model:
        feeds = {t.name: np.ones(t.shape, t.data_type) for t in model.metadata().inputs}
        outputs = model.infer(feeds)
        assert set(outputs) == {t.name for t in model.metadata().outputs}
        for output, value in _VALUES.get(name, {}).items():
            assert outputs[output].tolist() == value
