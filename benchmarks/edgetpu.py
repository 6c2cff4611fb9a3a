"""`infer` of edgetpu against the raw LiteRT calls with the same library's delegate: ``python -m benchmarks.edgetpu``.

The library is the one of ``--library``, else a stand-in that the tests build and that computes on the CPU: what our
side adds is the same, the device's time is not measured then.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate

import accelerate

from .fresh import ROOT
from .sidebyside import measure
from .table import Row, show

__all__ = ["rows"]

_FORM = "{:.2f} us"
_TARGET = 25.0  # 1 % of PyCoral's published 2.17 ms for mobilenet_v1 on a USB Accelerator (issue 7)


def rows(library: str, models: dict[str, Path], where: str) -> Iterator[Row]:
    """Measure each model."""
    for name, path in models.items():
        raw, feed = _raw(library, path)
        with accelerate.load(path, backend="edgetpu", library=library, num_threads=1) as model:
            timings = measure({"raw": raw, "infer": lambda: _only(model.infer(feed))}, seconds=10)  # noqa: B023
        more = timings.difference("infer", "raw")
        ours, theirs = (1e6 * timings.median(way) for way in ("infer", "raw"))
        note = f"{1e6 * more.low:.2f} .. {1e6 * more.high:.2f}; {ours:.2f} against {theirs:.2f} us, on {where}"
        yield Row(f"infer more than raw, {name}", 1e6 * more.value, _TARGET, _FORM, note)


def _raw(library: str, path: Path) -> tuple[Callable[[], Any], Any]:
    interpreter = Interpreter(
        model_path=str(path), num_threads=1, experimental_delegates=[load_delegate(library, {"device": ":0"})]
    )
    interpreter.allocate_tensors()
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    source, target = given["index"], wanted["index"]
    feed = np.random.default_rng(0).integers(0, 255, given["shape"]).astype(given["dtype"])

    def call() -> Any:
        interpreter.set_tensor(source, feed)
        interpreter.invoke()
        return interpreter.get_tensor(target)

    return call, feed


def _only(outputs: dict[str, Any]) -> Any:
    (value,) = outputs.values()
    return value


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", help="the Edge TPU's own library; needs a device")
    parser.add_argument("models", nargs="*", type=Path, help="compiled models for --library, with one input and output")
    arguments = parser.parse_args()
    if arguments.library:
        show(rows(arguments.library, {path.stem: path for path in arguments.models}, "the Edge TPU"))
        return
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]
    import edgetpu_stand_in as stand_in

    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGE_ACCELERATE_CACHE"] = folder
        models: dict[str, Path] = {}
        for name, content in (
            ("uint8 1x4", stand_in.bits()),
            ("uint8 1x224x224x3 to 1x1001", stand_in.bits([1, 224, 224, 3], [1, 1001])),
        ):
            models[name] = Path(folder, f"{len(models)}_edgetpu.tflite")
            models[name].write_bytes(content)
        show(rows(stand_in.library(), models, "a stand-in, not an Edge TPU"))


if __name__ == "__main__":
    _main()
