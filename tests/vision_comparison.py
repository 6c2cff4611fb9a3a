"""Runs a case of vision_models through a detector in every way that there is, and compares what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from vision_models import FRAMES, SIZE, Case, Found, write

import accelerate
from accelerate.image import Geometry
from accelerate.vision import Detections, Detector

PREPARED: dict[str, Any] = {"anchor": "center", "fill": 0, "input_color": "RGB"}
WHOLE = Geometry(SIZE, SIZE, (0, 0, *SIZE), (0, 0, *SIZE))


def check(case: Case, form: str, folder: Path) -> None:
    """Load the case's model, show it frames of several sizes, and decode its answer by the metadata alone."""
    path, options = write(case, form, folder)
    check_file(path, options, case)


def check_file(path: Path, options: dict[str, Any], case: Case) -> None:
    with accelerate.load(path, **options) as model:
        for way, ((height, width), resize) in FRAMES.items():
            detector = Detector(model, resize=resize, **PREPARED, **case.options)
            frame = np.zeros((height, width, 3), np.uint8)
            compare(detector(frame), case.wanted.in_frame(way), case, 2.5)
            compare(detector(frame), case.wanted.in_frame(way), case, 2.5)  # what values tell is known by now
        outputs = {name: case.stored(name) for name in case.outputs} or model.infer(np.zeros((1, *SIZE, 3), np.float32))
        by = Detector(model.metadata(), **case.options)
        compare(by.decode(outputs, WHOLE), case.wanted, case, 1)


def compare(found: Detections, wanted: Found, case: Case, scale: float) -> None:
    assert len(found) == len(wanted.scores), f"{found} for {wanted}"
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=0, atol=case.step * scale)
    step = max((scale for name, (_, scale, _) in case.quantized.items()), default=0) or 1e-6
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5, atol=step)
    assert found.classes.tolist() == wanted.classes.tolist()
    labels = [case.labels[i] if i < len(case.labels) else str(i) for i in wanted.classes.tolist()]
    assert found.labels.tolist() == labels
