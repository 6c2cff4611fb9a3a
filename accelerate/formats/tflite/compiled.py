"""What is known of a .tflite file that the Edge TPU compiler has written, from its graph and its name."""

from __future__ import annotations

from pathlib import Path

__all__ = ["COMPILED_OPERATOR", "compiled_for_edgetpu", "cpu_twin"]

#: The custom operator into which the compiler puts what runs on the Edge TPU.
COMPILED_OPERATOR = "edgetpu-custom-op"


def compiled_for_edgetpu(path: Path | None) -> tuple[str, str]:
    """Return reason and remedy for a compiled model where there is no Edge TPU to run it."""
    reason = "the model is compiled for the Edge TPU, which only the 'edgetpu' backend runs"
    if twin := cpu_twin(path):
        return reason, f"on the CPU run its twin {twin}; with a Coral device use backend='edgetpu'"
    return reason, "use backend='edgetpu' with a Coral device, or the model file from before the compilation"


def cpu_twin(path: Path | None) -> Path | None:
    """Return the file from before the compilation, where it lies beside a compiled model under the usual name."""
    if path is None or not path.stem.endswith("_edgetpu"):
        return None
    twin = path.with_name(path.stem.removesuffix("_edgetpu") + path.suffix)
    return twin if twin.is_file() else None
