"""What many calls and many loads leave behind: memory and descriptors. Each is counted in a process of its own."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import accelerate

from .fresh import run_python
from .models import ADD, DIGITS, MOBILENET_V1, present
from .table import Row, show

__all__ = ["count_infers", "count_loads", "growth", "rows"]

_INFERS, _LOADS = 100_000, 1_000
_PAGE = os.sysconf("SC_PAGE_SIZE")


def rows() -> Iterator[Row]:
    """Count what both sides leave; without the shared models, with the project's own."""
    infers = ADD if present(ADD) else DIGITS
    ours, theirs = (_count("count_infers", infers, side) for side in ("ours", "raw"))
    what = f"memory left by {_INFERS:,} infers, {infers.stem}"
    yield Row(what, ours[0], 1.0, "{:.2f} MB", f"raw {theirs[0]:.2f} MB")
    loads = MOBILENET_V1 if present(MOBILENET_V1) else DIGITS
    ours, theirs = (_count("count_loads", loads, side) for side in ("ours", "raw"))
    what = f"left by {_LOADS:,} loads and closes, {loads.stem}"
    yield Row(f"memory {what}", ours[0], 5.0, "{:.2f} MB", f"raw {theirs[0]:.2f} MB")
    yield Row(f"descriptors {what}", ours[1], 0, "{:.0f}", f"raw {theirs[1]:.0f}")


def count_infers(path: str, side: str) -> tuple[float, int]:
    """Return the growth in MB and in descriptors over many answers of one model."""
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    feeds = {d["index"]: np.zeros(d["shape"], d["dtype"]) for d in interpreter.get_input_details()}
    outputs = [d["index"] for d in interpreter.get_output_details()]

    def raw() -> None:
        for index, feed in feeds.items():
            interpreter.set_tensor(index, feed)
        interpreter.invoke()
        for index in outputs:
            interpreter.get_tensor(index)

    if side == "raw":
        return growth(raw, _INFERS)
    with accelerate.load(path, backend="tflite_cpu") as model:
        given = {t.name: feed for t, feed in zip(model.metadata().inputs, feeds.values(), strict=True)}
        return growth(lambda: model.infer(given), _INFERS)


def count_loads(path: str, side: str) -> tuple[float, int]:
    """Return the growth in MB and in descriptors over many loads, each with an answer and its end."""
    (source,) = Interpreter(model_path=path).get_input_details()
    frame = np.zeros(source["shape"], source["dtype"])

    def raw() -> None:
        interpreter = Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], frame)
        interpreter.invoke()

    def ours() -> None:
        with accelerate.load(path, backend="tflite_cpu") as model:
            model.metadata()  # reads the file, what a load alone puts off
            model.infer(frame)

    return growth(raw if side == "raw" else ours, _LOADS)


def growth(call: Callable[[], object], calls: int) -> tuple[float, int]:
    """Return by how many MB and descriptors this process has grown over so many calls."""
    for _ in range(calls // 10):  # until the allocators have what they keep
        call()
    memory, descriptors = _held()
    for _ in range(calls):
        call()
    memory_after, descriptors_after = _held()
    return (memory_after - memory) / 1e6, descriptors_after - descriptors


def _held() -> tuple[int, int]:
    """Return the resident bytes and the open descriptors of this process."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return resident * _PAGE, len(os.listdir("/proc/self/fd"))


def _count(function: str, path: Path, side: str) -> tuple[float, float]:
    source = f"from benchmarks.leaks import {function}\nprint(*{function}({str(path)!r}, {side!r}))"
    megabytes, descriptors = map(float, run_python(source).split())
    return megabytes, descriptors


if __name__ == "__main__":
    show(rows())
