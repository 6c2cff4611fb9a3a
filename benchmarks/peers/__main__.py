"""Measures the peers beside us and prints the table: ``python -m benchmarks.peers``."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..fresh import ROOT
from ..models import COCO_SSD, DIGITS, DIGITS_ONNX, MOBILENET_V1, MOBILENET_V1_ONNX, PHOTOGRAPH, present
from ..sidebyside import Timings
from ..table import Row, show
from ..vision import photograph
from .environments import ENVIRONMENTS, Unavailable

_SECONDS = 12.0
_BLOCK = 0.02  # seconds of a turn: a message to another process takes 0.1 ms
_FORM = "{:.3f} x"


@dataclass(frozen=True)
class _Task:
    """One piece of work: ours, and the peers who do the same, each with its environment."""

    what: str
    model: str
    feeds: Mapping[str, Any]
    ours: str
    peers: Mapping[str, str]
    target: float | None = None


class _Worker:
    """A process that waits for its turn."""

    def __init__(self, environment: str, peer: str, task: _Task, inputs: Path) -> None:
        command = [ENVIRONMENTS[environment].python(), str(Path(__file__).with_name("workers.py")), peer]
        # a folder without the checkout in it: a peer must not find this project's modules
        self._process = subprocess.Popen(
            [*command, task.model, str(inputs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=inputs.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT) if environment == "ours" else ""},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate()
            raise Unavailable(f"it ended: {(said.strip().splitlines() or ['no message'])[-1]}")
        self.answer = np.array(json.loads(line))

    def seconds(self, calls: int) -> float:
        """Let it call so many times, and return the seconds of one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(calls, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def rows() -> Iterator[Row]:
    """Measure every task."""
    tflite, onnx = (
        (MOBILENET_V1, MOBILENET_V1_ONNX)
        if present(MOBILENET_V1) and present(MOBILENET_V1_ONNX)
        else (DIGITS, DIGITS_ONNX)
    )
    random = np.random.default_rng(0)
    side, channels = (128, 3) if tflite == MOBILENET_V1 else (8, 1)
    levels = random.integers(0, 256, (1, side, side, channels), np.uint8)
    real = np.ascontiguousarray(random.uniform(-1, 1, (1, channels, side, side)).astype(np.float32))
    yield from _measure(
        _Task(
            f"{tflite.stem}, TFLite, 1 thread",
            str(tflite),
            {"input" if tflite == MOBILENET_V1 else "image": levels},
            "accelerate_tflite",
            {"litert": "litert", "tflite_runtime": "tflite-runtime"},
        )
    )
    name = "input" if onnx == MOBILENET_V1_ONNX else "image"
    yield from _measure(
        _Task(
            f"{onnx.stem}, ONNX, 1 thread",
            str(onnx),
            {name: real},
            "accelerate_onnx",
            {"onnxruntime": "onnxruntime", "uairt": "uairt"},
        )
    )
    if tflite == MOBILENET_V1:
        frame = random.integers(0, 256, (1080, 1920, 3), np.uint8)
        frame[:] = np.linspace(0, 255, 1920).astype(np.uint8)[None, :, None]  # all ways of resizing agree on it
        yield from _measure(
            _Task("1080p frame to scores", str(tflite), {"frame": frame}, "accelerate_frame", {"by_hand": "by-hand"})
        )
    if present(COCO_SSD) and present(PHOTOGRAPH):
        seen: dict[str, Any] = {"frame": photograph()}
        for how, more in {"one core": {"cores": np.array(1)}, "threads as they choose": {}}.items():
            yield from _measure(
                _Task(
                    f"1080p frame to objects, {COCO_SSD.stem}, {how}",
                    str(COCO_SSD),
                    seen | more,
                    "accelerate_detector",
                    {"mediapipe": "mediapipe"},
                    target=1.0,
                )
            )
    with contextlib.ExitStack() as stack:
        try:
            url = _server(stack)
        except Exception as error:  # no server here: whatever the reason, the row says it
            yield Row("Triton, 1080p frame", None, None, _FORM, f"no tritonserver here: {error}")
            return
        sent = random.integers(0, 256, (1, 1080, 1920, 3), np.uint8)
        yield from _measure(
            _Task(
                "Triton on this machine, 1080p frame, 16 bytes back",
                f"triton://{url}/sink_u8",
                {"x": sent},
                "accelerate_triton",
                {"tritonclient": "tritonclient"},
            )
        )


def _server(stack: contextlib.ExitStack) -> str:
    sys.path.append(str(ROOT / "tests"))
    from triton_server import TritonServer

    url: str = stack.enter_context(TritonServer(("sink_u8",))).url
    return url


def _measure(task: _Task) -> Iterator[Row]:
    workers: dict[str, _Worker] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, **task.feeds)
        for peer, environment in {task.ours: "ours", **task.peers}.items():
            try:
                workers[peer] = worker = _Worker(environment, peer, task, inputs)
                stack.callback(worker.close)
            except Unavailable as reason:
                yield Row(f"ours over {peer}, {task.what}", None, task.target, _FORM, str(reason))
        if task.ours not in workers:
            return
        timings = _in_turn(workers)
        for peer in task.peers:
            if peer in workers:
                ratio = timings.ratio(task.ours, peer)
                ours, theirs = (1e6 * timings.median(name) for name in (task.ours, peer))
                apart = float(np.abs(workers[peer].answer - workers[task.ours].answer).max())
                answers = "equal answers" if not apart else f"answers differ by {apart:.2g} at most"
                note = f"{ratio.low:.3f} .. {ratio.high:.3f}; {ours:.1f} against {theirs:.1f} us; {answers}"
                yield Row(f"ours over {peer}, {task.what}", ratio.value, task.target, _FORM, note)


def _in_turn(workers: Mapping[str, _Worker]) -> Timings:
    calls = {name: max(1, int(_BLOCK / worker.seconds(10))) for name, worker in workers.items()}
    for name, worker in workers.items():
        calls[name] = max(1, int(_BLOCK / worker.seconds(calls[name])))
    times: dict[str, list[float]] = {name: [] for name in workers}
    order = list(workers)
    end = perf_counter() + _SECONDS
    while perf_counter() < end:
        for name in order:
            times[name].append(workers[name].seconds(calls[name]))
        order.append(order.pop(0))
    return Timings(times)


if __name__ == "__main__":
    show(rows())
