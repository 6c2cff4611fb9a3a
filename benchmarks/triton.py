"""Our ways to a Triton server beside tritonclient's own `infer`: ``python -m benchmarks.triton``.

One server and one run, the ways taking turns. Each has a process of its own: what one of them has malloc keep from
call to call would help the others. It starts the tests' server (``make .venv-triton/.ready``), or uses the one of
``--url host:8001`` with the same models.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter

import numpy as np

import accelerate
from accelerate.calls.conversion import Array

from .sidebyside import Timings
from .table import Row, show

__all__ = ["rows"]

_FORM = "{:.3f} x"
_ROUNDS, _WARMUP, _CALLS = 30, 3, 11
_STOCK = "tritonclient"
_WAYS = (_STOCK, "Binding", "infer", "infer, messages")
#: model -> its frame, and the most that each way may take of the stock client's time (issue 5)
_MODELS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "sink_u8": ("1x1080x1920x3 uint8, 16 bytes back", {"Binding": 1 / 12, "infer": 1 / 9, "infer, messages": 1 / 3}),
    "sink_f32": ("1x224x224x3 float32, 16 bytes back", {"Binding": 1 / 2}),
    "frame": ("1x1080x1920x3 uint8, all of it back", {}),
}


def rows(url: str) -> Iterator[Row]:
    """Measure each model in each way."""
    for name, (what, wanted) in _MODELS.items():
        timings = _measure(url, name)
        for way in _WAYS[1:]:
            ratio = timings.ratio(way, _STOCK)
            ours, theirs = (1e3 * timings.median(w) for w in (way, _STOCK))
            note = f"{1 / ratio.value:.1f} times as fast ({1 / ratio.high:.1f} .. {1 / ratio.low:.1f}); "
            note += f"{ours:.2f} against {theirs:.2f} ms"
            yield Row(f"{way} over {_STOCK}, {what}", ratio.value, wanted.get(way), _FORM, note)


def _measure(url: str, name: str) -> Timings:
    times: dict[str, list[float]] = {way: [] for way in _WAYS}
    command = [sys.executable, "-m", "benchmarks.triton", "--url", url, "--model", name, "--way"]
    with contextlib.ExitStack() as stack:
        workers = {
            way: stack.enter_context(
                subprocess.Popen([*command, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for way in _WAYS
        }
        answers = {way: _ask(worker) for way, worker in workers.items()}
        assert len(set(answers.values())) == 1, f"the ways give different answers: {answers}"
        order = list(_WAYS)
        for _ in range(_ROUNDS):
            for way in order:
                times[way].append(float(_ask(workers[way])))
            order.append(order.pop(0))
    return Timings(times)


def _ask(worker: subprocess.Popen[str]) -> str:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return worker.stdout.readline().strip()


def _work(url: str, name: str, way: str) -> None:
    """Answer a line with the digest of an answer, and every further one with a call's median seconds."""
    with contextlib.ExitStack() as stack:
        call = _call(stack, url, name, way)
        for number, _ in enumerate(sys.stdin):
            for _ in range(_WARMUP):
                answer = call()
            if number == 0:
                print(hashlib.sha256(answer.tobytes()).hexdigest(), flush=True)
                continue
            print(statistics.median(_seconds(call) for _ in range(_CALLS)), flush=True)


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _call(stack: contextlib.ExitStack, url: str, name: str, way: str) -> Callable[[], Array]:
    frame = _frame(name)
    if way == _STOCK:
        import tritonclient.grpc as stock

        client = stock.InferenceServerClient(url)
        stack.callback(client.close)

        def by_stock() -> Array:
            given = stock.InferInput("x", list(frame.shape), "UINT8" if frame.dtype == np.uint8 else "FP32")
            given.set_data_from_numpy(frame)
            answer: Array = client.infer(name, [given]).as_numpy("y")
            return answer

        return by_stock
    memory = "none" if way == "infer, messages" else "system"
    model = stack.enter_context(accelerate.load(f"triton://{url}/{name}", backend="triton", shared_memory=memory))
    if way != "Binding":
        feeds = {"x": frame}
        return lambda: model.infer(feeds)["y"]
    binding = stack.enter_context(model.bind())
    binding.inputs["x"][...] = frame
    output = binding.outputs["y"]

    def by_binding() -> Array:
        binding.run()
        return output

    return by_binding


def _frame(name: str) -> Array:
    random = np.random.default_rng(0)
    if name == "sink_f32":
        return random.random((1, 224, 224, 3), np.float32)
    return random.integers(0, 255, (1, 1080, 1920, 3), np.uint8)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server with these models, host:port")
    parser.add_argument("--model", choices=_MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=_WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        _work(given.url, given.model, given.way)
        return
    with contextlib.ExitStack() as stack:
        url = given.url
        if url is None:
            sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
            from triton_server import TritonServer

            url = stack.enter_context(TritonServer(("add", *_MODELS))).url
        show(rows(url))


if __name__ == "__main__":
    _main()
