"""The command "profile": ONNX Runtime's profiler, summarised per operator."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...chatter import held_back
from ...errors import OptionError
from ...source import Source

__all__ = ["profile"]


def profile(source: Source, providers: list[Any], threads: int, command: Mapping[str, Any]) -> dict[str, Any]:
    """Run a model on zeros in a session of its own under the profiler.

    Parameters
    ----------
    source : Source
    providers : list
    threads : int
    command : Mapping
        ``runs``: how often, 10 by default, after one run that does not count.

    Returns
    -------
    dict
        ``runs``, ``total_us`` per run, and ``operators``: for each operator and provider its ``nodes``, ``us`` (per
        run) and ``share`` of the total, the greatest first.

    Raises
    ------
    OptionError
    """
    import onnxruntime

    runs = command.get("runs", 10)
    if not isinstance(runs, int) or not 1 <= runs <= 1000:
        raise OptionError(f"profile runs is {runs!r}; wanted a whole number from 1 to 1000")
    with tempfile.TemporaryDirectory(prefix="edge-accelerate-profile-") as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        with held_back():
            model = str(source.path) if source.path is not None else source.read()
            session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
            feed = {entry.name: _zeros(entry) for entry in session.get_inputs()}
            for _ in range(runs + 1):
                session.run(None, feed)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _summary(events, runs)


def _zeros(entry: Any) -> Any:
    from .elements import data_type

    shape = [n if isinstance(n, int) else 1 for n in entry.shape]
    kind = data_type(entry.type, entry.name)
    return np.full(shape, "", object) if kind == "string" else np.zeros(shape, kind)


def _summary(events: list[dict[str, Any]], runs: int) -> dict[str, Any]:
    durations: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            details = event["args"]
            durations[details["op_name"], details.get("provider", ""), event["name"]].append(event["dur"])
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for (operator, provider, _), times in durations.items():
        row = rows.setdefault((operator, provider), {"operator": operator, "provider": provider, "nodes": 0, "us": 0.0})
        row["nodes"] += 1
        row["us"] += sum(times[1:]) / runs  # the first run is the warm-up
    total = sum(row["us"] for row in rows.values())
    for row in rows.values():
        row["share"] = row["us"] / total if total else 0.0
    return {"runs": runs, "total_us": total, "operators": sorted(rows.values(), key=lambda row: -row["us"])}
