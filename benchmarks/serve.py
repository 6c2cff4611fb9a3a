"""What a call of a model that `edge-accelerate serve` serves costs over the same model in the program.

``python -m benchmarks.serve``. Server and client are two processes on this machine; the ways take turns. A bare server
is the floor: grpcio's own with LiteRT's interpreter in its handler, which checks nothing, and a stub of grpcio's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import grpc
import numpy as np

import accelerate

from .fresh import ROOT
from .isolation import pooling
from .models import MOBILENET_V2, present
from .sidebyside import Timings, measure, same_answer
from .table import Row, missing, show

__all__ = ["rows"]

_FORM = "{:.3f} ms"
_SHAPE = (1, 224, 224, 3)
_SECONDS = 30.0
_MESSAGES, _BINDING = 0.75, 0.6  # ms over local that issue 17 allows
_EMPTY = "an empty call of grpcio's server"
_BARE = {"message": "bare server, messages", "region": "bare server, shared memory"}
#: way -> the most that it may cost over local
_WAYS = {
    "infer, messages": _MESSAGES,
    _BARE["message"]: None,
    "infer, shared memory": None,
    "Binding, shared memory": _BINDING,
    _BARE["region"]: None,
}


def rows() -> Iterator[Row]:
    """Measure a model of nearly no work, then MobileNet."""
    frame = np.random.default_rng(0).integers(0, 256, _SHAPE, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pooling.tflite"
        path.write_bytes(pooling())
        timings = _measure(path, frame)
        empty = 1e3 * timings.median(_EMPTY)
        yield Row(_EMPTY, empty, None, _FORM, f"undisturbed {1e3 * timings.least(_EMPTY):.3f}")
        yield from _over_local("uint8 224x224x3", timings, limited=True)
    what = "mobilenet_v2_1.0_224_quant"
    if present(MOBILENET_V2):
        yield from _over_local(what, _measure(MOBILENET_V2, frame), limited=False)
    else:
        yield missing(f"served over local, {what}", None, _FORM, MOBILENET_V2)


def _over_local(what: str, timings: Timings, *, limited: bool) -> Iterator[Row]:
    for way, most in _WAYS.items():
        cost = timings.difference(way, "local")
        ours, theirs = 1e3 * timings.median(way), 1e3 * timings.median("local")
        note = f"{1e3 * cost.low:.3f} .. {1e3 * cost.high:.3f}; {ours:.3f} against {theirs:.3f} ms; "
        note += f"undisturbed {1e3 * (timings.least(way) - timings.least('local')):.3f}"
        yield Row(f"{way}, over local, {what}", 1e3 * cost.value, most if limited else None, _FORM, note)


def _measure(path: Path, frame: np.ndarray[Any, Any]) -> Timings:
    with ExitStack() as stack:
        url = stack.enter_context(_serving(path))
        room = stack.enter_context(NamedTemporaryFile(dir="/dev/shm"))
        room.write(bytes(frame))
        room.flush()
        channel = stack.enter_context(grpc.insecure_channel(stack.enter_context(_bare_server(path, room.name))))
        ways: dict[str, Callable[[], object]] = {}
        for name, source, options in (
            ("local", path, {"num_threads": 1}),
            ("infer, messages", url, {"shared_memory": "none"}),
            ("infer, shared memory", url, {"shared_memory": "system"}),
        ):
            model = stack.enter_context(accelerate.load(source, **options))
            ways[name] = lambda model=model: model.infer(frame)  # type: ignore[misc]
        binding = stack.enter_context(model.bind())
        (array,) = binding.inputs.values()
        array[...] = frame

        def run() -> object:
            binding.run()
            return binding.outputs

        def by_stub(method: str, content: Callable[[], bytes]) -> Callable[[], object]:
            stub = channel.unary_unary(f"/bare/{method}", None, None)
            return lambda: stub(content(), timeout=10)

        ways |= {
            "Binding, shared memory": run,
            _BARE["message"]: by_stub("message", lambda: bytes(frame)),
            _BARE["region"]: by_stub("region", bytes),
            _EMPTY: by_stub("nothing", bytes),
        }
        return measure(ways, seconds=_SECONDS, agree=lambda a, b: isinstance(b, bytes) or same_answer(a, b))


@contextmanager
def _serving(path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "accelerate", "serve", str(path), "--port", "0", "--option", "num_threads=1"]
    with _process(command) as line:
        yield re.findall(r"triton://\S+", line)[0]


@contextmanager
def _bare_server(path: Path, region: str) -> Iterator[str]:
    with _process([sys.executable, "-m", "benchmarks.serve", "--bare", str(path), region]) as line:
        yield line.strip()


@contextmanager
def _process(command: list[str]) -> Iterator[str]:
    """Yield the first line that a process writes, and end it."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline()
        finally:
            process.terminate()


def _serve_bare(path: str, region: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (told, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    room = np.empty(given["shape"], given["dtype"])
    handle = os.open(region, os.O_RDONLY)

    def answer(frame: np.ndarray[Any, Any]) -> bytes:
        interpreter.set_tensor(given["index"], frame)
        interpreter.invoke()
        content: bytes = interpreter.get_tensor(told["index"]).tobytes()
        return content

    def message(request: bytes, _: Any) -> bytes:
        return answer(np.frombuffer(request, room.dtype).reshape(room.shape))

    def shared(request: bytes, _: Any) -> bytes:
        os.preadv(handle, [room.data], 0)
        return answer(room)

    methods = {"/bare/message": message, "/bare/region": shared, "/bare/nothing": lambda request, _: request}

    class Bare(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, call: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(methods[call.method])

    server = grpc.server(ThreadPoolExecutor(8), handlers=[Bare()])
    print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        _serve_bare(*sys.argv[2:])
    else:
        show(rows())
