"""From a 1080p frame to the model's tensor, and to the answer, in the ways that programs do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

import accelerate
from accelerate import Normalization, TensorInfo
from accelerate.image import to_tensor

from .models import MOBILENET_V2, present
from .sidebyside import Timings, measure
from .table import Row, missing, show

__all__ = ["rows"]

_FORM = "{:.3f} x"
_SIDE = 300
_INFO = TensorInfo(
    "image",
    data_type="float32",
    shape=(1, _SIDE, _SIDE, 3),
    normalization=Normalization((127.5,), (127.5,), "metadata"),
)


def rows() -> Iterator[Row]:
    """Measure the way into a float32 tensor of 300 x 300 pixels, and the way through MobileNet."""
    yield from _tensor()
    yield from _answer()


def _tensor() -> Iterator[Row]:
    frame = _frame()
    ways = {
        "to_tensor": _ours(frame),
        "Pillow and NumPy": _usual(frame),
        "OpenCV and NumPy, out=": _by_hand(frame),
        "cv2.dnn.blobFromImage": _blob(frame),
    }
    timings = measure(ways, seconds=20, agree=_alike)
    targets = {"Pillow and NumPy": 1 / 20, "OpenCV and NumPy, out=": 1.1, "cv2.dnn.blobFromImage": None}
    for base, target in targets.items():
        yield _row(f"to_tensor over {base}, 1080p to {_SIDE} x {_SIDE} float32", timings, "to_tensor", base, target)


def _frame() -> Any:
    """Return a frame so smooth that all ways of resizing give nearly the same."""
    y, x = np.mgrid[0:1080, 0:1920]
    waves = [np.sin(x / 211 + phase) + np.cos(y / 127 - phase) for phase in range(3)]
    return np.rint(127.5 + 60 * np.stack(waves, -1)).astype(np.uint8)


def _alike(one: Any, other: Any) -> bool:
    if other.shape[1] == 3:
        other = np.moveaxis(other, 1, -1)
    return bool(np.abs(one - other).max() < 2 / 127.5)


def _ours(frame: Any) -> Callable[[], Any]:
    out = np.empty(_INFO.shape, np.float32)
    return lambda: to_tensor(frame, _INFO, out=out)


def _usual(frame: Any) -> Callable[[], Any]:
    memory = np.empty(_INFO.shape, np.float32)

    def usual() -> Any:
        small = Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        tensor = np.asarray(small, np.float32) / 255.0
        tensor = (tensor - 0.5) / 0.5
        memory[0] = tensor  # what set_tensor does
        return memory

    return usual


def _by_hand(frame: Any) -> Callable[[], Any]:
    small, out = np.empty((_SIDE, _SIDE, 3), np.uint8), np.empty(_INFO.shape, np.float32)
    scale, one = np.float32(1 / 127.5), np.float32(1)

    def by_hand() -> Any:
        cv2.resize(frame, (_SIDE, _SIDE), dst=small, interpolation=cv2.INTER_LINEAR)
        np.multiply(small, scale, out=out[0])
        np.subtract(out, one, out=out)
        return out

    return by_hand


def _blob(frame: Any) -> Callable[[], Any]:
    return lambda: cv2.dnn.blobFromImage(frame, 1 / 127.5, (_SIDE, _SIDE), (127.5, 127.5, 127.5))


def _answer() -> Iterator[Row]:
    what = f"frame to answer over OpenCV and raw calls by hand, {MOBILENET_V2.stem}"
    target = 1.05
    if not present(MOBILENET_V2):
        yield missing(what, target, _FORM, MOBILENET_V2)
        return
    frame = _frame()
    interpreter = Interpreter(model_path=str(MOBILENET_V2), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    _, height, width, _ = source["shape"]
    small = np.empty(source["shape"], np.uint8)

    def raw() -> Any:
        cv2.resize(frame, (width, height), dst=small[0], interpolation=cv2.INTER_LINEAR)
        interpreter.set_tensor(source["index"], small)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    with accelerate.load(MOBILENET_V2, backend="tflite_cpu", num_threads=1) as model, model.bind() as binding:
        (info,) = model.metadata().inputs
        out, (answer,) = binding.inputs[info.name], binding.outputs.values()

        def bound() -> Any:
            to_tensor(frame, info, out=out)
            binding.run()
            return answer.copy()

        ways = {"raw": raw, "binding": bound, "infer_image": lambda: model.infer_image(frame)}
        timings = measure(ways, seconds=20)
    yield _row(f"{what}: to_tensor into a binding", timings, "binding", "raw", target)
    yield _row(f"{what}: infer_image", timings, "infer_image", "raw", None)


def _row(what: str, timings: Timings, name: str, base: str, target: float | None) -> Row:
    ratio = timings.ratio(name, base)
    milliseconds = [1e3 * timings.median(way) for way in (name, base)]
    note = f"{ratio.low:.3f} .. {ratio.high:.3f}; {milliseconds[0]:.3f} against {milliseconds[1]:.3f} ms"
    return Row(what, ratio.value, target, _FORM, note)


if __name__ == "__main__":
    show(rows())
