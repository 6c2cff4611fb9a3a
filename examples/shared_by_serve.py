"""One of several programs that share an accelerator, which `edge-accelerate serve` has.

It needs the extras triton and vision, and the server cli, serve and litert. A picture is a video of one frame.

$ edge-accelerate serve digits=accelerate/data/digits_uint8.tflite &
$ python examples/shared_by_serve.py triton://localhost:8001/digits accelerate/data/digit.png    # 0 is the first camera
triton://localhost:8001/digits by system-shared-memory
seven 1.00
"""

from __future__ import annotations

import argparse
import sys
import time

import cv2

import accelerate
from accelerate.vision import Classifier


def main() -> None:
    """Print what each frame shows; wait for a server that is started again."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url", help="triton://host:port/model, as the server prints it")
    parser.add_argument("camera", nargs="?", default="0", help="a number, a video file or a stream's URL")
    arguments = parser.parse_args()

    camera = cv2.VideoCapture(int(arguments.camera) if arguments.camera.isdecimal() else arguments.camera)
    if not camera.isOpened():
        sys.exit(f"the camera {arguments.camera} cannot be opened")
    try:
        with accelerate.load(arguments.url) as model:
            print(f"{arguments.url} by {model.runtime.details['transport']}")
            classify = Classifier(model, max_results=1)
            ok, frame = camera.read()
            while ok:
                try:
                    best = classify(frame, color="BGR", timeout=0.5)[0]
                except (accelerate.ServerError, accelerate.DeviceLostError, accelerate.InferenceTimeoutError) as error:
                    print(error, file=sys.stderr)
                    time.sleep(0.5)  # then the same frame again: the model finds the server by itself
                    continue
                print(f"{best.label} {best.score:.2f}")
                ok, frame = camera.read()
    except accelerate.AccelerateError as error:
        sys.exit(str(error))
    finally:
        camera.release()


if __name__ == "__main__":
    main()
