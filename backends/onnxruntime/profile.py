"""The command "profile": ONNX Runtime's profiler, summarised per operator."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.contract import Model, left
from accelerate.errors import OptionError

__all__ = ["profile"]


def profile(build: Callable[[str], tuple[Model, Any]], runs: object, until: float | None) -> dict[str, Any]:
    """Run a model on zeros in a session of its own under the profiler, until a moment of `time.monotonic` at most.

    `build` takes the beginning of the profile's path, and returns a model whose session profiles, and the session. One
    run more than `runs` is made, which does not count.

    Returns
    -------
    dict
        ``runs``, ``total_us`` per run, and ``operators``: for each operator and provider its ``nodes``, ``us`` (per
        run) and ``share`` of the total, the greatest first.
    """
    if not isinstance(runs, int) or not 1 <= runs <= 1000:
        raise OptionError(f"profile runs is {runs!r}; wanted a whole number from 1 to 1000")
    with tempfile.TemporaryDirectory(prefix="edge-accelerate-profile-") as folder:
        model, session = build(str(Path(folder) / "run"))
        try:
            model.do_command({"command": "warmup", "runs": runs + 1}, timeout=left(until))
        finally:
            written = Path(session.end_profiling())
        return _summary(json.loads(written.read_text(encoding="utf-8")), runs)


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
