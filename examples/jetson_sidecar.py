"""Classify a camera's frames on a Jetson's GPU, by the Triton server beside the program (deploy/jetson).

The program sends its model file to the server. While the server is away, the board's CPU answers. It needs the extras
triton, onnxruntime and vision; the video is yours, and accelerate/data/digit.png one of a single frame.

$ python examples/jetson_sidecar.py accelerate/data/digits.onnx digits.avi --device cpu    # default: gpu
triton cpu: seven 1.00
onnxruntime cpu: seven 1.00
"""

from __future__ import annotations

import argparse
import logging
import sys

import cv2

import accelerate
from accelerate.vision import Classifier


def main() -> None:
    """Print for each frame what it shows, and who says so."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument("camera", nargs="?", default="0", help="a number, a video file or a stream's URL")
    parser.add_argument("--url", default="localhost:8001")
    parser.add_argument("--device", default="gpu", help="where the server must run it")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")  # shows each switch, and why

    camera = cv2.VideoCapture(int(arguments.camera) if arguments.camera.isdecimal() else arguments.camera)
    if not camera.isOpened():
        sys.exit(f"the camera {arguments.camera} cannot be opened")
    here = {"backend": "onnxruntime", "device": "cpu"}
    try:
        with accelerate.load(
            arguments.model, backend="triton", url=arguments.url, device=arguments.device, failover=[here],
            normalization=(127.5, 127.5),  # pixels from -1 to 1, as it was trained: an .onnx file does not say
        ) as model:  # fmt: skip
            classify = Classifier(model, max_results=1)
            ok, frame = camera.read()
            while ok:
                best = classify(frame, color="BGR", timeout=1)[0]
                print(f"{model.backend} {model.device}: {best.label} {best.score:.2f}")
                ok, frame = camera.read()
    except accelerate.AccelerateError as error:
        sys.exit(str(error))
    finally:
        camera.release()


if __name__ == "__main__":
    main()
