"""Where the measured models are."""

from __future__ import annotations

import os
from pathlib import Path

from .fresh import ROOT

__all__ = [
    "ADD",
    "ADD_DYNAMIC",
    "COCO_SSD",
    "DIGITS",
    "DIGITS_ONNX",
    "MOBILENET_V1",
    "MOBILENET_V1_ONNX",
    "MOBILENET_V2",
    "PHOTOGRAPH",
    "VWW",
    "present",
]

_SHARED = Path(os.environ.get("EDGE_ACCELERATE_TEST_MODELS") or ROOT.parent / "shared" / "models").absolute()

#: The project's own model: on every machine.
DIGITS = ROOT / "accelerate" / "data" / "digits_uint8.tflite"
DIGITS_ONNX = DIGITS.with_name("digits.onnx")
ADD = _SHARED / "add_10x10.tflite"
ADD_DYNAMIC = _SHARED / "simple_add_dynamic_shape.tflite"
VWW = _SHARED / "vww_96_int8.tflite"  # of a dynamic batch
MOBILENET_V1 = _SHARED / "mobilenet_v1_0.25_128_quant.tflite"
MOBILENET_V1_ONNX = MOBILENET_V1.with_suffix(".onnx")
COCO_SSD = _SHARED / "coco_ssd_mobilenet_v1_1.0_quant.tflite"
MOBILENET_V2 = _SHARED / "mobilenet_v2_1.0_224_quant.tflite"

PHOTOGRAPH = _SHARED.parent / "images" / "grace_hopper.bmp"


def present(path: Path) -> bool:
    """Return whether a model is on this machine."""
    return path.is_file()
