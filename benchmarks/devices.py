"""Every backend and device of this machine over the project's own models: ``python -m benchmarks.devices``.

A thin face over `edge-accelerate bench`: the models are twins of one network each, all devices take turns.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accelerate.bench import report_text as say
from accelerate.bench.runner import Settings, run
from accelerate.inputs.folder import find_inputs

from .models import COCO_SSD, DIGITS, MOBILENET_V1, MOBILENET_V1_ONNX, MOBILENET_V2, PHOTOGRAPH, VWW, present
from .table import machine

_FORMS = ("digits_float.tflite", "digits_uint8.tflite", "digits_int8.tflite", "digits.onnx")
_TWINS: tuple[tuple[Path, ...], ...] = (
    tuple(DIGITS.with_name(form) for form in _FORMS),
    (MOBILENET_V1, MOBILENET_V1_ONNX),
    (MOBILENET_V2,),
    (VWW,),
    (COCO_SSD,),
)
_SECONDS = 3.0
_COLUMNS = ("model", "backend", "device", "threads", "p50", "p99", "vs CPU", "frame to answer", "load", "answers")


def rows() -> Iterator[Sequence[str]]:
    """Yield a row for each model and device; for what does not run here, the reason."""
    for twins in _TWINS:
        here = [path for path in twins if present(path)]
        if not here:
            yield (_named(twins), *[say.NOTHING] * 8, "not on this machine (EDGE_ACCELERATE_TEST_MODELS)")
            continue
        print(f"measuring {_named(here)}", file=sys.stderr)
        # the digits of the project's own model are on none of the photographs
        inputs = find_inputs(PHOTOGRAPH.parent, 8) if present(PHOTOGRAPH) and DIGITS not in here else None
        report = run([str(path) for path in here], Settings(seconds=_SECONDS, callers=(1,)), inputs=inputs)
        yield from (_cells(row) for row in report["results"])


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _cells(row: dict[str, Any]) -> Sequence[str]:
    place = (row["model"], row["backend"], row["device"], str(row["threads"] or say.NOTHING))
    if "latency_us" not in row:
        status = "not run" if row["status"] == "missing" else row["status"]
        reason = row["reason"].replace(row["path"], row["model"])
        return (*place, *[say.NOTHING] * 5, f"{status}: {reason}")
    figures, frames = row["latency_us"], row.get("frames", {}).get("latency_us", {})
    ratio = (
        "reference" if say.is_reference(row) else f"{row['ratio']['value']:.3g} x" if "ratio" in row else say.NOTHING
    )
    doubt = "; INVALID" if row["status"] == "INVALID" else ""
    return (
        *place,
        say.duration(figures["p50"]),
        say.duration(figures.get("p99")),
        ratio,
        say.duration(frames.get("p50")),
        f"{row['load_ms']:.1f} ms",
        _answers(row) + doubt,
    )


def _answers(row: dict[str, Any]) -> str:
    found = row.get("on_inputs", {})
    shares = [f"{name} {found[key]:.0%}" for key, name in _SHARES.items() if found.get(key) is not None]
    if not shares:
        return say.agreement(row["agreement"])
    return f"{', '.join(shares)} of {found['inputs']} photographs"


_SHARES = {"top1": "top-1", "top5": "top-5", "boxes": "boxes", "pixels": "pixels"}


if __name__ == "__main__":
    print(machine(), end="\n\n")
    for n, cells in enumerate((_COLUMNS, *rows())):
        print(f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |", flush=True)
        if not n:
            print("|---" * len(_COLUMNS) + "|")
