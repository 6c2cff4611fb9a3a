"""Models as OpenVINO has them, made of those that other modules build."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import accelerate

__all__ = ["RAW", "compiled", "core", "raw_answer", "read", "written"]

#: What our backend asks of OpenVINO, with one thread.
RAW = {"EXECUTION_MODE_HINT": "ACCURACY", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}


def core() -> Any:
    """Return a Core; OpenVINO is imported as the backend imports it, without its telemetry."""
    if "openvino" not in sys.modules:
        assert accelerate.list_backends()["openvino"].available
    import openvino

    return openvino.Core()


def read(source: Any, folder: Path | None = None) -> Any:
    """Return OpenVINO's model of a path, or of the bytes of an .onnx file; those of a .tflite file need a folder."""
    if isinstance(source, bytes) and source[4:8] == b"TFL3":
        assert folder is not None
        path = folder / "read.tflite"
        path.write_bytes(source)
        source = path
    return core().read_model(source if isinstance(source, bytes) else str(source))


def compiled(source: Any, folder: Path | None = None, **config: Any) -> Any:
    """Return it for the CPU."""
    return core().compile_model(read(source, folder), "CPU", {**RAW, **config})


def written(source: Any, path: Path, *, labels: Sequence[str] = (), **info: Any) -> Path:
    """Write it as an .xml and its .bin, with such a ``model_info``."""
    model = read(source, path.parent)
    for key, value in {**({"labels": list(labels)} if labels else {}), **info}.items():
        model.set_rt_info(value, ["model_info", key])
    import openvino

    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def raw_answer(made: Any, inputs: Sequence[Any]) -> list[Any]:
    """Return the outputs of a compiled model, as OpenVINO itself gives them."""
    request = made.create_infer_request()
    request.infer(list(inputs), share_outputs=False)
    return [request.get_output_tensor(i).data.copy() for i in range(len(made.outputs))]
