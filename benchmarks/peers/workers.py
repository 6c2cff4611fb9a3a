"""A peer's process: ``python workers.py PEER MODEL INPUTS``, run in the peer's environment (NumPy and the peer).

Prints its answer as one line of JSON, then for each line on stdin, a number of calls, the seconds that a call took.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from time import perf_counter
from typing import Any

import numpy as np

Call = Callable[[], Any]
Feeds = Mapping[str, Any]


def accelerate_tflite(model: str, feeds: Feeds) -> Call:
    import accelerate

    loaded = accelerate.load(model, backend="tflite_cpu", num_threads=1)
    given = dict(feeds)
    return lambda: next(iter(loaded.infer(given).values()))


def accelerate_onnx(model: str, feeds: Feeds) -> Call:
    import accelerate

    loaded = accelerate.load(model, backend="onnxruntime", num_threads=1)
    given = dict(feeds)
    return lambda: next(iter(loaded.infer(given).values()))


def accelerate_triton(model: str, feeds: Feeds) -> Call:
    import accelerate

    loaded = accelerate.load(model, backend="triton")
    given = dict(feeds)
    return lambda: next(iter(loaded.infer(given).values()))


def accelerate_frame(model: str, feeds: Feeds) -> Call:
    import accelerate

    loaded = accelerate.load(model, backend="tflite_cpu", num_threads=1)
    frame = feeds["frame"]
    return lambda: next(iter(loaded.infer_image(frame, dequantize=True).values()))


def accelerate_detector(model: str, feeds: Feeds) -> Call:
    _limit(feeds)
    import accelerate
    from accelerate.vision import Detector

    threads = 1 if "cores" in feeds else None  # None: as many as it chooses
    detector = Detector(accelerate.load(model, backend="tflite_cpu", num_threads=threads), min_score=0.25)
    frame = feeds["frame"]
    return lambda: _best((one.label, one.score, one.box) for one in detector(frame, max_results=10))


def mediapipe(model: str, feeds: Feeds) -> Call:
    _limit(feeds)
    import mediapipe as mp  # type: ignore[import-not-found]
    from mediapipe.tasks.python import BaseOptions  # type: ignore[import-not-found]
    from mediapipe.tasks.python import vision as tasks

    options = tasks.ObjectDetectorOptions(
        base_options=BaseOptions(model_asset_path=model), score_threshold=0.25, max_results=10
    )
    detector = tasks.ObjectDetector.create_from_options(options)
    frame = feeds["frame"]

    def call() -> Any:
        found = detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=frame))
        return _best(
            (one.categories[0].category_name, one.categories[0].score, (b.origin_x, b.origin_y, b.origin_x + b.width,
             b.origin_y + b.height)) for one in found.detections for b in (one.bounding_box,)
        )  # fmt: skip

    return call


def _limit(feeds: Feeds) -> None:
    """Keep this process on one core, where the task says so: MediaPipe has no option for its threads."""
    if "cores" in feeds:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(feeds["cores"]) :])


def _best(found: Iterable[tuple[str, float, tuple[float, ...]]]) -> Any:
    """Return score, box in shares of a 1080p frame, and the label, as a number, of the best two of all objects."""
    columns = [(score, *box, float(sum(label.encode()))) for label, score, box in found]
    return np.array(columns[:2]) / (1, 1920, 1080, 1920, 1080, 1)


def litert(model: str, feeds: Feeds) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    return _interpreter(Interpreter(model_path=model, num_threads=1), feeds)


def tflite_runtime(model: str, feeds: Feeds) -> Call:
    from tflite_runtime.interpreter import Interpreter

    return _interpreter(Interpreter(model_path=model, num_threads=1), feeds)


def _interpreter(interpreter: Any, feeds: Feeds) -> Call:
    interpreter.allocate_tensors()
    ((index,), (output,)) = ([d["index"] for d in found] for found in _details(interpreter))
    (feed,) = feeds.values()

    def call() -> Any:
        interpreter.set_tensor(index, feed)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return call


def _details(interpreter: Any) -> tuple[Any, Any]:
    return interpreter.get_input_details(), interpreter.get_output_details()


def onnxruntime(model: str, feeds: Feeds) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = dict(feeds)
    return lambda: session.run(None, given)[0]


def uairt(model: str, feeds: Feeds) -> Call:
    import uairt as peer

    loaded = peer.load(model, backend="onnxruntime", device="cpu", options={"intra_op_threads": 1})
    arrays = tuple(feeds.values())
    return lambda: loaded.run(*arrays)[0]


def tritonclient(model: str, feeds: Feeds) -> Call:
    import tritonclient.grpc as stock

    address, _, name = model.removeprefix("triton://").partition("/")
    client = stock.InferenceServerClient(address)

    def call() -> Any:
        given = []
        for key, array in feeds.items():
            one = stock.InferInput(key, list(array.shape), "UINT8" if array.dtype == np.uint8 else "FP32")
            one.set_data_from_numpy(array)
            given.append(one)
        return client.infer(name, given).as_numpy("y")

    return call


def by_hand(model: str, feeds: Feeds) -> Call:
    """What most programs contain: OpenCV, and what the tutorials do around an interpreter."""
    import cv2
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    frame = feeds["frame"]

    def call() -> Any:
        source = interpreter.get_input_details()[0]
        height, width = source["shape"][1:3]
        pixels = np.expand_dims(cv2.resize(frame, (int(width), int(height))), 0)
        interpreter.set_tensor(source["index"], pixels.astype(source["dtype"]))
        interpreter.invoke()
        output = interpreter.get_output_details()[0]
        scale, zero = output["quantization"]
        return (interpreter.get_tensor(output["index"]).astype(np.float32) - zero) * scale

    return call


PEERS: Mapping[str, Callable[[str, Feeds], Call]] = {
    "accelerate_tflite": accelerate_tflite,
    "accelerate_onnx": accelerate_onnx,
    "accelerate_triton": accelerate_triton,
    "accelerate_frame": accelerate_frame,
    "accelerate_detector": accelerate_detector,
    "mediapipe": mediapipe,
    "litert": litert,
    "tflite_runtime": tflite_runtime,
    "onnxruntime": onnxruntime,
    "uairt": uairt,
    "tritonclient": tritonclient,
    "by_hand": by_hand,
}


def main() -> None:
    peer, model, inputs = sys.argv[1:]
    with np.load(inputs) as stored:
        feeds = dict(stored)
    call = PEERS[peer](model, feeds)
    print(json.dumps(np.asarray(call()).ravel().astype(float).tolist()), flush=True)
    for line in sys.stdin:
        calls = int(line)
        started = perf_counter()
        for _ in repeat(None, calls):
            call()
        print((perf_counter() - started) / calls, flush=True)


if __name__ == "__main__":
    main()
