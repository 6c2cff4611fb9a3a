"""Detect on a Coral stick; while it is pulled out, the CPU answers, and no frame is lost.

It needs the extras edgetpu and vision; models and video are yours. What it prints, as a stand-in for a stick made it
print in the tests; what is in the log goes to stderr.

$ python examples/coral_failover.py detector_edgetpu.tflite detector.tflite street.avi
edgetpu: dog 0.88, cat 0.62
tflite_cpu: dog 0.88, cat 0.62
"""

from __future__ import annotations

import argparse
import logging
import sys

import cv2

import accelerate
from accelerate.vision import Detector


def main() -> None:
    """Print for each frame who has found what."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("compiled", help="the detector as edgetpu_compiler has written it")
    parser.add_argument("plain", help="the same detector, not compiled")
    parser.add_argument("camera", nargs="?", default="0", help="a number, a video file or a stream's URL")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")  # shows each switch, and why

    camera = cv2.VideoCapture(int(arguments.camera) if arguments.camera.isdecimal() else arguments.camera)
    if not camera.isOpened():
        sys.exit(f"the camera {arguments.camera} cannot be opened")
    on_the_cpu = {"source": arguments.plain, "backend": "tflite_cpu"}
    try:
        with accelerate.load(arguments.compiled, backend="edgetpu", failover=[on_the_cpu]) as model:
            detect = Detector(model)
            ok, frame = camera.read()
            while ok:
                # the lost device and the CPU's answer in its place: both within this timeout
                objects = detect(frame, color="BGR", timeout=0.5)
                print(f"{model.backend}: {', '.join(f'{found.label} {found.score:.2f}' for found in objects)}")
                ok, frame = camera.read()
    except accelerate.AccelerateError as error:
        sys.exit(str(error))
    finally:
        camera.release()


if __name__ == "__main__":
    main()
